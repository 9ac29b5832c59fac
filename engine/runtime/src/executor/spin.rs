//! Whether to look again for a moment before sleeping.
//!
//! A sleep costs a wake-up: microseconds of CPU, and for the sender tens of microseconds of latency. Looking on costs
//! the same CPU every time, so it is done only while sleeps turn out to have been short, and an idle node never spins.

/// After this many short sleeps in a row, spinning is tried.
const SHORT_SLEEPS: u32 = 4;

/// Spins shorter than this are not worth their clock reads.
const SPIN_NS_MIN: u64 = 2_000;

/// What the last sleeps and spins say.
#[derive(Debug)]
pub(crate) struct Spin {
    spin_ns_max: u64,
    spin_ns: u64,
    short_sleeps: u32,
}

impl Spin {
    /// Never spins longer than this; zero: never.
    pub(crate) const fn new(spin_ns_max: u64) -> Self {
        Self {
            spin_ns_max,
            spin_ns: 0,
            short_sleeps: 0,
        }
    }

    /// How long to look on before sleeping.
    pub(crate) const fn spin_ns(&self) -> u64 {
        self.spin_ns
    }

    /// A spin has ended, with something to do or without.
    pub(crate) fn spun(&mut self, has_paid: bool) {
        self.spin_ns = match (has_paid, self.spin_ns / 2) {
            (true, _) => self.spin_ns_max,
            (false, less_ns) if less_ns >= SPIN_NS_MIN => less_ns,
            (false, _) => 0,
        };
    }

    /// A sleep has ended.
    pub(crate) fn slept(&mut self, slept_ns: u64) {
        if slept_ns > self.spin_ns_max {
            self.short_sleeps = 0;
            return;
        }
        self.short_sleeps += 1;
        if self.short_sleeps >= SHORT_SLEEPS {
            self.short_sleeps = 0;
            self.spin_ns = self.spin_ns_max;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_while_it_pays_and_an_idle_shard_does_not() {
        let mut spin = Spin::new(30_000);
        assert_eq!(spin.spin_ns(), 0);
        for _ in 0..SHORT_SLEEPS {
            spin.slept(8_000);
        }
        assert_eq!(spin.spin_ns(), 30_000);
        spin.spun(true);
        assert_eq!(spin.spin_ns(), 30_000);
        for _ in 0..4 {
            spin.spun(false);
            spin.slept(5_000_000);
        }
        assert_eq!(spin.spin_ns(), 0);
    }

    #[test]
    fn long_sleeps_between_short_ones_do_not_add_up() {
        let mut spin = Spin::new(30_000);
        for sleep_ns in [1_000, 1_000, 1_000, 50_000, 1_000] {
            spin.slept(sleep_ns);
        }
        assert_eq!(spin.spin_ns(), 0);
    }
}
