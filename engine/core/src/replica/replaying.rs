//! What the replay of a start makes of the index: record after record, the slots of some fetched together.
//!
//! With many keys each record's slot is in no cache, and waiting for one after the other was six tenths of a start. So a
//! few records wait, their slots are loaded side by side ([`Index::foresee`]), and then they are put in their order.
//!
//! Invariant: whoever looks at the index in between sees it as if none had waited.

use std::collections::BTreeSet;

use super::kept::replay_mark;
use crate::base::ids::{PartitionId, SegmentId};
use crate::ring::Slices;
use crate::store::format::{FLAG_DROP, RecordHeader};
use crate::store::index::{Entry, Index};
use crate::store::place::PlaceLayout;

/// How many records wait for each other: about what a core fetches at once.
const TOGETHER: usize = 32;

/// An index while the log is replayed into it.
pub(super) struct Replaying {
    index: Index,
    layout: PlaceLayout,
    slices: Slices,
    waiting: Vec<(SegmentId, u32, RecordHeader)>,
    /// Partitions that were let go of in what was replayed.
    dropped: BTreeSet<PartitionId>,
}

impl Replaying {
    pub(super) fn new(index: Index, layout: PlaceLayout, slices: Slices) -> Self {
        Self {
            index,
            layout,
            slices,
            waiting: Vec::with_capacity(TOGETHER),
            dropped: BTreeSet::new(),
        }
    }

    /// The next record of the log, at an offset of a segment.
    pub(super) fn record(&mut self, id: SegmentId, offset: u32, header: RecordHeader) {
        self.waiting.push((id, offset, header));
        if self.waiting.len() == TOGETHER {
            self.put_waiting();
        }
    }

    /// The index as all records so far have made it.
    pub(super) fn index(&mut self) -> &mut Index {
        self.put_waiting();
        &mut self.index
    }

    /// The index, and the partitions that were let go of on the way.
    pub(super) fn end(mut self) -> (Index, BTreeSet<PartitionId>) {
        self.put_waiting();
        (self.index, self.dropped)
    }

    fn put_waiting(&mut self) {
        for (_, _, header) in &self.waiting {
            self.index.foresee(header.token);
        }
        let mut waiting = core::mem::take(&mut self.waiting);
        for (id, offset, header) in waiting.drain(..) {
            self.put(id, offset, &header);
        }
        self.waiting = waiting;
    }

    fn put(&mut self, id: SegmentId, offset: u32, header: &RecordHeader) {
        let partition = self.slices.partition_of(header.token);
        if replay_mark(&mut self.index, partition, header) {
            self.dropped.insert(partition);
        } else if header.flags & FLAG_DROP != 0 {
            self.index.remove(header.token, header.tag15);
            return;
        }
        let place = self.layout.pack(
            id,
            offset,
            header.record_bytes() as u32,
            header.flags,
            header.tag15,
        );
        let fingerprint = header.fingerprint;
        let entry = Entry { fingerprint, place };
        self.index.put(header.token, header.tag15, entry);
    }
}
