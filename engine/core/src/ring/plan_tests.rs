//! Plans show what would happen, warn, and cannot be committed when they are stale.

use super::super::state::tests::{cluster, commit, facts, settle, stamp};
use super::*;

#[test]
fn a_plan_is_the_same_at_every_node_and_stale_once_something_else_is_staged() {
    let mut ring = cluster(4);
    ring.announce(NodeId(8), facts("a"), 1, stamp(5))
        .expect("new");
    ring.stage_join(NodeId(8), stamp(6)).expect("known");
    let plan = ring.plan(&Circumstances::default()).expect("somebody");
    let elsewhere = Ring::from_bytes(&ring.to_bytes())
        .expect("whole")
        .plan(&Circumstances::default())
        .expect("somebody");
    assert_eq!(plan.token(), elsewhere.token());
    assert_eq!(plan.report().moves, plan.report().moves_min);
    assert!(
        plan.report()
            .of(NodeId(8))
            .is_some_and(|node| node.gained > 0)
    );
    let gained: usize = plan.zones().iter().map(|zone| zone.gained).sum();
    assert_eq!(gained, plan.report().moves);

    ring.stage_leave(NodeId(2), stamp(7)).expect("a member");
    assert_eq!(ring.commit(&plan, stamp(8)), Err(RingError::PlanIsStale));
    let plan = ring.plan(&Circumstances::default()).expect("somebody");
    let id = ring.commit(&plan, stamp(8)).expect("fresh");
    assert_eq!(id.version, 3);
    assert_eq!(ring.commit(&plan, stamp(9)), Err(RingError::PlanIsStale));
}

#[test]
fn warnings_name_what_is_wrong() {
    let mut ring = cluster(2);
    ring.announce(NodeId(8), facts("b"), 1, stamp(5))
        .expect("new");
    let warnings = |ring: &Ring, circumstances: &Circumstances| {
        ring.plan(circumstances)
            .expect("somebody")
            .warnings()
            .to_vec()
    };
    let none = Circumstances::default();
    assert_eq!(
        warnings(&ring, &none),
        [Warning::FewerNodesThanReplicas { nodes: 2, n: 3 }]
    );
    ring.stage_join(NodeId(8), stamp(6)).expect("known");
    let suspected = Circumstances {
        suspected: BTreeSet::from([NodeId(1), NodeId(2), NodeId(8)]),
        ..Circumstances::default()
    };
    assert_eq!(
        warnings(&ring, &suspected),
        [
            Warning::FewerZonesThanReplicas { zones: 2, n: 3 },
            Warning::SuspectedGains {
                node: NodeId(8),
                replicas: 16
            },
            Warning::NoHolderAlive { partitions: 16 },
        ]
    );
    commit(&mut ring, 7);
    assert!(warnings(&ring, &none).contains(&Warning::Unfinished { replicas: 16 }));
    settle(&mut ring);
    ring.stage_leave(NodeId(8), stamp(8)).expect("a member");
    ring.stage_leave(NodeId(1), stamp(8)).expect("a member");
    ring.stage_leave(NodeId(2), stamp(8)).expect("a member");
    assert_eq!(ring.plan(&none), Err(RingError::NobodyLeft));
}

#[test]
fn a_disk_that_is_too_small_is_found() {
    let mut ring = cluster(3);
    ring.announce(NodeId(8), facts("a"), 1, stamp(5))
        .expect("new");
    ring.stage_join(NodeId(8), stamp(6)).expect("known");
    let space = |capacity_bytes, used_bytes| Space {
        capacity_bytes,
        used_bytes,
    };
    let circumstances = Circumstances {
        space: BTreeMap::from([
            (NodeId(1), space(1 << 20, 1600)),
            (NodeId(8), space(1100, 0)),
        ]),
        ..Circumstances::default()
    };
    let plan = ring.plan(&circumstances).expect("somebody");
    assert_eq!(plan.partition_bytes(), Some(100));
    assert_eq!(
        plan.warnings(),
        [Warning::TooLittleSpace {
            node: NodeId(8),
            needed_bytes: 1200,
            capacity_bytes: 1100
        }]
    );
}

#[test]
fn a_node_alone_in_its_zone_is_warned_about() {
    let mut ring = cluster(6);
    for (node, zone) in [(7, "b"), (8, "c")] {
        ring.announce(NodeId(node), facts(zone), 1, stamp(5))
            .expect("new");
        ring.stage_join(NodeId(node), stamp(6)).expect("known");
    }
    let plan = ring.plan(&Circumstances::default()).expect("somebody");
    assert_eq!(plan.report().zone_violations, 0);
    assert!(plan.warnings().contains(&Warning::ZoneTooSmall {
        node: NodeId(7),
        by_weight: 6,
        replicas: 16
    }));
}
