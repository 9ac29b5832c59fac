//! What was typed.
//!
//! Owns flags, their words and their defaults in help. Never decides what follows from them: `plan` does.

use std::net::SocketAddr;
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
    /// Find the greatest rate at which an SLA holds
    Search(Box<SearchArgs>),
    /// Tell whether B differs from A, by interleaved runs
    Compare(Box<CompareArgs>),
    /// Draw saved runs, searches and comparisons: a page and a terminal picture
    Report(ReportArgs),
    /// Generate load for a `run --agents` on another host
    Agent(AgentArgs),
    /// Measure what this machine can do at most
    Limits(LimitsArgs),
    /// Serve a synthetic RESP server whose latencies are known, to check this tool and others
    Stub(StubArgs),
}

/// `search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// What to measure (see `run`)
    #[arg(long)]
    pub target: Address,
    /// The promise, such as 'p99.9<2ms,errors<0.01%'
    #[arg(long)]
    pub sla: Sla,
    /// The rate to begin with
    #[arg(long, default_value_t = 1000.0)]
    pub start: f64,
    /// Never go above this rate
    #[arg(long, default_value_t = 10_000_000.0)]
    pub rate_max: f64,
    /// Stop when the limit is known this well
    #[arg(long, default_value = "3%", value_parser = percent)]
    pub precision: f64,
    /// Length of each step [default: a sixth of --duration, which is the confirming run's]
    #[arg(long, value_parser = duration)]
    pub step: Option<Duration>,
    /// Rest between steps
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub rest: Duration,
    /// Save the result in this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The first target (see `run`)
    #[arg(long)]
    pub a: Address,
    /// The second
    #[arg(long)]
    pub b: Address,
    /// A shell command before each run of A: what makes A what it is, where both have one address (a setting of the host, a
    /// restart)
    #[arg(long, value_name = "COMMAND")]
    pub before_a: Option<String>,
    /// The same for B
    #[arg(long, value_name = "COMMAND")]
    pub before_b: Option<String>,
    /// Rounds; in each, both are measured once, in turns ABBA
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Differences below this are of no interest
    #[arg(long, default_value = "2%", value_parser = percent)]
    pub threshold: f64,
    /// Requests a second (open loop) [default: 1000]
    #[arg(long, conflicts_with = "closed")]
    pub rate: Option<f64>,
    /// Closed loop: compare throughput
    #[arg(long)]
    pub closed: bool,
    /// End with 1 when B is worse
    #[arg(long)]
    pub fail_if_worse: bool,
    /// Save the result in this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The load; --duration is the length of all runs together.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders that `run`, `search`, `compare` or `limits` saved with --out
    #[arg(required = true, value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// Where to write the page [default: report.html in the first folder]
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Draw runs of different machines together
    #[arg(long)]
    pub force: bool,
}

/// `limits`.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// Measure the disk under this directory too
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Bytes of the file for that
    #[arg(long, default_value = "256MiB", value_parser = bytes)]
    pub file: u64,
    /// Save them in this folder, for `report`
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Length of each measurement
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub duration: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where to listen; off loopback it needs GRAMME_BENCH_TOKEN in the environment, or --insecure
    #[arg(long, default_value = "127.0.0.1:7395")]
    pub listen: SocketAddr,
    /// Serve anybody who can reach the port
    #[arg(long)]
    pub insecure: bool,
}

/// `stub`.
#[derive(Debug, Args)]
pub struct StubArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7390")]
    pub listen: SocketAddr,
    /// Time that each command takes
    #[arg(long, default_value = "0s", value_parser = duration_or_zero)]
    pub service: Duration,
    /// Stand still for so long
    #[arg(long, default_value = "0s", value_parser = duration_or_zero, requires = "every")]
    pub stall: Duration,
    /// In every such period
    #[arg(long, default_value = "0s", value_parser = duration_or_zero)]
    pub every: Duration,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// native://H:P, resp://H:P, memcached://H:P, embedded:DIR, fjall:DIR, redb:DIR or rocksdb:DIR
    #[arg(long)]
    pub target: Address,
    /// Requests a second (open loop) [default: 1000]
    #[arg(long, allow_negative_numbers = true, conflicts_with_all = ["closed", "trace"])]
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
    /// Let these hosts generate the load (`gramme bench agent` runs there), each its share
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        conflicts_with = "trace"
    )]
    pub agents: Vec<String>,
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
    /// Shards of an embedded gramme [default: one a CPU; with --on-owner as many as --threads]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,
    /// Run the load of an embedded gramme on the cores that own the keys, not through the handle
    #[arg(long)]
    pub on_owner: bool,
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

fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s") {
        Ok(Duration::ZERO)
    } else {
        duration(text)
    }
}

/// Reads `3%` or `0.03`.
pub fn percent(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number
        .parse::<f64>()
        .map(|value| value / scale)
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share such as 3% or 0.03".to_owned())
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
        let command = Cli::try_parse_from(line.split(' '))
            .expect("the contract's line")
            .command;
        let Command::Run(run) = command else {
            panic!("not a run: {command:?}")
        };
        assert_eq!(
            (run.rate, run.load.connections, run.load.duration.as_secs()),
            (Some(500.0), 8, 30)
        );
        assert_eq!(run.load.warmup, WarmUpArg::Time(Duration::from_secs(5)));
    }

    #[test]
    fn the_contracts_other_lines_are_taken() {
        for line in [
            "gramme-bench search --target resp://h:1 --sla p99.9<2ms",
            "gramme-bench compare --a resp://h:1 --b memcached://h:2 --json",
            "gramme-bench limits --dir d",
            "gramme-bench report d e",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["gramme-bench", "run", "--target", "http://x"]).is_err());
    }

    #[test]
    fn sizes_and_times_are_read_or_refused() {
        assert_eq!((bytes("256MiB"), bytes("12")), (Ok(256 << 20), Ok(12)));
        assert!(bytes("1TB").is_err() && bytes("99999999999GiB").is_err());
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("5").is_err() && duration("0s").is_err());
    }
}
