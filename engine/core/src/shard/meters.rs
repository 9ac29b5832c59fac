//! Rates of what the background does, and how long the rest of it will take.
//!
//! Owns the last counts and the rates, measured once a second at the end of a turn. Never decides anything.

use crate::port::{Progress, WorkProgress};

/// Between two measurements.
const STEP_NS: u64 = 1_000_000_000;

/// One rate.
#[derive(Clone, Copy, Default)]
struct Meter {
    done: u64,
    milli_per_s: u64,
}

impl Meter {
    /// A quarter of the newest second and three of what was before: a rate of some seconds.
    fn measure(&mut self, done: u64, left: u64, took_ns: u64) -> WorkProgress {
        let more = done.saturating_sub(self.done);
        self.done = done;
        let newest = u128::from(more) * 1_000_000_000_000 / u128::from(took_ns.max(1));
        let newest = u64::try_from(newest).unwrap_or(u64::MAX);
        self.milli_per_s = if self.milli_per_s == 0 {
            newest
        } else {
            self.milli_per_s / 4 * 3 + newest / 4
        };
        let seconds_left = match (left, self.milli_per_s) {
            (0, _) => Some(0),
            (_, 0) => None,
            (left, rate) => Some(left.saturating_mul(1000).div_ceil(rate)),
        };
        WorkProgress {
            done,
            left,
            milli_per_s: self.milli_per_s,
            seconds_left,
        }
    }
}

/// Done and left of each kind of work.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) hints: (u64, u64),
    pub(super) transfers: (u64, u64),
    pub(super) handovers: (u64, u64),
    pub(super) comparisons: (u64, u64),
    pub(super) tombstones: (u64, u64),
}

/// Of one shard.
#[derive(Default)]
pub(super) struct Meters {
    hints: Meter,
    transfers: Meter,
    handovers: Meter,
    comparisons: Meter,
    tombstones: Meter,
    measured_ns: u64,
    pub(super) progress: Progress,
}

impl Meters {
    pub(super) const fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.measured_ns) >= STEP_NS
    }

    /// Measures what was done since the last time.
    pub(super) fn measure(&mut self, now_ns: u64, counts: Counts) {
        let took_ns = now_ns.saturating_sub(self.measured_ns);
        self.measured_ns = now_ns;
        let of = |meter: &mut Meter, (done, left)| meter.measure(done, left, took_ns);
        self.progress = Progress {
            hints: of(&mut self.hints, counts.hints),
            transfers: of(&mut self.transfers, counts.transfers),
            handovers: of(&mut self.handovers, counts.handovers),
            comparisons: of(&mut self.comparisons, counts.comparisons),
            tombstones: of(&mut self.tombstones, counts.tombstones),
            ..self.progress
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_is_done_and_the_estimate_comes_true() {
        let mut meters = Meters::default();
        let (mut now_ns, mut left) = (5_000_000_000, 1_000);
        let mut first_guess = None;
        let mut seconds = 0;
        while left > 0 {
            now_ns += STEP_NS;
            assert!(meters.is_due(now_ns));
            (left, seconds) = (left - 20, seconds + 1);
            let counts = Counts {
                hints: (1_000 - left, left),
                ..Counts::default()
            };
            meters.measure(now_ns, counts);
            if seconds == 10 {
                first_guess = meters.progress.hints.seconds_left;
            }
        }
        let guess = first_guess.expect("something was done");
        assert!((38..=44).contains(&guess), "{guess} of 40");
        assert_eq!(meters.progress.hints.seconds_left, Some(0));
    }

    #[test]
    fn where_nothing_is_done_there_is_no_estimate() {
        let mut meter = Meter::default();
        let stuck = meter.measure(0, 7, STEP_NS);
        assert_eq!((stuck.milli_per_s, stuck.seconds_left), (0, None));
        // One that has stood still for long has none again.
        meter.measure(5, 2, STEP_NS);
        let mut last = WorkProgress::default();
        for _ in 0..60 {
            last = meter.measure(5, 2, STEP_NS);
        }
        assert_eq!(last.seconds_left, None);
    }
}
