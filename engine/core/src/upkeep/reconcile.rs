//! The driver of this shard's own sessions. Those of peers are answered in `serve`.
//!
//! Invariants:
//! - of each session one comparison and one pull is under way, and at most [`PUSHES_MAX`] pushes;
//! - silence is no evidence that the peer has nothing.

use crate::base::hash;
use crate::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::upkeep_call;
use crate::port::{KeyName, Lane, Message, Op, Outcome, Refusal, TokenRange};
use crate::replica::records::{RangeSum, ReadEnd};
use crate::replica::turn::Turn;

use super::gather::{Gather, RecordParts, take_record};
use super::session::{Asked, Ended, Kind, Session, read_pairs};
use super::{Job, Upkeep, WALKED_KEY_BYTES, ask, send_object, spend};

/// Tokens of one pull.
pub(super) const PULL_TOKENS_MAX: usize = 256;
/// Pushes under way of one session: the receiver's credit.
const PUSHES_MAX: u32 = 32;
/// Merges under way of one session, beyond which nothing more is pulled.
const MERGES_MAX: u32 = 64;
/// Keys that wait in one session, beyond which nothing more is compared.
const BACKLOG_KEYS_MAX: usize = 4096;
/// How long an answer may take, and how often it is asked for.
const SILENT_NS_MAX: u64 = 1_000_000_000;
const TRIES_MAX: u32 = 4;
/// How long a push may be unanswered.
const PUSH_SILENT_NS_MAX: u64 = 5_000_000_000;

/// A push that waits for its answer.
pub(super) struct Push {
    session: SlotId,
    asked_ns: u64,
}

/// A merge that waits for this shard's replica.
pub(super) struct Merge {
    session: SlotId,
}

impl Upkeep {
    /// Begins a session on this shard's slice of a partition.
    pub(super) fn begin_session(
        &mut self,
        turn: &mut Turn<'_>,
        kind: Kind,
        partition: PartitionId,
        peer: NodeId,
    ) -> bool {
        let Some(number) = turn.view.number_of(peer) else {
            return false;
        };
        let shards = turn.view.node(number).shards;
        let Some(theirs) = turn.view.slices.of_shards(shards) else {
            return false;
        };
        let slice = turn.replica.slice(partition);
        // A part for each of the peer's shards that owns some of this shard's slice, the first one last.
        let from = theirs.shard_of(slice.first).0;
        let to = theirs.shard_of(slice.last).0;
        let todo = (from..=to)
            .rev()
            .map(|shard| {
                let shard = ShardIndex(shard);
                let (first, last) = theirs.slice(partition, shard);
                let part = TokenRange {
                    first: first.max(slice.first),
                    last: last.min(slice.last),
                };
                (part, shard)
            })
            .collect();
        let session = Session {
            kind,
            partition,
            peer,
            theirs,
            started_ns: turn.now.mono_ns,
            taints: turn.replica.taints(),
            started_with: turn.replica.sum_of(slice),
            todo,
            comparing: None,
            pulls: Default::default(),
            pulling: None,
            merging: 0,
            merged: Default::default(),
            pushes: Default::default(),
            gather: None,
            pushing: 0,
            sequence: 0,
            has_failed: false,
            bad: 0,
            pulled: 0,
            pushed: 0,
        };
        let id = self.jobs.insert(Job::Session(Box::new(session)));
        self.sessions += 1;
        self.pump(turn, id);
        true
    }

    /// Does what a session can do now; ends it when nothing is left.
    pub(super) fn pump(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let is_open = turn.replica.background.is_open(turn.now.mono_ns);
        let Some(Job::Session(session)) = self.jobs.get_mut(id) else {
            return;
        };
        if session.merging == 0 && session.pulling.is_none() && session.pulls.is_empty() {
            push_what_merged(turn, session);
        }
        if mutant::is(Mutant::CompareNoPull) {
            session.pulls.clear();
        }
        if mutant::is(Mutant::CompareNoPush) {
            session.pushes.clear();
        }
        let backlog = session.pulls.len() + session.pushes.len();
        let is_failed = session.has_failed;
        let has_room = session.comparing.is_none() && backlog < BACKLOG_KEYS_MAX;
        let next = has_room && !is_failed && is_open;
        if next && let Some((range, shard)) = session.todo.pop() {
            let sum = turn.replica.sum_of(range);
            spend_walk(turn, range, sum);
            session.comparing = Some(session.ask((range, shard, sum), turn.now.mono_ns));
            send_compare(turn, id, session);
        }
        let may_pull = session.pulling.is_none() && session.merging < MERGES_MAX && is_open;
        if may_pull && !is_failed && !session.pulls.is_empty() {
            let tokens = session.take_pulls(PULL_TOKENS_MAX);
            session.pulling = Some(session.ask(tokens, turn.now.mono_ns));
            send_pull(turn, id, session);
        }
        let may_push = session.gather.is_none() && session.pushing < PUSHES_MAX && is_open;
        if may_push && !is_failed && !session.pushes.is_empty() {
            let room = (PUSHES_MAX - session.pushing) as usize;
            let count = session.pushes.len().min(room);
            let tokens: Vec<Token> = session.pushes.iter().take(count).copied().collect();
            let gather = Gather::begin(turn, &tokens);
            session.pushes.drain(..gather.tokens_answered);
            session.gather = Some(gather);
            return self.push_gathered(turn, id);
        }
        self.end_if_over(turn, id);
    }

    fn end_if_over(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let is_over = match self.jobs.get_mut(id) {
            Some(Job::Session(session)) => session.is_over(),
            Some(_) | None => return,
        };
        if !is_over {
            return;
        }
        if let Some(Job::Session(session)) = self.jobs.remove(id) {
            self.sessions -= 1;
            self.stats.sessions += 1;
            self.stats.sessions_failed += u64::from(session.has_failed);
            self.stats.records_bad += session.bad;
            self.stats.records_pulled += session.pulled;
            self.stats.records_pushed += session.pushed;
            if session.kind == Kind::Repair {
                self.stats.repairs += session.pulled + session.pushed;
            }
            let ended: Ended = session.ended();
            self.session_ended(turn, ended);
        }
    }

    /// The peer's answer to a comparison.
    pub(super) fn compared(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (id, sequence): (SlotId, u16),
        range: TokenRange,
        (theirs, list): (RangeSum, &[u8]),
    ) {
        let Some(Job::Session(session)) = self.jobs.get_mut(id) else {
            return;
        };
        let Some(asked) = session.comparing.take_if(|asked| {
            session.peer == from && asked.sequence == sequence && asked.what.0 == range
        }) else {
            return;
        };
        let (range, shard, sent) = asked.what;
        let held = turn.replica.sum_of(range);
        spend_walk(turn, range, held);
        spend(turn, list.len() as u64);
        if theirs != sent && theirs != held && !mutant::is(Mutant::CompareBlind) {
            let mut pairs = read_pairs(list);
            pairs.retain(|(token, _)| range.first <= *token && *token <= range.last);
            let own: Vec<(Token, u64)> = if Session::wants_own(held, range) {
                let pairs = turn.replica.pairs(range);
                pairs
                    .map(|(token, entry)| (token, entry.fingerprint))
                    .collect()
            } else {
                Vec::new()
            };
            session.differs((range, shard), (theirs, &pairs), (held, &own));
        }
        self.pump(turn, id);
    }

    /// The peer's records.
    pub(super) fn records(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (id, sequence): (SlotId, u16),
        (answered, is_incomplete): (u32, bool),
        mut bytes: &[u8],
    ) {
        let Some(Job::Session(session)) = self.jobs.get_mut(id) else {
            return;
        };
        let Some(asked) = session
            .pulling
            .take_if(|asked| session.peer == from && asked.sequence == sequence)
        else {
            return;
        };
        let tokens = asked.what;
        let answered = (answered as usize).min(tokens.len());
        session.has_failed |= answered == 0;
        session.bad += u64::from(is_incomplete);
        for token in tokens.iter().skip(answered).rev() {
            session.pulls.push_front(*token);
        }
        let length = bytes.len() as u64;
        let mut merges: Vec<(Token, RecordParts<'_>)> = Vec::new();
        while let Some(parts) = take_record(&mut bytes) {
            let token = hash::token(parts.bucket, parts.key);
            if tokens.contains(&token) {
                merges.push((token, parts));
            }
        }
        session.merging += merges.len() as u32;
        session.pulled += merges.len() as u64;
        self.stats.bytes_pulled += length;
        spend(turn, length);
        for (token, parts) in merges {
            let job = self.jobs.insert(Job::Merge(Merge { session: id }));
            let key = KeyName {
                bucket: parts.bucket,
                key: parts.key,
                token,
            };
            let object = parts.object;
            ask(turn, job, key, Op::Merge { object });
        }
        self.pump(turn, id);
    }

    /// This shard's replica merged a record, or did not.
    pub(super) fn merged(&mut self, turn: &mut Turn<'_>, job: SlotId, outcome: &Outcome) {
        let Some(Job::Merge(merge)) = self.jobs.remove(job) else {
            return;
        };
        let id = merge.session;
        let Some(Job::Session(session)) = self.jobs.get_mut(id) else {
            return;
        };
        session.merging -= 1;
        match outcome {
            Outcome::Written { .. } => mark::reach(Mark::DifferencePulled),
            Outcome::Failed(crate::port::Failure::BadObject) => session.bad += 1,
            _ => session.has_failed = true,
        }
        self.pump(turn, id);
    }

    /// A read for a push or a peer's pull ended.
    pub(super) fn gather_read(&mut self, turn: &mut Turn<'_>, end: &ReadEnd) {
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            match self.jobs.get_mut(id) {
                Some(Job::Session(session)) => {
                    if let Some(gather) = &mut session.gather {
                        gather.read_ended(turn, end);
                        self.push_gathered(turn, id);
                    }
                }
                Some(Job::Served(served)) => {
                    if let Some(gather) = &mut served.gather {
                        gather.read_ended(turn, end);
                        self.answer_pull(turn, id);
                    }
                }
                Some(Job::Hint(delivery)) => {
                    if let Some(gather) = &mut delivery.unnamed
                        && !gather.is_done()
                    {
                        gather.read_ended(turn, end);
                        self.unnamed_gathered(turn, id);
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    fn push_gathered(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Job::Session(session)) = self.jobs.get_mut(id) else {
            return;
        };
        let Some(gather) = session.gather.take_if(|gather| gather.is_done()) else {
            return;
        };
        // What this shard itself cannot read is not handed over.
        session.bad += u64::from(gather.is_incomplete);
        let peer = session.peer;
        let mut rest = gather.records.as_slice();
        let mut count = 0;
        while let Some(parts) = take_record(&mut rest) {
            count += 1;
            let job = self.jobs.insert(Job::Push(Push {
                session: id,
                asked_ns: turn.now.mono_ns,
            }));
            let key = KeyName::of(parts.bucket, parts.key);
            let object = turn.effects.keep(parts.object);
            send_object(turn, peer, job, key, object);
        }
        if let Some(Job::Session(session)) = self.jobs.get_mut(id) {
            session.pushing += count;
        }
        self.stats.bytes_pushed += gather.records.len() as u64;
        spend(turn, gather.records.len() as u64);
        self.end_if_over(turn, id);
    }

    /// The peer took a push, or did not.
    pub(super) fn pushed(
        &mut self,
        turn: &mut Turn<'_>,
        job: SlotId,
        result: Result<bool, Refusal>,
    ) {
        let Some(Job::Push(push)) = self.jobs.remove(job) else {
            return;
        };
        let id = push.session;
        let Some(Job::Session(session)) = self.jobs.get_mut(id) else {
            return;
        };
        session.pushing -= 1;
        match result {
            Ok(_) => {
                mark::reach(Mark::DifferencePushed);
                session.pushed += 1;
            }
            Err(Refusal::BadObject | Refusal::Unreadable) => session.bad += 1,
            Err(_) => session.has_failed = true,
        }
        self.pump(turn, id);
    }

    /// Asks again, or gives up, where a peer is silent; goes on where the budget allows it.
    pub(super) fn sessions_due(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            match self.jobs.get_mut(id) {
                Some(Job::Session(session)) => {
                    if is_silent(now_ns, &mut session.comparing, &mut session.has_failed) {
                        send_compare(turn, id, session);
                    }
                    if is_silent(now_ns, &mut session.pulling, &mut session.has_failed) {
                        send_pull(turn, id, session);
                    }
                    self.pump(turn, id);
                }
                Some(Job::Push(push))
                    if now_ns.saturating_sub(push.asked_ns) > PUSH_SILENT_NS_MAX =>
                {
                    self.pushed(turn, id, Err(Refusal::Overloaded));
                }
                Some(Job::Served(_)) => self.begin_pull(turn, id),
                Some(_) | None => {}
            }
        }
    }

    /// A node is away: its sessions end, and are resumed when it is back.
    pub(super) fn sessions_peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            if let Some(Job::Session(session)) = self.jobs.get_mut(id)
                && session.peer == node
            {
                session.has_failed = true;
                self.end_if_over(turn, id);
            }
        }
    }
}

/// Whether to ask again; too often, and the session has failed.
fn is_silent<T>(now_ns: u64, asked: &mut Option<Asked<T>>, has_failed: &mut bool) -> bool {
    let Some(asked) = asked else {
        return false;
    };
    if now_ns.saturating_sub(asked.asked_ns) < SILENT_NS_MAX {
        return false;
    }
    asked.asked_ns = now_ns;
    asked.tries += 1;
    *has_failed |= asked.tries >= TRIES_MAX;
    !*has_failed
}

/// Keys that both had: what came of the merge goes back where it is not what the peer has.
fn push_what_merged(turn: &Turn<'_>, session: &mut Session) {
    for (token, theirs) in core::mem::take(&mut session.merged) {
        let range = TokenRange::one(token);
        let pairs = turn.replica.pairs(range);
        let mut prints: Vec<u64> = pairs.map(|(_, entry)| entry.fingerprint).collect();
        prints.sort_unstable();
        if prints != theirs {
            session.pushes.push_back(token);
        }
    }
}

/// Pays for adding up a range; the sum of a whole slice is there.
pub(super) fn spend_walk(turn: &mut Turn<'_>, range: TokenRange, sum: RangeSum) {
    let partition = turn.view.slices.partition_of(range.first);
    if turn.replica.slice(partition) != range {
        spend(turn, sum.count.saturating_mul(WALKED_KEY_BYTES));
    }
}

fn send_compare(turn: &mut Turn<'_>, id: SlotId, session: &Session) {
    if let Some(asked) = &session.comparing {
        let (range, shard, sum) = &asked.what;
        let message = Message::Compare {
            call: upkeep_call(id, asked.sequence),
            range: *range,
            sum: sum.sum,
            count: sum.count,
        };
        turn.send(session.peer, Lane::Shard(*shard), message);
    }
}

fn send_pull(turn: &mut Turn<'_>, id: SlotId, session: &Session) {
    if let Some(asked) = &session.pulling
        && let Some(first) = asked.what.first()
    {
        let bytes: Vec<u8> = asked
            .what
            .iter()
            .flat_map(|token| token.0.to_le_bytes())
            .collect();
        let message = Message::Pull {
            call: upkeep_call(id, asked.sequence),
            lane: *first,
            tokens: turn.effects.keep(&bytes),
        };
        turn.send(session.peer, Lane::Token(*first), message);
    }
}
