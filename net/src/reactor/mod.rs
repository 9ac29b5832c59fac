//! The network of a shard: sockets on the shard's own ring.
//!
//! Owns the listeners it was given, its connections and the memory of their bytes. Knows no protocol: a listener brings
//! its own. Never waits: operations are queued in a turn and submitted with everything else of it.
//!
//! # Layout
//! - [`session`]: what a protocol is to the reactor;
//! - [`counters`]: what it tells of itself;
//! - `operation`: operations on the ring and their names;
//! - `buffers`: the receive buffers lent to the kernel;
//! - `pool`: output buffers;
//! - `connection`: one client;
//! - `edge`: the reactor itself, an [`Edge`](gramme_engine::edge::Edge).

mod buffers;
mod connection;
pub mod counters;
mod edge;
mod operation;
mod pool;
pub mod session;

pub use counters::Counters;
pub use edge::{Listener, Reactor, ReactorOptions};
