//! What whoever owns a reactor does with its connections: opens them, writes to them, decides about those whose sessions
//! said something.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustls::ClientConfig;

use super::address::RawAddress;
use super::connection::Connection;
use super::counters::Counters;
use super::edge::{Reactor, get};
use super::session::{CONNECTIONS_A_SHARD_MAX, ConnectionId, Session};
use super::tls::Tls;

/// When a quiet connection between nodes is asked whether it still is one, how often, and how many silences end it: a
/// machine that lost its power says nothing.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_SILENCES_MAX: u32 = 4;

/// What became of bytes for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// They are sent in order.
    Done,
    /// More waits there than is allowed.
    Full,
    /// It takes no more.
    Gone,
}

impl Reactor {
    /// Opens a connection, to another node. It may be written to at once; what is written is sent when it is connected. Its end is told
    /// by [`take_over`](Self::take_over), also when it never was.
    ///
    /// # Errors
    /// There are no more sockets, or the node stops.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        session: Box<dyn Session>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<ConnectionId> {
        if self.connections.len() >= CONNECTIONS_A_SHARD_MAX || self.is_stopping {
            return Err(io::Error::other("no connections are opened now"));
        }
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let socket = TcpStream::from(socket);
        let tls = tls.map(Tls::connecting).transpose();
        let tls = tls.map_err(io::Error::other)?;
        socket.set_nodelay(true)?;
        keep_alive(&socket)?;
        Counters::add(&self.options.counters.connections, 1);
        let id = self.next_id();
        let peer = (session, RawAddress::new(address));
        self.connections
            .insert(Connection::connecting(id, socket, peer).with_tls(tls));
        self.list(id);
        Ok(id)
    }

    /// Whether the other side has taken a connection that was opened here.
    pub fn is_connected(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id.slot as usize);
        connection.is_some_and(|connection| connection.id == id && connection.is_connected())
    }

    /// Whether its other side has shown a node's certificate.
    pub fn is_with_node(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id.slot as usize);
        connection.is_some_and(|connection| connection.id == id && connection.is_with_node())
    }

    /// Appends to a connection's output, unless so much waits there already.
    pub fn write(
        &mut self,
        id: ConnectionId,
        unsent_bytes_max: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Wrote {
        let Some(connection) = get(&mut self.connections, id) else {
            return Wrote::Gone;
        };
        if connection.unsent_bytes() > unsent_bytes_max {
            return Wrote::Full;
        }
        let Some(out) = connection.output(&mut self.pool) else {
            return Wrote::Gone;
        };
        write(out);
        self.list(id);
        Wrote::Done
    }

    /// The next connection whose session said something, and what. It gets no input until [`resume`](Self::resume).
    pub fn take_said(&mut self) -> Option<(ConnectionId, Box<dyn Any>)> {
        while let Some(id) = self.said.pop() {
            let said = get(&mut self.connections, id).and_then(Connection::take_said);
            if let Some(said) = said {
                return Some((id, said));
            }
        }
        None
    }

    /// Goes on with a connection whose session said something, with another session; its end is told from now on.
    pub fn resume(&mut self, id: ConnectionId, session: Box<dyn Session>) {
        if let Some(connection) = get(&mut self.connections, id) {
            connection.resume(session);
            self.list(id);
        }
    }

    /// Has a connection ask now and then whether the other side is there.
    pub fn keep_alive(&self, id: ConnectionId) {
        let connection = self.connections.get(id.slot as usize);
        if let Some(connection) = connection.filter(|connection| connection.id == id) {
            // A socket that cannot is one that the other side has left.
            let _ = keep_alive(connection.socket());
        }
    }

    /// Closes a connection when its output was sent.
    pub fn end(&mut self, id: ConnectionId) {
        if let Some(connection) = get(&mut self.connections, id) {
            // What it holds is forgotten.
            self.held_bytes -= connection.held_bytes();
            connection.end();
            self.list(id);
        }
    }

    /// Closes a connection at once.
    pub fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = get(&mut self.connections, id) {
            self.held_bytes -= connection.held_bytes();
            connection.close();
            self.list(id);
        }
    }

    /// The next connection that was opened here, or resumed, and is over.
    pub fn take_over(&mut self) -> Option<ConnectionId> {
        self.over.pop()
    }

    /// The other side's address.
    pub fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        let connection = self.connections.get(id.slot as usize)?;
        (connection.id == id).then(|| connection.peer())?
    }

    /// What the network of the node tells of itself.
    pub fn counters(&self) -> &Counters {
        &self.options.counters
    }

    /// Ends those whose sessions said something that nobody took.
    pub(super) fn end_unheard(&mut self) {
        while let Some((id, _)) = self.take_said() {
            self.end(id);
        }
    }
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_SILENCES_MAX)?;
    Ok(())
}
