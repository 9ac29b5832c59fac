//! gramme on the network.

pub mod reactor;
pub mod wire;
