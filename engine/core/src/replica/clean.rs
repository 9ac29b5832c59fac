//! The cleaner: copies what is live out of a segment, and gives the segment back.
//!
//! Owns the choice of when, and the walk. Never waits for anything: each step is one read of a bounded piece, or the
//! handling of one.
//!
//! A segment is given back only when its copies are on stable media for good and both checkpoints lie behind its whole use:
//! before that, a replay from the older one could still need a tombstone that lay in it.
//!
//! A tombstone goes only with the oldest segment that has anything live: whatever it deleted lay there or in one that was
//! emptied before, so that not even a replay of the whole log brings it back. One that all replicas agreed to forget is out
//! of the index at once, wherever it lies: its record is a *grave* from then on, and what goes with any but the oldest
//! segment is copied as one (without its object), so that a segment with graves is gone through though nothing is live.
//!
//! Invariants:
//! - a record is copied only when it verifies and the index names its very place;
//! - a segment in which something live does not verify is kept as it is until the index names nothing in it any more;
//! - while anything is unknown, no segment of which something was given up is given back: a start that goes by a checkpoint
//!   of before the loss could not tell any more that it is unknown.

use std::collections::BTreeSet;

use crate::base::ids::SegmentId;
use crate::base::mark::{self, Mark};
use crate::base::time::Now;
use crate::port::{Effect, Effects, FileId, IoError, Ticket};
use crate::replica::Replica;
use crate::replica::machine::{Admission, KeyId, READ_TRIES_MAX};
use crate::replica::pace::WHOLE;
use crate::store::format::{
    BatchHeader, FLAG_CONTROL, FLAG_DOUBTFUL, FLAG_DROP, FLAG_EXPIRES, FLAG_TOMBSTONE, Record,
    RecordHeader, walk_batch,
};
use crate::store::piece::{Part, Piece};
use crate::store::segment::{Segment, SegmentState};
use crate::version::ObjectView;

/// A piece that is read and handled at once: bounds how long a step takes.
const PIECE_BYTES: u32 = 256 << 10;
/// Free segments below which cleaning comes before everything else in the background.
const FREE_LOW: u32 = 4;
/// Free segments below which puts wait or are refused; deletes and copies may use them.
const FREE_RESERVE: u32 = 3;
/// Without pressure, a segment is cleaned when no more than this share of it is live.
const LAZY_LIVE_SHARE: f64 = 0.5;
/// Under pressure, when no more than this is.
const PRESSED_LIVE_SHARE: f64 = 0.95;
/// Beyond this share of the capacity there is nothing left to gain: puts are refused.
const FULL_LIVE_SHARE: f64 = 0.92;
/// So many tombstones that wait for older segments are no reason yet to go through those.
const TOMBSTONES_KEPT_MIN: u64 = 1024;
/// A tombstone younger than this stays: messages that carry an object die at 30 s, and clocks may differ.
const REAP_AFTER_MS: u64 = 30_000;

struct Victim {
    id: SegmentId,
    at: u32,
    piece_bytes: u32,
    /// How often the device failed to read the piece.
    failed_reads: u8,
}

/// The cleaner's state.
#[derive(Default)]
pub(super) struct Cleaner {
    victim: Option<Victim>,
    reading: Option<Ticket>,
    next_ns: u64,
    has_work: bool,
    /// Tombstones that were copied though they are old enough, for older segments may hold what they deleted.
    tombstones_kept: u64,
    /// While such segments are gone through, oldest first: up to this generation.
    round_upto: u64,
    /// Scratch.
    stripped: Vec<u8>,
    /// Whether no segment is quarantined.
    is_sound: bool,
    /// Segments of which something was given up.
    damaged: BTreeSet<SegmentId>,
    /// A segment is not given back since its copies depend on what other shards have not on stable media yet.
    pub(super) is_awaiting_others: bool,
}

impl Replica {
    /// When the cleaner wants its next step: none while it could not take it, or the loop would look on without a pause.
    pub(super) fn clean_next_ns(&self) -> Option<u64> {
        let cleaner = &self.cleaner;
        let is_held = self.is_stopping || self.is_read_only || self.checkpoints.is_failing();
        let may_step = cleaner.has_work && cleaner.reading.is_none() && !is_held;
        may_step.then_some(cleaner.next_ns)
    }

    pub(super) fn find_admission(&self) -> Admission {
        let free = self.log.free_segments();
        if free >= FREE_RESERVE {
            return Admission::Go;
        }
        let files = f64::from(self.log.segments.files());
        let room = files
            .min(self.config.capacity_bytes as f64 / f64::from(self.config.segment_bytes))
            - f64::from(FREE_RESERVE);
        let live = self.live_bytes as f64 / f64::from(self.config.segment_bytes);
        if live > room * FULL_LIVE_SHARE || !self.is_gain_ahead() {
            Admission::Full
        } else {
            Admission::Wait
        }
    }

    /// Whether the cleaner will give something back.
    pub(super) fn is_gain_ahead(&self) -> bool {
        let segments = &self.log.segments;
        let is_emptied = |state: SegmentState| matches!(state, SegmentState::Emptied { .. });
        !self.checkpoints.is_failing()
            && (self.cleaner.victim.is_some()
                || segments
                    .iter()
                    .any(|(_, segment)| is_emptied(segment.state))
                || segments
                    .victim(self.config.segment_bytes, u64::MAX, PRESSED_LIVE_SHARE)
                    .is_some())
    }

    /// One step of background cleaning.
    pub(super) fn clean_step(&mut self, now: Now, effects: &mut Effects) {
        self.give_back(effects);
        if self.cleaner.reading.is_some() || self.is_stopping || self.is_read_only {
            return;
        }
        // Without a checkpoint nothing is given back: copies would only use up what is left.
        if self.checkpoints.is_failing() {
            return;
        }
        let is_pressed = self.is_space_short();
        if !is_pressed && now.mono_ns < self.cleaner.next_ns {
            return;
        }
        self.cleaner.next_ns = now
            .mono_ns
            .saturating_add(self.clean_pace_ns(PIECE_BYTES, WHOLE));
        if self.cleaner.victim.is_none() {
            self.choose_victim(is_pressed);
        }
        let Some(victim) = &self.cleaner.victim else {
            self.cleaner.has_work = false;
            return;
        };
        self.cleaner.has_work = true;
        let (id, at, piece_bytes) = (victim.id, victim.at, victim.piece_bytes);
        let Some(segment) = self.log.segments.get(id) else {
            return;
        };
        let is_dead = segment.live_bytes == 0 && !self.may_have_graves(segment);
        if is_dead || at >= segment.used_bytes {
            self.finish_victim(id);
            return;
        }
        let bytes = piece_bytes.min(segment.used_bytes - at);
        let ticket = self.log.ticket();
        self.cleaner.reading = Some(ticket);
        let pace_ns = self.clean_pace_ns(bytes, self.clean_share());
        self.cleaner.next_ns = now.mono_ns.saturating_add(pace_ns);
        self.background.held_back(now.mono_ns);
        let file = FileId::Segment(id);
        effects.list.push(Effect::Read {
            ticket,
            file,
            offset: u64::from(at),
            bytes,
            background: true,
        });
    }

    /// Whether giving segments back comes before everything else in the background.
    pub(super) fn is_space_short(&self) -> bool {
        self.log.free_segments() <= FREE_LOW
    }

    /// Whether a segment must be gone through for the sake of forgotten tombstones alone.
    fn may_have_graves(&self, segment: &Segment) -> bool {
        segment.has_graves && self.log.segments.oldest_generation() != Some(segment.generation)
    }

    /// Time between a piece and the next.
    fn clean_pace_ns(&self, piece_bytes: u32, share: u64) -> u64 {
        let bytes_per_s = self.config.clean_bytes_per_s.saturating_mul(share) / WHOLE;
        u64::from(piece_bytes) * 1_000_000_000 / bytes_per_s.max(1)
    }

    /// The cleaner's share of its rate, and a checkpoint's: the background's, and more the fewer segments are free. It must
    /// not come to a halt in front of clients who then all wait for room at once.
    pub(super) fn clean_share(&self) -> u64 {
        let room = u64::from(FREE_LOW).max(u64::from(self.log.segments.files()) / 16);
        let left = u64::from(self.log.free_segments().saturating_sub(FREE_LOW)).min(room);
        self.background.share().max(WHOLE * (room - left) / room)
    }

    fn choose_victim(&mut self, is_pressed: bool) {
        if !is_pressed && self.choose_oldest() {
            return;
        }
        let segment_bytes = self.config.segment_bytes;
        let sealed = self.log.segments.count(SegmentState::Sealed);
        let sealed_bytes = u64::from(sealed) * u64::from(segment_bytes);
        let is_wasteful =
            sealed >= 2 && sealed_bytes > 2 * self.live_bytes + 2 * u64::from(segment_bytes);
        if !is_pressed && !is_wasteful {
            return;
        }
        let live_share_max = if is_pressed {
            PRESSED_LIVE_SHARE
        } else {
            LAZY_LIVE_SHARE
        };
        if let Some(id) =
            self.log
                .segments
                .victim(segment_bytes, self.log.generation(), live_share_max)
        {
            self.begin_victim(id);
        }
    }

    /// Where so many tombstones wait for what lies in older segments, these are gone through once from the oldest on,
    /// however full they are: it costs a copy of what is live for each quarter of the keys that was deleted.
    fn choose_oldest(&mut self) -> bool {
        let kept_max = TOMBSTONES_KEPT_MIN.max(self.index.values() as u64 / 4);
        if self.cleaner.tombstones_kept > kept_max {
            self.cleaner.tombstones_kept = 0;
            self.cleaner.round_upto = self.log.generation();
        }
        let oldest = self.log.segments.oldest_generation();
        if oldest.is_none_or(|oldest| oldest >= self.cleaner.round_upto) {
            return false;
        }
        let is_it = |(_, segment): &(SegmentId, &Segment)| {
            Some(segment.generation) == oldest && segment.state == SegmentState::Sealed
        };
        let Some((id, _)) = self.log.segments.iter().find(is_it) else {
            return false;
        };
        self.begin_victim(id);
        true
    }

    fn begin_victim(&mut self, id: SegmentId) {
        self.log.segments.at(id).state = SegmentState::Cleaning;
        self.cleaner.victim = Some(Victim {
            id,
            at: 0,
            piece_bytes: PIECE_BYTES,
            failed_reads: 0,
        });
    }

    fn finish_victim(&mut self, id: SegmentId) {
        self.cleaner.victim = None;
        let copies_in = self.log.newest();
        let has_unknown = self.has_unknown(id);
        let segment = self.log.segments.at(id);
        let is_live = segment.live_bytes > 0;
        segment.state = if is_live || has_unknown {
            SegmentState::Quarantined
        } else {
            SegmentState::Emptied { copies_in }
        };
        self.cleaner.is_sound = false;
        if is_live {
            self.note_damage(id, 0);
        }
    }

    /// Something in a segment is given up.
    pub(super) fn hold_damaged(&mut self, id: SegmentId) {
        self.cleaner.damaged.insert(id);
    }

    /// A segment is given back.
    pub(super) fn release_damaged(&mut self, id: SegmentId) {
        self.cleaner.damaged.remove(&id);
    }

    /// Whether something that was in a segment may still be unknown.
    fn has_unknown(&self, id: SegmentId) -> bool {
        !self.tainted.is_empty() && self.cleaner.damaged.contains(&id)
    }

    /// Quarantined segments in which nothing is needed any more are as any others. The cleaner goes through them once more
    /// for the sake of graves; one whose file is missing has none.
    fn end_quarantine(&mut self) {
        if self.cleaner.is_sound {
            return;
        }
        let copies_in = self.log.newest();
        let is_over = |(id, segment): &(SegmentId, &Segment)| {
            segment.state == SegmentState::Quarantined
                && segment.live_bytes == 0
                && !self.has_unknown(*id)
        };
        let over: Vec<SegmentId> = (self.log.segments.iter().filter(is_over))
            .map(|(id, _)| id)
            .collect();
        for id in over {
            mark::reach(Mark::QuarantineEnded);
            let segment = self.log.segments.at(id);
            segment.state = if segment.is_missing {
                SegmentState::Emptied { copies_in }
            } else {
                SegmentState::Sealed
            };
        }
        self.cleaner.is_sound = self.log.segments.first(SegmentState::Quarantined).is_none();
    }

    /// Gives back the segments that nothing can need any more.
    fn give_back(&mut self, effects: &mut Effects) {
        self.end_quarantine();
        let firm = self.log.firm();
        let (mut is_checkpoint_wanted, mut is_awaiting_others) = (false, false);
        let mut ready = Vec::new();
        for (id, segment) in self.log.segments.iter() {
            let SegmentState::Emptied { copies_in } = segment.state else {
                continue;
            };
            if segment.generation >= self.checkpoints.fallback_generation {
                is_checkpoint_wanted = true;
            } else if copies_in <= firm {
                ready.push(id);
            } else {
                is_awaiting_others = true;
            }
        }
        self.cleaner.is_awaiting_others = is_awaiting_others;
        for id in ready {
            self.stats.segments_freed += 1;
            mark::reach(Mark::SegmentFreed);
            self.log.recycle(id);
            self.forget_damage(id);
        }
        self.log.trim_spares(effects);
        if is_checkpoint_wanted && self.is_space_short() {
            self.checkpoints.is_wanted = true;
        }
    }

    /// A read that no request waits for is the cleaner's.
    pub(super) fn cleaner_read_done(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<&[u8], IoError>,
        effects: &mut Effects,
    ) {
        if self.cleaner.reading != Some(ticket) {
            return;
        }
        self.cleaner.reading = None;
        let Some(mut victim) = self.cleaner.victim.take() else {
            return;
        };
        match result {
            Ok(bytes) => {
                victim.failed_reads = 0;
                let victim = self.copy_piece(now, victim, bytes, effects);
                self.cleaner.victim = Some(victim);
            }
            Err(_) if self.log.segments.at(victim.id).live_bytes == 0 => {
                self.stats.read_faults += 1;
                self.finish_victim(victim.id);
            }
            // It may read it the next time, as with records.
            Err(_) if victim.failed_reads + 1 < READ_TRIES_MAX => {
                self.stats.read_faults += 1;
                victim.failed_reads += 1;
                self.cleaner.victim = Some(victim);
            }
            Err(_) => {
                self.stats.read_faults += 1;
                self.note_damage(victim.id, u64::from(victim.at));
                self.log.segments.at(victim.id).state = SegmentState::Quarantined;
                self.cleaner.is_sound = false;
            }
        }
    }

    fn copy_piece(
        &mut self,
        now: Now,
        mut victim: Victim,
        bytes: &[u8],
        effects: &mut Effects,
    ) -> Victim {
        let Some(segment) = self.log.segments.get(victim.id) else {
            return victim;
        };
        let mut piece = Piece {
            generation: segment.generation,
            used_bytes: segment.used_bytes,
            block_bytes: self.config.block_bytes,
            offset: victim.at,
            bytes,
        };
        while let Some((here, part)) = piece.next_part() {
            match part {
                // What was live in it shows as live bytes at the end.
                Part::Hole => {}
                Part::Longer(wanted_bytes) => {
                    victim.piece_bytes = wanted_bytes.max(PIECE_BYTES);
                    victim.at = here;
                    return victim;
                }
                Part::Batch(header, batch) => {
                    if !self.copy_batch(now, victim.id, &header, batch, effects) {
                        victim.at = here;
                        return victim;
                    }
                }
            }
        }
        victim.at = piece.offset;
        victim.piece_bytes = PIECE_BYTES;
        victim
    }

    /// Copies what is live in a batch; false when there was no room for all of it.
    fn copy_batch(
        &mut self,
        now: Now,
        id: SegmentId,
        header: &BatchHeader,
        batch: &[u8],
        effects: &mut Effects,
    ) -> bool {
        let mut has_room = true;
        // In the oldest segment nothing is left that a tombstone in it still holds off.
        let is_oldest = self.log.segments.oldest_generation() == Some(header.generation);
        let mut stripped = core::mem::take(&mut self.cleaner.stripped);
        walk_batch(header, batch, |offset, record| {
            let Ok(record) = record else { return };
            if !has_room {
                return;
            }
            if !self.is_live_at(&record.header, id, offset) {
                if !is_oldest && self.is_grave(&record.header) {
                    has_room = self.copy_grave(now, &record, &mut stripped, effects);
                }
                return;
            }
            let place = self.layout.pack(id, offset, 0, 0, record.header.tag15);
            let (mut head, mut body) = (record.header, record.body);
            // A copy of a mark lies behind keys that came later: it drops nothing.
            head.flags &= !(FLAG_DROP | FLAG_DOUBTFUL);
            if self.is_doubtful(head.token, place) || self.tells_doubt(&record) {
                head.flags = head.flags & !FLAG_TOMBSTONE | FLAG_EXPIRES | FLAG_DOUBTFUL;
            } else if self.is_over(now, &record) {
                if is_oldest {
                    self.reap(&record.header);
                    return;
                }
                if bury(now, &record, &mut stripped) {
                    head.flags = head.flags & !FLAG_EXPIRES | FLAG_TOMBSTONE;
                    head.body_bytes = stripped.len() as u32;
                    head.body_crc = crc32c::crc32c(&stripped);
                    body = &stripped;
                }
                self.cleaner.tombstones_kept += 1;
            }
            match self.log.append_copy(&head, body, now.mono_ns, effects) {
                Ok(appended) => {
                    let key = KeyId {
                        token: head.token,
                        tag15: head.tag15,
                    };
                    mark::reach(Mark::RecordMoved);
                    self.note_appended(key, head.fingerprint, head.flags, appended);
                    self.stats.cleaned_bytes += u64::from(appended.bytes);
                }
                Err(_) => has_room = false,
            }
        });
        self.cleaner.stripped = stripped;
        has_room
    }

    /// Whether a record that is not live still holds off older ones of its key: it is the last that was known of it.
    fn is_grave(&self, header: &RecordHeader) -> bool {
        header.flags & (FLAG_TOMBSTONE | FLAG_EXPIRES) != 0
            && header.flags & FLAG_CONTROL == 0
            && !header.token.is_hint()
            && !self.is_tainted(header.token)
            && self.index.get(header.token, header.tag15).is_none()
    }

    /// Copies a grave, without its object; false when there is no room.
    fn copy_grave(
        &mut self,
        now: Now,
        record: &Record<'_>,
        body: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> bool {
        let Some((bucket, key, _)) = record.split() else {
            return true;
        };
        body.clear();
        body.push(bucket.len() as u8);
        body.extend_from_slice(bucket);
        body.extend_from_slice(key);
        let mut head = record.header;
        head.flags = FLAG_TOMBSTONE | FLAG_DROP;
        head.body_bytes = body.len() as u32;
        head.body_crc = crc32c::crc32c(body);
        match self.log.append_copy(&head, body, now.mono_ns, effects) {
            Ok(appended) => {
                mark::reach(Mark::GraveCopied);
                self.note_grave(appended.segment);
                self.stats.cleaned_bytes += u64::from(appended.bytes);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether it is a tombstone (or a value that expired) that no other node and no message can need: with one node, one
    /// that is old enough.
    fn is_over(&self, now: Now, record: &Record<'_>) -> bool {
        let header = &record.header;
        if header.flags & (FLAG_TOMBSTONE | FLAG_EXPIRES) == 0
            || self.is_replicated && !header.token.is_hint()
        {
            return false;
        }
        let object = record.split().map_or(&[][..], |(_, _, object)| object);
        let horizon_ms = now
            .wall_ms
            .saturating_sub(REAP_AFTER_MS + 2 * self.config.clock_drift_ms_max);
        ObjectView::parse(object).is_ok_and(|view| {
            view.max_hlc().ms() < horizon_ms && view.is_tombstone_only(horizon_ms)
        })
    }

    fn reap(&mut self, header: &RecordHeader) {
        if self.forget_entry(header.token, header.tag15) {
            self.stats.tombstones_reaped += 1;
        }
    }
}

/// The body of an expired record without its values: what it is from then on. False when it has none already.
fn bury(now: Now, record: &Record<'_>, body: &mut Vec<u8>) -> bool {
    if record.header.flags & FLAG_EXPIRES == 0 {
        return false;
    }
    let Some((bucket, key, object)) = record.split() else {
        return false;
    };
    let Ok(view) = ObjectView::parse(object) else {
        return false;
    };
    let mut object = view.to_owned();
    object.strip_expired(now.wall_ms);
    body.clear();
    body.push(bucket.len() as u8);
    body.extend_from_slice(bucket);
    body.extend_from_slice(key);
    object.encode(body);
    body.len() <= record.body.len()
}
