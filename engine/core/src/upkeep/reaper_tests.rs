//! Tombstones go when all nodes have them, and no deleted key comes back; what rots on a disk comes from the others.

use crate::coordinate::bench_tests::{Net, put_op};
use crate::port::{Condition, ContextArg, Expiry, Note, Op, Outcome, Put, Quorum};
use crate::shard::bench_tests::DiskIs;

const KEYS: u32 = 60;

fn filled(shards: &[usize]) -> Net {
    filled_by(shards, 3)
}

/// Of the nodes the first `targets` hold everything.
fn filled_by(shards: &[usize], targets: usize) -> Net {
    let mut net = Net::with_shards(shards, targets);
    for key in 0..KEYS {
        let op = put_op(b"", b"a value that is there");
        net.send(
            (key % 3) as usize,
            &key.to_le_bytes(),
            Quorum::default(),
            op,
        );
    }
    net.run(50);
    net
}

/// Deletes the even keys.
fn delete(net: &mut Net) {
    for key in (0..KEYS).step_by(2) {
        let op = Op::Delete {
            context: ContextArg::Latest,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        let (outcome, _) = net.ask(0, &key.to_le_bytes(), op);
        assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
    }
}

fn check(net: &mut Net, nodes: usize, tombstones: u64) {
    for node in 0..3 {
        let keys = u64::from(KEYS) / 2;
        assert_eq!(net.keys(node), (keys, tombstones), "node {node}");
        assert_eq!(net.root(node), net.root(0));
    }
    for node in 0..nodes {
        assert!(net.get(node, &4u32.to_le_bytes()).1.is_empty());
        assert!(!net.get(node, &5u32.to_le_bytes()).1.is_empty());
    }
}

#[test]
fn tombstones_are_forgotten_by_all_when_no_message_can_need_them() {
    for (shards, lost) in [(&[1, 1, 1][..], 0), (&[1, 2, 3, 1], 30)] {
        let mut net = filled(shards);
        delete(&mut net);
        net.lost_of_1000 = lost;
        net.run_by(30_000, 10);
        assert_eq!(net.keys(0).1, u64::from(KEYS) / 2, "not before their time");
        net.run_by(240_000, 10);
        net.lost_of_1000 = 0;
        for node in 0..3 {
            net.note(node, &Note::CompareAll);
        }
        net.run_by(120_000, 10);
        check(&mut net, shards.len(), 0);
    }
}

#[test]
fn what_expired_is_a_tombstone_from_then_on() {
    let mut net = filled(&[1, 1, 1]);
    for key in (0..KEYS).step_by(2) {
        let op = Op::Put(Put {
            context: ContextArg::Latest,
            value: b"for a while",
            expiry: Expiry::AtMs(net.now.wall_ms + 20_000),
            condition: Condition::Always,
            want_previous: false,
            want_context: false,
            write_id: None,
        });
        net.ask(1, &key.to_le_bytes(), op);
    }
    net.run_by(15_000, 10);
    assert_eq!(net.keys(0).0, u64::from(KEYS));
    net.run_by(150_000, 10);
    check(&mut net, 3, 0);
}

#[test]
fn nothing_is_forgotten_while_a_node_is_away_and_nothing_comes_back_with_it() {
    let mut net = filled(&[1, 1, 1, 1]);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    delete(&mut net);
    net.run_by(200_000, 10);
    assert_eq!(net.keys(0), (30, 30), "kept, however long");
    assert_eq!(net.keys(2), (60, 0));
    net.cut.clear();
    net.dead.clear();
    net.publish();
    net.run_by(150_000, 10);
    check(&mut net, 4, 0);
    assert_eq!(net.root(3), (0, 0));
    for node in 0..4 {
        net.restart(node);
    }
    net.run_by(150_000, 10);
    check(&mut net, 4, 0);
}

#[test]
fn a_node_that_forgot_a_tombstone_in_a_crash_keeps_the_others_from_forgetting_it() {
    let mut net = filled(&[1, 1, 1]);
    delete(&mut net);
    net.run_by(32_000, 10);
    // As if node 1 had lost what it had not committed: it has the values again, and nobody compares for a while.
    let lost = net.lose_keys(1, 1);
    assert_eq!(lost, KEYS as usize);
    for key in 0..KEYS {
        let op = put_op(b"", b"older");
        net.cut.extend([0, 2]);
        net.send(1, &key.to_le_bytes(), Quorum::default(), op);
    }
    net.run(20);
    assert_eq!(net.keys(1).0, u64::from(KEYS));
    net.run_by(60_000, 10);
    assert_eq!(net.keys(0).1, 30, "one did not agree");
}

#[test]
fn a_rotten_record_is_unknown_until_the_others_have_brought_it_back() {
    let mut net = filled(&[1, 1, 1]);
    net.put(0, b"rots", b"", b"this very value rots");
    net.run(50);
    // What comes later says that the batch was on stable media: it is no torn tail.
    for later in 0..5u8 {
        net.put(0, &[b'l', later], b"", b"later");
        net.run(50);
    }
    let before = net.root(1);
    net.rot(1, b"this very value rots");
    net.run(200);
    // A reader is answered by the others, and this read may be what finds it.
    assert_eq!(net.get(1, b"rots").1, [b"this very value rots".to_vec()]);
    net.run(200);
    let lost = |note: &Note| matches!(note, Note::Lost(partitions) if partitions.len() == 1);
    assert!(net.take_notes(1).iter().any(lost));
    net.row.read = [0, 2].into();
    net.row.write = [0, 2, 1].into();
    net.pending.insert(1);
    net.publish();
    net.run(5_000);
    let gained = |note: &&Note| matches!(note, Note::Gained { .. });
    assert_eq!(net.take_notes(1).iter().filter(gained).count(), 16);
    assert_eq!(net.root(1), before);
    net.row.read = [0, 1, 2].into();
    net.row.write = [0, 1, 2].into();
    net.pending.clear();
    net.publish();
    net.cut.extend([0, 2]);
    let held = net.held(1, b"rots");
    assert!(held != 0);
    net.run(100);
    assert_eq!(net.root(1), before);
}

/// Nodes 0 to 2 go on without node 3, whose copy grows old, delete the even keys, and forget the tombstones.
fn with_an_old_copy(shards: &[usize]) -> Net {
    let mut net = filled_by(shards, 4);
    for node in 0..4 {
        net.note(node, &Note::CompareAll);
        net.run(1_000);
    }
    assert_eq!(net.keys(3), (60, 0));
    net.removed.insert(3);
    net.cut.insert(3);
    net.row.read = [0, 1, 2].into();
    net.row.write = [0, 1, 2].into();
    net.publish();
    delete(&mut net);
    net.run_by(240_000, 10);
    assert_eq!((net.keys(0), net.keys(3)), ((30, 0), (60, 0)));
    net
}

#[test]
fn keys_that_were_forgotten_meanwhile_do_not_come_back_with_a_node_whose_copy_is_old() {
    for shards in [&[1, 1, 1, 1][..], &[1, 2, 1, 3]] {
        let mut net = with_an_old_copy(shards);
        net.cut.clear();
        net.removed.clear();
        net.row.write = [0, 1, 2, 3].into();
        net.pending.insert(3);
        net.publish();
        net.run(2_500);
        // It may be killed in the middle of it.
        net.restart(3);
        net.run(10_000);
        assert_eq!(net.keys(3), (30, 0), "{shards:?}");
        net.row.read = [0, 1, 2, 3].into();
        net.pending.clear();
        net.publish();
        for node in 0..4 {
            net.note(node, &Note::CompareAll);
        }
        net.run(10_000);
        net.restart(3);
        for node in 0..4 {
            assert_eq!(net.keys(node), (30, 0), "{shards:?} node {node}");
            assert!(net.get(node, &4u32.to_le_bytes()).1.is_empty());
            assert!(!net.get(node, &5u32.to_le_bytes()).1.is_empty());
        }
    }
}

#[test]
fn what_is_kept_for_others_stays_where_a_partition_is_to_be_gained() {
    let mut net = Net::with_shards(&[1, 1, 1, 1], 3);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    for key in 0..KEYS {
        net.put(0, &key.to_le_bytes(), b"", b"while away");
    }
    net.run(3_000);
    let hints = |net: &Net| net.upkeep(3).iter().map(|s| s.hints_pending).sum::<u64>();
    let kept = hints(&net);
    assert!(kept > 0, "it stands in");
    net.row.write = [0, 1, 2, 3].into();
    net.row.stand_ins = [].into();
    net.pending.insert(3);
    net.publish();
    net.run(5_000);
    assert_eq!(hints(&net), kept);
    net.cut.clear();
    net.dead.clear();
    net.publish();
    net.run(10_000);
    assert_eq!(hints(&net), 0);
    let delivered: u64 = net.upkeep(3).iter().map(|s| s.hints_delivered).sum();
    assert!(delivered >= kept, "{delivered} of {kept}");
}

#[test]
fn questions_that_a_disk_cannot_answer_are_forgotten() {
    let mut net = filled(&[1, 1, 1]);
    delete(&mut net);
    net.run(1_000);
    net.set_disk(1, DiskIs::Stuck);
    net.put(0, b"a key", b"", b"a value that does not come to lie there");
    net.run_by(120_000, 10);
    assert!(net.sent["reap"] > 50, "{:?}", net.sent);
    assert!(net.keys(0).1 > 0, "it does not agree");
    net.cut.insert(1);
    net.run_by(10_000, 10);
    assert!(net.upkeep_jobs(1) < 5, "{}", net.upkeep_jobs(1));
}

/// The tombstones lie in the memory of a shard whose writes failed, and their keys' values on its disk.
#[test]
fn what_a_disk_refused_to_keep_is_not_forgotten_by_others() {
    for node in [0, 1] {
        let mut net = filled(&[1, 1, 1]);
        net.run(1_000);
        // What is written within the next moment waits for no disk.
        net.put(2, b"a key", b"", b"a value");
        net.run(5);
        net.set_disk(node, DiskIs::Broken);
        for key in 0..4u32 {
            let op = Op::Delete {
                context: ContextArg::Latest,
                want_previous: false,
                want_context: false,
                write_id: None,
            };
            net.send(2, &key.to_le_bytes(), Quorum::default(), op);
        }
        net.run_by(240_000, 10);
        net.set_disk(node, DiskIs::Well);
        net.restart(node);
        for other in 0..3 {
            net.note(other, &Note::CompareAll);
        }
        net.run_by(20_000, 10);
        for key in 0..4u32 {
            let (_, values) = net.get(2, &key.to_le_bytes());
            assert!(values.is_empty(), "node {node}: key {key} is back");
        }
    }
}
