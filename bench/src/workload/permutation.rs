//! A seeded one-to-one scattering of `0..n`: rank in, key id out.
//!
//! Owns nothing but its round keys. Never allocates, never repeats an output for two inputs.
//!
//! Invariants:
//! - for a fixed seed, `scatter` is a bijection of `0..n` onto itself;
//! - the hottest rank of a skewed distribution stays exactly as hot after scattering.
//!
//! Why not YCSB's `fnv(rank) mod n`: a hash folds several ranks onto one key and leaves others cold, so the
//! distribution that is measured is not the one that was asked for. A Feistel network with cycle walking is exact.

/// A bijection of `0..n`.
#[derive(Debug, Clone)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    half_mask: u64,
    round_keys: [u64; 4],
}

impl Permutation {
    /// The permutation of `0..n` that `seed` selects; `n` of 0 is taken as 1.
    pub fn new(n: u64, seed: u64) -> Self {
        let n = n.max(1);
        let bits = 64 - (n - 1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        let mut state = seed;
        let round_keys = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix64(state)
        });
        Permutation {
            n,
            half_bits,
            half_mask: (1 << half_bits) - 1,
            round_keys,
        }
    }

    /// Where `rank` lands. `rank` must be below `n`; a greater one is reduced first.
    pub fn scatter(&self, rank: u64) -> u64 {
        let mut x = rank % self.n;
        // The network permutes a power of four at least n; walking its cycle until it is back below n keeps the map
        // one-to-one. At most four steps are expected, since the domain is less than 4 n.
        loop {
            x = self.feistel(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn feistel(&self, x: u64) -> u64 {
        let mut left = x >> self.half_bits;
        let mut right = x & self.half_mask;
        for key in self.round_keys {
            let next = left ^ (mix64(right ^ key) & self.half_mask);
            left = right;
            right = next;
        }
        (left << self.half_bits) | right
    }
}

/// The finalizer of SplitMix64: a bijection of 64 bits with full avalanche.
pub fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_lands_on_its_own_key() {
        for n in [1, 2, 3, 10, 64, 1000, 4097] {
            let permutation = Permutation::new(n, 42);
            let mut seen = vec![false; n as usize];
            for rank in 0..n {
                let id = permutation.scatter(rank) as usize;
                assert!(!seen[id], "n {n}: two ranks landed on {id}");
                seen[id] = true;
            }
        }
    }

    #[test]
    fn neighbours_do_not_stay_neighbours() {
        let permutation = Permutation::new(1 << 20, 7);
        let close = (0..1000u64)
            .filter(|&rank| {
                permutation
                    .scatter(rank)
                    .abs_diff(permutation.scatter(rank + 1))
                    < 16
            })
            .count();
        assert!(close < 5, "{close} of 1000 neighbours stayed together");
    }

    #[test]
    fn another_seed_scatters_otherwise() {
        let (a, b) = (Permutation::new(1000, 1), Permutation::new(1000, 2));
        assert!((0..1000).any(|rank| a.scatter(rank) != b.scatter(rank)));
    }
}
