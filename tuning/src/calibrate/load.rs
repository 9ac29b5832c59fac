//! One measured load: a fixed number of operations kept in flight for a fixed time.
//!
//! Owns the closed loop and its figures.
//! Never warms up inside the figures: the first tenth of the time is run and thrown away.
//!
//! Why a closed loop: this measures the device, and `latency = depth / throughput` is the curve that is wanted. The
//! latency of a service under an open load is the business of the bench package.

use super::scratch::Scratch;
use super::{CalibrateError, profile::Sustained};
use crate::sys::{self, Op, Ring};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::{Duration, Instant};

/// Two halves of one measurement that differ by more than this are not a steady state, in percent.
const DISAGREEMENT_PERCENT_MAX: u64 = 10;
/// Above this share of one CPU the loop, not the disk, is what was measured.
const CPU_PERCENT_MAX: u64 = 90;
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Random reads.
    Read,
    /// Random writes, in the device's cache when they return.
    Write,
    /// Random writes with `O_DSYNC`.
    DurableWrite,
    /// A write and then `fdatasync`, counted as one.
    WriteThenSync,
    /// Random reads beside a stream of bulk writes.
    Mixed,
}

/// One point of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What was done.
    pub kind: Kind,
    /// Operations in flight.
    pub depth: usize,
    /// Size of each.
    pub bytes: u32,
    /// Rate.
    pub operations_per_s: u64,
    /// Median latency.
    pub latency_ns_p50: u64,
    /// 99th percentile.
    pub latency_ns_p99: u64,
    /// 99.9th percentile.
    pub latency_ns_p999: u64,
    /// Slowest.
    pub latency_ns_max: u64,
    /// How much of one CPU the measuring loop used.
    pub cpu_percent: u64,
    /// The two halves of the time agreed.
    pub steady: bool,
    /// The CPU, not the disk, was the limit.
    pub cpu_bound: bool,
    /// Rate of the stream beside it, for a mixed load.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bulk_bytes_per_s: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) kind: Kind,
    pub(super) depth: usize,
    pub(super) bytes: u32,
    pub(super) bulk_depth: usize,
    pub(super) bulk_bytes: u32,
}

impl Load {
    pub(super) fn new(kind: Kind, depth: usize, bytes: u32) -> Self {
        Self {
            kind,
            depth,
            bytes,
            bulk_depth: 0,
            bulk_bytes: 0,
        }
    }

    pub(super) fn describe(&self) -> String {
        let what = match self.kind {
            Kind::Read => "random reads",
            Kind::Write => "random writes",
            Kind::DurableWrite => "durable writes",
            Kind::WriteThenSync => "write, then fdatasync",
            Kind::Mixed => "random reads beside bulk writes",
        };
        format!("{what}, {} bytes, {} in flight", self.bytes, self.depth)
    }
}

/// State of one slot.
#[derive(Clone, Copy)]
struct Flight {
    begun: Instant,
    op: Op,
}

struct Loop<'a> {
    scratch: &'a Scratch,
    load: Load,
    random: u64,
    bulk_offset: u64,
}

impl Loop<'_> {
    fn next_op(&mut self, slot: usize) -> Op {
        if slot >= self.load.depth {
            let bytes = self.load.bulk_bytes;
            let offset = self.bulk_offset;
            let next = offset + u64::from(bytes);
            self.bulk_offset = if next + u64::from(bytes) > self.scratch.size_bytes() {
                0
            } else {
                next
            };
            return Op::Write { offset, bytes };
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let bytes = self.load.bytes;
        let places = (self.scratch.size_bytes() / u64::from(bytes)).max(1);
        let offset = (self.random % places) * u64::from(bytes);
        match self.load.kind {
            Kind::Read | Kind::Mixed => Op::Read { offset, bytes },
            Kind::Write | Kind::DurableWrite | Kind::WriteThenSync => Op::Write { offset, bytes },
        }
    }
}

/// Runs a load for `time` and returns its point.
pub(super) fn run(scratch: &Scratch, load: Load, time: Duration) -> Result<Point, CalibrateError> {
    let failed = |cause| CalibrateError::Disk {
        point: load.describe(),
        cause,
    };
    let file = scratch
        .open(load.kind == Kind::DurableWrite)
        .map_err(failed)?;
    let slot_count = load.depth + load.bulk_depth;
    let bytes_max = load.bytes.max(load.bulk_bytes) as usize;
    let mut ring = Ring::new(file, slot_count, bytes_max).map_err(CalibrateError::Ring)?;
    let mut state = Loop {
        scratch,
        load,
        random: 0x2545_f491_4f6c_dd1d,
        bulk_offset: 0,
    };
    let warm_up = time / 10;
    let mut tally = Tally::new(time);
    let mut flights: Vec<Flight> = Vec::new();
    let begin = Instant::now();
    for slot in 0..slot_count {
        let op = state.next_op(slot);
        flights.push(Flight {
            begun: Instant::now(),
            op,
        });
        ring.start(slot, op).map_err(failed)?;
    }
    let mut cpu_start = sys::thread_cpu_time();
    let mut finished: Vec<(usize, io::Result<u32>)> = Vec::new();
    loop {
        ring.wait(&mut |slot, result| finished.push((slot, result)))
            .map_err(failed)?;
        let now = Instant::now();
        let elapsed = now.duration_since(begin);
        if elapsed >= warm_up + time {
            break;
        }
        if tally.begun.is_none() && elapsed >= warm_up {
            tally.begun = Some(now);
            cpu_start = sys::thread_cpu_time();
        }
        for (slot, result) in finished.drain(..) {
            let result = result.map_err(failed)?;
            let Some(flight) = flights.get_mut(slot) else {
                continue;
            };
            let wanted = match flight.op {
                Op::Read { bytes, .. } | Op::Write { bytes, .. } => bytes,
                Op::Sync => 0,
            };
            if result != wanted {
                return Err(failed(io::Error::other(format!(
                    "{result} bytes instead of {wanted}"
                ))));
            }
            // A write that must still be synced stays one operation, with the time of both.
            if load.kind == Kind::WriteThenSync && matches!(flight.op, Op::Write { .. }) {
                flight.op = Op::Sync;
                ring.start(slot, Op::Sync).map_err(failed)?;
                continue;
            }
            if slot >= load.depth {
                tally.bulk(wanted);
            } else {
                tally.operation(now, now.duration_since(flight.begun));
            }
            let op = state.next_op(slot);
            *flight = Flight { begun: now, op };
            ring.start(slot, op).map_err(failed)?;
        }
    }
    let cpu = sys::thread_cpu_time().saturating_sub(cpu_start);
    Ok(tally.point(load, cpu))
}

struct Tally {
    time: Duration,
    begun: Option<Instant>,
    histogram: Histogram<u64>,
    halves: [u64; 2],
    bulk_bytes: u64,
}

impl Tally {
    fn new(time: Duration) -> Self {
        let histogram = Histogram::new_with_max(LATENCY_NS_MAX, 3)
            .unwrap_or_else(|_| unreachable!("constant bounds"));
        Self {
            time,
            begun: None,
            histogram,
            halves: [0, 0],
            bulk_bytes: 0,
        }
    }

    fn operation(&mut self, now: Instant, latency: Duration) {
        let Some(begun) = self.begun else { return };
        self.histogram
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        let [first, second] = &mut self.halves;
        if now.duration_since(begun) < self.time / 2 {
            *first += 1;
        } else {
            *second += 1;
        }
    }

    fn bulk(&mut self, bytes: u32) {
        if self.begun.is_some() {
            self.bulk_bytes += u64::from(bytes);
        }
    }

    fn point(&self, load: Load, cpu: Duration) -> Point {
        let per_s = |count: u64| {
            let per_ns = u128::from(count) * 1_000_000_000 / self.time.as_nanos().max(1);
            u64::try_from(per_ns).unwrap_or(u64::MAX)
        };
        let [first, second] = self.halves;
        let cpu_percent = cpu.as_nanos().saturating_mul(100) / self.time.as_nanos().max(1);
        let cpu_percent = u64::try_from(cpu_percent).unwrap_or(u64::MAX);
        Point {
            kind: load.kind,
            depth: load.depth,
            bytes: load.bytes,
            operations_per_s: per_s(first + second),
            latency_ns_p50: self.histogram.value_at_quantile(0.5),
            latency_ns_p99: self.histogram.value_at_quantile(0.99),
            latency_ns_p999: self.histogram.value_at_quantile(0.999),
            latency_ns_max: self.histogram.max(),
            cpu_percent,
            steady: first.abs_diff(second).saturating_mul(100)
                <= first.max(second) * DISAGREEMENT_PERCENT_MAX,
            cpu_bound: cpu_percent > CPU_PERCENT_MAX,
            bulk_bytes_per_s: per_s(self.bulk_bytes),
        }
    }
}

/// Writes in bulk for `time` and compares the beginning with the end: a cache that fills up shows here.
pub(super) fn run_sustained(
    scratch: &Scratch,
    time: Duration,
    bytes: u32,
) -> Result<Sustained, CalibrateError> {
    const WINDOW_COUNT: u32 = 12;
    let window = time / WINDOW_COUNT;
    let mut rates: Vec<u64> = Vec::new();
    for _ in 0..WINDOW_COUNT {
        // Ten elevenths: the load adds a tenth of its own as warm-up.
        let load = Load::new(Kind::Write, 8, bytes);
        let point = run(scratch, load, window * 10 / 11)?;
        rates.push(point.operations_per_s.saturating_mul(u64::from(bytes)));
    }
    let third = rates.len() / 3;
    let burst_bytes_per_s = median(rates.get(..third).unwrap_or_default());
    let steady_bytes_per_s = median(rates.get(rates.len() - third..).unwrap_or_default());
    let last = rates.get(rates.len() - third..).unwrap_or_default();
    let spread = last
        .iter()
        .max()
        .unwrap_or(&0)
        .saturating_sub(*last.iter().min().unwrap_or(&0));
    let settled = spread.saturating_mul(100)
        <= steady_bytes_per_s.saturating_mul(2 * DISAGREEMENT_PERCENT_MAX);
    Ok(Sustained {
        burst_bytes_per_s,
        steady_bytes_per_s,
        settled,
        seconds: time.as_secs_f64(),
    })
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
