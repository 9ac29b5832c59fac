//! The frames that nodes send each other, once each has told the other who it is ([`Message::Peer`](super::Message)).
//!
//! ```text
//! offset  bytes  little-endian
//!      0     24  the header, with kinds of its own and in the place of the request id: the lane
//!     24      8  the sender's wall clock when it wrote the frame, milliseconds since the Unix epoch
//!     32         archived body, tail
//! ```
//! Owns how each message of the core's port looks as bytes. Never decides whom a message is for: the lane is written and
//! read as it is.
//!
//! Invariants:
//! - a frame of an unknown kind, or that says what must be understood and is not, is passed over by its length, and what
//!   is added to a known one is read over: a newer node may say more than an older one understands (`version`);
//! - what is accepted has every part of its tail, ranges that lie in it, known words, and a token that is its key's.
//!
//! Why the time in every frame: an object that is older than `MESSAGE_AGE_MS_MAX` must never arrive, whatever buffers it
//! lay in.
//!
//! # Layout
//! - `body`: the archived part of each kind, flat;
//! - `encode`: a message appended to a send buffer;
//! - `outcome`: the outcome of a forwarded request as a body, and back;
//! - `decode`: a message read from a receive buffer.

mod body;
mod decode;
mod encode;
mod outcome;

#[cfg(test)]
mod peer_tests;

use gramme_core::port::{Lane, Message};

use super::header::{FRAME_BYTES_MAX, HEADER_BYTES};

pub use decode::{PeerParse, parse_peer};
pub use encode::encode_peer;

/// Frames between nodes are refused beyond this length. What was once accepted must replicate, so it is more than a
/// client may send: an object with many siblings fits.
pub const PEER_FRAME_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// The header and the time.
const START_BYTES: usize = HEADER_BYTES + 8;

const FLAG_LANE_TOKEN: u8 = 0x02;
const FLAG_LANE_CONTROL: u8 = 0x04;

/// What a frame between nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerKind {
    /// Merge an object.
    Apply = 32,
    /// Its answer.
    Applied = 33,
    /// What is held of a key?
    Fetch = 34,
    /// Its answer.
    Fetched = 35,
    /// Coordinate a client's request.
    Request = 36,
    /// Its answer.
    Outcome = 37,
    /// Compare a range.
    Compare = 38,
    /// Its answer.
    Compared = 39,
    /// Send records.
    Pull = 40,
    /// They.
    Records = 41,
    /// May tombstones be forgotten?
    Reap = 42,
    /// Its answer.
    Reaped = 43,
    /// Gossip.
    Gossip = 44,
}

impl PeerKind {
    /// The kind of a byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            32 => Self::Apply,
            33 => Self::Applied,
            34 => Self::Fetch,
            35 => Self::Fetched,
            36 => Self::Request,
            37 => Self::Outcome,
            38 => Self::Compare,
            39 => Self::Compared,
            40 => Self::Pull,
            41 => Self::Records,
            42 => Self::Reap,
            43 => Self::Reaped,
            44 => Self::Gossip,
            _ => return None,
        })
    }
}

/// One frame's content.
#[derive(Clone, Copy, Debug)]
pub struct PeerFrame<'a> {
    /// For which of the node's shards.
    pub lane: Lane,
    /// When it was written, by the sender's wall clock.
    pub sent_ms: u64,
    /// What it says.
    pub message: Message<&'a [u8]>,
}
