//! Mailboxes: how other threads, and other shards, speak to a shard.
//!
//! Owns the bounded channel of each shard, the messages, and the outgoing queues of one shard to its neighbours.
//! Never waits: a full mailbox is the sender's to answer for (`Overloaded`); answers, which must not be lost, wait in
//! the sender's queue for the next turn.
//!
//! Invariants:
//! - a shard has at most [`FORWARDS_MAX`] requests at each neighbour, so the queue of answers is bounded too;
//! - a doorbell is rung once a turn at most.
#![expect(
    clippy::result_large_err,
    reason = "a message that was not taken comes back, without an allocation"
)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use gramme_core::base::ids::ShardIndex;
use gramme_core::port::{ByteRange, IoError, Note, Outcome, Peer, Ticket};
use gramme_core::shard::ShardStatus;

use crate::calls::Batch;
use crate::doorbell::Doorbell;
use crate::edge::EdgeMessage;
use crate::local::Local;
use crate::packed::Packed;

/// Messages that a mailbox holds; a sender that finds it full is overloading the shard.
pub(crate) const MAILBOX_MESSAGES_MAX: usize = 8192;

/// Requests that one shard may have at one neighbour; beyond it: `Overloaded`.
pub(crate) const FORWARDS_MAX: u32 = 4096;

/// Messages of other nodes that may wait for room at one neighbour; beyond it they are dropped, as any may be.
pub(crate) const PEER_MESSAGES_WAITING_MAX: usize = 256;

/// A caller's future on its way to the owner's core.
pub(crate) type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What makes that future, there.
pub(crate) type MakeLocal = Box<dyn FnOnce(Local) -> LocalFuture + Send>;

/// One message.
pub(crate) enum Message {
    /// A request for a key of this shard that came to another one.
    Forward {
        from: ShardIndex,
        /// The sender's own name of it.
        slot: u32,
        request: Packed,
        bytes: Vec<u8>,
    },
    /// The answer to a forwarded request.
    Answer {
        slot: u32,
        outcome: Outcome,
        bytes: Vec<u8>,
    },
    /// A message of another node that came to another shard of this one.
    Peer {
        from: Peer,
        message: gramme_core::port::Message<ByteRange>,
        bytes: Vec<u8>,
    },
    /// A note of another shard; never lost.
    Note(Note),
    /// For this shard's edge.
    Edge(EdgeMessage),
    /// Run this here.
    Run(MakeLocal),
    /// Requests of an embedded handle.
    Calls(Batch),
    /// The helper thread has made a file ready.
    Prepared {
        ticket: Ticket,
        result: Result<crate::disk::Prepared, IoError>,
    },
    /// Tell how it goes.
    Status(oneshot::Sender<ShardStatus>),
    /// The node stops.
    Stop,
    /// Look around: another shard has changed what all see.
    Wake,
}

/// Why a message was not taken; it comes back.
pub(crate) enum NotSent {
    /// The mailbox is full.
    Full(Message),
    /// The shard has ended.
    Closed(Message),
}

/// Where a shard can be reached; cheap to clone.
#[derive(Clone)]
pub(crate) struct Address {
    sender: Sender<Message>,
    doorbell: Arc<Doorbell>,
}

impl Address {
    /// A mailbox with its doorbell.
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> (Self, Receiver<Message>) {
        let (sender, receiver) = bounded(MAILBOX_MESSAGES_MAX);
        (Self { sender, doorbell }, receiver)
    }

    /// Puts a message in; the caller rings afterwards.
    pub(crate) fn put(&self, message: Message) -> Result<(), NotSent> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => NotSent::Full(message),
            TrySendError::Disconnected(message) => NotSent::Closed(message),
        })
    }

    /// Wakes the shard if it sleeps.
    pub(crate) fn ring(&self) {
        self.doorbell.ring();
    }

    /// Puts a message in and rings.
    pub(crate) fn post(&self, message: Message) -> Result<(), NotSent> {
        self.put(message)?;
        self.ring();
        Ok(())
    }

    /// Puts a message in, waiting for room. For helper threads, never for a shard.
    pub(crate) fn post_waiting(&self, message: Message) {
        // A shard that has ended needs nothing of it.
        if self.sender.send(message).is_ok() {
            self.ring();
        }
    }
}

/// The outgoing queues of one shard.
pub(crate) struct Outboxes {
    neighbours: Vec<Outbox>,
}

struct Outbox {
    address: Address,
    waiting: VecDeque<Message>,
    forwards: u32,
    must_ring: bool,
}

impl Outboxes {
    pub(crate) fn new(addresses: &[Address]) -> Self {
        let neighbours = addresses
            .iter()
            .map(|address| Outbox {
                address: address.clone(),
                waiting: VecDeque::new(),
                forwards: 0,
                must_ring: false,
            })
            .collect();
        Self { neighbours }
    }

    /// Takes up one of the requests that may be at this neighbour.
    pub(crate) fn begin_forward(&mut self, shard: ShardIndex) -> bool {
        let Some(outbox) = self.neighbours.get_mut(usize::from(shard.0)) else {
            return false;
        };
        let is_free = outbox.forwards < FORWARDS_MAX;
        outbox.forwards += u32::from(is_free);
        is_free
    }

    /// Gives it back.
    pub(crate) fn end_forward(&mut self, shard: ShardIndex) {
        if let Some(outbox) = self.neighbours.get_mut(usize::from(shard.0)) {
            outbox.forwards = outbox.forwards.saturating_sub(1);
        }
    }

    /// Queues a message for the end of the turn. A shard that does not exist cannot be named by this node's own cut.
    pub(crate) fn push(&mut self, shard: ShardIndex, message: Message) {
        if let Some(outbox) = self.neighbours.get_mut(usize::from(shard.0)) {
            outbox.waiting.push_back(message);
        }
    }

    /// Queues a message that may be lost, unless the neighbour is far behind; returns whether it did.
    pub(crate) fn push_unless_behind(&mut self, shard: ShardIndex, message: Message) -> bool {
        let outbox = self.neighbours.get_mut(usize::from(shard.0));
        let Some(outbox) = outbox.filter(|o| o.waiting.len() < PEER_MESSAGES_WAITING_MAX) else {
            return false;
        };
        outbox.waiting.push_back(message);
        true
    }

    /// Sends what fits and rings. Messages to shards that have ended go to `lost`.
    pub(crate) fn flush(&mut self, mut lost: impl FnMut(Message)) -> bool {
        let mut is_any_sent = false;
        for outbox in &mut self.neighbours {
            while let Some(message) = outbox.waiting.pop_front() {
                match outbox.address.put(message) {
                    Ok(()) => outbox.must_ring = true,
                    Err(NotSent::Full(message)) => {
                        outbox.waiting.push_front(message);
                        // It may be asleep with a full mailbox only for a moment; make sure of it.
                        outbox.must_ring = true;
                        break;
                    }
                    Err(NotSent::Closed(message)) => lost(message),
                }
            }
            if core::mem::take(&mut outbox.must_ring) {
                outbox.address.ring();
                is_any_sent = true;
            }
        }
        is_any_sent
    }

    /// Whether messages wait for room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.neighbours
            .iter()
            .any(|outbox| !outbox.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wake(message: &Message) -> bool {
        matches!(message, Message::Wake)
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back_and_a_closed_one_too() {
        let doorbell = Arc::new(Doorbell::new().expect("an event file"));
        let (address, receiver) = Address::new(doorbell);
        for _ in 0..MAILBOX_MESSAGES_MAX {
            assert!(address.put(Message::Wake).is_ok());
        }
        assert!(
            matches!(address.put(Message::Wake), Err(NotSent::Full(message)) if is_wake(&message))
        );
        drop(receiver);
        assert!(matches!(
            address.put(Message::Wake),
            Err(NotSent::Closed(_))
        ));
    }

    #[test]
    fn messages_to_a_full_neighbour_wait_in_order_for_the_next_turn() {
        let doorbell = Arc::new(Doorbell::new().expect("an event file"));
        let (address, receiver) = Address::new(doorbell);
        let mut outboxes = Outboxes::new(&[address]);
        for slot in 0..MAILBOX_MESSAGES_MAX + 2 {
            let message = Message::Answer {
                slot: u32::try_from(slot).expect("small"),
                outcome: Outcome::Exists(true),
                bytes: Vec::new(),
            };
            outboxes.push(ShardIndex(0), message);
        }
        outboxes.flush(|_| panic!("nothing is lost"));
        assert!(outboxes.is_blocked());
        let mut slots = Vec::new();
        let drain = |slots: &mut Vec<u32>| {
            while let Ok(Message::Answer { slot, .. }) = receiver.try_recv() {
                slots.push(slot);
            }
        };
        drain(&mut slots);
        outboxes.flush(|_| panic!("nothing is lost"));
        drain(&mut slots);
        assert!(!outboxes.is_blocked());
        assert_eq!(slots.len(), MAILBOX_MESSAGES_MAX + 2);
        assert!(slots.is_sorted());
    }

    #[test]
    fn messages_of_peers_are_dropped_where_a_neighbour_is_behind_and_notes_never() {
        let doorbell = Arc::new(Doorbell::new().expect("an event file"));
        let (address, _receiver) = Address::new(doorbell);
        let mut outboxes = Outboxes::new(&[address]);
        for _ in 0..PEER_MESSAGES_WAITING_MAX {
            assert!(outboxes.push_unless_behind(ShardIndex(0), Message::Wake));
        }
        assert!(!outboxes.push_unless_behind(ShardIndex(0), Message::Wake));
        assert!(
            !outboxes.push_unless_behind(ShardIndex(7), Message::Wake),
            "no such shard"
        );
        outboxes.push(ShardIndex(0), Message::Note(Note::Lost(Vec::new())));
        outboxes.flush(|_| panic!("nothing is lost"));
        assert!(outboxes.push_unless_behind(ShardIndex(0), Message::Wake));
    }

    #[test]
    fn a_neighbour_takes_a_bounded_number_of_requests_at_once() {
        let doorbell = Arc::new(Doorbell::new().expect("an event file"));
        let (address, _receiver) = Address::new(doorbell);
        let mut outboxes = Outboxes::new(&[address]);
        for _ in 0..FORWARDS_MAX {
            assert!(outboxes.begin_forward(ShardIndex(0)));
        }
        assert!(!outboxes.begin_forward(ShardIndex(0)));
        outboxes.end_forward(ShardIndex(0));
        assert!(outboxes.begin_forward(ShardIndex(0)));
        assert!(!outboxes.begin_forward(ShardIndex(7)), "no such shard");
    }
}
