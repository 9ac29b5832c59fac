//! What a server's protocol must be able to do.
//!
//! Owns the trait. A protocol turns operations into bytes and bytes into outcomes; it never touches a socket, so
//! that each is tested on bytes alone and a further one is one more file.

use std::io;
use std::net::TcpStream;

use super::outcome::Outcome;
use crate::workload::{Durability, Operation, Verb};

/// One step on the wire: an update is a read and then a write, every other operation is one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read one key.
    Read,
    /// Write one value.
    Write,
    /// Delete one key.
    Delete,
    /// Read a run of keys.
    Scan,
}

impl Step {
    /// The first step of an operation.
    pub fn first(verb: Verb) -> Step {
        match verb {
            Verb::Read | Verb::Update => Step::Read,
            Verb::Write | Verb::Insert => Step::Write,
            Verb::Delete => Step::Delete,
            Verb::Scan => Step::Scan,
        }
    }
}

/// What the bytes received so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// Not a whole reply yet.
    NeedMore,
    /// A reply of so many bytes.
    Reply {
        /// Its length.
        bytes: usize,
        /// What it means.
        outcome: Outcome,
    },
    /// Not this protocol.
    Broken,
}

/// A protocol.
pub trait Wire: Send + Sync {
    /// Whether the target can do `verb`.
    fn can(&self, verb: Verb) -> bool;
    /// Bytes to send on each new connection; returns how many replies they cause.
    fn greet(&self, out: &mut Vec<u8>) -> usize;
    /// Appends one step's bytes. `value` is empty for steps that write none.
    fn encode(
        &self,
        step: Step,
        operation: &Operation,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    );
    /// Reads the reply to `step` for `key_id` at the start of `input`.
    fn parse(&self, step: Step, key_id: u64, input: &[u8]) -> Parsed;
    /// Asks the target about itself; what it does not tell is left out.
    fn facts(&self, stream: &mut TcpStream) -> Vec<(String, String)>;
    /// Prepares for writes of the asked durability, or says why the target cannot promise it.
    fn promise(&mut self, stream: &mut TcpStream, durability: Durability) -> io::Result<()>;
}
