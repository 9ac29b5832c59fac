//! Time as the core sees it: handed in with each event, never read.
//!
//! Owns the hybrid logical clock (Kulkarni et al., 2014): 48 bits of wall-clock milliseconds and a 16-bit counter, at
//! once the event counter of the version vector and the last-writer-wins timestamp.
//!
//! Invariants:
//! - [`HlcClock::tick`] never returns a value that it, or anything it observed, had before;
//! - a remote time further ahead than the allowed drift is refused, not absorbed.

use core::fmt;

use super::mutant::{self, Mutant};

/// The two clocks of one moment. `mono_ns` drives deadlines and timers; `wall_ms` feeds the hlc and expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Nanoseconds of a clock that never goes back, from any origin.
    pub mono_ns: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: u64,
}

/// A hybrid logical time: `wall_ms << 16 | counter`. Zero is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first time of a millisecond.
    pub const fn from_ms(wall_ms: u64) -> Self {
        Self(wall_ms << 16)
    }

    /// Its milliseconds since the Unix epoch.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The greatest time that is before this one; zero stays zero.
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The least time that is after this one.
    pub const fn after(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}.{}", self.ms(), self.0 & 0xffff)
    }
}

/// A remote clock is further ahead than `max_clock_drift`. State: unchanged, the time was not absorbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAhead {
    /// How far ahead of this node's wall clock it is.
    pub ahead_ms: u64,
    /// What is allowed.
    pub ahead_ms_max: u64,
}

/// A shard's own hybrid clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A clock that will only return times after `last`.
    pub const fn after(last: Hlc) -> Self {
        Self { last }
    }

    /// The greatest time issued or absorbed.
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// The next time: later than everything issued or absorbed, and not behind the wall clock.
    pub fn tick(&mut self, wall_ms: u64) -> Hlc {
        self.last = Hlc::from_ms(wall_ms).max(self.last.after());
        self.last
    }

    /// Absorbs a time met in an object or a session.
    ///
    /// # Errors
    /// [`ClockAhead`] when it is more than `ahead_ms_max` ahead of `wall_ms` (and of what was absorbed before).
    pub fn observe(&mut self, met: Hlc, wall_ms: u64, ahead_ms_max: u64) -> Result<(), ClockAhead> {
        if met <= self.last {
            return Ok(());
        }
        let ahead_ms = met.ms().saturating_sub(wall_ms);
        if ahead_ms > ahead_ms_max {
            return Err(ClockAhead {
                ahead_ms,
                ahead_ms_max,
            });
        }
        self.last = met;
        Ok(())
    }
}

/// A leap of the wall clock beyond this is not followed at once.
const LEAP_MS: u64 = 500;
/// How long other nodes have to object to it.
const LEAP_DOUBT_NS: u64 = 5_000_000_000;

/// The wall clock as writes are dated by it: a leap is followed when nobody has objected for some seconds. Times that were
/// used once cannot be taken back, and others would refuse what has them until their own clocks are there; what is dated by
/// a clock that is behind loses against what it follows.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// The last moment that was believed; none where others objected to what the start said.
    last: Option<Now>,
    /// Whether anything was dated by it in this run.
    is_used: bool,
    leapt_ns: Option<u64>,
    is_wrong: bool,
}

impl WallClock {
    /// Of a start: what the clock says then is believed unless others object, so that a leap before the first write is seen
    /// as one.
    pub const fn starting(now: Now) -> Self {
        Self {
            last: Some(now),
            is_used: false,
            leapt_ns: None,
            is_wrong: false,
        }
    }

    /// Whether other nodes say that the clock is wrong. Where what the start said is forgotten, what the clock said when
    /// another one's agreed with it last takes its place: else nothing would tell a leap between then and the first write.
    pub fn set_wrong(&mut self, agreed: Now, is_wrong: bool) {
        self.is_wrong = is_wrong;
        if is_wrong && !self.is_used {
            self.last = None;
        } else if !is_wrong {
            self.last.get_or_insert(agreed);
        }
    }

    /// Whether anything was dated by it in this run.
    pub const fn is_used(&self) -> bool {
        self.is_used
    }

    /// As [`Self::wall_ms`] where anything was dated by it in this run, else none.
    pub fn used_wall_ms(&mut self, now: Now) -> Option<u64> {
        self.is_used.then(|| self.wall_ms(now)).flatten()
    }

    /// The wall clock to date by: the present one, or where it should be if it had not leapt. None while nobody can tell.
    pub fn wall_ms(&mut self, now: Now) -> Option<u64> {
        if let Some(last) = self.last {
            let span_ms = now.mono_ns.saturating_sub(last.mono_ns) / 1_000_000;
            let due_ms = last.wall_ms.saturating_add(span_ms);
            // A start's clock that is set back before anything was dated by it was wrong at the start.
            let is_set = !self.is_used && now.wall_ms < due_ms;
            let is_followed = is_set || mutant::is(Mutant::LeapFollowed);
            if now.wall_ms.abs_diff(due_ms) > LEAP_MS && !is_followed {
                let leapt_ns = *self.leapt_ns.get_or_insert(now.mono_ns);
                if self.is_wrong || now.mono_ns.saturating_sub(leapt_ns) < LEAP_DOUBT_NS {
                    self.is_used = true;
                    return Some(due_ms);
                }
            }
        } else if self.is_wrong {
            return None;
        }
        self.last = Some(now);
        self.is_used = true;
        self.leapt_ns = None;
        Some(now.wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_followed_when_nobody_objects() {
        let at = |s: u64, wall_ms| Now {
            mono_ns: s * 1_000_000_000,
            wall_ms,
        };
        let mut clock = WallClock::starting(at(1, 1_000));
        let mut wall_ms = |s, wall_ms| clock.wall_ms(at(s, wall_ms)).unwrap_or(0);
        assert_eq!(wall_ms(2, 3_602_000), 2_000, "an hour too late");
        assert_eq!(wall_ms(3, 3_000), 3_000, "right again");
        assert_eq!(wall_ms(4, 3_604_000), 4_000);
        clock.set_wrong(at(4, 3_604_000), true);
        let mut wall_ms = |s, wall_ms| clock.wall_ms(at(s, wall_ms)).unwrap_or(0);
        assert_eq!(wall_ms(20, 3_620_000), 20_000, "others object");
        clock.set_wrong(at(20, 3_620_000), false);
        let mut wall_ms = |s, wall_ms| clock.wall_ms(at(s, wall_ms)).unwrap_or(0);
        assert_eq!(wall_ms(21, 20_900), 20_900, "right again");
        assert_eq!(wall_ms(22, 3_622_000), 21_900);
        assert_eq!(wall_ms(28, 3_628_000), 3_628_000, "nobody objects");
        assert_eq!(wall_ms(29, 5_000), 3_629_000, "back");
        assert_eq!(wall_ms(35, 11_000), 11_000, "nobody objects");
    }

    #[test]
    fn what_a_start_says_is_forgotten_when_others_object_before_anything_was_dated() {
        let at = |s: u64, wall_ms| Now {
            mono_ns: s * 1_000_000_000,
            wall_ms,
        };
        let mut clock = WallClock::starting(at(1, 3_600_000));
        clock.set_wrong(at(2, 3_601_000), true);
        assert_eq!(clock.wall_ms(at(2, 3_601_000)), None);
        clock.set_wrong(at(3, 3_000), false);
        assert_eq!(clock.wall_ms(at(3, 3_000)), Some(3_000), "at once");
        let mut clock = WallClock::starting(at(1, 3_600_000));
        assert_eq!(clock.wall_ms(at(2, 2_000)), Some(2_000), "set back");
    }

    #[test]
    fn a_leap_before_the_first_write_is_one_though_others_had_objected_to_the_start() {
        let at = |s: u64, wall_ms| Now {
            mono_ns: s * 1_000_000_000,
            wall_ms,
        };
        let mut clock = WallClock::starting(at(1, 1_000));
        clock.set_wrong(at(2, 1_100), true);
        clock.set_wrong(at(3, 600_000), false);
        assert_eq!(clock.wall_ms(at(4, 3_601_000)), Some(601_000));
        assert_eq!(clock.wall_ms(at(5, 602_000)), Some(602_000), "right again");
    }

    #[test]
    fn ticks_rise_though_the_wall_clock_stands_or_goes_back() {
        let mut clock = HlcClock::default();
        let times: Vec<Hlc> = [5, 5, 4, 9, 1]
            .into_iter()
            .map(|ms| clock.tick(ms))
            .collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert_eq!(times[3], Hlc::from_ms(9));
    }

    #[test]
    fn a_time_far_ahead_is_refused_and_not_absorbed() {
        let mut clock = HlcClock::default();
        let refused = clock.observe(Hlc::from_ms(10_000), 1_000, 500);
        assert_eq!(
            refused,
            Err(ClockAhead {
                ahead_ms: 9_000,
                ahead_ms_max: 500
            })
        );
        assert_eq!(clock.last(), Hlc::default());
        assert_eq!(clock.observe(Hlc::from_ms(1_400), 1_000, 500), Ok(()));
        assert!(clock.tick(1_000) > Hlc::from_ms(1_400));
    }
}
