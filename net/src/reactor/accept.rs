//! Accepting: from a listener to a connection of some shard.
//!
//! A listener whose connections are dealt out belongs to one shard, which sends every accepted socket to the next shard
//! in turn; one that is not keeps them, so that a client can choose the shard that it speaks to by its port. (Sharing a
//! port by `SO_REUSEPORT` would let a second process bind it silently, and deals by a hash.)
//!
//! Owns the bounds: how many connections there are, and how long one may take until it is known who the other side is.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gramme_core::base::ids::ShardIndex;
use gramme_engine::edge::Port;
use gramme_engine::ring::{Completion, Ring};
use io_uring::cqueue;
use rustls::ServerConfig;

use super::connection::Connection;
use super::counters::Counters;
use super::edge::Reactor;
use super::operation;
use super::session::{CONNECTIONS_A_SHARD_MAX, Protocol, SPEAK_NS_MAX, STRANGER_NS_MAX, Session};
use super::tls::Tls;

/// How long accepting rests after it failed.
const ACCEPT_REST_NS: u64 = 100_000_000;

/// Connections beyond [`ReactorOptions::connections_max`], for those that must be heard whatever clients there are.
const BEYOND_MAX: u64 = 1024;

/// A bound socket, and what is spoken there.
pub struct Listener {
    /// The socket, listening.
    pub socket: TcpListener,
    /// What its clients speak.
    pub protocol: Arc<dyn Protocol>,
    /// Whether its connections are dealt out to all shards in turn.
    pub is_dealt: bool,
    /// Has them speak TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// A listener with what the kernel does with it.
pub(super) struct Accepting {
    pub(super) listener: Listener,
    pub(super) is_armed: bool,
    /// Not to be armed before.
    rests_until_ns: u64,
}

impl From<Listener> for Accepting {
    fn from(listener: Listener) -> Self {
        Self {
            listener,
            is_armed: false,
            rests_until_ns: 0,
        }
    }
}

/// A connection on its way to another shard.
pub(super) struct Accepted {
    socket: TcpStream,
    protocol: Arc<dyn Protocol>,
    tls: Option<Arc<ServerConfig>>,
}

impl Reactor {
    pub(super) fn arm(&mut self, ring: &mut Ring, port: &mut dyn Port) {
        if self.is_stopping {
            return;
        }
        let now_ns = port.now().mono_ns;
        for (number, accepting) in (0..).zip(&mut self.listeners) {
            if accepting.is_armed {
                continue;
            }
            if accepting.rests_until_ns > now_ns {
                port.wake_at(accepting.rests_until_ns);
                continue;
            }
            accepting.is_armed = true;
            operation::accept(ring, number, &accepting.listener.socket);
        }
    }

    pub(super) fn accepted(&mut self, number: u32, completion: Completion, port: &mut dyn Port) {
        let Some(accepting) = self.listeners.get_mut(number as usize) else {
            return;
        };
        accepting.is_armed &= cqueue::more(completion.flags);
        if completion.result < 0 {
            if !self.is_stopping {
                let error = io::Error::from_raw_os_error(-completion.result);
                tracing::warn!(%error, "accepting rests for {} ms", ACCEPT_REST_NS / 1_000_000);
                Counters::add(&self.options.counters.accept_failures, 1);
            }
            accepting.rests_until_ns = port.now().mono_ns + ACCEPT_REST_NS;
            return;
        }
        #[expect(unsafe_code, reason = "the kernel hands over a descriptor as a number")]
        // SAFETY: a successful accept's result is a new descriptor that nobody else has.
        let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(completion.result) });
        if self.is_stopping {
            return;
        }
        let is_dealt = accepting.listener.is_dealt;
        let accepted = Accepted {
            socket,
            protocol: Arc::clone(&accepting.listener.protocol),
            tls: accepting.listener.tls.clone(),
        };
        let counters = &self.options.counters;
        if counters.connections.load(Ordering::Relaxed) >= self.options.connections_max {
            return self.accepted_beyond(accepted, port);
        }
        Counters::add(&counters.accepted, 1);
        Counters::add(&counters.connections, 1);
        if !is_dealt {
            return self.open(accepted, port);
        }
        let shard = ShardIndex(self.deal_to);
        self.deal_to = (self.deal_to + 1) % port.slices().shards();
        if shard == port.shard() {
            self.open(accepted, port);
        } else {
            port.send(shard, Box::new(accepted));
        }
    }

    /// A connection more than there may be: other nodes are served however many clients there are.
    fn accepted_beyond(&mut self, accepted: Accepted, port: &mut dyn Port) {
        let counters = &self.options.counters;
        let bound = self.options.connections_max + BEYOND_MAX;
        let is_room = counters.connections.load(Ordering::Relaxed) < bound
            && self.connections.len() < CONNECTIONS_A_SHARD_MAX;
        let session = is_room.then(|| accepted.protocol.open_beyond()).flatten();
        let Some(session) = session else {
            Counters::add(&counters.refused, 1);
            return refuse(&accepted);
        };
        Counters::add(&counters.accepted, 1);
        Counters::add(&counters.connections, 1);
        self.insert(accepted, session, Some(SPEAK_NS_MAX), port);
    }

    pub(super) fn open(&mut self, accepted: Accepted, port: &mut dyn Port) {
        if self.connections.len() >= CONNECTIONS_A_SHARD_MAX || self.is_stopping {
            refuse(&accepted);
            self.uncount();
            return;
        }
        let session = accepted.protocol.open(accepted.socket.peer_addr().ok());
        self.insert(accepted, session, None, port);
    }

    /// Begins with a connection that was counted; its session has so long to say something, if that is bounded.
    fn insert(
        &mut self,
        accepted: Accepted,
        session: Box<dyn Session>,
        speak_ns_max: Option<u64>,
        port: &mut dyn Port,
    ) {
        let tls = match accepted.tls.as_ref().map(Tls::accepting).transpose() {
            Ok(tls) => tls,
            Err(error) => {
                tracing::warn!(%error, "a connection is closed: TLS cannot begin");
                return self.uncount();
            }
        };
        // A socket that cannot is one that the other side has left.
        let _ = accepted.socket.set_nodelay(true);
        let id = self.next_id();
        let mut connection = Connection::new(id, accepted.socket, session).with_tls(tls);
        let now_ns = port.now().mono_ns;
        if let Some(speak_ns_max) = speak_ns_max {
            connection.must_speak_until(now_ns + speak_ns_max);
        }
        if connection.is_stranger() {
            connection.must_be_known_until(now_ns + STRANGER_NS_MAX);
        }
        if let Some(until_ns) = connection.speak_until_ns() {
            self.sweep_by(until_ns, port);
        }
        self.connections.insert(connection);
        self.list(id);
    }

    pub(super) fn uncount(&self) {
        let connections = &self.options.counters.connections;
        connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a client that it is one too many; it may be gone, or read nothing. With TLS it is only closed: a handshake to
/// say so is what there is no room for.
fn refuse(accepted: &Accepted) {
    use std::io::Write;
    if accepted.tls.is_some() {
        return;
    }
    let mut socket = &accepted.socket;
    let _ = socket.set_nonblocking(true);
    let _ = socket.write(accepted.protocol.refusal());
}
