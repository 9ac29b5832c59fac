//! Which segments a replay meets, in what order, and up to which batch each of them counts.
//!
//! Knows from the newest survey which segments were in use: one that it leaves out was given back, and what its file
//! still holds is over; one that it lists and that is not there is missing. Without a survey (it would have been too
//! long) every gap is taken for a missing segment.

use std::collections::BTreeMap;

use crate::base::ids::SegmentId;
use crate::port::IoError;
use crate::store::format::BatchHeader;
use crate::store::log_reader::LogReader;
use crate::store::preface::{LostPlace, Preface};
use crate::store::recovery::ReplayFrom;
use crate::store::segment::SegmentUse;

/// A segment that a replay meets.
pub(super) struct Tail {
    pub(super) id: SegmentId,
    /// Of its file.
    pub(super) bytes: u64,
    pub(super) generation: u64,
    /// The first batch that is found in it; `None`: nothing of this use is there.
    pub(super) first: Option<BatchHeader>,
    /// The last batch of this segment that can count.
    pub(super) counted_upto: u64,
    /// The uses between it and the one before it were given back: what its first batch follows is not there.
    pub(super) is_detached: bool,
}

/// A file and the first batch that is found in it.
pub(super) struct Found {
    pub(super) id: SegmentId,
    pub(super) bytes: u64,
    pub(super) first: BatchHeader,
}

/// The newest survey.
pub(super) struct Survey {
    generation: u64,
    uses: BTreeMap<u64, SegmentUse>,
    pub(super) lost: LostPlace,
}

impl Survey {
    /// Reads the newest one.
    pub(super) fn newest(
        reader: &mut LogReader<'_>,
        found: &[Found],
    ) -> Result<Option<Self>, (SegmentId, IoError)> {
        let mut newest_first: Vec<&Found> = found.iter().filter(|f| f.first.offset == 0).collect();
        newest_first.sort_unstable_by_key(|found| core::cmp::Reverse(found.first.generation));
        for found in newest_first {
            let bytes = reader.at(found.id, 0, found.first.bytes as usize)?;
            let Some(preface) = Preface::of_batch(&found.first, bytes) else {
                continue;
            };
            if let Some(uses) = preface.survey() {
                return Ok(Some(Self {
                    generation: found.first.generation,
                    uses: uses.map(|used| (used.generation, used)).collect(),
                    lost: preface.lost,
                }));
            }
        }
        Ok(None)
    }

    /// Whether a use is one that the log still has.
    pub(super) fn has(&self, id: SegmentId, generation: u64) -> bool {
        generation >= self.generation
            || self.uses.get(&generation).is_some_and(|used| used.id == id)
    }

    fn last_of(&self, generation: u64) -> u64 {
        self.uses
            .get(&generation)
            .map_or(u64::MAX, |used| used.last.0)
    }
}

/// The segments to replay, oldest first.
pub(super) fn tails(found: &[Found], survey: Option<&Survey>, from: &ReplayFrom) -> Vec<Tail> {
    let mut tails: BTreeMap<u64, Tail> = BTreeMap::new();
    for found in found {
        let generation = found.first.generation;
        if generation >= from.generation && survey.is_none_or(|s| s.has(found.id, generation)) {
            tails.insert(
                generation,
                Tail {
                    id: found.id,
                    bytes: found.bytes,
                    generation,
                    first: Some(found.first),
                    counted_upto: u64::MAX,
                    is_detached: false,
                },
            );
        }
    }
    let listed = survey.map(|survey| survey.uses.range(from.generation..));
    for (generation, used) in listed.into_iter().flatten() {
        tails.entry(*generation).or_insert(Tail {
            id: used.id,
            bytes: 0,
            generation: *generation,
            first: None,
            counted_upto: used.last.0,
            is_detached: false,
        });
    }
    let mut tails = counted(tails.into_values().collect(), survey);
    let mut before = from.generation.saturating_sub(1);
    for tail in &mut tails {
        let is_adjacent = tail.generation == before + 1;
        tail.is_detached = !is_adjacent && survey.is_some_and(|s| tail.generation <= s.generation);
        before = tail.generation;
    }
    tails
}

/// Of the segments in the order of their generations, those that count: what a segment's first batch follows is the
/// last one before it; a batch with a greater number in an older segment was cut by an earlier start.
fn counted(tails: Vec<Tail>, survey: Option<&Survey>) -> Vec<Tail> {
    let mut upto = u64::MAX;
    let mut counted = Vec::with_capacity(tails.len());
    for mut tail in tails.into_iter().rev() {
        let last = survey.map_or(u64::MAX, |survey| survey.last_of(tail.generation));
        match &tail.first {
            Some(first) if first.number.0 > upto.min(last) => continue,
            Some(first) => {
                tail.counted_upto = upto.min(last);
                upto = upto.min(first.previous.0);
            }
            None => {
                tail.counted_upto = upto.min(last);
                upto = tail.counted_upto;
            }
        }
        counted.push(tail);
    }
    counted.reverse();
    counted
}
