//! gramme on the network.

pub mod admin;
pub mod client;
pub mod config;
pub mod export_line;
pub mod host;
pub mod io_profile;
pub mod native;
pub mod node;
pub mod peer;
pub mod reactor;
pub mod resp;
pub mod secret;
pub mod service;
pub mod tls;
pub mod wire;

pub use client::Client;
pub use gramme_core as core;
pub use gramme_engine::{
    Context, Engine, EngineConfig, Error, Found, Local, Merge, OpenError, Options, Pipeline, Reply,
    Written, merge,
};
