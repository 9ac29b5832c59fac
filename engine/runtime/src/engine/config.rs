//! What an engine is opened with.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use gramme_core::base::ids::ShardIndex;
use gramme_core::base::limits::{BUCKET_DEFAULT, VALUE_BYTES_MAX_DEFAULT};
use gramme_core::port::Durability;
use gramme_core::ring::BucketView;
use gramme_core::shard::{BACKGROUND_BYTES_PER_S_DEFAULT, Bucket, PaceConfig, SLA_P999_NS_DEFAULT};

use super::OpenError;
use crate::edge::Edge;

/// What `sla_p999` may be.
pub const SLA_P999_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60);

/// The least that `background_bytes_per_s` may be.
const BACKGROUND_BYTES_PER_S_MIN: u64 = 1 << 20;

/// Whether `background_bytes_per_s` may be so.
///
/// # Errors
/// Why not.
pub fn check_background_rate(bytes_per_s: u64) -> Result<(), String> {
    if bytes_per_s >= BACKGROUND_BYTES_PER_S_MIN {
        return Ok(());
    }
    Err(format!(
        "background_bytes_per_s = {bytes_per_s} is too little for repair ever to end; {BACKGROUND_BYTES_PER_S_MIN} or more \
         is possible"
    ))
}

/// Makes the edge of each shard, on that shard's thread.
pub type EdgeFactory = Box<dyn Fn(ShardIndex) -> Box<dyn Edge> + Send + Sync>;

/// How a node takes part in a cluster. Needs an edge that reaches other nodes.
#[derive(Clone, Debug, Default)]
pub struct ClusterConfig {
    /// What people call it; its id when it has no name.
    pub name: Option<String>,
    /// The failure domain.
    pub zone: String,
    /// `HOST:PORT` of the native port, as others reach it; shard *s* also listens on that port + 1 + *s*.
    pub listen: String,
    /// `HOST:PORT` of the Redis port.
    pub resp: String,
    /// `HOST:PORT` of the admin port.
    pub admin: String,
    /// Its share of the data, relative to the others'. Twice as much has twice the data, and twice the requests.
    pub weight: u32,
    /// Native addresses of nodes of the cluster to join. None, in a new directory: a cluster of one begins.
    pub seeds: Vec<String>,
    /// The buckets and their quorums, until an operator changes them for the whole cluster.
    pub buckets: Vec<BucketView>,
}

/// An engine's configuration: `EngineConfig::new(dir)`, then change what should differ.
pub struct EngineConfig {
    /// The data directory; made when it is not there.
    pub dir: PathBuf,
    /// Shards. More use more cores for requests of different keys; none said: one a core. The count may change between
    /// starts; the data is then dealt anew, which takes as long as reading it.
    pub shards: Option<u16>,
    /// RAM for values, all shards together: the log's readable tail and the cache. The index comes on top, up to 32
    /// bytes a key. More means fewer reads from the disk.
    pub memory_bytes: u64,
    /// What the directory may take. None: nine tenths of what the file system has, counting what is there already. At
    /// the limit writes fail (`DiskFull`), reads and deletes go on.
    pub capacity_bytes: Option<u64>,
    /// How durable a write of the default bucket is unless it says otherwise.
    pub durability: Durability,
    /// How long a buffered write may be only in memory. Longer gathers larger commits; a crash may lose this much.
    pub commit_interval: Duration,
    /// Group commits that may be on their way to the disk at once, for each shard. 1 to 16.
    pub commits_in_flight_max: u32,
    /// Reads that may be on their way to the disk at once, for each shard; more wait their turn in the program. Deeper
    /// than the device's own parallelism only makes the commits behind them slow.
    pub reads_in_flight_max: u32,
    /// How fast the cleaners of all shards together read while space is not short. None: 128 MiB a second each.
    pub clean_bytes_per_s: Option<u64>,
    /// How long a pass through everything on the disk takes: each record is read and verified once in that time, and one
    /// that rotted is told, and brought back from other replicas, before anybody asks for it. Zero: never.
    pub scrub_interval: Duration,
    /// The p99.9 that clients are promised, from 1 ms to 60 s: before it is missed the background (cleaner, hints,
    /// comparing, transfer) slows down. Shorter makes that take longer under load, longer makes clients feel it.
    pub sla_p999: Duration,
    /// What the background of all shards together may move between nodes, in bytes a second, at least 1 MiB. None:
    /// 64 MiB for each shard. The cleaner has its own rate; both are cut alike while clients need the machine.
    pub background_bytes_per_s: Option<u64>,
    /// The greatest value accepted, up to 8 MiB.
    pub value_bytes_max: u32,
    /// Log bytes between checkpoints, for each shard. Less makes a start after a crash faster and writes more. Where
    /// clients slow one down, a start may have half as much again to replay.
    pub checkpoint_bytes: u64,
    /// Requests that may wait at once in each shard; beyond it they are refused (`Overloaded`).
    pub requests_max: u32,
    /// Buckets beside `default`, or instead of its usual rules.
    pub buckets: Vec<Bucket>,
    /// The length of a segment of the log; fixed when the directory is made, ignored afterwards. None: by the size of the
    /// file system. Smaller ones suit small directories (a shard needs at least eight), larger ones have less overhead.
    pub segment_bytes: Option<u32>,
    /// Partitions of a new directory, a power of two from 2 to 65,536; ignored afterwards. All nodes of a cluster have the
    /// same number, for as long as it lives: some dozens for each node that it may ever have. More make a cluster's
    /// table longer, fewer its shares coarser. None: 1024.
    pub partitions: Option<u32>,
    /// The block to which commits are padded, where the device's own is larger than what the file system says; a power
    /// of two from 4 to 64 KiB. Fixed like the segment's length. None: what the file system says.
    pub block_bytes: Option<u32>,
    /// How long a shard may look on for work before it sleeps, while that pays. About what a sleep and its wake-up cost, so
    /// that looking on in vain at most doubles that. Zero: never; less CPU, more latency.
    pub spin_max: Duration,
    /// Whether each shard's thread is bound to a core of its own, where the process has that many. Bind when the
    /// engine has the machine to itself, not when other threads of the process compete for the same cores.
    pub pin_to_cores: bool,
    /// How far ahead of this node's wall clock a context's or an object's may be.
    pub clock_drift_max: Duration,
    /// How the node takes part in a cluster; none for an engine that is alone for good.
    pub cluster: Option<ClusterConfig>,
    /// What brings requests from elsewhere (the network); none for an embedded engine.
    pub edge: Option<EdgeFactory>,
}

impl EngineConfig {
    /// The configuration that is right for most.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            shards: None,
            memory_bytes: 256 << 20,
            capacity_bytes: None,
            durability: Durability::Buffered,
            commit_interval: Duration::from_millis(10),
            commits_in_flight_max: 3,
            reads_in_flight_max: 256,
            clean_bytes_per_s: None,
            scrub_interval: Duration::from_secs(7 * 24 * 3600),
            sla_p999: Duration::from_nanos(SLA_P999_NS_DEFAULT),
            background_bytes_per_s: None,
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT as u32,
            checkpoint_bytes: 512 << 20,
            requests_max: 65_536,
            buckets: Vec::new(),
            segment_bytes: None,
            partitions: None,
            block_bytes: None,
            spin_max: Duration::from_micros(8),
            pin_to_cores: true,
            clock_drift_max: Duration::from_millis(500),
            cluster: None,
            edge: None,
        }
    }

    /// The background's pace for each of so many shards.
    ///
    /// # Errors
    /// What is said of it cannot be.
    pub(super) fn pace(&self, shards: u16) -> Result<PaceConfig, OpenError> {
        if !SLA_P999_RANGE.contains(&self.sla_p999) {
            return Err(OpenError::Config(format!(
                "sla_p999 = {:?} is not possible; 1 ms to 60 s is",
                self.sla_p999
            )));
        }
        let said = self.background_bytes_per_s;
        said.map_or(Ok(()), check_background_rate)
            .map_err(OpenError::Config)?;
        let a_shard = |all| all / u64::from(shards.max(1));
        Ok(PaceConfig {
            sla_p999_ns: u64::try_from(self.sla_p999.as_nanos()).unwrap_or(u64::MAX),
            bytes_per_s: said.map_or(BACKGROUND_BYTES_PER_S_DEFAULT, a_shard),
        })
    }

    /// All buckets; `default` is always among them.
    pub(super) fn all_buckets(&self) -> Vec<Bucket> {
        let mut buckets = self.buckets.clone();
        if !buckets.iter().any(|bucket| bucket.name == BUCKET_DEFAULT) {
            let mut default = Bucket::new(BUCKET_DEFAULT);
            default.durability = self.durability;
            buckets.insert(0, default);
        }
        buckets
    }
}
