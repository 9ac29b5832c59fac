//! Checkpoints while the shard runs: when one is begun, its capture in pieces, and the end of one.
//!
//! Never blocks: each step captures one piece (some tens of thousands of entries), and goes on when it is written and the
//! background's share allows the next. The header is written when every record that the pieces may name is on stable media
//! and no start can take it back.
//!
//! However small the share, a checkpoint keeps up with the log: it is whole before the log has grown by half of what lies
//! between two of them, so that a start replays half as much again at most. Where free segments are short, or the shard
//! stops, it waits for nothing.

use crate::base::ids::{BatchNumber, Token};
use crate::base::mark::{self, Mark};
use crate::base::time::Now;
use crate::port::{Effect, Effects, FileId, IoError, LogRange, Ticket};
use crate::replica::Replica;
use crate::store::checkpoint::{
    CheckpointHeader, ENTRY_BYTES, PIECE_BYTES_MAX, shape, write_entries, write_segments,
};
use crate::store::segment::SegmentUse;

/// After a failed checkpoint the next is not begun before this long. Not counted in log bytes: on a full disk none are
/// written, and only a checkpoint gives space back.
const RETRY_NS: u64 = 1_000_000_000;

/// A piece while the shard serves: bounds how long a step takes.
const PIECE_BYTES: usize = 256 << 10;

enum Phase {
    Idle,
    Preparing(Ticket),
    /// The next piece is captured after this token.
    Capturing {
        after: Option<Token>,
        is_first: bool,
    },
    WritingPiece {
        ticket: Ticket,
        after: Option<Token>,
        is_last: bool,
    },
    /// All pieces are written; records up to this batch must be durable, whatever the other shards lose, before the
    /// header is.
    AwaitingBatch(BatchNumber),
    WritingHeader(Ticket),
}

/// The state of this shard's checkpoints.
pub(super) struct Checkpoints {
    phase: Phase,
    /// The slot of the newest whole one.
    slot: u8,
    sequence: u64,
    /// Segments of this generation on are replayed at a start; 0 without a checkpoint.
    pub(super) replay_generation: u64,
    /// The same of the one in the other slot, as far as it is known; else 0. A segment that it would replay is kept: it
    /// may hold the tombstone of a key that this older one knows alive, should the newest not verify at a start.
    pub(super) fallback_generation: u64,
    /// `Log::submitted_bytes` when the newest was begun.
    pub(super) submitted_at: u64,
    /// Set while the newest attempt is one that failed: when the next is made.
    retry_ns: Option<u64>,
    /// The one that a stop asks for failed: the log has everything, so the stop goes on without.
    is_end_given_up: bool,
    /// A write to the log failed while a piece was on its way: the one that is being made is made anew when that has ended.
    is_void: bool,
    /// The cleaner needs one to give segments back.
    pub(super) is_wanted: bool,
    // of the one that is being made
    next: CheckpointHeader,
    begun_at: u64,
    offset: u64,
    buffer: Option<u32>,
    /// When the newest piece was captured, and how long it was: the next waits until the share has paid for it.
    piece_at_ns: u64,
    piece_bytes: u64,
}

impl Checkpoints {
    /// After recovery from the checkpoint in `slot`.
    pub(super) fn new(slot: u8, sequence: u64, replay_generation: u64) -> Self {
        Self {
            phase: Phase::Idle,
            slot,
            sequence,
            replay_generation,
            fallback_generation: 0,
            submitted_at: 0,
            retry_ns: None,
            is_end_given_up: false,
            is_void: false,
            is_wanted: false,
            next: CheckpointHeader::default(),
            begun_at: 0,
            offset: 0,
            buffer: None,
            piece_at_ns: 0,
            piece_bytes: 0,
        }
    }

    /// How many were made.
    #[cfg(test)]
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    fn file(&self) -> FileId {
        FileId::Checkpoint(1 - self.slot)
    }

    /// Whether the newest attempt failed: until one succeeds no segment can be given back.
    pub(super) const fn is_failing(&self) -> bool {
        self.retry_ns.is_some()
    }

    /// When one is wanted at once, or a failed one is tried again.
    fn retry_at_ns(&self) -> Option<u64> {
        if self.is_wanted {
            return Some(self.retry_ns.unwrap_or(0));
        }
        self.retry_ns
    }
}

impl Replica {
    /// One step of a checkpoint, or the beginning of one where it is time.
    pub(super) fn checkpoint_step(&mut self, now: Now, effects: &mut Effects) {
        match self.checkpoints.phase {
            Phase::Idle => {
                if self.is_checkpoint_due(now) {
                    self.begin_checkpoint(effects);
                }
            }
            Phase::Capturing { after, is_first } => {
                if self.is_piece_due(now) {
                    self.capture_piece(now, after, is_first, effects);
                } else {
                    self.background.held_back(now.mono_ns);
                }
            }
            Phase::AwaitingBatch(batch) if self.log.firm() >= batch => {
                self.write_checkpoint_header(now, effects)
            }
            Phase::Preparing(_)
            | Phase::WritingPiece { .. }
            | Phase::AwaitingBatch(_)
            | Phase::WritingHeader(_) => {}
        }
        // A stop that cannot write its checkpoint still stops, once the log has everything.
        let is_given_up = self.checkpoints.is_end_given_up && self.is_log_quiet();
        if self.is_stopping && (self.is_read_only || is_given_up) && !self.has_stopped {
            self.has_stopped = true;
            effects.list.push(Effect::Stopped);
        }
    }

    /// Whether all of a checkpoint is written but its header.
    pub(super) const fn is_checkpoint_awaiting(&self) -> bool {
        matches!(self.checkpoints.phase, Phase::AwaitingBatch(_))
    }

    fn is_log_quiet(&self) -> bool {
        self.log.open_since_ns().is_none() && self.log.in_flight() == 0
    }

    /// When the next step is due that no event brings.
    pub(super) fn checkpoint_next_ns(&self) -> Option<u64> {
        match self.checkpoints.phase {
            Phase::Idle if !self.is_stopping && !self.is_read_only => {
                self.checkpoints.retry_at_ns()
            }
            Phase::Capturing { .. } => Some(self.piece_due_ns()),
            Phase::Idle
            | Phase::Preparing(_)
            | Phase::WritingPiece { .. }
            | Phase::AwaitingBatch(_)
            | Phase::WritingHeader(_) => None,
        }
    }

    /// Whether the next piece is captured now: the share has paid for the last one, or the log grows faster than that.
    fn is_piece_due(&self, now: Now) -> bool {
        if self.is_stopping || self.is_space_short() || now.mono_ns >= self.piece_due_ns() {
            return true;
        }
        let grown = u128::from(self.log.submitted_bytes - self.checkpoints.begun_at);
        let whole = (self.index.len() * ENTRY_BYTES) as u128;
        let done = u128::from(self.checkpoints.offset);
        2 * grown * whole >= done * u128::from(self.checkpoint_every_bytes())
    }

    fn piece_due_ns(&self) -> u64 {
        let bytes_per_s = self.background.bytes_per_s_of(self.clean_share());
        let cost_ns =
            u128::from(self.checkpoints.piece_bytes) * 1_000_000_000 / u128::from(bytes_per_s);
        let cost_ns = u64::try_from(cost_ns).unwrap_or(u64::MAX);
        self.checkpoints.piece_at_ns.saturating_add(cost_ns)
    }

    /// Bytes of log between one checkpoint and the next.
    fn checkpoint_every_bytes(&self) -> u64 {
        let index_bytes = self.index.memory_bytes() as u64;
        self.config.checkpoint_bytes.max(2 * index_bytes)
    }

    fn is_checkpoint_due(&self, now: Now) -> bool {
        let lag = self.log.submitted_bytes - self.checkpoints.submitted_at;
        let is_late = lag >= self.checkpoint_every_bytes();
        if self.is_read_only {
            // The index names places at which the bytes are not on stable media.
            return false;
        }
        if self.is_stopping {
            return self.is_log_quiet() && !self.has_stopped && !self.checkpoints.is_end_given_up;
        }
        match self.checkpoints.retry_ns {
            Some(retry_ns) => now.mono_ns >= retry_ns,
            None => lag > 0 && is_late || self.checkpoints.is_wanted,
        }
    }

    fn begin_checkpoint(&mut self, effects: &mut Effects) {
        // The replay begins behind all that was closed before now; what is still open is replayed.
        self.log.close_batch(effects);
        let (generation, offset) = match self.log.end() {
            Some((_, offset, generation)) => (generation, offset),
            None => (self.log.next_generation(), 0),
        };
        self.checkpoints.is_wanted = false;
        self.checkpoints.begun_at = self.log.submitted_bytes;
        self.checkpoints.offset = u64::from(self.config.block_bytes);
        self.checkpoints.piece_bytes = 0;
        self.checkpoints.next = CheckpointHeader {
            sequence: self.checkpoints.sequence + 1,
            replay_generation: generation,
            replay_offset: offset,
            replay_last: self.log.newest(),
            hlc_ceiling: 0,
            is_end: self.is_stopping,
            shape: self.checkpoint_shape(),
            ..CheckpointHeader::default()
        };
        let pieces = (self.index.len() * ENTRY_BYTES).div_ceil(PIECE_BYTES) + 2;
        let padded = PIECE_BYTES + 2 * self.config.block_bytes as usize;
        let bytes = (PIECE_BYTES_MAX + pieces * padded) as u64;
        let ticket = self.log.ticket();
        self.checkpoints.phase = Phase::Preparing(ticket);
        effects.list.push(Effect::Prepare {
            ticket,
            file: self.checkpoints.file(),
            bytes,
            fill_bytes: 0,
        });
    }

    fn checkpoint_shape(&self) -> u64 {
        let owner = crate::store::format::owner(self.config.node, self.config.shard);
        let slices = self.config.slices;
        shape(
            owner,
            slices.partitions(),
            slices.shards(),
            self.config.segment_bytes,
        )
    }

    pub(super) fn checkpoint_prepared(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<(), IoError>,
    ) {
        if !matches!(self.checkpoints.phase, Phase::Preparing(asked) if asked == ticket) {
            return;
        }
        match result {
            Ok(()) => {
                let room = PIECE_BYTES_MAX + 2 * self.config.block_bytes as usize;
                self.checkpoints.buffer = Some(
                    self.log
                        .lend_buffer(room.next_multiple_of(self.config.block_bytes as usize)),
                );
                self.checkpoints.phase = Phase::Capturing {
                    after: None,
                    is_first: true,
                };
            }
            Err(_) => self.abandon_checkpoint(now),
        }
    }

    fn capture_piece(
        &mut self,
        now: Now,
        after: Option<Token>,
        is_first: bool,
        effects: &mut Effects,
    ) {
        let Some(buffer) = self.checkpoints.buffer else {
            return self.abandon_checkpoint(now);
        };
        let in_use: Vec<SegmentUse> = if is_first {
            self.log.segments.in_use().collect()
        } else {
            Vec::new()
        };
        let block = self.config.block_bytes as usize;
        let mut after = after;
        let mut is_last = false;
        let bytes_wanted = if self.is_stopping {
            PIECE_BYTES_MAX
        } else {
            PIECE_BYTES
        };
        let next = &mut self.checkpoints.next;
        let index = &self.index;
        let bytes = self.log.fill_lent(buffer, block, |out| {
            if is_first {
                next.sums ^= write_segments(out, &in_use);
            } else {
                let (crc, count, last) = write_entries(out, bytes_wanted, index.scan_after(after));
                next.sums ^= crc;
                next.entries += count;
                is_last = count == 0
                    || next.entries >= index.len() as u64
                        && index.scan_after(last).next().is_none();
                after = last.or(after);
            }
        });
        let ticket = self.log.ticket();
        let offset = self.checkpoints.offset;
        self.checkpoints.offset += bytes as u64;
        self.checkpoints.piece_at_ns = now.mono_ns;
        self.checkpoints.piece_bytes = bytes as u64;
        self.checkpoints.next.body_bytes += bytes as u64;
        self.stats.checkpoint_bytes += bytes as u64;
        self.checkpoints.phase = Phase::WritingPiece {
            ticket,
            after,
            is_last,
        };
        let data = LogRange {
            buffer,
            start: 0,
            bytes: bytes as u32,
        };
        effects.list.push(Effect::Write {
            ticket,
            file: self.checkpoints.file(),
            offset,
            data,
        });
    }

    fn write_checkpoint_header(&mut self, now: Now, effects: &mut Effects) {
        let Some(buffer) = self.checkpoints.buffer else {
            return self.abandon_checkpoint(now);
        };
        self.checkpoints.next.hlc_ceiling = self.log.hlc_ceiling.max(self.clock.last().0);
        self.checkpoints.next.lost = self.log.lost;
        // None: the next start takes it for one after a crash.
        self.checkpoints.next.whole_since = if self.is_whole_known {
            self.whole_since.0
        } else {
            0
        };
        self.checkpoints.next.is_tainted = !self.tainted.is_empty();
        let header = self.checkpoints.next.encode();
        let bytes = self
            .log
            .fill_lent(buffer, self.config.block_bytes as usize, |out| {
                out.extend_from_slice(&header)
            });
        let ticket = self.log.ticket();
        self.checkpoints.phase = Phase::WritingHeader(ticket);
        let data = LogRange {
            buffer,
            start: 0,
            bytes: bytes as u32,
        };
        effects.list.push(Effect::Write {
            ticket,
            file: self.checkpoints.file(),
            offset: 0,
            data,
        });
    }

    /// A finished write that is not the log's.
    pub(super) fn checkpoint_written(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<(), IoError>,
        effects: &mut Effects,
    ) {
        match self.checkpoints.phase {
            Phase::WritingPiece {
                ticket: asked,
                after,
                is_last,
            } if asked == ticket => match result {
                Ok(()) if self.checkpoints.is_void => self.make_anew(),
                Ok(()) if is_last => {
                    self.checkpoints.phase = Phase::AwaitingBatch(self.log.newest())
                }
                Ok(()) => {
                    self.checkpoints.phase = Phase::Capturing {
                        after,
                        is_first: false,
                    }
                }
                Err(_) => self.abandon_checkpoint(now),
            },
            Phase::WritingHeader(asked) if asked == ticket => match result {
                Ok(()) => {
                    self.checkpoints.slot = 1 - self.checkpoints.slot;
                    self.checkpoints.sequence += 1;
                    self.checkpoints.fallback_generation = self.checkpoints.replay_generation;
                    self.checkpoints.replay_generation = self.checkpoints.next.replay_generation;
                    self.checkpoints.submitted_at = self.checkpoints.begun_at;
                    self.checkpoints.retry_ns = None;
                    self.finish_checkpoint();
                    if self.is_stopping && self.checkpoints.next.is_end && !self.has_stopped {
                        self.has_stopped = true;
                        effects.list.push(Effect::Stopped);
                    }
                }
                Err(_) => self.abandon_checkpoint(now),
            },
            Phase::Idle
            | Phase::Preparing(_)
            | Phase::Capturing { .. }
            | Phase::WritingPiece { .. }
            | Phase::AwaitingBatch(_)
            | Phase::WritingHeader(_) => {}
        }
    }

    fn finish_checkpoint(&mut self) {
        self.checkpoints.phase = Phase::Idle;
        self.checkpoints.is_void = false;
        if let Some(buffer) = self.checkpoints.buffer.take() {
            self.log.take_back(buffer);
        }
    }

    /// A write to the log failed: what was in it is appended anew elsewhere, and the batches that had it never count. A
    /// checkpoint that is being made may begin its replay behind one of them, so that a start would find nothing that
    /// follows it, and may name their places: it is made anew. One whose header is on its way stands on durable batches
    /// alone.
    pub(super) fn void_checkpoint(&mut self) {
        if matches!(
            self.checkpoints.phase,
            Phase::Idle | Phase::WritingHeader(_)
        ) {
            return;
        }
        mark::reach(Mark::CheckpointVoided);
        match self.checkpoints.phase {
            // Its bytes are with the disk.
            Phase::WritingPiece { .. } => self.checkpoints.is_void = true,
            _ => self.make_anew(),
        }
    }

    fn make_anew(&mut self) {
        self.checkpoints.is_wanted = true;
        self.finish_checkpoint();
    }

    fn abandon_checkpoint(&mut self, now: Now) {
        self.checkpoints.retry_ns = Some(now.mono_ns.saturating_add(RETRY_NS));
        self.checkpoints.is_end_given_up |= self.is_stopping && self.checkpoints.next.is_end;
        self.finish_checkpoint();
    }
}
