//! What one node's shards say to those of others: connections, and the messages on them.
//!
//! Owns who is reached where, the connections between nodes and their hellos. Never decides what a message means, or who
//! should get it: it takes messages from its shard to the shard that they name, and tells its shard whom it cannot reach.
//! Messages may be lost here, by the port's contract: where too much waits for a peer, and where it cannot be reached.
//!
//! Invariants:
//! - a shard opens at most one connection to each shard of each node that it has something for, and one to each node's
//!   control shard, on which nothing but gossip travels; answers go back on the connection that the question came by;
//! - no message leaves before its connection has said for which node it is, and none is taken from a connection that has
//!   not said from which;
//! - what waits for one peer is at most [`UNSENT_BYTES_MAX`] and one message.
//!
//! # Layout
//! - [`counters`]: what is told of it;
//! - `place`: an address as people write it;
//! - `resolver`: names to addresses, off the shard's thread;
//! - `session`: one connection's input;
//! - `links`: which connection leads where, and when the next try is due;
//! - `network`: the reactor and the links as one [`Edge`](gramme_engine::edge::Edge).

pub mod counters;
mod links;
mod network;
mod place;
mod resolver;
mod session;

pub use counters::PeerCounters;
pub use network::{Network, UNSENT_BYTES_MAX, ViewWatch};
pub(crate) use place::Place;
