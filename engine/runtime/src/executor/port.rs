//! The shard's machine with everything around it that needs no system call: where requests come in, from the edge, from
//! neighbours, from the handle and from local futures, and where their answers are kept until they are sent.
//!
//! Owns the machine, the effects that it has asked for, and the tables that say whom a request belongs to. The top byte
//! of a request's id names its origin, the other 56 bits are the origin's own.

use std::task::Waker;

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::port::{
    ByteRange, Effects, Event, Failure, Foreseen, Message as PeerMessage, Outcome, Peer, Request,
    RequestId,
};
use gramme_core::ring::Slices;
use gramme_core::shard::{Shard, ShardStatus};
use slab::Slab;

use crate::calls::Batch;
use crate::clock;
use crate::edge::{EdgeMessage, Port};
use crate::frontiers::Frontier;
use crate::mailbox::{Message, Outboxes};
use crate::packed::{Packed, copy_message, copy_outcome};

const OWN_BITS: u32 = 56;
const OWN_MASK: u64 = (1 << OWN_BITS) - 1;

/// Requests of a batch that are looked at before the first of them is stepped: what a near cache holds.
const FORESEEN_MAX: usize = 128;

/// Bytes of unsent answers beyond which requests are shed; far below what the ranges can name.
const UNSENT_BYTES_MAX: usize = 1 << 30;

/// Buffers that came with messages and are kept for the next ones.
const SPARE_BUFFERS_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 64 << 10;

/// Whose a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The edge, by the id that it chose.
    Edge(u64),
    /// A local future, by its slot.
    Local(usize),
    /// A neighbour, by its own slot.
    Neighbour(ShardIndex, u32),
    /// A batch of the handle: its slot, and the call in it.
    Call(usize, u32),
}

impl Origin {
    /// As a request's id.
    pub(crate) const fn id(self) -> RequestId {
        let (kind, own) = match self {
            Self::Edge(own) => (0, own),
            Self::Local(slot) => (1, slot as u64),
            Self::Neighbour(shard, slot) => (2, ((shard.0 as u64) << 32) | slot as u64),
            Self::Call(slot, call) => (3, ((slot as u64) << 28) | call as u64),
        };
        RequestId((kind << OWN_BITS) | (own & OWN_MASK))
    }

    /// From an id that this shard made.
    pub(crate) fn of(id: RequestId) -> Self {
        let own = id.0 & OWN_MASK;
        match id.0 >> OWN_BITS {
            0 => Self::Edge(own),
            1 => Self::Local(own as usize),
            2 => Self::Neighbour(ShardIndex((own >> 32) as u16), own as u32),
            3 => Self::Call((own >> 28) as usize, (own & ((1 << 28) - 1)) as u32),
            kind => unreachable!("no origin {kind} is ever made"),
        }
    }
}

/// A local future's request.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// Not answered; who is to be woken.
    Waiting(Option<Waker>),
    /// Answered, with the bytes of the outcome.
    Done(Outcome, Vec<u8>),
    /// Nobody waits any more.
    Abandoned,
}

/// The machine and its tables.
pub(crate) struct ShardPort {
    // Fixed.
    pub(crate) index: ShardIndex,
    slices: Slices,

    // The machine.
    pub(crate) shard: Shard,
    frontier: Frontier,
    pub(crate) now: Now,
    /// What the machine asked for and has not been carried out.
    pub(crate) effects: Effects,
    /// Answers that the machine had no part in.
    pub(crate) refused: Vec<(RequestId, Outcome)>,
    /// Whether anything was stepped since the last `TurnEnd`.
    pub(crate) is_turn_open: bool,

    // Who waits for what.
    pub(crate) outboxes: Outboxes,
    forwards: Slab<(RequestId, ShardIndex)>,
    pub(crate) waiters: Slab<Waiter>,
    pub(crate) batches: Slab<Batch>,
    pub(crate) batches_answered: Vec<usize>,
    spare: Vec<Vec<u8>>,

    /// Nodes that the machine is told of in the next turn: what it does then may lose others.
    pub(crate) peers_lost: Vec<NodeId>,
    /// When the edge wants to be flushed.
    pub(crate) wake_at_ns: Option<u64>,
}

impl ShardPort {
    /// A port to a machine, which may have asked for something already.
    pub(crate) fn new(
        slices: Slices,
        (shard, frontier): (Shard, Frontier),
        effects: Effects,
        outboxes: Outboxes,
    ) -> Self {
        Self {
            index: shard.config().shard,
            slices,
            shard,
            frontier,
            now: clock::now(),
            effects,
            refused: Vec::new(),
            is_turn_open: false,
            outboxes,
            forwards: Slab::new(),
            waiters: Slab::new(),
            batches: Slab::new(),
            batches_answered: Vec::new(),
            spare: Vec::new(),
            peers_lost: Vec::new(),
            wake_at_ns: None,
        }
    }

    /// Gives the machine an event.
    pub(crate) fn step(&mut self, event: Event<'_>) {
        self.is_turn_open = true;
        let is_request = matches!(event, Event::Request(_) | Event::Message { .. });
        if let Some((tick, batches)) = self.frontier.before(is_request) {
            let begun = Event::Begun { tick, batches };
            self.shard.step(self.now, begun, &mut self.effects);
        }
        self.shard.step(self.now, event, &mut self.effects);
        self.frontier.after(&self.shard);
    }

    /// Tells the machine that the turn is over, and what it wants to know of the other shards before.
    pub(crate) fn end_turn(&mut self) {
        if self.shard.awaits_others() {
            let now = self.shard.commit_tick(self.now.mono_ns);
            let tick = self.frontier.all_settled(now);
            self.step(Event::Settled { tick });
        }
        self.step(Event::TurnEnd);
        self.is_turn_open = false;
    }

    /// Tells the other shards how far this one has come.
    pub(crate) fn tell_settled(&mut self) {
        self.frontier.turn_end(&self.shard);
    }

    /// Hands in a request whose id names its origin, whoever owns its key.
    pub(crate) fn route(&mut self, request: Request<'_>) {
        let owner = self.slices.shard_of(request.token);
        self.route_to(owner, request);
    }

    pub(crate) fn route_to(&mut self, owner: ShardIndex, request: Request<'_>) {
        if self.effects.bytes.len() > UNSENT_BYTES_MAX {
            self.refuse(request.id, Failure::Overloaded { retry_after_ms: 1 });
        } else if owner == self.index {
            self.step(Event::Request(request));
        } else if !self.outboxes.begin_forward(owner) {
            self.refuse(request.id, Failure::Overloaded { retry_after_ms: 1 });
        } else {
            let slot = self.forwards.insert((request.id, owner));
            let mut bytes = self.spare.pop().unwrap_or_default();
            let message = Message::Forward {
                from: self.index,
                slot: u32::try_from(slot).expect("forwards are bounded"),
                request: Packed::pack(&request, &mut bytes),
                bytes,
            };
            self.outboxes.push(owner, message);
        }
    }

    fn refuse(&mut self, id: RequestId, failure: Failure) {
        self.refused.push((id, Outcome::Failed(failure)));
    }

    /// Takes a neighbour's request.
    pub(crate) fn forwarded(
        &mut self,
        from: ShardIndex,
        slot: u32,
        request: &Packed,
        bytes: Vec<u8>,
    ) {
        let id = Origin::Neighbour(from, slot).id();
        self.step(Event::Request(request.unpack(&bytes, id)));
        self.spare(bytes);
    }

    /// Takes another node's message that a neighbour has received.
    pub(crate) fn peer_forwarded(
        &mut self,
        from: Peer,
        message: PeerMessage<ByteRange>,
        bytes: Vec<u8>,
    ) {
        let message = message.map(&|range| range.of(&bytes));
        self.step(Event::Message { from, message });
        self.spare(bytes);
    }

    /// Tells the machine of the nodes that were lost since the last turn; returns whether there were any.
    pub(crate) fn tell_lost(&mut self) -> bool {
        let lost = core::mem::take(&mut self.peers_lost);
        for node in &lost {
            self.step(Event::PeerLost(*node));
        }
        !lost.is_empty()
    }

    /// Whose request a neighbour has answered.
    pub(crate) fn forward_answered(&mut self, slot: u32) -> Option<RequestId> {
        let (id, owner) = self.forwards.try_remove(slot as usize)?;
        self.outboxes.end_forward(owner);
        Some(id)
    }

    /// Takes a batch of the handle, which has found that this shard owns its keys, or wants this shard's answer.
    pub(crate) fn called(&mut self, mut batch: Batch) {
        let slot = self.batches.vacant_key();
        let this = self.index;
        self.shard.foresee(batch.keys().take(FORESEEN_MAX));
        batch.begin(|call, request, bytes| {
            self.route_to(this, request.unpack(bytes, Origin::Call(slot, call).id()));
        });
        let inserted = self.batches.insert(batch);
        assert_eq!(
            inserted, slot,
            "nothing else takes batches while one begins"
        );
    }

    /// Answers a request of anyone but the edge.
    pub(crate) fn answer(&mut self, origin: Origin, outcome: &Outcome, bytes: &[u8]) {
        match origin {
            Origin::Edge(_) => unreachable!("the executor answers its edge itself"),
            Origin::Local(slot) => self.answer_local(slot, outcome, bytes),
            Origin::Neighbour(shard, slot) => {
                let mut copied = self.spare.pop().unwrap_or_default();
                let outcome = copy_outcome(outcome, bytes, &mut copied);
                let message = Message::Answer {
                    slot,
                    outcome,
                    bytes: copied,
                };
                self.outboxes.push(shard, message);
            }
            Origin::Call(slot, call) => {
                if let Some(batch) = self.batches.get_mut(slot) {
                    batch.answer(call, outcome, bytes);
                    self.batches_answered.push(slot);
                }
            }
        }
    }

    fn answer_local(&mut self, slot: usize, outcome: &Outcome, bytes: &[u8]) {
        let Some(waiter) = self.waiters.get_mut(slot) else {
            return;
        };
        match waiter {
            Waiter::Waiting(waker) => {
                let waker = waker.take();
                let mut copied = Vec::new();
                let outcome = copy_outcome(outcome, bytes, &mut copied);
                *waiter = Waiter::Done(outcome, copied);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Waiter::Abandoned => {
                self.waiters.remove(slot);
            }
            Waiter::Done(..) => unreachable!("a request is answered once"),
        }
    }

    /// Sends the handle the answers of this turn, and the neighbours their messages.
    pub(crate) fn send(&mut self) {
        for slot in self.batches_answered.drain(..) {
            // One with several answers in this turn is named several times.
            if self.batches.get_mut(slot).is_some_and(Batch::flush) {
                self.batches.remove(slot);
            }
        }
        let (forwards, refused) = (&mut self.forwards, &mut self.refused);
        self.outboxes.flush(|lost| {
            if let Message::Forward { slot, .. } = lost
                && let Some((id, _)) = forwards.try_remove(slot as usize)
            {
                refused.push((id, Outcome::Failed(Failure::Stopping)));
            }
        });
    }

    /// Keeps a buffer for the next message.
    pub(crate) fn spare(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX && (1..=SPARE_BYTES_MAX).contains(&bytes.capacity())
        {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Whether something waits to be carried out or answered.
    pub(crate) fn has_effects(&self) -> bool {
        !self.effects.is_empty() || !self.refused.is_empty()
    }
}

impl Port for ShardPort {
    fn now(&self) -> Now {
        self.now
    }

    fn clients_ms(&self) -> u64 {
        self.shard.clients_ms(self.now)
    }

    fn node(&self) -> NodeId {
        self.shard.config().node
    }

    fn shard(&self) -> ShardIndex {
        self.index
    }

    fn slices(&self) -> Slices {
        self.slices
    }

    fn foresee(&self, keys: &[Foreseen]) {
        let is_own = |key: &Foreseen| self.slices.shard_of(key.token) == self.index;
        self.shard.foresee(keys.iter().copied().filter(is_own));
    }

    fn submit(&mut self, request: Request<'_>) {
        let id = Origin::Edge(request.id.0).id();
        self.route(Request { id, ..request });
    }

    fn submit_to(&mut self, shard: ShardIndex, request: Request<'_>) {
        let id = Origin::Edge(request.id.0).id();
        self.route_to(shard, Request { id, ..request });
    }

    fn send(&mut self, shard: ShardIndex, message: EdgeMessage) {
        self.outboxes.push(shard, Message::Edge(message));
    }

    fn peer_message(&mut self, to: ShardIndex, from: Peer, message: PeerMessage<&[u8]>) {
        if self.effects.bytes.len() > UNSENT_BYTES_MAX {
            return;
        }
        if to == self.index {
            return self.step(Event::Message { from, message });
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        let message = copy_message(message, &mut bytes);
        let message = Message::Peer {
            from,
            message,
            bytes,
        };
        self.outboxes.push_unless_behind(to, message);
    }

    fn peer_lost(&mut self, node: NodeId) {
        if !self.peers_lost.contains(&node) {
            self.peers_lost.push(node);
        }
    }

    fn status(&self) -> ShardStatus {
        self.shard.status()
    }

    fn wake_at(&mut self, mono_ns: u64) {
        self.wake_at_ns = Some(self.wake_at_ns.map_or(mono_ns, |at_ns| at_ns.min(mono_ns)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_its_way_through_an_id() {
        for origin in [
            Origin::Edge(0),
            Origin::Edge(OWN_MASK),
            Origin::Local(12),
            Origin::Neighbour(ShardIndex(1023), u32::MAX),
            Origin::Call((1 << 28) - 1, (1 << 28) - 1),
        ] {
            assert_eq!(Origin::of(origin.id()), origin);
        }
    }
}
