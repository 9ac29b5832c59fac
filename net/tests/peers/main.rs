//! Nodes that speak with each other over real sockets: who gets what, who is told of what, what is refused and dropped.
//!
//! Each node here is an engine whose edge is the network; what the network hands to the shard is told to the test, and
//! the test says what the shard sends.
//!
//! # Layout
//! - `spy`: the test between network and shard; `side`: a node with it; `raw`: a node of bytes only;
//! - `ways`: what reaches whom; `refused`: what does not.

mod raw;
mod refused;
mod side;
mod spy;
mod ways;

use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);
const CLUSTER: u64 = 77;
