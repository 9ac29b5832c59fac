//! The input of one connection between nodes: first the answer to this side's hello, then messages.
//!
//! Never sends: the network writes to the connection itself.

use std::rc::Rc;

use gramme_core::base::ids::ShardIndex;
use gramme_core::base::limits::MESSAGE_AGE_MS_MAX;
use gramme_core::port::{Lane, Message, Outcome, Peer};
use gramme_core::ring::Slices;

use super::counters::Counts;
use crate::reactor::session::{Io, Session};
use crate::wire::peer::{PeerFrame, PeerParse, parse_peer};
use crate::wire::{self, Parse, PeerHello};

/// How long a peer may leave its output unread.
const PATIENCE_NS: u64 = 10_000_000_000;

/// What a connection that this side opened was answered.
pub(super) enum Answered {
    /// It may go on.
    Hello(PeerHello),
    /// It may not; why.
    Refused(String),
}

/// A connection that this side opened, until it is answered.
pub(super) struct Greeting;

impl Session for Greeting {
    fn received(&mut self, input: &[u8], io: &mut Io<'_>) -> usize {
        let (answered, used) = match wire::parse(input) {
            Parse::NeedMore(bytes) if bytes > wire::HEADER_BYTES + 4096 => (
                Answered::Refused("it did not answer as a node does".into()),
                input.len(),
            ),
            Parse::NeedMore(_) => return 0,
            Parse::Done(frame) => {
                let answered = match frame.message {
                    wire::Message::Peer(hello) => Answered::Hello(hello),
                    wire::Message::Error(problem) => Answered::Refused(problem.message.into()),
                    _ => Answered::Refused("it did not answer as a node does".into()),
                };
                (answered, frame.header.frame_bytes as usize)
            }
            Parse::Unknown(frame) => (Answered::Refused(frame.why.to_string()), input.len()),
            Parse::Bad(error) => (Answered::Refused(error.to_string()), input.len()),
        };
        io.said = Some(Box::new(answered));
        used
    }

    fn reply(&mut self, _: u32, _: &Outcome, _: &[u8], _: &mut Io<'_>) {}

    fn is_blocked(&self) -> bool {
        false
    }

    fn is_always_reading(&self) -> bool {
        true
    }
}

/// A connection whose other side is known.
pub(super) struct PeerSession {
    pub(super) from: Peer,
    pub(super) counts: Rc<Counts>,
    /// Whether it was said that the peer is not understood.
    pub(super) has_told: bool,
}

impl Session for PeerSession {
    fn received(&mut self, input: &[u8], io: &mut Io<'_>) -> usize {
        let mut used = 0;
        loop {
            match parse_peer(&input[used..]) {
                PeerParse::Done { frame, frame_bytes } => {
                    used += frame_bytes;
                    self.take(&frame, io);
                }
                PeerParse::Unknown { frame_bytes, why } => {
                    used += frame_bytes;
                    Counts::count(&self.counts.dropped_unknown);
                    if !std::mem::replace(&mut self.has_told, true) {
                        tracing::warn!(
                            from = ?self.from, %why,
                            "a peer says what this release does not understand; bring this node up to date"
                        );
                    }
                }
                PeerParse::NeedMore(_) => return used,
                PeerParse::Bad(error) => {
                    Counts::count(&self.counts.bad_frames);
                    tracing::warn!(from = ?self.from, %error, "the connection of a peer ends");
                    io.is_ended = true;
                    return input.len();
                }
            }
        }
    }

    fn reply(&mut self, _: u32, _: &Outcome, _: &[u8], _: &mut Io<'_>) {}

    fn is_blocked(&self) -> bool {
        false
    }

    fn is_always_reading(&self) -> bool {
        true
    }

    fn patience_ns(&self) -> u64 {
        PATIENCE_NS
    }
}

impl PeerSession {
    fn take(&self, frame: &PeerFrame<'_>, io: &mut Io<'_>) {
        let age_ms = io.port.now().wall_ms.saturating_sub(frame.sent_ms);
        if age_ms > MESSAGE_AGE_MS_MAX && dies_of_age(&frame.message) {
            return Counts::count(&self.counts.dropped_old);
        }
        let Some(to) = owner(frame, io.port.slices()) else {
            return Counts::count(&self.counts.dropped_unknown);
        };
        Counts::count(&self.counts.received);
        io.port.peer_message(to, self.from, frame.message);
    }
}

/// Whether it must not come late: an object could come back by it that was deleted and forgotten since, or a write be carried
/// out again whose name is forgotten.
fn dies_of_age(message: &Message<&[u8]>) -> bool {
    match message {
        Message::Apply { .. } | Message::Records { .. } | Message::Fetched { .. } => true,
        Message::Request { shape, .. } => shape.op.is_write(),
        Message::Applied { .. }
        | Message::Fetch { .. }
        | Message::Outcome { .. }
        | Message::Compare { .. }
        | Message::Compared { .. }
        | Message::Pull { .. }
        | Message::Reap { .. }
        | Message::Reaped { .. }
        | Message::Gossip { .. } => false,
    }
}

/// Which of this node's shards a message is for; none that there is not. The key decides where there is one: the sender
/// may believe in another number of shards.
fn owner(frame: &PeerFrame<'_>, slices: Slices) -> Option<ShardIndex> {
    match (&frame.message, frame.lane) {
        (Message::Apply { key, .. } | Message::Fetch { key, .. }, _) => {
            Some(slices.shard_of(key.token))
        }
        (Message::Request { key, .. }, Lane::Token(_)) => Some(slices.shard_of(key.token)),
        (_, Lane::Token(token)) => Some(slices.shard_of(token)),
        (_, Lane::Shard(shard)) => (shard.0 < slices.shards()).then_some(shard),
        (_, Lane::Control) => Some(Lane::CONTROL_SHARD),
    }
}
