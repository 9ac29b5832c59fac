//! The network of a shard: sockets on the shard's own ring.
//!
//! # Layout
//! - [`session`]: what a protocol is to the reactor.

pub mod session;
