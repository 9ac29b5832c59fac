//! The two clocks of a turn, read once and handed to everything that happens in it.

use gramme_core::base::time::Now;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The present moment: `CLOCK_MONOTONIC` and `CLOCK_REALTIME`.
pub fn now() -> Now {
    Now {
        mono_ns: mono_ns(),
        wall_ms: nanoseconds(clock_gettime(ClockId::Realtime)) / 1_000_000,
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn mono_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// A wall clock before 1970 counts as 1970.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
