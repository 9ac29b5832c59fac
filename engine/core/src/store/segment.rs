//! Segments: the files of a shard's log, what each is for now, and how much of it is live.
//!
//! Owns the table of segments and the spares. Never touches a file: preparing one is an effect that the log emits.
//!
//! Invariants:
//! - generations rise with each use of any segment, so the order of generations is the order of the log;
//! - `live_bytes` is the sum of the length classes of the index entries that point into the segment.

use std::collections::VecDeque;

use crate::base::ids::{BatchNumber, SegmentId};

/// What a segment is for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// There is no file.
    Absent,
    /// The file is being made.
    Preparing,
    /// A spare that can be written.
    Ready,
    /// The one that is appended to.
    Active,
    /// Full, or left after a fault; only read.
    Sealed,
    /// The cleaner copies its live records.
    Cleaning,
    /// Nothing live is in it; a spare again once the copies are durable and a checkpoint lies behind it.
    Emptied {
        /// The batch that the last copy went to.
        copies_in: BatchNumber,
    },
    /// Part of it does not verify, or its file is missing; kept as it is while anything in it is needed or unknown.
    Quarantined,
}

/// One use of a segment, as surveys and checkpoints name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentUse {
    /// The segment.
    pub id: SegmentId,
    /// Which use.
    pub generation: u64,
    /// The last batch in it that counts, as far as it was closed then; 0: not known.
    pub last: BatchNumber,
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    /// What it is for.
    pub state: SegmentState,
    /// Its present use; 0 before the first.
    pub generation: u64,
    /// Bytes that the log has used of it.
    pub used_bytes: u32,
    /// Bytes that live records take.
    pub live_bytes: u64,
    /// The batch before its first one.
    pub before: BatchNumber,
    /// Its last batch that counts; 0: none does yet, or it is not known.
    pub last: BatchNumber,
    /// Whether it may have graves: records of tombstones that the index has forgotten. They still hold off what they
    /// deleted, where a replay without any checkpoint meets that in an older segment.
    pub has_graves: bool,
    /// Its file was missing at the start.
    pub is_missing: bool,
    /// Its former use is left out by the surveys of generations from this on; 0: it has none.
    pub freed_at: u64,
    /// The pieces that are in memory, by offset: (offset, buffer).
    pub(crate) buffers: VecDeque<(u32, u32)>,
}

impl Segment {
    /// A segment without a file.
    pub const fn absent() -> Self {
        Self {
            state: SegmentState::Absent,
            generation: 0,
            used_bytes: 0,
            live_bytes: 0,
            before: BatchNumber(0),
            last: BatchNumber(0),
            has_graves: false,
            is_missing: false,
            freed_at: 0,
            buffers: VecDeque::new(),
        }
    }
}

/// All segments of a shard.
#[derive(Debug, Default)]
pub struct Segments {
    table: Vec<Segment>,
}

impl Segments {
    /// One segment.
    pub fn get(&self, id: SegmentId) -> Option<&Segment> {
        self.table.get(id.0 as usize)
    }

    /// One segment, to change.
    pub fn get_mut(&mut self, id: SegmentId) -> Option<&mut Segment> {
        self.table.get_mut(id.0 as usize)
    }

    /// One segment that is known to be there.
    pub(crate) fn at(&mut self, id: SegmentId) -> &mut Segment {
        &mut self.table[id.0 as usize]
    }

    /// Makes the table reach to `id`.
    pub fn reach(&mut self, id: SegmentId) -> &mut Segment {
        while self.table.len() <= id.0 as usize {
            self.table.push(Segment::absent());
        }
        self.at(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        self.table
            .iter()
            .enumerate()
            .map(|(at, segment)| (SegmentId(at as u32), segment))
    }

    /// The first in a state.
    pub fn first(&self, state: SegmentState) -> Option<SegmentId> {
        self.iter()
            .find(|(_, segment)| segment.state == state)
            .map(|(id, _)| id)
    }

    /// The spare to use next: one whose former use a survey on stable media leaves out, if there is one, else the one of
    /// the oldest use. Oldest first, so that what is overwritten last is what came last: a tombstone outlives its value.
    pub fn next_spare(&self, surveyed_generation: u64) -> Option<SegmentId> {
        self.iter()
            .filter(|(_, segment)| segment.state == SegmentState::Ready)
            .min_by_key(|(_, segment)| (segment.freed_at > surveyed_generation, segment.generation))
            .map(|(id, _)| id)
    }

    /// The segments in which batches lie that a replay may need, in the order of their numbers.
    pub fn in_use(&self) -> impl Iterator<Item = SegmentUse> + '_ {
        let is_in_use = |segment: &Segment| match segment.state {
            SegmentState::Active
            | SegmentState::Sealed
            | SegmentState::Cleaning
            | SegmentState::Quarantined
            | SegmentState::Emptied { .. } => segment.last.0 > 0,
            SegmentState::Absent | SegmentState::Preparing | SegmentState::Ready => false,
        };
        self.iter()
            .filter(move |(_, segment)| is_in_use(segment))
            .map(|(id, segment)| SegmentUse {
                id,
                generation: segment.generation,
                last: segment.last,
            })
    }

    /// After a failed write: no batch behind this one counts.
    pub(crate) fn forget_after(&mut self, durable: BatchNumber) {
        for segment in &mut self.table {
            if segment.last > durable {
                segment.last = if durable > segment.before {
                    durable
                } else {
                    BatchNumber(0)
                };
            }
        }
    }

    /// At a start: what became of the tombstones in a segment is not known.
    pub(crate) fn forget_graves(&mut self) {
        for segment in &mut self.table {
            segment.has_graves = true;
        }
    }

    /// At a start: the spares' former uses are left out by surveys of this generation on.
    pub(crate) fn note_former_uses(&mut self, freed_at: u64) {
        for segment in &mut self.table {
            if segment.state == SegmentState::Ready && segment.generation > 0 {
                segment.freed_at = freed_at;
            }
        }
    }

    /// The oldest generation in which records lie that a replay without a checkpoint would meet, but for segments in
    /// which nothing is live.
    pub fn oldest_generation(&self) -> Option<u64> {
        let is_met = |state: SegmentState| match state {
            SegmentState::Active
            | SegmentState::Sealed
            | SegmentState::Cleaning
            | SegmentState::Quarantined => true,
            SegmentState::Absent
            | SegmentState::Preparing
            | SegmentState::Ready
            | SegmentState::Emptied { .. } => false,
        };
        self.table
            .iter()
            .filter(|segment| is_met(segment.state))
            .map(|segment| segment.generation)
            .min()
    }

    /// How many are in a state.
    pub fn count(&self, state: SegmentState) -> u32 {
        self.table
            .iter()
            .filter(|segment| segment.state == state)
            .count() as u32
    }

    /// How many have a file.
    pub fn files(&self) -> u32 {
        self.table
            .iter()
            .filter(|segment| segment.state != SegmentState::Absent)
            .count() as u32
    }

    /// The segment that the cleaner gains most from (LFS, Rosenblum and Ousterhout 1991: benefit over cost), if it is
    /// no fuller than `live_share_max`.
    pub fn victim(
        &self,
        segment_bytes: u32,
        newest_generation: u64,
        live_share_max: f64,
    ) -> Option<SegmentId> {
        let mut best: Option<(f64, SegmentId)> = None;
        for (id, segment) in self.iter() {
            if segment.state != SegmentState::Sealed {
                continue;
            }
            let live_share = segment.live_bytes as f64 / f64::from(segment_bytes);
            if live_share > live_share_max {
                continue;
            }
            let age = newest_generation.saturating_sub(segment.generation) as f64 + 1.0;
            let benefit = (1.0 - live_share).max(0.0) * age.sqrt() / (1.0 + live_share);
            if best.is_none_or(|(most, _)| benefit > most) {
                best = Some((benefit, id));
            }
        }
        best.map(|(_, id)| id)
    }
}
