//! One connection, of a client or between nodes: its socket, its session, the input that is not used yet and the output that is not sent.
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

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use gramme_engine::edge::Port;
use gramme_engine::ring::Ring;

use super::connect::Connect;
use super::operation::{self, Operation};
use super::pool::Pool;
use super::session::{ConnectionId, Io, Session};
use super::tls::{Input, Tls};

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
    pub(super) socket: TcpStream,
    session: Box<dyn Session>,
    tls: Option<Box<Tls>>,
    pub(super) life: Life,
    pub(super) connect: Connect,
    /// What its session said, until it is taken.
    said: Option<Box<dyn Any>>,
    /// No input is given until it is resumed.
    is_paused: bool,
    /// Until when its session must have said something.
    speak_until_ns: Option<u64>,
    /// Until when it must be known who the other side is.
    known_until_ns: Option<u64>,
    /// Whether the reactor's owner is told of its end.
    pub(super) is_watched: bool,

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
            tls: None,
            life: Life::Open,
            connect: Connect::Done,
            said: None,
            is_paused: false,
            speak_until_ns: None,
            known_until_ns: None,
            is_watched: false,
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

    /// The same, and its bytes are sealed.
    pub(super) fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls.map(Box::new);
        self
    }

    /// Closes it at this time, unless it was resumed by then.
    pub(super) const fn must_speak_until(&mut self, at_ns: u64) {
        self.speak_until_ns = Some(at_ns);
    }

    /// Closes it at this time, unless it is known by then who the other side is.
    pub(super) const fn must_be_known_until(&mut self, at_ns: u64) {
        self.known_until_ns = Some(at_ns);
    }

    /// Whether it is not known yet who the other side is: before the handshake's end, or the password.
    pub(super) fn is_stranger(&self) -> bool {
        self.is_handshaking() || self.session.is_stranger()
    }

    /// Whether the other side has shown a node's certificate.
    pub(super) fn is_with_node(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_with_node())
    }

    /// Until when its session must have said something, or the other side be known.
    pub(super) fn speak_until_ns(&self) -> Option<u64> {
        if self.life == Life::Closed {
            return None;
        }
        let known_until_ns = self.known_until_ns.filter(|_| self.is_stranger());
        self.speak_until_ns.into_iter().chain(known_until_ns).min()
    }

    /// What its session said.
    pub(super) fn take_said(&mut self) -> Option<Box<dyn Any>> {
        self.said.take()
    }

    /// Whether its session said something that was not taken.
    pub(super) const fn has_said(&self) -> bool {
        self.said.is_some()
    }

    /// Goes on with another session, which gets what input is there.
    pub(super) fn resume(&mut self, session: Box<dyn Session>) {
        self.session = session;
        self.is_paused = false;
        self.speak_until_ns = None;
        self.is_held_back = true;
        self.is_watched = true;
    }

    /// Output that the other side has not taken.
    pub(super) fn unsent_bytes(&self) -> usize {
        let unsealed_bytes = self.tls.as_ref().map_or(0, |tls| tls.unsealed_bytes());
        self.out.len() + unsealed_bytes + self.sending.len() - self.sent_bytes
    }

    /// Where output is appended; none when the connection takes no more.
    pub(super) fn output(&mut self, pool: &mut Pool) -> Option<&mut Vec<u8>> {
        if !matches!(self.life, Life::Open | Life::InputEnded) {
            return None;
        }
        self.take_buffer(pool);
        Some(&mut self.out)
    }

    /// Bytes of input that it holds, a handshake's among them; none once it ends.
    pub(super) fn held_bytes(&self) -> usize {
        let tls = self.tls.as_ref().filter(|_| self.life == Life::Open);
        self.held.len() + tls.map_or(0, |tls| tls.handshake_bytes())
    }

    /// Whether it is closed and nothing of it is under way.
    pub(super) fn is_over(&self) -> bool {
        self.life == Life::Closed && !self.has_operations()
    }

    /// Whether the kernel has something of it.
    pub(super) fn has_operations(&self) -> bool {
        self.is_receiving || self.is_sending || matches!(self.connect, Connect::UnderWay { .. })
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// They are not as TLS has them; the connection ends.
    pub(super) fn received(
        &mut self,
        bytes: &[u8],
        port: &mut dyn Port,
        pool: &mut Pool,
    ) -> Result<(), rustls::Error> {
        if self.life != Life::Open {
            return Ok(());
        }
        let Some(tls) = &mut self.tls else {
            self.take(bytes, port, pool);
            return Ok(());
        };
        let mut opened = pool.take();
        let came_to = tls.open(bytes, &mut opened);
        if !opened.is_empty() {
            self.take(&opened, port, pool);
        }
        pool.give_back(opened);
        match came_to {
            Ok(Input::Open) => {}
            Ok(Input::Ended) => self.receive_ended(0),
            Err(error) => {
                self.break_off(pool);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes input, opened where there is TLS.
    fn take(&mut self, bytes: &[u8], port: &mut dyn Port, pool: &mut Pool) {
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
            said: None,
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
        if !self.connect(ring) {
            return;
        }
        let takes_input = matches!(self.life, Life::Open | Life::InputEnded);
        if takes_input && self.is_held_back && !self.must_wait() {
            self.give_held(port, pool);
        }
        self.send(ring, port.now().mono_ns, pool);
        if self.life == Life::InputEnded && self.session.is_idle() && !self.is_held_back {
            self.end();
        }
        if self.life == Life::Ending && !self.is_sending && !self.has_output() {
            if self.tls.as_mut().is_some_and(|tls| tls.end()) {
                self.send(ring, port.now().mono_ns, pool);
            }
            if !self.is_sending {
                self.close();
            }
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
        if !self.is_connected() || self.is_handshaking() {
            return self.close();
        }
        if self.life != Life::Closed {
            self.life = Life::Ending;
            self.held.clear();
            self.is_held_back = false;
        }
    }

    /// Says why its TLS is broken: loudly where this side has opened it, since somebody waits for that node; whoever comes
    /// from outside may send what it likes.
    pub(super) fn tell_tls_failure(&self, error: &rustls::Error) {
        let peer = self.peer();
        if self.is_watched {
            tracing::warn!(?peer, "a node is not spoken with over TLS: {error}");
        } else {
            tracing::debug!(?peer, "a connection ends: {error}");
        }
    }

    /// Ends it since its TLS is broken: only what TLS has to say of that is sent.
    fn break_off(&mut self, pool: &mut Pool) {
        if self.life == Life::Closed {
            return;
        }
        self.life = Life::Ending;
        self.held.clear();
        self.is_held_back = false;
        self.out.clear();
        if let Some(tls) = &mut self.tls {
            tls.drop_plain(pool);
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
        self.tls = None;
        // It may be shut by the client already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Whether the other side has taken nothing of its output for too long.
    pub(super) fn is_stalled(&self, now_ns: u64) -> bool {
        self.is_sending && now_ns.saturating_sub(self.stalled_since_ns) > self.session.patience_ns()
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

    pub(super) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn peer(&self) -> Option<std::net::SocketAddr> {
        self.socket.peer_addr().ok()
    }

    fn must_wait(&self) -> bool {
        let is_behind = self.unsent_bytes() > OUT_BYTES_HIGH && !self.session.is_always_reading();
        self.is_paused || self.session.is_blocked() || is_behind
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
            said: None,
        };
        let used = self.session.received(input, &mut io);
        if self.known_until_ns.is_some() && !self.session.is_stranger() {
            self.known_until_ns = None;
        }
        if let Some(said) = io.said {
            self.said = Some(said);
            self.is_paused = true;
        }
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

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn has_output(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.map_or(!self.out.is_empty(), |tls| tls.has_output(&self.out))
    }

    fn send(&mut self, ring: &mut Ring, now_ns: u64, pool: &mut Pool) {
        if self.is_sending || self.life == Life::Closed {
            return;
        }
        if self.sending.is_empty() {
            match &mut self.tls {
                None => std::mem::swap(&mut self.sending, &mut self.out),
                Some(tls) => {
                    if let Err(error) = tls.seal(&mut self.out, &mut self.sending, pool) {
                        tracing::warn!(peer = ?self.peer(), %error, "closed: its output cannot be sealed");
                        return self.close();
                    }
                }
            }
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
