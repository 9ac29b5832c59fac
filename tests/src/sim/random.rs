//! The one source of chance: a seed in, the same numbers out, on every machine.

/// xoshiro256** (Blackman and Vigna), seeded by splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    /// The numbers of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut mixed = seed;
        let mut next = || {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self {
            state: [next(), next(), next(), next()],
        }
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// From 0 to `end` − 1; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// One of a list's places.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True so many times in a million.
    pub(crate) fn happens(&mut self, per_million: u64) -> bool {
        self.below(1_000_000) < per_million
    }

    /// The same; a fault that a seed does not have takes nothing from the source, so that the others stay as they are.
    pub(super) fn happens_if(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.happens(per_million)
    }

    /// True half of the time.
    pub(crate) fn coin(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    /// A delay around a mean, mostly near it, sometimes far beyond: the shape of networks and disks.
    pub(crate) fn delay_ns(&mut self, mean_ns: u64) -> u64 {
        let near = mean_ns / 2 + self.below(mean_ns.max(1));
        match self.below(100) {
            0 => near * 10,
            1..=4 => near * 3,
            _ => near,
        }
    }
}
