//! `gramme-tune jitter`.

use super::{out, print};
use crate::args::Jitter;
use crate::host::{open_tree, parse_cpus};
use crate::{Exit, Failure};
use gramme_tune::calibrate::measure_jitter;
use gramme_tune::machine::{Machine, Selection};
use std::path::Path;
use std::time::Duration;

pub(crate) fn run(args: &Jitter) -> Result<Exit, Failure> {
    let online = Machine::discover(&open_tree(Path::new("/"))?, &Selection::default()).online_cpus;
    let cpus = args
        .cpus
        .as_deref()
        .map(parse_cpus)
        .transpose()?
        .unwrap_or_else(|| online.clone());
    if cpus.is_empty() || !online.contains_all(&cpus) {
        return Err(Failure::Usage(format!(
            "--cpus {cpus}: this process may use the CPUs {online}"
        )));
    }
    let cores = measure_jitter(&cpus, Duration::from_secs(args.seconds)).map_err(|error| {
        Failure::Failed(format!(
            "measuring the cores failed: {error}; leave out CPUs with --cpus"
        ))
    })?;
    if args.json {
        out(&format!(
            "{}\n",
            serde_json::to_string_pretty(&cores).map_err(Failure::of)?
        ))?;
        return Ok(Exit::Fine);
    }
    let us = |ns: u64| format!("{}.{}", ns / 1000, ns % 1000 / 100);
    let rows: Vec<Vec<String>> = cores
        .iter()
        .map(|core| {
            vec![
                core.cpu.to_string(),
                us(core.wake_up_ns_p50),
                us(core.wake_up_ns_p99),
                us(core.wake_up_ns_max),
                us(core.pause_ns_max),
                core.pauses_per_s.to_string(),
                core.lost_ppm.to_string(),
            ]
        })
        .collect();
    print(
        &[
            "cpu",
            "late p50 µs",
            "late p99 µs",
            "late max µs",
            "longest pause µs",
            "pauses/s",
            "lost ppm",
        ],
        &rows,
    )?;
    Ok(Exit::Fine)
}
