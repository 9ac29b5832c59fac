//! Scans: the keys of this shard in token order.
//!
//! Keys are not in RAM, so a scan reads records. Where one is missing from memory, all of this call's are asked of the
//! disk at once, and what was found so far is the answer; only a call that found nothing waits.
//!
//! The cursor is the token of the last entry looked at, or stands for the beginning of a partition's slice: it stays valid
//! whatever is written, and every key that is there from beginning to end of a walk is seen. An own walk ends before the first
//! partition that this node does not answer for, where the coordinator asks another node.
//!
//! A record that cannot be read is counted and passed over: else one rotten place would hide every key behind it for
//! ever. The place is remembered until an answer has gone past it, so that a call which meets several comes to its end.

use crate::base::ids::{PartitionId, Token};
use crate::base::time::Now;
use crate::port::{ByteRange, Effects, Failure, Op, Outcome, Request, write_record};
use crate::replica::Replica;
use crate::replica::machine::Fetched;
use crate::store::format::{bucket_named, stored_bucket};
use crate::store::place::Place;
use crate::version::ObjectView;

/// Entries that one call looks at, at most.
const SCAN_COUNT_MAX: u32 = 4096;
/// Places that are remembered as unreadable, at most.
const UNREADABLE_MAX: usize = 4096;
/// Bytes of an answer after which it looks at no further token.
const SCAN_BYTES_MAX: usize = 4 << 20;

impl Replica {
    pub(super) fn scan(
        &mut self,
        now: Now,
        request: &Request<'_>,
        (cursor, count): (u64, u32),
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        let is_of_records = matches!(request.op, Op::Records { .. });
        let count = count.clamp(1, SCAN_COUNT_MAX) as usize;
        let (slices, shard) = (self.config.slices, self.config.shard);
        let start = effects.bytes.len() as u32;
        let mut next_cursor = 0;
        let mut found = 0;
        // What stood before the token that is looked at: where this call ends when one of its records is missing.
        let (mut token_start, mut found_before, mut token_before) = (start, 0, None);
        let mut missing: Vec<(Place, Token)> = Vec::new();
        let mut passed_by = 0;
        let mut last_token = None;
        let mut passed: Vec<Place> = Vec::new();
        // Another node's walk is through one partition, an own one through those in a row that this node answers for.
        let is_answered = |partition: PartitionId| {
            let answered = self.answered.get(partition.0 as usize);
            answered.is_none_or(|is_answered| *is_answered)
        };
        let asked = request
            .is_forwarded
            .then(|| slices.partition_of(request.token));
        if asked.is_some_and(|asked| !is_answered(asked)) {
            return effects.reply(request.id, Outcome::Failed(Failure::NoHolder));
        }
        let end = match asked {
            Some(asked) => slices.partition_behind(asked),
            None if is_of_records => None,
            None => (slices.partition_of(Token(cursor)).0..slices.partitions())
                .map(PartitionId)
                .find(|partition| !is_answered(*partition)),
        };
        let begun = match asked {
            Some(asked) if slices.partition_of(Token(cursor)) < asked => {
                slices.beginning(asked, shard)
            }
            _ => Token(cursor),
        };
        let after = if slices.is_beginning(begun, shard) {
            let (first, _) = slices.slice(slices.partition_of(begun), shard);
            first.0.checked_sub(1).map(Token)
        } else {
            Some(begun)
        };
        let mut is_through = true;
        for (looked_at, (token, entry)) in self.index.scan_after(after).enumerate() {
            if end.is_some_and(|end| slices.partition_of(token) >= end) {
                break;
            }
            // Entries of one token are looked at together: the cursor cannot stand between them.
            if last_token != Some(token) {
                let is_long = effects.bytes.len() - start as usize >= SCAN_BYTES_MAX;
                // No answer ends where its cursor would stand for a beginning.
                let next = last_token.filter(|last| !slices.is_beginning(*last, shard));
                if let Some(next) = next.filter(|_| looked_at >= count || is_long) {
                    if missing.is_empty() {
                        next_cursor = next.0;
                    }
                    is_through = false;
                    break;
                }
                token_before = last_token.replace(token);
                (token_start, found_before) = (effects.bytes.len() as u32, found);
            }
            // Of what has a hint's token, marks are tombstones and so are hints that were delivered.
            let is_listed = match (is_of_records, token.is_hint()) {
                (true, is_hint) => !is_hint || !entry.place.is_tombstone(),
                (false, is_hint) => !is_hint && !entry.place.is_tombstone(),
            };
            if !is_listed {
                continue;
            }
            if !is_of_records && self.unreadable.contains(&entry.place.0) {
                if missing.is_empty() {
                    passed.push(entry.place);
                }
                continue;
            }
            let Some(record) = self.find(entry.place, token, fetched) else {
                if missing.is_empty() {
                    effects.bytes.truncate(token_start as usize);
                    found = found_before;
                    next_cursor = token_before.map_or(0, |token: Token| token.0);
                    passed_by = looked_at as u32;
                }
                missing.push((entry.place, token));
                continue;
            };
            if !missing.is_empty() {
                continue;
            }
            let Some((bucket, key, object)) = record.split() else {
                if is_of_records {
                    effects.bytes.truncate(start as usize);
                    return effects.reply(request.id, Outcome::Failed(self.corrupt(entry)));
                }
                self.stats.scan_unreadable += 1;
                continue;
            };
            if is_of_records {
                if self.is_doubtful(token, entry.place) || self.tells_doubt(&record) {
                    return effects.reply(request.id, Outcome::Failed(Failure::Unknown));
                }
                write_record(&mut effects.bytes, bucket_named(bucket), key, object);
                found += 1;
                continue;
            }
            if bucket != stored_bucket(request.bucket) {
                continue;
            }
            if entry.place.expires()
                && ObjectView::parse(object).is_ok_and(|view| view.is_tombstone_only(now.wall_ms))
            {
                continue;
            }
            effects
                .bytes
                .extend_from_slice(&(key.len() as u32).to_le_bytes());
            effects.bytes.extend_from_slice(key);
            found += 1;
        }
        if let Some(end) = end.filter(|_| is_through && missing.is_empty() && asked.is_none()) {
            next_cursor = slices.beginning(end, shard).0;
        }
        for (place, token) in missing.iter().skip(1) {
            self.start_scan_read(*place, *token, effects);
        }
        let first = missing.first().copied();
        if found == 0
            && let Some(first) = first
        {
            // What it went past without listing it need not be read again: memory may not hold all of it at once.
            let behind = (next_cursor > 0)
                .then_some(Token(next_cursor))
                .filter(|behind| !slices.is_beginning(*behind, shard));
            let op = match (request.op, behind) {
                (Op::Scan { .. }, Some(behind)) => Op::Scan {
                    cursor: behind.0,
                    count: (count as u32).saturating_sub(passed_by).max(1),
                },
                (op, _) => op,
            };
            return self.wait_for_read_of(first, &Request { op, ..*request }, effects);
        }
        if let Some((first, token)) = first {
            self.start_scan_read(first, token, effects);
        }
        // This answer goes past them: a later walk tries them anew.
        for place in passed {
            self.unreadable.remove(&place.0);
        }
        let keys = ByteRange {
            start,
            end: effects.bytes.len() as u32,
        };
        effects.reply(request.id, Outcome::Keys { next_cursor, keys });
    }

    /// A record that a walk asked for cannot be read.
    pub(super) fn note_unreadable(&mut self, token: Token, place: Place) {
        self.stats.scan_unreadable += 1;
        let held = self.index.get(token, place.tag15());
        if held.is_some_and(|entry| entry.place == place) {
            if self.unreadable.len() >= UNREADABLE_MAX {
                self.unreadable.pop_first();
            }
            self.unreadable.insert(place.0);
        }
    }
}
