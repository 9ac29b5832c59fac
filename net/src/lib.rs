//! gramme on the network.

pub mod admin;
pub mod client;
pub mod config;
pub mod native;
pub mod node;
pub mod reactor;
pub mod resp;
pub mod wire;
