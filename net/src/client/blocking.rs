//! The client for threads that wait: `std::net`, no runtime.
//!
//! Owns its sockets and one lock around them and the [`Machine`]: clones may be used from any thread, one call or
//! pipeline at a time. Threads that must not wait for each other connect a client each.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::asynchronous::{UPDATE_TRIES_MAX, now, read_of, written_of};
use super::machine::{Action, CallId, LinkId, Machine};
use super::{
    Call, ClientError, ClientOptions, Context, Merge, Outcome, Read, RequestOptions, Written,
};
use crate::tls::{ClientTls, Stream};
use crate::wire::Effect;

/// Calls of a pipeline on their way at once.
const PIPELINE_CALLS_MAX: usize = 256;

/// How long one connection is waited on while others are awaited too.
const LOOK_AROUND_AFTER: Duration = Duration::from_millis(1);

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;

/// A client of a cluster.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Mutex<Inner>>,
    options: RequestOptions,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    connect_timeout: Duration,
    machine: Machine,
    tls: Option<ClientTls>,
    sockets: HashMap<LinkId, Stream>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to any node, `host:port`, and learns the ring from it.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] when nothing answers there.
    pub fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(&[address.to_string()], ClientOptions::default())
    }

    /// Connects to the first of these nodes that answers.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] when none does.
    pub fn connect_with(addresses: &[String], options: ClientOptions) -> Result<Self, ClientError> {
        let mut failures = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            match connect_socket(address, options.connect_timeout, options.tls.as_ref()) {
                Ok(_) => {
                    let mut addresses = addresses.to_vec();
                    addresses.swap(0, index);
                    let inner = Inner {
                        began: Instant::now(),
                        connect_timeout: options.connect_timeout,
                        tls: options.tls.clone(),
                        machine: Machine::new(&addresses, options, fastrand::u64(..)),
                        sockets: HashMap::new(),
                        buffer: Vec::new(),
                    };
                    return Ok(Self {
                        inner: Arc::new(Mutex::new(inner)),
                        options: RequestOptions::default(),
                    });
                }
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        Err(ClientError::Disconnected {
            effect: Effect::NotApplied,
            message: failures.join("; "),
        })
    }

    /// The same connections with other rules for the requests.
    #[must_use]
    pub fn with(&self, options: RequestOptions) -> Self {
        Self {
            inner: self.inner.clone(),
            options,
        }
    }

    /// Reads a key: its concurrent values and what was seen.
    ///
    /// # Errors
    /// [`ClientError`]; the key is unknown then, not absent.
    pub fn get(&self, key: &[u8]) -> Result<Read, ClientError> {
        read_of(self.call(Call::get(key, &self.options))?)
    }

    /// Writes a value, as [`super::Client::put`] does.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::is_in_doubt`] says whether it may have happened.
    pub fn put(
        &self,
        key: &[u8],
        value: &[u8],
        context: Option<&Context>,
    ) -> Result<Written, ClientError> {
        written_of(self.call(Call::put(key, value, context.cloned(), &self.options))?)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// [`ClientError`], as of a put.
    pub fn delete(&self, key: &[u8], context: Option<&Context>) -> Result<Written, ClientError> {
        written_of(self.call(Call::delete(key, context.cloned(), &self.options))?)
    }

    /// Reads, merges what did not see each other, changes it, writes it with the context; again where another writer
    /// came first. `change` may therefore be called several times; it gets `None` where the key has no value.
    ///
    /// # Errors
    /// [`ClientError::Contended`] after 16 tries, else as of a get and a put.
    pub fn update(
        &self,
        key: &[u8],
        merge: &impl Merge,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Written, ClientError> {
        for _ in 0..UPDATE_TRIES_MAX {
            let read = self.get(key)?;
            let value = change(read.merged(merge));
            let call = Call::update(key, &value, &read, &self.options);
            match self.call(call).and_then(written_of) {
                Err(ClientError::Stale { .. }) => {}
                Ok(written) if !written.is_applied => {}
                written => return written,
            }
        }
        Err(ClientError::Contended {
            tries: UPDATE_TRIES_MAX,
        })
    }

    /// One call.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn call(&self, call: Call) -> Result<Outcome, ClientError> {
        self.pipeline([call])
            .pop()
            .unwrap_or_else(|| Err(ClientError::Protocol("a call without an end".into())))
    }

    /// Many calls at once, in any order at the servers; the results in the calls' order.
    pub fn pipeline(
        &self,
        calls: impl IntoIterator<Item = Call>,
    ) -> Vec<Result<Outcome, ClientError>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.run(calls.into_iter())
    }
}

impl Inner {
    fn run(&mut self, mut calls: impl Iterator<Item = Call>) -> Vec<Result<Outcome, ClientError>> {
        let mut results = Vec::new();
        let mut indexes: HashMap<CallId, usize> = HashMap::new();
        let mut is_more = true;
        loop {
            while is_more && indexes.len() < PIPELINE_CALLS_MAX {
                let Some(call) = calls.next() else {
                    is_more = false;
                    break;
                };
                match self.machine.submit(now(self.began), call) {
                    Ok(id) => {
                        indexes.insert(id, results.len());
                        results.push(None);
                    }
                    Err(error) => results.push(Some(Err(error))),
                }
            }
            self.act();
            self.write();
            self.machine.tick(now(self.began));
            while let Some((id, result)) = self.machine.next_done() {
                if let Some(index) = indexes.remove(&id) {
                    results[index] = Some(result);
                }
            }
            if indexes.is_empty() {
                if is_more {
                    continue;
                }
                break;
            }
            self.wait();
        }
        results.into_iter().flatten().collect()
    }

    /// Opens and closes connections as the machine wants.
    fn act(&mut self) {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Connect { link, address } => {
                    match connect_socket(&address, self.connect_timeout, self.tls.as_ref()) {
                        Ok(socket) => {
                            self.sockets.insert(link, socket);
                            self.machine.connected(now(self.began), link);
                        }
                        Err(error) => {
                            self.machine.lost(now(self.began), link, &error.to_string());
                        }
                    }
                }
                Action::Close { link } => {
                    self.sockets.remove(&link);
                }
            }
        }
    }

    fn write(&mut self) {
        let links: Vec<LinkId> = self.machine.links_with_outgoing().collect();
        for link in links {
            self.buffer.clear();
            self.machine.take_outgoing(link, &mut self.buffer);
            let Some(socket) = self.sockets.get_mut(&link) else {
                continue;
            };
            if let Err(error) = socket.write_all(&self.buffer) {
                self.sockets.remove(&link);
                self.machine.lost(now(self.began), link, &error.to_string());
            }
        }
    }

    /// Waits for bytes of a connection with an open call, or for the next deadline.
    fn wait(&mut self) {
        // A tick may have sent a request again: its bytes go first.
        if self.machine.links_with_outgoing().next().is_some() || self.machine.has_actions() {
            return;
        }
        let until_ns = self.machine.next_deadline_ns().unwrap_or(0);
        let wait_ns = until_ns.saturating_sub(now(self.began).mono_ns);
        let wait = Duration::from_nanos(wait_ns).max(Duration::from_micros(50));
        let mut links = self.machine.links_awaited();
        let Some(link) = links.pop() else {
            // A wait for the next try.
            std::thread::sleep(wait);
            return;
        };
        if links.is_empty() {
            return self.read(link, Some(wait));
        }
        // One may be silent: the others are looked at all the same, since a node counts as silent when nothing of it was read.
        self.read(link, Some(wait.min(LOOK_AROUND_AFTER)));
        for link in links {
            self.read(link, None);
        }
    }

    /// Takes what has come on a connection, or comes so soon; without a wait only what is there.
    fn read(&mut self, link: LinkId, wait: Option<Duration>) {
        let Some(socket) = self.sockets.get_mut(&link) else {
            self.machine
                .lost(now(self.began), link, "the connection is closed");
            return;
        };
        let mut buffer = [0; READ_BYTES];
        let prepared = match wait {
            Some(_) => socket.socket().set_read_timeout(wait),
            // The kernel rounds times up to its own tick.
            None => socket.socket().set_nonblocking(true),
        };
        let read = prepared.and_then(|()| socket.read(&mut buffer));
        let read = match wait {
            Some(_) => read,
            None => socket.socket().set_nonblocking(false).and(read),
        };
        let why = match read {
            Ok(0) => "the node closed the connection".to_string(),
            Ok(bytes) => {
                self.machine
                    .received(now(self.began), link, &buffer[..bytes]);
                return;
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => return,
                _ => error.to_string(),
            },
        };
        self.sockets.remove(&link);
        self.machine.lost(now(self.began), link, &why);
    }
}

fn connect_socket(
    address: &str,
    timeout: Duration,
    tls: Option<&ClientTls>,
) -> std::io::Result<Stream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match Stream::connect(&address, timeout, tls) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
#[path = "blocking_tests.rs"]
mod tests;
