//! RESP: what makes every Redis client a client of gramme.
//!
//! Owns one connection's state: the version that it speaks, its bucket and options, the commands that wait. Decides
//! nothing about versions or durability: commands become requests, outcomes become answers.
//!
//! # Layout
//! - [`parse`], `encode`: bytes to words and back;
//! - `words`: a command's words: numbers, times, patterns;
//! - `answers`: from outcomes to answers;
//! - `pending`: answers in the order of their commands;
//! - `session`: one connection;
//! - `table`: the commands, their names, and how many words they take;
//! - `connection`, `server`, `values`, `keys`, `scan`, `dynamo`: the commands.

mod answers;
mod connection;
mod dynamo;
mod encode;
mod keys;
pub mod parse;
mod pending;
mod scan;
mod server;
mod session;
mod table;
mod values;
mod words;

#[cfg(test)]
mod fake_port;
#[cfg(test)]
mod transcript_tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gramme_core::base::limits::VALUE_BYTES_MAX_DEFAULT;

use crate::reactor::Counters;
use crate::reactor::session::{Protocol, Session};
use crate::secret::Secret;
pub use session::RespSession;

/// What all RESP connections of a node share.
#[derive(Debug)]
pub struct RespOptions {
    /// What `AUTH` must say before anything else is answered; none: everybody may.
    pub password: Option<Secret>,
    /// A value's greatest length; longer ones are answered with `-TOOLARGE`.
    pub value_bytes_max: usize,
    /// The port, for `INFO`.
    pub port: u16,
    /// What the network counts, for `INFO`.
    pub counters: Arc<Counters>,
    /// When the node started, for `INFO`.
    pub started: Instant,
}

impl Default for RespOptions {
    fn default() -> Self {
        Self {
            password: None,
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT,
            port: 0,
            counters: Arc::default(),
            started: Instant::now(),
        }
    }
}

/// The RESP protocol of a node's listeners.
#[derive(Debug, Default)]
pub struct RespProtocol {
    options: Arc<RespOptions>,
    connections: AtomicU64,
}

impl RespProtocol {
    /// With these options.
    pub fn new(options: RespOptions) -> Self {
        Self {
            options: Arc::new(options),
            connections: AtomicU64::new(0),
        }
    }
}

impl Protocol for RespProtocol {
    fn open(&self, peer: Option<SocketAddr>) -> Box<dyn Session> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Box::new(RespSession::new(Arc::clone(&self.options), number, peer))
    }

    fn refusal(&self) -> &'static [u8] {
        b"-ERR max number of clients reached\r\n"
    }
}
