//! How fast the background may go: as fast as the clients' p99.9 allows.
//!
//! Owns the background's share of its greatest rate, and the account of what it has spent of it. Every tenth of a second
//! the p99.9 of the foreground is held against the promise (`sla_p999`):
//!
//! ```text
//!  p99.9 from 100 % of the promise    the share is halved
//!             80 %                    a quarter is taken off
//!             60 %                    it stays
//!        below 60 %                   a sixty-fourth of the whole is added, where the background was held back
//! ```
//!
//! What was seen before a cut does not count after it, so one bad moment cuts once; and a cut takes 0.1 s to act.
//! Additive up and multiplicative down (Chiu and Jain, 1989) settles below the promise and gives all jobs their part. A
//! share that nobody uses is not raised, and is small again after a second without work: what has just begun must not
//! come at a rate that was earned by nothing.
//!
//! The floor is a sixty-fourth of the whole: hints and repair must end some day. Where the p99.9 stays bad at the floor
//! for two seconds, the background is not the cause (a slow disk, a node that is away, too many clients), and staying
//! there would starve repair for nothing: for half a minute the clients are *excused*: the share is then held against
//! what they had at the floor, and may go up while it adds less than a half to that. Then it is tried anew, or
//! when the promise was kept for three seconds.
//!
//! Never stops anything that was begun: a step spends what it needs, and the next waits until that is paid off. The
//! cleaner and checkpoints heed the share and have rates of their own, in `clean` and `checkpoints`: the less free space,
//! the less they heed it, for without space writes fail.
//!
//! Why not shares of CPU and disk time: which of them hurts differs by device and load; the clients' time has all of it.

use super::foreground::{Foreground, Seen, WINDOW_NS};

/// Bytes a second, for one shard, unless configured otherwise.
pub const BACKGROUND_BYTES_PER_S_DEFAULT: u64 = 64 << 20;
/// The promise, unless configured otherwise.
pub const SLA_P999_NS_DEFAULT: u64 = 10_000_000;
/// What may be spent at once after a pause.
const BURST_NS: u64 = 50_000_000;
/// Nothing is slower than this, unless the whole is.
const BYTES_PER_S_MIN: u64 = 64 << 10;

/// All of the greatest rate; shares are parts of it.
pub(super) const WHOLE: u64 = 1024;
const FLOOR: u64 = WHOLE / 64;
const STEP: u64 = WHOLE / 64;
/// What work begins with after a rest.
const START: u64 = WHOLE / 8;

/// Requests that are enough to raise the share by, where no whole second was seen: fewer show that the p99.9 is bad, not
/// that it is good.
const REQUESTS_TO_RAISE: u64 = 2000;
/// After so long without work the background rests.
const REST_NS: u64 = 1_000_000_000;
/// The p99.9 is bad at the floor for so long: the background is not the cause.
const FUTILE_NS: u64 = 2_000_000_000;
/// How long that counts.
const EXCUSED_NS: u64 = 30_000_000_000;
/// An excuse ends when the promise was kept for so long again: a p99.9 goes up and down by itself.
const KEPT_AGAIN_NS: u64 = 3_000_000_000;
/// The longest that an answer to another node's background is held back.
const ANSWER_DELAY_NS_MAX: u64 = 500_000_000;

/// What an operator says of the background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaceConfig {
    /// The p99.9 that clients are promised: the background slows down before it is missed. Shorter makes repair, transfer
    /// and cleaning slower under load, longer makes clients feel them.
    pub sla_p999_ns: u64,
    /// The most that this shard's background moves, in bytes a second.
    pub bytes_per_s: u64,
}

impl Default for PaceConfig {
    fn default() -> Self {
        Self {
            sla_p999_ns: SLA_P999_NS_DEFAULT,
            bytes_per_s: BACKGROUND_BYTES_PER_S_DEFAULT,
        }
    }
}

/// The p99.9 that clients have without the background's doing, and until when that is believed.
#[derive(Clone, Copy, Debug)]
struct Excuse {
    p999_ns: u64,
    until_ns: u64,
}

/// What is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PaceStatus {
    pub(super) bytes_per_s: u64,
    pub(super) share_permille: u64,
    pub(super) p999_ns: u64,
    pub(super) cuts: u64,
    pub(super) excuses: u64,
}

/// The pace of one shard's background.
pub(crate) struct BackgroundPace {
    config: PaceConfig,
    /// What clients feel.
    pub(crate) foreground: Foreground,
    // the share
    share: u64,
    judged_ns: u64,
    /// What is seen before this does not count: a cut has yet to act.
    blind_until_ns: u64,
    floor_since_ns: Option<u64>,
    /// When the p99.9 was near the promise or beyond it last.
    broken_ns: u64,
    excuse: Option<Excuse>,
    // the account
    /// The moment up to which everything spent is paid off.
    paid_upto_ns: u64,
    /// Spent since the last look.
    spent: u64,
    worked_ns: Option<u64>,
    is_held_back: bool,
    // for people
    seen: Seen,
    cuts: u64,
    excuses: u64,
}

impl Default for BackgroundPace {
    fn default() -> Self {
        Self::new(PaceConfig::default())
    }
}

impl BackgroundPace {
    pub(super) fn new(config: PaceConfig) -> Self {
        Self {
            config: PaceConfig {
                sla_p999_ns: config.sla_p999_ns.max(1),
                bytes_per_s: config.bytes_per_s.max(1024),
            },
            foreground: Foreground::default(),
            share: START,
            judged_ns: 0,
            blind_until_ns: 0,
            floor_since_ns: None,
            broken_ns: 0,
            excuse: None,
            paid_upto_ns: 0,
            spent: 0,
            worked_ns: None,
            is_held_back: false,
            seen: Seen::default(),
            cuts: 0,
            excuses: 0,
        }
    }

    /// Bytes a second now.
    pub(super) fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s_of(self.share)
    }

    /// Bytes a second of a share.
    pub(super) fn bytes_per_s_of(&self, share: u64) -> u64 {
        let whole = self.config.bytes_per_s;
        let bytes_per_s = whole.saturating_mul(share) / WHOLE;
        bytes_per_s.max(whole.min(BYTES_PER_S_MIN))
    }

    /// The share now.
    pub(super) const fn share(&self) -> u64 {
        self.share
    }

    /// Whether something may be begun now.
    pub(crate) const fn is_open(&self, now_ns: u64) -> bool {
        self.paid_upto_ns <= now_ns
    }

    /// From when on something may be begun.
    pub(super) const fn open_ns(&self) -> u64 {
        self.paid_upto_ns
    }

    /// Spends so many bytes.
    pub(crate) fn spend(&mut self, now_ns: u64, bytes: u64) {
        let cost_ns = bytes.saturating_mul(1_000_000_000 / 1024) / (self.bytes_per_s() / 1024);
        self.paid_upto_ns = self
            .paid_upto_ns
            .max(now_ns.saturating_sub(BURST_NS))
            .saturating_add(cost_ns);
        self.spent = self.spent.saturating_add(bytes);
        self.worked_ns = Some(now_ns);
    }

    /// Another node's background is answered at this time: one that has as many questions open as it may then goes at
    /// this shard's pace.
    pub(crate) fn answer_at_ns(&self, now_ns: u64) -> u64 {
        let latest_ns = now_ns.saturating_add(ANSWER_DELAY_NS_MAX);
        self.paid_upto_ns.clamp(now_ns, latest_ns)
    }

    /// Something works at a pace of its own that heeds the share, and has more to do.
    pub(super) const fn held_back(&mut self, now_ns: u64) {
        self.worked_ns = Some(now_ns);
        self.is_held_back = true;
    }

    /// A turn is over.
    pub(super) fn turn_end(&mut self, now_ns: u64) {
        let windows = now_ns.saturating_sub(self.judged_ns) / WINDOW_NS;
        // All but one of the windows went by before this turn.
        self.foreground.rotate(windows.saturating_sub(1));
        self.foreground.turn_end();
        if windows > 0 {
            self.judge(now_ns);
            self.judged_ns = now_ns;
        }
    }

    /// Looks at the windows that have passed, and sets the share.
    fn judge(&mut self, now_ns: u64) {
        let allowed = self.bytes_per_s() / (1_000_000_000 / WINDOW_NS);
        let is_held_back = core::mem::take(&mut self.is_held_back)
            || self.spent >= allowed / 2
            || !self.is_open(now_ns);
        self.spent = 0;
        if now_ns < self.blind_until_ns {
            return;
        }
        if core::mem::take(&mut self.blind_until_ns) > 0 {
            self.foreground.clear();
            return;
        }
        let (seen, is_whole) = (self.foreground.seen(), self.foreground.is_whole());
        self.foreground.rotate(1);
        self.seen = seen;
        let is_at_rest = self
            .worked_ns
            .is_none_or(|worked_ns| worked_ns.saturating_add(REST_NS) < now_ns);
        if is_at_rest || seen.requests == 0 && is_whole {
            // Nobody is in the way of anybody.
            self.share = if is_at_rest { START } else { WHOLE };
            self.floor_since_ns = None;
            return;
        }
        let (raise_below_ns, cut_from_ns, halve_from_ns) = self.limits(now_ns, seen);
        if seen.p999_ns < cut_from_ns {
            self.floor_since_ns = None;
            let is_enough = is_whole || seen.requests >= REQUESTS_TO_RAISE;
            if seen.p999_ns < raise_below_ns && is_held_back && is_enough {
                self.share = (self.share + STEP).min(WHOLE);
            }
        } else if self.share > FLOOR {
            let share = if seen.p999_ns >= halve_from_ns {
                self.share / 2
            } else {
                self.share / 4 * 3
            };
            self.share = share.max(FLOOR);
            self.cuts += 1;
            self.blind_until_ns = now_ns.saturating_add(WINDOW_NS);
        } else {
            self.is_futile(now_ns, seen);
        }
    }

    /// Below which p99.9 the share is raised, from which on it is cut, and halved.
    fn limits(&mut self, now_ns: u64, seen: Seen) -> (u64, u64, u64) {
        let sla_ns = self.config.sla_p999_ns;
        let kept = (sla_ns / 5 * 3, sla_ns / 5 * 4, sla_ns);
        if seen.p999_ns >= kept.1 {
            self.broken_ns = now_ns;
        }
        let is_kept = now_ns.saturating_sub(self.broken_ns) >= KEPT_AGAIN_NS;
        match self.excuse {
            Some(excuse) if excuse.until_ns > now_ns && !is_kept => {
                let p999_ns = excuse.p999_ns;
                (p999_ns / 5 * 6, p999_ns / 2 * 3, p999_ns * 2)
            }
            Some(_) | None => {
                self.excuse = None;
                kept
            }
        }
    }

    /// The p99.9 is bad though the share is as small as it gets.
    fn is_futile(&mut self, now_ns: u64, seen: Seen) {
        let since_ns = *self.floor_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) >= FUTILE_NS {
            self.floor_since_ns = None;
            self.excuses += 1;
            self.excuse = Some(Excuse {
                p999_ns: seen.p999_ns,
                until_ns: now_ns.saturating_add(EXCUSED_NS),
            });
        }
    }

    pub(super) fn status(&self) -> PaceStatus {
        PaceStatus {
            bytes_per_s: self.bytes_per_s(),
            share_permille: self.share * 1000 / WHOLE,
            p999_ns: self.seen.p999_ns,
            cuts: self.cuts,
            excuses: self.excuses,
        }
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
