//! The network of a shard: sockets on the shard's own ring.
//!
//! Owns the listeners it was given, its connections and the memory of their bytes. Knows no protocol: a listener brings
//! its own. Never waits: operations are queued in a turn and submitted with everything else of it.
//!
//! # Layout
//! - [`session`]: what a protocol is to the reactor;
//! - [`counters`]: what it tells of itself;
//! - `operation`: operations on the ring and their names;
//! - `address`: an address as the kernel reads it;
//! - `buffers`: the receive buffers lent to the kernel;
//! - `pool`: output buffers;
//! - `tls`: what seals and opens a connection's bytes;
//! - `connection`: one client, or another node;
//! - `connect`: one that this side opens, until it is connected;
//! - `accept`: from a listener to a connection;
//! - `owner`: what whoever owns a reactor does with its connections;
//! - `edge`: the reactor itself, an [`Edge`](gramme_engine::edge::Edge).

mod accept;
mod address;
mod buffers;
mod connect;
mod connection;
pub mod counters;
mod edge;
mod operation;
mod owner;
mod pool;
pub mod session;
mod tls;

pub use accept::Listener;
pub use counters::Counters;
pub use edge::{Reactor, ReactorOptions};
pub use owner::Wrote;
