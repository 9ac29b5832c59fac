//! A synthetic RESP server whose behaviour is known: the harness (and any other tool) is checked against it.
//!
//! Owns one thread that serves commands in the order of their arrival, each for a fixed time, and that stands still
//! for `stall` in every `every`. Never stores anything: reads find nothing, writes are accepted.
//!
//! A queue with Poisson arrivals in front of it is M/D/1; with a stall, a known share of the requests must be slow.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::load::clock::sharpen_timers;
use crate::target::resp::{line, value_end};

/// How the server behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Time that each command takes, one after the other.
    pub service: Duration,
    /// It stands still for so long …
    pub stall: Duration,
    /// … at the end of every such period; zero for never.
    pub every: Duration,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct StubServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl StubServer {
    /// Starts to serve on `listen` (port 0 for a free one).
    pub fn start(listen: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("stub".to_owned())
            .spawn(move || Loop::new(listener, behaviour)?.run(&told))?;
        Ok(StubServer {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends.
    pub fn wait(mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(io::Error::other("the server's thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for StubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own error was of no use to anybody who drops it.
            let _ = thread.join();
        }
    }
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    out: Vec<u8>,
}

struct Loop {
    listener: TcpListener,
    epoll: OwnedFd,
    peers: Vec<Option<Peer>>,
    behaviour: Behaviour,
    started: Instant,
}

const LISTENER: u64 = u64::MAX;

impl Loop {
    fn new(listener: TcpListener, behaviour: Behaviour) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        Ok(Loop {
            listener,
            epoll,
            peers: Vec::new(),
            behaviour,
            started: Instant::now(),
        })
    }

    fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        sharpen_timers();
        let mut events = vec![
            Event {
                flags: EventFlags::empty(),
                data: EventData::new_u64(0)
            };
            256
        ];
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        while !stop.load(Ordering::Relaxed) {
            let ready = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in events.iter().take(ready) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    number => {
                        let number = number as usize;
                        let alive = self.serve(number).unwrap_or(false);
                        if !alive && let Some(peer) = self.peers.get_mut(number) {
                            *peer = None;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let number = self
                .peers
                .iter()
                .position(Option::is_none)
                .unwrap_or(self.peers.len());
            epoll::add(
                &self.epoll,
                &stream,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )?;
            let peer = Some(Peer {
                stream,
                input: Vec::new(),
                out: Vec::new(),
            });
            match self.peers.get_mut(number) {
                Some(place) => *place = peer,
                None => self.peers.push(peer),
            }
        }
        Ok(())
    }

    /// Serves what a peer has sent; `Ok(false)` when it has gone.
    fn serve(&mut self, number: usize) -> io::Result<bool> {
        let mut chunk = [0; 64 << 10];
        let Some(Some(peer)) = self.peers.get_mut(number) else {
            return Ok(true);
        };
        match peer.stream.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(read) => peer.input.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        let mut at = 0;
        while let Some(bytes) = command_end(&peer.input[at..])? {
            pause(self.behaviour, self.started);
            let reply = reply_to(&peer.input[at..at + bytes]);
            peer.out.extend_from_slice(reply);
            at += bytes;
        }
        peer.input.drain(..at);
        // A peer that does not read is not worth waiting for: replies are a few bytes, and it is let go.
        peer.stream.write_all(&peer.out)?;
        peer.out.clear();
        Ok(true)
    }
}

/// The end of one command: an array of bulk strings, or a line.
fn command_end(input: &[u8]) -> io::Result<Option<usize>> {
    match input.first() {
        None => Ok(None),
        Some(b'*') => value_end(input, 0).map_err(|()| io::Error::other("not a RESP command")),
        Some(_) => Ok(line(input).map(|(_, bytes)| bytes)),
    }
}

fn reply_to(command: &[u8]) -> &'static [u8] {
    let word = if command.starts_with(b"*") {
        command
            .split(|byte| *byte == b'\n')
            .nth(2)
            .unwrap_or_default()
    } else {
        command
            .split(|byte| byte.is_ascii_whitespace())
            .next()
            .unwrap_or_default()
    };
    match word.trim_ascii_end().to_ascii_uppercase().as_slice() {
        b"GET" => b"$-1\r\n",
        b"PING" => b"+PONG\r\n",
        b"DEL" => b":0\r\n",
        b"INFO" => b"$25\r\nserver_name:gramme-stub\r\n\r\n",
        b"CONFIG" | b"COMMAND" => b"*0\r\n",
        b"SCAN" => b"*2\r\n$1\r\n0\r\n*0\r\n",
        b"DYN.OPT" => b"-ERR unknown command\r\n",
        _ => b"+OK\r\n",
    }
}

/// Takes the time that a command takes, and stands still when it is the time for that.
fn pause(behaviour: Behaviour, started: Instant) {
    if !behaviour.every.is_zero() {
        let into_ns = started.elapsed().as_nanos() % behaviour.every.as_nanos();
        let left_ns = (behaviour.every.as_nanos() - into_ns) as u64;
        if left_ns < behaviour.stall.as_nanos() as u64 {
            std::thread::sleep(Duration::from_nanos(left_ns));
        }
    }
    if behaviour.service.is_zero() {
        return;
    }
    const SPIN: Duration = Duration::from_micros(100);
    let until = Instant::now() + behaviour.service;
    if behaviour.service > SPIN * 2 {
        std::thread::sleep(behaviour.service - SPIN);
    }
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_one_or_many_pieces_are_answered_in_order() {
        let server = StubServer::start(
            "127.0.0.1:0".parse().expect("an address"),
            Behaviour::default(),
        )
        .expect("a free port");
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        stream
            .write_all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*3\r\n$3\r\nSE")
            .expect("writable");
        stream
            .write_all(b"T\r\n$1\r\nk\r\n$1\r\nv\r\n")
            .expect("writable");
        let mut reply = [0; 17];
        stream.read_exact(&mut reply).expect("answered");
        assert_eq!(&reply, b"$-1\r\n+PONG\r\n+OK\r\n");
    }

    #[test]
    fn its_own_words_are_well_formed() {
        for command in [
            &b"INFO\r\n"[..],
            b"CONFIG GET x\r\n",
            b"SCAN 0\r\n",
            b"*1\r\n$3\r\nGET\r\n",
            b"DYN.OPT\r\n",
        ] {
            let reply = reply_to(command);
            assert_eq!(value_end(reply, 0), Ok(Some(reply.len())), "{command:?}");
        }
    }
}
