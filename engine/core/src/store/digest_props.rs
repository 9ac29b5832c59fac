//! Leaves kept write by write against leaves computed anew from the index.

use proptest::prelude::*;

use super::*;
use crate::base::ids::ShardIndex;
use crate::store::index::{Entry, Index};
use crate::store::place::Place;

fn digest_of(slices: Slices, indexes: &[Index]) -> Digest {
    let mut digest = Digest::new(slices);
    for (token, entry) in indexes.iter().flat_map(|index| index.scan_after(None)) {
        digest.replace(token, 0, entry.fingerprint);
    }
    digest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The shards of one node: each keeps its own leaves, their sums are the node's.
    #[test]
    fn leaves_kept_by_writes_equal_leaves_computed_anew_and_sum_over_shards(
        shards in 1u16..5,
        writes in proptest::collection::vec((0u64..40, any::<u64>(), any::<bool>()), 1..300),
    ) {
        let slices = Slices::new(8, shards).expect("valid");
        let mut indexes: Vec<_> = (0..shards).map(|s| Index::new(slices, ShardIndex(s))).collect();
        let mut digests: Vec<_> = (0..shards).map(|_| Digest::new(slices)).collect();
        for (key, fingerprint, is_removal) in writes {
            let token = Token(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let shard = usize::from(slices.shard_of(token).0);
            let former = if is_removal {
                indexes[shard].remove(token, 0)
            } else {
                indexes[shard].put(token, 0, Entry { fingerprint, place: Place(key + 1) })
            };
            let former = former.map_or(0, |entry| entry.fingerprint);
            digests[shard].replace(token, former, if is_removal { 0 } else { fingerprint });
        }
        let whole = digest_of(slices, &indexes);
        for partition in (0..8).map(PartitionId) {
            let mut sums = [0u64; LEAVES];
            let mut root = 0u64;
            for digest in &digests {
                for (sum, leaf) in sums.iter_mut().zip(digest.leaves(partition).expect("held")) {
                    *sum = sum.wrapping_add(*leaf);
                }
                root = root.wrapping_add(digest.root(partition));
            }
            prop_assert_eq!(&sums, whole.leaves(partition).expect("held"));
            prop_assert_eq!(root, whole.root(partition));
        }
    }
}

#[test]
fn leaves_cut_a_partition_into_equal_ranges() {
    let digest = Digest::new(Slices::new(8, 1).expect("valid"));
    for leaf in 0..LEAVES as u64 {
        let first = (5 << 61) + (leaf << 57);
        assert_eq!(digest.leaf_of(Token(first)), leaf as usize);
        assert_eq!(digest.leaf_of(Token(first + (1 << 57) - 1)), leaf as usize);
    }
    assert!(digest.leaves(PartitionId(8)).is_none());
}
