//! TLS of one connection: bytes from the socket are opened, bytes for it are sealed. No socket, no clock.
//!
//! Owns the state of the two directions, and the output that was taken from the session and is not sealed yet. A
//! connection without TLS has none of this, and pays the look whether it has.
//!
//! Invariants:
//! - nothing of a session's output is sealed before the handshake is over: then the other side is who it should be;
//! - a handshake takes at most [`HANDSHAKE_BYTES_MAX`]; its time is bounded by whoever owns the connection;
//! - what is kept of input is less than one record.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, Connection as State, Error, ServerConfig, ServerConnection,
};

use super::pool::Pool;
use crate::tls::node_name;

/// What the other side may send before the handshake is over: a chain of certificates is some KiB.
const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// Output sealed at once: it is on its way while the next is sealed, and no turn is spent on one connection's.
const SEAL_BYTES: usize = 256 << 10;

/// Sides of one connection.
pub(super) struct Tls {
    state: State,
    /// Output that is being sealed, and how much of it was.
    plain: Vec<u8>,
    sealed_bytes: usize,
    handshake_bytes: usize,
    is_ending: bool,
}

/// What input came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// More may come.
    Open,
    /// The other side has said that it was all.
    Ended,
}

impl Tls {
    /// Of a connection that was accepted.
    pub(super) fn accepting(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        let state = ServerConnection::new(Arc::clone(config))?;
        Ok(Self::new(state.into()))
    }

    /// Of a connection that this side opens, to another node.
    pub(super) fn connecting(config: &Arc<ClientConfig>) -> Result<Self, Error> {
        let state = ClientConnection::new(Arc::clone(config), node_name())?;
        Ok(Self::new(state.into()))
    }

    fn new(mut state: State) -> Self {
        // What goes in comes out at once; `SEAL_BYTES` is the bound.
        state.set_buffer_limit(None);
        Self {
            state,
            plain: Vec::new(),
            sealed_bytes: 0,
            handshake_bytes: 0,
            is_ending: false,
        }
    }

    /// Whether it is not yet known who the other side is.
    pub(super) fn is_handshaking(&self) -> bool {
        self.state.is_handshaking()
    }

    /// What the other side has sent of a handshake that is not over.
    pub(super) fn handshake_bytes(&self) -> usize {
        if self.is_handshaking() {
            self.handshake_bytes
        } else {
            0
        }
    }

    /// Whether the other side has shown a node's certificate.
    pub(super) fn is_with_node(&self) -> bool {
        let shown = self.state.peer_certificates().and_then(<[_]>::first);
        shown.is_some_and(|certificate| {
            ParsedCertificate::try_from(certificate)
                .and_then(|certificate| verify_server_name(&certificate, &node_name()))
                .is_ok()
        })
    }

    /// Opens what was received, into `opened`.
    pub(super) fn open(
        &mut self,
        mut received: &[u8],
        opened: &mut Vec<u8>,
    ) -> Result<Input, Error> {
        if self.is_handshaking() {
            self.handshake_bytes += received.len();
            if self.handshake_bytes > HANDSHAKE_BYTES_MAX {
                return Err(Error::General("the handshake is too long".into()));
            }
        }
        while !received.is_empty() {
            let taken = self.state.read_tls(&mut received).map_err(unexpected)?;
            let state = self.state.process_new_packets()?;
            let plain_bytes = state.plaintext_bytes_to_read();
            if plain_bytes > 0 {
                let from = opened.len();
                opened.resize(from + plain_bytes, 0);
                self.state
                    .reader()
                    .read_exact(&mut opened[from..])
                    .map_err(unexpected)?;
            }
            if state.peer_has_closed() {
                return Ok(Input::Ended);
            }
            if taken == 0 {
                break;
            }
        }
        Ok(Input::Open)
    }

    /// Seals the next part of the output, and what TLS itself has to say, into `sealed`, which is empty.
    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
        pool: &mut Pool,
    ) -> Result<(), Error> {
        let is_ready = !self.is_handshaking();
        let is_wanted = self.state.wants_write() || is_ready && self.has_output(out);
        if !is_wanted {
            return Ok(());
        }
        if sealed.capacity() == 0 {
            *sealed = pool.take();
        }
        if is_ready {
            if self.plain.is_empty() {
                std::mem::swap(&mut self.plain, out);
            }
            let rest = self.plain.get(self.sealed_bytes..).unwrap_or_default();
            let part = &rest[..rest.len().min(SEAL_BYTES)];
            self.state.writer().write_all(part).map_err(unexpected)?;
            self.sealed_bytes += part.len();
            if self.sealed_bytes == self.plain.len() {
                self.drop_plain(pool);
            }
        }
        while self.state.wants_write() {
            self.state.write_tls(sealed).map_err(unexpected)?;
        }
        Ok(())
    }

    /// Whether output of the session's is not sealed yet.
    pub(super) fn has_output(&self, out: &[u8]) -> bool {
        !out.is_empty() || !self.plain.is_empty()
    }

    /// Output that was taken from the session and is not sealed.
    pub(super) fn unsealed_bytes(&self) -> usize {
        self.plain.len() - self.sealed_bytes
    }

    /// Has the other side be told that this was all; returns whether that is news.
    pub(super) fn end(&mut self) -> bool {
        let was_ending = std::mem::replace(&mut self.is_ending, true);
        if !was_ending {
            self.state.send_close_notify();
        }
        !was_ending
    }

    /// Forgets output that nobody is to get.
    pub(super) fn drop_plain(&mut self, pool: &mut Pool) {
        pool.give_back(std::mem::take(&mut self.plain));
        self.sealed_bytes = 0;
    }
}

/// What reading from and writing to memory cannot come to.
fn unexpected(error: io::Error) -> Error {
    Error::General(error.to_string())
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
