//! What the shards of a simulated node tell each other of their logs, and what they agree on at a start: as the runtime
//! does it (`engine/runtime/src/frontiers.rs`, `engine/agreement.rs`).

use gramme_core::base::time::Now;
use gramme_core::port::{Effects, Event, FileId, Source as _};
use gramme_core::shard::Shard;
use gramme_core::store::cut::{Tail, consistent};
use gramme_core::store::format::{BATCH_HEADER_BYTES, BatchHeader};

use super::disk::Disk;

/// The counters of one node.
#[derive(Default)]
pub(super) struct Frontiers {
    tick: u64,
    version: u64,
    begun: Vec<u64>,
    /// `None`: nothing is on its way to the disk.
    pending: Vec<Option<u64>>,
    seen: Vec<u64>,
}

impl Frontiers {
    /// Of so many shards that have just started.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            tick: 0,
            version: 0,
            begun: vec![0; shards],
            pending: vec![None; shards],
            seen: vec![u64::MAX; shards],
        }
    }

    /// Steps a shard, which is told before what it must know, and asked after what the others must know.
    pub(super) fn step(
        &mut self,
        (number, shard): (usize, &mut Shard),
        now: Now,
        event: Event<'_>,
        effects: &mut Effects,
    ) {
        if self.begun.len() < 2 {
            return shard.step(now, event, effects);
        }
        if matches!(event, Event::TurnEnd) && shard.awaits_others() {
            self.tick = self.tick.max(shard.commit_tick(now.mono_ns));
            let settled = self
                .pending
                .iter()
                .map(|tick| tick.unwrap_or(self.tick).saturating_sub(1));
            let tick = settled.min().unwrap_or(0);
            shard.step(now, Event::Settled { tick }, effects);
        }
        if self.pending[number].is_none() || self.seen[number] != self.version {
            self.seen[number] = self.version;
            let begun = Event::Begun {
                tick: self.tick,
                batches: &self.begun,
            };
            shard.step(now, begun, effects);
        }
        shard.step(now, event, effects);
        let (batch, tick) = shard.begun();
        self.pending[number] = shard.pending_tick();
        if batch.0 != self.begun[number] {
            self.tick = self.tick.max(tick);
            self.begun[number] = batch.0;
            self.version += 1;
        }
    }
}

/// Cuts logs that depend on what others have lost; returns which of them must be opened anew.
pub(super) fn agree(tails: &[Tail], disks: &mut [&mut Disk]) -> Vec<bool> {
    let stay = consistent(tails);
    let logs = tails.iter().zip(stay).zip(disks);
    let cut = logs.map(|((tail, stay), disk)| {
        let gone = tail.batches.iter().skip(stay).rev();
        let cut = gone.map(|batch| {
            let (file, offset) = (FileId::Segment(batch.segment), u64::from(batch.offset));
            let mut bytes = [0; BATCH_HEADER_BYTES];
            let read = disk.read(file, offset, &mut bytes);
            let header = BatchHeader::decode(&bytes);
            let header = header.unwrap_or_else(|| panic!("it was there: {read:?}"));
            let cut = BatchHeader {
                is_cut: true,
                ..header
            };
            disk.put(file, batch.offset as usize, &cut.encode());
        });
        cut.count() > 0
    });
    cut.collect()
}
