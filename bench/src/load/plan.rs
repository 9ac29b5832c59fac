//! What one run does, with every default resolved.
//!
//! Owns the numbers. Never chooses them: the command line does.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::workload::trace::TraceEntry;
use crate::workload::{Process, Shape};

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

    /// The end of the schedule in nanoseconds from the start.
    pub fn end_ns(&self) -> u64 {
        self.duration.as_nanos() as u64
    }
}
