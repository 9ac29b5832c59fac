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
    /// Part of it does not verify; kept for the operator, never cleaned.
    Quarantined,
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
