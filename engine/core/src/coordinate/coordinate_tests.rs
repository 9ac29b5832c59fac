//! What a client sees of several replicas.

use crate::port::{Condition, ContextArg, Expiry, Failure, Op, Outcome, Put, Quorum};

use super::bench_tests::{Net, put_op};
use crate::ring::PartitionView;
use crate::shard::bench_tests::DiskIs;

const STRICT_ALL: Quorum = Quorum {
    n: 0,
    r: 0,
    w: 3,
    zones: 0,
    is_strict: true,
};

#[test]
fn a_write_reaches_every_replica_and_is_read_through_any_node() {
    let mut net = Net::new(4, 3);
    net.put(0, b"k", b"", b"v1");
    net.run(10);
    let fingerprint = net.held(0, b"k");
    assert!(fingerprint != 0);
    assert_eq!(
        (net.held(1, b"k"), net.held(2, b"k")),
        (fingerprint, fingerprint)
    );
    // The fourth holds nothing of it, and serves it all the same.
    assert_eq!(net.held(3, b"k"), 0);
    for node in 0..4 {
        assert_eq!(net.get(node, b"k").1, [b"v1".to_vec()], "node {node}");
    }
    let seen = net.get(3, b"k").0;
    net.put(3, b"k", &seen, b"v2");
    assert_eq!(net.get(1, b"k").1, [b"v2".to_vec()]);
}

#[test]
fn a_put_supersedes_what_its_context_covers_and_two_with_one_context_are_siblings() {
    let mut net = Net::new(3, 3);
    let first = net.put(0, b"k", b"", b"a");
    net.put(1, b"k", &first, b"b");
    net.put(2, b"k", &first, b"c");
    assert_eq!(net.get(0, b"k").1, [b"b".to_vec(), b"c".to_vec()]);
    let seen = net.get(1, b"k").0;
    net.put(0, b"k", &seen, b"d");
    for node in 0..3 {
        assert_eq!(net.get(node, b"k").1, [b"d".to_vec()]);
    }
}

#[test]
fn no_request_fails_when_a_replica_is_silent_and_a_stand_in_or_a_hint_keeps_its_write() {
    for nodes in [3, 4] {
        let mut net = Net::new(nodes, 3);
        net.cut.insert(1);
        net.put(0, b"k", b"", b"v");
        assert_eq!(net.get(0, b"k").1, [b"v".to_vec()]);
        assert_eq!(net.get(2, b"k").1, [b"v".to_vec()]);
        net.run(2_000);
        let hints: u64 = (0..nodes).map(|node| net.stats(node).hints_kept).sum();
        assert!(
            hints > 0,
            "{nodes} nodes: somebody keeps it for the one that is away"
        );
    }
}

#[test]
fn a_node_that_stepped_aside_needs_as_many_answers_as_it_did_before() {
    for epochs in [0, 1] {
        let mut net = Net::new(2, 2);
        let aside = PartitionView {
            read: [1].into(),
            write: [1, 0].into(),
            ..net.row.clone()
        };
        net.tell(0, aside.clone());
        net.cut.insert(1);
        let id = net.send(0, b"k", Quorum::default(), put_op(b"", b"v"));
        // By then the other holder is taken to be away.
        net.run(1_010);
        for _ in 0..epochs {
            net.epoch += 1;
            net.tell(0, aside.clone());
        }
        net.run(4_000);
        let (outcome, _) = net.answer(id).expect("an answer");
        assert!(
            matches!(
                outcome,
                Outcome::Failed(Failure::Quorum {
                    got: 1,
                    needed: 2,
                    ..
                })
            ),
            "its own copy alone is not W = 2: {outcome:?}"
        );
    }
}

/// Whom a request through a node makes that ask, before any answer.
fn asked(net: &mut Net, node: usize, quorum: Quorum, op: Op<'_>, kind: &str) -> Vec<usize> {
    net.run(100);
    net.is_slow = true;
    let id = net.send(node, b"k", quorum, op);
    net.run(5);
    let asked = net.under_way(kind);
    net.is_slow = false;
    net.run(100);
    let (outcome, _) = net.answer(id).expect("an answer");
    assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    asked
}

#[test]
fn a_replica_that_said_it_is_full_is_spared_for_a_stand_in_and_asked_where_there_is_none() {
    let strict = Quorum {
        is_strict: true,
        ..Quorum::default()
    };
    let delete = Op::Delete {
        context: ContextArg::Latest,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    let mut net = Net::new(5, 3);
    net.full.insert(1);
    net.publish();
    let put = put_op(b"", b"v");
    let usual = Quorum::default();
    assert_eq!(asked(&mut net, 0, usual, put, "apply"), [2, 3]);
    assert_eq!(net.held(3, b"k"), net.held(0, b"k"));
    // Deletes have room there, and a strict quorum has no stand-in.
    assert_eq!(asked(&mut net, 0, usual, delete, "apply"), [1, 2]);
    assert_eq!(asked(&mut net, 0, strict, put, "apply"), [1, 2]);
    // Nor does a stand-in stand in that is full itself; without any, what was said may be of before.
    net.full.insert(3);
    net.publish();
    assert_eq!(asked(&mut net, 0, usual, put, "apply"), [2, 4]);
    net.full.insert(4);
    net.publish();
    assert_eq!(asked(&mut net, 0, usual, put, "apply"), [1, 2]);
    // A node that hands a write on asks a holder that has room; reads go to any.
    net.full = [0, 1].into();
    net.publish();
    assert_eq!(asked(&mut net, 3, usual, put, "request"), [2]);
    net.full = [2].into();
    net.publish();
    assert_ne!(asked(&mut net, 3, usual, put, "request"), [2]);
}

#[test]
fn a_lost_connection_is_felt_and_tried_again_for_a_moment() {
    let mut net = Net::new(3, 3);
    net.cut.insert(1);
    let id = net.send(0, b"k", STRICT_ALL, put_op(b"", b"v"));
    net.run(2);
    net.lose(1);
    net.run(1_200);
    let (outcome, _) = net.answer(id).expect("answered long before the deadline");
    let Outcome::Failed(Failure::Quorum {
        got: 2,
        needed: 3,
        is_in_doubt: true,
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
    // Back within the moment, nobody notices.
    net.cut.extend([1, 2]);
    let read = net.send(0, b"k", Quorum::default(), Op::Get);
    let write = net.send(0, b"k", STRICT_ALL, put_op(b"", b"v"));
    for _ in 0..10 {
        net.run(11);
        net.lose(1);
        net.lose(2);
    }
    net.cut.clear();
    net.run(100);
    let (outcome, _) = net.answer(read).expect("read");
    assert!(matches!(outcome, Outcome::Object { .. }), "{outcome:?}");
    let (outcome, _) = net.answer(write).expect("written");
    assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
}

#[test]
fn a_quorum_that_cannot_be_met_is_refused_before_anything_happens() {
    let mut net = Net::new(3, 3);
    net.dead.extend([1, 2]);
    net.publish();
    let quorum = Quorum {
        w: 3,
        is_strict: true,
        ..Quorum::default()
    };
    let id = net.send(0, b"k", quorum, put_op(b"", b"v"));
    let (outcome, _) = net.answer(id).expect("at once");
    assert!(
        matches!(
            outcome,
            Outcome::Failed(Failure::Quorum {
                is_in_doubt: false,
                ..
            })
        ),
        "{outcome:?}"
    );
    assert_eq!(net.held(0, b"k"), 0);
}

#[test]
fn a_read_brings_up_the_replica_that_missed_a_write() {
    let mut net = Net::new(3, 3);
    net.cut.insert(2);
    net.put(0, b"k", b"", b"v");
    net.run(2_000);
    net.cut.clear();
    // No hint is delivered to a node that seems dead.
    net.dead.insert(2);
    net.publish();
    net.run(5_000);
    assert_eq!(net.held(2, b"k"), 0, "nothing but the read tells it");
    assert_eq!(net.get(2, b"k").1, [b"v".to_vec()]);
    net.run(10);
    assert_eq!(net.held(2, b"k"), net.held(0, b"k"));
    assert!(net.stats(2).read_repairs > 0);
}

#[test]
fn a_change_of_expiry_never_undoes_a_write_that_this_node_missed() {
    let mut net = Net::new(3, 3);
    net.put(0, b"k", b"", b"old");
    net.run(10);
    net.cut.insert(0);
    net.put(1, b"k", b"", b"new");
    net.run(2_000);
    net.cut.clear();
    net.run(5_000);
    let op = Op::SetExpiry {
        expiry: Expiry::AtMs(net.now.wall_ms + 1_000_000),
        want_previous: false,
    };
    let (outcome, _) = net.ask(0, b"k", op);
    assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
    assert_eq!(net.get(2, b"k").1, [b"new".to_vec()]);
}

#[test]
fn a_condition_is_decided_on_the_newest() {
    let mut net = Net::new(3, 3);
    net.cut.insert(0);
    net.put(1, b"k", b"", b"there");
    net.run(2_000);
    net.cut.clear();
    net.run(5_000);
    let op = Op::Put(Put {
        context: ContextArg::Latest,
        value: b"x",
        expiry: Expiry::Never,
        condition: Condition::IfAbsent,
        want_previous: false,
        want_context: false,
        write_id: None,
    });
    let (outcome, _) = net.ask(0, b"k", op);
    assert!(
        matches!(outcome, Outcome::ConditionNotMet { .. }),
        "{outcome:?}"
    );
}

#[test]
fn a_condition_is_not_decided_by_a_node_that_does_not_hold_the_key() {
    let mut net = Net::new(4, 3);
    net.put(0, b"k", b"", b"there");
    net.dead.extend([0, 1, 2]);
    net.publish();
    let put = Put {
        context: ContextArg::Latest,
        value: b"x",
        expiry: Expiry::Never,
        condition: Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    let if_absent = Put {
        condition: Condition::IfAbsent,
        ..put
    };
    let with_former = Put {
        want_previous: true,
        ..put
    };
    for put in [if_absent, with_former] {
        let (outcome, _) = net.ask(3, b"k", Op::Put(put));
        assert!(
            matches!(outcome, Outcome::Failed(Failure::NoHolder)),
            "it knows nothing of the value that is there: {outcome:?}"
        );
    }
}

#[test]
fn a_client_is_answered_once_though_its_deadline_comes_before_the_own_replica_has_read() {
    let mut net = Net::new(3, 3);
    let first = net.put(0, b"k", b"", b"first");
    net.put(0, b"k", &first, b"second");
    net.run(100);
    net.restart(0);
    net.set_disk(0, DiskIs::Silent);
    let id = net.send(0, b"k", Quorum::default(), put_op(&first, b"sibling"));
    net.run(3_100);
    let (outcome, _) = net.answer(id).expect("answered by its deadline");
    assert!(
        matches!(outcome, Outcome::Failed(_)),
        "nothing was written: {outcome:?}"
    );
    net.run(1_000);
    assert!(net.answer(id).is_none(), "and no other answer came");
}

#[test]
fn a_delete_leaves_its_tombstone_on_every_replica() {
    let mut net = Net::new(3, 3);
    net.put(0, b"k", b"", b"v");
    let op = Op::Delete {
        context: ContextArg::Latest,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    let (outcome, _) = net.ask(1, b"k", op);
    assert!(
        matches!(outcome, Outcome::Written { existed: true, .. }),
        "{outcome:?}"
    );
    net.run(10);
    for node in 0..3 {
        assert!(net.get(node, b"k").1.is_empty());
        assert!(net.held(node, b"k") != 0);
    }
}

#[test]
fn a_node_that_holds_nothing_takes_writes_when_all_that_hold_are_away() {
    let mut net = Net::new(4, 3);
    net.cut.extend([0, 1, 2]);
    net.dead.extend([0, 1, 2]);
    net.publish();
    let quorum = Quorum {
        w: 1,
        ..Quorum::default()
    };
    let id = net.send(3, b"k", quorum, put_op(b"", b"v"));
    net.run(100);
    let (outcome, _) = net.answer(id).expect("always writeable");
    let Outcome::Written { receipt, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((receipt.replicas, receipt.stand_ins), (1, 1));
    assert!(net.stats(3).hints_kept >= 3);
}

#[test]
fn what_a_silent_node_may_have_begun_is_in_doubt_and_never_not_applied() {
    let mut net = Net::new(4, 3);
    net.cut.extend([0, 1, 2]);
    let quorum = Quorum {
        is_strict: true,
        ..Quorum::default()
    };
    // Nobody answers, though all that hold the key seem alive; in the end it fails at a node that holds nothing.
    let id = net.send(3, b"k", quorum, put_op(b"", b"v"));
    net.run(20_000);
    let (outcome, _) = net.answer(id).expect("answered when all were asked");
    assert!(
        matches!(outcome, Outcome::Failed(Failure::InDoubt)),
        "{outcome:?}"
    );
    // Where nobody was asked, nothing happened.
    net.dead.extend([0, 1, 2]);
    net.publish();
    let id = net.send(3, b"k", quorum, put_op(b"", b"v"));
    net.run(100);
    let (outcome, _) = net.answer(id).expect("at once");
    assert!(
        matches!(outcome, Outcome::Failed(Failure::NoHolder)),
        "{outcome:?}"
    );
}

#[test]
fn a_read_that_is_tried_again_sets_one_timer_at_a_time() {
    let mut net = Net::new(3, 3);
    net.put(0, b"k", b"", b"v");
    net.cut.extend([1, 2]);
    let id = net.send(0, b"k", Quorum::default(), Op::Get);
    // They seem alive, and their connections break each time.
    for _ in 0..30 {
        net.run(10);
        net.lose(1);
        net.lose(2);
        assert!(net.timers(0) <= 24, "{} timers for one read", net.timers(0));
    }
    assert!(net.answer(id).is_none(), "it is still tried");
    net.cut.clear();
    net.run(500);
    assert!(net.answer(id).is_some());
}
