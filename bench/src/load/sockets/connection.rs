//! One connection to a server: bytes out, replies in, what was asked between.
//!
//! Owns its socket and buffers. Never decides when to send and never records: the loop in `sockets` does.
//!
//! Invariants: replies come in the order of requests; a connection that failed answers every open request with that
//! failure, none is forgotten.

use std::collections::VecDeque;
use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::target::wire::Step;
use crate::workload::Operation;

/// A request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) operation: Operation,
    pub(super) step: Step,
    pub(super) intended_ns: u64,
    pub(super) free_ns: u64,
    pub(super) sent_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Connecting, not writable yet.
    Connecting,
    /// Usable.
    Up,
    /// Failed; to be tried again at this time.
    Down { retry_ns: u64 },
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Option<TcpStream>,
    pub(super) state: State,
    /// Replies of the greeting that are still to come.
    pub(super) greeting_left: usize,
    pub(super) asked: VecDeque<Asked>,
    /// Since when it could take a request.
    pub(super) free_ns: u64,
    /// Whether it stands in the loop's queue of connections that can take a request.
    pub(super) queued: bool,
    /// Whether its socket's buffer was full.
    pub(super) blocked: bool,
    pub(super) out: Vec<u8>,
    out_at: usize,
    input: Vec<u8>,
    input_from: usize,
    input_to: usize,
}

const INPUT_BYTES: usize = 16 << 10;

impl Connection {
    pub(super) fn new(stream: TcpStream, depth: usize) -> Self {
        Connection {
            stream: Some(stream),
            state: State::Up,
            greeting_left: 0,
            asked: VecDeque::with_capacity(depth),
            free_ns: 0,
            queued: false,
            blocked: false,
            out: Vec::with_capacity(4096),
            out_at: 0,
            input: vec![0; INPUT_BYTES],
            input_from: 0,
            input_to: 0,
        }
    }

    /// Writes what is waiting; `Ok(false)` when the socket took only a part.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else {
            return Ok(true);
        };
        while self.out_at < self.out.len() {
            match stream.write(&self.out[self.out_at..]) {
                Ok(0) => return Err(IoKind::WriteZero.into()),
                Ok(written) => self.out_at += written,
                Err(error) if error.kind() == IoKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == IoKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(true)
    }

    /// Reads once what has come; `Ok(0)` when nothing had.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        if self.input_from == self.input_to {
            (self.input_from, self.input_to) = (0, 0);
        } else if self.input_to == self.input.len() {
            self.input.copy_within(self.input_from..self.input_to, 0);
            (self.input_from, self.input_to) = (0, self.input_to - self.input_from);
            if self.input_to * 2 > self.input.len() {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        let Some(stream) = &mut self.stream else {
            return Ok(0);
        };
        match stream.read(&mut self.input[self.input_to..]) {
            Ok(0) => Err(IoKind::UnexpectedEof.into()),
            Ok(read) => {
                self.input_to += read;
                Ok(read)
            }
            Err(error) if matches!(error.kind(), IoKind::WouldBlock | IoKind::Interrupted) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// What was read and not consumed.
    pub(super) fn unread(&self) -> &[u8] {
        &self.input[self.input_from..self.input_to]
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.input_from += bytes;
    }

    /// Lets the socket go and forgets half-read and half-written bytes.
    pub(super) fn close(&mut self, retry_ns: u64) {
        self.stream = None;
        self.state = State::Down { retry_ns };
        self.greeting_left = 0;
        self.blocked = false;
        self.out.clear();
        self.out_at = 0;
        (self.input_from, self.input_to) = (0, 0);
    }
}

/// Begins to connect without blocking.
pub(super) fn connect_start(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}
