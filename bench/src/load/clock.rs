//! The time of a run: nanoseconds since its start, monotonic.
//!
//! Owns the reading of clocks and precise waiting. Never reads the time of day.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The clock of one run; copies agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock {
            start: Instant::now(),
        }
    }

    /// A clock that starts `delay` from now; until then it reads zero.
    pub fn start_in(delay: Duration) -> Self {
        Clock {
            start: Instant::now() + delay,
        }
    }

    /// Nanoseconds since the start.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        // An hour-long run is 3.6e12 ns: far from 64 bits.
        Instant::now()
            .saturating_duration_since(self.start)
            .as_nanos() as u64
    }

    /// Sleeps to the start.
    pub fn wait_for_start(&self) {
        std::thread::sleep(self.start.saturating_duration_since(Instant::now()));
    }
}

/// CPU time of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    cpu_ns(ClockId::ThreadCPUTime)
}

/// CPU time of this process, all threads.
pub fn process_cpu_ns() -> u64 {
    cpu_ns(ClockId::ProcessCPUTime)
}

fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Lets the calling thread wake when it asked to: the kernel may otherwise be 50 µs late by choice.
pub fn sharpen_timers() {
    // A kernel that refuses leaves the timers as they were; lag is measured in any case.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}
