//! Routes follow from members, layout and held alone, and say who counts and who does not.

use super::*;
use crate::base::time::Hlc;
use crate::ring::members::{Facts, Stamp};

const P0: PartitionId = PartitionId(0);

fn map() -> PartitionMap {
    PartitionMap::new(2).expect("valid")
}

fn members(zones: &[&str]) -> Members {
    let mut members = Members::default();
    for (index, zone) in (1..).zip(zones) {
        let facts = Facts {
            zone: (*zone).to_owned(),
            weight: 1,
            ..Facts::default()
        };
        let stamp = Stamp {
            hlc: Hlc(1),
            node: NodeId(index),
        };
        members
            .announce(NodeId(index), facts, 1, stamp)
            .expect("a new node");
    }
    members
}

/// Partition 0 has the first three nodes as targets, partition 1 too.
fn layout(nodes: u64) -> Layout {
    let nodes = (1..=nodes).map(NodeId).collect();
    Layout::draft(map(), 3, nodes, 3, vec![0, 1, 2, 2, 1, 0])
}

fn held(holders: &[u64]) -> BTreeMap<NodeId, Held> {
    holders
        .iter()
        .map(|node| (NodeId(*node), Held::everything(map(), 1)))
        .collect()
}

fn ids(nodes: &[NodeId]) -> Vec<u64> {
    nodes.iter().map(|node| node.0).collect()
}

fn routes(members: &Members, holders: &[u64]) -> Routes {
    Routes::new(members, &layout(5), &held(holders), 7)
}

#[test]
fn targets_that_hold_it_read_in_the_layouts_order() {
    let routes = routes(&members(&["a"; 5]), &[1, 2, 3]);
    assert_eq!(ids(routes.of(P0).readers()), [1, 2, 3]);
    assert_eq!(ids(routes.of(PartitionId(1)).readers()), [3, 2, 1]);
    assert_eq!(routes.of(P0).writers(), routes.of(P0).readers());
    assert_eq!(routes.epoch(), 7);
    assert_eq!(ids(routes.of_token(Token(u64::MAX)).readers()), [3, 2, 1]);
    assert!(routes.of(PartitionId(2)).writers().is_empty());
}

#[test]
fn another_holder_reads_until_the_pending_target_holds_it() {
    let all = members(&["a"; 5]);
    let before = routes(&all, &[1, 2, 5]);
    let route = before.of(P0);
    assert_eq!(ids(route.readers()), [1, 2, 5]);
    assert_eq!(ids(route.pending()), [3]);
    assert_eq!(ids(route.writers()), [1, 2, 5, 3]);
    assert_eq!(route.role(NodeId(5)), Role::Reader);
    assert_eq!(route.role(NodeId(3)), Role::Pending);
    assert!(!route.role(NodeId(3)).serves());
    assert_eq!(route.role(NodeId(4)), Role::Stranger);

    let after = routes(&all, &[1, 2, 3, 5]);
    let route = after.of(P0);
    assert_eq!(ids(route.writers()), [1, 2, 3]);
    assert_eq!(ids(route.draining()), [5]);
    assert_eq!(route.role(NodeId(5)), Role::Draining);
    assert!(route.role(NodeId(5)).takes_writes() && !route.role(NodeId(5)).serves());
    assert_eq!(route.concerned().count(), 4);
}

#[test]
fn a_holder_that_is_not_needed_to_read_keeps_its_copy_complete() {
    let routes = routes(&members(&["a"; 5]), &[1, 2, 4, 5]);
    let route = routes.of(P0);
    assert_eq!(route.readers().len(), 3);
    assert_eq!(route.surplus().len(), 1);
    assert_eq!(route.role(route.surplus()[0]), Role::Surplus);
    assert_eq!(ids(route.pending()), [3]);
    assert_eq!(route.writers().len(), 5);
}

#[test]
fn a_removed_target_is_nobodys_reader_and_no_other_holder_drains_for_it() {
    let mut all = members(&["a"; 5]);
    all.remove(NodeId(3));
    let routes = routes(&all, &[1, 2, 3, 5]);
    let route = routes.of(P0);
    assert_eq!(ids(route.writers()), [1, 2, 5]);
    assert!(route.draining().is_empty());
}

#[test]
fn nobody_holds_it_then_nobody_reads() {
    let routes = routes(&members(&["a"; 5]), &[]);
    assert!(routes.of(P0).readers().is_empty());
    assert_eq!(ids(routes.of(P0).pending()), [1, 2, 3]);
}

#[test]
fn stand_ins_of_other_zones_come_first_and_all_come_once() {
    let all = members(&["a", "b", "c", "a", "d", "b", "e"]);
    let routes = Routes::new(&all, &layout(7), &held(&[1, 2, 3]), 1);
    let order: Vec<u64> = routes.stand_ins(P0).map(|node| node.0).collect();
    let mut first: Vec<u64> = order[..2].to_vec();
    first.sort_unstable();
    assert_eq!(first, [5, 7], "zones d and e hold no replica");
    let mut rest: Vec<u64> = order[2..].to_vec();
    rest.sort_unstable();
    assert_eq!(rest, [4, 6]);
    let again: Vec<u64> = routes.stand_ins(P0).map(|node| node.0).collect();
    assert_eq!(order, again);
}

#[test]
fn the_order_of_stand_ins_differs_between_partitions() {
    let zones = ["a"; 40];
    let all = members(&zones);
    let partitions = PartitionMap::new(64).expect("valid");
    let targets = [0u16, 1, 2].repeat(64);
    let layout = Layout::draft(partitions, 3, (1..=40).map(NodeId).collect(), 3, targets);
    let routes = Routes::new(&all, &layout, &BTreeMap::new(), 1);
    let firsts: std::collections::BTreeSet<NodeId> = partitions
        .iter()
        .filter_map(|partition| routes.stand_ins(partition).next())
        .collect();
    assert!(
        firsts.len() > 20,
        "one absence burdens many: {}",
        firsts.len()
    );
}
