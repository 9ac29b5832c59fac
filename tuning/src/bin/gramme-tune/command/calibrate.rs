//! `gramme-tune calibrate`.

use super::{out, print};
use crate::args::Calibrate;
use crate::{Exit, Failure};
use gramme_tune::calibrate::{self, Options, Point, Profile};
use gramme_tune::listing::word;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

pub(crate) fn run(args: &Calibrate) -> Result<Exit, Failure> {
    let path = args
        .out
        .clone()
        .unwrap_or_else(|| calibrate::default_profile_path(&args.dir));
    // Read first: a damaged file of last time should not cost a minute of measuring.
    let before = calibrate::load_profile(&path).map_err(Failure::of)?;
    let options = Options {
        dir: args.dir.clone(),
        file_bytes: args.size << 20,
        point: Duration::from_millis(args.point_ms),
        sustained: Duration::from_secs(args.sustained_s),
    };
    let terminal = io::stderr().is_terminal();
    let profile = calibrate::calibrate(&options, &mut |step| {
        if terminal {
            eprint!("\r\x1b[K{step} …");
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let profile = profile.map_err(Failure::of)?;
    calibrate::save_profile(&path, &profile).map_err(Failure::of)?;
    if args.json {
        out(&format!(
            "{}\n",
            serde_json::to_string_pretty(&profile).map_err(Failure::of)?
        ))?;
    } else {
        person(&profile)?;
        out(&format!("written to {}\n", path.display()))?;
    }
    for doubt in profile.doubts() {
        eprintln!("note: {doubt}");
    }
    let unlike = before
        .map(|before| calibrate::unlike_last_time(&profile, &before))
        .unwrap_or_default();
    for line in &unlike {
        eprintln!("warning: the device looks unlike last time: {line}");
    }
    Ok(if unlike.is_empty() {
        Exit::Fine
    } else {
        Exit::Off
    })
}

fn person(profile: &Profile) -> Result<(), Failure> {
    let device = &profile.device;
    out(&format!(
        "{} {} {}, {} GiB, {}\n\n",
        device.name,
        device.model,
        device.serial,
        device.size_bytes >> 30,
        device.fs_type
    ))?;
    let points: Vec<&Point> = profile
        .reads
        .iter()
        .chain(&profile.writes)
        .chain(&profile.durable_writes)
        .chain([&profile.write_then_sync, &profile.bulk_read])
        .collect();
    let us = |ns: u64| format!("{}", ns / 1000);
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|point| {
            let mark = match (point.steady, point.cpu_bound) {
                (_, true) => "CPU-bound",
                (false, _) => "unsteady",
                (true, false) => "",
            };
            vec![
                word(&point.kind),
                point.bytes.to_string(),
                point.depth.to_string(),
                point.operations_per_s.to_string(),
                us(point.latency_ns_p50),
                us(point.latency_ns_p99),
                us(point.latency_ns_p999),
                point.cpu_percent.to_string(),
                mark.to_owned(),
            ]
        })
        .collect();
    print(
        &[
            "load",
            "bytes",
            "depth",
            "per s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "CPU %",
            "",
        ],
        &rows,
    )?;
    let mixed = &profile.interference;
    let sustained = &profile.sustained;
    let recommend = &profile.recommend;
    out(&format!(
        "\nreads at depth 8: p50 {} → {} µs, p99.9 {} → {} µs beside bulk writes of {} MB/s\n\
         bulk writes: {} MB/s at first, {} MB/s after {} s\n\
         true block: {} bytes (O_DIRECT asks for {})\n\
         for the node: {} reads, {} writes, {} durable commits in flight; background at most {} MB/s\n",
        us(mixed.read_ns_p50_alone),
        us(mixed.read_ns_p50_mixed),
        us(mixed.read_ns_p999_alone),
        us(mixed.read_ns_p999_mixed),
        mixed.bulk_write_bytes_per_s / 1_000_000,
        sustained.burst_bytes_per_s / 1_000_000,
        sustained.steady_bytes_per_s / 1_000_000,
        sustained.seconds,
        profile.block.true_bytes,
        profile.block.alignment_bytes,
        recommend.read_depth,
        recommend.write_depth,
        recommend.commit_depth,
        recommend.background_bytes_per_s / 1_000_000,
    ))
}
