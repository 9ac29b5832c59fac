//! gramme on the network.

pub mod wire;
