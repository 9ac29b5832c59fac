//! The machine that joins the parts: an event in, effects out.

use std::sync::Arc;

use crate::base::time::Now;
use crate::port::{Effects, Event, LogRange, Note, Source};
use crate::replica::Replica;
use crate::ring::RingView;

pub use crate::replica::{
    Bucket, Damage, OpenError, RecoveryReport, ShardConfig, ShardStatus, WriteState,
};

/// One shard.
pub struct Shard {
    replica: Replica,
    view: Option<Arc<RingView>>,
}

impl Shard {
    /// Reads what the directory holds and makes a shard of it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed.
    pub fn open(
        config: ShardConfig,
        now: Now,
        source: &mut dyn Source,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let (replica, report) = Replica::open(config, now, source)?;
        let shard = Self {
            replica,
            view: None,
        };
        Ok((shard, report))
    }

    /// Takes one event; appends effects.
    pub fn step(&mut self, now: Now, event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Note(Note::View(view)) => self.view = Some(view),
            Event::Note(_) | Event::Message { .. } | Event::PeerLost(_) => {}
            event => self.replica.step(now, event, effects),
        }
    }

    /// When it wants an `Event::Tick`, on the clock of `Now::mono_ns`.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.replica.next_deadline_ns()
    }

    /// The bytes of a `Write` effect.
    pub fn log_bytes(&self, range: LogRange) -> &[u8] {
        self.replica.log_bytes(range)
    }

    /// Whether it can take writes at once: the first segments are there. A runtime waits for it before it serves.
    pub fn is_ready(&self) -> bool {
        self.replica.is_ready()
    }

    /// The configuration.
    pub const fn config(&self) -> &ShardConfig {
        self.replica.config()
    }

    /// Counters and gauges.
    pub fn status(&self) -> ShardStatus {
        self.replica.status()
    }
}
