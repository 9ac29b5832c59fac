//! What one run does, with every default resolved.
//!
//! Owns the numbers. Never chooses them: the command line does.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::workload::trace::TraceEntry;
use crate::workload::{Process, Shape};

const CONNECTIONS_MAX: usize = 50_000;
const THREADS_MAX: usize = 1024;
const RATE_MAX: f64 = 1e9;
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How requests are paced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "kebab-case")]
pub enum Pace {
    /// Requests start when the schedule says, whether or not the target keeps up.
    Open {
        /// Requests a second.
        rate: f64,
        /// How they scatter.
        process: Process,
        /// How the rate moves.
        shape: Shape,
    },
    /// Each connection or thread asks again as soon as it was answered: latency says little, throughput much.
    Closed,
    /// A recorded load at its own times.
    Trace {
        /// The record.
        #[serde(skip)]
        entries: Arc<[TraceEntry]>,
    },
    /// Every key is written once, as fast as the target takes it.
    Fill,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// How requests are paced.
    #[serde(flatten)]
    pub pace: Pace,
    /// For how long requests are started.
    pub duration: Duration,
    /// Threads of the generator.
    pub threads: usize,
    /// Connections over all threads (servers only).
    pub connections: usize,
    /// Requests in flight on one connection or in one session.
    pub depth: usize,
    /// A request without an answer for so long has failed.
    pub timeout: Duration,
    /// Requests started or waiting for a connection, over all threads, beyond which new ones fail at once.
    pub in_flight_max: usize,
    /// Whether a thread spins the last microseconds before a request is due.
    pub spin: bool,
    /// The seed of schedule, keys and values.
    pub seed: u64,
    /// Length of the windows in which figures are kept.
    pub window: Duration,
    /// This generator's number among those that share the load, from 0 (agents).
    pub share_index: u64,
    /// How many generators share the load.
    pub share_count: u64,
}

impl LoadPlan {
    /// A window that keeps the number of windows of a run below about six hundred.
    pub fn window_for(duration: Duration) -> Duration {
        Duration::from_millis(100).max(duration / 600)
    }

    /// Why this plan cannot be run, if it cannot.
    pub fn problem(&self) -> Option<String> {
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Some(format!("--threads must be between 1 and {THREADS_MAX}"));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return Some(format!(
                "--connections must be between 1 and {CONNECTIONS_MAX}"
            ));
        }
        if self.depth == 0 || self.in_flight_max == 0 {
            return Some("--depth and --in-flight must be at least 1".to_owned());
        }
        if self.window.is_zero() || self.duration.is_zero() || self.duration > DURATION_MAX {
            return Some("--duration must be above zero and at most a week".to_owned());
        }
        match self.pace {
            Pace::Open { rate, .. } if !(rate > 0.0 && rate <= RATE_MAX) => Some(format!(
                "--rate must be above 0 and at most a thousand million, not {rate}"
            )),
            Pace::Open { .. } | Pace::Closed | Pace::Trace { .. } | Pace::Fill => None,
        }
    }

    /// The end of the schedule in nanoseconds from the start.
    pub fn end_ns(&self) -> u64 {
        self.duration.as_nanos() as u64
    }
}
