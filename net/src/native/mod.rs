//! The native protocol at a shard: frames in, requests to the port, answers out.
//!
//! Owns one connection's requests on their way, and the routing table that clients download. Never touches a socket,
//! never decides what a request means.
//!
//! # Layout
//! - `table`: what clients download, shared by all connections of the node;
//! - `session`: one connection;
//! - `operator`: who may change the cluster;
//! - `answer`: an outcome of the core as a frame's content.

mod answer;
mod operator;
mod session;
mod table;

#[cfg(test)]
mod session_tests;

pub(crate) use operator::COMMAND_BYTES_MAX;
pub use session::{IN_FLIGHT_MAX, NativeProtocol, REQUEST_BYTES_MAX};
pub use table::RingTable;
