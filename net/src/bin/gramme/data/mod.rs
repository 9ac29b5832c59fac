//! `gramme data`: a node's data directory while no node has it: verified, counted, exported, imported.
//!
//! Owns how the directory is opened: an existing one only, under its lock, with the shards that it has.
//!
//! # Layout
//! - `log`: a shard's segments walked batch by batch;
//! - `verify`, `stat`: what the walk found, for people and programs.

mod log;
mod stat;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gramme_core::base::ids::ShardIndex;
use gramme_core::port::Source as _;
use gramme_engine::directory::{Directory, DirectoryOptions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{EXIT_FAILED, fail};

/// What the directory has from its making on.
const SUPERBLOCK: &str = "node.toml";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Reads every record and names each place that does not verify; exit code 3 when there is one.
    Verify(DirArgs),
    /// Counts what the directory holds.
    Stat(DirArgs),
}

/// The directory, and for whom to print.
#[derive(clap::Args)]
pub(crate) struct DirArgs {
    /// The data directory; no node may have it.
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Carries it out.
pub(crate) fn run(args: &Args) -> ExitCode {
    let done = match &args.command {
        Command::Verify(args) => verify::run(args),
        Command::Stat(args) => stat::run(args),
    };
    done.unwrap_or_else(|what| fail(EXIT_FAILED, what))
}

/// Opens a directory that is there.
fn open(dir: &Path) -> Result<Directory, String> {
    if !dir.join(SUPERBLOCK).exists() {
        return Err(format!(
            "{} is no gramme data directory (it has no {SUPERBLOCK}); name the one that `gramme serve --data` has",
            dir.display()
        ));
    }
    let options = DirectoryOptions {
        shards: 1,
        ..DirectoryOptions::default()
    };
    Directory::open(dir, &options).map_err(|error| error.to_string())
}

/// How many segments a shard has.
fn log_segments(directory: &Directory, shard: ShardIndex) -> u64 {
    directory.source(shard).segments().len() as u64
}

/// Progress over so many things; nothing is drawn when stderr is no terminal.
fn progress(things: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(things).with_message(what);
    match ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
