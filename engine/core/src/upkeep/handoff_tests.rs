//! Hints: kept while a node is away, delivered when it is back, never forgotten before.

use crate::coordinate::bench_tests::{Net, put_op};
use crate::port::{ContextArg, Op, Quorum};
use crate::ring::PartitionView;

fn pending(net: &Net, nodes: usize) -> u64 {
    (0..nodes)
        .flat_map(|node| net.upkeep(node))
        .map(|stats| stats.hints_pending)
        .sum()
}

/// Writes while node 2 is away; what it missed is kept for it.
fn away(shards: &[usize]) -> Net {
    let mut net = Net::with_shards(shards, 3);
    for key in 0..40u32 {
        net.put(0, &key.to_le_bytes(), b"", b"before");
    }
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    for key in 20..60u32 {
        net.put(1, &key.to_le_bytes(), b"", b"while away");
    }
    let delete = Op::Delete {
        context: ContextArg::Latest,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    net.ask(0, &3u32.to_le_bytes(), delete);
    net.run(2_000);
    net
}

fn comes_back(net: &mut Net) {
    net.cut.clear();
    net.dead.clear();
    net.publish();
}

#[test]
fn a_node_that_was_away_gets_what_it_missed() {
    for shards in [&[1, 1, 1][..], &[1, 1, 1, 1], &[1, 3, 2], &[2, 1, 3, 2]] {
        let mut net = away(shards);
        assert_eq!(pending(&net, shards.len()), 41, "{shards:?}");
        assert!(net.root(0) != net.root(2));
        comes_back(&mut net);
        net.run(3_000);
        assert_eq!(pending(&net, shards.len()), 0, "{shards:?}");
        assert_eq!(net.root(0), net.root(2), "{shards:?}");
        assert_eq!(net.root(1), net.root(2));
    }
}

#[test]
fn hints_survive_a_restart_of_who_keeps_them_and_lost_messages() {
    let mut net = away(&[1, 1, 1, 1]);
    net.restart(1);
    net.restart(3);
    assert_eq!(pending(&net, 4), 41, "found again");
    net.lost_of_1000 = 200;
    comes_back(&mut net);
    net.run(30_000);
    assert_eq!(pending(&net, 4), 0);
    assert_eq!(net.root(0), net.root(2));
}

#[test]
fn a_hint_stays_while_its_node_does_not_answer() {
    let mut net = away(&[1, 1, 1]);
    net.dead.clear();
    net.publish();
    net.run(10_000);
    assert_eq!(pending(&net, 3), 41, "it seems alive, and is silent");
    let sent = net.sent["apply"];
    net.run(20_000);
    assert!(
        net.sent["apply"] - sent < 41 * 8,
        "it is not asked all the time"
    );
    net.cut.clear();
    net.run(10_000);
    assert_eq!((pending(&net, 3), net.root(2)), (0, net.root(0)));
}

#[test]
fn a_hint_that_comes_while_the_last_one_is_delivered_is_delivered_too() {
    let mut net = Net::new(3, 3);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.put(0, b"one", b"", b"v");
    comes_back(&mut net);
    // It is sent, and passes find nothing else; then another one is kept, and only then the first one arrives.
    net.is_slow = true;
    net.run(50);
    net.dead.insert(2);
    net.publish();
    let put = put_op(b"", b"v");
    net.send(0, b"two", Quorum::default(), put);
    net.dead.clear();
    net.publish();
    assert_eq!(pending(&net, 3), 2);
    net.is_slow = false;
    net.run(10_000);
    assert_eq!((pending(&net, 3), net.root(2)), (0, net.root(0)));
}

#[test]
fn what_was_kept_for_a_removed_node_goes_to_those_who_have_its_place() {
    let mut net = Net::new(5, 3);
    net.cut.insert(2);
    net.lose(2);
    net.row.read = [0, 1, 4].into();
    net.row.write = [0, 1, 4].into();
    net.row.stand_ins = [3].into();
    net.publish();
    // Node 4 is a reader that misses writes; its place is then taken by node 2.
    net.cut.clear();
    net.cut.insert(4);
    net.dead.insert(4);
    net.publish();
    net.lose(4);
    for key in 0..20u32 {
        net.put(0, &key.to_le_bytes(), b"", b"v");
    }
    net.run(2_000);
    assert_eq!(pending(&net, 5), 20);
    net.removed.insert(4);
    net.row.read = [0, 1, 2].into();
    net.row.write = [0, 1, 2].into();
    net.publish();
    net.run(5_000);
    assert_eq!(pending(&net, 5), 0);
    assert_eq!(net.root(2), net.root(0));
}

#[test]
fn counts_and_scans_of_keys_leave_hints_out() {
    let net = away(&[1, 1, 1]);
    assert_eq!(net.keys(0), (59, 1));
    assert_eq!(net.keys(1), (59, 1));
}

/// A delivery to several nodes, of which one refused long before the last one answered: passes went by meanwhile, and each
/// left it to this delivery.
#[test]
fn a_hint_that_one_refused_before_another_answered_is_delivered_all_the_same() {
    let mut net = Net::new(4, 3);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.put(0, b"k", b"", b"v");
    net.run(100);
    assert_eq!(pending(&net, 4), 1, "the stand-in's");
    // Its target lets the partition go: those who keep it get the hint, of whom one does not know yet that it does.
    net.row.read = [0, 1].into();
    net.row.write = [0, 1].into();
    let kept = net.row.clone();
    net.publish();
    net.tell(
        0,
        PartitionView {
            read: [1].into(),
            write: [1].into(),
            ..kept.clone()
        },
    );
    net.late.insert(1);
    net.cut.clear();
    net.dead.clear();
    for node in 1..4 {
        net.tell(node, kept.clone());
    }
    net.run(1_500);
    assert_eq!(pending(&net, 4), 1);
    net.late.clear();
    net.run(10);
    assert_eq!(pending(&net, 4), 1, "refused");
    net.tell(0, kept);
    net.run(20_000);
    assert_eq!(pending(&net, 4), 0);
}

fn lost(net: &Net, nodes: usize) -> u64 {
    let stats = (0..nodes).flat_map(|node| net.upkeep(node));
    stats.map(|stats| stats.hints_lost).sum()
}

fn unrepaired(net: &Net, node: usize) -> u64 {
    net.status(node).damage_unrepaired
}

/// A fourth node stands in for one that is away; then what it keeps rots.
fn rotten_stand_in() -> Net {
    let mut net = Net::new(4, 3);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    for key in 0..20u32 {
        net.put(0, &key.to_le_bytes(), b"", b"kept for another");
    }
    net.run(2_000);
    // Behind it the log goes on, so that it is no torn end.
    for _ in 0..3 {
        net.put(0, b"later", b"", b"");
        net.run(100);
    }
    assert_eq!(pending(&net, 4), 21);
    net.rot(3, b"kept for another");
    net.run(2_000);
    assert_eq!((net.root(3).1, pending(&net, 4)), (1, 21));
    assert!(unrepaired(&net, 3) > 0);
    net
}

#[test]
fn what_a_stand_in_lost_is_brought_from_those_who_have_it() {
    let mut net = rotten_stand_in();
    net.run_by(60_000, 5);
    assert_eq!((pending(&net, 4), lost(&net, 4)), (21, 0), "it waits");
    comes_back(&mut net);
    net.run(10_000);
    assert_eq!((pending(&net, 4), lost(&net, 4)), (0, 0));
    assert_eq!((unrepaired(&net, 3), net.root(2)), (0, net.root(0)));
    assert!(net.reports.is_empty(), "{:?}", net.reports);
    // It stays mended.
    net.restart(3);
    net.run(10_000);
    assert_eq!((pending(&net, 4), unrepaired(&net, 3)), (0, 0));
}

#[test]
fn what_a_stand_in_lost_and_nobody_has_is_given_up_and_said() {
    let mut net = rotten_stand_in();
    // The stand-in's was the only copy of these; of others there are newer ones.
    assert_eq!(net.lose_keys(0, 2), 11);
    assert_eq!(net.lose_keys(1, 1), 21);
    for key in 0..5u32 {
        net.put(0, &key.to_le_bytes(), b"", b"newer");
    }
    // One that might have it is away: nothing is given up.
    net.cut.insert(1);
    net.dead.insert(1);
    net.cut.remove(&2);
    net.dead.remove(&2);
    net.publish();
    net.lose(1);
    net.run_by(60_000, 5);
    let standing = net.upkeep(3)[0].hints_pending;
    assert!(standing >= 20 && lost(&net, 4) == 0, "{standing}");
    comes_back(&mut net);
    net.run(20_000);
    assert!(lost(&net, 4) == 0, "others may bring it yet");
    net.run_by(40_000, 5);
    let lost_here = net.upkeep(3)[0].hints_lost;
    assert!((10..20).contains(&lost_here), "{lost_here}");
    assert_eq!(net.status(3).hints_lost, lost_here);
    assert_eq!((pending(&net, 4), unrepaired(&net, 3)), (0, 0));
    let said: Vec<&String> = net.reports.iter().map(|(_, report)| report).collect();
    assert!(
        said.iter().any(|report| report.contains("given up")),
        "{said:?}"
    );
    assert!(net.reports.iter().all(|(node, _)| *node == 3));
    assert_eq!(net.root(2), net.root(0));
}

/// A replica keeps hints as well as a stand-in does, and no transfer ends its damage while nobody changes the view.
#[test]
fn what_a_replica_lost_and_has_again_holds_no_hint_back() {
    let mut net = Net::new(3, 3);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    for key in 0..5u32 {
        net.put(0, &key.to_le_bytes(), b"", b"kept for another");
    }
    net.run(2_000);
    for _ in 0..3 {
        net.put(0, b"later", b"", b"");
        net.run(100);
    }
    assert!(pending(&net, 3) > 0);
    net.rot(0, b"kept for another");
    net.run(2_000);
    for key in 0..5u32 {
        net.put(1, &key.to_le_bytes(), b"", b"newer");
    }
    net.run(2_000);
    comes_back(&mut net);
    net.run_by(60_000, 5);
    assert_eq!(pending(&net, 3), 0);
    assert_eq!(net.root(2), net.root(1));
}

/// The hint's own record rots, and nobody can say for whom it was.
#[test]
fn what_lies_beside_a_rotten_hint_goes_to_all_who_have_its_place() {
    let mut net = Net::new(4, 3);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    net.put(0, b"a key of some length", b"", b"kept for another");
    net.run(2_000);
    for _ in 0..3 {
        net.put(0, b"later", b"", b"");
        net.run(100);
    }
    // The hint names its node before the bucket and the key.
    let mut name = 3u64.to_le_bytes().to_vec();
    name.extend_from_slice(&7u16.to_le_bytes());
    name.extend_from_slice(b"defaulta");
    net.rot(3, &name);
    net.run(2_000);
    assert_eq!(pending(&net, 4), 2);
    comes_back(&mut net);
    net.run(15_000);
    assert_eq!((pending(&net, 4), lost(&net, 4)), (0, 0));
    assert_eq!((unrepaired(&net, 3), net.root(2)), (0, net.root(0)));
}
