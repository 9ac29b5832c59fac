//! What clients feel of this shard: the p99.9 of their requests over the last second, for the background's pace.
//!
//! Owns a histogram for each tenth of the last second: buckets an eighth of an octave wide (those of `stages`, which are
//! counted beside it), so that counting one request is an increment. Two things make a request slow, and each is counted for itself: what it waited for from one event to
//! another (the disk, a commit, other replicas), and how long the loop took for the turn that it came in and for the one
//! before, behind which it may have waited. The second is one entry a turn for all requests of it.
//!
//! Never reads a clock: waits are differences of the times that events carry; of a turn's length the runtime tells, and
//! where none does (the simulator), turns take no time.
//!
//! Invariant: one slow request alone is never the p99.9, however few there are. Of up to two thousand requests the second
//! slowest is taken.

use super::stages::{BUCKETS, Stage, Stages, bucket_of, floor_of};

/// One window.
pub(super) const WINDOW_NS: u64 = 100_000_000;
/// Windows that are looked back on, while there are few requests.
pub(super) const WINDOWS: u32 = 10;
/// Requests that are enough for a p99.9: no older window is looked at.
const REQUESTS_ENOUGH: u64 = 4000;
/// The slowest but so many are left out at least.
const RANK_MIN: u64 = 2;
/// Turns that follow each other within this were not parted by a sleep.
const GAP_NS_MAX: u64 = 50_000;

#[derive(Clone, Copy)]
struct Window {
    requests: u64,
    counts: [u32; BUCKETS],
}

const EMPTY: Window = Window {
    requests: 0,
    counts: [0; BUCKETS],
};

/// What was seen of the foreground.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// Requests that it rests on.
    pub(super) requests: u64,
    /// The p99.9 of how long they took.
    pub(super) p999_ns: u64,
}

/// The requests of the last second.
pub(crate) struct Foreground {
    windows: Box<[Window; WINDOWS as usize]>,
    newest: usize,
    /// Windows that have passed since nothing of before counts any more.
    windows_clean: u32,
    /// Requests that came in this turn; those of the last one, of which the length is not known yet.
    turn_requests: u32,
    turned_requests: u32,
    turn_ended_ns: u64,
    turn_took_ns: u64,
    /// Since the start.
    pub(super) stages: Stages,
}

impl Default for Foreground {
    fn default() -> Self {
        Self {
            windows: Box::new([EMPTY; WINDOWS as usize]),
            newest: 0,
            windows_clean: WINDOWS,
            turn_requests: 0,
            turned_requests: 0,
            turn_ended_ns: 0,
            turn_took_ns: 0,
            stages: Stages::default(),
        }
    }
}

impl Foreground {
    /// A request has come: a client's, or what another node asks for one.
    pub(crate) const fn begun(&mut self) {
        self.turn_requests = self.turn_requests.saturating_add(1);
    }

    /// A request was not answered at once: it has waited for something.
    pub(crate) fn waited(&mut self, stage: Stage, took_ns: u64) {
        if took_ns > 0 {
            self.record(stage, took_ns, 1);
        }
    }

    /// A turn is over.
    pub(super) fn turn_end(&mut self) {
        let requests = core::mem::take(&mut self.turn_requests);
        self.turned_requests = self.turned_requests.saturating_add(requests);
        if let Some(window) = self.windows.get_mut(self.newest) {
            window.requests += u64::from(requests);
        }
    }

    /// How long the turn took that is over, all that was carried out at its end included.
    pub(crate) fn turn_took(&mut self, began_ns: u64, ended_ns: u64) {
        let took_ns = ended_ns.saturating_sub(began_ns);
        let is_next = began_ns.saturating_sub(self.turn_ended_ns) < GAP_NS_MAX;
        let before_ns = if is_next { self.turn_took_ns } else { 0 };
        (self.turn_ended_ns, self.turn_took_ns) = (ended_ns, took_ns);
        let requests = core::mem::take(&mut self.turned_requests);
        if requests > 0 {
            self.record(Stage::Turn, took_ns.saturating_add(before_ns), requests);
        }
    }

    fn record(&mut self, stage: Stage, took_ns: u64, requests: u32) {
        self.stages.record(stage, took_ns, requests);
        let window = self.windows.get_mut(self.newest);
        if let Some(count) = window.and_then(|window| window.counts.get_mut(bucket_of(took_ns))) {
            *count = count.saturating_add(requests);
        }
    }

    /// So many windows have passed.
    pub(super) fn rotate(&mut self, windows: u64) {
        let windows = u32::try_from(windows).unwrap_or(WINDOWS).min(WINDOWS);
        for _ in 0..windows {
            self.newest = (self.newest + 1) % WINDOWS as usize;
            if let Some(window) = self.windows.get_mut(self.newest) {
                *window = EMPTY;
            }
        }
        self.windows_clean = (self.windows_clean + windows).min(WINDOWS);
    }

    /// Nothing of before counts any more: what is done now must be judged by what comes of it.
    pub(super) fn clear(&mut self) {
        *self.windows = [EMPTY; WINDOWS as usize];
        self.windows_clean = 0;
    }

    /// Whether a whole second lies behind what is seen.
    pub(super) const fn is_whole(&self) -> bool {
        self.windows_clean >= WINDOWS
    }

    /// What is seen now: the newest windows, as many as it takes for enough requests.
    pub(super) fn seen(&self) -> Seen {
        let mut counts = [0u64; BUCKETS];
        let mut requests = 0;
        for back in 0..WINDOWS as usize {
            let at = (self.newest + WINDOWS as usize - back) % WINDOWS as usize;
            let Some(window) = self.windows.get(at) else {
                break;
            };
            requests += window.requests;
            for (sum, count) in counts.iter_mut().zip(&window.counts) {
                *sum += u64::from(*count);
            }
            if requests >= REQUESTS_ENOUGH {
                break;
            }
        }
        let rank = RANK_MIN.max(requests / 1000);
        let mut slower = 0;
        let found = counts.iter().rposition(|count| {
            slower += count;
            slower >= rank
        });
        let p999_ns = found.map_or(0, |bucket| floor_of(bucket + 1));
        Seen { requests, p999_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn requests(foreground: &mut Foreground, count: u32) {
        (0..count).for_each(|_| foreground.begun());
        foreground.turn_end();
    }

    #[test]
    fn the_p999_is_the_slowest_of_a_thousand_and_never_one_request_alone() {
        let mut foreground = Foreground::default();
        requests(&mut foreground, 100);
        foreground.waited(Stage::DiskRead, 30 * MS);
        assert_eq!(foreground.seen().p999_ns, 0, "one of a hundred");
        foreground.waited(Stage::DiskRead, 20 * MS);
        let p999_ns = foreground.seen().p999_ns;
        assert!((20 * MS..=23 * MS).contains(&p999_ns), "{p999_ns}");
        requests(&mut foreground, 2_900);
        assert_eq!(foreground.seen().p999_ns, 0, "two of three thousand");
        foreground.waited(Stage::DiskRead, 5 * MS);
        let p999_ns = foreground.seen().p999_ns;
        assert!((5 * MS..=6 * MS).contains(&p999_ns), "{p999_ns}");
    }

    #[test]
    fn a_turn_counts_for_all_its_requests_and_the_one_before_unless_the_loop_slept() {
        let mut foreground = Foreground::default();
        foreground.turn_end();
        foreground.turn_took(1_000 * MS, 1_004 * MS);
        requests(&mut foreground, 3);
        foreground.turn_took(1_004 * MS, 1_005 * MS);
        let p999_ns = foreground.seen().p999_ns;
        assert!((5 * MS..=6 * MS).contains(&p999_ns), "{p999_ns}");
        foreground.clear();
        requests(&mut foreground, 3);
        foreground.turn_took(1_100 * MS, 1_101 * MS);
        let p999_ns = foreground.seen().p999_ns;
        assert!((MS..=2 * MS).contains(&p999_ns), "{p999_ns}");
    }

    #[test]
    fn what_is_older_than_the_windows_is_forgotten_and_enough_requests_hide_what_is_older() {
        let mut foreground = Foreground::default();
        requests(&mut foreground, 10);
        (0..10).for_each(|_| foreground.waited(Stage::DiskRead, 50 * MS));
        foreground.rotate(1);
        assert!(foreground.seen().p999_ns >= 50 * MS);
        requests(&mut foreground, 4_000);
        assert_eq!(foreground.seen().p999_ns, 0);
        foreground.rotate(u64::from(WINDOWS));
        assert_eq!(foreground.seen(), Seen::default());
    }
}
