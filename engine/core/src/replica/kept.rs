//! What of this shard's slices is whole, and since when: marks in the log, one for each partition that was ever dropped
//! or gained.
//!
//! A mark is a record of its own with a hint's token, so that nothing that clients or peers ask for ever meets it. Its
//! fingerprint is the moment since which the partition was held without loss: births from before it are not continued.
//! It is live in the index, so checkpoints and the cleaner keep it. With [`FLAG_DROP`] it says besides that every key of
//! the partition that lies before it in the log is gone; a copy that the cleaner makes does not say so again.
//!
//! A crash is a loss of the whole shard: what had left for other replicas and was not on stable media here comes back as
//! theirs. So every start but one after a clean stop raises the moment for all partitions (`whole_since`); checkpoints
//! carry it.
//!
//! Why not a file: it must be ordered among the records of the very keys it speaks of.

use crate::base::hash;
use crate::base::ids::{PartitionId, Token};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::time::{Hlc, HlcClock, Now};
use crate::port::{Effects, Op, Quorum, Request, RequestId};
use crate::replica::Replica;
use crate::replica::machine::{Answer, KeyId};
use crate::store::format::{FLAG_DROP, FLAG_TOMBSTONE, Record, RecordHeader};
use crate::store::index::Index;
use crate::store::log::{Head, NoRoom};
use crate::store::place::{Place, tag15};

/// The bucket of marks; no client can name it.
const MARK_BUCKET: &[u8] = b"\0mark";

/// A mark's key within this shard.
fn mark_key(partition: PartitionId, first: Token, tag_seed: u64) -> (KeyId, [u8; 4]) {
    let name = partition.0.to_le_bytes();
    let tag15 = tag15(hash::tag(tag_seed, MARK_BUCKET, &name));
    let token = first.of_hint();
    (KeyId { token, tag15 }, name)
}

impl Replica {
    /// Reads the marks, at a start.
    pub(super) fn read_marks(&mut self) {
        for number in 0..self.config.slices.partitions() {
            let partition = PartitionId(number);
            let first = self.slice(partition).first;
            let (key, _) = mark_key(partition, first, self.config.tag_seed);
            if let Some(entry) = self.index.get(key.token, key.tag15) {
                self.since_of.insert(partition, Hlc(entry.fingerprint));
            }
        }
    }

    /// From when on this shard has held a token's partition without loss.
    pub(super) fn since(&self, token: Token) -> Hlc {
        let partition = self.config.slices.partition_of(token);
        let since = self.since_of.get(&partition).copied().unwrap_or_default();
        since.max(self.whole_since)
    }

    /// These files are filled with the records of former ones: no time that those promised is given again, and no birth
    /// from before goes on. Until its end it serves nobody else. Before the first event.
    pub fn begin_after(&mut self, promised: Hlc) {
        self.is_being_filled = true;
        if !mutant::is(Mutant::DealtUntold) {
            self.clock = HlcClock::after(promised.max(self.clock.last()));
        }
        self.whole_since = self.clock.last().after();
        self.is_whole_known = true;
    }

    /// From now on no birth of a partition from before is continued; lost with a crash unless it is marked.
    pub(crate) fn raise_since(&mut self, partition: PartitionId) -> Hlc {
        let since = self.clock.last().after();
        let held = self.since_of.entry(partition).or_default();
        *held = since.max(*held);
        *held
    }

    /// Whether keys that the index does not have are unknown, not absent.
    pub(super) fn is_tainted(&self, token: Token) -> bool {
        !self.tainted.is_empty()
            && self
                .tainted
                .contains(&self.config.slices.partition_of(token))
    }

    /// Whether a record at this place may be an older one of its key, for newer ones were lost.
    pub(super) fn is_doubtful(&self, token: Token, place: Place) -> bool {
        let lost = self.log.lost;
        lost.is_any()
            && self.is_tainted(token)
            && self
                .log
                .segments
                .get(self.layout.segment(place))
                .is_some_and(|s| lost.is_behind(s.generation, self.layout.offset(place)))
    }

    /// Whether a record itself says so: one that the cleaner copied.
    pub(super) fn tells_doubt(&self, record: &Record<'_>) -> bool {
        record.is_doubtful() && self.is_tainted(record.header.token)
    }

    /// At a start: what was marked as whole since the loss is whole. A copy of an older mark expires.
    pub(super) fn trust_marks(&mut self) {
        let lost = self.log.lost;
        if !lost.is_any() {
            return;
        }
        for number in 0..self.config.slices.partitions() {
            let partition = PartitionId(number);
            let first = self.slice(partition).first;
            let (key, _) = mark_key(partition, first, self.config.tag_seed);
            let mark = self.index.get(key.token, key.tag15).map(|mark| mark.place);
            let is_later =
                mark.is_some_and(|place| !place.expires() && !self.is_doubtful(key.token, place));
            if is_later {
                self.tainted.remove(&partition);
            }
        }
    }

    /// The partitions of which something is lost.
    pub(crate) fn tainted(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.tainted.iter().copied()
    }

    /// How often a partition was tainted since the start.
    pub(crate) const fn taints(&self) -> u64 {
        self.taints
    }

    /// Something of a partition is lost: what the index does not have is unknown there.
    fn taint(&mut self, partition: PartitionId) {
        self.tainted.insert(partition);
        self.taints += 1;
        self.raise_since(partition);
    }

    /// A key's record does not verify. Where others hold copies it is forgotten here and brought back from them; until
    /// then it is unknown, as everything of its partition that the index does not have.
    pub(super) fn lose_entry(&mut self, token: Token, place: Place) {
        let is_there = self
            .index
            .get(token, place.tag15())
            .is_some_and(|entry| entry.place == place);
        if !self.is_replicated || !is_there || token.is_hint() {
            return;
        }
        mark::reach(Mark::RecordLost);
        if self.has_hint(token) {
            let print = self.fingerprint_of(token, place.tag15());
            self.lost_prints
                .extend(print.map(|print| ((token, place.tag15()), print)));
        }
        self.hold_damaged(self.layout.segment(place));
        self.forget_entry(token, place.tag15());
        self.taint(self.config.slices.partition_of(token));
    }

    /// The same for what the start found damaged.
    pub(super) fn lose_damaged(&mut self) {
        if self.stats.damage.is_empty() {
            return;
        }
        let is_damaged = |place: Place| {
            let (segment, offset) = (self.layout.segment(place), self.layout.offset(place));
            let offset = u64::from(offset);
            let mut damage = self.stats.damage.iter();
            damage.any(|damage| damage.segment == segment && damage.offset == offset)
        };
        let entries = self.index.scan_after(None);
        let lost: Vec<(Token, Place)> = entries
            .filter(|(_, entry)| is_damaged(entry.place))
            .map(|(token, entry)| (token, entry.place))
            .collect();
        for (token, place) in lost {
            self.lose_entry(token, place);
        }
    }

    /// The partition is whole: marks it so, and answers `id` when that, and all that was appended before it, is on
    /// stable media. False where there is no room, or nothing can be said to be there since writes failed; nothing happened.
    pub(crate) fn mark_whole(
        &mut self,
        now: Now,
        partition: PartitionId,
        id: RequestId,
        effects: &mut Effects,
    ) -> bool {
        if self.is_read_only {
            return false;
        }
        let since = self.raise_since(partition);
        let Ok(batch) = self.append_mark(now, partition, since, 0, effects) else {
            return false;
        };
        self.tainted.remove(&partition);
        let request = Request {
            id,
            deadline_ns: None,
            bucket: MARK_BUCKET,
            key: &[],
            token: self.slice(partition).first,
            durability: None,
            quorum: Quorum::default(),
            wants_object: false,
            is_forwarded: false,
            op: Op::Count,
        };
        self.answer_when_durable(now, &request, (batch, true), Answer::default(), effects);
        true
    }

    /// Forgets every key of a partition, for good: after a restart they are gone too. False where there is no room, or
    /// writes failed; nothing happened.
    pub(crate) fn drop_partition(
        &mut self,
        now: Now,
        partition: PartitionId,
        effects: &mut Effects,
    ) -> bool {
        if self.is_read_only {
            return false;
        }
        let since = self.raise_since(partition);
        if self
            .append_mark(now, partition, since, FLAG_DROP, effects)
            .is_err()
        {
            return false;
        }
        let mut gone = Vec::new();
        self.index
            .drop_keys(partition, |token, entry| gone.push((token, entry)));
        for (token, entry) in gone {
            self.digest.replace(token, entry.fingerprint, 0);
            self.subtract_live(entry.place);
        }
        self.tainted.remove(&partition);
        true
    }

    fn append_mark(
        &mut self,
        now: Now,
        partition: PartitionId,
        since: Hlc,
        flag: u8,
        effects: &mut Effects,
    ) -> Result<crate::base::ids::BatchNumber, NoRoom> {
        let first = self.slice(partition).first;
        let (key, name) = mark_key(partition, first, self.config.tag_seed);
        let flags = FLAG_TOMBSTONE | flag;
        let head = Head {
            token: key.token,
            tag15: key.tag15,
            flags,
            fingerprint: since.0,
            bucket: MARK_BUCKET,
            key: &name,
        };
        self.begin_tick(now, effects);
        let appended = self.log.append(head, 0, |_| {}, now.mono_ns, effects)?;
        self.note_appended(key, since.0, flags, appended);
        Ok(appended.batch)
    }
}

/// What a mark says at a replay: a drop takes every key that came before it.
pub(super) fn replay_mark(
    index: &mut Index,
    partition: PartitionId,
    header: &RecordHeader,
) -> bool {
    let is_drop = header.flags & FLAG_DROP != 0 && header.token.is_hint();
    if is_drop {
        index.drop_keys(partition, |_, _| {});
    }
    is_drop
}
