//! Calibrate: what the data directory's disk can do, and how still each core keeps.
//!
//! Owns the sequence of measurements, and what is concluded from them for the node.
//! Never touches a file but its own scratch file, which is removed however the run ends.
//!
//! Invariants:
//! - a figure that two passes do not agree on, or that the CPU and not the disk limits, is marked so;
//! - recommended depths come from measured points, never from the device's name.

mod device;
#[cfg(test)]
mod fio_tests;
mod jitter;
mod load;
mod profile;
mod scratch;

pub use device::Device;
pub use jitter::{CoreJitter, measure_jitter};
pub use load::{Kind, Point};
pub use profile::{
    BlockSize, Interference, Profile, Sustained, load_profile, save_profile, unlike_last_time,
};

use load::Load;
use scratch::Scratch;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The unit of the log: reads and commits are at least so large.
const UNIT_BYTES: u32 = 4096;
/// The size of the cleaner's reads and writes.
const BULK_BYTES: u32 = 128 << 10;
/// Depths of the sweep.
const READ_DEPTHS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const WRITE_DEPTHS: [usize; 5] = [1, 4, 16, 32, 64];
const SYNC_DEPTHS: [usize; 4] = [1, 4, 16, 32];
/// A smaller block is as good as the best when it costs no more than this, in percent of the best's latency; a
/// device that must read before it writes takes about twice as long.
const BLOCK_PERCENT_MAX: u64 = 130;

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub dir: PathBuf,
    /// Size of the scratch file.
    pub file_bytes: u64,
    /// Time for each point.
    pub point: Duration,
    /// Time for the sustained write.
    pub sustained: Duration,
}

/// Why a measurement could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The scratch file could not be made. The directory is as it was.
    Scratch {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Not enough room.
    Space {
        /// The directory.
        path: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// io_uring is not allowed here.
    Ring(io::Error),
    /// The disk failed an operation. The scratch file was removed.
    Disk {
        /// What was measured.
        point: String,
        /// What the system said.
        cause: io::Error,
    },
    /// `io.toml` could not be read or written.
    Profile {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        cause: String,
    },
}

impl fmt::Display for CalibrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scratch { path, cause } if cause.raw_os_error() == Some(libc::EINVAL) => write!(
                f,
                "{} cannot be opened with O_DIRECT: {cause}; the node cannot run there either; use a directory on xfs or ext4",
                path.display()
            ),
            Self::Scratch { path, cause } => {
                write!(
                    f,
                    "the scratch file {} cannot be made: {cause}; name a directory you may write to",
                    path.display()
                )
            }
            Self::Space {
                path,
                free_bytes,
                needed_bytes,
            } => write!(
                f,
                "{} has {} MiB free, the measurement needs {} MiB; free some, or give --size a smaller number",
                path.display(),
                free_bytes >> 20,
                needed_bytes >> 20
            ),
            Self::Ring(cause) => write!(
                f,
                "no io_uring ring can be opened: {cause}; see `gramme-tune check --only io-uring`"
            ),
            Self::Disk { point, cause } => {
                write!(
                    f,
                    "{point}: the disk failed: {cause}; look at the kernel's log before you put data there"
                )
            }
            Self::Profile { path, cause } => {
                write!(
                    f,
                    "{}: {cause}; remove the file or name another with --out",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for CalibrateError {}

/// Measures the disk of a directory; `progress` is told of each step before it begins.
pub fn calibrate(
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Profile, CalibrateError> {
    let device = Device::of_directory(&options.dir);
    progress("writing the scratch file");
    let scratch = Scratch::make(&options.dir, options.file_bytes)?;
    let run = |load: Load, progress: &mut dyn FnMut(&str)| -> Result<Point, CalibrateError> {
        progress(&load.describe());
        load::run(&scratch, load, options.point)
    };
    let mut reads = Vec::new();
    for depth in READ_DEPTHS {
        reads.push(run(Load::new(Kind::Read, depth, UNIT_BYTES), progress)?);
    }
    let mut writes = Vec::new();
    for depth in WRITE_DEPTHS {
        writes.push(run(Load::new(Kind::Write, depth, UNIT_BYTES), progress)?);
    }
    let mut durable_writes = Vec::new();
    for depth in SYNC_DEPTHS {
        durable_writes.push(run(
            Load::new(Kind::DurableWrite, depth, UNIT_BYTES),
            progress,
        )?);
    }
    let write_then_sync = run(Load::new(Kind::WriteThenSync, 1, UNIT_BYTES), progress)?;
    let bulk_read = run(Load::new(Kind::Read, 8, BULK_BYTES), progress)?;
    let interference = interference(&scratch, options, &reads, progress)?;
    let block = block_size(&scratch, options, progress)?;
    progress("sustained write");
    let sustained = load::run_sustained(&scratch, options.sustained, BULK_BYTES)?;
    Ok(Profile::conclude(profile::Measured {
        device,
        reads,
        writes,
        durable_writes,
        write_then_sync,
        bulk_read,
        interference,
        block,
        sustained,
    }))
}

/// Reads at a middling depth, beside a stream of bulk writes as the cleaner makes it.
fn interference(
    scratch: &Scratch,
    options: &Options,
    reads: &[Point],
    progress: &mut dyn FnMut(&str),
) -> Result<Interference, CalibrateError> {
    const DEPTH: usize = 8;
    let load = Load {
        kind: Kind::Mixed,
        depth: DEPTH,
        bytes: UNIT_BYTES,
        bulk_depth: 2,
        bulk_bytes: BULK_BYTES,
    };
    progress(&load.describe());
    let mixed = load::run(scratch, load, options.point)?;
    let alone = reads.iter().find(|point| point.depth == DEPTH);
    Ok(Interference {
        read_ns_p50_alone: alone.map_or(0, |point| point.latency_ns_p50),
        read_ns_p999_alone: alone.map_or(0, |point| point.latency_ns_p999),
        read_ns_p50_mixed: mixed.latency_ns_p50,
        read_ns_p999_mixed: mixed.latency_ns_p999,
        reads_per_s_mixed: mixed.operations_per_s,
        bulk_write_bytes_per_s: mixed.bulk_bytes_per_s,
    })
}

/// The smallest durable write that costs no more than the cheapest: below it the device reads, changes, writes back.
fn block_size(
    scratch: &Scratch,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<BlockSize, CalibrateError> {
    let mut latencies: Vec<(u32, u64)> = Vec::new();
    for bytes in [512_u32, 1024, 2048, 4096, 8192, 16_384]
        .into_iter()
        .filter(|b| *b >= scratch.alignment_bytes())
    {
        let load = Load::new(Kind::DurableWrite, 1, bytes);
        progress(&load.describe());
        latencies.push((
            bytes,
            load::run(scratch, load, options.point)?.latency_ns_p50,
        ));
    }
    let best_ns = latencies.iter().map(|(_, ns)| *ns).min().unwrap_or(0);
    let good = |ns: u64| ns.saturating_mul(100) <= best_ns.saturating_mul(BLOCK_PERCENT_MAX);
    let true_bytes = latencies
        .iter()
        .find(|(_, ns)| good(*ns))
        .map_or(UNIT_BYTES, |(bytes, _)| *bytes);
    Ok(BlockSize {
        alignment_bytes: scratch.alignment_bytes(),
        true_bytes,
        durable_write_ns_p50: latencies
            .iter()
            .map(|(bytes, ns)| (bytes.to_string(), *ns))
            .collect(),
    })
}

/// Where the profile lies when nothing else is said.
pub fn default_profile_path(dir: &Path) -> PathBuf {
    dir.join("io.toml")
}
