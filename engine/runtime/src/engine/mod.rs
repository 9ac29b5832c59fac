//! The engine: a node's shards inside one process, each on a thread of its own, and the handle to them.
//!
//! Owns the start (directory, recovery on all shards at once, edges), the stop, and who can be reached where.
//! Never touches a key: the handle's requests go to the shards as messages.
//!
//! # Layout
//! - `config`: what it is opened with;
//! - `redeal`: a start with another number of shards than the last one;
//! - `starting`: all shards on their way up;
//! - `agreement`: where their logs end, agreed on before any serves;
//! - `thread`: one shard's thread;
//! - `handle`: requests from any thread, futures on the owner's core;
//! - `pipeline`: many requests in flight from one thread;
//! - `block`: waiting without a runtime.

mod agreement;
mod block;
mod config;
mod handle;
mod pipeline;
mod redeal;
mod starting;
mod thread;

use core::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::limits::PARTITIONS_DEFAULT;
use gramme_core::cluster::{Boot, BootError};
use gramme_core::ring::Slices;
use gramme_core::shard::{RecoveryReport, ShardStatus};

use crate::directory::{Directory, DirectoryError, DirectoryOptions, random};
use crate::mailbox::{Address, Message};
use crate::state::{self, StateKeeper};

pub use config::{ClusterConfig, EdgeFactory, EngineConfig, SLA_P999_RANGE, check_background_rate};
pub use pipeline::{Pipeline, Reply};
use starting::{Around, Starting};

/// How long `status` waits for a shard.
const STATUS_WAIT: Duration = Duration::from_secs(2);

/// When a mailbox that was full is tried again.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A node's shards. Cheap to clone; the last clone stops them.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    slices: Slices,
    addresses: Vec<Address>,
    reports: Vec<RecoveryReport>,
    threads: Mutex<Vec<JoinHandle<thread::Ended>>>,
    failures: Mutex<Vec<String>>,
    state: Option<Arc<StateKeeper>>,
    /// Locked as long as the shards live.
    _directory: Option<Directory>,
}

/// Why an engine does not open. Nothing was changed, but that a new directory may have been made.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory: locked by another process, of a newer format, not to be read …
    Directory(DirectoryError),
    /// The configuration is contradictory.
    Config(String),
    /// A shard cannot recover.
    Shard(ShardIndex, gramme_core::shard::OpenError),
    /// A shard's edge cannot start: its port is in use …
    Edge(ShardIndex, io::Error),
    /// glommio cannot start.
    Executor(ShardIndex, String),
    /// io_uring cannot be used.
    Ring(io::Error),
    /// The directory's place in its cluster is not clear.
    Cluster(BootError),
    /// The data could not be dealt to another number of shards; it is as it was.
    Redeal(String),
    /// Anything else of the system.
    Io(&'static str, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(error) => error.fmt(f),
            Self::Config(what) => write!(f, "{what}"),
            Self::Shard(shard, error) => write!(f, "shard {shard} cannot start: {error}"),
            Self::Edge(shard, error) => write!(f, "shard {shard} cannot serve: {error}"),
            Self::Executor(shard, what) => write!(
                f,
                "the executor of shard {shard} cannot start: {what}; gramme needs Linux 6.1 with io_uring and some locked memory (ulimit -l)"
            ),
            Self::Ring(error) => write!(
                f,
                "io_uring cannot be used: {error}; gramme needs Linux 6.1, and kernel.io_uring_disabled = 0, also in a container"
            ),
            Self::Cluster(error) => error.fmt(f),
            Self::Redeal(what) => write!(
                f,
                "the data cannot be dealt to another number of shards: {what}; it is as it was: open it with the former number, or mend what is said here"
            ),
            Self::Io(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl Engine {
    /// Opens the directory and starts its shards. It returns when all of them have recovered and take writes.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way; nothing runs then.
    pub fn open(mut config: EngineConfig) -> Result<Self, OpenError> {
        let shards = config
            .shards
            .unwrap_or_else(|| u16::try_from(cores().len().max(1)).unwrap_or(u16::MAX));
        // Before anything is made.
        config.pace(shards)?;
        let options = DirectoryOptions {
            shards,
            segment_bytes: config.segment_bytes,
            block_bytes: config.block_bytes,
            partitions: config.partitions.unwrap_or(PARTITIONS_DEFAULT),
        };
        let mut directory = Directory::open(&config.dir, &options).map_err(OpenError::Directory)?;
        if directory.shards() != shards {
            redeal::redeal(&mut directory, &config)?;
        }
        let mut around = Around {
            edge: config.edge.take().map(Arc::new),
            ..Around::default()
        };
        if let Some(cluster) = config.cluster.take() {
            let state = StateKeeper::start(directory.path().to_path_buf());
            let state = state.map_err(|error| OpenError::Io("start a thread", error))?;
            around.state = Some(Arc::new(state));
            around.boot = Some(boot(cluster, &config, &directory)?);
        }
        let shard_dir = |shard| directory.shard_dir(shard);
        let engine = Self::start(&config, &directory, (shards, &shard_dir), around)?;
        let mut inner = Arc::into_inner(engine.inner)
            .ok_or_else(|| OpenError::Config("the engine was shared before it was open".into()))?;
        inner._directory = Some(directory);
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Starts so many shards on the files in these directories.
    fn start(
        config: &EngineConfig,
        directory: &Directory,
        (shards, shard_dir): (u16, &dyn Fn(ShardIndex) -> PathBuf),
        around: Around,
    ) -> Result<Self, OpenError> {
        let slices = slices(directory, shards)?;
        let cores = cores();
        let state = around.state.clone();
        let mut starting = Starting::new(config, slices, directory, around)?;
        for shard in 0..shards {
            // Threads that outnumber the cores are left to the system.
            let core = cores.get(usize::from(shard)).copied();
            let core = core.filter(|_| usize::from(shards) <= cores.len());
            let shard = ShardIndex(shard);
            starting.start(shard, core, shard_dir(shard))?;
        }
        let (node, reports) = (directory.node_id(), starting.wait()?);
        let (addresses, threads) = starting.finish();
        Ok(Self {
            inner: Arc::new(Inner {
                node,
                slices,
                addresses,
                reports,
                threads: Mutex::new(threads),
                failures: Mutex::default(),
                state,
                _directory: None,
            }),
        })
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The cut of the token space; who owns what.
    pub fn slices(&self) -> Slices {
        self.inner.slices
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.inner.slices.shards()
    }

    /// What each shard found at its start.
    pub fn recovery(&self) -> &[RecoveryReport] {
        &self.inner.reports
    }

    /// Counters and gauges of each shard; none for one that has ended, or does not answer within two seconds.
    pub fn status(&self) -> Vec<Option<ShardStatus>> {
        let asked: Vec<_> = self
            .inner
            .addresses
            .iter()
            .map(|address| {
                let (sender, receiver) = oneshot::channel();
                address.post(Message::Status(sender)).ok()?;
                Some(receiver)
            })
            .collect();
        asked
            .into_iter()
            .map(|receiver| receiver?.recv_timeout(STATUS_WAIT).ok())
            .collect()
    }

    /// The shards that do not take a message and answer it within this time: those that hang or have ended. One that is
    /// busy answers after what came before.
    pub fn hung(&self, within: Duration) -> Vec<ShardIndex> {
        let until = Instant::now() + within;
        let asked: Vec<_> = self.inner.addresses.iter().map(Asked::new).collect();
        (0..)
            .map(ShardIndex)
            .zip(asked)
            .filter_map(|(shard, asked)| (!asked.answers(until)).then_some(shard))
            .collect()
    }

    /// Why shards have ended that should run; empty while all is well.
    pub fn failures(&self) -> Vec<String> {
        self.inner.collect_ended();
        lock(&self.inner.failures).clone()
    }

    /// Many requests in flight from this thread, `in_flight_max` at most.
    pub fn pipeline(&self, in_flight_max: usize) -> Pipeline {
        Pipeline::new(self.clone(), in_flight_max)
    }

    /// Stops all shards: what was acknowledged is written to stable media, and a checkpoint, so that the next start is
    /// quick. Requests meanwhile get [`Error::Stopped`](crate::answer::Error::Stopped). It returns when all have ended.
    ///
    /// # Errors
    /// What went wrong in a shard, in words.
    pub fn stop(&self) -> Result<(), String> {
        self.inner.stop();
        let failures = self.failures();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("; "))
        }
    }

    fn address(&self, shard: ShardIndex) -> Option<&Address> {
        self.inner.addresses.get(usize::from(shard.0))
    }
}

/// A question whether a shard lives.
struct Asked<'a> {
    address: &'a Address,
    answer: Option<oneshot::Receiver<ShardStatus>>,
}

impl<'a> Asked<'a> {
    fn new(address: &'a Address) -> Self {
        let mut asked = Self {
            address,
            answer: None,
        };
        asked.ask();
        asked
    }

    fn ask(&mut self) {
        let (sender, receiver) = oneshot::channel();
        self.answer = match self.address.post(Message::Status(sender)) {
            Ok(()) => Some(receiver),
            Err(_) => None,
        };
    }

    /// A mailbox that is full is no sign of death: it is tried again until the time is up.
    fn answers(mut self, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(answer) = self.answer.take() {
                return answer.recv_timeout(left).is_ok();
            }
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(ASK_AGAIN.min(left));
            self.ask();
        }
    }
}

impl Inner {
    fn stop(&self) {
        for address in &self.addresses {
            // A full mailbox is emptied by its shard soon; one that has ended needs no stop.
            address.post_waiting(Message::Stop);
        }
        let this = std::thread::current().id();
        for thread in lock(&self.threads).drain(..) {
            // The last clone may have been held by a local future: its own thread cannot wait for itself.
            if thread.thread().id() != this {
                self.note(thread);
            }
        }
        if let Some(state) = &self.state {
            state.end();
        }
    }

    fn collect_ended(&self) {
        let mut threads = lock(&self.threads);
        let (ended, running): (Vec<_>, Vec<_>) = threads
            .drain(..)
            .partition(std::thread::JoinHandle::is_finished);
        *threads = running;
        drop(threads);
        ended.into_iter().for_each(|thread| self.note(thread));
    }

    fn note(&self, thread: JoinHandle<thread::Ended>) {
        let name = thread.thread().name().unwrap_or("a shard").to_owned();
        let failure = match thread.join() {
            Ok(Ok(())) => return,
            Ok(Err(what)) => format!("{name}: {what}"),
            Err(_) => format!("{name}: a panic outside of its loop; report this"),
        };
        lock(&self.failures).push(failure);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the control shard is told at its start.
fn boot(
    cluster: ClusterConfig,
    config: &EngineConfig,
    directory: &Directory,
) -> Result<Boot, OpenError> {
    let me = directory.node_id();
    let state = state::read(directory.path());
    let drift_ms = config.clock_drift_max.as_millis();
    Ok(Boot {
        me,
        name: cluster.name.unwrap_or_else(|| me.to_string()),
        zone: cluster.zone,
        listen: cluster.listen,
        resp: cluster.resp,
        admin: cluster.admin,
        slices: slices(directory, directory.shards())?,
        weight: cluster.weight,
        // Raised and persisted when the directory was opened.
        start_count: directory.starts(),
        state: state.map_err(|error| OpenError::Io("read the cluster's state, ring.bin", error))?,
        seeds: cluster.seeds,
        buckets: cluster.buckets,
        clock_drift_ms_max: u64::try_from(drift_ms).unwrap_or(u64::MAX),
        random_seed: random().map_err(OpenError::Directory)?,
    })
}

fn slices(directory: &Directory, shards: u16) -> Result<Slices, OpenError> {
    Slices::new(directory.partitions(), shards).ok_or_else(|| {
        OpenError::Config(format!("{shards} shards are not possible; 1 to 1024 are"))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind the locks is never left half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cores that this process may run on.
fn cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot find this process's cores; using one, unbound");
            Vec::new()
        }
    }
}
