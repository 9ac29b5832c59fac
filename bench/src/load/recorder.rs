//! Where one worker writes what happened, one window at a time.
//!
//! Owns the three clocks of a request, kept apart:
//!
//! ```text
//!   intended ──wait──► free ──lag──► sent ──service──► answered        response = wait + lag + service
//!   the schedule's     a connection  written to        reply complete
//!   moment             was free      the socket
//! ```
//!
//! Never corrects a value afterwards: latency counts from the intended start in the first place.
//!
//! Invariants: each started request is recorded exactly once, failed ones too, with the time that they took.

use crate::stats::latencies::Latencies;
use crate::target::outcome::{ERROR_KINDS, ErrorKind, Outcome};
use crate::workload::Verb;

/// The moments of one request, in nanoseconds of the run.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// When the schedule wanted it to start.
    pub intended_ns: u64,
    /// When a connection was free for it; never before `intended_ns`.
    pub free_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When its answer was complete, or it was given up.
    pub answered_ns: u64,
}

/// What one worker saw in one window.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Intended start to answer, by verb.
    pub response: [Option<Latencies>; 6],
    /// Sent to answer.
    pub service: Latencies,
    /// Due and a connection free, to sent: how late the generator itself was.
    pub lag: Latencies,
    /// Intended start to a free connection.
    pub wait: Latencies,
    /// Counts.
    pub counts: Counts,
}

/// What is counted beside the histograms.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Requests that ended, failed ones too.
    pub ended: u64,
    /// Requests that were due.
    pub due: u64,
    /// Failures by kind.
    pub errors: [u64; ERROR_KINDS],
    /// Reads that found the right value.
    pub hits: u64,
    /// Reads that found nothing.
    pub misses: u64,
    /// Reads that found a value of somebody else.
    pub foreign: u64,
    /// Requests refused by the generator's own bound on requests in flight.
    pub capped: u64,
}

impl Counts {
    /// Adds `other`.
    pub fn merge(&mut self, other: &Counts) {
        self.ended += other.ended;
        self.due += other.due;
        self.hits += other.hits;
        self.misses += other.misses;
        self.foreign += other.foreign;
        self.capped += other.capped;
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors) {
            *mine += theirs;
        }
    }

    /// All failures.
    pub fn errors_total(&self) -> u64 {
        self.errors.iter().sum()
    }
}

impl Recorder {
    /// An empty one.
    pub fn new() -> Self {
        Recorder::default()
    }

    /// Writes down one request's end.
    #[inline]
    pub fn record(&mut self, verb: Verb, outcome: Outcome, moments: Moments) {
        let Moments {
            intended_ns,
            free_ns,
            sent_ns,
            answered_ns,
        } = moments;
        self.response[verb.index()]
            .get_or_insert_default()
            .record(answered_ns.saturating_sub(intended_ns));
        self.service.record(answered_ns.saturating_sub(sent_ns));
        self.lag.record(sent_ns.saturating_sub(free_ns));
        self.wait.record(free_ns.saturating_sub(intended_ns));
        self.counts.ended += 1;
        match outcome {
            Outcome::Done => {}
            Outcome::Hit => self.counts.hits += 1,
            Outcome::Miss => self.counts.misses += 1,
            Outcome::Foreign => self.counts.foreign += 1,
            Outcome::Failed(kind) => self.counts.errors[kind.index()] += 1,
        }
    }

    /// Writes down a request that was never sent: it has a response time (so far), but no service time.
    pub fn record_unsent(&mut self, verb: Verb, kind: ErrorKind, intended_ns: u64, now_ns: u64) {
        let waited_ns = now_ns.saturating_sub(intended_ns);
        self.response[verb.index()]
            .get_or_insert_default()
            .record(waited_ns);
        self.wait.record(waited_ns);
        self.counts.ended += 1;
        self.counts.errors[kind.index()] += 1;
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        for response in self.response.iter_mut().flatten() {
            response.clear();
        }
        self.service.clear();
        self.lag.clear();
        self.wait.clear();
        self.counts = Counts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_wait_plus_lag_plus_service_and_failures_are_in_it() {
        let mut recorder = Recorder::new();
        let moments = Moments {
            intended_ns: 1_000,
            free_ns: 3_000,
            sent_ns: 3_500,
            answered_ns: 10_500,
        };
        recorder.record(Verb::Read, Outcome::Hit, moments);
        recorder.record(
            Verb::Read,
            Outcome::Failed(ErrorKind::Timeout),
            Moments {
                answered_ns: 2_000_000_000,
                ..moments
            },
        );
        recorder.record_unsent(Verb::Write, ErrorKind::Timeout, 0, 5_000_000_000);
        let reads = recorder.response[Verb::Read.index()]
            .as_ref()
            .expect("recorded");
        assert_eq!(reads.count(), 2);
        assert_eq!(reads.max_ns(), 1_999_999_000);
        assert_eq!(
            (
                recorder.wait.quantile_ns(0.5),
                recorder.lag.max_ns(),
                recorder.service.quantile_ns(0.5)
            ),
            (2_000, 500, 7_003)
        );
        assert_eq!(recorder.counts.ended, 3);
        assert_eq!(recorder.counts.errors_total(), 2);
        let writes = recorder.response[Verb::Write.index()]
            .as_ref()
            .expect("recorded");
        assert_eq!(
            writes.max_ns(),
            5_000_000_000,
            "a request that was never sent still has its waiting time"
        );
    }
}
