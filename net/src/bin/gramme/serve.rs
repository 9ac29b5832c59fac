//! `gramme serve`: a node in the foreground, until a signal ends it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gramme::config::{ConfigError, DurabilityName, File};
use gramme::host::{Host, raise_limits};
use gramme::node::Node;
use gramme::service::{Watchdog, notify};

use crate::signals::on_asked;
use crate::{EXIT_FAILED, EXIT_USAGE, fail};

/// How often a running node looks whether its shards still run.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The flags; they override the configuration file.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The data directory; made when it is not there.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A TOML file; gramme.sample.toml has every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The native protocol's address [default: 127.0.0.1:7400].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// The Redis protocol's address [default: 127.0.0.1:7379].
    #[arg(long, value_name = "HOST:PORT")]
    resp: Option<SocketAddr>,
    /// The admin HTTP server's address [default: 127.0.0.1:7480].
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
    /// Shards [default: one a core].
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// How other nodes reach the native port, where that is not what it listens on.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// A node of the cluster to join; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<String>,
    /// The zone that this node fails with.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// What people call this node.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// RAM for values, all shards together [default: a quarter of the machine's].
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// When a write is acknowledged, unless it says otherwise [default: buffered].
    #[arg(long)]
    durability: Option<DurabilityName>,
    /// Lets other machines reach this node without TLS and authentication.
    #[arg(long)]
    insecure: bool,
    /// Ends when its parent does (`gramme dev` starts nodes so).
    #[arg(long, hide = true)]
    ends_with_parent: bool,
}

impl Args {
    fn config(&self) -> Result<File, ConfigError> {
        let file = self
            .config
            .as_deref()
            .map_or_else(|| Ok(File::default()), File::read)?;
        Ok(file.overridden_by(File {
            data: self.data.clone(),
            listen: self.listen,
            resp: self.resp,
            admin: self.admin,
            shards: self.shards,
            memory_bytes: self.memory,
            durability: self.durability,
            name: self.name.clone(),
            zone: self.zone.clone(),
            advertise: self.advertise.clone(),
            join: (!self.join.is_empty()).then(|| self.join.clone()),
            insecure: self.insecure.then_some(true),
            ..File::default()
        }))
    }
}

/// Serves until SIGTERM or SIGINT, or until a shard ends.
pub(crate) fn run(args: Args) -> ExitCode {
    if args.ends_with_parent
        && let Err(error) =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
    {
        return fail(
            EXIT_FAILED,
            format_args!("cannot ask to end with the parent: {error}"),
        );
    }
    let config = match args.config().and_then(File::resolve) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, error),
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("GRAMME_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,gramme::start=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let ended = match asked_to_end() {
        Ok(ended) => ended,
        Err(error) => {
            return fail(
                EXIT_FAILED,
                format_args!("cannot listen for signals: {error}"),
            );
        }
    };
    raise_limits();
    let node = match Node::start(&config) {
        Ok(node) => node,
        Err(error) => {
            return fail(
                if error.is_configuration() {
                    EXIT_USAGE
                } else {
                    EXIT_FAILED
                },
                error,
            );
        }
    };
    // A node that somebody tries out promises nothing, and one that does not start has one line to say.
    if !args.ends_with_parent {
        warn_of_host(&config.data);
    }
    let at = node.addresses();
    eprintln!(
        "ready resp={} native={} admin={}",
        at.resp, at.native, at.admin
    );
    if let Err(error) = notify("READY=1") {
        tracing::warn!("systemd could not be told that the node serves: {error}");
    }
    let mut failures = Vec::new();
    let mut watchdog = Watchdog::from_environment();
    let look_interval = watchdog.map_or(LOOK_INTERVAL, |dog| dog.interval().min(LOOK_INTERVAL));
    while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(look_interval) {
        failures = node.failures();
        if !failures.is_empty() {
            break;
        }
        if let Some(watchdog) = &mut watchdog {
            show_life(&node, watchdog);
        }
    }
    if let Err(error) = notify("STOPPING=1") {
        tracing::warn!("systemd could not be told that the node stops: {error}");
    }
    match node.stop() {
        Ok(()) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(()) => fail(
            EXIT_FAILED,
            format_args!("stopped since a shard ended: {}", failures.join("; ")),
        ),
        Err(what) => fail(
            EXIT_FAILED,
            format_args!("stopped, but not cleanly: {what}"),
        ),
    }
}

/// One line for each setting of this machine that will break the node's promise.
fn warn_of_host(data: &Path) {
    // It need not be there yet: the nearest directory that is lies on the same disk.
    let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
    let there = whole.ancestors().find_map(|part| part.canonicalize().ok());
    for warning in Host::here().warnings(there.as_deref().unwrap_or(&whole)) {
        tracing::warn!("{warning}");
    }
}

/// Tells systemd that the node lives, but only when each shard has just shown that it does.
fn show_life(node: &Node, watchdog: &mut Watchdog) {
    if !watchdog.is_due(Instant::now()) {
        return;
    }
    let hung = node.hung(watchdog.interval());
    if hung.is_empty() {
        if let Err(error) = notify("WATCHDOG=1") {
            tracing::warn!("systemd could not be told that the node lives: {error}");
        }
    } else {
        let names: Vec<String> = hung.iter().map(ToString::to_string).collect();
        tracing::error!(
            "shard {} does not answer; the watchdog is told nothing, and ends the node if that goes on",
            names.join(", ")
        );
    }
}

/// A message when it is asked to end; asked twice, it ends at once.
fn asked_to_end() -> std::io::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    on_asked(move |asked| {
        if asked.is_again {
            eprintln!("gramme: asked twice; ending at once, the next start recovers");
            std::process::exit(asked.exit_code().into());
        }
        // The receiver is gone only when the process ends anyway.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}
