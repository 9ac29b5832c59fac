//! The reactor: one shard's listeners and connections as an [`Edge`].
//!
//! Invariants:
//! - a connection that has something to do at the turn's end is in `listed`, once;
//! - input that connections hold is at most [`ReactorOptions::held_bytes_max`] together, whoever sends.

use std::io;
use std::sync::Arc;

use gramme_core::port::{Outcome, RequestId};
use gramme_engine::edge::{Edge, EdgeMessage, Port};
use gramme_engine::ring::{Completion, Ring};
use io_uring::cqueue;
use slab::Slab;

use super::accept::{Accepted, Accepting, Listener};
use super::buffers::Buffers;
use super::connection::Connection;
use super::counters::Counters;
use super::operation::{self, Operation};
use super::pool::Pool;
use super::session::ConnectionId;

/// How often those that do not read, or do not say who they are, are looked for while there may be some.
const SWEEP_NS: u64 = 2_000_000_000;

/// What a reactor is told.
#[derive(Clone, Debug)]
pub struct ReactorOptions {
    /// Connections of the whole node, at most; one more is told so and closed.
    pub connections_max: u64,
    /// Unfinished input that the connections of one shard may hold together; who goes beyond it is closed.
    pub held_bytes_max: usize,
    /// Shared by all shards of the node.
    pub counters: Arc<Counters>,
}

impl Default for ReactorOptions {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            held_bytes_max: 256 << 20,
            counters: Arc::default(),
        }
    }
}

/// One shard's network.
pub struct Reactor {
    pub(super) options: ReactorOptions,
    pub(super) listeners: Vec<Accepting>,
    /// The shard that gets the next connection.
    pub(super) deal_to: u16,

    pub(super) connections: Slab<Connection>,
    /// Of each slot ever used, how often.
    generations: Vec<ConnectionId>,
    buffers: Option<Buffers>,
    pub(super) pool: Pool,
    pub(super) held_bytes: usize,

    // For whoever owns the reactor.
    /// Connections whose sessions said something.
    pub(super) said: Vec<ConnectionId>,
    /// Watched connections that are over.
    pub(super) over: Vec<ConnectionId>,

    // This turn.
    listed: Vec<ConnectionId>,
    received_bytes: u64,
    sent_bytes: u64,

    sweep_at_ns: Option<u64>,
    pub(super) is_stopping: bool,
}

impl Reactor {
    /// A reactor for one shard, with the listeners that it owns.
    pub fn new(listeners: Vec<Listener>, options: ReactorOptions) -> Self {
        let listeners = listeners.into_iter().map(Accepting::from);
        Self {
            options,
            listeners: listeners.collect(),
            deal_to: 0,
            connections: Slab::new(),
            generations: Vec::new(),
            buffers: None,
            pool: Pool::default(),
            held_bytes: 0,
            said: Vec::new(),
            over: Vec::new(),
            listed: Vec::new(),
            received_bytes: 0,
            sent_bytes: 0,
            sweep_at_ns: None,
            is_stopping: false,
        }
    }

    /// Has connections be looked at by this time, and in any case in [`SWEEP_NS`].
    pub(super) fn sweep_by(&mut self, at_ns: u64, port: &mut dyn Port) {
        let at_ns = at_ns.min(port.now().mono_ns + SWEEP_NS);
        if self
            .sweep_at_ns
            .is_none_or(|sweep_at_ns| at_ns < sweep_at_ns)
        {
            self.sweep_at_ns = Some(at_ns);
            port.wake_at(at_ns);
        }
    }

    /// The id of the connection that is inserted next.
    pub(super) fn next_id(&mut self) -> ConnectionId {
        let slot = self.connections.vacant_key();
        if slot == self.generations.len() {
            self.generations.push(ConnectionId {
                slot: slot as u32,
                generation: 0,
            });
        }
        self.generations[slot]
    }

    pub(super) fn list(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id.slot as usize)
            && !connection.is_listed
        {
            connection.is_listed = true;
            self.listed.push(id);
        }
    }

    fn received(&mut self, id: ConnectionId, completion: Completion, port: &mut dyn Port) {
        let Some(buffers) = &mut self.buffers else {
            return;
        };
        let lent = cqueue::buffer_select(completion.flags);
        if let Some(connection) = get(&mut self.connections, id) {
            let before = connection.held_bytes();
            if !cqueue::more(completion.flags) {
                connection.receive_is_over();
            }
            match (lent, usize::try_from(completion.result)) {
                (Some(buffer), Ok(bytes)) if bytes > 0 => {
                    self.received_bytes += bytes as u64;
                    let input = buffers.received(buffer, bytes);
                    if let Err(error) = connection.received(input, port, &mut self.pool) {
                        Counters::add(&self.options.counters.tls_failures, 1);
                        connection.tell_tls_failure(&error);
                    }
                }
                _ => connection.receive_ended(completion.result),
            }
            self.held_bytes = self.held_bytes + connection.held_bytes() - before;
            if connection.has_said() {
                self.said.push(id);
            }
            if self.held_bytes > self.options.held_bytes_max && connection.held_bytes() > 0 {
                tracing::warn!(
                    peer = ?connection.peer(),
                    held_bytes = connection.held_bytes(),
                    "closed: unfinished input of this shard's connections is over the bound"
                );
                Counters::add(&self.options.counters.closed_input, 1);
                self.held_bytes -= connection.held_bytes();
                connection.close();
            }
        }
        if let Some(buffer) = lent {
            buffers.give_back(buffer);
        }
        self.list(id);
    }

    /// Closes those whose clients read nothing, or do not say in time who they are.
    fn sweep(&mut self, port: &mut dyn Port) {
        let now_ns = port.now().mono_ns;
        let Some(at_ns) = self.sweep_at_ns else {
            return;
        };
        if now_ns < at_ns {
            // Another's earlier wake-up may have taken the place of this one's.
            return port.wake_at(at_ns);
        }
        self.sweep_at_ns = None;
        let mut closed = Vec::new();
        let mut next_ns: Option<u64> = None;
        let counters = &self.options.counters;
        for (_, connection) in &mut self.connections {
            let speak_until_ns = connection.speak_until_ns();
            let is_stalled = connection.is_stalled(now_ns);
            let is_silent = speak_until_ns.is_some_and(|until_ns| until_ns <= now_ns);
            if is_stalled {
                tracing::warn!(peer = ?connection.peer(), "closed: the other side has read nothing for too long");
                Counters::add(&counters.closed_unread, 1);
            }
            if is_silent && connection.is_stranger() {
                Counters::add(&counters.closed_strangers, 1);
            }
            if is_stalled || is_silent {
                self.held_bytes -= connection.held_bytes();
                connection.close();
                closed.push(connection.id);
                continue;
            }
            let unread_ns = connection.has_unsent().then_some(u64::MAX);
            next_ns = next_ns
                .into_iter()
                .chain(speak_until_ns)
                .chain(unread_ns)
                .min();
        }
        closed.into_iter().for_each(|id| self.list(id));
        if let Some(at_ns) = next_ns {
            self.sweep_by(at_ns, port);
        }
    }

    fn finish_turn_of(&mut self, id: ConnectionId, ring: &mut Ring, port: &mut dyn Port) {
        let Some(connection) = get(&mut self.connections, id) else {
            return;
        };
        connection.is_listed = false;
        let before = connection.held_bytes();
        connection.finish_turn(ring, port, &mut self.pool);
        self.held_bytes = self.held_bytes + connection.held_bytes() - before;
        if connection.has_said() {
            self.said.push(id);
        }
        if connection.is_over() {
            if connection.is_watched {
                self.over.push(id);
            }
            self.connections.remove(id.slot as usize);
            self.generations[id.slot as usize] = id.successor();
            self.uncount();
        } else if self.sweep_at_ns.is_none() && connection.has_unsent() {
            self.sweep_by(u64::MAX, port);
        }
    }
}

impl Edge for Reactor {
    fn start(&mut self, ring: &mut Ring, port: &mut dyn Port) -> io::Result<()> {
        self.buffers = Some(Buffers::register(ring)?);
        for accepting in &self.listeners {
            operation::widen_backlog(&accepting.listener.socket)?;
        }
        // The first connection goes to the next shard: the one that accepts has work of its own.
        self.deal_to = (port.shard().0 + 1) % port.slices().shards();
        self.arm(ring, port);
        Ok(())
    }

    fn completion(&mut self, completion: Completion, _ring: &mut Ring, port: &mut dyn Port) {
        match Operation::of(completion.own) {
            Some(Operation::Accept(number)) => self.accepted(number, completion, port),
            Some(Operation::Receive(id)) => self.received(id, completion, port),
            Some(Operation::Send(id)) => {
                let now_ns = port.now().mono_ns;
                if let Some(connection) = get(&mut self.connections, id) {
                    let before = connection.held_bytes();
                    let sent = connection.sent(completion.result, now_ns, &mut self.pool);
                    self.held_bytes = self.held_bytes + connection.held_bytes() - before;
                    self.sent_bytes += sent as u64;
                    self.list(id);
                }
            }
            Some(Operation::Connect(id)) => {
                if let Some(connection) = get(&mut self.connections, id) {
                    connection.connected(completion.result);
                    self.list(id);
                }
            }
            Some(Operation::Cancel) | None => {}
        }
    }

    fn message(&mut self, message: EdgeMessage, _ring: &mut Ring, port: &mut dyn Port) {
        if let Ok(accepted) = message.downcast::<Accepted>() {
            self.open(*accepted, port);
        }
    }

    fn reply(&mut self, id: RequestId, outcome: &Outcome, bytes: &[u8], port: &mut dyn Port) {
        let (connection_id, tag) = ConnectionId::of(id);
        if let Some(connection) = get(&mut self.connections, connection_id) {
            let before = connection.held_bytes();
            connection.reply(tag, (outcome, bytes), port, &mut self.pool);
            self.held_bytes = self.held_bytes + connection.held_bytes() - before;
            self.list(connection_id);
        }
    }

    fn flush(&mut self, ring: &mut Ring, port: &mut dyn Port) {
        self.end_unheard();
        self.sweep(port);
        let mut listed = std::mem::take(&mut self.listed);
        for id in listed.drain(..) {
            self.finish_turn_of(id, ring, port);
        }
        self.listed = listed;
        self.arm(ring, port);
        let counters = &self.options.counters;
        Counters::add(
            &counters.received_bytes,
            std::mem::take(&mut self.received_bytes),
        );
        Counters::add(&counters.sent_bytes, std::mem::take(&mut self.sent_bytes));
        if self.is_stopping && self.connections.is_empty() {
            self.release(ring);
        }
    }

    fn stop(&mut self, ring: &mut Ring, port: &mut dyn Port) {
        self.is_stopping = true;
        for (number, accepting) in (0..).zip(&self.listeners) {
            if accepting.is_armed {
                operation::cancel(ring, Operation::Accept(number));
            }
        }
        let mut ids = Vec::new();
        for (_, connection) in &mut self.connections {
            connection.end();
            ids.push(connection.id);
        }
        self.held_bytes = 0;
        ids.into_iter().for_each(|id| self.list(id));
        self.flush(ring, port);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopping
            && self.connections.is_empty()
            && self.listeners.iter().all(|accepting| !accepting.is_armed)
    }
}

impl Reactor {
    fn release(&mut self, ring: &Ring) {
        if let Some(mut buffers) = self.buffers.take()
            && let Err(error) = buffers.unregister(ring)
        {
            tracing::warn!(%error, "the receive buffers could not be taken back; they are leaked");
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // The kernel may still read from the output of connections that were not stopped.
        for connection in self.connections.drain() {
            if connection.has_operations() {
                connection.close_and_leak();
            }
        }
    }
}

pub(super) fn get(connections: &mut Slab<Connection>, id: ConnectionId) -> Option<&mut Connection> {
    connections
        .get_mut(id.slot as usize)
        .filter(|connection| connection.id == id)
}
