//! `gramme data`: a node's data directory while no node has it: verified, counted, exported, imported.
//!
//! Owns how the directory is opened: an existing one only, under its lock, with the shards that it has.
//!
//! # Layout
//! - `log`: a shard's segments walked batch by batch;
//! - `verify`, `stat`: what the walk found, for people and programs;
//! - `export`, `import`: keys as lines of JSON (`gramme::export_line`), through the engine.

mod export;
mod import;
mod log;
mod stat;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gramme::config::File;
use gramme::node::{engine_config, shards_default};
use gramme_core::base::ids::ShardIndex;
use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_core::port::Source as _;
use gramme_engine::Engine;
use gramme_engine::directory::{Directory, DirectoryOptions};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

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
    /// Writes every key as a line of JSON.
    Export(export::Args),
    /// Reads the lines of an export.
    Import(import::Args),
}

/// The directory, and the rules of its buckets.
#[derive(clap::Args)]
struct EngineArgs {
    /// The data directory; no node may have it.
    dir: PathBuf,
    /// The node's configuration, for its buckets.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
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

/// Opens the directory's engine with the shards that it has; also the names of all buckets. A directory that is not there
/// is made only where `may_make`.
fn open_engine(args: &EngineArgs, may_make: bool) -> Result<(Engine, Vec<String>), String> {
    let file = args
        .config
        .as_deref()
        .map_or_else(|| Ok(File::default()), File::read);
    let file = file.map_err(|error| error.to_string())?;
    let mut buckets: Vec<String> = file.buckets.keys().cloned().collect();
    let default = String::from_utf8_lossy(BUCKET_DEFAULT).into_owned();
    if !buckets.contains(&default) {
        buckets.push(default);
    }
    let flags = File {
        data: Some(args.dir.clone()),
        ..File::default()
    };
    let config = file
        .overridden_by(flags)
        .resolve()
        .map_err(|error| error.to_string())?;
    let shards = if may_make && !args.dir.join(SUPERBLOCK).exists() {
        shards_default()
    } else {
        // Locked only meanwhile: the engine takes the lock itself.
        open(&args.dir)?.shards()
    };
    let engine = Engine::open(engine_config(&config, shards)).map_err(|error| error.to_string())?;
    Ok((engine, buckets))
}

/// Set by Ctrl-C or SIGTERM, so that what runs ends in order; the second one ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, EXIT_FAILED.into(), Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| format!("cannot listen for signals: {error}"))?;
    }
    Ok(stop)
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
