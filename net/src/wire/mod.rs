//! The native protocol's frames: how a request, its answer and the ring look as bytes.
//!
//! Owns the header, the archived bodies (the only place with rkyv derives) and the reading of both from a receive
//! buffer, in place. Never touches a socket, never decides what a request means.
//!
//! How an older and a newer release understand each other is in `version`.
//!
//! # Layout
//! - [`version`]: which versions are spoken, and the rules by which frames grow;
//! - `header`: 24 bytes before every frame, checked before anything else;
//! - `body`: the archived part of each kind, flat;
//! - `message`: what a frame says, borrowed from the buffer;
//! - `words`: the numbers that stand for a request's rules;
//! - `tail`: an archive and what follows it, read with their checks;
//! - `encode`: a message appended to a send buffer;
//! - `decode`: a message read from a receive buffer;
//! - [`peer`]: the frames that nodes send each other after their hello.

mod body;
mod decode;
mod encode;
mod header;
mod message;
pub mod peer;
mod tail;
pub mod version;
mod words;

#[cfg(test)]
mod wire_tests;

pub use decode::{Frame, FrameError, NotUnderstood, Parse, parse};
pub use encode::encode;
pub use header::{FLAG_CHECKSUM, FRAME_BYTES_MAX, HEADER_BYTES, Header, Kind, seal};
pub use message::{
    Answer, Delete, Effect, ErrorCode, Get, Hello, Message, PeerHello, PeerLane, Problem, Put,
    Quorum, Reply, Ring, RingNode, Write,
};
pub use version::Versions;
