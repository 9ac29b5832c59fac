//! The `gramme` command: one file a subcommand, this one only chooses.
//!
//! Exit codes everywhere: 0 done, 2 wrong use or configuration, 3 failed (other codes are the subcommand's own). What
//! failed, why, and what to do goes to stderr; what a program reads goes to stdout.

mod admin;
mod cluster;
mod data;
mod del;
mod dev;
mod get;
mod keys;
mod put;
mod serve;
mod sibling;
mod signals;
mod table;
mod tls;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Wrong use or configuration.
pub(crate) const EXIT_USAGE: u8 = 2;
/// It was right to ask, and it failed.
pub(crate) const EXIT_FAILED: u8 = 3;

/// gramme: an always-writeable Dynamo store, one node a core.
#[derive(Parser)]
#[command(name = "gramme", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node that serves a data directory.
    Serve(serve::Args),
    /// Runs a local node to try things out; needs no configuration.
    Dev(dev::Args),
    /// Reads a key.
    Get(get::GetArgs),
    /// Writes a key.
    Put(put::PutArgs),
    /// Deletes a key.
    Del(del::DelArgs),
    /// A cluster's members, layout and buckets: status, plans, commits.
    Cluster(cluster::Args),
    /// A data directory while no node has it: verify, stat, export, import.
    Data(data::Args),
    /// What the nodes of a cluster do right now.
    Top(top::Args),
    /// The latency harness: run, search, compare, limits.
    #[command(disable_help_flag = true)]
    Bench(sibling::Args),
    /// The machine's tuning: check, apply, revert, persist, calibrate.
    #[command(disable_help_flag = true)]
    Tune(sibling::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Dev(args) => dev::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Put(args) => put::run(&args),
        Command::Del(args) => del::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Bench(args) => sibling::run("gramme-bench", &args),
        Command::Tune(args) => sibling::run("gramme-tune", &args),
    }
}

/// Tells what failed, and gives the exit code back.
pub(crate) fn fail(code: u8, what: impl std::fmt::Display) -> ExitCode {
    eprintln!("gramme: {what}");
    ExitCode::from(code)
}
