//! A shard's segments walked from end to end, each batch and each record verified.
//!
//! Owns what counts as damage. A record that does not verify, a hole between batches of one segment, and batches that the
//! next segment names but that are not there are damage; what nobody was ever told of at the end of the log is a torn
//! tail, and normal after a crash, as are batches that a start has cut since other shards lost what they depend on. Unlike recovery it begins at the first segment, so it also reads what lies before the
//! checkpoint. Never writes.

use gramme_core::base::ids::{SegmentId, ShardIndex};
use gramme_core::port::{FileId, Source};
use gramme_core::store::format::{
    BATCH_HEADER_BYTES, BatchHeader, FLAG_CONTROL, FLAG_TOMBSTONE, RecordError, owner, walk_batch,
};
use gramme_core::store::preface::Preface;
use gramme_core::store::segment::SegmentUse;
use gramme_engine::directory::Directory;

/// A place that does not verify.
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) what: String,
}

/// What a shard's log holds.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) segments: u64,
    pub(super) segments_in_use: u64,
    pub(super) file_bytes: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) tombstones: u64,
    pub(super) record_bytes: u64,
    pub(super) torn_batches: u64,
    pub(super) places: Vec<Place>,
}

/// One segment's walk.
struct Segment {
    id: SegmentId,
    first: BatchHeader,
    /// The last batch of it that is whole, and where it ends.
    last: u64,
    end: u64,
    /// The greatest batch that its batches say was durable.
    promised: u64,
    /// The last batch of it that counts, where a survey says so.
    counted: Option<u64>,
    /// The segments that its first batch lists as in use.
    survey: Option<Vec<SegmentUse>>,
    /// Damage, with the batch before which it lies, or whose it is: judged when all segments are known.
    places: Vec<(u64, Place)>,
}

/// Walks a shard; `step` is told of each segment that is done.
pub(super) fn walk(
    directory: &Directory,
    shard: ShardIndex,
    mut step: impl FnMut(),
) -> Result<Walked, String> {
    let mut source = directory.source(shard);
    let owner = owner(directory.node_id(), shard);
    let mut walked = Walked::default();
    let mut segments = Vec::new();
    for (id, bytes) in source.segments() {
        walked.segments += 1;
        walked.file_bytes += bytes;
        let mut content = vec![0; usize::try_from(bytes).map_err(|error| error.to_string())?];
        let read = source
            .read(FileId::Segment(id), 0, &mut content)
            .map_err(|error| {
                format!(
                    "shard {shard}: segment {:08x} cannot be read ({error:?}); its disk fails",
                    id.0
                )
            })?;
        content.truncate(read);
        let walk = SegmentWalk {
            id,
            bytes: &content,
            block: directory.block_bytes() as usize,
            owner,
        };
        segments.extend(walk.run(&mut walked));
        step();
    }
    segments.sort_unstable_by_key(|segment| segment.first.generation);
    survey(&mut segments, &mut walked);
    walked.segments_in_use = segments.len() as u64;
    judge(segments, &mut walked);
    Ok(walked)
}

/// Leaves out the segments that were given back, as the newest survey tells, and names those that are missing.
fn survey(segments: &mut Vec<Segment>, walked: &mut Walked) {
    let newest = segments
        .iter_mut()
        .rev()
        .find_map(|segment| Some((segment.first.generation, segment.survey.take()?)));
    let Some((newest, listed)) = newest else {
        return;
    };
    segments.retain(|segment| {
        let generation = segment.first.generation;
        generation >= newest || listed.iter().any(|used| used.generation == generation)
    });
    for used in listed {
        let is_its = |segment: &&mut Segment| segment.first.generation == used.generation;
        match segments.iter_mut().find(is_its) {
            Some(segment) => segment.counted = Some(used.last.0),
            None => walked.places.push(Place {
                segment: used.id,
                offset: 0,
                what: format!(
                    "the whole segment is missing, with batches up to {}",
                    used.last.0
                ),
            }),
        }
    }
}

/// Tells damage from what nobody was told of.
fn judge(segments: Vec<Segment>, walked: &mut Walked) {
    let promised = segments
        .iter()
        .map(|segment| segment.promised)
        .max()
        .unwrap_or(0);
    let firsts: Vec<BatchHeader> = segments.iter().map(|segment| segment.first).collect();
    for (position, segment) in segments.into_iter().enumerate() {
        let next = firsts.get(position + 1);
        // What a later segment does not follow was cut by an earlier start.
        let counted = next.map_or(promised, |next| next.previous.0);
        let counted = segment.counted.unwrap_or(counted);
        for (batch, place) in segment.places {
            if batch <= counted {
                walked.places.push(place);
            } else {
                walked.torn_batches += 1;
            }
        }
        // A use that was between the two and is freed explains any gap.
        let is_adjacent = segment.counted.is_some()
            || next.is_none_or(|next| next.generation == segment.first.generation + 1);
        if is_adjacent && segment.last < counted {
            walked.places.push(Place {
                segment: segment.id,
                offset: segment.end,
                what: format!("batches {} to {counted} are missing", segment.last + 1),
            });
        }
    }
}

struct SegmentWalk<'a> {
    id: SegmentId,
    bytes: &'a [u8],
    block: usize,
    owner: u32,
}

impl SegmentWalk<'_> {
    /// The next batch at or behind a place.
    fn next(&self, from: usize, generation: Option<u64>) -> Option<(usize, BatchHeader)> {
        (from..self.bytes.len().saturating_sub(BATCH_HEADER_BYTES - 1))
            .step_by(self.block)
            .find_map(|at| {
                let header = BatchHeader::decode(self.bytes.get(at..)?)?;
                let is_its = header.owner == self.owner
                    && header.offset as usize == at
                    && generation.is_none_or(|generation| header.generation == generation);
                is_its.then_some((at, header))
            })
    }

    /// How many batches a start has cut here.
    fn cut_from(&self, at: usize, first: BatchHeader) -> u64 {
        let end = |at: usize, header: BatchHeader| {
            (at + header.bytes as usize).next_multiple_of(self.block)
        };
        let cut = core::iter::successors(Some((at, first)), |(at, header)| {
            self.next(end(*at, *header), Some(first.generation))
        });
        cut.count() as u64
    }

    /// `None` when no batch of this shard lies in it.
    fn run(&self, walked: &mut Walked) -> Option<Segment> {
        let (mut at, first) = self.next(0, None)?;
        if first.is_cut {
            walked.torn_batches += self.cut_from(at, first);
            return None;
        }
        let place = |offset: u64, what: String| Place {
            segment: self.id,
            offset,
            what,
        };
        let mut places = Vec::new();
        if at > 0 {
            places.push((
                first.previous.0,
                place(0, format!("no batch up to byte {at}")),
            ));
        }
        let mut segment = Segment {
            id: self.id,
            first,
            last: first.previous.0,
            end: 0,
            promised: 0,
            counted: None,
            survey: None,
            places,
        };
        let mut next = Some(first);
        while let Some(header) = next {
            if header.is_cut {
                walked.torn_batches += self.cut_from(at, header);
                break;
            }
            let mut found = 0;
            let batch = self.bytes.get(at..).unwrap_or_default();
            if at == 0 {
                let preface = Preface::of_batch(&header, batch);
                segment.survey = preface.and_then(|preface| Some(preface.survey()?.collect()));
            }
            walk_batch(&header, batch, |offset, record| {
                found += 1;
                match record {
                    Ok(record) if record.header.flags & FLAG_CONTROL != 0 => {}
                    Ok(record) => {
                        walked.records += 1;
                        walked.record_bytes += record.header.record_bytes() as u64;
                        walked.tombstones += u64::from(record.header.flags & FLAG_TOMBSTONE != 0);
                    }
                    Err(error) => {
                        let what = match error {
                            RecordError::Body(lost) if lost.flags & FLAG_CONTROL != 0 => {
                                "what the batch says of the log is damaged; no key is".into()
                            }
                            RecordError::Body(lost) => {
                                format!(
                                    "the record of the key with token {:016x} is damaged",
                                    lost.token.0
                                )
                            }
                            RecordError::Header | RecordError::Short => {
                                "records of unknown keys are damaged".into()
                            }
                        };
                        segment
                            .places
                            .push((header.number.0, place(u64::from(offset), what)));
                    }
                }
            });
            if batch.len() < header.bytes as usize {
                let what = format!("the file ends within batch {}", header.number.0);
                segment
                    .places
                    .push((header.number.0, place(at as u64, what)));
            } else if found < header.records {
                let what = format!(
                    "batch {} has {found} of {} records",
                    header.number.0, header.records
                );
                segment
                    .places
                    .push((header.number.0, place(at as u64, what)));
            }
            walked.batches += 1;
            segment.last = header.number.0;
            segment.promised = segment.promised.max(header.durable.0);
            let end = (at + header.bytes as usize).next_multiple_of(self.block);
            segment.end = end as u64;
            next = self
                .next(end, Some(first.generation))
                .map(|(found_at, found)| {
                    if found_at > end || found.previous.0 > segment.last {
                        let what = format!(
                            "no batch from here to byte {found_at}; batches up to {} are missing",
                            found.previous.0
                        );
                        segment
                            .places
                            .push((found.previous.0, place(end as u64, what)));
                    }
                    at = found_at;
                    found
                });
        }
        Some(segment)
    }
}
