//! What can be typed.
//!
//! Owns the arguments and their help.
//! Never holds a default that depends on the machine: `host` works those out.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Checks and sets a host for gramme, takes it back, makes it last, and measures its disk.
#[derive(Parser)]
#[command(name = "gramme-tune", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tell what is off, why it matters and what `apply` would do; needs no root. Exit 1 when something that matters is off.
    Check(Check),
    /// Show what would be written, ask, write it; each old value goes to a journal first.
    Apply(Apply),
    /// Put back what `apply` replaced, also after a crash in the middle of it.
    Revert(Revert),
    /// Make the settings last: sysctl.d, udev rules, a unit, and kernel arguments as text.
    Persist(Persist),
    /// Measure the data directory's disk and write io.toml for the node.
    Calibrate(Calibrate),
    /// Measure how still each core keeps; needs no root.
    Jitter(Jitter),
    /// Keep the CPUs of the whole machine out of deep sleep while this runs (/dev/cpu_dma_latency).
    Hold(Hold),
    /// List every knob.
    Knobs(Knobs),
    /// Say all about one knob.
    Explain(Explain),
}

/// Which machine, and which part of it.
#[derive(Args, Clone)]
pub(crate) struct Target {
    /// Look at the machine whose /proc, /sys and /etc lie under this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Only these knobs.
    #[arg(long, value_name = "KNOB,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Not these knobs.
    #[arg(long, value_name = "KNOB,…", value_delimiter = ',')]
    pub(crate) skip: Vec<String>,
    /// CPUs that run shards, like 2-7 [default: the isolated ones, else all].
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<String>,
    /// The node's data directory: its disks and its file system are looked at [default: every disk].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Network cards to look at [default: all that are hardware].
    #[arg(long, value_name = "NIC,…", value_delimiter = ',')]
    pub(crate) nic: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print a list of {knob, path, current, wanted, verdict, severity, why, action}.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show also what is as wanted, only told, or not applicable.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Only show what would be written.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Print a shell script instead of acting.
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    pub(crate) script: bool,
    /// When a step fails, keep the earlier ones instead of taking them back.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) journal: Journal,
}

#[derive(Args)]
pub(crate) struct Journal {
    /// The journal [default: var/lib/gramme-tune/journal under the root].
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Revert {
    /// The machine's root directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Only show what would be put back.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Print a shell script instead of acting.
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    pub(crate) script: bool,
    #[command(flatten)]
    pub(crate) journal: Journal,
}

#[derive(Args)]
pub(crate) struct Persist {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Only show the files.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Print a shell script instead of acting.
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    pub(crate) script: bool,
    /// Take the files away again.
    #[arg(long)]
    pub(crate) remove: bool,
    /// Where this program lies when the machine starts.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/gramme-tune")]
    pub(crate) binary: PathBuf,
}

#[derive(Args)]
pub(crate) struct Calibrate {
    /// The data directory.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to write the result [default: io.toml in the directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Size of the scratch file in MiB; larger than any cache of the device for figures of the device itself.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..))]
    pub(crate) size: u64,
    /// Milliseconds for each point.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(20..=600_000))]
    pub(crate) point_ms: u64,
    /// Seconds of sustained writing; minutes on a large flash disk.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) sustained_s: u64,
    /// Print the result as JSON too.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Jitter {
    /// CPUs [default: all that this process may use].
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<String>,
    /// Seconds for each of the two probes.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Hold {
    /// The longest wake-up that is allowed.
    #[arg(long, value_name = "US", default_value_t = 2, value_parser = clap::value_parser!(i32).range(0..=1_000_000))]
    pub(crate) latency_us: i32,
    /// A program to run meanwhile; without one, until this is ended.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Knobs {
    /// As the table of the documentation.
    #[arg(long)]
    pub(crate) markdown: bool,
}

#[derive(Args)]
pub(crate) struct Explain {
    /// The knob.
    #[arg(value_name = "KNOB")]
    pub(crate) knob: String,
}
