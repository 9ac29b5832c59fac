//! One client's connection: its socket, its session, the input that is not used yet and the output that is not sent.
//!
//! Never decides what bytes mean. One receive and one send are under way at most.
//!
//! Invariants:
//! - `sending` is not touched while a send is under way;
//! - a closed connection is kept until its operations have ended, so a slot is never reused under them.
#![expect(
    unsafe_code,
    reason = "the bytes of a send stay in `sending` until its end"
)]

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use gramme_engine::edge::Port;
use gramme_engine::ring::Ring;

use super::operation::{self, Operation};
use super::pool::Pool;
use super::session::{ConnectionId, Io, Session};

/// Output that waits for the client beyond which its input waits too.
const OUT_BYTES_HIGH: usize = 1 << 20;

/// Output that waits for the client beyond which it is closed: answers that were under way came to this.
const OUT_BYTES_MAX: usize = 512 << 20;

/// Input that a connection which must wait may gather before its receive is stopped.
const HELD_BYTES_HIGH: usize = 64 << 10;

/// How far a connection's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    /// Input is taken.
    Open,
    /// The client has ended its input; what it asked for is answered.
    InputEnded,
    /// What is in the output is sent, then it is closed.
    Ending,
    /// The socket is shut; its operations are ending.
    Closed,
}

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    socket: TcpStream,
    session: Box<dyn Session>,
    pub(super) life: Life,

    // Input.
    held: Vec<u8>,
    is_receiving: bool,
    is_cancelling: bool,
    /// It was not given input that is there, or was stopped, and is to be looked at again.
    is_held_back: bool,

    // Output.
    out: Vec<u8>,
    sending: Vec<u8>,
    sent_bytes: usize,
    is_sending: bool,
    /// Since when the client has taken nothing of a send that is under way.
    stalled_since_ns: u64,

    /// Whether it is in the reactor's list for the end of the turn.
    pub(super) is_listed: bool,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, socket: TcpStream, session: Box<dyn Session>) -> Self {
        Self {
            id,
            socket,
            session,
            life: Life::Open,
            held: Vec::new(),
            is_receiving: false,
            is_cancelling: false,
            is_held_back: false,
            out: Vec::new(),
            sending: Vec::new(),
            sent_bytes: 0,
            is_sending: false,
            stalled_since_ns: 0,
            is_listed: false,
        }
    }

    /// Bytes of input that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Whether it is closed and nothing of it is under way.
    pub(super) fn is_over(&self) -> bool {
        self.life == Life::Closed && !self.is_receiving && !self.is_sending
    }

    /// Whether the kernel has something of it.
    pub(super) fn has_operations(&self) -> bool {
        self.is_receiving || self.is_sending
    }

    /// Takes received bytes.
    pub(super) fn received(&mut self, bytes: &[u8], port: &mut dyn Port, pool: &mut Pool) {
        if self.life != Life::Open {
            return;
        }
        if self.must_wait() {
            self.held.extend_from_slice(bytes);
            self.is_held_back = true;
        } else if self.held.is_empty() {
            let used = self.give(bytes, port, pool);
            self.held
                .extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.held.extend_from_slice(bytes);
            self.give_held(port, pool);
        }
    }

    /// The receive has ended with `result`: no bytes came with it.
    pub(super) fn receive_ended(&mut self, result: i32) {
        match -result {
            0 => {
                if self.life == Life::Open {
                    self.life = Life::InputEnded;
                }
            }
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            _ => self.close(),
        }
    }

    /// The kernel will not receive more of itself.
    pub(super) fn receive_is_over(&mut self) {
        self.is_receiving = false;
        self.is_cancelling = false;
    }

    /// An answer for its session.
    pub(super) fn reply(
        &mut self,
        tag: u32,
        (outcome, bytes): (&gramme_core::port::Outcome, &[u8]),
        port: &mut dyn Port,
        pool: &mut Pool,
    ) {
        if self.life == Life::Closed {
            return;
        }
        self.take_buffer(pool);
        let mut io = Io {
            out: &mut self.out,
            port,
            connection: self.id,
            is_ended: false,
        };
        self.session.reply(tag, outcome, bytes, &mut io);
        if io.is_ended {
            self.end();
        }
        if self.out.len() > OUT_BYTES_MAX {
            tracing::warn!(peer = ?self.socket.peer_addr().ok(), "closed: the client asks and does not read");
            self.close();
        }
    }

    /// A send has ended with `result`. Returns the bytes sent.
    pub(super) fn sent(&mut self, result: i32, now_ns: u64, pool: &mut Pool) -> usize {
        self.is_sending = false;
        let Ok(sent) = usize::try_from(result) else {
            if !matches!(-result, libc::EINTR | libc::EAGAIN) {
                self.close();
            }
            return 0;
        };
        self.sent_bytes += sent;
        self.stalled_since_ns = now_ns;
        if self.sent_bytes >= self.sending.len() || self.life == Life::Closed {
            self.sent_bytes = 0;
            pool.give_back(std::mem::take(&mut self.sending));
        }
        sent
    }

    /// Does what the turn has left to do: gives input that waited, sends, receives again, closes.
    pub(super) fn finish_turn(&mut self, ring: &mut Ring, port: &mut dyn Port, pool: &mut Pool) {
        let takes_input = matches!(self.life, Life::Open | Life::InputEnded);
        if takes_input && self.is_held_back && !self.must_wait() {
            self.give_held(port, pool);
        }
        self.send(ring, port.now().mono_ns);
        if self.life == Life::InputEnded && self.session.is_idle() && !self.is_held_back {
            self.end();
        }
        if self.life == Life::Ending && !self.is_sending && self.out.is_empty() {
            self.close();
        }
        if self.life == Life::Open {
            self.receive(ring);
        }
        if self.out.is_empty() && self.out.capacity() > 0 {
            pool.give_back(std::mem::take(&mut self.out));
        }
        if self.held.is_empty() && self.held.capacity() > 0 {
            self.held = Vec::new();
        }
    }

    /// Sends what is there, then closes.
    pub(super) fn end(&mut self) {
        if self.life != Life::Closed {
            self.life = Life::Ending;
            self.held.clear();
            self.is_held_back = false;
        }
    }

    /// Shuts the socket: what is under way ends soon.
    pub(super) fn close(&mut self) {
        if self.life == Life::Closed {
            return;
        }
        self.life = Life::Closed;
        self.held = Vec::new();
        self.out = Vec::new();
        // It may be shut by the client already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Whether the client has taken nothing of its output since `before_ns`.
    pub(super) fn is_stalled_since(&self, before_ns: u64) -> bool {
        self.is_sending && self.stalled_since_ns < before_ns
    }

    /// Whether output waits for the client.
    pub(super) fn has_unsent(&self) -> bool {
        self.is_sending
    }

    /// For the end of a reactor that was not stopped: shuts the socket, and never frees what the kernel may read.
    pub(super) fn close_and_leak(mut self) {
        self.close();
        std::mem::forget(self);
    }

    pub(super) fn peer(&self) -> Option<std::net::SocketAddr> {
        self.socket.peer_addr().ok()
    }

    fn must_wait(&self) -> bool {
        let unsent = self.out.len() + self.sending.len() - self.sent_bytes;
        self.session.is_blocked() || unsent > OUT_BYTES_HIGH
    }

    fn give_held(&mut self, port: &mut dyn Port, pool: &mut Pool) {
        let mut held = std::mem::take(&mut self.held);
        let used = self.give(&held, port, pool);
        if matches!(self.life, Life::Open | Life::InputEnded) {
            held.drain(..used.min(held.len()));
            self.held = held;
        }
    }

    /// Gives the session input; returns how much it used.
    fn give(&mut self, input: &[u8], port: &mut dyn Port, pool: &mut Pool) -> usize {
        self.take_buffer(pool);
        let mut io = Io {
            out: &mut self.out,
            port,
            connection: self.id,
            is_ended: false,
        };
        let used = self.session.received(input, &mut io);
        if io.is_ended {
            self.end();
            return input.len();
        }
        self.is_held_back = self.must_wait();
        used
    }

    fn take_buffer(&mut self, pool: &mut Pool) {
        if self.out.capacity() == 0 {
            self.out = pool.take();
        }
    }

    fn receive(&mut self, ring: &mut Ring) {
        let is_full = self.is_held_back && self.held.len() > HELD_BYTES_HIGH;
        if is_full && self.is_receiving && !self.is_cancelling {
            self.is_cancelling = true;
            operation::cancel(ring, Operation::Receive(self.id));
        } else if !is_full && !self.is_receiving {
            self.is_receiving = true;
            operation::receive(ring, self.id, self.socket.as_raw_fd());
        }
    }

    fn send(&mut self, ring: &mut Ring, now_ns: u64) {
        if self.is_sending || self.life == Life::Closed {
            return;
        }
        if self.sending.is_empty() {
            std::mem::swap(&mut self.sending, &mut self.out);
            self.stalled_since_ns = now_ns;
        }
        let Some(rest @ [_, ..]) = self.sending.get(self.sent_bytes..) else {
            return;
        };
        self.is_sending = true;
        // SAFETY: `sending` is left alone while `is_sending`, and the connection is kept until that ends.
        unsafe { operation::send(ring, self.id, self.socket.as_raw_fd(), rest) };
    }
}
