//! The log: group commits into segments, the readable tail, and which batch is on stable media.
//!
//! Owns buffers, the open batch, commits on their way, the spares. Never decides who waits for what: the shard asks
//! [`Log::durable`].
//!
//! Invariants:
//! - batches become durable in order, however their writes finish;
//! - a batch lies in one buffer and one segment; a record lies in one batch;
//! - memory that is not durable yet is bounded: beyond it [`NoRoom::Backlog`].

use std::collections::VecDeque;

use crate::base::ids::{BatchNumber, SegmentId, Token};
use crate::port::{Effect, Effects, FileId, IoError, LogRange, Ticket};
use crate::store::buffer::LogBuffer;
use crate::store::format::{
    BATCH_HEADER_BYTES, BatchHeader, FLAG_CONTROL, FLAG_FRONTIER, RECORD_ALIGN,
    RECORD_HEADER_BYTES, RecordHeader, Spot, record_bytes, stored_bucket,
};
use crate::store::frontier::Frontier;
use crate::store::preface::{
    Draft, LostPlace, RollKey, SURVEY_USE_BYTES, preface_bytes, write_preface,
};
use crate::store::segment::{SegmentState, Segments};

/// Free segments that only copies may use: without one, a full log could never be cleaned again.
pub const CLEANER_RESERVE: u32 = 1;
/// Spare segments kept ready, so that the log never waits for one.
const SPARES: u32 = 2;
/// How much of a log's first segment is written with zeros before it is used: durable writes run faster on written blocks.
const FIRST_FILL_BYTES: u32 = 32 << 20;
/// Buffers kept for reuse.
const FREE_BUFFERS_MAX: usize = 4;
/// A survey that would take more than this part of a segment is left out: with so many so short segments, a start without
/// any checkpoint takes those that were given back for lost.
const SURVEY_PART: usize = 8;
/// Closed batches that are kept apart until they are known to be settled.
const UNSETTLED_MAX: usize = 1024;
/// A refused preparation is tried again after this.
const PREPARE_RETRY_NS: u64 = 1_000_000_000;

/// What the log is made with.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// The device's block.
    pub block_bytes: usize,
    /// A segment's length.
    pub segment_bytes: u32,
    /// The most segments.
    pub segments_max: u32,
    /// A buffer's usual length.
    pub buffer_bytes: usize,
    /// RAM of the readable tail.
    pub tail_bytes_max: usize,
    /// Memory that may wait for the disk.
    pub backlog_bytes_max: usize,
    /// Node and shard, folded.
    pub owner: u32,
}

/// Why nothing can be appended just now. State: unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The next segment is not ready.
    Segment,
    /// Too much waits for the disk.
    Backlog,
}

/// What is appended, but for the object.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The key's token.
    pub token: Token,
    /// 15 bits of its tag.
    pub tag15: u16,
    /// `format::FLAG_…`.
    pub flags: u8,
    /// Of the object.
    pub fingerprint: u64,
    /// The bucket's name.
    pub bucket: &'a [u8],
    /// The key.
    pub key: &'a [u8],
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its segment.
    pub segment: SegmentId,
    /// Its byte there.
    pub offset: u32,
    /// Its length with padding.
    pub bytes: u32,
    /// Its batch.
    pub batch: BatchNumber,
}

#[derive(Debug)]
struct OpenBatch {
    number: BatchNumber,
    start: usize,
    records: u32,
    began_ns: u64,
    /// The generation whose survey is in it; 0: none is.
    survey: u64,
    /// Where the record of its frontier lies.
    frontier_at: usize,
    tick: u64,
    /// Something in it is to be acknowledged as durable.
    is_promised: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub(crate) number: BatchNumber,
    pub(crate) ticket: Ticket,
    pub(crate) buffer: u32,
    pub(crate) start: usize,
    pub(crate) bytes: usize,
    hlc_ceiling: u64,
    survey: u64,
    tick: u64,
    is_promised: bool,
    is_done: bool,
}

/// A shard's log.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    /// The files.
    pub segments: Segments,
    // what is appended to
    active: Option<SegmentId>,
    next_generation: u64,
    next_number: u64,
    last_number: BatchNumber,
    current: Option<u32>,
    open: Option<OpenBatch>,
    /// The keys of the open batch, and of the last one that was closed, as a roll has them.
    roll: Vec<u8>,
    roll_before: Vec<u8>,
    /// The batch that `roll_before` lists; 0: its keys are not known.
    roll_of: BatchNumber,
    // memory
    buffers: Vec<Option<LogBuffer>>,
    free: Vec<LogBuffer>,
    tail: VecDeque<u32>,
    tail_bytes: usize,
    // commits
    in_flight: VecDeque<Commit>,
    in_flight_bytes: usize,
    /// Writes given up after a fault that have not ended yet: their buffers must stay.
    given_up: Vec<Commit>,
    durable: BatchNumber,
    ceiling_durable: u64,
    // what other shards depend on, and this one on them
    /// What the next batch depends on.
    pub frontier: Frontier,
    /// Closed batches that others may still take with them, with their ticks.
    unsettled: VecDeque<(u64, BatchNumber)>,
    settled: BatchNumber,
    promised_durable: BatchNumber,
    /// Scratch, reused.
    frontier_body: Vec<u8>,
    /// The newest generation whose survey is on stable media.
    surveyed_generation: u64,
    /// Where records of keys that nobody can name were lost; each preface says so again.
    pub lost: LostPlace,
    /// No time after this may be used before the next batch is durable; the shard keeps it ahead.
    pub hlc_ceiling: u64,
    // spares
    preparing: Option<(Ticket, SegmentId)>,
    prepare_not_before_ns: u64,
    /// The device had no space for another segment when it was last asked.
    pub is_device_full: bool,
    /// Write new segments once with zeros: durable writes run faster on written blocks.
    pub fill_spares: bool,
    next_ticket: u64,
    // counters
    /// Group commits submitted.
    pub commits: u64,
    /// Bytes submitted.
    pub submitted_bytes: u64,
}

impl Log {
    /// An empty log that goes on after what recovery found.
    pub fn new(
        config: LogConfig,
        segments: Segments,
        next_generation: u64,
        last_number: BatchNumber,
        next_number: u64,
    ) -> Self {
        assert!(config.buffer_bytes.is_multiple_of(config.block_bytes));
        assert!((config.segment_bytes as usize).is_multiple_of(config.block_bytes));
        Self {
            config,
            segments,
            active: None,
            next_generation,
            next_number,
            last_number,
            current: None,
            open: None,
            roll: Vec::new(),
            roll_before: Vec::new(),
            roll_of: BatchNumber(0),
            buffers: Vec::new(),
            free: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            given_up: Vec::new(),
            durable: last_number,
            ceiling_durable: 0,
            frontier: Frontier::default(),
            unsettled: VecDeque::new(),
            settled: last_number,
            promised_durable: last_number,
            frontier_body: Vec::new(),
            surveyed_generation: 0,
            lost: LostPlace::default(),
            hlc_ceiling: 0,
            preparing: None,
            prepare_not_before_ns: 0,
            is_device_full: false,
            fill_spares: false,
            next_ticket: 1,
            commits: 0,
            submitted_bytes: 0,
        }
    }

    /// A new name for a disk operation.
    pub fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// The greatest batch of which it and all before it are on stable media.
    pub const fn durable(&self) -> BatchNumber {
        self.durable
    }

    /// The greatest batch that no start will take back: it and all before it are on stable media, and something in it or
    /// behind it was promised, or the other shards have on stable media what it depends on.
    pub fn firm(&self) -> BatchNumber {
        if self.frontier.is_shared() {
            self.settled.max(self.promised_durable)
        } else {
            self.durable
        }
    }

    /// Every batch of this tick or an earlier one, of all shards, is on stable media.
    pub fn settle(&mut self, tick: u64) {
        let durable = self.durable;
        let is_settled = |(of, number): &mut (u64, BatchNumber)| *of <= tick && *number <= durable;
        while let Some((_, number)) = self.unsettled.pop_front_if(is_settled) {
            self.settled = self.settled.max(number);
        }
    }

    /// The oldest tick of which something is not on stable media yet.
    pub fn pending_tick(&self) -> Option<u64> {
        let in_flight = self.in_flight.front().map(|commit| commit.tick);
        in_flight.or(self.open_tick())
    }

    /// The tick of the open batch.
    pub fn open_tick(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.tick)
    }

    /// Marks the open batch as one that holds something promised, where it is this one.
    pub fn promise(&mut self, batch: BatchNumber) {
        if let Some(open) = self.open.as_mut().filter(|open| open.number == batch) {
            open.is_promised = true;
        }
    }

    /// The batch that a record appended now would be in.
    pub const fn newest(&self) -> BatchNumber {
        match &self.open {
            Some(open) => open.number,
            None => self.last_number,
        }
    }

    /// Times up to this were promised on stable media as possibly used.
    pub const fn ceiling_durable(&self) -> u64 {
        self.ceiling_durable
    }

    /// The next use of a segment; all before it have a smaller generation.
    pub const fn next_generation(&self) -> u64 {
        self.next_generation
    }

    /// The active segment's generation, or the next one's.
    pub fn generation(&self) -> u64 {
        self.active
            .and_then(|id| self.segments.get(id))
            .map_or(self.next_generation, |segment| segment.generation)
    }

    /// Where the next batch goes, if a segment is active: (segment, offset, generation).
    pub fn end(&self) -> Option<(SegmentId, u32, u64)> {
        let id = self.active?;
        let segment = self.segments.get(id)?;
        Some((id, segment.used_bytes, segment.generation))
    }

    /// Goes on appending to a segment after a clean stop.
    pub fn resume(&mut self, id: SegmentId) {
        self.segments.at(id).state = SegmentState::Active;
        self.active = Some(id);
    }

    /// Names the keys of the last batch, so that the next one lists them.
    pub fn set_roll(&mut self, keys: &[RollKey]) {
        self.roll_of = self.last_number;
        self.roll_before.clear();
        self.roll_before
            .extend(keys.iter().flat_map(|key| key.encode()));
    }

    /// When the open batch was begun.
    pub fn open_since_ns(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.began_ns)
    }

    /// Commits on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// RAM of the tail.
    pub const fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// When a refused preparation is tried again.
    pub fn prepare_retry_ns(&self) -> Option<u64> {
        (self.is_device_full && self.wants_spare()).then_some(self.prepare_not_before_ns)
    }

    /// Whether another segment is to be made. A device that refused one is asked again however many spares the cleaner
    /// has given back by then: what it answers is the only sign that it has space.
    fn wants_spare(&self) -> bool {
        let has_too_few = self.segments.count(SegmentState::Ready) < SPARES;
        self.preparing.is_none()
            && (has_too_few || self.is_device_full)
            && self.segments.files() < self.config.segments_max
    }

    /// Segments that may still be had: spares, and files not made yet.
    pub fn free_segments(&self) -> u32 {
        let unmade = if self.is_device_full {
            0
        } else {
            self.config
                .segments_max
                .saturating_sub(self.segments.files())
        };
        self.segments.count(SegmentState::Ready) + u32::from(self.preparing.is_some()) + unmade
    }

    /// The bytes of a `Write` effect.
    pub fn bytes(&self, range: LogRange) -> &[u8] {
        let buffer = self
            .buffers
            .get(range.buffer as usize)
            .and_then(Option::as_ref);
        buffer.map_or(&[], |b| {
            &b.bytes()[range.start as usize..(range.start + range.bytes) as usize]
        })
    }

    /// The bytes from a place in the log on, when they are in memory.
    pub fn in_memory(&self, segment: SegmentId, offset: u32) -> Option<&[u8]> {
        let pieces = &self.segments.get(segment)?.buffers;
        let newest_first = pieces
            .iter()
            .rev()
            .take(2)
            .find(|(start, _)| *start <= offset);
        let (start, buffer) = match newest_first {
            Some(piece) => *piece,
            None => *pieces.get(
                pieces
                    .partition_point(|(start, _)| *start <= offset)
                    .checked_sub(1)?,
            )?,
        };
        self.buffers
            .get(buffer as usize)?
            .as_ref()?
            .bytes()
            .get((offset - start) as usize..)
    }

    /// Appends a record; `write_object` pushes exactly `object_bytes`.
    ///
    /// # Errors
    /// [`NoRoom`], and nothing happened.
    pub fn append(
        &mut self,
        head: Head<'_>,
        object_bytes: usize,
        write_object: impl FnOnce(&mut Vec<u8>),
        now_ns: u64,
        effects: &mut Effects,
    ) -> Result<Appended, NoRoom> {
        let bucket = stored_bucket(head.bucket);
        let body_bytes = 1 + bucket.len() + head.key.len() + object_bytes;
        let total = record_bytes(body_bytes);
        self.make_room(total, CLEANER_RESERVE, now_ns, effects)?;
        let (buffer, open) = self.current_batch();
        let at = buffer.filled();
        let offset = buffer.offset + at as u32;
        let segment = buffer.segment;
        buffer.append(total, |out| {
            out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
            out.push(bucket.len() as u8);
            out.extend_from_slice(bucket);
            out.extend_from_slice(head.key);
            write_object(out);
        });
        let body = &buffer.bytes()[at + RECORD_HEADER_BYTES..];
        assert!(
            body.len() == body_bytes,
            "the object has {object_bytes} bytes as announced"
        );
        let body_crc = crc32c::crc32c(body);
        seal_record(buffer, at, head, body_bytes, body_crc);
        open.records += 1;
        let batch = open.number;
        let (token, tag15) = (head.token, head.tag15);
        self.roll
            .extend_from_slice(&RollKey { token, tag15 }.encode());
        self.note_used();
        Ok(Appended {
            segment,
            offset,
            bytes: total as u32,
            batch,
        })
    }

    /// Appends a verified record's body as it is: what the cleaner and the mending of a failed write do.
    ///
    /// # Errors
    /// [`NoRoom`], and nothing happened.
    pub fn append_copy(
        &mut self,
        header: &RecordHeader,
        body: &[u8],
        now_ns: u64,
        effects: &mut Effects,
    ) -> Result<Appended, NoRoom> {
        let total = header.record_bytes();
        self.make_room(total, 0, now_ns, effects)?;
        let (buffer, open) = self.current_batch();
        let at = buffer.filled();
        let offset = buffer.offset + at as u32;
        let segment = buffer.segment;
        buffer.append(total, |out| {
            out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
            out.extend_from_slice(body);
        });
        seal_with(buffer, at, *header);
        open.records += 1;
        let batch = open.number;
        let (token, tag15) = (header.token, header.tag15);
        self.roll
            .extend_from_slice(&RollKey { token, tag15 }.encode());
        self.note_used();
        Ok(Appended {
            segment,
            offset,
            bytes: total as u32,
            batch,
        })
    }

    fn current_batch(&mut self) -> (&mut LogBuffer, &mut OpenBatch) {
        let current = self
            .current
            .and_then(|id| self.buffers[id as usize].as_mut());
        match (current, self.open.as_mut()) {
            (Some(buffer), Some(open)) => (buffer, open),
            _ => unreachable!("make_room opened a batch"),
        }
    }

    fn note_used(&mut self) {
        if let Some(buffer) = self
            .current
            .and_then(|id| self.buffers[id as usize].as_ref())
        {
            let end =
                buffer.offset as usize + buffer.filled().next_multiple_of(self.config.block_bytes);
            let segment = buffer.segment;
            self.segments.at(segment).used_bytes = end as u32;
        }
    }

    /// Makes sure that a batch is open and that `total` bytes fit into it, leaving so many segments free.
    fn make_room(
        &mut self,
        total: usize,
        segments_left: u32,
        now_ns: u64,
        effects: &mut Effects,
    ) -> Result<(), NoRoom> {
        let fits = self
            .current
            .and_then(|id| self.buffers[id as usize].as_ref())
            .is_some_and(|buffer| {
                let at = match &self.open {
                    Some(_) => buffer.filled(),
                    None => {
                        buffer.filled().next_multiple_of(self.config.block_bytes)
                            + BATCH_HEADER_BYTES
                            + preface_bytes(self.roll_before.len(), 0)
                            + self.frontier.record_bytes()
                    }
                };
                at + total <= buffer.room()
            });
        if fits && self.open.is_some() {
            return Ok(());
        }
        let mut is_first = false;
        if !fits {
            if self.in_flight_bytes > self.config.backlog_bytes_max {
                return Err(NoRoom::Backlog);
            }
            is_first = self.next_buffer(total, segments_left, effects)?;
        }
        let number = BatchNumber(self.next_number);
        let block = self.config.block_bytes;
        let Some(buffer) = self
            .current
            .and_then(|id| self.buffers[id as usize].as_mut())
        else {
            unreachable!("next_buffer set one");
        };
        buffer.pad(block);
        let start = buffer.filled();
        buffer.append(BATCH_HEADER_BYTES, |out| {
            out.extend_from_slice(&[0; BATCH_HEADER_BYTES])
        });
        let segments = &self.segments;
        let survey_segments = if is_first {
            survey_segments(segments, self.config.segment_bytes, self.active)
        } else {
            None
        };
        let spot = Spot {
            generation: buffer.generation,
            offset: buffer.offset + buffer.filled() as u32,
        };
        let draft = Draft {
            number,
            roll_of: self.roll_of,
            roll: &self.roll_before,
            lost: self.lost,
        };
        let active = self.active;
        let survey = survey_segments
            .is_some()
            .then(|| segments.in_use().filter(|used| Some(used.id) != active));
        let bytes = preface_bytes(draft.roll.len(), survey_segments.unwrap_or(0));
        buffer.append(bytes, |out| write_preface(out, spot, &draft, survey));
        let frontier_at = buffer.filled();
        let frontier_bytes = self.frontier.record_bytes();
        buffer.append(frontier_bytes, |out| {
            out.resize(out.len() + frontier_bytes, 0)
        });
        self.open = Some(OpenBatch {
            number,
            start,
            records: 1 + u32::from(self.frontier.is_shared()),
            began_ns: now_ns,
            survey: survey_segments.map_or(0, |_| spot.generation),
            frontier_at,
            tick: self.frontier.tick,
            is_promised: false,
        });
        self.next_number += 1;
        Ok(())
    }

    /// Closes what is open and takes another buffer, in the next segment where this one is full; whether it is one.
    fn next_buffer(
        &mut self,
        total: usize,
        segments_left: u32,
        effects: &mut Effects,
    ) -> Result<bool, NoRoom> {
        let block = self.config.block_bytes;
        let roll_bytes = match self.open {
            Some(_) => self.roll.len(),
            None => self.roll_before.len(),
        };
        let frontier_bytes = self.frontier.record_bytes();
        let need_with = |segments: usize| {
            (BATCH_HEADER_BYTES + preface_bytes(roll_bytes, segments) + frontier_bytes + total)
                .next_multiple_of(block)
        };
        let mut need = need_with(0);
        let left = self
            .active
            .and_then(|id| self.segments.get(id))
            .map_or(0, |s| self.config.segment_bytes - s.used_bytes);
        let is_new = (left as usize) < need;
        let is_ready = self.segments.first(SegmentState::Ready).is_some();
        if is_new && (!is_ready || self.free_segments() <= segments_left) {
            return Err(NoRoom::Segment);
        }
        self.close_batch(effects);
        self.current = None;
        if is_new {
            self.activate_next();
            let surveyed = survey_segments(&self.segments, self.config.segment_bytes, self.active);
            need = need_with(surveyed.unwrap_or(0));
        }
        let Some((segment, offset, generation)) = self.end() else {
            unreachable!("a segment is active")
        };
        let room = self
            .config
            .buffer_bytes
            .max(need)
            .min((self.config.segment_bytes - offset) as usize);
        self.evict_tail(room);
        let mut buffer = match self.free.iter().position(|b| b.room() == room) {
            Some(at) => self.free.swap_remove(at),
            None => LogBuffer::new(room, self.config.block_bytes),
        };
        buffer.reset(segment, generation, offset);
        let id = self.place_buffer(buffer);
        self.tail.push_back(id);
        self.tail_bytes += room;
        self.segments.at(segment).buffers.push_back((offset, id));
        self.current = Some(id);
        Ok(is_new)
    }

    fn activate_next(&mut self) {
        self.seal_active();
        let next = self.segments.next_spare(self.surveyed_generation);
        let Some(id) = next else {
            unreachable!("the caller found a spare")
        };
        let segment = self.segments.at(id);
        segment.state = SegmentState::Active;
        segment.generation = self.next_generation;
        segment.used_bytes = 0;
        segment.live_bytes = 0;
        segment.has_graves = false;
        segment.before = self.last_number;
        segment.last = BatchNumber(0);
        segment.freed_at = 0;
        self.next_generation += 1;
        self.active = Some(id);
    }

    fn seal_active(&mut self) {
        if let Some(id) = self.active.take() {
            self.segments.at(id).state = SegmentState::Sealed;
        }
    }

    /// Submits the open batch, if there is one.
    pub fn close_batch(&mut self, effects: &mut Effects) {
        let Some(open) = self.open.take() else { return };
        let Some(id) = self.current else {
            unreachable!("an open batch has a buffer")
        };
        let ticket = self.ticket();
        let Some(buffer) = self.buffers[id as usize].as_mut() else {
            unreachable!("the current buffer is there")
        };
        let segment = buffer.segment;
        let header = BatchHeader {
            generation: self.segments.at(segment).generation,
            number: open.number,
            bytes: (buffer.filled() - open.start) as u32,
            records: open.records,
            durable: self.durable,
            hlc_ceiling: self.hlc_ceiling,
            previous: self.last_number,
            owner: self.config.owner,
            offset: buffer.offset + open.start as u32,
            is_cut: false,
        };
        buffer.patch(open.start, &header.encode());
        if self.frontier.is_shared() {
            write_frontier(buffer, &self.frontier, &open, &mut self.frontier_body);
            self.unsettled.push_back((open.tick, open.number));
            if self.unsettled.len() > UNSETTLED_MAX {
                // Coarser: these are known to be settled when the later of the two is.
                self.unsettled.pop_front();
            }
        }
        buffer.pad(self.config.block_bytes);
        let bytes = buffer.filled() - open.start;
        let offset = u64::from(buffer.offset) + open.start as u64;
        let commit = Commit {
            number: open.number,
            ticket,
            buffer: id,
            start: open.start,
            bytes,
            hlc_ceiling: self.hlc_ceiling,
            survey: open.survey,
            tick: open.tick,
            is_promised: open.is_promised,
            is_done: false,
        };
        self.in_flight.push_back(commit);
        self.in_flight_bytes += bytes;
        self.last_number = open.number;
        self.segments.at(segment).last = open.number;
        core::mem::swap(&mut self.roll, &mut self.roll_before);
        self.roll.clear();
        self.roll_of = open.number;
        self.commits += 1;
        self.submitted_bytes += bytes as u64;
        let data = LogRange {
            buffer: id,
            start: open.start as u32,
            bytes: bytes as u32,
        };
        effects.list.push(Effect::Write {
            ticket,
            file: FileId::Segment(segment),
            offset,
            data,
        });
    }

    /// Whether a finished write is one of the log's; notes it, and advances [`durable`](Self::durable).
    pub fn write_done(&mut self, ticket: Ticket) -> bool {
        self.given_up.retain(|commit| commit.ticket != ticket);
        let Some(commit) = self
            .in_flight
            .iter_mut()
            .find(|commit| commit.ticket == ticket)
        else {
            return false;
        };
        commit.is_done = true;
        while let Some(first) = self.in_flight.front().filter(|commit| commit.is_done) {
            self.durable = first.number;
            if first.is_promised {
                self.promised_durable = first.number;
            }
            self.ceiling_durable = self.ceiling_durable.max(first.hlc_ceiling);
            self.surveyed_generation = self.surveyed_generation.max(first.survey);
            self.in_flight_bytes -= first.bytes;
            self.in_flight.pop_front();
        }
        true
    }

    /// Takes back everything that is not durable after a failed write: seals the segment and returns the commits
    /// concerned, oldest first, whose records must be appended anew. `None` when the ticket is not the log's.
    pub(crate) fn write_failed(
        &mut self,
        ticket: Ticket,
        effects: &mut Effects,
    ) -> Option<Vec<Commit>> {
        self.given_up.retain(|commit| commit.ticket != ticket);
        self.in_flight
            .iter()
            .find(|commit| commit.ticket == ticket)?;
        self.close_batch(effects);
        // A batch that was closed just now must not be written behind a hole: its effect is the last one.
        let newest = self.in_flight.back().map(|commit| commit.ticket);
        let is_unwritten = matches!(effects.list.last(), Some(Effect::Write { ticket, .. }) if Some(*ticket) == newest);
        if is_unwritten {
            effects.list.pop();
        }
        let failed: Vec<Commit> = self.in_flight.drain(..).collect();
        let on_the_way = failed.iter().filter(|c| {
            !c.is_done && c.ticket != ticket && !(is_unwritten && Some(c.ticket) == newest)
        });
        self.given_up.extend(on_the_way);
        self.in_flight_bytes = 0;
        self.last_number = self.durable;
        self.current = None;
        self.seal_active();
        // The keys of the batch that is the last one again were listed in one that does not count.
        self.roll_of = BatchNumber(0);
        self.roll_before.clear();
        self.segments.forget_after(self.durable);
        Some(failed)
    }

    /// The bytes of a commit that is still in memory.
    pub(crate) fn commit_bytes(&self, commit: &Commit) -> (&[u8], SegmentId) {
        match self
            .buffers
            .get(commit.buffer as usize)
            .and_then(Option::as_ref)
        {
            Some(buffer) => (
                &buffer.bytes()[commit.start..commit.start + commit.bytes],
                buffer.segment,
            ),
            None => (&[], SegmentId(0)),
        }
    }

    /// A buffer for other bytes than the log's (a checkpoint's), to be written like them.
    pub fn lend_buffer(&mut self, room: usize) -> u32 {
        let buffer = LogBuffer::new(room, self.config.block_bytes);
        self.place_buffer(buffer)
    }

    /// Fills a lent buffer anew and pads it; returns its length.
    pub fn fill_lent(&mut self, id: u32, block: usize, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let Some(buffer) = self.buffers.get_mut(id as usize).and_then(Option::as_mut) else {
            return 0;
        };
        buffer.reset(SegmentId(0), 0, 0);
        buffer.append(buffer.room(), write);
        buffer.pad(block);
        buffer.filled()
    }

    /// Takes a lent buffer back.
    pub fn take_back(&mut self, id: u32) {
        if let Some(buffer) = self.buffers.get_mut(id as usize) {
            *buffer = None;
        }
    }

    fn place_buffer(&mut self, buffer: LogBuffer) -> u32 {
        let id = match self.buffers.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.buffers.push(None);
                self.buffers.len() - 1
            }
        };
        self.buffers[id] = Some(buffer);
        id as u32
    }

    fn evict_tail(&mut self, room: usize) {
        while self.tail_bytes + room > self.config.tail_bytes_max {
            let Some(oldest) = self.tail.front().copied() else {
                return;
            };
            let is_busy = self.current == Some(oldest)
                || self
                    .in_flight
                    .iter()
                    .chain(&self.given_up)
                    .any(|commit| commit.buffer == oldest);
            if is_busy {
                return;
            }
            self.tail.pop_front();
            self.drop_buffer(oldest);
        }
    }

    fn drop_buffer(&mut self, id: u32) {
        let Some(buffer) = self.buffers[id as usize].take() else {
            return;
        };
        self.tail_bytes -= buffer.room();
        self.segments
            .at(buffer.segment)
            .buffers
            .retain(|(_, held)| *held != id);
        if self.free.len() < FREE_BUFFERS_MAX && buffer.room() == self.config.buffer_bytes {
            self.free.push(buffer);
        }
    }

    /// Forgets the pieces of a segment that are in memory, since it is used anew.
    fn drop_segment_buffers(&mut self, id: SegmentId) {
        let held: Vec<u32> = self
            .segments
            .at(id)
            .buffers
            .iter()
            .map(|(_, buffer)| *buffer)
            .collect();
        for buffer in held {
            self.tail.retain(|at| *at != buffer);
            self.drop_buffer(buffer);
        }
    }

    /// Makes an emptied segment a spare. What it holds stays on the medium until it is used anew.
    pub fn recycle(&mut self, id: SegmentId) {
        self.drop_segment_buffers(id);
        let freed_at = self.next_generation;
        let segment = self.segments.at(id);
        segment.live_bytes = 0;
        segment.used_bytes = 0;
        segment.state = SegmentState::Ready;
        segment.freed_at = freed_at;
    }

    /// Removes the files of spares beyond those that are kept, once a survey on stable media leaves out what they held.
    pub fn trim_spares(&mut self, effects: &mut Effects) {
        while self.segments.count(SegmentState::Ready) > SPARES + 1 {
            let spare = self.segments.next_spare(self.surveyed_generation);
            let surveyed = self.surveyed_generation;
            let Some(id) = spare.filter(|id| self.segments.at(*id).freed_at <= surveyed) else {
                return;
            };
            let segment = self.segments.at(id);
            segment.state = SegmentState::Absent;
            segment.freed_at = 0;
            effects.list.push(Effect::Remove {
                file: FileId::Segment(id),
            });
        }
    }

    /// Asks for another spare where there are too few.
    pub fn keep_spares(&mut self, now_ns: u64, effects: &mut Effects) {
        if !self.wants_spare() || now_ns < self.prepare_not_before_ns {
            return;
        }
        let fill_bytes = match (self.segments.files(), self.fill_spares) {
            (_, true) => self.config.segment_bytes,
            (0, false) => FIRST_FILL_BYTES.min(self.config.segment_bytes),
            (_, false) => 0,
        };
        let id = self
            .segments
            .first(SegmentState::Absent)
            .unwrap_or_else(|| SegmentId(self.segments.iter().count() as u32));
        self.segments.reach(id).state = SegmentState::Preparing;
        let ticket = self.ticket();
        self.preparing = Some((ticket, id));
        let bytes = u64::from(self.config.segment_bytes);
        effects.list.push(Effect::Prepare {
            ticket,
            file: FileId::Segment(id),
            bytes,
            fill_bytes: u64::from(fill_bytes),
        });
    }

    /// Whether a finished preparation is one of the log's; notes its end.
    pub fn prepare_done(
        &mut self,
        ticket: Ticket,
        result: Result<(), IoError>,
        now_ns: u64,
        effects: &mut Effects,
    ) -> bool {
        let Some((_, id)) = self.preparing.take_if(|(asked, _)| *asked == ticket) else {
            return false;
        };
        match result {
            Ok(()) => {
                self.is_device_full = false;
                self.segments.at(id).state = SegmentState::Ready;
            }
            Err(_) => {
                self.is_device_full = true;
                self.prepare_not_before_ns = now_ns.saturating_add(PREPARE_RETRY_NS);
                self.segments.at(id).state = SegmentState::Absent;
                effects.list.push(Effect::Remove {
                    file: FileId::Segment(id),
                });
            }
        }
        true
    }
}

/// How many segments the survey of a new segment lists; `None` when they are too many.
fn survey_segments(
    segments: &Segments,
    segment_bytes: u32,
    active: Option<SegmentId>,
) -> Option<usize> {
    let count = segments
        .in_use()
        .filter(|used| Some(used.id) != active)
        .count();
    (count * SURVEY_USE_BYTES <= segment_bytes as usize / SURVEY_PART).then_some(count)
}

/// Fills in the record of what a batch depends on.
fn write_frontier(
    buffer: &mut LogBuffer,
    frontier: &Frontier,
    open: &OpenBatch,
    body: &mut Vec<u8>,
) {
    body.clear();
    frontier.write_body((open.tick, open.number), open.is_promised, body);
    let header = RecordHeader {
        body_crc: crc32c::crc32c(body),
        body_bytes: body.len() as u32,
        key_bytes: 0,
        tag15: 0,
        flags: FLAG_CONTROL | FLAG_FRONTIER,
        token: Token(0),
        fingerprint: 0,
    };
    let spot = Spot {
        generation: buffer.generation,
        offset: buffer.offset + open.frontier_at as u32,
    };
    buffer.patch(open.frontier_at, &header.encode(spot));
    buffer.patch(open.frontier_at + RECORD_HEADER_BYTES, body);
}

fn seal_record(
    buffer: &mut LogBuffer,
    at: usize,
    head: Head<'_>,
    body_bytes: usize,
    body_crc: u32,
) {
    let header = RecordHeader {
        body_crc,
        body_bytes: body_bytes as u32,
        key_bytes: head.key.len() as u16,
        tag15: head.tag15,
        flags: head.flags,
        token: head.token,
        fingerprint: head.fingerprint,
    };
    seal_with(buffer, at, header);
}

fn seal_with(buffer: &mut LogBuffer, at: usize, header: RecordHeader) {
    let spot = Spot {
        generation: buffer.generation,
        offset: buffer.offset + at as u32,
    };
    buffer.patch(at, &header.encode(spot));
    buffer.pad(RECORD_ALIGN);
}
