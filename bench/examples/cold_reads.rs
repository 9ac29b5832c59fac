//! Cold random reads of gramme's engine beside fio's, on one file system, in turns, at the same depth.
//!
//! `cargo run --release -p gramme-bench --example cold_reads -- DIR [--gib 4] [--seconds 10] [--rounds 3] [--on-owner]`
//!
//! The data set is far larger than the engine's memory and both sides open their files with `O_DIRECT`, so each request
//! goes to the disk (the table's bytes a request tell whether it did). fio reads blocks of 4 KiB with io_uring; the
//! engine reads records of which most lie within one such block, verifies checksum and key, and hands the value over.
//! fio must be installed. It needs twice as much space in `DIR` as the data set, and leaves it there for the next time.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use gramme_bench::load::plan::{LoadPlan, Pace};
use gramme_bench::measure::run::{LoadRule, Measurement, measure, prepare};
use gramme_bench::measure::target::Target;
use gramme_bench::record::analysis::WarmUpRule;
use gramme_bench::record::report::RunReport;
use gramme_bench::target::address::{Address, StoreKind};
use gramme_bench::target::open::StoreSettings;
use gramme_bench::workload::value::ValueSize;
use gramme_bench::workload::{KeySpace, Workload, preset};
use serde_json::Value;

type Failure = Box<dyn Error>;

/// Cold random reads of gramme's engine beside fio's.
#[derive(Debug, Parser)]
struct Args {
    /// Where both keep their data
    dir: PathBuf,
    /// Size of either data set
    #[arg(long, default_value_t = 4)]
    gib: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 1000)]
    value_bytes: u32,
    /// Length of one measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Measurements of each side at each depth
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Requests in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 128])]
    depths: Vec<usize>,
    /// Run the engine's load on the owner's core, not through the handle
    #[arg(long)]
    on_owner: bool,
}

/// What one measurement found.
#[derive(Debug, Clone, Copy)]
struct Figures {
    iops: f64,
    p50_us: f64,
    p99_9_us: f64,
    cpu_us: f64,
    bytes: f64,
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.dir)?;
    let fio_file = args.dir.join("fio.data");
    write_fio_file(&fio_file, args.gib)?;

    let mut workload = preset::find("read-uniform").ok_or("a preset is gone")?;
    workload.values = ValueSize::Fixed {
        bytes: args.value_bytes,
    };
    workload.records = (args.gib << 30) / u64::from(args.value_bytes);
    let address = Address::Embedded {
        store: StoreKind::Gramme,
        directory: args.dir.join("gramme"),
    };
    let settings = StoreSettings {
        // A sixty-fourth of the data: what a cache can answer is lost in the noise.
        cache_bytes: (args.gib << 30) / 64,
        shards: Some(1),
        on_owner: args.on_owner,
        timeout: Duration::from_secs(10),
    };
    let target = Target::open(&address, &workload, &settings)?;
    let loaded = prepare(
        &target,
        &measurement(&args, &workload, (1, 0)),
        LoadRule::Auto,
        &|_| {},
    )?;
    eprintln!("{loaded} records written");

    println!(
        "{} records of {} bytes, {} of memory; {} rounds of {} s each, in turns; medians",
        workload.records, args.value_bytes, settings.cache_bytes, args.rounds, args.seconds
    );
    println!("depth           reads/s    p50 us  p99.9 us  CPU us/read  bytes/read");
    for &depth in &args.depths {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..args.rounds {
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    ours.push(gramme(
                        &target,
                        &measurement(&args, &workload, (depth, round)),
                    )?);
                } else {
                    theirs.push(fio(&fio_file, depth, args.seconds)?);
                }
            }
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        show(depth, "gramme", ours);
        show(depth, "fio", theirs);
        println!(
            "{depth:>5} ratio {:>12.3} {:>9.2} {:>9.2}",
            ours.iops / theirs.iops,
            ours.p50_us / theirs.p50_us,
            ours.p99_9_us / theirs.p99_9_us
        );
    }
    Ok(())
}

fn measurement(args: &Args, workload: &Workload, (depth, round): (usize, usize)) -> Measurement {
    let duration = Duration::from_secs(args.seconds);
    Measurement {
        workload: workload.clone(),
        plan: LoadPlan {
            pace: Pace::Closed,
            duration,
            threads: 1,
            connections: 1,
            depth,
            timeout: Duration::from_secs(10),
            in_flight_max: depth,
            spin: false,
            // Other keys each time.
            seed: (depth * 1000 + round) as u64,
            window: LoadPlan::window_for(duration),
            share_index: 0,
            share_count: 1,
        },
        warm_up: WarmUpRule::Fixed(Duration::from_secs(1)),
        sla: None,
        label: None,
    }
}

fn gramme(target: &Target, measurement: &Measurement) -> Result<Figures, Failure> {
    let space = KeySpace::new(measurement.workload.records);
    let before = read_bytes()?;
    let measured = measure(target, measurement, &space, |_| {})?;
    let read = read_bytes()? - before;
    let report: RunReport = measured.report;
    if report.errors + report.misses > 0 {
        return Err(format!(
            "{} errors, {} misses: {:?}",
            report.errors, report.misses, report.first_error
        )
        .into());
    }
    let all: u64 = measured
        .windows
        .iter()
        .map(|window| window.counts.ended)
        .sum();
    Ok(Figures {
        iops: report.achieved_rate,
        p50_us: report.service_us.p50,
        p99_9_us: report.service_us.p99_9,
        cpu_us: report.generator.cpu_us_per_request,
        bytes: read as f64 / all.max(1) as f64,
    })
}

/// Bytes that this process made the disk read.
fn read_bytes() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    Ok(line
        .ok_or("no read_bytes in /proc/self/io")?
        .trim()
        .parse()?)
}

fn write_fio_file(file: &Path, gib: u64) -> Result<(), Failure> {
    if std::fs::metadata(file).is_ok_and(|meta| meta.len() >= gib << 30) {
        return Ok(());
    }
    eprintln!("writing {}", file.display());
    run_fio(
        file,
        &[
            &format!("--size={gib}G"),
            "--rw=write",
            "--bs=1M",
            "--iodepth=8",
            "--end_fsync=1",
        ],
    )?;
    Ok(())
}

fn fio(file: &Path, depth: usize, seconds: u64) -> Result<Figures, Failure> {
    let found = run_fio(
        file,
        &[
            "--rw=randread",
            "--bs=4k",
            &format!("--iodepth={depth}"),
            &format!("--runtime={seconds}"),
            "--ramp_time=1",
            "--time_based",
            "--norandommap",
            "--randrepeat=0",
            "--lat_percentiles=1",
            "--percentile_list=50:99.9",
        ],
    )?;
    let job = &found["jobs"][0];
    let (read, number) = (&job["read"], |value: &Value| {
        value.as_f64().ok_or("fio's JSON lacks a figure")
    });
    let percentile = |name: &str| number(&read["lat_ns"]["percentile"][name]);
    let iops = number(&read["iops"])?;
    let cpu_percent = number(&job["usr_cpu"])? + number(&job["sys_cpu"])?;
    Ok(Figures {
        iops,
        p50_us: percentile("50.000000")? / 1e3,
        p99_9_us: percentile("99.900000")? / 1e3,
        cpu_us: cpu_percent * 1e4 / iops,
        bytes: 4096.0,
    })
}

fn run_fio(file: &Path, more: &[&str]) -> Result<Value, Failure> {
    let output = Command::new("fio")
        .args(["--name=cold", "--ioengine=io_uring", "--direct=1"])
        .args(["--output-format=json", "--filename"])
        .arg(file)
        .args(more)
        .output()
        .map_err(|error| format!("cannot run fio: {error}; install it"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Each figure's median.
fn median(of: &[Figures]) -> Figures {
    let middle = |pick: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = of.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Figures {
        iops: middle(|figures| figures.iops),
        p50_us: middle(|figures| figures.p50_us),
        p99_9_us: middle(|figures| figures.p99_9_us),
        cpu_us: middle(|figures| figures.cpu_us),
        bytes: middle(|figures| figures.bytes),
    }
}

fn show(depth: usize, who: &str, figures: Figures) {
    println!(
        "{depth:>5} {who:<8} {:>9.0} {:>9.1} {:>9.1} {:>12.1} {:>11.0}",
        figures.iops, figures.p50_us, figures.p99_9_us, figures.cpu_us, figures.bytes
    );
}
