//! What a protocol is to the reactor: bytes come in, requests go to the port, answers become bytes.
//!
//! Owns the words between the two and the layout of a request's id.
//! Never touches a socket: a session can be tested with a `Port` of the test's own and a `Vec`.
//!
//! Invariants:
//! - a session sees its input in order, and sees again, unchanged, whatever it left unused, with more behind it;
//! - an answer reaches the session that asked, or nobody: a connection's generation is part of the request's id.

use std::any::Any;
use std::net::SocketAddr;

use gramme_core::port::{Outcome, RequestId};
use gramme_engine::edge::Port;

const TAG_BITS: u32 = 24;
const GENERATION_BITS: u32 = 14;

/// Connections that one shard can hold: the slot has 18 bits.
pub const CONNECTIONS_A_SHARD_MAX: usize = 1 << 18;

/// How long a connection beyond the bound may take to say that it must be heard.
pub const SPEAK_NS_MAX: u64 = 2_000_000_000;

/// How long a connection may take until it is known who the other side is: the handshake of TLS, and the password.
pub const STRANGER_NS_MAX: u64 = 10_000_000_000;

/// Tags wrap at this number.
pub const TAGS: u32 = 1 << TAG_BITS;

/// A connection of one shard: a slot, and how often the slot was used before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionId {
    /// Where it lies.
    pub slot: u32,
    /// Tells it from the earlier ones of the slot; 14 bits.
    pub generation: u16,
}

impl ConnectionId {
    /// The id of a request of this connection; `tag` (24 bits) is the session's own.
    pub const fn request(self, tag: u32) -> RequestId {
        let generation = (self.generation as u64) & ((1 << GENERATION_BITS) - 1);
        RequestId(
            ((self.slot as u64) << (TAG_BITS + GENERATION_BITS))
                | (generation << TAG_BITS)
                | (tag & (TAGS - 1)) as u64,
        )
    }

    /// The connection and the tag of a request.
    pub const fn of(id: RequestId) -> (Self, u32) {
        let connection = Self {
            slot: (id.0 >> (TAG_BITS + GENERATION_BITS)) as u32,
            generation: ((id.0 >> TAG_BITS) & ((1 << GENERATION_BITS) - 1)) as u16,
        };
        (connection, (id.0 & (TAGS as u64 - 1)) as u32)
    }

    /// The slot's next connection.
    pub const fn successor(self) -> Self {
        Self {
            slot: self.slot,
            generation: (self.generation + 1) & ((1 << GENERATION_BITS) - 1),
        }
    }
}

/// What a session works with in one call.
pub struct Io<'a> {
    /// Bytes to send: append only.
    pub out: &'a mut Vec<u8>,
    /// The shard.
    pub port: &'a mut dyn Port,
    /// For [`ConnectionId::request`].
    pub connection: ConnectionId,
    /// Set to close the connection when everything in `out` was sent; no more input is given.
    pub is_ended: bool,
    /// Set to have whoever owns the reactor decide about the connection: no more input is given until it has
    /// ([`Reactor::take_said`](super::Reactor::take_said)). A reactor that nobody owns ends it.
    pub said: Option<Box<dyn Any>>,
}

/// One connection's protocol.
pub trait Session {
    /// Takes input: what was left unused by the last call, and what came since; returns how many bytes were used.
    ///
    /// Also called, perhaps with nothing new, when a session that [`is_blocked`](Self::is_blocked) no longer is.
    fn received(&mut self, input: &[u8], io: &mut Io<'_>) -> usize;

    /// The answer to the request with this tag. `bytes` is what the outcome's ranges refer to.
    fn reply(&mut self, tag: u32, outcome: &Outcome, bytes: &[u8], io: &mut Io<'_>);

    /// Whether it takes no input for now, since as many requests are under way as it allows: the reactor stops
    /// receiving until answers have come.
    fn is_blocked(&self) -> bool;

    /// Whether all its requests were answered: when the client's input ends, the connection is closed once this holds.
    fn is_idle(&self) -> bool {
        true
    }

    /// Whether the other side has yet to say a password: it has [`STRANGER_NS_MAX`] for that.
    fn is_stranger(&self) -> bool {
        false
    }

    /// Whether input is taken however much output waits. Two nodes that each wait for the other to read would wait for
    /// ever; who says yes bounds its output itself.
    fn is_always_reading(&self) -> bool {
        false
    }

    /// How long the other side may leave its output unread before the connection is closed.
    fn patience_ns(&self) -> u64 {
        30_000_000_000
    }
}

/// Makes a session for each accepted connection of a listener.
pub trait Protocol: Send + Sync {
    /// A session for a new connection; `None` of the peer when the system could not tell.
    fn open(&self, peer: Option<SocketAddr>) -> Box<dyn Session>;

    /// A session for a connection that is one too many, where some of them must be heard all the same: it has
    /// [`SPEAK_NS_MAX`] to say something ([`Io::said`]) and is closed otherwise.
    fn open_beyond(&self) -> Option<Box<dyn Session>> {
        None
    }

    /// What a connection is told that is one too many, before it is closed.
    fn refusal(&self) -> &'static [u8];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_names_its_connection_and_tag_in_56_bits() {
        let connection = ConnectionId {
            slot: (CONNECTIONS_A_SHARD_MAX - 1) as u32,
            generation: (1 << GENERATION_BITS) - 1,
        };
        let id = connection.request(TAGS - 1);
        assert!(id.0 < 1 << 56);
        assert_eq!(ConnectionId::of(id), (connection, TAGS - 1));
        assert_eq!(connection.successor().generation, 0);
        assert_ne!(connection.successor().request(5), connection.request(5));
    }
}
