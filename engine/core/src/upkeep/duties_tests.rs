//! Copies that differ become equal, are gained, handed over and dropped; each test says what may be lost on the way.

use std::collections::BTreeSet;

use crate::base::ids::{PartitionId, ShardIndex};
use crate::coordinate::bench_tests::{Net, put_op};
use crate::port::{ContextArg, Note, Op, Quorum};
use crate::ring::PartitionView;
use crate::shard::PaceConfig;
use crate::shard::bench_tests::DiskIs;
use crate::upkeep::UpkeepStats;

fn total(net: &Net, node: usize, of: impl Fn(&UpkeepStats) -> u64) -> u64 {
    net.upkeep(node).iter().map(of).sum()
}

fn filled(shards: &[usize], targets: usize, keys: u32) -> Net {
    let mut net = Net::with_shards(shards, targets);
    for key in 0..keys {
        let value = [b'v'; 40];
        net.send(
            (key % targets as u32) as usize,
            &key.to_le_bytes(),
            Quorum::default(),
            put_op(b"", &value),
        );
        if key % 64 == 0 {
            net.run(3);
        }
    }
    net.run(200);
    net
}

/// Which partitions a node's shards say that they have gained.
fn gained(net: &mut Net, node: usize) -> BTreeSet<(ShardIndex, PartitionId)> {
    let notes = net.take_notes(node);
    notes
        .into_iter()
        .filter_map(|note| match note {
            Note::Gained {
                shard, partition, ..
            } => Some((shard, partition)),
            Note::View(_)
            | Note::Drained { .. }
            | Note::CompareAll
            | Note::ClockWrong { .. }
            | Note::Lost(_)
            | Note::Progress { .. }
            | Note::Disk { .. } => None,
        })
        .collect()
}

#[test]
fn with_nothing_to_repair_a_pair_costs_two_messages() {
    for shards in [&[1, 1, 1][..], &[2, 2, 2]] {
        let mut net = filled(shards, 3, 500);
        net.run(5_000);
        let (compares, pulls) = (net.sent["compare"], net.sent.get("pull").copied());
        assert_eq!(pulls, None);
        net.note(0, &Note::CompareAll);
        net.run(2_000);
        let pairs = 16 * 2 * shards[0] as u64;
        assert_eq!(net.sent["compare"] - compares, pairs);
        assert_eq!(net.sent["compared"], net.sent["compare"]);
        assert_eq!(net.sent.get("pull").copied(), pulls);
        assert_eq!(total(&net, 0, |stats| stats.repairs), 0);
        assert!(total(&net, 0, |stats| stats.rounds) > 0);
        assert_eq!(total(&net, 0, |stats| stats.rounds_with_repairs), 0);
    }
}

#[test]
fn lost_keys_are_found_by_comparing_whatever_the_number_of_shards() {
    for shards in [&[1, 1, 1][..], &[1, 3, 2]] {
        let mut net = filled(shards, 3, 4_000);
        assert_eq!(net.root(0), net.root(1), "{shards:?}");
        let lost = net.lose_keys(1, 100) + net.lose_keys(2, 70);
        assert!(lost >= 90);
        assert!(net.root(0) != net.root(1));
        net.lost_of_1000 = 20;
        net.note(1, &Note::CompareAll);
        net.run(10_000);
        net.lost_of_1000 = 0;
        for node in [0, 2] {
            net.note(node, &Note::CompareAll);
        }
        net.run(5_000);
        assert_eq!(net.root(0), net.root(1), "{shards:?}");
        assert_eq!(net.root(0), net.root(2), "{shards:?}");
        let repairs: u64 = (0..3)
            .map(|node| total(&net, node, |stats| stats.repairs))
            .sum();
        assert!(
            (lost as u64..2 * lost as u64 + 50).contains(&repairs),
            "{repairs} for {lost}"
        );
        // What was found counts for its round, and once: another round finds nothing.
        let with_repairs = |net: &Net| -> u64 {
            let of = |node| total(net, node, |stats| stats.rounds_with_repairs);
            (0..3).map(of).sum()
        };
        (0..3).for_each(|node| net.note(node, &Note::CompareAll));
        net.run(5_000);
        let found = with_repairs(&net);
        let rounds = total(&net, 0, |stats| stats.rounds);
        assert!(found > 0, "{shards:?}");
        (0..3).for_each(|node| net.note(node, &Note::CompareAll));
        net.run(5_000);
        assert!(total(&net, 0, |stats| stats.rounds) > rounds, "{shards:?}");
        assert_eq!(with_repairs(&net), found, "{shards:?}");
    }
}

#[test]
fn replicas_that_each_missed_something_become_equal() {
    let mut net = filled(&[1, 1, 1], 3, 300);
    // Each of two nodes takes writes that the others never hear of, hints neither.
    for node in [0, 1] {
        net.cut.extend([0, 1, 2]);
        for key in 0..20u32 {
            net.send(
                node,
                &key.to_le_bytes(),
                Quorum::default(),
                put_op(b"", b"x"),
            );
        }
        net.run(4_000);
        net.cut.clear();
    }
    net.run(10_000);
    assert_eq!(net.root(0), net.root(1));
    assert_eq!(net.root(0), net.root(2));
}

#[test]
fn a_new_node_gains_every_partition_under_writes_and_lost_messages() {
    for (shards, lost) in [(&[1, 1, 1, 1][..], 0), (&[1, 2, 1, 3], 30)] {
        let mut net = filled(shards, 3, 3_000);
        net.row.write = [0, 1, 2, 3].into();
        net.row.stand_ins = [].into();
        net.pending.insert(3);
        net.lost_of_1000 = lost;
        net.publish();
        let mut found = BTreeSet::new();
        for round in 0..100u32 {
            for key in 0..20u32 {
                let key = (round * 20 + key) * 7 % 5_000;
                let op = put_op(b"", b"newer");
                net.send(
                    (key % 3) as usize,
                    &key.to_le_bytes(),
                    Quorum::default(),
                    op,
                );
            }
            net.run(100);
            found.extend(gained(&mut net, 3));
        }
        net.lost_of_1000 = 0;
        net.run(10_000);
        found.extend(gained(&mut net, 3));
        assert_eq!(found.len(), 16 * shards[3], "{shards:?}");
        assert_eq!(net.root(3).1, net.root(0).1, "{shards:?}");
        net.row.read = [0, 1, 2, 3].into();
        net.pending.clear();
        net.publish();
        net.run(2_000);
        net.note(3, &Note::CompareAll);
        net.run(5_000);
        assert_eq!(net.root(3), net.root(0), "{shards:?}");
        let done = total(&net, 3, |stats| stats.partitions_gained);
        assert_eq!(done, 16 * shards[3] as u64);
    }
}

/// Goal: however late clients are, a transfer ends; and while they are late, it goes at the floor's rate and no faster.
#[test]
fn a_transfer_makes_room_for_clients_and_ends_all_the_same() {
    let mut net = filled(&[1, 1, 1, 1], 3, 8_000);
    let whole = 4 << 20;
    net.set_pace(PaceConfig {
        sla_p999_ns: 10_000_000,
        bytes_per_s: whole,
    });
    net.turn_ns = 30_000_000;
    net.row.write = [0, 1, 2, 3].into();
    net.row.stand_ins = [].into();
    net.pending.insert(3);
    net.publish();
    let mut moved = Vec::new();
    let mut found = BTreeSet::new();
    for second in 0..40u32 {
        for key in 0..100u32 {
            let key = second * 100 + key;
            net.send(
                (key % 3) as usize,
                &key.to_le_bytes(),
                Quorum::default(),
                put_op(b"", b"newer"),
            );
            net.run(10);
        }
        found.extend(gained(&mut net, 3));
        moved.push(net.status(3).upkeep_pulled_bytes);
    }
    assert_eq!(found.len(), 16, "all gained: {moved:?}");
    let status = net.status(3);
    assert!(status.background_cuts >= 3, "{status:?}");
    assert!(status.foreground_p999_us >= 30_000, "{status:?}");
    // The third second is behind the cuts and before the clients are held to be late for another reason.
    let in_one_second = moved[2] - moved[1];
    assert!(
        (1..=2 * whole / 64).contains(&in_one_second),
        "{in_one_second}: {moved:?}"
    );
}

#[test]
fn a_transfer_goes_on_after_a_restart_and_when_its_holder_is_away() {
    let mut net = filled(&[1, 1, 1, 1], 3, 3_000);
    net.row.write = [0, 1, 2, 3].into();
    net.pending.insert(3);
    net.publish();
    net.run(20);
    net.restart(3);
    net.cut.insert(0);
    net.dead.insert(0);
    net.publish();
    net.run(15_000);
    assert_eq!(gained(&mut net, 3).len(), 16);
    assert_eq!(net.root(3), net.root(1));
    // What was said to be gained is on stable media.
    net.restart(3);
    assert_eq!(net.root(3), net.root(1));
}

#[test]
fn a_node_that_lets_go_hands_over_tells_and_drops_for_good() {
    for shards in [&[1, 1, 1, 1][..], &[2, 1, 1, 3]] {
        let mut net = filled(shards, 4, 2_000);
        // A write goes to three of the four; comparing brings it to all.
        for node in 0..4 {
            net.note(node, &Note::CompareAll);
            net.run(3_000);
        }
        let all = net.root(0);
        assert_eq!(net.root(3), all);
        // Only the node that lets go has these.
        let lost = net.lose_keys(0, 50) + net.lose_keys(1, 40) + net.lose_keys(2, 30);
        assert!(lost > 100);
        net.row.read = [0, 1, 2].into();
        net.row.write = [0, 1, 2].into();
        net.draining.insert(3);
        net.lost_of_1000 = 20;
        net.publish();
        net.run(20_000);
        let drained = net
            .take_notes(3)
            .into_iter()
            .filter(|note| matches!(note, Note::Drained { .. }))
            .count();
        assert_eq!(drained, 16 * shards[3], "{shards:?}");
        assert_eq!(net.root(3), all, "not dropped yet");
        for node in 0..3 {
            assert_eq!(net.root(node), all, "{shards:?} node {node}");
        }
        net.draining.clear();
        net.publish();
        net.run(20_000);
        assert_eq!(net.root(3), (0, 0));
        net.restart(3);
        assert_eq!(net.root(3), (0, 0), "after a restart too");
        assert_eq!(net.root(1), all);
    }
}

#[test]
fn a_node_that_is_to_let_go_takes_what_is_written_until_it_has_let_go() {
    let mut net = filled(&[1, 1, 1, 1], 3, 200);
    // All four hold it, the last one is to let go.
    net.row.others = [3].into();
    net.draining.insert(3);
    net.publish();
    net.run(5_000);
    for key in 0..100u32 {
        net.put(0, &key.to_le_bytes(), b"", b"while it lets go");
    }
    net.run(5_000);
    assert_eq!(
        net.root(3).1,
        100,
        "what clients wrote, and not what comparing finds"
    );
    for key in 0..100u32 {
        let key = key.to_le_bytes();
        assert_eq!(net.held(3, &key), net.held(0, &key), "key {key:?}");
    }
}

/// Of a node that is to let go of partitions and keeps hints for one that is away, how many shards say that they handed a
/// partition over; before that one is back and after it. Of the first partitions it says what `rows` do.
fn drained_with_hints(rows: &[[u16; 3]]) -> (usize, usize) {
    let mut net = Net::with_shards(&[1, 1, 1, 1, 1], 3);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    for key in 0..100u32 {
        net.put(0, &key.to_le_bytes(), b"", b"while away");
    }
    net.run(1_000);
    let hints = |net: &Net| total(net, 3, |stats| stats.hints_pending);
    assert!(hints(&net) > 0, "it stands in");
    // Another one takes the place of the one that is away; what is kept for that is kept still.
    net.row.read = [0, 1, 4].into();
    net.row.write = [0, 1, 4].into();
    net.draining.insert(3);
    for (partition, nodes) in rows.iter().enumerate() {
        let row = PartitionView {
            read: (*nodes).into(),
            write: (*nodes).into(),
            ..PartitionView::default()
        };
        net.rows.insert(partition, row);
    }
    net.publish();
    net.run(20_000);
    let drained = |net: &mut Net| {
        let notes = net.take_notes(3).into_iter();
        let drained = notes.filter(|note| matches!(note, Note::Drained { .. }));
        drained.count()
    };
    let before = drained(&mut net);
    assert!(hints(&net) > 0);
    net.cut.clear();
    net.dead.clear();
    net.publish();
    net.run(20_000);
    assert_eq!(hints(&net), 0);
    (before, drained(&mut net))
}

#[test]
fn a_node_without_places_lets_go_when_what_it_keeps_for_others_is_delivered() {
    let strange = [0, 1, 4];
    assert_eq!(drained_with_hints(&[strange; 8]), (0, 8));
    // One that stays delivers it later; what lies in what is handed over is handed over.
    assert_eq!(drained_with_hints(&[[0, 1, 3], strange]), (14, 0));
    assert_eq!(drained_with_hints(&[]), (16, 0));
}

#[test]
fn a_stand_in_drops_its_leftovers_only_when_every_hint_is_delivered() {
    let mut net = filled(&[1, 1, 1, 1], 3, 50);
    net.cut.insert(2);
    net.dead.insert(2);
    net.publish();
    net.lose(2);
    for key in 0..100u32 {
        net.put(0, &key.to_le_bytes(), b"", b"while away");
    }
    net.run(8_000);
    assert!(net.root(3).1 >= 90, "{:?}", net.root(3));
    net.cut.clear();
    net.dead.clear();
    net.publish();
    net.run(15_000);
    assert_eq!(net.root(3), (0, 0));
    assert_eq!(net.root(2), net.root(0));
    // It stands in again: what it learns anew is not what it knew.
    net.restart(3);
    assert_eq!(net.root(3), (0, 0));
}

#[test]
fn a_deleted_key_stays_deleted_on_a_node_that_was_away_without_hints() {
    let mut net = filled(&[1, 1, 1], 3, 100);
    net.cut.insert(2);
    for key in 0..50u32 {
        let delete = Op::Delete {
            context: ContextArg::Latest,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        net.ask(0, &key.to_le_bytes(), delete);
    }
    net.run(3_000);
    net.cut.clear();
    net.run(20_000);
    net.note(2, &Note::CompareAll);
    net.run(5_000);
    for node in 0..3 {
        assert_eq!(net.keys(node), (50, 50), "node {node}");
    }
}

#[test]
fn a_partition_is_not_said_to_be_gained_when_the_layout_changed_while_its_mark_was_on_its_way() {
    let mut net = filled(&[1, 1, 1, 1], 3, 200);
    net.row.write = [0, 1, 2, 3].into();
    net.row.stand_ins = [].into();
    net.pending.insert(3);
    net.publish();
    net.run(500);
    net.set_disk(3, DiskIs::Stuck);
    net.run(3_000);
    assert_eq!(gained(&mut net, 3).len(), 0, "no mark is on stable media");
    // Those who write by this one have not shown that they know of the node that gains.
    net.is_move_known = false;
    net.publish();
    net.set_disk(3, DiskIs::Well);
    net.run(3_000);
    assert_eq!(
        gained(&mut net, 3).len(),
        0,
        "what was compared says nothing"
    );
    net.is_move_known = true;
    net.publish();
    net.run(500);
    assert_eq!(gained(&mut net, 3).len(), 0);
    net.run(3_000);
    assert_eq!(gained(&mut net, 3).len(), 16);
}

#[test]
fn a_round_comes_to_its_end_though_a_node_comes_and_goes() {
    let mut net = filled(&[1, 1, 1], 3, 500);
    net.run(2_000);
    let rounds = |net: &Net| total(net, 0, |stats| stats.rounds);
    let before = rounds(&net);
    for time in 0..200 {
        if time % 2 == 0 {
            net.dead.insert(2);
        } else {
            net.dead.clear();
        }
        net.publish();
        net.run(1);
    }
    assert!(rounds(&net) > before + 2, "{}", rounds(&net) - before);
    // And one follows in which the node that came back last was there throughout.
    net.lose_keys(2, 10);
    net.dead.insert(2);
    net.publish();
    net.dead.clear();
    net.publish();
    net.run(2_000);
    assert_eq!(net.root(0), net.root(2));
}
