//! What the shards of a node tell each other of their logs: which batch each has begun, and how far all have come.
//!
//! Owns the shared counters and the order in which they are read and written. Never decides what depends on what: that
//! is the core's (`store::frontier`, `store::cut`), which is told by events.
//!
//! Why it is right, with `tick` the greatest tick in which any shard has begun a batch:
//! - a shard publishes the tick of a batch before its number, and the number before any answer of the batch leaves; it
//!   reads the numbers before the tick. So a request is stepped with every batch that its client was told of, in a tick
//!   that is no earlier than any of theirs;
//! - a shard with nothing on its way to the disk is idle. Before it steps anything it takes that back, and then reads
//!   `tick`, all in sequentially consistent order: whoever has read `tick` first and saw it idle then knows that its next
//!   batch is of that tick or a later one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gramme_core::base::ids::ShardIndex;
use gramme_core::shard::Shard;

/// Nothing of the shard is on its way.
const IDLE: u64 = u64::MAX;

/// The counters that the shards of a node share.
#[derive(Debug)]
pub(crate) struct Frontiers {
    tick: AtomicU64,
    /// Rises with each batch that is begun.
    version: AtomicU64,
    /// For each shard the greatest batch that it has begun.
    begun: Box<[AtomicU64]>,
    /// For each shard a tick up to which everything is on stable media, or [`IDLE`].
    settled: Box<[AtomicU64]>,
}

impl Frontiers {
    /// Of so many shards, all of them idle.
    pub(crate) fn new(shards: u16) -> Arc<Self> {
        let counters = |start| (0..shards).map(|_| AtomicU64::new(start)).collect();
        Arc::new(Self {
            tick: AtomicU64::new(0),
            version: AtomicU64::new(0),
            begun: counters(0),
            settled: counters(IDLE),
        })
    }

    /// A shard that has ended holds up no other.
    pub(crate) fn leave(&self, shard: ShardIndex) {
        if let Some(settled) = self.settled.get(usize::from(shard.0)) {
            settled.store(IDLE, Ordering::SeqCst);
        }
    }
}

/// One shard's view of them.
pub(crate) struct Frontier {
    shared: Arc<Frontiers>,
    shard: usize,
    is_alone: bool,
    // what it has read
    seen_version: u64,
    seen_begun: Vec<u64>,
    // what it has written
    begun: u64,
    settled: u64,
}

impl Frontier {
    pub(crate) fn new(shared: Arc<Frontiers>, shard: ShardIndex) -> Self {
        let shards = shared.begun.len();
        Self {
            shared,
            shard: usize::from(shard.0),
            is_alone: shards < 2,
            seen_version: u64::MAX,
            seen_begun: vec![0; shards],
            begun: 0,
            settled: IDLE,
        }
    }

    /// Before anything is stepped: the tick and the batches to tell the shard of, where it must know them.
    pub(crate) fn before(&mut self, is_request: bool) -> Option<(u64, &[u64])> {
        if self.is_alone {
            return None;
        }
        let was_idle = self.settled == IDLE;
        if was_idle {
            self.settled = 0;
            self.store_settled();
        }
        if !was_idle && !is_request {
            return None;
        }
        let version = self.shared.version.load(Ordering::SeqCst);
        if version == self.seen_version && !was_idle {
            return None;
        }
        self.seen_version = version;
        for (seen, begun) in self.seen_begun.iter_mut().zip(&self.shared.begun) {
            *seen = begun.load(Ordering::Acquire);
        }
        Some((self.shared.tick.load(Ordering::SeqCst), &self.seen_begun))
    }

    /// After anything was stepped, before its answers leave.
    pub(crate) fn after(&mut self, shard: &Shard) {
        if self.is_alone {
            return;
        }
        let (batch, tick) = shard.begun();
        if batch.0 == self.begun {
            return;
        }
        self.begun = batch.0;
        self.shared.tick.fetch_max(tick, Ordering::SeqCst);
        if let Some(begun) = self.shared.begun.get(self.shard) {
            begun.store(batch.0, Ordering::Release);
        }
        self.shared.version.fetch_add(1, Ordering::SeqCst);
    }

    /// At the end of a turn.
    pub(crate) fn turn_end(&mut self, shard: &Shard) {
        if self.is_alone {
            return;
        }
        let pending = shard.pending_tick();
        let settled = pending.map_or(IDLE, |tick| tick.saturating_sub(1));
        if settled != self.settled {
            self.settled = settled;
            self.store_settled();
        }
    }

    fn store_settled(&self) {
        if let Some(settled) = self.shared.settled.get(self.shard) {
            settled.store(self.settled, Ordering::SeqCst);
        }
    }

    /// A tick up to which all shards have everything on stable media, and in which none will begin anything. `now` is
    /// the tick of the present time.
    pub(crate) fn all_settled(&self, now: u64) -> u64 {
        let tick = self.shared.tick.fetch_max(now, Ordering::SeqCst).max(now);
        let mut all = tick.saturating_sub(1);
        for (shard, settled) in self.shared.settled.iter().enumerate() {
            let settled = if shard == self.shard {
                // Its own turn is not over: its log knows better.
                IDLE
            } else {
                settled.load(Ordering::SeqCst)
            };
            all = all.min(settled);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Frontier, Frontier) {
        let shared = Frontiers::new(2);
        let first = Frontier::new(Arc::clone(&shared), ShardIndex(0));
        (first, Frontier::new(shared, ShardIndex(1)))
    }

    #[test]
    fn an_idle_shard_settles_everything_before_the_tick_and_a_busy_one_nothing_new() {
        let (first, mut second) = pair();
        assert_eq!(first.all_settled(10), 9);
        let (tick, _) = second.before(false).expect("it was idle");
        assert_eq!(tick, 10, "so what it begins is not settled yet");
        assert_eq!(first.all_settled(12), 0);
        assert!(second.before(false).is_none(), "told already");
    }

    #[test]
    fn a_shard_that_has_ended_holds_up_nobody() {
        let (first, mut second) = pair();
        assert!(second.before(true).is_some());
        assert_eq!(first.all_settled(12), 0);
        first.shared.leave(ShardIndex(1));
        assert_eq!(first.all_settled(12), 11);
    }

    #[test]
    fn a_shard_alone_is_told_nothing() {
        let mut alone = Frontier::new(Frontiers::new(1), ShardIndex(0));
        assert!(alone.before(true).is_none());
        assert_eq!(alone.all_settled(3), 2);
    }
}
