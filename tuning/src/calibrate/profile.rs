//! `io.toml`: what was measured, and what a node should make of it.
//!
//! Owns the format, the conclusions, and the comparison with the last time.
//! Never rounds a measurement to make two runs agree.
//!
//! Invariants:
//! - `recommend` follows from the points in the same file and from nothing else;
//! - the file is replaced as a whole: a reader sees the old or the new one.

use super::CalibrateError;
use super::device::Device;
use super::load::Point;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const FORMAT: u32 = 1;
/// A doubling of the depth that gives less than this more operations mostly buys waiting, in percent.
const GAIN_PERCENT_MIN: f64 = 20.0;
/// A depth that gives this share of the best rate gives nearly all of it, in percent.
const PLATEAU_PERCENT: u64 = 90;
/// The cleaner may take this share of the steady write rate, in percent.
const CLEANER_PERCENT: u64 = 25;
/// Figures that moved more than this are worth a warning, in percent.
const CHANGE_PERCENT_MAX: u64 = 30;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Version of this format.
    pub format: u32,
    /// When, in seconds since 1970.
    pub measured_at_s: u64,
    /// What a node should use.
    pub recommend: Recommend,
    /// What was measured.
    pub device: Device,
    /// The true block.
    pub block: BlockSize,
    /// Reads beside bulk writes.
    pub interference: Interference,
    /// Burst against steady state.
    pub sustained: Sustained,
    /// A write and then `fdatasync`, one at a time.
    pub write_then_sync: Point,
    /// Reads in bulk.
    pub bulk_read: Point,
    /// Random reads against depth.
    pub reads: Vec<Point>,
    /// Random writes against depth.
    pub writes: Vec<Point>,
    /// Writes with `O_DSYNC` against depth.
    pub durable_writes: Vec<Point>,
}

/// What follows for a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommend {
    /// Reads to keep in flight for the best of rate and latency, over all shards.
    pub read_depth: usize,
    /// Reads to have in flight at most, over all shards: deeper gives hardly more. A bound at `read_depth` would cost
    /// rate that a busy node needs.
    pub read_depth_max: usize,
    /// Writes to keep in flight, over all shards.
    pub write_depth: usize,
    /// Durable commits to keep in flight, over all shards.
    pub commit_depth: usize,
    /// Size to which commits are padded.
    pub block_bytes: u32,
    /// Rate of the cleaner and other background writes at most.
    pub background_bytes_per_s: u64,
    /// Reads that the device gives at `read_depth_max`: admission stops above it.
    pub reads_per_s: u64,
    /// Durable writes that the device gives at `commit_depth`.
    pub durable_writes_per_s: u64,
}

/// The device's true block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockSize {
    /// What O_DIRECT demands.
    pub alignment_bytes: u32,
    /// The smallest durable write that costs no more than the cheapest.
    pub true_bytes: u32,
    /// Median latency of a durable write, by its size in bytes.
    pub durable_write_ns_p50: BTreeMap<String, u64>,
}

/// Reads alone and beside a stream of bulk writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interference {
    /// Median of a read alone.
    pub read_ns_p50_alone: u64,
    /// 99.9th percentile of a read alone.
    pub read_ns_p999_alone: u64,
    /// Median of a read beside the writes.
    pub read_ns_p50_mixed: u64,
    /// 99.9th percentile of a read beside the writes.
    pub read_ns_p999_mixed: u64,
    /// Reads beside the writes.
    pub reads_per_s_mixed: u64,
    /// The writes themselves.
    pub bulk_write_bytes_per_s: u64,
}

/// Bulk writes over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sustained {
    /// Median of the first third.
    pub burst_bytes_per_s: u64,
    /// Median of the last third.
    pub steady_bytes_per_s: u64,
    /// The last third kept one rate; otherwise measure for longer.
    pub settled: bool,
    /// How long.
    pub seconds: f64,
}

/// Everything that a profile is made of.
pub(super) struct Measured {
    pub(super) device: Device,
    pub(super) reads: Vec<Point>,
    pub(super) writes: Vec<Point>,
    pub(super) durable_writes: Vec<Point>,
    pub(super) write_then_sync: Point,
    pub(super) bulk_read: Point,
    pub(super) interference: Interference,
    pub(super) block: BlockSize,
    pub(super) sustained: Sustained,
}

impl Profile {
    /// Draws the conclusions.
    pub(super) fn conclude(measured: Measured) -> Self {
        let (read_depth, _) = knee(&measured.reads);
        let (read_depth_max, reads_per_s) = plateau(&measured.reads);
        let (write_depth, _) = knee(&measured.writes);
        let (commit_depth, durable_writes_per_s) = knee(&measured.durable_writes);
        let slower = measured
            .sustained
            .steady_bytes_per_s
            .min(measured.sustained.burst_bytes_per_s);
        let recommend = Recommend {
            read_depth,
            read_depth_max,
            write_depth,
            commit_depth,
            block_bytes: measured
                .block
                .true_bytes
                .max(measured.block.alignment_bytes),
            background_bytes_per_s: slower / 100 * CLEANER_PERCENT,
            reads_per_s,
            durable_writes_per_s,
        };
        Self {
            format: FORMAT,
            measured_at_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            recommend,
            device: measured.device,
            block: measured.block,
            interference: measured.interference,
            sustained: measured.sustained,
            write_then_sync: measured.write_then_sync,
            bulk_read: measured.bulk_read,
            reads: measured.reads,
            writes: measured.writes,
            durable_writes: measured.durable_writes,
        }
    }

    /// What a person should know before trusting the figures.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let points = self
            .reads
            .iter()
            .chain(&self.writes)
            .chain(&self.durable_writes);
        let points: Vec<&Point> = points
            .chain([&self.write_then_sync, &self.bulk_read])
            .collect();
        let unsteady = points.iter().filter(|point| !point.steady).count();
        if unsteady > 0 {
            doubts.push(format!(
                "{unsteady} of {} points did not hold one rate: something else uses the disk, or --point-ms is too short",
                points.len()
            ));
        }
        let bound: Vec<String> = points
            .iter()
            .filter(|point| point.cpu_bound)
            .map(|point| point.depth.to_string())
            .collect();
        if !bound.is_empty() {
            doubts.push(format!(
                "at depth {} the CPU was the limit and not the disk: it can do more",
                bound.join(", ")
            ));
        }
        if !self.sustained.settled {
            doubts.push(
                "the sustained write did not settle: give --sustained-s a larger number".to_owned(),
            );
        }
        doubts
    }
}

/// The depth at which the curve bends, and its rate: the deepest that is reached while each doubling still pays. Taking
/// the depth of nearly the best rate instead would choose the far end of a curve that creeps upwards, with a multiple
/// of the latency.
fn knee(points: &[Point]) -> (usize, u64) {
    let mut points = points.iter();
    let Some(mut best) = points.next() else {
        return (1, 0);
    };
    for point in points {
        #[expect(
            clippy::cast_precision_loss,
            reason = "rates and depths are far below 2^52"
        )]
        let gain = {
            let doublings = (point.depth as f64 / best.depth.max(1) as f64).log2();
            let more = point.operations_per_s as f64 / best.operations_per_s.max(1) as f64;
            (more.powf(1.0 / doublings.max(0.01)) - 1.0) * 100.0
        };
        // One point that something else disturbed does not end the curve.
        if gain >= GAIN_PERCENT_MIN {
            best = point;
        }
    }
    (best.depth, best.operations_per_s)
}

/// The shallowest depth that gives nearly the best rate, and its rate.
fn plateau(points: &[Point]) -> (usize, u64) {
    let best_per_s = points
        .iter()
        .map(|point| point.operations_per_s)
        .max()
        .unwrap_or(0);
    points
        .iter()
        .find(|point| point.operations_per_s * 100 >= best_per_s * PLATEAU_PERCENT)
        .map_or((1, 0), |point| (point.depth, point.operations_per_s))
}

/// In what the disk looks unlike last time: another device, or figures that moved.
pub fn unlike_last_time(now: &Profile, before: &Profile) -> Vec<String> {
    let mut found = now.device.differences(&before.device);
    let mut compare = |what: &str, old: u64, new: u64| {
        let moved = new.abs_diff(old).saturating_mul(100) > old.saturating_mul(CHANGE_PERCENT_MAX);
        if old > 0 && moved {
            found.push(format!("{what} were {old} a second and are {new}"));
        }
    };
    for (kind, old, new) in [
        ("reads", &before.reads, &now.reads),
        ("writes", &before.writes, &now.writes),
        (
            "durable writes",
            &before.durable_writes,
            &now.durable_writes,
        ),
    ] {
        for point in new {
            let earlier = old
                .iter()
                .find(|other| other.depth == point.depth && other.bytes == point.bytes);
            if let Some(earlier) = earlier {
                compare(
                    &format!("{kind} at depth {}", point.depth),
                    earlier.operations_per_s,
                    point.operations_per_s,
                );
            }
        }
    }
    let (old, new) = (
        before.sustained.steady_bytes_per_s,
        now.sustained.steady_bytes_per_s,
    );
    compare("sustained bytes", old, new);
    found
}

/// Reads a profile; `None` when there is no file.
pub fn load_profile(path: &Path) -> Result<Option<Profile>, CalibrateError> {
    let failed = |cause: String| CalibrateError::Profile {
        path: path.to_owned(),
        cause,
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let profile: Profile =
        toml::from_str(&text).map_err(|error| failed(error.message().to_owned()))?;
    if profile.format != FORMAT {
        return Err(failed(format!(
            "format {}, this program knows {FORMAT}",
            profile.format
        )));
    }
    Ok(Some(profile))
}

/// The file's text.
fn text_of(profile: &Profile) -> Result<String, String> {
    let body = toml::to_string(profile).map_err(|error| error.to_string())?;
    Ok(format!(
        "# Written by `gramme-tune calibrate`. A node reads [recommend] and [device]; the rest is the evidence.\n{body}"
    ))
}

/// Writes a profile, atomically.
pub fn save_profile(path: &Path, profile: &Profile) -> Result<(), CalibrateError> {
    let failed = |cause: String| CalibrateError::Profile {
        path: path.to_owned(),
        cause,
    };
    let text = text_of(profile).map_err(failed)?;
    let new = path.with_extension("toml.new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
