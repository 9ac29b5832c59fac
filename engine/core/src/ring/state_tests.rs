//! What operators and nodes do to a ring, and what is refused.

use super::*;
use crate::base::time::Hlc;
use crate::ring::plan::Circumstances;

pub(crate) fn stamp(hlc: u64) -> Stamp {
    Stamp {
        hlc: Hlc(hlc),
        node: NodeId(1),
    }
}

pub(crate) fn facts(zone: &str) -> Facts {
    Facts {
        listen: "127.0.0.1:7400".to_owned(),
        zone: zone.to_owned(),
        weight: 1,
        shards: 1,
        ..Facts::default()
    }
}

/// A cluster of nodes 1 to `nodes` in which every target holds its partitions.
pub(crate) fn cluster(nodes: u64) -> Ring {
    let mut ring = Ring::found(Founding {
        cluster: 77,
        shape: Shape {
            partitions: PartitionMap::new(16).expect("valid"),
            n: 3,
        },
        node: NodeId(1),
        facts: facts("a"),
        start_count: 1,
        stamp: stamp(1),
    })
    .expect("a cluster of one");
    for node in (2..=nodes).map(NodeId) {
        ring.announce(node, facts("a"), 1, stamp(2)).expect("new");
        ring.stage_join(node, stamp(3)).expect("known");
    }
    if nodes > 1 {
        commit(&mut ring, 4);
        settle(&mut ring);
    }
    ring
}

pub(crate) fn commit(ring: &mut Ring, hlc: u64) {
    let plan = ring.plan(&Circumstances::default()).expect("somebody");
    ring.commit(&plan, stamp(hlc)).expect("a fresh plan");
}

/// Every transfer ends, every old holder lets go.
pub(crate) fn settle(ring: &mut Ring) {
    let partitions = ring.partitions();
    for partition in partitions.iter() {
        for target in ring.layout().targets(partition).collect::<Vec<_>>() {
            ring.set_held(target, partition);
        }
    }
    let routes = ring.routes();
    for partition in partitions.iter() {
        for node in routes.of(partition).draining() {
            ring.clear_held(*node, partition);
        }
    }
}

#[test]
fn a_cluster_begins_with_one_node_that_serves_everything() {
    let ring = cluster(1);
    let routes = ring.routes();
    for partition in ring.partitions().iter() {
        assert_eq!(routes.of(partition).readers(), [NodeId(1)]);
    }
    assert_eq!(ring.state_of(NodeId(1)), Some(MemberState::Up));
    assert_eq!(ring.layout().id().version, 1);
    assert!(ring.staged().is_empty());
}

#[test]
fn a_node_joins_leaves_and_is_removed_for_good() {
    let mut ring = cluster(4);
    let node = NodeId(9);
    assert_eq!(ring.state_of(node), None);
    ring.announce(node, facts("a"), 1, stamp(5)).expect("new");
    assert_eq!(ring.state_of(node), Some(MemberState::Known));
    ring.stage_join(node, stamp(6)).expect("known");
    assert_eq!(ring.staged().len(), 1);
    commit(&mut ring, 7);
    assert_eq!(ring.state_of(node), Some(MemberState::Joining));
    settle(&mut ring);
    assert_eq!(ring.state_of(node), Some(MemberState::Up));
    assert_eq!(
        ring.stage_join(node, stamp(8)),
        Err(RingError::AlreadyJoined(node))
    );
    assert_eq!(ring.remove(node), Err(RingError::StillMember(node)));

    ring.stage_leave(node, stamp(8)).expect("a member");
    commit(&mut ring, 9);
    assert_eq!(ring.state_of(node), Some(MemberState::Leaving));
    assert!(matches!(
        ring.remove(node),
        Err(RingError::StillHolds { .. })
    ));
    settle(&mut ring);
    ring.remove(node).expect("nothing is left with it");
    assert_eq!(ring.state_of(node), Some(MemberState::Removed));
    let announced = ring.announce(node, facts("a"), 2, stamp(10));
    assert_eq!(announced, Err(MemberError::Removed(node).into()));
}

#[test]
fn a_replacement_moves_the_old_nodes_partitions_and_no_others() {
    let mut ring = cluster(5);
    let heir = Heir {
        old: NodeId(2),
        new: NodeId(8),
    };
    ring.announce(heir.new, facts("a"), 1, stamp(5))
        .expect("new");
    ring.stage_replace(heir, stamp(6)).expect("both known");
    let old = ring.layout().clone();
    commit(&mut ring, 7);
    for partition in ring.partitions().iter() {
        let expected: Vec<NodeId> = old
            .targets(partition)
            .map(|node| if node == heir.old { heir.new } else { node })
            .collect();
        let found: Vec<NodeId> = ring.layout().targets(partition).collect();
        assert_eq!(found, expected, "{partition}");
    }
    assert!(ring.staged().is_empty());
}

#[test]
fn abort_takes_back_what_is_staged_and_nothing_else() {
    let mut ring = cluster(3);
    ring.announce(NodeId(7), facts("a"), 1, stamp(5))
        .expect("new");
    ring.stage_join(NodeId(7), stamp(6)).expect("known");
    ring.stage_leave(NodeId(3), stamp(6)).expect("a member");
    let aborted = ring.abort(NodeId(1)).expect("all known");
    assert_eq!(aborted.len(), 2);
    assert!(ring.staged().is_empty());
    assert_eq!(ring.state_of(NodeId(3)), Some(MemberState::Up));
    assert_eq!(ring.state_of(NodeId(7)), Some(MemberState::Known));
    let plan = ring.plan(&Circumstances::default()).expect("somebody");
    assert_eq!(ring.commit(&plan, stamp(8)), Err(RingError::NothingPlanned));
}

#[test]
fn a_node_from_the_past_holds_nothing_until_it_fetched_it_anew() {
    let mut ring = cluster(3);
    let node = NodeId(2);
    ring.announce(node, facts("a"), 9, stamp(5)).expect("known");
    assert!(!ring.is_from_the_past(node, 9));
    assert!(ring.held(node).is_some_and(|held| held.count() == 16));
    assert!(ring.is_from_the_past(node, 4));
    assert_eq!(ring.forget_held(node, 4, stamp(6)), Ok(10));
    assert!(ring.held(node).is_some_and(Held::is_empty));
    let routes = ring.routes();
    assert_eq!(routes.of(PartitionId(0)).pending(), [node]);
    assert_eq!(routes.of(PartitionId(0)).readers().len(), 2);
}

#[test]
fn every_change_raises_the_epoch_and_what_changes_nothing_does_not() {
    let mut ring = cluster(3);
    let mut last = ring.epoch();
    let mut risen = |ring: &Ring| {
        let rises = ring.epoch() > last;
        last = ring.epoch();
        rises
    };
    ring.clear_held(NodeId(1), PartitionId(0));
    assert!(risen(&ring));
    ring.clear_held(NodeId(1), PartitionId(0));
    assert!(!risen(&ring));
    ring.announce(NodeId(4), facts("b"), 1, stamp(5))
        .expect("new");
    assert!(risen(&ring));
    ring.announce(NodeId(4), facts("b"), 1, stamp(6))
        .expect("known");
    assert!(!risen(&ring));
    ring.stage_join(NodeId(4), stamp(7)).expect("known");
    assert!(risen(&ring));
    commit(&mut ring, 8);
    assert!(risen(&ring));
}

#[test]
fn a_lost_node_is_removed_by_force_and_its_place_is_filled() {
    let mut ring = cluster(4);
    ring.stage_leave(NodeId(4), stamp(5)).expect("a member");
    commit(&mut ring, 6);
    ring.remove_lost(NodeId(4)).expect("out of the layout");
    settle(&mut ring);
    let routes = ring.routes();
    for partition in ring.partitions().iter() {
        assert_eq!(routes.of(partition).writers().len(), 3);
    }
}
