//! What the device under a directory can do.
//!
//! Owns one file of its own, removed afterwards. Never touches another file.
//!
//! Reads are 4 KiB, random, past the page cache (`O_DIRECT`); a depth is so many threads with one read each, which
//! costs more CPU than a ring but asks the device for the same. Writes are 4 KiB to blocks written before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::Figure;
use crate::stats::latencies::Latencies;

const BLOCK: usize = 4096;
const CHUNK: usize = 256 << 10;
const DEPTHS: [usize; 3] = [1, 32, 128];

/// Measures reads, synced writes and streaming in `directory`, with a file of `file_bytes`.
pub fn measure(directory: &Path, file_bytes: u64, length: Duration) -> io::Result<Vec<Figure>> {
    let scratch = Scratch::make(directory)?;
    let blocks = (file_bytes / BLOCK as u64).max(1);
    let mut figures = vec![stream(&scratch.path, file_bytes)?];
    match direct(&scratch.path, 0) {
        Ok(file) => {
            for depth in DEPTHS {
                figures.extend(reads(&file, blocks, depth, length)?);
            }
        }
        Err(error) => figures.push(
            Figure::new("random reads of 4 KiB", 0.0, "/s")
                .noted(format!("not measured: no direct I/O here ({error})")),
        ),
    }
    figures.extend(synced_writes(&scratch.path, blocks, length)?);
    Ok(figures)
}

/// The file, removed when this is dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Scratch {
            path: directory.join(format!("gramme-bench-limits-{}", std::process::id())),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing more can be done about a file that does not go away.
        let _ = fs::remove_file(&self.path);
    }
}

fn direct(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT | flags)
        .open(path)
}

/// A buffer whose part from the returned offset on is aligned to a block.
fn aligned(bytes: usize) -> (Vec<u8>, usize) {
    let buffer = vec![0x5a; bytes + BLOCK];
    let offset = buffer.as_ptr().align_offset(BLOCK).min(BLOCK);
    (buffer, offset)
}

/// Writes the file from end to end and syncs it.
fn stream(path: &Path, file_bytes: u64) -> io::Result<Figure> {
    let mut chunk = vec![0; CHUNK];
    Xoshiro256PlusPlus::seed_from_u64(1).fill(chunk.as_mut_slice());
    let mut file = File::create(path)?;
    let from = Instant::now();
    for _ in 0..file_bytes.div_ceil(CHUNK as u64) {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    let rate = file_bytes as f64 / from.elapsed().as_secs_f64() / 1e6;
    Ok(Figure::new("streaming writes and one sync", rate, "MB/s"))
}

fn reads(file: &File, blocks: u64, depth: usize, length: Duration) -> io::Result<Vec<Figure>> {
    let stop = AtomicBool::new(false);
    let from = Instant::now();
    let results: Vec<io::Result<Latencies>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..depth as u64)
            .map(|number| {
                scope.spawn({
                    let stop = &stop;
                    move || read_until(file, blocks, number, stop)
                })
            })
            .collect();
        std::thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a reader panicked")))
            })
            .collect()
    });
    let seconds = from.elapsed().as_secs_f64();
    let mut all = Latencies::new();
    for result in results {
        all.merge(&result?);
    }
    Ok(vec![
        Figure::new(
            format!("random reads of 4 KiB, depth {depth}"),
            all.count() as f64 / seconds,
            "/s",
        ),
        Figure::new(
            format!("random reads of 4 KiB, depth {depth}, p50"),
            all.quantile_ns(0.5) as f64 / 1e3,
            "us",
        ),
        Figure::new(
            format!("random reads of 4 KiB, depth {depth}, p99.9"),
            all.quantile_ns(0.999) as f64 / 1e3,
            "us",
        ),
    ])
}

fn read_until(file: &File, blocks: u64, number: u64, stop: &AtomicBool) -> io::Result<Latencies> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(number);
    let (mut buffer, offset) = aligned(BLOCK);
    let mut latencies = Latencies::new();
    while !stop.load(Ordering::Relaxed) {
        let at = rng.random_range(0..blocks) * BLOCK as u64;
        let from = Instant::now();
        file.read_exact_at(&mut buffer[offset..offset + BLOCK], at)?;
        latencies.record(from.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

/// Single 4 KiB writes that are on stable media before they return: opened with `O_DSYNC`, and `fdatasync` after.
fn synced_writes(path: &Path, blocks: u64, length: Duration) -> io::Result<Vec<Figure>> {
    let (buffer, offset) = aligned(BLOCK);
    let block = &buffer[offset..offset + BLOCK];
    let mut figures = Vec::new();
    let ways = [
        ("O_DSYNC", direct(path, libc::O_DSYNC), false),
        ("fdatasync", direct(path, 0), true),
    ];
    for (name, opened, sync) in ways {
        let file = match opened {
            Ok(file) => file,
            Err(_) => OpenOptions::new()
                .write(true)
                .custom_flags(if sync { 0 } else { libc::O_DSYNC })
                .open(path)?,
        };
        let mut latencies = Latencies::new();
        let (from, mut at) = (Instant::now(), 0);
        while from.elapsed() < length {
            let begun = Instant::now();
            file.write_all_at(block, at * BLOCK as u64)?;
            if sync {
                file.sync_data()?;
            }
            latencies.record(begun.elapsed().as_nanos() as u64);
            at = (at + 1) % blocks;
        }
        figures.push(Figure::new(
            format!("durable writes of 4 KiB, {name}"),
            latencies.count() as f64 / from.elapsed().as_secs_f64(),
            "/s",
        ));
        figures.push(Figure::new(
            format!("durable writes of 4 KiB, {name}, p99.9"),
            latencies.quantile_ns(0.999) as f64 / 1e3,
            "us",
        ));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_measured_and_left_empty() {
        let directory =
            std::env::temp_dir().join(format!("gramme-bench-disk-test-{}", std::process::id()));
        let figures =
            measure(&directory, 1 << 20, Duration::from_millis(20)).expect("a writable directory");
        assert!(
            figures
                .iter()
                .any(|figure| figure.name.contains("O_DSYNC") && figure.value > 0.0)
        );
        assert_eq!(fs::read_dir(&directory).expect("still there").count(), 0);
        fs::remove_dir(&directory).expect("empty");
    }
}
