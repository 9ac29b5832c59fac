//! The log: group commits into segments, the readable tail, and which batch is on stable media.
//!
//! Owns buffers, the open batch, commits on their way, the spares. Never decides who waits for what: the shard asks
//! [`Log::durable`].
//!
//! Invariants:
//! - batches become durable in order, however their writes finish;
//! - a batch lies in one buffer and one segment; a record lies in one batch;
//! - memory that is not durable yet is bounded: beyond it [`NoRoom::Backlog`].
//!
//! # Layout
//! - `append`: records, batches, segments; `commits`: how they ended;
//! - `buffers`: the tail in memory; `spares`: segments given back and made.

mod append;
mod buffers;
mod commits;
mod spares;

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
/// How many times what lives the readable tail may be: under uniform overwrites it then has 98 in 100 of all keys.
const TAIL_OF_LIVE_MAX: u64 = 4;
/// What it may be in any case.
const TAIL_BYTES_MIN: usize = 64 << 20;
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
    /// Batches up to this have what a failed write had, and count as durable together: who waits for a batch that failed
    /// waits for a lesser number than any of these has.
    anew_upto: BatchNumber,
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
            anew_upto: BatchNumber(0),
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
}
