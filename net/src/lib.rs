//! gramme on the network.

pub mod client;
pub mod reactor;
pub mod wire;
