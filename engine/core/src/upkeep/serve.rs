//! Answers to what peers ask in their sessions: what this shard holds of a range, and its records.
//!
//! Invariants:
//! - it answers only for what it holds: its silence is no evidence that it has nothing;
//! - a pull waits for its turn, since its reads go at the pace of this shard's background, whose disk it is.

use crate::base::ids::Token;
use crate::base::slots::SlotId;
use crate::port::{CallId, Message, Peer, TokenRange};
use crate::replica::records::RangeSum;
use crate::replica::turn::Turn;
use crate::ring::PartitionView;

use super::gather::Gather;
use super::reconcile::{PULL_TOKENS_MAX, spend_walk};
use super::session::{LIST_KEYS_MAX, write_pairs};
use super::{Job, Upkeep, spend};

/// Pulls of peers that are served at once; more are not heard, and asked again.
const SERVED_MAX: usize = 32;

/// A peer's pull.
pub(super) struct Served {
    peer: Peer,
    call: CallId,
    tokens: Vec<Token>,
    /// None while it waits for its turn.
    pub(super) gather: Option<Gather>,
}

/// Whether a row says that this node holds the partition.
pub(super) fn holds(turn: &Turn<'_>, row: &PartitionView) -> bool {
    let me = turn.view.my_number();
    me.is_some_and(|me| row.read.contains(&me) || row.write.contains(&me) && !row.is_pending_here)
        || row.is_draining_here
}

impl Upkeep {
    /// A peer compares.
    pub(super) fn serve_compare(
        &mut self,
        turn: &mut Turn<'_>,
        (from, call): (Peer, CallId),
        range: TokenRange,
        theirs: RangeSum,
    ) {
        let Some(part) = turn.replica.own_part(range) else {
            return;
        };
        let partition = turn.view.slices.partition_of(part.first);
        let is_held = turn
            .view
            .partition(partition)
            .is_some_and(|row| holds(turn, row));
        if !is_held || turn.replica.tainted().any(|tainted| tainted == partition) {
            return;
        }
        let held = turn.replica.sum_of(part);
        spend_walk(turn, part, held);
        let is_narrow = part.last.0 - part.first.0 < 16;
        let is_equal = part == range && held == theirs;
        let is_listed = !is_equal && (held.count <= LIST_KEYS_MAX || is_narrow);
        let mut list = Vec::new();
        if is_listed {
            let pairs = turn.replica.pairs(part);
            write_pairs(
                &mut list,
                pairs.map(|(token, entry)| (token, entry.fingerprint)),
            );
        }
        spend(turn, list.len() as u64);
        let list = turn.effects.keep(&list);
        let message = Message::Compared {
            call,
            range: part,
            sum: held.sum,
            count: held.count,
            list,
        };
        turn.answer_peer(from, message);
    }

    /// A peer pulls.
    pub(super) fn serve_pull(
        &mut self,
        turn: &mut Turn<'_>,
        (from, call): (Peer, CallId),
        tokens: &[u8],
    ) {
        let mut served = 0;
        for id in self.jobs.ids().collect::<Vec<_>>() {
            if let Some(Job::Served(other)) = self.jobs.get_mut(id) {
                // Asked again while it waits or is read.
                if other.peer == from && other.call == call {
                    return;
                }
                served += 1;
            }
        }
        if served >= SERVED_MAX {
            return;
        }
        let (eights, _) = tokens.as_chunks::<8>();
        let is_held = eights.first().is_some_and(|eight| {
            let row = turn.view.of_token(Token(u64::from_le_bytes(*eight)));
            row.is_some_and(|row| holds(turn, row))
        });
        if !is_held {
            return;
        }
        let tokens: Vec<Token> = eights
            .iter()
            .take(PULL_TOKENS_MAX)
            .map(|eight| Token(u64::from_le_bytes(*eight)))
            .collect();
        let id = self.jobs.insert(Job::Served(Box::new(Served {
            peer: from,
            call,
            tokens,
            gather: None,
        })));
        self.begin_pull(turn, id);
    }

    /// Begins to answer a pull, if it is time.
    pub(super) fn begin_pull(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        if let Some(Job::Served(served)) = self.jobs.get_mut(id)
            && served.gather.is_none()
            && turn.replica.background.is_open(turn.now.mono_ns)
        {
            let gather = Gather::begin(turn, &served.tokens);
            spend(turn, gather.bytes_upper);
            served.gather = Some(gather);
            self.answer_pull(turn, id);
        }
    }

    pub(super) fn answer_pull(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let is_done = matches!(
            self.jobs.get_mut(id),
            Some(Job::Served(served)) if served.gather.as_ref().is_some_and(Gather::is_done)
        );
        if !is_done {
            return;
        }
        if let Some(Job::Served(served)) = self.jobs.remove(id)
            && let Some(gather) = served.gather
        {
            let records = turn.effects.keep(&gather.records);
            let message = Message::Records {
                call: served.call,
                tokens_answered: gather.tokens_answered as u32,
                records,
                is_incomplete: gather.is_incomplete,
            };
            turn.answer_peer(served.peer, message);
        }
    }
}
