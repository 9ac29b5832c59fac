//! The two clocks of a turn, read once and handed to everything that happens in it.

use gramme_core::base::time::Now;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The present moment: `CLOCK_MONOTONIC` and `CLOCK_REALTIME`.
pub fn now() -> Now {
    let wall_ms = nanoseconds(clock_gettime(ClockId::Realtime)) / 1_000_000;
    Now {
        mono_ns: mono_ns(),
        #[cfg(not(feature = "test-clock"))]
        wall_ms,
        #[cfg(feature = "test-clock")]
        wall_ms: wall_ms.saturating_add_signed(wrong::by_ms()),
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

/// A wall clock that is wrong by as many milliseconds as a file says, the file that the environment names: tests of whole
/// processes set it so, also while they run.
#[cfg(feature = "test-clock")]
mod wrong {
    use std::path::PathBuf;
    use std::sync::Once;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    const NAME: &str = "GRAMME_TEST_CLOCK";
    const LOOK_EVERY: Duration = Duration::from_millis(20);

    static BY_MS: AtomicI64 = AtomicI64::new(0);
    static BEGUN: Once = Once::new();

    pub(super) fn by_ms() -> i64 {
        BEGUN.call_once(|| {
            let Some(path) = std::env::var_os(NAME).map(PathBuf::from) else {
                return;
            };
            let look = move || {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if let Ok(by_ms) = text.trim().parse() {
                    BY_MS.store(by_ms, Ordering::Relaxed);
                }
            };
            look();
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(LOOK_EVERY);
                    look();
                }
            });
        });
        BY_MS.load(Ordering::Relaxed)
    }
}
