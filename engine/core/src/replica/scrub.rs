//! Scrubbing: what lies on the disk is read once in a while, so that what rotted there is found while others still have it.
//!
//! A pass goes through the sealed and the quarantined segments from the oldest on, a piece at a time, spread evenly over `scrub_ns`. Where
//! something in a piece does not verify, the index is gone through, a bounded number of entries at a time, for records that
//! lie there and were not seen whole. Each of these is read as a get would read it; that read decides whether it is damaged,
//! and does what is to be done: it is told with its place, and where others have copies it is brought back from them.
//!
//! Never decides itself that something is lost: a piece may have holes that no record is in.

use crate::base::ids::{SegmentId, Token};
use crate::base::time::Now;
use crate::port::{Effect, Effects, FileId, IoError, Ticket};
use crate::replica::Replica;
use crate::store::format::walk_batch;
use crate::store::piece::{Part, Piece};
use crate::store::segment::{Segment, SegmentState};

/// A piece that is read at once, unless a batch is longer.
const PIECE_BYTES: u32 = 256 << 10;
/// A pass is paced as if it had at least so many pieces: one through little is over sooner.
const PACED_PIECES_MIN: u64 = 64;
/// Index entries that one step looks at, where something is amiss.
const STEP_ENTRIES: usize = 4096;
/// Records that one step has read.
const STEP_READS: usize = 32;
/// Time between such steps.
const SUSPECT_STEP_NS: u64 = 10_000_000;

/// Where a pass is: behind this much of the segment's use of this generation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Cursor {
    generation: u64,
    offset: u32,
}

struct Reading {
    ticket: Ticket,
    id: SegmentId,
    at: Cursor,
}

/// A piece in which something did not verify.
struct Suspect {
    id: SegmentId,
    generation: u64,
    from: u32,
    upto: u32,
    /// Offsets of the records in it that did, in order.
    whole: Vec<u32>,
    /// The index is gone through up to here.
    after: Option<Token>,
}

/// The scrubber's state.
#[derive(Default)]
pub(super) struct Scrubber {
    /// None before the first step.
    next_ns: Option<u64>,
    cursor: Cursor,
    piece_bytes: u32,
    reading: Option<Reading>,
    suspect: Option<Suspect>,
}

impl Replica {
    /// When it wants its next step: not before it can take it, or the loop would look on without a pause.
    pub(super) fn scrub_next_ns(&self) -> Option<u64> {
        let next_ns = self.scrubber.next_ns?;
        let may_step = !self.is_scrub_idle() && self.scrubber.reading.is_none();
        may_step.then(|| next_ns.max(self.background.open_ns()))
    }

    const fn is_scrub_idle(&self) -> bool {
        self.config.scrub_ns == 0 || self.is_stopping || self.is_read_only
    }

    /// One step: a piece is asked of the disk, or the index is looked through for what lies in a bad one.
    pub(super) fn scrub_step(&mut self, now: Now, effects: &mut Effects) {
        if self.is_scrub_idle() || self.scrubber.reading.is_some() {
            return;
        }
        let Some(next_ns) = self.scrubber.next_ns else {
            self.begin_scrub(now);
            return;
        };
        if now.mono_ns < next_ns || !self.background.is_open(now.mono_ns) {
            return;
        }
        if self.scrubber.suspect.is_some() {
            self.scrubber.next_ns = Some(now.mono_ns.saturating_add(SUSPECT_STEP_NS));
            return self.look_through(effects);
        }
        self.scrubber.next_ns = Some(now.mono_ns.saturating_add(self.scrub_step_ns()));
        let at = self.scrubber.cursor;
        let next = self
            .scrubbed_segments()
            .filter(|(_, segment)| segment.generation >= at.generation)
            .map(|(id, segment)| (segment.generation, segment.used_bytes, id))
            .filter(|(generation, used, _)| *generation > at.generation || at.offset < *used)
            .min();
        let Some((generation, used_bytes, id)) = next else {
            self.stats.scrubs += 1;
            self.scrubber.cursor = Cursor::default();
            return;
        };
        let offset = if generation == at.generation {
            at.offset
        } else {
            0
        };
        let bytes = self.scrubber.piece_bytes.max(PIECE_BYTES);
        let bytes = bytes.min(used_bytes - offset);
        let ticket = self.log.ticket();
        let at = Cursor { generation, offset };
        self.scrubber.reading = Some(Reading { ticket, id, at });
        self.background.spend(now.mono_ns, u64::from(bytes));
        effects.list.push(Effect::Read {
            ticket,
            file: FileId::Segment(id),
            offset: u64::from(offset),
            bytes,
            background: true,
        });
    }

    /// The first pass of a run begins where one that never stopped would be by now: a node that is started again every
    /// day would else read the same segments for ever.
    fn begin_scrub(&mut self, now: Now) {
        self.scrubber.next_ns = Some(now.mono_ns.saturating_add(self.scrub_step_ns()));
        let mut generations: Vec<u64> = (self.scrubbed_segments())
            .map(|(_, segment)| segment.generation)
            .collect();
        generations.sort_unstable();
        let pass_ms = (self.config.scrub_ns / 1_000_000).max(1);
        let at = generations.len() as u64 * (now.wall_ms % pass_ms) / pass_ms;
        self.scrubber.cursor.generation = generations.get(at as usize).copied().unwrap_or(0);
    }

    fn scrubbed_segments(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        (self.log.segments.iter()).filter(|(_, segment)| {
            let is_at_rest = matches!(
                segment.state,
                SegmentState::Sealed | SegmentState::Quarantined
            );
            is_at_rest && segment.live_bytes > 0 && !segment.is_missing
        })
    }

    /// Time between two steps of a pass.
    fn scrub_step_ns(&self) -> u64 {
        let pieces = self
            .scrubbed_segments()
            .map(|(_, segment)| u64::from(segment.used_bytes.div_ceil(PIECE_BYTES)))
            .sum::<u64>();
        self.config.scrub_ns / pieces.max(PACED_PIECES_MIN)
    }

    /// Takes a read, if it is the scrubber's; false where it is not.
    pub(super) fn scrub_read_done(
        &mut self,
        ticket: Ticket,
        result: &Result<&[u8], IoError>,
    ) -> bool {
        let is_its = |reading: &mut Reading| reading.ticket == ticket;
        let Some(Reading { id, at, .. }) = self.scrubber.reading.take_if(is_its) else {
            return false;
        };
        self.scrubber.piece_bytes = 0;
        let segment = self.log.segments.get(id);
        let Some(segment) = segment.filter(|s| s.generation == at.generation) else {
            // It was given back meanwhile, and what was live in it was verified as it was copied.
            self.scrubber.cursor = at;
            return true;
        };
        let (used_bytes, upto) = (segment.used_bytes, at.offset.saturating_add(PIECE_BYTES));
        let piece = match result {
            Ok(bytes) => walk_piece(at, bytes, (used_bytes, self.config.block_bytes)),
            Err(_) => {
                self.stats.read_faults += 1;
                Walked {
                    upto: upto.min(used_bytes),
                    is_whole: false,
                    records: Vec::new(),
                    wanted_bytes: None,
                }
            }
        };
        self.scrubber.cursor.generation = at.generation;
        self.scrubber.cursor.offset = piece.upto;
        self.scrubber.piece_bytes = piece.wanted_bytes.unwrap_or(0);
        self.stats.scrubbed_bytes += u64::from(piece.upto - at.offset);
        if !piece.is_whole {
            self.scrubber.suspect = Some(Suspect {
                id,
                generation: at.generation,
                from: at.offset,
                upto: piece.upto,
                whole: piece.records,
                after: None,
            });
        }
        true
    }

    /// Has the records read that lie in a bad piece and were not seen whole.
    fn look_through(&mut self, effects: &mut Effects) {
        let Some(mut suspect) = self.scrubber.suspect.take() else {
            return;
        };
        let segment = self.log.segments.get(suspect.id);
        if segment.is_none_or(|segment| segment.generation != suspect.generation) {
            return;
        }
        let mut found = Vec::new();
        let mut is_through = true;
        for (looked_at, (token, entry)) in self.index.scan_after(suspect.after).enumerate() {
            let is_much = looked_at >= STEP_ENTRIES || found.len() >= STEP_READS;
            if is_much && suspect.after != Some(token) {
                is_through = false;
                break;
            }
            suspect.after = Some(token);
            let offset = self.layout.offset(entry.place);
            let is_there = self.layout.segment(entry.place) == suspect.id
                && (suspect.from..suspect.upto).contains(&offset);
            // A hint is read when it is delivered; that says best what to do.
            if is_there && !token.is_hint() && suspect.whole.binary_search(&offset).is_err() {
                found.push((entry.place, token));
            }
        }
        for (place, token) in found {
            self.start_scrub_read(place, token, effects);
        }
        if !is_through {
            self.scrubber.suspect = Some(suspect);
        }
    }
}

/// What a piece has.
struct Walked {
    /// Where the next one begins.
    upto: u32,
    is_whole: bool,
    /// Offsets of the records that verify, in order.
    records: Vec<u32>,
    /// How much the next one must have, where its first batch is longer than usual.
    wanted_bytes: Option<u32>,
}

fn walk_piece(start: Cursor, bytes: &[u8], (used_bytes, block_bytes): (u32, u32)) -> Walked {
    let mut walked = Walked {
        upto: start.offset,
        is_whole: true,
        records: Vec::new(),
        wanted_bytes: None,
    };
    let mut piece = Piece {
        generation: start.generation,
        used_bytes,
        block_bytes,
        offset: start.offset,
        bytes,
    };
    while let Some((_, part)) = piece.next_part() {
        match part {
            Part::Hole => walked.is_whole = false,
            Part::Longer(wanted_bytes) => walked.wanted_bytes = Some(wanted_bytes),
            Part::Batch(header, batch) => {
                walk_batch(&header, batch, |offset, record| match record {
                    Ok(_) => walked.records.push(offset),
                    Err(_) => walked.is_whole = false,
                })
            }
        }
    }
    walked.upto = piece.offset.min(used_bytes);
    walked
}
