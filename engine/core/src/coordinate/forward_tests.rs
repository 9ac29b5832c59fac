//! A write that nobody can take for now: it goes round among the nodes that hold its key, with pauses.

use crate::port::{ContextArg, Failure, Op, Outcome, Quorum};
use crate::ring::PartitionView;
use crate::shard::bench_tests::DiskIs;

use super::bench_tests::{Net, put_op};

const ONE: Quorum = Quorum {
    n: 0,
    r: 0,
    w: 1,
    zones: 0,
    is_strict: false,
};

/// Four nodes, of which three hold everything, and the disk of this one is full.
fn net_with_full(full: usize) -> Net {
    let mut net = Net::new(4, 3);
    net.set_disk(full, DiskIs::Full);
    let others: Vec<usize> = (0..4).filter(|node| *node != full).collect();
    net.dead.extend(others);
    net.publish();
    let value = vec![7; 60_000];
    for k in 0..1_000_u32 {
        let id = net.send(full, &k.to_le_bytes(), ONE, put_op(b"", &value));
        net.run(20);
        match net.answer(id).expect("an answer").0 {
            Outcome::Written { .. } => {}
            Outcome::Failed(Failure::DiskFull) => {
                net.dead.clear();
                net.publish();
                net.run(1_000);
                return net;
            }
            outcome => panic!("put {k}: {outcome:?}"),
        }
    }
    panic!("its disk fills up");
}

fn handed_on(net: &Net) -> u64 {
    net.sent.get("request").copied().unwrap_or(0)
}

/// Without pauses these rounds follow each other as fast as refusals come: here, 2,000 of them in two seconds.
#[test]
fn a_full_node_asks_holders_that_are_down_again_with_longer_and_longer_pauses() {
    // At a node that holds nothing of the key, and at one of those that do.
    for (full, down) in [(3, vec![0, 1, 2]), (0, vec![1, 2])] {
        let holders = down.len() as u64;
        let mut net = net_with_full(full);
        net.down.extend(down);
        let before = handed_on(&net);
        let id = net.send(full, b"k", ONE, put_op(b"", b"v"));
        net.run(5);
        assert_eq!(handed_on(&net) - before, holders, "all of them at once");
        net.run(95);
        let rounds = (handed_on(&net) - before) / holders;
        assert!((3..=5).contains(&rounds), "{rounds} rounds in 100 ms");
        net.run(1_900);
        let sent = handed_on(&net) - before;
        assert!(sent <= 12 * holders, "{sent} messages in two seconds");
        assert!(net.answer(id).is_none(), "one may be back in a moment");
        // The deadline is after three seconds; a node that was asked may have begun it.
        net.run(1_010);
        let (outcome, _) = net.answer(id).expect("answered by its deadline");
        assert!(
            matches!(outcome, Outcome::Failed(Failure::InDoubt)),
            "{outcome:?}"
        );
        let sent = handed_on(&net);
        net.run(1_000);
        assert_eq!(handed_on(&net), sent, "that was the end of it");
    }
}

#[test]
fn a_holder_whose_disk_has_room_again_needs_as_many_answers_as_any() {
    let mut net = net_with_full(0);
    net.dead.insert(3);
    net.publish();
    net.down.extend([1, 2]);
    let all = Quorum { w: 3, ..ONE };
    let id = net.send(0, b"k", all, put_op(b"", b"v"));
    net.run(20);
    net.set_disk(0, DiskIs::Well);
    for _ in 0..200 {
        net.run(5);
        if net.held(0, b"k") != 0 {
            break;
        }
    }
    assert!(net.held(0, b"k") != 0, "it took the write itself");
    net.down.remove(&1);
    net.run(2_000);
    assert!(net.held(1, b"k") != 0, "and so did the one that came back");
    let (outcome, _) = net.answer(id).expect("an answer");
    assert!(
        matches!(
            outcome,
            Outcome::Failed(Failure::Quorum {
                got: 2,
                needed: 3,
                is_in_doubt: true
            })
        ),
        "two copies are not three: {outcome:?}"
    );
}

#[test]
fn a_holder_that_is_back_takes_the_write_that_went_round() {
    let mut net = net_with_full(3);
    net.down.extend([0, 1, 2]);
    let id = net.send(3, b"k", ONE, put_op(b"", b"v"));
    net.run(1_000);
    assert!(net.answer(id).is_none());
    net.down.clear();
    net.run(330);
    let (outcome, _) = net.answer(id).expect("after the longest pause");
    assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
    assert_eq!(net.get(0, b"k").1, [b"v".to_vec()]);
}

#[test]
fn a_write_that_went_round_ends_when_its_holders_are_known_to_be_away() {
    let mut net = net_with_full(3);
    net.down.extend([0, 1, 2]);
    let id = net.send(3, b"k", ONE, put_op(b"", b"v"));
    net.run(50);
    net.dead.extend([0, 1, 2]);
    net.publish();
    net.run(50);
    let (outcome, _) = net.answer(id).expect("nobody is left to ask");
    assert!(
        matches!(outcome, Outcome::Failed(Failure::InDoubt)),
        "{outcome:?}"
    );
}

#[test]
fn what_all_refused_was_not_applied_and_says_why() {
    let mut net = net_with_full(3);
    // Those that are asked know of nobody who holds the key.
    let nobody = PartitionView {
        read: [].into(),
        write: [].into(),
        ..net.row.clone()
    };
    for node in 0..3 {
        net.tell(node, nobody.clone());
    }
    let before = handed_on(&net);
    let id = net.send(3, b"k", ONE, put_op(b"", b"v"));
    net.run(3_010);
    let (outcome, _) = net.answer(id).expect("answered by its deadline");
    assert!(
        matches!(outcome, Outcome::Failed(Failure::DiskFull)),
        "{outcome:?}"
    );
    let sent = handed_on(&net) - before;
    assert!(
        (10..=45).contains(&sent),
        "{sent} messages in three seconds"
    );
}

#[test]
fn what_answers_with_a_former_value_is_not_asked_for_twice() {
    let mut net = Net::new(4, 3);
    net.put(0, b"k", b"", b"v");
    let take = Op::Delete {
        context: ContextArg::Latest,
        want_previous: true,
        want_context: false,
        write_id: None,
    };
    // Whoever is asked has deleted it, and its answer does not come.
    net.late.extend([0, 1, 2]);
    let id = net.send(3, b"k", Quorum::default(), take);
    net.run(1_500);
    let (outcome, _) = net.answer(id).expect("answered when it counts as silent");
    assert!(
        matches!(outcome, Outcome::Failed(Failure::InDoubt)),
        "the next one might say that nothing was there: {outcome:?}"
    );
    assert_eq!(handed_on(&net), 1);
}

/// Redis clients name no deadline: theirs is five seconds, for the whole of it.
#[test]
fn a_write_without_a_deadline_of_its_own_goes_round_for_the_usual_time() {
    let mut net = net_with_full(3);
    net.down.extend([0, 1, 2]);
    let id = net.send_until(3, b"k", (ONE, None), put_op(b"", b"v"));
    net.run(4_600);
    assert!(net.answer(id).is_none());
    net.run(500);
    let (outcome, _) = net.answer(id).expect("answered after five seconds");
    assert!(
        matches!(outcome, Outcome::Failed(Failure::InDoubt)),
        "{outcome:?}"
    );
}
