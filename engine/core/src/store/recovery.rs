//! Recovery: from what a directory holds to an index and a log that goes on.
//!
//! Takes the newest checkpoint that verifies, then replays the log's tail batch by batch. Never writes: what is found
//! torn is cut by going on in a new segment, whose first batch names the last one that counts.
//!
//! How a torn tail is told from damage: each batch header carries the greatest batch that was on stable media when it
//! was closed. A batch that is missing or does not verify was promised to someone exactly when a later header says that
//! it was durable; then it is damage: reported with its place, and its keys are unknown, not absent. Otherwise nobody
//! was told of it, and the log ends before it.

use crate::base::ids::{BatchNumber, SegmentId};
use crate::port::{FileId, IoError, Source};
use crate::store::format::{
    BATCH_HEADER_BYTES, BatchHeader, Record, RecordError, RecordHeader, walk_batch,
};
use crate::store::segment::{SegmentState, Segments};

/// Bytes read at once.
const WINDOW_BYTES: usize = 4 << 20;
/// How far behind a batch that is missing the next one may begin.
const LOOK_AHEAD_BYTES: usize = 24 << 20;

/// Where a replay begins, and what the log was then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayFrom {
    /// The first segment use to replay; 0: everything.
    pub generation: u64,
    /// Where in it.
    pub offset: u32,
    /// The batch before.
    pub last: BatchNumber,
    /// The segments that were in use, with their generations.
    pub in_use: Vec<(SegmentId, u64)>,
    /// Whether the log ended there, by a clean stop.
    pub is_end: bool,
}

/// One thing that a replay found, in the order of the log.
#[derive(Debug)]
pub enum Replayed<'a> {
    /// First of all: what each segment's file is now. Entries of a checkpoint that name another use are gone: what they
    /// named was overwritten or moved, which the replay tells, or reaped.
    Surveyed(&'a Segments),
    /// A record.
    Record(SegmentId, u32, Record<'a>),
    /// A record whose key is known and whose body is lost.
    Lost(SegmentId, u32, RecordHeader),
    /// A place where records of any keys may be lost.
    Damage(SegmentId, u32),
}

/// What the log is after a replay.
#[derive(Debug, Default)]
pub struct LogState {
    /// The files; `live_bytes` is not counted yet.
    pub segments: Segments,
    /// The next use of a segment.
    pub next_generation: u64,
    /// The last batch that counts.
    pub last: BatchNumber,
    /// The next batch's number.
    pub next_number: u64,
    /// The greatest time that may have been used.
    pub hlc_ceiling: u64,
    /// The segment to go on in, after a clean stop.
    pub resume: Option<SegmentId>,
    /// Bytes of batches that nobody was told of, and which are cut.
    pub torn_bytes: u64,
}

struct Tail {
    id: SegmentId,
    bytes: u64,
    first: BatchHeader,
    /// The last batch of this segment that can count.
    counted_upto: u64,
}

/// Of the segments in the order of their generations, those that count: what a segment's first batch follows is the
/// last one before it; a batch with a greater number in an older segment was cut by an earlier start.
fn counted(tails: Vec<Tail>) -> Vec<Tail> {
    let mut upto = u64::MAX;
    let mut counted = Vec::with_capacity(tails.len());
    for mut tail in tails.into_iter().rev() {
        if tail.first.number.0 > upto {
            continue;
        }
        tail.counted_upto = upto;
        upto = upto.min(tail.first.previous.0);
        counted.push(tail);
    }
    counted.reverse();
    counted
}

struct Reader<'s> {
    source: &'s mut dyn Source,
    block: usize,
    window: Vec<u8>,
    file: Option<SegmentId>,
    start: u64,
}

impl Reader<'_> {
    /// At least `bytes` bytes at `offset` (fewer at the file's end).
    fn at(
        &mut self,
        id: SegmentId,
        offset: u64,
        bytes: usize,
    ) -> Result<&[u8], (SegmentId, IoError)> {
        let held_to = self.start + self.window.len() as u64;
        let is_held =
            self.file == Some(id) && self.start <= offset && offset + bytes as u64 <= held_to;
        if !is_held {
            self.window
                .resize(bytes.max(WINDOW_BYTES).next_multiple_of(self.block), 0);
            let start = offset - offset % self.block as u64;
            self.file = None;
            let read = self
                .source
                .read(FileId::Segment(id), start, &mut self.window)
                .map_err(|error| (id, error))?;
            self.window.truncate(read);
            (self.file, self.start) = (Some(id), start);
        }
        let from = ((offset - self.start) as usize).min(self.window.len());
        Ok(&self.window[from..])
    }

    /// The greatest batch that one of the segment's batches says was durable when it was closed.
    fn promised_in(&mut self, tail: &Tail, owner: u32) -> Result<u64, (SegmentId, IoError)> {
        let (mut promised, mut at) = (0, u64::from(tail.first.offset));
        let generation = Some(tail.first.generation);
        while let Some(found) = self.next_header((tail.id, tail.bytes), at, owner, generation)? {
            if found.number.0 <= tail.counted_upto {
                promised = promised.max(found.durable.0);
            }
            let step = u64::from(found.bytes).next_multiple_of(self.block as u64);
            at = u64::from(found.offset) + step.max(self.block as u64);
        }
        Ok(promised)
    }

    /// The first header of the segment's own (any generation, or that one) from `offset` on, within the look-ahead.
    fn next_header(
        &mut self,
        tail: (SegmentId, u64),
        offset: u64,
        owner: u32,
        generation: Option<u64>,
    ) -> Result<Option<BatchHeader>, (SegmentId, IoError)> {
        let (id, file_bytes) = tail;
        let end = file_bytes.min(offset + LOOK_AHEAD_BYTES as u64);
        let mut at = offset;
        while at + BATCH_HEADER_BYTES as u64 <= end {
            let header = BatchHeader::decode(self.at(id, at, BATCH_HEADER_BYTES)?);
            let is_its = |h: &BatchHeader| {
                h.owner == owner
                    && u64::from(h.offset) == at
                    && generation.is_none_or(|g| h.generation == g)
            };
            if let Some(header) = header.filter(is_its) {
                return Ok(Some(header));
            }
            at += self.block as u64;
        }
        Ok(None)
    }
}

/// Replays the log from where a checkpoint ends; calls `each` for what it finds.
///
/// # Errors
/// The file that could not be read, and why. A device that cannot read its log's tail must not serve it.
pub fn replay(
    source: &mut dyn Source,
    block: usize,
    owner: u32,
    from: &ReplayFrom,
    mut each: impl FnMut(Replayed<'_>),
) -> Result<LogState, (SegmentId, IoError)> {
    let mut files = source.segments();
    files.sort_unstable();
    let mut state = LogState {
        last: from.last,
        next_generation: from.generation.max(1),
        ..LogState::default()
    };
    let mut highest = from.last.0;
    let mut reader = Reader {
        source,
        block,
        window: Vec::new(),
        file: None,
        start: 0,
    };
    let mut tails = Vec::new();
    for (id, bytes) in files {
        let first = reader.next_header((id, bytes), 0, owner, None)?;
        let segment = state.segments.reach(id);
        segment.state = SegmentState::Ready;
        let Some(first) = first else { continue };
        segment.generation = first.generation;
        state.next_generation = state.next_generation.max(first.generation + 1);
        if first.generation >= from.generation {
            tails.push(Tail {
                id,
                bytes,
                first,
                counted_upto: u64::MAX,
            });
        } else if from.in_use.contains(&(id, first.generation)) {
            segment.state = SegmentState::Sealed;
            segment.used_bytes = bytes as u32;
        }
    }
    each(Replayed::Surveyed(&state.segments));
    tails.sort_unstable_by_key(|tail| tail.first.generation);
    let tails = counted(tails);
    let mut is_cut = false;
    for (position, tail) in tails.iter().enumerate() {
        let later = &tails[position + 1..];
        let generation = tail.first.generation;
        let mut at = if generation == from.generation {
            u64::from(from.offset)
        } else {
            0
        };
        let counted_upto = tail.counted_upto;
        while !is_cut && state.last.0 < counted_upto {
            let header =
                BatchHeader::decode(reader.at(tail.id, at, BATCH_HEADER_BYTES)?).filter(|h| {
                    h.owner == owner
                        && h.generation == generation
                        && u64::from(h.offset) == at
                        && h.previous == state.last
                });
            let whole = match header {
                Some(header) if header.number.0 > counted_upto => break,
                Some(header) => {
                    let bytes = reader.at(tail.id, at, header.bytes as usize)?;
                    let mut is_whole = bytes.len() >= header.bytes as usize;
                    let mut records = 0;
                    walk_batch(&header, bytes, |_, record| {
                        is_whole &= record.is_ok();
                        records += 1;
                    });
                    (is_whole && records == header.records).then_some(header)
                }
                None => None,
            };
            let header = match whole {
                Some(header) => header,
                None => {
                    // Something is missing: was it promised to anyone?
                    let missing = state.last.0 + 1;
                    let skip = header.map_or(block as u64, |h| {
                        u64::from(h.bytes).next_multiple_of(block as u64)
                    });
                    let mut promised = 0;
                    for tail in later {
                        promised = promised.max(reader.promised_in(tail, owner)?);
                    }
                    let (mut next, mut ahead_bytes) = (None, 0);
                    let mut ahead = at + skip;
                    while let Some(found) =
                        reader.next_header((tail.id, tail.bytes), ahead, owner, Some(generation))?
                    {
                        if found.number.0 <= counted_upto {
                            next = next.or(Some(found));
                            promised = promised.max(found.durable.0);
                        }
                        highest = highest.max(found.number.0);
                        state.hlc_ceiling = state.hlc_ceiling.max(found.hlc_ceiling);
                        ahead_bytes += u64::from(found.bytes);
                        ahead = u64::from(found.offset)
                            + u64::from(found.bytes).next_multiple_of(block as u64);
                    }
                    if promised < missing {
                        state.torn_bytes += ahead_bytes;
                        if let Some(torn) = header {
                            highest = highest.max(torn.number.0);
                            state.hlc_ceiling = state.hlc_ceiling.max(torn.hlc_ceiling);
                            state.torn_bytes += u64::from(torn.bytes);
                        }
                        is_cut = true;
                        break;
                    }
                    match (header, next) {
                        (Some(damaged), _) => damaged,
                        (None, Some(next)) => {
                            each(Replayed::Damage(tail.id, at as u32));
                            state.last = next.previous;
                            at = u64::from(next.offset);
                            continue;
                        }
                        (None, None) => {
                            each(Replayed::Damage(tail.id, at as u32));
                            state.last = later.first().map_or(state.last, |t| t.first.previous);
                            break;
                        }
                    }
                }
            };
            let bytes = reader.at(tail.id, at, header.bytes as usize)?;
            walk_batch(&header, bytes, |offset, record| match record {
                Ok(record) => each(Replayed::Record(tail.id, offset, record)),
                Err(RecordError::Body(lost)) => each(Replayed::Lost(tail.id, offset, lost)),
                Err(RecordError::Header | RecordError::Short) => {
                    each(Replayed::Damage(tail.id, offset))
                }
            });
            state.last = header.number;
            state.hlc_ceiling = state.hlc_ceiling.max(header.hlc_ceiling);
            at = (at + u64::from(header.bytes)).next_multiple_of(block as u64);
        }
        highest = highest.max(state.last.0);
        let segment = state.segments.at(tail.id);
        if is_cut && at == 0 {
            segment.state = SegmentState::Ready;
            continue;
        }
        segment.state = SegmentState::Sealed;
        segment.used_bytes = at as u32;
        let is_newest = later.is_empty();
        if is_newest
            && from.is_end
            && generation == from.generation
            && at == u64::from(from.offset)
            && state.torn_bytes == 0
        {
            state.resume = Some(tail.id);
        }
    }
    state.next_number = highest + 1;
    Ok(state)
}
