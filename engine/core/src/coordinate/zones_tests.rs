//! Answers from as many zones as were asked for.

use crate::port::{Failure, Op, Outcome, Quorum, Receipt};

use super::bench_tests::{Net, put_op};

const fn zones(zones: u8) -> Quorum {
    Quorum {
        n: 0,
        r: 0,
        w: 0,
        zones,
        is_strict: false,
    }
}

/// Nodes in these zones, the first three of which hold everything.
fn net_of(zones: &[usize]) -> Net {
    let mut net = Net::new(zones.len(), 3);
    net.zones = zones.iter().copied().enumerate().collect();
    net.publish();
    net
}

fn written(net: &mut Net, id: u64) -> Receipt {
    match net.answer(id).expect("an answer").0 {
        Outcome::Written { receipt, .. } => receipt,
        outcome => panic!("{outcome:?}"),
    }
}

fn failed(net: &mut Net, id: u64) -> Failure {
    match net.answer(id).expect("an answer").0 {
        Outcome::Failed(failure) => failure,
        outcome => panic!("{outcome:?}"),
    }
}

const fn too_few(got: u8, needed: u8, is_in_doubt: bool) -> Failure {
    Failure::Zones {
        got,
        needed,
        is_in_doubt,
    }
}

#[test]
fn a_write_is_acknowledged_when_the_second_zone_has_it_and_not_before() {
    let mut net = net_of(&[0, 0, 2]);
    net.late.insert(2);
    let id = net.send(0, b"k", zones(2), put_op(b"", b"v"));
    let one = net.send(0, b"other", zones(1), put_op(b"", b"v"));
    net.run(90);
    assert_eq!(written(&mut net, one).zones, 1, "W = 2 without a condition");
    assert!(net.held(1, b"k") != 0, "two have it, both in one zone");
    assert!(net.answer(id).is_none());
    net.late.clear();
    net.run(2);
    let receipt = written(&mut net, id);
    assert_eq!((receipt.replicas, receipt.zones), (3, 2));
}

#[test]
fn more_zones_than_there_are_is_refused_before_anything_happens_through_any_node() {
    // The fourth is in a third zone, and holds nothing.
    let mut net = net_of(&[0, 0, 2, 3]);
    for node in [0, 3] {
        let id = net.send(node, b"k", zones(3), put_op(b"", b"v"));
        net.run(5);
        assert_eq!(failed(&mut net, id), too_few(2, 3, false), "node {node}");
        assert_eq!(net.held(0, b"k"), 0);
    }
    // Two replicas are in two zones at most, whatever the third is in.
    let mut net = net_of(&[0, 1, 2]);
    let two = Quorum { n: 2, ..zones(3) };
    let id = net.send(0, b"k", two, put_op(b"", b"v"));
    net.run(5);
    assert_eq!(failed(&mut net, id), too_few(2, 3, false));
    let said = too_few(2, 3, false).to_string();
    assert!(said.contains("3 zones were asked for, and 2 can"), "{said}");
    let id = net.send(0, b"k", zones(3), put_op(b"", b"v"));
    net.run(5);
    assert_eq!(written(&mut net, id).zones, 3);
}

#[test]
fn a_stand_in_counts_for_its_own_zone() {
    let mut net = net_of(&[0, 0, 2, 3]);
    net.dead.insert(1);
    net.cut.insert(1);
    net.publish();
    let strict = Quorum {
        is_strict: true,
        ..zones(3)
    };
    let id = net.send(0, b"k", strict, put_op(b"", b"v"));
    net.run(5);
    assert_eq!(failed(&mut net, id), too_few(2, 3, false));
    let id = net.send(0, b"k", zones(3), put_op(b"", b"v"));
    net.run(5);
    let receipt = written(&mut net, id);
    assert_eq!((receipt.zones, receipt.stand_ins), (3, 1));
    // That for which it stands in may be the only one of its zone.
    let mut net = net_of(&[0, 1, 2, 0]);
    net.dead.insert(2);
    net.publish();
    let id = net.send(0, b"k", zones(3), put_op(b"", b"v"));
    net.run(5);
    assert_eq!(failed(&mut net, id), too_few(2, 3, false));
}

#[test]
fn a_stand_in_in_a_zone_that_is_missing_comes_before_the_next_in_order() {
    let all = Quorum { w: 3, ..zones(0) };
    for (asked, stand_in, other) in [(all, 3, 4), (zones(3), 4, 3)] {
        let mut net = net_of(&[0, 1, 2, 0, 4]);
        net.cut.insert(2);
        let id = net.send(0, b"k", asked, put_op(b"", b"v"));
        net.run(90);
        assert!(net.answer(id).is_none(), "{asked:?}");
        net.run(200);
        assert_eq!(written(&mut net, id).stand_ins, 1);
        assert!(net.held(stand_in, b"k") != 0);
        assert_eq!(net.held(other, b"k"), 0);
    }
}

#[test]
fn a_zone_that_is_missed_in_the_end_leaves_the_write_in_doubt() {
    // The stand-in is in a zone that has the write already.
    let mut net = net_of(&[0, 1, 2, 0]);
    net.cut.insert(2);
    let id = net.send(0, b"k", zones(3), put_op(b"", b"v"));
    net.run(2_500);
    assert_eq!(failed(&mut net, id), too_few(2, 3, true));
    assert!(net.held(1, b"k") != 0, "it is not rolled back");
    // The deadline says the same.
    net.cut.clear();
    net.late.insert(2);
    net.run(5_000);
    let id = net.send(0, b"k", zones(3), put_op(b"", b"v"));
    net.run(3_100);
    assert_eq!(failed(&mut net, id), too_few(2, 3, true));
}

#[test]
fn a_full_replica_is_asked_all_the_same_since_it_may_be_the_only_one_in_its_zone() {
    for (asked, whom) in [(zones(0), [1, 3]), (zones(3), [1, 2])] {
        let mut net = net_of(&[0, 1, 2, 0]);
        net.full.insert(2);
        net.publish();
        net.is_slow = true;
        net.send(0, b"k", asked, put_op(b"", b"v"));
        net.run(5);
        assert_eq!(net.under_way("apply"), whom);
    }
}

#[test]
fn a_read_is_answered_from_as_many_zones_and_asks_no_more_than_it_needs() {
    let mut net = net_of(&[0, 0, 2]);
    net.put(0, b"k", b"", b"v");
    net.run(10);
    let one = Quorum { r: 1, ..zones(2) };
    net.is_slow = true;
    let id = net.send(0, b"k", one, Op::Get);
    net.run(5);
    assert_eq!(net.under_way("fetch"), [2]);
    net.is_slow = false;
    net.run(5);
    let Some((Outcome::Object { receipt, .. }, _)) = net.answer(id) else {
        panic!("it is there");
    };
    assert_eq!((receipt.replicas, receipt.zones), (2, 2));
    // Without the other zone too few answer, however many of this one do.
    net.cut.insert(2);
    let id = net.send(0, b"k", one, Op::Get);
    net.run(3_100);
    assert_eq!(failed(&mut net, id), too_few(1, 2, false));
    let id = net.send(0, b"k", zones(3), Op::Exists);
    net.run(1);
    assert_eq!(failed(&mut net, id), too_few(2, 3, false));
}

#[test]
fn a_read_whose_other_zone_fails_asks_the_next_one_there() {
    let mut net = net_of(&[0, 1, 1]);
    net.put(0, b"k", b"", b"v");
    net.run(10);
    net.cut.insert(1);
    let one = Quorum { r: 1, ..zones(2) };
    let id = net.send(0, b"k", one, Op::Get);
    net.run(2);
    net.lose(1);
    net.run(5);
    let Some((Outcome::Object { receipt, .. }, _)) = net.answer(id) else {
        panic!("it is there");
    };
    assert_eq!(receipt.zones, 2);
}

#[test]
fn a_node_that_is_alone_refuses_what_one_replica_cannot_do_also_while_it_is_busy() {
    let mut net = Net::new(3, 3);
    net.cut.extend([1, 2]);
    let busy = net.send(0, b"k", Quorum::default(), put_op(b"", b"v"));
    net.leave_alone(0);
    assert!(net.answer(busy).is_none(), "it is under way");
    let quorum = Quorum {
        w: 2,
        ..Quorum::default()
    };
    let id = net.send(0, b"k", quorum, put_op(b"", b"v"));
    let (outcome, _) = net.answer(id).expect("at once");
    assert!(
        matches!(
            outcome,
            Outcome::Failed(Failure::Quorum {
                got: 1,
                needed: 2,
                is_in_doubt: false
            })
        ),
        "{outcome:?}"
    );
}
