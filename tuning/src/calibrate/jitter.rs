//! Jitter: for how long the machine takes each core away, and how late it wakes a sleeper.
//!
//! Owns two probes on every core at once: a timer that should fire each millisecond, and a loop that watches the clock.
//! Never needs root: it asks for no real-time priority, because a node has none either.

use crate::cpus::CpuSet;
use crate::sys;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(1);
/// A pause of the watching loop that is longer than this was not its own work.
const PAUSE: Duration = Duration::from_micros(10);
const LATENCY_NS_MAX: u64 = 10_000_000_000;

/// One core.
#[derive(Clone, Debug, Serialize)]
pub struct CoreJitter {
    /// Its number.
    pub cpu: u32,
    /// How late a sleeper woke, median.
    pub wake_up_ns_p50: u64,
    /// 99th percentile.
    pub wake_up_ns_p99: u64,
    /// Latest.
    pub wake_up_ns_max: u64,
    /// Longest pause of a loop that never sleeps.
    pub pause_ns_max: u64,
    /// Pauses above 10 µs, in each second.
    pub pauses_per_s: u64,
    /// Time lost in them, in parts of a million.
    pub lost_ppm: u64,
}

/// Measures every CPU of the set at once, for `time` each probe.
pub fn measure_jitter(cpus: &CpuSet, time: Duration) -> io::Result<Vec<CoreJitter>> {
    let threads: io::Result<Vec<_>> = cpus
        .iter()
        .map(|cpu| {
            thread::Builder::new()
                .name(format!("jitter-{cpu}"))
                .spawn(move || measure_core(cpu, time))
        })
        .collect();
    let mut cores = Vec::new();
    for thread in threads? {
        cores.push(
            thread
                .join()
                .map_err(|_| io::Error::other("a measuring thread panicked"))??,
        );
    }
    Ok(cores)
}

fn measure_core(cpu: u32, time: Duration) -> io::Result<CoreJitter> {
    sys::pin_to(cpu)?;
    sys::set_least_timer_slack()?;
    let mut late = Histogram::<u64>::new_with_max(LATENCY_NS_MAX, 3).map_err(io::Error::other)?;
    let end = sys::monotonic() + time;
    let mut next = sys::monotonic() + TICK;
    while next < end {
        sys::sleep_until(next);
        let now = sys::monotonic();
        late.saturating_record(
            u64::try_from(now.saturating_sub(next).as_nanos()).unwrap_or(u64::MAX),
        );
        // A tick that was missed is one late tick, not many.
        next = (next + TICK).max(now);
    }
    let begin = Instant::now();
    let (mut last, mut longest, mut lost, mut pause_count) =
        (begin, Duration::ZERO, Duration::ZERO, 0_u64);
    while last.duration_since(begin) < time {
        let now = Instant::now();
        let gap = now.duration_since(last);
        if gap > PAUSE {
            pause_count += 1;
            lost += gap;
        }
        longest = longest.max(gap);
        last = now;
    }
    let time_ns = time.as_nanos().max(1);
    let ratio = |part: u128, unit: u128| u64::try_from(part * unit / time_ns).unwrap_or(u64::MAX);
    Ok(CoreJitter {
        cpu,
        wake_up_ns_p50: late.value_at_quantile(0.5),
        wake_up_ns_p99: late.value_at_quantile(0.99),
        wake_up_ns_max: late.max(),
        pause_ns_max: u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX),
        pauses_per_s: ratio(u128::from(pause_count), 1_000_000_000),
        lost_ppm: ratio(lost.as_nanos(), 1_000_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_measured_without_privileges() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .unwrap();
        let first: CpuSet = CpuSet::from_list(allowed).unwrap().iter().take(1).collect();
        let cores = measure_jitter(&first, Duration::from_millis(20)).unwrap();
        assert_eq!(cores.len(), 1);
        assert!(
            cores
                .iter()
                .all(|core| core.wake_up_ns_p50 <= core.wake_up_ns_max)
        );
    }
}
