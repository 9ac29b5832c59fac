//! Solve keeps its promises for any members, however odd, and is a pure function.

use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

fn any_members(nodes: std::ops::Range<u64>) -> impl Strategy<Value = Vec<NodeSpec>> {
    let weight = prop_oneof![
        6 => 1u32..5,
        1 => Just(0),
        1 => Just(u32::MAX),
        1 => any::<u32>(),
    ];
    let member = (nodes, 0u8..5, weight).prop_map(|(node, zone, weight)| NodeSpec {
        node: NodeId(node),
        zone: format!("{zone}"),
        weight,
    });
    prop::collection::vec(member, 0..14)
}

fn assert_promises(members: &[NodeSpec], layout: &Layout, report: &Report) {
    let members: BTreeMap<NodeId, &NodeSpec> =
        members.iter().map(|spec| (spec.node, spec)).collect();
    let owners = members.values().filter(|spec| spec.weight > 0);
    let zones: BTreeSet<&str> = owners.clone().map(|spec| spec.zone.as_str()).collect();
    let width = usize::from(layout.n()).min(owners.count());
    assert_eq!(layout.width(), width);
    for partition in layout.partitions().iter() {
        let targets: BTreeSet<NodeId> = layout.targets(partition).collect();
        assert_eq!(targets.len(), width, "distinct nodes");
        let of_zone = |node: &NodeId| members[node].zone.as_str();
        let distinct: BTreeSet<&str> = targets.iter().map(of_zone).collect();
        assert_eq!(distinct.len(), zones.len().min(width), "distinct zones");
        assert!(targets.iter().all(|node| members[node].weight > 0));
    }
    assert!(report.imbalance < 1.0, "{report:?}");
    assert!(report.moves >= report.moves_min);
    assert_eq!((report.zone_violations, report.node_violations), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn promises_hold_for_any_members_before_and_after(
        before in any_members(0..12),
        after in any_members(0..20),
        n in 1u8..6,
        n_after in 1u8..6,
    ) {
        let partitions = PartitionMap::new(32).expect("valid");
        let shape = Shape { partitions, n };
        let (last, report) = solve(None, &before, &[], shape);
        assert_promises(&before, &last, &report);
        let shape = Shape { partitions, n: n_after };
        let (next, report) = solve(Some(&last), &after, &[], shape);
        assert_promises(&after, &next, &report);
        prop_assert_eq!(&solve(Some(&last), &after, &[], shape), &(next.clone(), report));
        // Who is at home stays at home.
        let (again, report) = solve(Some(&next), &after, &[], shape);
        prop_assert_eq!(report.moves, 0);
        prop_assert_eq!(again, next);
    }
}

/// Goal: the loss of one node burdens many others, not always the same two.
#[test]
fn a_nodes_partitions_are_shared_with_many_others() {
    let members: Vec<NodeSpec> = (0..30)
        .map(|node| NodeSpec {
            node: NodeId(node),
            zone: format!("{}", node % 3),
            weight: 1,
        })
        .collect();
    let shape = Shape {
        partitions: PartitionMap::new(1024).expect("valid"),
        n: 3,
    };
    let (layout, _) = solve(None, &members[..24], &[], shape);
    let (layout, _) = solve(Some(&layout), &members, &[], shape);
    let mut shared: BTreeMap<(NodeId, NodeId), usize> = BTreeMap::new();
    for partition in layout.partitions().iter() {
        for one in layout.targets(partition) {
            for other in layout.targets(partition).filter(|other| *other != one) {
                *shared.entry((one, other)).or_default() += 1;
            }
        }
    }
    let even = 1024.0 * 6.0 / (30.0 * 20.0);
    let most = shared.values().max().copied().unwrap_or_default();
    println!(
        "pairs of nodes: {} of 600, at most {most} partitions, {even:.1} if even",
        shared.len()
    );
    assert!(shared.len() > 560, "{}", shared.len());
    assert!((most as f64) < 3.0 * even, "{most}");
}
