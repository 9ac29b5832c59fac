//! Shares: how many partitions each node should have, by weight, within what its zone and the partitions allow.
//!
//! A node's share is proportional to its weight, but no node can have a partition twice (so at most Q), and a zone can
//! have no more of a partition than the rules of zones allow, nor less than they demand. What one cannot take the
//! others share by weight: water filling, where `level` is the water's height (partitions for each unit of weight).
//!
//! All in integers (64 bits behind the point): every node computes the same.

/// Bits behind the point of a level.
const LEVEL_BITS: u32 = 64;
/// Bits behind the point of a share.
pub(super) const SHARE_BITS: u32 = 32;
/// A share this near to a whole number is that number: rounding, not meaning.
const SNAP: u64 = 1 << 8;

/// What the shares depend on.
pub(super) struct Terms<'a> {
    /// Of each node; none is zero.
    pub(super) weights: &'a [u32],
    /// Of each node: the index of its zone.
    pub(super) zones: &'a [u16],
    /// Q.
    pub(super) partitions: usize,
    /// Replicas of each partition.
    pub(super) replicas: usize,
    /// Replicas of one partition that each zone has at least.
    pub(super) zone_min: usize,
    /// Replicas of one partition that each zone has at most.
    pub(super) zone_max: usize,
}

/// Each node's share of all replicas, with [`SHARE_BITS`] behind the point.
pub(super) fn shares(terms: &Terms<'_>) -> Vec<u64> {
    let zone_count = terms
        .zones
        .iter()
        .max()
        .map_or(0, |zone| usize::from(*zone) + 1);
    let mut by_zone = vec![Vec::new(); zone_count];
    for (weight, zone) in terms.weights.iter().zip(terms.zones) {
        by_zone[usize::from(*zone)].push(*weight);
    }
    let unit = |count: usize| (count as u128) << LEVEL_BITS;
    let cap = unit(terms.partitions);
    let within = |weights: &[u32], level: u128| -> u128 {
        weights
            .iter()
            .map(|weight| (u128::from(*weight) * level).min(cap))
            .sum()
    };
    let bounds = |weights: &[u32]| {
        let most = terms.zone_max.min(weights.len()) * terms.partitions;
        (unit(terms.zone_min * terms.partitions), unit(most))
    };
    let of_zone = |weights: &[u32], level: u128| {
        let (least, most) = bounds(weights);
        within(weights, level).clamp(least, most)
    };
    let all = unit(terms.partitions * terms.replicas);
    let level = least_level(terms.partitions, |level| {
        by_zone
            .iter()
            .map(|weights| of_zone(weights, level))
            .sum::<u128>()
            >= all
    });
    // A zone at one of its bounds has a level of its own.
    let levels: Vec<u128> = by_zone
        .iter()
        .map(|weights| {
            let total = of_zone(weights, level);
            if within(weights, level) == total {
                return level;
            }
            least_level(terms.partitions, |level| within(weights, level) >= total)
        })
        .collect();
    let share = |(weight, zone): (&u32, &u16)| {
        let exact = (u128::from(*weight) * levels[usize::from(*zone)]).min(cap);
        let share = u64::try_from(exact >> (LEVEL_BITS - SHARE_BITS)).unwrap_or(u64::MAX);
        let whole = 1 << SHARE_BITS;
        let nearest = (share + whole / 2) / whole * whole;
        if share.abs_diff(nearest) < SNAP {
            nearest
        } else {
            share
        }
    };
    terms.weights.iter().zip(terms.zones).map(share).collect()
}

/// The least level that is enough; at the greatest a node of weight 1 would have every partition.
fn least_level(partitions: usize, enough: impl Fn(u128) -> bool) -> u128 {
    let (mut low, mut high) = (0, (partitions as u128) << LEVEL_BITS);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The whole numbers on both sides of a share.
pub(super) fn around(share: u64) -> (usize, usize) {
    let floor = (share >> SHARE_BITS) as usize;
    let fraction = share & ((1 << SHARE_BITS) - 1);
    (floor, floor + usize::from(fraction != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weights: &[u32], zones: &[u16], replicas: usize, zone_max: usize) -> Vec<f64> {
        shares(&Terms {
            weights,
            zones,
            partitions: 1024,
            replicas,
            zone_min: 0,
            zone_max,
        })
        .into_iter()
        .map(|share| share as f64 / (1u64 << SHARE_BITS) as f64)
        .collect()
    }

    #[test]
    fn equal_nodes_share_equally() {
        assert_eq!(of(&[1; 4], &[0; 4], 3, 3), [768.0; 4]);
        assert_eq!(of(&[7; 3], &[0, 1, 2], 3, 1), [1024.0; 3]);
        let of_seven = of(&[1; 7], &[0; 7], 3, 3);
        assert!(
            of_seven
                .iter()
                .all(|share| (share - 3072.0 / 7.0).abs() < 1e-6)
        );
    }

    #[test]
    fn a_heavy_node_gets_each_partition_once_and_the_others_share_the_rest() {
        assert_eq!(
            of(&[100, 1, 1, 2], &[0; 4], 3, 3),
            [1024.0, 512.0, 512.0, 1024.0]
        );
    }

    #[test]
    fn a_zone_gets_no_more_than_one_replica_of_each_partition() {
        let found = of(&[1, 1, 1, 1, 1, 1], &[0, 0, 0, 0, 1, 2], 3, 1);
        assert_eq!(found, [256.0, 256.0, 256.0, 256.0, 1024.0, 1024.0]);
    }

    #[test]
    fn great_weights_do_not_overflow_and_shares_sum_to_all() {
        let weights = [u32::MAX, u32::MAX - 1, 3, 1 << 31, 1];
        let found = of(&weights, &[0; 5], 3, 3);
        assert!(
            (found.iter().sum::<f64>() - 3072.0).abs() < 1e-3,
            "{found:?}"
        );
    }
}
