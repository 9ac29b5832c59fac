//! gramme's own protocol, as gramme's own client speaks it.
//!
//! Owns the sockets of one thread's client and the joining of calls and tags. Routing, retries and what an answer means
//! are the client library's: each thread is one client, with a connection to each shard that it has keys for, and all
//! requests of the thread in flight over these.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gramme::client::blocking;
use gramme::client::machine::{Action, CallId, LinkId, Machine};
use gramme::client::{Call, ClientError, ClientOptions, Outcome as CallOutcome, RequestOptions};
use gramme::core::base::time::Now;
use gramme::core::port::Expiry;
use gramme::wire::ErrorCode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::embedded::durability_of;
use super::outcome::{ErrorKind, Outcome};
use super::store::{EmbeddedStore, SessionSource, StoreError, StoreRequest, StoreSession};
use crate::workload::{Durability, Operation, Verb};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 64 << 10;

/// A gramme node, by its native port.
pub struct Native {
    endpoint: String,
    timeout: Duration,
    client: blocking::Client,
}

impl Native {
    /// Connects to `endpoint`; a request may take `timeout`, retries included.
    pub fn connect(endpoint: &str, timeout: Duration) -> Result<Self, StoreError> {
        let client = blocking::Client::connect(endpoint).map_err(|error| {
            StoreError::new(
                "connect",
                format!("{error}; this is gramme's native port, 7400 by default"),
            )
        })?;
        Ok(Native {
            endpoint: endpoint.to_owned(),
            timeout,
            client: client.with(RequestOptions::default().deadline(timeout)),
        })
    }

    fn options(&self, durability: Durability) -> RequestOptions {
        let options = RequestOptions::default().deadline(self.timeout);
        match durability_of(durability) {
            Some(durability) => options.durability(durability),
            None => options,
        }
    }
}

impl EmbeddedStore for Native {
    fn facts(&self) -> Vec<(String, String)> {
        let client = "gramme's own, one connection a thread to each shard".to_owned();
        vec![("client".to_owned(), client)]
    }

    fn can(&self, verb: Verb) -> bool {
        verb != Verb::Scan
    }

    fn get(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), StoreError> {
        let read = self
            .client
            .get(key)
            .map_err(|error| StoreError::new("read", error))?;
        seen(read.latest());
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), StoreError> {
        let client = self.client.with(self.options(durability));
        client
            .put(key, value, None)
            .map(|_| ())
            .map_err(|error| StoreError::new("write", error))
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<(), StoreError> {
        let client = self.client.with(self.options(durability));
        client
            .delete(key, None)
            .map(|_| ())
            .map_err(|error| StoreError::new("delete", error))
    }

    fn scan(&self, _key: &[u8], _keys: u32) -> Result<Option<u32>, StoreError> {
        Ok(None)
    }

    fn load(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        let options = self.options(Durability::Default);
        let calls = pairs
            .iter()
            .map(|(key, value)| Call::put(key, value, None, &options));
        for result in self.client.pipeline(calls) {
            result.map_err(|error| StoreError::new("load", error))?;
        }
        Ok(())
    }
}

impl SessionSource for Native {
    fn session(&self) -> Result<Box<dyn StoreSession + '_>, StoreError> {
        let seeds = [self.endpoint.clone()];
        let options = ClientOptions {
            in_flight_max: 1_000_000,
            ..ClientOptions::default()
        };
        // Random, as std's hashes are: it names the client in write ids.
        let seed = RandomState::new().build_hasher().finish();
        Ok(Box::new(NativeSession {
            native: self,
            began: Instant::now(),
            machine: Machine::new(&seeds, options, seed),
            sockets: Vec::new(),
            asked: HashMap::new(),
            ended_at_once: Vec::new(),
            input: vec![0; READ_BYTES],
            first_error: None,
        }))
    }

    fn store(&self) -> &dyn EmbeddedStore {
        self
    }
}

/// A call in flight.
struct Asked {
    tag: u32,
    key_id: u64,
    /// An update's write that follows its read.
    then_write: Option<Call>,
}

struct Socket {
    link: LinkId,
    stream: TcpStream,
    out: Vec<u8>,
    out_at: usize,
}

/// One thread's client.
struct NativeSession<'a> {
    native: &'a Native,
    began: Instant,
    machine: Machine,
    sockets: Vec<Socket>,
    asked: HashMap<CallId, Asked>,
    ended_at_once: Vec<(u32, Outcome)>,
    input: Vec<u8>,
    first_error: Option<String>,
}

impl NativeSession<'_> {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            mono_ns: self.began.elapsed().as_nanos() as u64,
            wall_ms: wall.map_or(0, |wall| wall.as_millis() as u64),
        }
    }

    fn call(&mut self, call: Call, asked: Asked) {
        match self.machine.submit(self.now(), call) {
            Ok(id) => {
                self.asked.insert(id, asked);
            }
            Err(error) => {
                let outcome = self.failed(&error);
                self.ended_at_once.push((asked.tag, outcome));
            }
        }
    }

    fn failed(&mut self, error: &ClientError) -> Outcome {
        self.first_error.get_or_insert_with(|| error.to_string());
        Outcome::Failed(kind_of(error))
    }

    fn put(&self, request: StoreRequest<'_>) -> Call {
        let StoreRequest {
            operation,
            key,
            value,
        } = request;
        let mut options = self.native.options(operation.durability);
        if operation.ttl_s > 0 {
            let at_ms = self.now().wall_ms + u64::from(operation.ttl_s) * 1000;
            options = options.expiry(Expiry::AtMs(at_ms));
        }
        Call::put(key, value, None, &options)
    }

    /// Opens and closes connections as the client wants.
    fn act(&mut self) {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Connect { link, address } => match connect(&address) {
                    Ok(stream) => {
                        self.sockets.push(Socket {
                            link,
                            stream,
                            out: Vec::new(),
                            out_at: 0,
                        });
                        self.machine.connected(self.now(), link);
                    }
                    Err(error) => self.machine.lost(self.now(), link, &error.to_string()),
                },
                Action::Close { link } => self.sockets.retain(|socket| socket.link != link),
            }
        }
    }

    fn lose(&mut self, link: LinkId, error: &io::Error) {
        self.sockets.retain(|socket| socket.link != link);
        self.machine.lost(self.now(), link, &error.to_string());
    }

    /// Sends what waits; a full socket keeps the rest.
    fn send(&mut self) {
        let mut lost = None;
        for socket in &mut self.sockets {
            self.machine.take_outgoing(socket.link, &mut socket.out);
            if let Err(error) = socket.flush() {
                lost = Some((socket.link, error));
            }
        }
        if let Some((link, error)) = lost {
            self.lose(link, &error);
        }
    }

    /// Waits for something to read (or to write, where a socket was full).
    fn poll(&self, wait: Duration) -> io::Result<usize> {
        let mut watched: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|socket| {
                let blocked = if socket.out.is_empty() {
                    PollFlags::empty()
                } else {
                    PollFlags::OUT
                };
                PollFd::new(&socket.stream, PollFlags::IN | blocked)
            })
            .collect();
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        Ok(poll(&mut watched, Some(&wait))?)
    }

    fn receive(&mut self) {
        let mut lost = Vec::new();
        let now = self.now();
        for socket in &mut self.sockets {
            loop {
                match socket.stream.read(&mut self.input) {
                    Ok(0) => lost.push((socket.link, io::Error::from(IoKind::UnexpectedEof))),
                    Ok(read) => {
                        self.machine.received(now, socket.link, &self.input[..read]);
                        if read == self.input.len() {
                            continue;
                        }
                    }
                    Err(error) if error.kind() == IoKind::Interrupted => continue,
                    Err(error) if error.kind() == IoKind::WouldBlock => {}
                    Err(error) => lost.push((socket.link, error)),
                }
                break;
            }
        }
        for (link, error) in lost {
            self.lose(link, &error);
        }
    }

    /// Reports what has ended; returns whether anything had.
    fn take(&mut self, ended: &mut dyn FnMut(u32, Outcome)) -> bool {
        let mut any = false;
        for (tag, outcome) in self.ended_at_once.drain(..) {
            ended(tag, outcome);
            any = true;
        }
        while let Some((id, result)) = self.machine.next_done() {
            let Some(asked) = self.asked.remove(&id) else {
                continue;
            };
            match (result, asked.then_write) {
                (Ok(_), Some(write)) => {
                    let asked = Asked {
                        then_write: None,
                        ..asked
                    };
                    self.call(write, asked);
                }
                (Ok(CallOutcome::Read(read)), None) => {
                    ended(asked.tag, Outcome::of_read(asked.key_id, read.latest()));
                    any = true;
                }
                (Ok(CallOutcome::Written(_)), None) => {
                    ended(asked.tag, Outcome::Done);
                    any = true;
                }
                (Err(error), _) => {
                    ended(asked.tag, self.failed(&error));
                    any = true;
                }
            }
        }
        any
    }
}

impl StoreSession for NativeSession<'_> {
    fn submit(&mut self, request: StoreRequest<'_>, tag: u32) {
        let Operation { verb, key_id, .. } = *request.operation;
        let mut asked = Asked {
            tag,
            key_id,
            then_write: None,
        };
        let options = self.native.options(request.operation.durability);
        let call = match verb {
            Verb::Read => Call::get(request.key, &options),
            Verb::Update => {
                asked.then_write = Some(self.put(request));
                Call::get(request.key, &options)
            }
            Verb::Write | Verb::Insert => self.put(request),
            Verb::Delete => Call::delete(request.key, None, &options),
            Verb::Scan => {
                let unsupported = Outcome::Failed(ErrorKind::Unsupported);
                self.ended_at_once.push((tag, unsupported));
                return;
            }
        };
        self.call(call, asked);
    }

    fn completions(&mut self, wait: Duration, ended: &mut dyn FnMut(u32, Outcome)) {
        if self.take(ended) || wait.is_zero() {
            // More is about to be asked; it goes out together.
            return;
        }
        self.act();
        self.send();
        let until_ns = self.machine.next_deadline_ns().unwrap_or(u64::MAX);
        let left = Duration::from_nanos(until_ns.saturating_sub(self.now().mono_ns));
        match self.poll(wait.min(left)) {
            Ok(0) => {}
            Ok(_) => self.receive(),
            // A signal; the next look will tell.
            Err(_) => {}
        }
        self.machine.tick(self.now());
        self.take(ended);
        // A retry, or the second half of an update, waits for nobody.
        self.act();
        self.send();
    }

    fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }
}

impl Socket {
    fn flush(&mut self) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.out_at..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(IoKind::WriteZero.into()),
                Ok(written) => self.out_at += written,
                Err(error) if error.kind() == IoKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == IoKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(IoKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn kind_of(error: &ClientError) -> ErrorKind {
    match error {
        ClientError::Server {
            code: ErrorCode::Overloaded,
            ..
        } => ErrorKind::Overloaded,
        ClientError::Deadline { .. } => ErrorKind::Timeout,
        ClientError::Disconnected { .. } => ErrorKind::Connection,
        ClientError::Protocol(_) => ErrorKind::Protocol,
        ClientError::TooManyInFlight => ErrorKind::Capped,
        _ => ErrorKind::Refused,
    }
}
