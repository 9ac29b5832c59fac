//! A client's request among the replicas: one slot each, from the first question to the last answer.
//!
//! Owns the quorums, the stand-ins, read repair and the way to a node that holds the key. Never knows what a replica does
//! with a record, or who is a member: it is handed the replica and the ring's view with each event.
//!
//! # Layout
//! - `slot`: what is kept for each request;
//! - `peers`: what this shard feels of the other nodes;
//! - `zones`: in how many failure domains an answer is, and can be;
//! - `write`, `read`, `forward`: the three ways of a client's request;
//! - `replicas`: whom a write goes to, and who stands in; `acknowledgement`: what these answer, and when the client is told;
//! - `gather`: counts and walks over all keys;
//! - `once`: which forwarded writes have come already;
//! - `serve`: questions of peers to this shard's replica.
//!
//! Invariants:
//! - a write is acknowledged only when as many replicas as asked for have the whole object, as durable as asked, in as many
//!   zones as asked;
//! - what was begun and missed its quorum is said to be in doubt, never rolled back;
//! - a replica that missed a write is given a hint, here or at its stand-in, or the write is not forgotten.

mod acknowledgement;
mod forward;
mod gather;
mod once;
mod peers;
mod read;
mod replicas;
mod serve;
mod slot;
mod write;
mod zones;

#[cfg(test)]
pub(crate) mod bench_tests;
#[cfg(test)]
mod coordinate_tests;
#[cfg(test)]
mod forward_tests;
#[cfg(test)]
mod gather_tests;
#[cfg(test)]
mod zones_tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::ids::NodeId;
use crate::base::slots::{SlotId, Slots};
use crate::port::ids::of_call;
use crate::port::{CallId, Failure, Message, Op, Outcome, Peer, Request, RequestId};
use crate::replica::Stage;
pub(crate) use crate::replica::turn::Turn;

use once::Once;
use peers::Peers;
use slot::Slot;

/// A client that names no deadline waits for so long.
const DEADLINE_NS_DEFAULT: u64 = 5_000_000_000;
/// How long a replica of a write may be silent before a stand-in is asked too.
const STAND_IN_AFTER_NS: u64 = 100_000_000;
/// How long a replica of a read may be silent before another is asked too.
const HEDGE_AFTER_NS: u64 = 20_000_000;
/// How long replicas that could not be reached are tried again, while the quorum needs them: a connection that breaks may
/// be back in a moment.
const RETRY_FOR_NS: u64 = 1_000_000_000;
/// How often.
const RETRY_STEP_NS: u64 = 10_000_000;
/// How long a call may be unanswered; then the replica counts as away.
const GIVE_UP_NS: u64 = 1_000_000_000;

/// Counters, from the shard's start on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoordinateStats {
    /// Client writes among several replicas.
    pub writes: u64,
    /// Client reads among several replicas.
    pub reads: u64,
    /// Requests that another node coordinated.
    pub forwards: u64,
    /// Writes that missed their quorum.
    pub writes_in_doubt: u64,
    /// Reads that missed their quorum.
    pub reads_failed: u64,
    /// Writes that a stand-in took.
    pub stand_ins: u64,
    /// Hints kept here.
    pub hints_kept: u64,
    /// Reads whose replicas differed.
    pub digests_differed: u64,
    /// Objects written back to a replica that lacked them.
    pub read_repairs: u64,
    /// Reads that asked one more replica, since one was slow.
    pub hedges: u64,
}

/// The coordinator of one shard.
#[derive(Default)]
pub(crate) struct Coordinator {
    slots: Slots<Slot>,
    timers: BinaryHeap<Reverse<(u64, SlotId)>>,
    peers: Peers,
    sequence: u64,
    /// Counts the writes that were forwarded.
    forwarded: u64,
    once: Once,
    pub(crate) stats: CoordinateStats,
}

impl Coordinator {
    /// Takes a client's request.
    pub(crate) fn request(&mut self, turn: &mut Turn<'_>, request: &Request<'_>) {
        let now_ns = turn.now.mono_ns;
        if request
            .deadline_ns
            .is_some_and(|deadline| deadline <= now_ns)
        {
            return fail(turn, request.id, Failure::DeadlineNotApplied);
        }
        match request.op {
            Op::Get | Op::Exists => self.begin_read(turn, request, slot::Then::Answer),
            Op::Put(_) | Op::Delete { .. } | Op::SetExpiry { .. } | Op::Merge { .. } => {
                self.begin_write(turn, request);
            }
            // What one shard holds itself.
            Op::Fetch { .. } | Op::Records { .. } => turn.ask_replica(*request),
            Op::Scan { cursor, .. } => self.begin_scan(turn, request, cursor),
            Op::Count => self.begin_count(turn, request),
            Op::Cluster { .. } => fail(turn, request.id, Failure::NoHolder),
        }
    }

    /// Takes a peer's message; false when it is none of the coordinator's.
    pub(crate) fn message(
        &mut self,
        turn: &mut Turn<'_>,
        from: Peer,
        message: Message<&[u8]>,
    ) -> bool {
        match message {
            Message::Apply {
                call,
                key,
                object,
                is_durable,
                hint_for,
                is_background,
            } => {
                let how = (is_durable, is_background);
                self.serve_apply(turn, (from, call), key, object, how, hint_for);
            }
            Message::Fetch {
                call,
                key,
                wants_object,
            } => self.serve_fetch(turn, (from, call), key, wants_object),
            Message::Request {
                call,
                name,
                shape,
                key,
                value,
                context,
            } => {
                let request = Message::as_request(&shape, key, value, context);
                if request.op.is_write() && !self.is_first(turn, from, name) {
                    return true;
                }
                self.serve_request(turn, (from, call), request);
            }
            Message::Applied {
                call,
                result,
                queue,
            } => self.applied(turn, from.node, call, result, queue),
            Message::Fetched {
                call,
                result,
                queue,
            } => self.fetched(turn, from.node, call, result, queue),
            Message::Outcome {
                call,
                outcome,
                bytes,
            } => self.forward_answered(turn, from.node, call, outcome, bytes),
            Message::Compare { .. }
            | Message::Compared { .. }
            | Message::Pull { .. }
            | Message::Records { .. }
            | Message::Reap { .. }
            | Message::Reaped { .. }
            | Message::Gossip { .. } => return false,
        }
        true
    }

    /// Takes the replica's answer to one of the coordinator's own requests.
    pub(crate) fn local_reply(&mut self, turn: &mut Turn<'_>, slot: SlotId, outcome: Outcome) {
        match self.slots.get_mut(slot) {
            Some(Slot::Write(_)) => self.local_written(turn, slot, outcome),
            Some(Slot::Read(_)) => self.local_read(turn, slot, outcome),
            Some(Slot::Served(_)) => self.served(turn, slot, outcome),
            Some(Slot::Forward(_) | Slot::Count(_)) | None => {}
        }
    }

    /// The connection to a node broke: what was asked of it goes elsewhere.
    pub(crate) fn peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        self.peers.failed(node, turn.now.mono_ns);
        let ids: Vec<SlotId> = self.slots.ids().collect();
        for id in ids {
            match self.slots.get_mut(id) {
                Some(Slot::Write(_)) => self.write_peer_lost(turn, id, node),
                Some(Slot::Read(_)) => self.read_peer_lost(turn, id, node),
                Some(Slot::Forward(forward)) if forward.to == node => {
                    self.forward_failed(turn, id);
                }
                Some(Slot::Served(served)) if served.peer.node == node => {
                    self.slots.remove(id);
                }
                Some(Slot::Count(_)) => self.count_peer_lost(turn, id, node),
                Some(Slot::Forward(_) | Slot::Served(_)) | None => {}
            }
        }
    }

    /// Looks at what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        while let Some(Reverse((at_ns, id))) = self.timers.peek().copied() {
            if at_ns > now_ns {
                break;
            }
            self.timers.pop();
            if let Some(due_ns) = self.slots.get_mut(id).and_then(Slot::due_ns) {
                // Another one took its place.
                if *due_ns != at_ns {
                    continue;
                }
                *due_ns = u64::MAX;
            }
            match self.slots.get_mut(id) {
                Some(Slot::Write(_)) => self.write_due(turn, id),
                Some(Slot::Read(_)) => self.read_due(turn, id),
                Some(Slot::Forward(_)) => self.forward_due(turn, id),
                Some(Slot::Count(_)) => self.finish_count(turn, id, true),
                Some(Slot::Served(_)) => self.served_late(turn, id),
                None => {}
            }
        }
    }

    /// When it wants a tick.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at_ns, _))| *at_ns)
    }

    /// Timers that are set.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Requests under way.
    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sets the timer of a slot. One of each counts, for the earliest time that was asked for: each that fires asks for
    /// one or two more, and refusals for others, so they would multiply as long as a request is tried again.
    fn arm(&mut self, at_ns: u64, id: SlotId) {
        if let Some(due_ns) = self.slots.get_mut(id).and_then(Slot::due_ns) {
            if *due_ns <= at_ns {
                return;
            }
            *due_ns = at_ns;
        }
        self.timers.push(Reverse((at_ns, id)));
    }

    /// Nodes by how much they are worth asking: those that seem away, or were slow lately, come last; equal costs keep
    /// their order.
    fn by_cost(&self, turn: &Turn<'_>, numbers: impl Iterator<Item = u16>) -> Vec<NodeId> {
        let mut nodes: Vec<(bool, u64, NodeId)> = numbers
            .map(|number| {
                let node = turn.view.node(number).id;
                (!self.is_usable(turn, number), self.peers.cost(node), node)
            })
            .collect();
        nodes.sort_by_key(|(is_away, cost, _)| (*is_away, *cost));
        nodes.into_iter().map(|(_, _, node)| node).collect()
    }

    /// Whether a node is worth asking.
    fn is_usable(&self, turn: &Turn<'_>, number: u16) -> bool {
        let node = turn.view.node(number);
        self.peers.is_usable(node, turn.now.mono_ns)
    }
}

/// A client, here or at another node, is answered who has waited since then.
fn client_waited(turn: &mut Turn<'_>, since_ns: u64) {
    let took_ns = turn.now.mono_ns.saturating_sub(since_ns);
    let foreground = &mut turn.replica.background.foreground;
    foreground.waited(Stage::Replicas, took_ns);
}

/// Answers a client.
fn fail(turn: &mut Turn<'_>, id: RequestId, failure: Failure) {
    turn.effects.reply(id, Outcome::Failed(failure));
}

/// What a client is told of a failure when another node may have begun its write before.
const fn doubted(failure: Failure, may_have_happened: bool) -> Failure {
    if may_have_happened && !failure.is_in_doubt() {
        Failure::InDoubt
    } else {
        failure
    }
}

/// When a request's client stops waiting.
fn deadline_ns(turn: &Turn<'_>, request: &Request<'_>) -> u64 {
    let latest_ns = turn.now.mono_ns.saturating_add(DEADLINE_NS_DEFAULT);
    request.deadline_ns.unwrap_or(latest_ns)
}

const fn no_quorum(got: u8, needed: u8) -> Failure {
    Failure::Quorum {
        got,
        needed,
        is_in_doubt: false,
    }
}

/// The slot of a call, and which of its replicas was asked.
fn slot_of(call: CallId) -> (SlotId, usize) {
    let (slot, replica) = of_call(call);
    (slot, usize::from(replica))
}
