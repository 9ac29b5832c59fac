//! The shard: one core's part of a node, a state machine over its log and index.
mod config;
mod status;

pub use config::{Bucket, ShardConfig};
pub use status::{Damage, ShardStatus, WriteState};

use crate::base::time::Now;
use crate::port::{Effects, Event, LogRange, Source};

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Entries taken from the checkpoint.
    pub checkpoint_entries: u64,
    /// Records replayed from the log's tail.
    pub records_replayed: u64,
    /// Bytes of the torn tail that were cut.
    pub torn_bytes: u64,
    /// Places that are lost.
    pub damage: Vec<Damage>,
}

/// Why a shard cannot start.
#[derive(Clone, Debug)]
pub enum OpenError {
    /// The configuration contradicts itself or what is on disk.
    Config(String),
    /// The device failed.
    Io(crate::port::FileId, crate::port::IoError),
}

/// One shard.
pub struct Shard;

impl Shard {
    /// Opens a shard from what its directory holds (nothing: a new one).
    pub fn open(
        _config: ShardConfig,
        _now: Now,
        _source: &mut dyn Source,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        unimplemented!()
    }
    /// Takes one event; appends effects.
    pub fn step(&mut self, _now: Now, _event: Event<'_>, _effects: &mut Effects) {
        unimplemented!()
    }
    /// When it wants an `Event::Tick`, on the clock of `Now::mono_ns`.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        unimplemented!()
    }
    /// The bytes of a `Write` effect.
    pub fn log_bytes(&self, _range: LogRange) -> &[u8] {
        unimplemented!()
    }
    /// Counters and gauges.
    pub fn status(&self) -> ShardStatus {
        unimplemented!()
    }
}
