//! Recovery: from what a directory holds to an index and a log that goes on.
//!
//! Takes the newest checkpoint that verifies, then replays the log's tail batch by batch; without one, the whole log.
//! Never writes: what is found torn is cut by going on in a new segment, whose first batch names the last one that
//! counts.
//!
//! How a torn tail is told from damage: each batch header carries the greatest batch that was on stable media when it
//! was closed. A batch that is missing or does not verify was promised to someone exactly when a later header says that
//! it was durable; then it is damage: reported with its place, and its keys are unknown, not absent. Otherwise nobody
//! was told of it, and the log ends before it. It also ends before a batch that an earlier start has marked as cut
//! (`store::cut`).
//!
//! How narrow the damage is: the batch behind lists the keys of what is lost (`preface`), and only those are unknown. Where
//! that list is lost as well, any key may have been there: every record before the place may be an older one, and is
//! unknown until it is written again.

use crate::base::ids::{BatchNumber, SegmentId};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::port::{IoError, Source};
use crate::store::format::{
    BATCH_HEADER_BYTES, BatchHeader, FLAG_CONTROL, FLAG_FRONTIER, Record, RecordError,
    RecordHeader, walk_batch,
};
use crate::store::frontier::Noted;
use crate::store::log_reader::{LOOK_AHEAD_BYTES, LogReader, Roll};
use crate::store::preface::{LostPlace, Preface, RollKey};
use crate::store::segment::{SegmentState, SegmentUse, Segments};
use crate::store::tails::{Found, Survey, Tail, tails};

/// Where a replay begins, and what the log was then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayFrom {
    /// The first segment use to replay; 0: everything.
    pub generation: u64,
    /// Where in it.
    pub offset: u32,
    /// The batch before.
    pub last: BatchNumber,
    /// The segments that were in use.
    pub in_use: Vec<SegmentUse>,
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
    /// What the next batch depends on, which begins here.
    Frontier(SegmentId, u32, Noted),
    /// A record whose key is known and whose body is lost.
    Lost(SegmentId, u32, RecordHeader),
    /// A key whose record is lost, header and all, somewhere behind this place.
    LostKey(SegmentId, u32, RollKey),
    /// A place where records of any keys are lost.
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
    /// The keys of that batch, if they are known.
    pub last_keys: Option<Vec<RollKey>>,
    /// The next batch's number.
    pub next_number: u64,
    /// The greatest time that may have been used.
    pub hlc_ceiling: u64,
    /// Where records of keys that nobody can name were lost, now or before an earlier start.
    pub lost: LostPlace,
    /// The segment to go on in, after a clean stop.
    pub resume: Option<SegmentId>,
    /// Bytes of batches that nobody was told of, and which are cut.
    pub torn_bytes: u64,
}

type Failed = (SegmentId, IoError);

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
) -> Result<LogState, Failed> {
    let mut files = source.segments();
    files.sort_unstable();
    let mut reader = LogReader::new(source, &files, block, owner);
    let mut state = LogState {
        last: from.last,
        next_generation: from.generation.max(1),
        ..LogState::default()
    };
    let mut found = Vec::new();
    for (id, bytes) in files {
        let first = reader.next_header((id, bytes), 0, None)?;
        let segment = state.segments.reach(id);
        segment.state = SegmentState::Ready;
        let Some(first) = first else { continue };
        segment.generation = first.generation;
        state.next_generation = state.next_generation.max(first.generation + 1);
        found.push(Found { id, bytes, first });
    }
    let survey = Survey::newest(&mut reader, &found)?;
    state.lost = survey.as_ref().map_or(LostPlace::default(), |s| s.lost);
    let tails = tails(&found, survey.as_ref(), from);
    for used in &from.in_use {
        let file = found
            .iter()
            .find(|f| f.id == used.id && f.first.generation == used.generation);
        // One that is not there may have been given back since the checkpoint.
        let is_listed = survey
            .as_ref()
            .is_some_and(|s| s.has(used.id, used.generation));
        if used.generation < from.generation && (file.is_some() || is_listed) {
            keep_used(&mut state.segments, used, file.map(|file| file.bytes));
        }
    }
    each(Replayed::Surveyed(&state.segments));
    let mut replay = Replay {
        highest: from.last.0,
        reader,
        state,
        is_cut: false,
        each,
    };
    for (position, tail) in tails.iter().enumerate() {
        let later = &tails[position + 1..];
        replay.segment(tail, later, from)?;
    }
    let Replay {
        mut state, highest, ..
    } = replay;
    state.next_number = highest + 1;
    // What a spare still holds may be in the newest survey.
    let freed_at = state.next_generation;
    state.segments.note_former_uses(freed_at);
    Ok(state)
}

/// A segment that is in use and that the replay does not meet: as it was, or, where its file is gone, kept in mind, so that
/// whatever names it is unknown.
fn keep_used(segments: &mut Segments, used: &SegmentUse, file_bytes: Option<u64>) {
    let segment = segments.reach(used.id);
    let is_missing = segment.state == SegmentState::Absent;
    if segment.generation == used.generation {
        segment.state = SegmentState::Sealed;
        segment.used_bytes = file_bytes.unwrap_or(0) as u32;
    } else if is_missing {
        segment.state = SegmentState::Quarantined;
        segment.generation = used.generation;
        segment.is_missing = true;
    } else {
        return;
    }
    segment.last = used.last;
}

struct Replay<'s, F> {
    reader: LogReader<'s>,
    state: LogState,
    highest: u64,
    is_cut: bool,
    each: F,
}

/// What lies behind a batch that is missing or damaged.
struct Ahead {
    /// The next batch of the same segment that counts.
    next: Option<BatchHeader>,
    /// The greatest batch that anything behind says was durable.
    promised: u64,
    bytes: u64,
}

impl<F: FnMut(Replayed<'_>)> Replay<'_, F> {
    fn segment(&mut self, tail: &Tail, later: &[Tail], from: &ReplayFrom) -> Result<(), Failed> {
        let Some(first) = &tail.first else {
            return self.missing_segment(tail, later);
        };
        let generation = tail.generation;
        let mut at = if generation == from.generation {
            u64::from(from.offset)
        } else {
            0
        };
        if tail.is_detached && !self.is_cut {
            self.state.last = first.previous;
            if first.offset > 0 {
                self.lose_everything(tail.id, 0, (generation, first.offset));
                at = u64::from(first.offset);
            }
        }
        while !self.is_cut && self.state.last.0 < tail.counted_upto {
            match self.batch(tail, later, at)? {
                Some(next) => at = next,
                None => break,
            }
        }
        self.highest = self.highest.max(self.state.last.0);
        if self.is_cut && at == 0 {
            // Its numbers and times were used, though what they stood for is gone.
            let (number, hlc_ceiling) = self.reader.greatest_in((tail.id, tail.bytes), first)?;
            self.highest = self.highest.max(number);
            self.state.hlc_ceiling = self.state.hlc_ceiling.max(hlc_ceiling);
            self.state.segments.at(tail.id).state = SegmentState::Ready;
            return Ok(());
        }
        let segment = self.state.segments.at(tail.id);
        segment.state = SegmentState::Sealed;
        segment.used_bytes = at as u32;
        segment.before = first.previous;
        segment.last = self.state.last;
        let is_newest = later.is_empty();
        if is_newest
            && from.is_end
            && generation == from.generation
            && at == u64::from(from.offset)
            && self.state.torn_bytes == 0
        {
            self.state.resume = Some(tail.id);
        }
        Ok(())
    }

    /// A segment that was in use, and of which nothing is there.
    fn missing_segment(&mut self, tail: &Tail, later: &[Tail]) -> Result<(), Failed> {
        if self.is_cut {
            return Ok(());
        }
        if self.promised_by(later)? <= self.state.last.0 {
            self.is_cut = true;
            return Ok(());
        }
        let used = SegmentUse {
            id: tail.id,
            generation: tail.generation,
            last: BatchNumber(tail.counted_upto),
        };
        keep_used(&mut self.state.segments, &used, None);
        self.lose_everything(tail.id, 0, (tail.generation, u32::MAX));
        self.state.last = self.state.last.max(used.last);
        self.highest = self.highest.max(self.state.last.0);
        Ok(())
    }

    fn promised_by(&mut self, tails: &[Tail]) -> Result<u64, Failed> {
        let mut promised = 0;
        for tail in tails {
            if let Some(first) = &tail.first {
                let file = (tail.id, tail.bytes);
                promised = promised.max(self.reader.promised_in(file, first, tail.counted_upto)?);
            }
        }
        Ok(promised)
    }

    /// Records of keys that nobody can name are lost before this end.
    fn lose_everything(&mut self, id: SegmentId, at: u32, (generation, end): (u64, u32)) {
        self.state.lost = self.state.lost.later(LostPlace {
            generation,
            offset: end,
            segment: id,
        });
        (self.each)(Replayed::Damage(id, at));
    }

    /// Replays the batch at a place, or what is left of it; where the next one begins, `None` at the segment's end.
    fn batch(&mut self, tail: &Tail, later: &[Tail], at: u64) -> Result<Option<u64>, Failed> {
        let block = self.reader.block as u64;
        let owner = self.reader.owner;
        let last = self.state.last;
        let header =
            BatchHeader::decode(self.reader.at(tail.id, at, BATCH_HEADER_BYTES)?).filter(|h| {
                h.owner == owner
                    && h.generation == tail.generation
                    && u64::from(h.offset) == at
                    && h.previous == last
            });
        let end_of = |header: &BatchHeader| (at + u64::from(header.bytes)).next_multiple_of(block);
        let Some(header) = header else {
            let ahead = self.look_ahead(tail, later, at + block)?;
            if ahead.promised <= last.0 || mutant::is(Mutant::PromisedUnmissed) {
                self.cut(None, &ahead);
                return Ok(None);
            }
            return self.lost_batches(tail, later, at, ahead.next);
        };
        if header.number.0 > tail.counted_upto {
            return Ok(None);
        }
        if header.is_cut {
            let ahead = self.look_ahead(tail, later, end_of(&header))?;
            self.cut(Some(&header), &ahead);
            return Ok(None);
        }
        let bytes = self.reader.at(tail.id, at, header.bytes as usize)?;
        let mut is_whole = bytes.len() >= header.bytes as usize;
        let mut records = 0;
        walk_batch(&header, bytes, |_, record| {
            is_whole &= record.is_ok();
            records += 1;
        });
        let mut lost = Vec::new();
        if (!is_whole || records != header.records) && !mutant::is(Mutant::TornTaken) {
            let ahead = self.look_ahead(tail, later, end_of(&header))?;
            if ahead.promised <= last.0 || mutant::is(Mutant::PromisedUnmissed) {
                self.cut(Some(&header), &ahead);
                return Ok(None);
            }
            lost = self.lost_records(tail, later, &header, ahead.next.as_ref())?;
        }
        let mut keys = self.state.last_keys.take().unwrap_or_default();
        keys.clear();
        let bytes = self.reader.at(tail.id, at, header.bytes as usize)?;
        let each = &mut self.each;
        walk_batch(&header, bytes, |offset, record| match record {
            Ok(record) if record.header.flags & FLAG_FRONTIER != 0 => {
                if let Some(noted) = Noted::read(&record) {
                    each(Replayed::Frontier(tail.id, header.offset, noted));
                }
            }
            Ok(record) if record.header.flags & FLAG_CONTROL != 0 => {}
            Ok(record) if mutant::is(Mutant::TailForgotten) => keys.push(key_of(&record.header)),
            Ok(record) => {
                keys.push(key_of(&record.header));
                each(Replayed::Record(tail.id, offset, record));
            }
            Err(RecordError::Body(lost)) if lost.flags & FLAG_CONTROL != 0 => {}
            Err(RecordError::Body(lost)) => {
                keys.push(key_of(&lost));
                each(Replayed::Lost(tail.id, offset, lost));
            }
            // `lost_records` says which keys these were.
            Err(RecordError::Header | RecordError::Short) => {}
        });
        for (offset, key) in lost {
            keys.push(key);
            (self.each)(Replayed::LostKey(tail.id, offset, key));
        }
        self.state.last_keys = Some(keys);
        self.state.last = header.number;
        self.state.hlc_ceiling = self.state.hlc_ceiling.max(header.hlc_ceiling);
        Ok(Some(end_of(&header)))
    }

    /// The log ends here: nobody was told of what lies behind.
    fn cut(&mut self, torn: Option<&BatchHeader>, ahead: &Ahead) {
        if torn.is_some_and(|torn| torn.is_cut) {
            mark::reach(Mark::LogEndCut);
        } else if torn.is_some() || ahead.bytes > 0 {
            mark::reach(Mark::TornTailCut);
        }
        self.state.torn_bytes += ahead.bytes;
        if let Some(torn) = torn {
            self.highest = self.highest.max(torn.number.0);
            self.state.hlc_ceiling = self.state.hlc_ceiling.max(torn.hlc_ceiling);
            self.state.torn_bytes += u64::from(torn.bytes);
        }
        self.is_cut = true;
    }

    fn look_ahead(&mut self, tail: &Tail, later: &[Tail], from: u64) -> Result<Ahead, Failed> {
        let mut ahead = Ahead {
            next: None,
            promised: self.promised_by(later)?,
            bytes: 0,
        };
        let mut at = from;
        let file = (tail.id, tail.bytes);
        while let Some(found) = self.reader.next_header(file, at, Some(tail.generation))? {
            if found.number.0 <= tail.counted_upto {
                ahead.next = ahead.next.or(Some(found));
                ahead.promised = ahead.promised.max(found.durable.0);
            }
            self.highest = self.highest.max(found.number.0);
            self.state.hlc_ceiling = self.state.hlc_ceiling.max(found.hlc_ceiling);
            ahead.bytes += u64::from(found.bytes);
            at = (u64::from(found.offset) + u64::from(found.bytes))
                .next_multiple_of(self.reader.block as u64);
        }
        Ok(ahead)
    }

    /// What the batch behind lists: the next of this segment, else the first of the next segment.
    fn roll_behind(
        &mut self,
        tail: &Tail,
        later: &[Tail],
        next: Option<&BatchHeader>,
    ) -> Result<Option<Roll>, Failed> {
        match (next, later.first()) {
            (Some(next), _) => self.reader.roll_in(tail.id, next),
            (None, Some(Tail { id, first, .. })) => match first {
                Some(first) => self.reader.roll_in(*id, first),
                None => Ok(None),
            },
            (None, None) => Ok(None),
        }
    }

    /// The keys of a batch's records whose headers are lost, and where they may have been.
    fn lost_records(
        &mut self,
        tail: &Tail,
        later: &[Tail],
        header: &BatchHeader,
        next: Option<&BatchHeader>,
    ) -> Result<Vec<(u32, RollKey)>, Failed> {
        let at = u64::from(header.offset);
        let bytes = self.reader.at(tail.id, at, header.bytes as usize)?;
        let (mut seen, mut gap, mut known) = (Vec::new(), None, 0);
        walk_batch(header, bytes, |offset, record| match record {
            Ok(Record { header, .. }) | Err(RecordError::Body(header)) => {
                known += 1;
                if header.flags & FLAG_CONTROL == 0 {
                    seen.push(key_of(&header));
                }
            }
            Err(RecordError::Header | RecordError::Short) => gap = gap.or(Some(offset)),
        });
        if known == header.records {
            return Ok(Vec::new());
        }
        let place = gap.unwrap_or(header.offset);
        let roll = self.roll_behind(tail, later, next)?;
        match roll.filter(|roll| roll.of == header.number) {
            Some(roll) => {
                let lost = without(roll.keys, seen);
                Ok(lost.into_iter().map(|key| (place, key)).collect())
            }
            None => {
                let end = header.offset.saturating_add(header.bytes);
                self.lose_everything(tail.id, place, (tail.generation, end));
                Ok(Vec::new())
            }
        }
    }

    /// Batches whose headers are lost, from a place to the next one that is there. Their records verify alone, so those
    /// that do are taken; the others are known by the rolls.
    fn lost_batches(
        &mut self,
        tail: &Tail,
        later: &[Tail],
        at: u64,
        next: Option<BatchHeader>,
    ) -> Result<Option<u64>, Failed> {
        let floor = self.state.last;
        let end = next.map_or_else(
            || tail.bytes.min(at + LOOK_AHEAD_BYTES as u64),
            |next| u64::from(next.offset),
        );
        let behind = next.map(|next| next.previous).or_else(|| {
            let first = later.first().and_then(|tail| tail.first.as_ref());
            first
                .map(|first| first.previous.0.min(tail.counted_upto))
                .map(BatchNumber)
        });
        let last = match behind {
            Some(last) => last,
            None => BatchNumber(tail.counted_upto).min(BatchNumber(u64::MAX - 1)),
        };
        let roll = self.roll_behind(tail, later, next.as_ref())?;
        // As if it were one batch, from the first record's possible place on.
        let region = BatchHeader {
            generation: tail.generation,
            number: floor,
            bytes: end.saturating_sub(at) as u32,
            records: 0,
            durable: floor,
            hlc_ceiling: 0,
            previous: floor,
            owner: self.reader.owner,
            offset: at as u32,
            is_cut: false,
        };
        let bytes = self.reader.at(tail.id, at, region.bytes as usize)?;
        let (mut seen, mut rolls) = (Vec::new(), Vec::new());
        rolls.extend(roll.map(|roll| (None, roll)));
        walk_batch(&region, bytes, |_, record| match record {
            Ok(record) => match Preface::parse(&record) {
                Some(preface) => rolls.push((
                    Some(preface.number),
                    Roll {
                        of: preface.roll_of,
                        keys: preface.roll().collect(),
                    },
                )),
                None if record.header.flags & FLAG_CONTROL != 0 => {}
                None => seen.push(key_of(&record.header)),
            },
            Err(RecordError::Body(header)) if header.flags & FLAG_CONTROL != 0 => {}
            Err(RecordError::Body(header)) => seen.push(key_of(&header)),
            Err(RecordError::Header | RecordError::Short) => {}
        });
        let lost = rolled(&rolls, floor, last).map(|keys| without(keys, seen));
        let (place, generation) = (at as u32, tail.generation);
        if lost.is_none() {
            self.lose_everything(tail.id, place, (generation, end as u32));
        }
        let bytes = self.reader.at(tail.id, at, region.bytes as usize)?;
        let each = &mut self.each;
        walk_batch(&region, bytes, |offset, record| match record {
            Ok(record) if record.header.flags & FLAG_CONTROL == 0 => {
                each(Replayed::Record(tail.id, offset, record));
            }
            Err(RecordError::Body(header)) if header.flags & FLAG_CONTROL == 0 => {
                each(Replayed::Lost(tail.id, offset, header));
            }
            Ok(_) | Err(_) => {}
        });
        for key in lost.into_iter().flatten() {
            (self.each)(Replayed::LostKey(tail.id, place, key));
        }
        self.state.last_keys = None;
        self.state.last = last;
        self.highest = self.highest.max(last.0);
        Ok(next.map(|next| u64::from(next.offset)))
    }
}

fn key_of(header: &RecordHeader) -> RollKey {
    RollKey {
        token: header.token,
        tag15: header.tag15,
    }
}

/// The keys of all batches behind `floor` up to `last`, if every one of them is listed. Numbers may be left out, so what
/// lies between is known only where each batch's preface, or the number behind `floor`, says so.
fn rolled(
    rolls: &[(Option<BatchNumber>, Roll)],
    floor: BatchNumber,
    last: BatchNumber,
) -> Option<Vec<RollKey>> {
    let (mut wanted, mut keys) = (last, Vec::new());
    while wanted > floor {
        let (_, roll) = rolls.iter().find(|(_, roll)| roll.of == wanted)?;
        keys.extend_from_slice(&roll.keys);
        if wanted.0 == floor.0 + 1 {
            break;
        }
        let own = rolls.iter().find(|(number, _)| *number == Some(wanted))?;
        // A roll lists an earlier batch, whatever a medium says.
        wanted = Some(own.1.of).filter(|of| *of < wanted)?;
    }
    Some(keys)
}

/// The keys without those that were seen, each as often as it was.
fn without(mut keys: Vec<RollKey>, mut seen: Vec<RollKey>) -> Vec<RollKey> {
    keys.sort_unstable();
    seen.sort_unstable();
    let mut seen = seen.into_iter().peekable();
    keys.retain(|key| {
        while seen.next_if(|seen| seen < key).is_some() {}
        seen.next_if_eq(key).is_none()
    });
    keys
}
