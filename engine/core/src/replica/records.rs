//! What the background needs of a replica: sums and keys of a range of tokens, records by their place.
//!
//! Never decides anything. All of it leaves hints out: they are this node's own affair.
//!
//! Invariants:
//! - a range is within this shard's slice of one partition ([`Replica::own_part`] makes it so);
//! - each read that was begun ends in one [`ReadEnd`], whatever became of it.

use crate::base::hash;
use crate::base::ids::{HINT_BITS, PartitionId, SegmentId, Token};
use crate::base::mark::{self, Mark};
use crate::port::{Effects, TokenRange};
use crate::replica::Replica;
use crate::store::format::Record;
use crate::store::index::Entry;
use crate::store::place::{Place, tag15};

/// The sum of the fingerprints of a range, and how many keys it has: equal on two replicas that hold the same there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RangeSum {
    pub(crate) sum: u64,
    pub(crate) count: u64,
}

/// How a read for the background ended.
#[derive(Debug)]
pub(crate) struct ReadEnd {
    pub(crate) place: Place,
    pub(crate) result: ReadResult,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum ReadResult {
    /// The whole record.
    Record(Box<[u8]>),
    /// It lies elsewhere by now, or was superseded.
    Moved,
    /// It cannot be read.
    Failed,
}

/// How far a shard's log was.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    batch: u64,
    /// Writes that had failed.
    write_faults: u64,
}

impl Replica {
    /// This shard's slice of a partition.
    pub(crate) fn slice(&self, partition: PartitionId) -> TokenRange {
        let (first, last) = self.config.slices.slice(partition, self.config.shard);
        TokenRange { first, last }
    }

    /// The part of a range that this shard owns; `None` where it owns none, or where the range is no part of one
    /// partition.
    pub(crate) fn own_part(&self, range: TokenRange) -> Option<TokenRange> {
        let partition = self.config.slices.partition_of(range.first);
        let slice = self.slice(partition);
        let part = TokenRange {
            first: range.first.max(slice.first),
            last: range.last.min(slice.last),
        };
        let is_one = partition == self.config.slices.partition_of(range.last);
        (is_one && part.first <= part.last).then_some(part)
    }

    /// The sum over a range: at once for a whole slice, else by a walk over the index.
    pub(crate) fn sum_of(&self, range: TokenRange) -> RangeSum {
        let partition = self.config.slices.partition_of(range.first);
        if range == self.slice(partition) {
            return RangeSum {
                sum: self.digest.root(partition),
                count: self.index.keys_of(partition),
            };
        }
        self.pairs(range)
            .fold(RangeSum::default(), |held, (_, entry)| RangeSum {
                sum: held.sum.wrapping_add(entry.fingerprint),
                count: held.count + 1,
            })
    }

    /// The sum over everything.
    #[cfg(test)]
    pub(crate) fn root(&self) -> (u64, u64) {
        let partitions = (0..self.config.slices.partitions()).map(PartitionId);
        partitions.fold((0, 0), |(sum, count): (u64, u64), partition| {
            let held = self.sum_of(self.slice(partition));
            (sum.wrapping_add(held.sum), count + held.count)
        })
    }

    /// Forgets every `nth` key, as a fault would; returns how many.
    #[cfg(test)]
    pub(crate) fn lose_keys(&mut self, nth: usize) -> usize {
        let keys = self.index.scan_after(None);
        let lost: Vec<(Token, Entry)> = keys
            .filter(|(token, _)| !token.is_hint())
            .step_by(nth)
            .collect();
        for (token, entry) in &lost {
            self.forget_entry(*token, entry.place.tag15());
        }
        lost.len()
    }

    /// How many keys of a partition this shard has, tombstones among them.
    pub(crate) fn keys_of(&self, partition: PartitionId) -> u64 {
        self.index.keys_of(partition)
    }

    /// How many hints of a partition are to be delivered.
    pub(crate) fn hints_of(&self, partition: PartitionId) -> u32 {
        self.index.hints_of(partition)
    }

    /// How many hints wait for room in the log.
    pub(crate) fn hints_without_room(&self) -> usize {
        self.refused_hints.len()
    }

    /// How many hints are to be delivered, of those that lie in the log.
    pub(crate) const fn hints(&self) -> usize {
        self.index.hints()
    }

    /// The keys of a range in token order, tombstones too.
    pub(crate) fn pairs(&self, range: TokenRange) -> impl Iterator<Item = (Token, Entry)> + '_ {
        self.index
            .partition_from(range.first)
            .take_while(move |(token, _)| *token <= range.last)
            .filter(|(token, _)| !token.is_hint())
    }

    /// The hints of a partition from a token on that are to be delivered.
    pub(crate) fn hint_entries(&self, first: Token) -> impl Iterator<Item = (Token, Entry)> + '_ {
        self.index
            .partition_from(first)
            .filter(|(token, entry)| token.is_hint() && !entry.place.is_tombstone())
    }

    /// Whether any hint may be for a key of this token.
    pub(crate) fn has_hint(&self, token: Token) -> bool {
        self.hint_entries(token.of_hint())
            .next()
            .is_some_and(|(found, _)| found == token.of_hint())
    }

    /// The fingerprint of an entry, if it still has this tag.
    pub(crate) fn fingerprint_of(&self, token: Token, tag15: u16) -> Option<u64> {
        self.index.get(token, tag15).map(|entry| entry.fingerprint)
    }

    /// The fingerprint that this shard has of a key.
    pub(crate) fn fingerprint_named(&self, bucket: &[u8], key: &[u8]) -> Option<u64> {
        let tag15 = tag15(hash::tag(self.config.tag_seed, bucket, key));
        self.fingerprint_of(hash::token(bucket, key), tag15)
    }

    /// Whether this very record is what the index names.
    pub(crate) fn is_named(&self, token: Token, place: Place) -> bool {
        let entry = self.index.get(token, place.tag15());
        entry.is_some_and(|entry| entry.place == place)
    }

    /// Whether the record at a place is given up.
    pub(crate) fn is_lost_at(&self, token: Token, place: Place) -> bool {
        self.lost.contains(&(token, place.0))
    }

    /// The tokens of keys that a hint of this token may be for, of those that this shard has.
    pub(crate) fn tokens_beside(&self, hint: Token) -> Vec<Token> {
        let range = TokenRange {
            first: Token(hint.0 & !HINT_BITS),
            last: hint,
        };
        let mut tokens: Vec<Token> = self.pairs(range).map(|(token, _)| token).collect();
        tokens.dedup();
        tokens
    }

    /// Forgets a hint of which nobody can say what it was; false where this is not what is held.
    pub(crate) fn forget_hint(&mut self, token: Token, place: Place) -> bool {
        self.is_named(token, place) && self.forget_entry(token, place.tag15())
    }

    /// Whether something of a token's partition is lost here.
    pub(crate) fn is_lossy(&self, token: Token) -> bool {
        self.is_tainted(token)
    }

    /// The fingerprint of what this shard kept of a key for others, and lost.
    pub(crate) fn lost_print(&self, bucket: &[u8], key: &[u8]) -> Option<u64> {
        if self.lost_prints.is_empty() {
            return None;
        }
        let tag15 = tag15(hash::tag(self.config.tag_seed, bucket, key));
        let name = (hash::token(bucket, key), tag15);
        self.lost_prints.get(&name).copied()
    }

    /// A hint is over: what was lost of the keys that hints of its token are for is of no interest, where it was the last.
    pub(crate) fn forget_lost_prints(&mut self, hint: Token) {
        if !self.lost_prints.is_empty() && !self.has_hint(hint) {
            self.lost_prints
                .retain(|(token, _), _| token.of_hint() != hint);
        }
    }

    /// The record at a place where it is in memory; else its read begins, and ends in [`Replica::take_reads`].
    pub(crate) fn read_record(
        &mut self,
        token: Token,
        place: Place,
        effects: &mut Effects,
    ) -> Option<Record<'_>> {
        if self.find(place, token, None).is_none() {
            self.start_upkeep_read(place, token, effects);
            return None;
        }
        self.find(place, token, None)
    }

    /// The reads that have ended.
    pub(crate) fn take_reads(&mut self) -> Vec<ReadEnd> {
        core::mem::take(&mut self.upkeep_reads)
    }

    /// Forgets a tombstone that nobody can need any more; false where this is not what is held.
    pub(crate) fn forget_tombstone(&mut self, token: Token, fingerprint: u64) -> bool {
        let found = self
            .index
            .partition_from(token)
            .take_while(|(found, _)| *found == token)
            .find(|(_, entry)| {
                entry.fingerprint == fingerprint
                    && (entry.place.is_tombstone() || entry.place.expires())
            });
        let Some((_, entry)) = found else {
            return false;
        };
        mark::reach(Mark::TombstoneReaped);
        self.forget_entry(token, entry.place.tag15());
        self.stats.tombstones_reaped += 1;
        self.note_grave(self.layout.segment(entry.place));
        true
    }

    /// A segment has a tombstone that the index has forgotten.
    pub(super) fn note_grave(&mut self, id: SegmentId) {
        if let Some(segment) = self.log.segments.get_mut(id) {
            segment.has_graves = true;
        }
    }

    /// All that lies in the log by now, for [`Replica::is_stable`].
    pub(crate) const fn moment(&self) -> Moment {
        Moment {
            batch: self.log.newest().0,
            write_faults: self.stats.write_faults,
        }
    }

    /// Whether all of before a moment is on stable media. After a write that failed that cannot be said any more: what was in
    /// it has other batches, or none.
    pub(crate) const fn is_stable(&self, moment: Moment) -> bool {
        self.log.durable().0 >= moment.batch && !self.is_overtaken(moment)
    }

    /// Whether it will never be said.
    pub(crate) const fn is_overtaken(&self, moment: Moment) -> bool {
        self.is_read_only || self.stats.write_faults != moment.write_faults
    }
}
