//! `SCAN` and `DBSIZE`: what covers all shards.
//!
//! A cursor is the core's own: the token of the last key looked at, or of the beginning of a partition, whose shard the token
//! says. A walk goes through the shards one after another; within one call it goes on to the next shard where one is through,
//! and past parts without any key: in a small store most partitions are empty, and each that other nodes hold is a part.

use gramme_core::base::ids::Token;
use gramme_core::port::{Op, Outcome, listed};

use super::answers::{self, Part, Total, Wanted};
use super::encode::{array, bulk, error};
use super::pending::Order;
use super::session::RespSession;
use super::words::{self, Refusal, Words, integer_of, syntax, unsigned_of};
use crate::reactor::session::Io;

/// Entries that a `SCAN` looks at unless it says so.
const COUNT_DEFAULT: u32 = 10;
/// Entries that one call may look at, whatever it says.
const COUNT_MAX: u32 = 100_000;

/// Parts without any key that one call goes past.
const EMPTY_PARTS_MAX: u32 = 256;

/// What one shard's keys were to a `SCAN`.
pub(super) enum Scanned {
    /// Not the last ones: another part was asked for.
    GoesOn,
    /// The last ones.
    Ended,
}

/// A `SCAN` on its way through the shards.
pub(super) struct Walk {
    shard: u16,
    empty_parts: u32,
    /// Entries still to look at.
    count: u32,
    pattern: Option<Vec<u8>>,
    found: u64,
    /// The keys found, as they will be sent.
    keys: Vec<u8>,
}

impl RespSession {
    pub(super) fn dbsize(&mut self, io: &mut Io<'_>, _words: &Words<'_>) -> Result<(), Refusal> {
        self.count_keys(io, Total::Sum);
        Ok(())
    }

    /// Asks all shards how many keys they have.
    pub(super) fn count_keys(&mut self, io: &mut Io<'_>, total: Total) {
        let shards = io.port.slices().shards();
        let mut total = Some(total);
        for shard in 0..shards {
            let last = if shard + 1 == shards {
                total.take()
            } else {
                None
            };
            let part = last.map_or(Part::More, Part::Last);
            let tag = self
                .pending
                .push(Wanted::Part(part), self.version, Order::Free);
            self.submit_to(io, shard, tag, Op::Count);
        }
    }

    pub(super) fn scan(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let cursor = unsigned_of(words.get(0)).ok_or_else(|| "ERR invalid cursor".to_owned())?;
        let (mut count, mut pattern) = (COUNT_DEFAULT, None);
        let mut is_none = false;
        for at in (1..words.len()).step_by(2) {
            if at + 1 >= words.len() {
                return Err(syntax());
            }
            let value = words.get(at + 1);
            match words.upper(at).as_slice() {
                b"MATCH" => pattern = Some(value.to_vec()),
                b"COUNT" => {
                    let asked = integer_of(value)?;
                    if asked < 1 {
                        return Err(syntax());
                    }
                    count = u32::try_from(asked).unwrap_or(u32::MAX).min(COUNT_MAX);
                }
                // Everything here is a string.
                b"TYPE" => is_none = !value.eq_ignore_ascii_case(b"string"),
                _ => return Err(syntax()),
            }
        }
        if is_none {
            self.answer(io, |out| scanned(out, 0, 0, &[]));
            return Ok(());
        }
        let shard = match cursor {
            0 => 0,
            _ => io.port.slices().shard_of(Token(cursor)).0,
        };
        let walk = Walk {
            shard,
            empty_parts: 0,
            count,
            pattern: pattern.filter(|pattern| pattern != b"*"),
            found: 0,
            keys: Vec::new(),
        };
        let tag = self
            .pending
            .push(Wanted::Scan(Box::new(walk)), self.version, Order::Free);
        self.submit_to(io, shard, tag, Op::Scan { cursor, count });
        Ok(())
    }

    /// Takes the keys of one shard; returns nothing when the outcome is none of a scan.
    pub(super) fn scan_answered(
        &mut self,
        tag: u32,
        outcome: &Outcome,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> Option<Scanned> {
        let Some(Wanted::Scan(walk)) = self.pending.wanted(tag) else {
            return None;
        };
        let mut answer = Vec::new();
        match outcome {
            Outcome::Keys { next_cursor, keys } => {
                walk.take(keys.of(bytes));
                let shards = io.port.slices().shards();
                walk.count = walk
                    .count
                    .saturating_sub(u32::try_from(walk.found).unwrap_or(u32::MAX).max(1));
                if *next_cursor == 0 && walk.shard + 1 < shards {
                    walk.shard += 1;
                    let (shard, count) = (walk.shard, walk.count.max(1));
                    self.submit_to(io, shard, tag, Op::Scan { cursor: 0, count });
                    return Some(Scanned::GoesOn);
                }
                let is_empty = keys.start == keys.end && walk.found == 0;
                if *next_cursor != 0 && is_empty && walk.empty_parts < EMPTY_PARTS_MAX {
                    walk.empty_parts += 1;
                    let (shard, cursor, count) = (walk.shard, *next_cursor, walk.count.max(1));
                    self.submit_to(io, shard, tag, Op::Scan { cursor, count });
                    return Some(Scanned::GoesOn);
                }
                scanned(&mut answer, *next_cursor, walk.found, &walk.keys);
            }
            Outcome::Failed(failure) => answers::failed(&mut answer, failure),
            Outcome::Object { .. }
            | Outcome::Absent { .. }
            | Outcome::Exists(_)
            | Outcome::Written { .. }
            | Outcome::ConditionNotMet { .. }
            | Outcome::Held(_)
            | Outcome::Cluster(_)
            | Outcome::Count(_) => error(&mut answer, "ERR a scan was answered without keys"),
        }
        io.is_ended = self.pending.settle(tag, answer, io.out);
        Some(Scanned::Ended)
    }
}

impl Walk {
    fn take(&mut self, list: &[u8]) {
        for key in listed(list).flatten() {
            let is_wanted = |pattern: &Vec<u8>| words::matches(pattern, key);
            if self.pattern.as_ref().is_none_or(is_wanted) {
                bulk(&mut self.keys, key);
                self.found += 1;
            }
        }
    }
}

fn scanned(out: &mut Vec<u8>, next_cursor: u64, found: u64, keys: &[u8]) {
    array(out, 2);
    bulk(out, next_cursor.to_string().as_bytes());
    array(out, found as usize);
    out.extend_from_slice(keys);
}
