//! The assignment is exact: no other one within the bounds keeps more, by trying all of a small problem's.

use super::*;
use proptest::prelude::*;

/// The most pairs that any assignment within the bounds keeps, or `None` if there is none.
fn most_kept(demand: &Demand<'_>) -> Option<usize> {
    let nodes = demand.bounds.len();
    let rows: Vec<Vec<u16>> = (0u32..1 << nodes)
        .filter(|set| set.count_ones() as usize == demand.replicas)
        .map(|set| {
            (0..nodes as u16)
                .filter(|node| set >> node & 1 == 1)
                .collect()
        })
        .filter(|row: &Vec<u16>| {
            let zones = demand.zones.iter().max().map_or(0, |zone| zone + 1);
            (0..zones).all(|zone| {
                let count = row
                    .iter()
                    .filter(|node| demand.zones[usize::from(**node)] == zone)
                    .count();
                count >= demand.zone_min && count <= demand.zone_max
            })
        })
        .collect();
    // The counts of each node after some partitions, with the most that was kept so far.
    let mut reached = std::collections::BTreeMap::from([(vec![0usize; nodes], 0usize)]);
    for partition in 0..demand.partitions {
        let before = &demand.before[partition * demand.before_width..][..demand.before_width];
        let mut next = std::collections::BTreeMap::new();
        for (counts, kept) in &reached {
            for row in &rows {
                let mut counts = counts.clone();
                for node in row {
                    counts[usize::from(*node)] += 1;
                }
                let over = |(count, bounds): (&usize, &(usize, usize))| *count > bounds.1;
                if counts.iter().zip(demand.bounds).any(over) {
                    continue;
                }
                let kept = kept + row.iter().filter(|node| before.contains(node)).count();
                let best = next.entry(counts).or_insert(0);
                *best = kept.max(*best);
            }
        }
        reached = next;
    }
    let fits = |counts: &Vec<usize>| {
        counts
            .iter()
            .zip(demand.bounds)
            .all(|(count, bounds)| *count >= bounds.0)
    };
    reached
        .into_iter()
        .filter(|(counts, _)| fits(counts))
        .map(|(_, kept)| kept)
        .max()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_other_assignment_within_the_bounds_keeps_more(
        weights in prop::collection::vec(1u32..4, 2..6),
        zone_count in 1u16..4,
        wanted in 1usize..4,
        before in prop::collection::vec(prop::option::of(0u16..6), 18),
    ) {
        use super::super::share::{Terms, around, shares};
        let partitions = 6;
        let replicas = wanted.min(weights.len());
        let zones: Vec<u16> = (0..weights.len() as u16).map(|node| node % zone_count).collect();
        let distinct = usize::from(zone_count).min(weights.len());
        let zone_min = usize::from(distinct <= replicas);
        let size = |zone: u16| zones.iter().filter(|other| **other == zone).count();
        let zone_max = (1..=replicas)
            .find(|most| {
                (0..distinct as u16).map(|zone| size(zone).min(*most)).sum::<usize>() >= replicas
            })
            .expect("all of them are enough");
        let bounds: Vec<(usize, usize)> = shares(&Terms {
            weights: &weights,
            zones: &zones,
            partitions,
            replicas,
            zone_min,
            zone_max,
        })
        .into_iter()
        .map(around)
        .collect();
        let before: Vec<u16> = before
            .iter()
            .map(|node| node.filter(|node| usize::from(*node) < weights.len()).unwrap_or(NONE))
            .collect();
        let demand = Demand {
            partitions,
            replicas,
            bounds: &bounds,
            zones: &zones,
            zone_min,
            zone_max,
            before: &before,
            before_width: 3,
            allowed: &[],
            allowed_width: 0,
        };
        let sets = assign(&demand);
        prop_assert!(!sets.contains(&NONE), "everything is placed: {:?}", bounds);
        let mut counts = vec![0; weights.len()];
        let mut kept = 0;
        for (row, before) in sets.chunks_exact(replicas).zip(before.chunks_exact(3)) {
            for (position, node) in row.iter().enumerate() {
                prop_assert!(!row[..position].contains(node));
                counts[usize::from(*node)] += 1;
                kept += usize::from(before.contains(node));
            }
        }
        for (count, (least, most)) in counts.iter().zip(&bounds) {
            prop_assert!(least <= count && count <= most, "{counts:?} in {bounds:?}");
        }
        prop_assert_eq!(Some(kept), most_kept(&demand));
    }
}
