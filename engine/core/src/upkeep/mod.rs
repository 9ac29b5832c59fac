//! What happens behind the clients: hints are delivered, copies compared and brought up, partitions let go, tombstones
//! forgotten. All of it within a budget, all of it resumed where it was when a message is lost or a node was away.
//!
//! Owns its jobs: one slot for everything that waits for an answer. Never answers a client, never decides who owns what:
//! it is handed the replica and the ring's view with each event, as the coordinator is.
//!
//! # Layout
//! - `budget`: how much at once;
//! - `handoff`: hints to the nodes that they are for;
//! - `gather`: records by their tokens, from memory or disk.
//!
//! Invariants:
//! - a hint is forgotten only when the very object that lies beside it is on its target's stable media.

#[allow(dead_code, reason = "the background that comes next uses all of it")]
mod budget;
mod handoff;

use crate::base::ids::NodeId;
use crate::base::slots::{SlotId, Slots};
use crate::port::ids::{internal, of_upkeep_call, upkeep_call};
use crate::port::{
    ByteRange, CallId, Durability, KeyName, Lane, Message, Op, Outcome, Peer, Quorum, Request,
};
use crate::replica::turn::Turn;
use crate::ring::RingView;

use budget::Budget;
use handoff::{Delivery, Handoff};

/// How often it looks at what it has under way.
const STEP_NS: u64 = 5_000_000;
/// How often it looks whether there is anything to do.
const IDLE_STEP_NS: u64 = 100_000_000;

/// Counters and gauges of the background; counters only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpkeepStats {
    /// Hints that are to be delivered.
    pub hints_pending: u64,
    /// Hints delivered.
    pub hints_delivered: u64,
    /// Deliveries that were refused or not answered; each is tried again.
    pub hints_failed: u64,
}

/// Something that waits for an answer.
enum Job {
    Hint(Box<Delivery>),
}

/// The background of one shard.
#[derive(Default)]
pub(crate) struct Upkeep {
    jobs: Slots<Job>,
    budget: Budget,
    handoff: Handoff,
    stats: UpkeepStats,
    step_ns: u64,
}

impl Upkeep {
    /// Takes a peer's message; false when it is none of the background's.
    pub(crate) fn message(
        &mut self,
        turn: &mut Turn<'_>,
        from: Peer,
        message: &Message<&[u8]>,
    ) -> bool {
        match *message {
            Message::Applied {
                call,
                result,
                queue,
            } => {
                let Some(id) = of_upkeep_call(call) else {
                    return false;
                };
                match self.jobs.get_mut(id) {
                    Some(Job::Hint(_)) => self.hint_applied(turn, id, from.node, (result, queue)),
                    None => {}
                }
                true
            }
            Message::Apply { .. }
            | Message::Fetch { .. }
            | Message::Fetched { .. }
            | Message::Request { .. }
            | Message::Outcome { .. }
            | Message::Gossip { .. }
            | Message::Compare { .. }
            | Message::Compared { .. }
            | Message::Pull { .. }
            | Message::Records { .. }
            | Message::Reap { .. }
            | Message::Reaped { .. } => false,
        }
    }

    /// Takes the replica's answer to one of the background's own requests.
    pub(crate) fn local_reply(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        match self.jobs.get_mut(id) {
            Some(Job::Hint(_)) => self.hint_fetched(turn, id, outcome),
            None => {}
        }
    }

    /// Takes the reads that have ended.
    pub(crate) fn reads_done(&mut self, turn: &mut Turn<'_>) {
        for end in turn.replica.take_reads() {
            self.hint_read(turn, &end);
        }
    }

    /// The connection to a node broke.
    pub(crate) fn peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        self.hints_peer_lost(turn, node);
    }

    /// The view changed.
    pub(crate) fn view_changed(&mut self, _former: Option<&RingView>, turn: &mut Turn<'_>) {
        self.step_ns = turn.now.mono_ns;
    }

    /// Looks at what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        if self.step_ns > now_ns {
            return;
        }
        self.hints_due(turn);
        self.deliver_hints(turn);
        self.step_ns = now_ns.saturating_add(if self.jobs.is_empty() {
            IDLE_STEP_NS
        } else {
            STEP_NS
        });
    }

    /// When it wants a tick.
    pub(crate) const fn next_deadline_ns(&self) -> Option<u64> {
        Some(self.step_ns)
    }

    /// Whether nothing of it waits for an answer.
    pub(crate) const fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Counters.
    pub(crate) fn stats(&self, hints_pending: usize) -> UpkeepStats {
        UpkeepStats {
            hints_pending: hints_pending as u64,
            ..self.stats
        }
    }

    /// Spends some of the budget.
    fn spend(&mut self, turn: &Turn<'_>, bytes: u64) {
        let waiting = turn.replica.waiting();
        self.budget.spend(turn.now.mono_ns, bytes, waiting);
    }
}

/// Sends an object to another node, behind its clients; answered when it is on stable media there.
fn send_object(
    turn: &mut Turn<'_>,
    to: NodeId,
    job: SlotId,
    key: KeyName<&[u8]>,
    object: ByteRange,
) -> CallId {
    let call = upkeep_call(job);
    let message = Message::Apply {
        call,
        key: KeyName {
            bucket: turn.effects.keep(key.bucket),
            key: turn.effects.keep(key.key),
            token: key.token,
        },
        object,
        is_durable: true,
        hint_for: None,
        is_background: true,
    };
    turn.send(to, Lane::Token(key.token), message);
    call
}

/// Asks this shard's own replica; the answer comes back to the job.
fn ask(turn: &mut Turn<'_>, job: SlotId, key: KeyName<&[u8]>, op: Op<'_>) {
    turn.ask_replica(Request {
        id: internal(crate::port::ids::Purpose::Upkeep, job),
        deadline_ns: None,
        bucket: key.bucket,
        key: key.key,
        token: key.token,
        durability: Some(Durability::Buffered),
        quorum: Quorum::default(),
        wants_object: false,
        is_forwarded: true,
        op,
    });
}

#[cfg(test)]
mod handoff_tests;
