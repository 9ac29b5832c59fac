//! The reaper: tombstones that every node is known to have, or to have nothing instead of, are forgotten everywhere.
//!
//! The first reader of a partition that is alive leads. It asks every node of the cluster twice, longer than any message
//! lives apart: after the first agreement nobody can send an older value any more, and what was sent before has died by
//! the second. A node agrees only to what is on its stable media, so that no crash brings an older value back.
//!
//! Never reaps while a node is away, while the partition moves, or while anyone has a hint for the key. Where the last
//! word is lost, a node keeps its tombstone, comparing brings it back to the others, and it is reaped once more.
//!
//! Invariant: a tombstone is forgotten only when all nodes of one unchanged view agreed, twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{PartitionId, ShardIndex, Token};
use crate::base::limits::MESSAGE_AGE_MS_MAX;
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::upkeep_call;
use crate::port::{CallId, Lane, Message, Peer, TokenRange};
use crate::replica::records::{Moment, ReadEnd, ReadResult};
use crate::replica::turn::Turn;
use crate::ring::PartitionView;
use crate::store::format::Record;
use crate::store::place::Place;
use crate::version::ObjectView;

use super::session::{read_pairs, write_pairs};
use super::{Job, Upkeep, WALKED_KEY_BYTES, spend};

/// Tombstones of one question.
const PAIRS_MAX: usize = 512;
/// Questions under way, those that wait for their second time among them.
const ROUNDS_MAX: u32 = 64;
/// How long the answers may take.
const SILENT_NS_MAX: u64 = 3_000_000_000;
/// Between two walks over all partitions.
const WALK_NS: u64 = 10_000_000_000;
/// Keys that one step looks at for tombstones, at most.
const STEP_KEYS_MAX: usize = 16_384;

/// How far one question is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Reading,
    /// Asked for the first or the second time.
    Asking {
        is_second: bool,
        since_ns: u64,
    },
    /// Until every message that was under way has died.
    Waiting {
        until_ns: u64,
    },
}

/// Some tombstones of one partition.
pub(super) struct Reaping {
    partition: PartitionId,
    epoch: u64,
    phase: Phase,
    sequence: u16,
    /// What lay here when it began: it must be on stable media before it is forgotten anywhere.
    moment: Moment,
    /// Records that are read to see how old they are.
    reading: BTreeMap<Place, (Token, u64)>,
    pairs: Vec<(Token, u64)>,
    /// Who has yet to answer.
    asked: BTreeSet<Peer>,
    agreed: BTreeMap<(Token, u64), usize>,
}

/// A question of another node, that waits until what it is about is on stable media.
pub(super) struct Asked {
    peer: Peer,
    call: CallId,
    pairs: Vec<(Token, u64)>,
    moment: Moment,
    since_ns: u64,
}

/// Where the walk is.
#[derive(Default)]
pub(super) struct Reaper {
    partition: u32,
    from: Option<Token>,
    next_ns: u64,
    rounds: u32,
}

impl Reaper {
    /// Questions under way.
    pub(super) const fn rounds(&self) -> usize {
        self.rounds as usize
    }
}

/// Whether nobody gains or lets go of a partition.
fn is_settled(row: &PartitionView) -> bool {
    let is_reader = |number| row.read.contains(number);
    row.write.iter().all(is_reader)
        && row.others.is_empty()
        && !row.is_pending_here
        && !row.is_draining_here
}

/// Whether this node leads: all are alive, and it is the first reader.
fn leads(turn: &Turn<'_>, row: &PartitionView) -> bool {
    let me = turn.view.my_number();
    is_settled(row)
        && me.is_some()
        && row.read.first().copied() == me
        && (mutant::is(Mutant::ReapedAlone) || turn.view.nodes.iter().all(|node| node.is_alive))
}

/// Whether this shard has exactly that tombstone or nothing, and no hint for the key.
fn may_forget(turn: &Turn<'_>, (token, fingerprint): (Token, u64)) -> bool {
    let range = TokenRange::one(token);
    let partition = turn.view.slices.partition_of(token);
    if token.is_hint()
        || turn.replica.own_part(range).is_none()
        || turn.replica.has_hint(token)
        || turn.replica.tainted().any(|tainted| tainted == partition)
    {
        return false;
    }
    let mut entries = turn.replica.pairs(range);
    match (entries.next(), entries.next()) {
        (None, _) => true,
        (Some((_, entry)), None) => {
            let is_over = entry.place.is_tombstone() || entry.place.expires();
            entry.fingerprint == fingerprint && is_over
        }
        (Some(_), Some(_)) => false,
    }
}

impl Upkeep {
    /// Looks for tombstones to ask about.
    pub(super) fn reap_due(&mut self, turn: &mut Turn<'_>) {
        self.reapings_due(turn);
        self.answer_asked(turn);
        let now_ns = turn.now.mono_ns;
        if self.reaper.next_ns > now_ns {
            return;
        }
        let mut left = STEP_KEYS_MAX;
        while self.reaper.rounds < ROUNDS_MAX && turn.replica.background.is_open(now_ns) {
            let partition = PartitionId(self.reaper.partition);
            let Some(row) = turn.view.partition(partition) else {
                (self.reaper.partition, self.reaper.from) = (0, None);
                self.reaper.next_ns = now_ns.saturating_add(WALK_NS);
                return;
            };
            if !leads(turn, row) || turn.replica.keys_of(partition) == 0 {
                (self.reaper.partition, self.reaper.from) = (self.reaper.partition + 1, None);
                continue;
            }
            let slice = turn.replica.slice(partition);
            let range = TokenRange {
                first: self.reaper.from.unwrap_or(slice.first),
                last: slice.last,
            };
            let mut found: Vec<(Token, u64, Place)> = Vec::new();
            let left_before = left;
            let mut next = None;
            for (token, entry) in turn.replica.pairs(range) {
                let is_full = left == 0 || found.len() >= PAIRS_MAX;
                if is_full && next != Some(token) {
                    break;
                }
                left = left.saturating_sub(1);
                next = Some(token);
                if entry.place.is_tombstone() || entry.place.expires() {
                    found.push((token, entry.fingerprint, entry.place));
                }
            }
            let is_end = left > 0 && found.len() < PAIRS_MAX;
            let read: u64 = found
                .iter()
                .map(|(_, _, place)| u64::from(place.bytes_upper()))
                .sum();
            let walked = (left_before - left) as u64;
            spend(turn, read + walked * WALKED_KEY_BYTES);
            match next {
                Some(token) if !is_end && token < slice.last => {
                    self.reaper.from = Some(Token(token.0 + 1));
                }
                Some(_) | None => {
                    (self.reaper.partition, self.reaper.from) = (self.reaper.partition + 1, None);
                }
            }
            if !found.is_empty() {
                self.begin_reaping(turn, partition, found);
            }
            if left == 0 {
                return;
            }
        }
    }

    fn begin_reaping(
        &mut self,
        turn: &mut Turn<'_>,
        partition: PartitionId,
        found: Vec<(Token, u64, Place)>,
    ) {
        let mut reaping = Reaping {
            partition,
            epoch: turn.view.epoch,
            phase: Phase::Reading,
            sequence: 0,
            moment: turn.replica.moment(),
            reading: BTreeMap::new(),
            pairs: Vec::new(),
            asked: BTreeSet::new(),
            agreed: BTreeMap::new(),
        };
        let horizon_ms = horizon_ms(turn);
        for (token, fingerprint, place) in found {
            match turn.replica.read_record(token, place, turn.effects) {
                Some(record) if is_old(&record, horizon_ms) => {
                    reaping.pairs.push((token, fingerprint));
                }
                Some(_) => {}
                None => {
                    reaping.reading.insert(place, (token, fingerprint));
                }
            }
        }
        if reaping.pairs.is_empty() && reaping.reading.is_empty() {
            return;
        }
        self.reaper.rounds += 1;
        let id = self.jobs.insert(Job::Reaping(Box::new(reaping)));
        self.ask_when_read(turn, id);
    }

    /// A read ended.
    pub(super) fn reaper_read(&mut self, turn: &mut Turn<'_>, end: &ReadEnd) {
        let horizon_ms = horizon_ms(turn);
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            let Some(Job::Reaping(reaping)) = self.jobs.get_mut(id) else {
                continue;
            };
            let Some(pair) = reaping.reading.remove(&end.place) else {
                continue;
            };
            if let ReadResult::Record(bytes) = &end.result
                && Record::trusted(bytes).is_some_and(|record| is_old(&record, horizon_ms))
            {
                reaping.pairs.push(pair);
            }
            self.ask_when_read(turn, id);
        }
    }

    fn ask_when_read(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        match self.jobs.get_mut(id) {
            Some(Job::Reaping(reaping)) if reaping.reading.is_empty() => {
                reaping.pairs.sort_unstable();
            }
            Some(_) | None => return,
        }
        self.ask_all(turn, id, false);
    }

    /// Asks every node about what is left of the list.
    fn ask_all(&mut self, turn: &mut Turn<'_>, id: SlotId, is_second: bool) {
        let Some(Job::Reaping(reaping)) = self.jobs.get_mut(id) else {
            return;
        };
        reaping.pairs.retain(|pair| may_forget(turn, *pair));
        let row = turn.view.partition(reaping.partition);
        let is_still = row.is_some_and(|row| leads(turn, row)) && reaping.epoch == turn.view.epoch;
        if reaping.pairs.is_empty() || !is_still {
            return self.end_reaping(id);
        }
        if mutant::is(Mutant::ReapedAlone) {
            for (token, fingerprint) in &reaping.pairs {
                turn.replica.forget_tombstone(*token, *fingerprint);
            }
            return self.end_reaping(id);
        }
        reaping.sequence += 1;
        reaping.phase = Phase::Asking {
            is_second,
            since_ns: turn.now.mono_ns,
        };
        reaping.agreed.clear();
        reaping.asked = tell_all(turn, id, reaping, false);
        if reaping.asked.is_empty() {
            self.end_reaping(id);
        }
    }

    /// A node's answer.
    pub(super) fn reaped(
        &mut self,
        turn: &mut Turn<'_>,
        from: Peer,
        (id, sequence): (SlotId, u16),
        list: &[u8],
    ) {
        let Some(Job::Reaping(reaping)) = self.jobs.get_mut(id) else {
            return;
        };
        let Phase::Asking { is_second, .. } = reaping.phase else {
            return;
        };
        if reaping.sequence != sequence || !reaping.asked.remove(&from) {
            return;
        }
        let mut pairs = read_pairs(list);
        pairs.dedup();
        for pair in pairs {
            *reaping.agreed.entry(pair).or_default() += 1;
        }
        if !reaping.asked.is_empty() {
            return;
        }
        let others = turn.view.nodes.len() - 1;
        let agreed = core::mem::take(&mut reaping.agreed);
        reaping
            .pairs
            .retain(|pair| agreed.get(pair) == Some(&others));
        if reaping.pairs.is_empty() {
            return self.end_reaping(id);
        }
        if !is_second {
            let drift_ms = turn.replica.config().clock_drift_ms_max;
            let wait_ms = MESSAGE_AGE_MS_MAX + 2 * drift_ms;
            reaping.phase = Phase::Waiting {
                until_ns: turn
                    .now
                    .mono_ns
                    .saturating_add(wait_ms.saturating_mul(1_000_000)),
            };
            return;
        }
        self.forget_everywhere(turn, id);
    }

    /// All agreed twice.
    fn forget_everywhere(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Job::Reaping(reaping)) = self.jobs.get_mut(id) else {
            return;
        };
        reaping.pairs.retain(|pair| may_forget(turn, *pair));
        let row = turn.view.partition(reaping.partition);
        let is_still = row.is_some_and(|row| leads(turn, row)) && reaping.epoch == turn.view.epoch;
        if is_still && turn.replica.is_stable(reaping.moment) {
            tell_all(turn, id, reaping, true);
            for (token, fingerprint) in &reaping.pairs {
                if turn.replica.forget_tombstone(*token, *fingerprint) {
                    self.stats.tombstones_reaped += 1;
                }
            }
        }
        self.end_reaping(id);
    }

    fn end_reaping(&mut self, id: SlotId) {
        if self.jobs.remove(id).is_some() {
            self.reaper.rounds -= 1;
        }
    }

    fn reapings_due(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            let Some(Job::Reaping(reaping)) = self.jobs.get_mut(id) else {
                continue;
            };
            match reaping.phase {
                Phase::Waiting { until_ns } if until_ns <= now_ns => self.ask_all(turn, id, true),
                Phase::Asking { since_ns, .. }
                    if now_ns.saturating_sub(since_ns) > SILENT_NS_MAX =>
                {
                    self.end_reaping(id);
                }
                Phase::Reading | Phase::Asking { .. } | Phase::Waiting { .. } => {}
            }
        }
    }

    /// Another node asks, or says that all agreed.
    pub(super) fn serve_reap(
        &mut self,
        turn: &mut Turn<'_>,
        (peer, call): (Peer, CallId),
        (partition, is_final): (PartitionId, bool),
        list: &[u8],
    ) {
        let is_quiet = turn.view.partition(partition).is_some_and(is_settled);
        let mut pairs = read_pairs(list);
        pairs.truncate(PAIRS_MAX);
        pairs.retain(|pair| {
            is_quiet
                && turn.view.slices.partition_of(pair.0) == partition
                && may_forget(turn, *pair)
        });
        if is_final {
            for (token, fingerprint) in pairs {
                if turn.replica.forget_tombstone(token, fingerprint) {
                    self.stats.tombstones_reaped += 1;
                }
            }
            return;
        }
        self.jobs.insert(Job::AskedToReap(Box::new(Asked {
            peer,
            call,
            pairs,
            moment: turn.replica.moment(),
            since_ns: turn.now.mono_ns,
        })));
        self.answer_asked(turn);
    }

    /// Answers what is on stable media by now. What is not for so long that nobody waits for the answer any more (a disk that
    /// takes no writes) is forgotten: it is asked for again and again.
    fn answer_asked(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            let Some(Job::AskedToReap(asked)) = self.jobs.get_mut(id) else {
                continue;
            };
            let is_stable = turn.replica.is_stable(asked.moment);
            let is_over = now_ns.saturating_sub(asked.since_ns) > SILENT_NS_MAX
                || turn.replica.is_overtaken(asked.moment);
            if !is_stable && !is_over {
                continue;
            }
            if let Some(Job::AskedToReap(asked)) = self.jobs.remove(id)
                && is_stable
            {
                let mut list = Vec::new();
                let pairs = asked.pairs.iter().copied();
                write_pairs(&mut list, pairs.filter(|pair| may_forget(turn, *pair)));
                let list = turn.effects.keep(&list);
                let call = asked.call;
                turn.answer_peer(asked.peer, Message::Reaped { call, list });
            }
        }
    }
}

/// What was written before this moment may be reaped.
fn horizon_ms(turn: &Turn<'_>) -> u64 {
    if mutant::is(Mutant::ReapedAlone) {
        return turn.now.wall_ms;
    }
    let drift_ms = turn.replica.config().clock_drift_ms_max;
    turn.now
        .wall_ms
        .saturating_sub(MESSAGE_AGE_MS_MAX + 2 * drift_ms)
}

fn is_old(record: &Record<'_>, horizon_ms: u64) -> bool {
    record.split().is_some_and(|(_, _, object)| {
        ObjectView::parse(object).is_ok_and(|view| {
            view.max_hlc().ms() < horizon_ms && view.is_tombstone_only(horizon_ms)
        })
    })
}

/// Sends the list to the shards of every other node that own its tokens; a node of which no shard owns any does not
/// exist. Returns whom.
fn tell_all(turn: &mut Turn<'_>, id: SlotId, reaping: &Reaping, is_final: bool) -> BTreeSet<Peer> {
    let mut told = BTreeSet::new();
    let view = turn.view;
    for node in view.nodes.iter().filter(|node| node.id != view.me) {
        let Some(slices) = view.slices.of_shards(node.shards) else {
            return BTreeSet::new();
        };
        let mut lists: BTreeMap<ShardIndex, Vec<u8>> = BTreeMap::new();
        for pair in &reaping.pairs {
            let list = lists.entry(slices.shard_of(pair.0)).or_default();
            write_pairs(list, [*pair].into_iter());
        }
        for (shard, list) in lists {
            let list = turn.effects.keep(&list);
            let message = Message::Reap {
                call: upkeep_call(id, reaping.sequence),
                partition: reaping.partition,
                is_final,
                list,
            };
            turn.send(node.id, Lane::Shard(shard), message);
            told.insert(Peer {
                node: node.id,
                shard,
            });
        }
    }
    told
}
