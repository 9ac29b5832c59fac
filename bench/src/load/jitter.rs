//! The host's own hiccups, measured beside a run.
//!
//! Owns a thread that sleeps a millisecond at a time and writes down how late it woke. Never touches the target: what
//! it sees, the scheduler or the hypervisor did, and every thread on this machine may have felt it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clock::sharpen_timers;
use crate::stats::latencies::Latencies;

const SLEEP: Duration = Duration::from_millis(1);

/// A running meter.
#[derive(Debug)]
pub struct Jitter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Latencies>>,
}

impl Jitter {
    /// Starts to measure. A host that gives no thread gives no figures, and the run goes on.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let measure = move || {
            sharpen_timers();
            let mut late = Latencies::new();
            while !told.load(Ordering::Relaxed) {
                let from = Instant::now();
                std::thread::sleep(SLEEP);
                late.record(from.elapsed().saturating_sub(SLEEP).as_nanos() as u64);
            }
            late
        };
        Jitter {
            stop,
            thread: std::thread::Builder::new()
                .name("jitter".to_owned())
                .spawn(measure)
                .ok(),
        }
    }

    /// What was seen.
    pub fn stop(mut self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_its_sleeps_and_ends() {
        let jitter = Jitter::start();
        std::thread::sleep(Duration::from_millis(50));
        assert!(jitter.stop().count() > 1);
    }
}
