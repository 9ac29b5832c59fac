//! From what was typed to what will run.
//!
//! Owns every default that depends on something else, and the refusal of what cannot be run. Reads workload and
//! trace files; never touches a target.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::args::{LoadArgs, RunArgs, WarmUpArg};
use super::exit::Failure;
use crate::load::plan::{LoadPlan, Pace};
use crate::measure::run::Measurement;
use crate::record::analysis::WarmUpRule;
use crate::target::address::Address;
use crate::target::open::StoreSettings;
use crate::workload::value::ValueSize;
use crate::workload::{Durability, Workload, preset, trace};

/// Requests a second when nothing was said.
const RATE_DEFAULT: f64 = 1000.0;

/// The workload that was named, with the flags that change it.
pub fn workload(args: &LoadArgs) -> Result<Workload, Failure> {
    let mut workload = match preset::find(&args.workload) {
        Some(workload) => workload,
        None => read_workload(&args.workload)?,
    };
    if let Some(records) = args.records {
        workload.records = records;
    }
    if let Some(bytes) = args.key_bytes {
        workload.key.bytes = bytes;
    }
    if let Some(bytes) = args.value_bytes {
        workload.values = ValueSize::Fixed { bytes };
    }
    if args.durable {
        workload.durability = Durability::Durable;
    }
    if let Some(process) = args.arrivals {
        workload.arrivals.process = process.into();
    }
    match workload.problem() {
        Some(problem) => Err(Failure::usage(format!(
            "workload {}: {problem}",
            workload.name
        ))),
        None => Ok(workload),
    }
}

fn read_workload(name: &str) -> Result<Workload, Failure> {
    let path = Path::new(name);
    let text = fs::read_to_string(path).map_err(|error| {
        let presets: Vec<&str> = preset::PRESETS.iter().map(|(name, _)| *name).collect();
        Failure::usage(format!(
            "workload '{name}' is no preset ({}) and cannot be read as a file: {error}",
            presets.join(", ")
        ))
    })?;
    let mut workload = Workload::from_toml(&text)
        .map_err(|error| Failure::usage(format!("workload file {name}: {error}")))?;
    if let ValueSize::File {
        path: sizes_path,
        sizes,
    } = &mut workload.values
    {
        let beside = path.parent().unwrap_or(Path::new("")).join(sizes_path);
        let text = fs::read_to_string(&beside).map_err(|error| {
            Failure::usage(format!("value sizes {}: {error}", beside.display()))
        })?;
        *sizes = text
            .split_whitespace()
            .map(|word| {
                word.parse().map_err(|_| {
                    Failure::usage(format!(
                        "value sizes {}: '{word}' is not a size in bytes",
                        beside.display()
                    ))
                })
            })
            .collect::<Result<Vec<u32>, Failure>>()?;
    }
    Ok(workload)
}

/// The settings of an embedded store.
pub fn store_settings(args: &LoadArgs) -> StoreSettings {
    // On the owners' cores there is one worker a shard.
    let threads = args.threads.filter(|_| args.on_owner);
    let threads = threads.and_then(|threads| u16::try_from(threads).ok());
    StoreSettings {
        cache_bytes: args.cache,
        shards: args.shards.or(threads),
        on_owner: args.on_owner,
        timeout: args.timeout,
    }
}

/// The warm-up rule.
pub fn warm_up(args: &LoadArgs) -> WarmUpRule {
    match args.warmup {
        WarmUpArg::Auto => WarmUpRule::Auto,
        WarmUpArg::Time(length) => WarmUpRule::Fixed(length),
    }
}

/// The plan of a run with a given pace.
pub fn load_plan(args: &LoadArgs, target: &Address, pace: Pace) -> Result<LoadPlan, Failure> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let embedded = matches!(target, Address::Embedded { .. });
    let threads = args.threads.unwrap_or(if embedded { cpus } else { 1 });
    let plan = LoadPlan {
        pace,
        duration: args.duration,
        threads: if embedded {
            threads
        } else {
            threads.min(args.connections)
        },
        connections: if embedded { threads } else { args.connections },
        depth: args.depth,
        timeout: args.timeout,
        in_flight_max: args.in_flight,
        spin: args.spin.unwrap_or(cpus > threads),
        seed: args.seed,
        window: LoadPlan::window_for(args.duration),
        share_index: 0,
        share_count: 1,
    };
    match plan.problem() {
        Some(problem) => Err(Failure::usage(problem)),
        None => Ok(plan),
    }
}

/// All of a `run`.
pub fn run(args: &RunArgs) -> Result<Measurement, Failure> {
    let mut workload = workload(&args.load)?;
    let mut load = args.load.clone();
    let pace = match &args.trace {
        Some(path) => {
            let text = fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("trace {}: {error}", path.display())))?;
            if !(args.speed > 0.0 && args.speed.is_finite()) {
                return Err(Failure::usage("--speed must be above 0"));
            }
            let entries = trace::parse(text.lines(), args.speed).map_err(|problem| {
                Failure::usage(format!("trace {}: {problem}", path.display()))
            })?;
            let length =
                std::time::Duration::from_nanos(entries.last().map_or(0, |entry| entry.at_ns) + 1);
            load.duration = load.duration.min(length);
            workload.name = format!(
                "trace {}",
                path.file_name().unwrap_or_default().to_string_lossy()
            );
            Pace::Trace {
                entries: Arc::from(entries),
            }
        }
        None if args.closed => Pace::Closed,
        None => open_pace(args.rate.unwrap_or(RATE_DEFAULT), &workload),
    };
    Ok(Measurement {
        plan: load_plan(&load, &args.target, pace)?,
        warm_up: warm_up(&load),
        sla: args.sla.clone(),
        label: args.label.clone(),
        workload,
    })
}

/// An open loop at `rate` with the workload's own arrivals.
pub fn open_pace(rate: f64, workload: &Workload) -> Pace {
    Pace::Open {
        rate,
        process: workload.arrivals.process,
        shape: workload.arrivals.shape,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::command::args::{Cli, Command};

    fn typed(line: &str) -> Result<Measurement, Failure> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("well-formed");
        let Command::Run(args) = cli.command else {
            panic!("not a run")
        };
        run(&args)
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let path =
            std::env::temp_dir().join(format!("gramme-bench-plan-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a writable directory");
        path
    }

    #[test]
    fn a_bare_run_is_an_open_loop_of_a_thousand_a_second() {
        let plan = typed("gramme-bench run --target resp://h:1")
            .expect("runs")
            .plan;
        assert!(matches!(plan.pace, Pace::Open { rate, .. } if rate == RATE_DEFAULT));
        assert_eq!((plan.threads, plan.connections, plan.depth), (1, 50, 1));
    }

    #[test]
    fn more_threads_than_connections_are_not_started() {
        let plan = typed("gramme-bench run --target resp://h:1 --threads 8 --connections 2")
            .expect("runs")
            .plan;
        assert_eq!(plan.threads, 2);
        let plan = typed("gramme-bench run --target fjall:d --threads 8 --closed")
            .expect("runs")
            .plan;
        assert_eq!((plan.threads, plan.connections), (8, 8));
    }

    #[test]
    fn a_workload_file_finds_its_sizes_beside_it_and_flags_override() {
        let folder = folder("toml");
        fs::write(folder.join("sizes.txt"), "10 20\n30\n").expect("writable");
        let file = folder.join("w.toml");
        fs::write(
            &file,
            "records = 7\nmix = { read = 1 }\nvalues = { size = \"file\", path = \"sizes.txt\" }\n",
        )
        .expect("writable");
        let line = format!(
            "gramme-bench run --target resp://h:1 --workload {}",
            file.display()
        );
        let workload = typed(&line).expect("runs").workload;
        assert_eq!((workload.records, workload.values.mean_bytes()), (7, 20.0));
        let workload = typed(&(line.clone() + " --records 9 --value-bytes 5 --key-bytes 40"))
            .expect("runs")
            .workload;
        assert_eq!(
            (
                workload.records,
                workload.values.mean_bytes(),
                workload.key.bytes
            ),
            (9, 5.0, 40)
        );
        fs::write(folder.join("sizes.txt"), "10 many").expect("writable");
        assert!(
            typed(&line)
                .expect_err("not a size")
                .to_string()
                .contains("'many'")
        );
        fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn a_trace_runs_for_its_own_length() {
        let folder = folder("trace");
        let file = folder.join("t.csv");
        fs::write(&file, "5,a,1,1,1,get,0\n7,a,1,1,1,get,0\n").expect("writable");
        let measurement = typed(&format!(
            "gramme-bench run --target resp://h:1 --trace {} --speed 2",
            file.display()
        ))
        .expect("runs");
        assert_eq!(measurement.plan.duration.as_millis(), 1000);
        assert_eq!(measurement.workload.name, "trace t.csv");
        fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        for more in [
            "--rate 0",
            "--rate nan",
            "--connections 0",
            "--depth 0",
            "--threads 0",
            "--key-bytes 3",
            "--records 0",
            "--duration 1000h",
        ] {
            assert!(
                typed(&format!("gramme-bench run --target resp://h:1 {more}")).is_err(),
                "{more}"
            );
        }
    }
}
