//! The greatest rate at which a promise holds: which rate to try next.
//!
//! Owns the search's state. Never runs anything: it asks for a step and is told how it went, so the tests drive it
//! with targets made of a formula.
//!
//! ```text
//!   bracket: ×2 while it holds ──► bisect (geometric mean) ──► confirm with a longer run ──► curve ──► done
//!            ÷4 while it does not                                └─ not confirmed: 5 % less
//! ```
//!
//! Invariants:
//! - a step that fails is tried once more before it counts, and twice more when the generator was in the way: a
//!   hiccup of the host must not halve the answer;
//! - the answer is a rate that a longer, valid run has confirmed, or `confirmed` is false.

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepResult {
    /// The promise held in a valid run.
    Held,
    /// It did not, or the target fell behind.
    Broken,
    /// The generator was the limit, so nothing is known about the target.
    GeneratorLimited,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A short run.
    Probe {
        /// At this rate.
        rate: f64,
    },
    /// A long run.
    Confirm {
        /// At this rate.
        rate: f64,
    },
    /// A short run for the curve only.
    Curve {
        /// At this rate.
        rate: f64,
    },
    /// Nothing more.
    Done,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The rate; zero when not even the least rate held.
    pub rate: f64,
    /// Whether a longer run held at it.
    pub confirmed: bool,
    /// Whether the generator and not the target set the upper end.
    pub generator_limited: bool,
}

/// Below this many requests a second there is nothing to be found.
pub const RATE_MIN: f64 = 5.0;
/// Parts of the rate at which a confirmation is tried, one after the other.
const CONFIRM: [f64; 6] = [1.0, 0.95, 0.9, 0.8, 0.65, 0.5];
/// Parts of the answer at which the curve gets its points.
const CURVE: [f64; 8] = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1];

/// A search.
#[derive(Debug, Clone)]
pub struct Search {
    start: f64,
    rate_min: f64,
    rate_max: f64,
    /// Bisection ends when the ends are this close (a ratio).
    precision: f64,
    held: Option<f64>,
    broken: Option<(f64, StepResult)>,
    /// How often the present step has failed.
    failed: u32,
    phase: Phase,
    tried: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Narrow,
    Confirm { rate: f64, place: usize },
    Curve { found: Found, next: usize },
}

impl Search {
    /// A search that begins at `start` and never goes above `rate_max`; `precision` of 0.03 ends at 3 %.
    pub fn new(start: f64, rate_max: f64, precision: f64) -> Self {
        let start = start.clamp(RATE_MIN, rate_max.max(RATE_MIN));
        Search {
            start,
            rate_min: RATE_MIN,
            rate_max,
            precision: 1.0 + precision.max(0.001),
            held: None,
            broken: None,
            failed: 0,
            phase: Phase::Narrow,
            tried: Vec::new(),
        }
    }

    /// The same search, which gives up when the promise does not hold at `rate_min` either.
    pub fn down_to(self, rate_min: f64) -> Self {
        Search {
            rate_min: rate_min.clamp(RATE_MIN, self.start),
            ..self
        }
    }

    /// What to do next.
    pub fn next_step(&self) -> Step {
        match self.phase {
            Phase::Narrow => Step::Probe {
                rate: self.narrow_rate(),
            },
            Phase::Confirm { rate, place } => Step::Confirm {
                rate: rate * CONFIRM.get(place).copied().unwrap_or(1.0),
            },
            Phase::Curve { found, next } => {
                CURVE.get(next).map_or(Step::Done, |part| Step::Curve {
                    rate: found.rate * part,
                })
            }
        }
    }

    fn narrow_rate(&self) -> f64 {
        match (self.held, self.broken) {
            (None, None) => self.start,
            (Some(held), None) => (held * 2.0).min(self.rate_max),
            (None, Some((broken, _))) => (broken / 4.0).max(self.rate_min),
            (Some(held), Some((broken, _))) => (held * broken).sqrt(),
        }
    }

    /// Takes in how the step that `next_step` named went.
    pub fn tell(&mut self, result: StepResult) {
        if let Phase::Curve { found, next } = self.phase {
            self.phase = self.curve_from(found, next + 1);
            return;
        }
        let tries = match result {
            StepResult::Held => 0,
            StepResult::Broken => 2,
            StepResult::GeneratorLimited => 3,
        };
        self.failed += 1;
        if self.failed < tries {
            return;
        }
        self.failed = 0;
        match self.phase {
            Phase::Narrow => self.tell_narrow(result),
            Phase::Confirm { rate, place } => self.tell_confirm(rate, place, result),
            Phase::Curve { .. } => {}
        }
    }

    fn tell_narrow(&mut self, result: StepResult) {
        let rate = self.narrow_rate();
        self.tried.push(rate);
        match result {
            StepResult::Held => self.held = Some(self.held.map_or(rate, |held| held.max(rate))),
            StepResult::Broken | StepResult::GeneratorLimited => self.broken = Some((rate, result)),
        }
        match (self.held, self.broken) {
            (Some(held), None) if held >= self.rate_max => self.confirm(held),
            (None, Some((broken, _))) if broken <= self.rate_min => self.finish(0.0, false),
            (Some(held), Some((broken, _))) if broken / held <= self.precision => {
                self.confirm(held)
            }
            _ => {}
        }
    }

    fn confirm(&mut self, rate: f64) {
        self.phase = Phase::Confirm { rate, place: 0 };
    }

    fn tell_confirm(&mut self, rate: f64, place: usize, result: StepResult) {
        let part = CONFIRM.get(place).copied().unwrap_or(1.0);
        if result == StepResult::Held {
            return self.finish(rate * part, true);
        }
        match CONFIRM.get(place + 1) {
            Some(next) if rate * next >= RATE_MIN => {
                self.phase = Phase::Confirm {
                    rate,
                    place: place + 1,
                }
            }
            _ => self.finish(rate * part, false),
        }
    }

    fn finish(&mut self, rate: f64, confirmed: bool) {
        let generator_limited = self
            .broken
            .is_some_and(|(_, result)| result == StepResult::GeneratorLimited);
        let found = Found {
            rate,
            confirmed,
            generator_limited,
        };
        self.phase = if rate > 0.0 {
            self.curve_from(found, 0)
        } else {
            Phase::Curve {
                found,
                next: CURVE.len(),
            }
        };
    }

    /// Skips parts of the curve near which a rate was tried already.
    fn curve_from(&self, found: Found, first: usize) -> Phase {
        let is_new = |part: &f64| {
            let rate = found.rate * part;
            rate >= RATE_MIN
                && self
                    .tried
                    .iter()
                    .all(|tried| (tried / rate).ln().abs() > 0.05)
        };
        let next = (first..CURVE.len())
            .find(|place| CURVE.get(*place).is_some_and(&is_new))
            .unwrap_or(CURVE.len());
        Phase::Curve { found, next }
    }

    /// What was found, once the narrowing is over.
    pub fn found(&self) -> Option<Found> {
        match self.phase {
            Phase::Curve { found, .. } => Some(found),
            Phase::Narrow | Phase::Confirm { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a whole search; `hiccup` breaks every n-th step once.
    fn search(
        mut search: Search,
        capacity: impl Fn(f64) -> StepResult,
        hiccup: usize,
    ) -> (Found, usize) {
        let mut steps = 0;
        loop {
            let rate = match search.next_step() {
                Step::Done => return (search.found().expect("done"), steps),
                Step::Probe { rate } | Step::Confirm { rate } | Step::Curve { rate } => rate,
            };
            steps += 1;
            assert!(steps < 100, "the search does not end");
            let broken_by_host = hiccup > 0 && steps % hiccup == 0;
            search.tell(if broken_by_host {
                StepResult::Broken
            } else {
                capacity(rate)
            });
        }
    }

    fn up_to(limit: f64) -> impl Fn(f64) -> StepResult {
        move |rate| {
            if rate <= limit {
                StepResult::Held
            } else {
                StepResult::Broken
            }
        }
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for (start, limit) in [
            (1000.0, 87_654.0),
            (1000.0, 37.0),
            (1000.0, 1000.0),
            (50_000.0, 900.0),
        ] {
            let (found, steps) = search(Search::new(start, 1e7, 0.03), up_to(limit), 0);
            assert!(found.confirmed && !found.generator_limited);
            assert!(
                (0.96..=1.0).contains(&(found.rate / limit)),
                "from {start}: {} of {limit}",
                found.rate
            );
            assert!(steps < 60, "{steps} steps");
        }
    }

    #[test]
    fn a_hiccup_now_and_then_does_not_halve_the_answer() {
        let (found, _) = search(Search::new(1000.0, 1e7, 0.03), up_to(20_000.0), 4);
        assert!((0.85..=1.0).contains(&(found.rate / 20_000.0)), "{found:?}");
    }

    #[test]
    fn a_target_that_never_holds_gives_zero() {
        let (found, _) = search(Search::new(1000.0, 1e7, 0.03), |_| StepResult::Broken, 0);
        assert_eq!(
            found,
            Found {
                rate: 0.0,
                confirmed: false,
                generator_limited: false
            }
        );
    }

    #[test]
    fn a_search_goes_no_lower_than_it_may() {
        let search_down = |limit| {
            let mut least = f64::INFINITY;
            let search_from = Search::new(1000.0, 1e7, 0.03).down_to(220.0);
            let (found, _) = search(search_from, |rate| up_to(limit)(rate), 0);
            let mut again = Search::new(1000.0, 1e7, 0.03).down_to(220.0);
            while let Step::Probe { rate } = again.next_step() {
                least = f64::min(least, rate);
                again.tell(up_to(limit)(rate));
            }
            (found.rate, least)
        };
        assert_eq!(search_down(100.0), (0.0, 220.0));
        let (rate, least) = search_down(230.0);
        assert!((220.0..=230.0).contains(&rate) && least == 220.0, "{rate}");
    }

    #[test]
    fn the_generators_limit_is_not_taken_for_the_targets() {
        let generator = |rate: f64| {
            if rate < 50_000.0 {
                StepResult::Held
            } else {
                StepResult::GeneratorLimited
            }
        };
        let (found, _) = search(Search::new(1000.0, 1e7, 0.03), generator, 0);
        assert!(found.confirmed && found.generator_limited);
    }

    #[test]
    fn what_a_longer_run_does_not_confirm_is_lowered() {
        let mut state = Search::new(1000.0, 1e7, 0.03);
        loop {
            match state.next_step() {
                Step::Probe { rate } => state.tell(up_to(10_000.0)(rate)),
                Step::Confirm { rate } => state.tell(up_to(9_000.0)(rate)),
                Step::Curve { .. } | Step::Done => break,
            }
        }
        let found = state.found().expect("confirmed");
        assert!(
            found.confirmed && found.rate <= 9_000.0 && found.rate > 8_400.0,
            "{found:?}"
        );
    }

    #[test]
    fn a_ceiling_is_respected() {
        let (found, _) = search(Search::new(1000.0, 3000.0, 0.03), |_| StepResult::Held, 0);
        assert_eq!((found.rate, found.confirmed), (3000.0, true));
    }
}
