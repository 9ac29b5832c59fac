//! What was typed.
//!
//! Owns flags, their words and their defaults in help. Never decides what follows from them: `plan` does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::measure::run::LoadRule;
use crate::stats::sla::{Sla, parse_duration_ns};
use crate::target::address::Address;
use crate::workload::Process;

/// The latency harness: what a p99.9 SLA really allows, on any target.
#[derive(Debug, Parser)]
#[command(
    name = "gramme-bench",
    bin_name = "gramme bench",
    version,
    about,
    after_help = "Exit codes: 0 SLA met (or none given), 1 not met, 2 usage, 3 no valid run."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one workload and judge it
    Run(Box<RunArgs>),
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// native://H:P, resp://H:P, memcached://H:P, embedded:DIR, fjall:DIR, redb:DIR or rocksdb:DIR
    #[arg(long)]
    pub target: Address,
    /// Requests a second (open loop) [default: 1000]
    #[arg(long, conflicts_with_all = ["closed", "trace"])]
    pub rate: Option<f64>,
    /// Closed loop: each connection asks again as soon as it was answered
    #[arg(long, conflicts_with = "trace")]
    pub closed: bool,
    /// Replay a trace at its own times (timestamp,key,key size,value size,client,operation,ttl)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Replay the trace this many times faster
    #[arg(long, default_value_t = 1.0, requires = "trace")]
    pub speed: f64,
    /// Save the run in this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A name for the report
    #[arg(long)]
    pub label: Option<String>,
    /// The promise, such as 'p99.9<2ms,errors<0.01%'
    #[arg(long)]
    pub sla: Option<Sla>,
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What shapes the load, shared by the commands that make one.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// A preset (ycsb-a … ycsb-f, cart, session, cache, durable-put, read-uniform) or a TOML file
    #[arg(long, default_value = "ycsb-b", value_name = "NAME|FILE")]
    pub workload: String,
    /// How long to measure
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// `auto` finds the end of the warm-up in the data; a time is discarded before measuring
    #[arg(long, default_value = "auto", value_parser = warm_up, value_name = "auto|TIME")]
    pub warmup: WarmUpArg,
    /// Connections to a server
    #[arg(long, default_value_t = 50)]
    pub connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 1)]
    pub depth: usize,
    /// Threads of the generator [default: 1 for a server, one a CPU for an embedded store]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Records in the store, instead of the workload's own number
    #[arg(long)]
    pub records: Option<u64>,
    /// Bytes of each key, instead of the workload's own
    #[arg(long)]
    pub key_bytes: Option<usize>,
    /// Bytes of each value, instead of the workload's own sizes
    #[arg(long)]
    pub value_bytes: Option<u32>,
    /// Every write must be on stable media before it counts
    #[arg(long)]
    pub durable: bool,
    /// How arrivals scatter, instead of the workload's own way
    #[arg(long, value_enum)]
    pub arrivals: Option<ProcessArg>,
    /// Whether to write the workload's records first
    #[arg(long, value_enum, default_value = "auto")]
    pub load: LoadRule,
    /// A request without an answer for so long has failed
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Requests started or waiting at once, at most
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub in_flight: usize,
    /// Whether a generator thread spins the last microseconds before a request is due [default: when a CPU is to spare]
    #[arg(long, value_name = "BOOL")]
    pub spin: Option<bool>,
    /// Seed of schedule, keys and values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Bytes of an embedded store's own cache
    #[arg(long, default_value = "256MiB", value_parser = bytes)]
    pub cache: u64,
}

/// `--arrivals`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProcessArg {
    /// Independent users
    Poisson,
    /// Equal gaps
    Fixed,
    /// Burstier than independent
    Gamma,
}

impl From<ProcessArg> for Process {
    fn from(arg: ProcessArg) -> Process {
        match arg {
            ProcessArg::Poisson => Process::Poisson,
            ProcessArg::Fixed => Process::Fixed,
            ProcessArg::Gamma => Process::Gamma,
        }
    }
}

/// `--warmup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmUpArg {
    /// Found in the data.
    Auto,
    /// So long.
    Time(Duration),
}

/// Reads `30s`, `500ms`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration_ns(text) {
        Some(ns) if (1.0..1e18).contains(&ns) => Ok(Duration::from_nanos(ns as u64)),
        _ => Err("write a time such as 30s, 500ms or 2m".to_owned()),
    }
}

fn warm_up(text: &str) -> Result<WarmUpArg, String> {
    match text {
        "auto" => Ok(WarmUpArg::Auto),
        "0" | "none" => Ok(WarmUpArg::Time(Duration::ZERO)),
        _ => duration(text)
            .map(WarmUpArg::Time)
            .map_err(|_| "write auto, or a time such as 5s".to_owned()),
    }
}

/// Reads `256MiB`, `1GiB`, `4096`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" | "K" | "k" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        _ => return Err("write a size such as 4096, 64KiB, 256MiB or 1GiB".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "write a size such as 256MiB".to_owned())?;
    number
        .checked_shl(shift)
        .filter(|bytes| bytes >> shift == number)
        .ok_or_else(|| "that size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contracts_run_line_is_taken() {
        let line = "gramme-bench run --target resp://127.0.0.1:6379 --workload cart --rate 500 --duration 30s --warmup 5s --connections 8 --sla p99.9<2ms,errors<0.01% --out d --json";
        let Command::Run(run) = Cli::try_parse_from(line.split(' '))
            .expect("the contract's line")
            .command;
        assert_eq!(
            (run.rate, run.load.connections, run.load.duration.as_secs()),
            (Some(500.0), 8, 30)
        );
        assert_eq!(run.load.warmup, WarmUpArg::Time(Duration::from_secs(5)));
    }

    #[test]
    fn sizes_and_times_are_read_or_refused() {
        assert_eq!((bytes("256MiB"), bytes("12")), (Ok(256 << 20), Ok(12)));
        assert!(bytes("1TB").is_err() && bytes("99999999999GiB").is_err());
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("5").is_err() && duration("0s").is_err());
    }
}
