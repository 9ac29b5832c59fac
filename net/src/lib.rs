//! gramme on the network.

pub mod client;
pub mod native;
pub mod reactor;
pub mod resp;
pub mod wire;
