//! The client on tokio: a handle that is cheap to clone, any number of requests at once.
//!
//! Owns the sockets, one task each, and one task for the clock; what they hear goes to the [`Machine`] under one short
//! lock, so a request costs no task of its own and no hop but the socket's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gramme_core::base::time::Now;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::machine::{Action, CallId, LinkId, Machine};
use super::{
    Call, ClientError, ClientOptions, Context, Merge, Outcome, Read, RequestOptions, Written,
};
use crate::tls::{ClientTls, explained, node_name};
use crate::wire::Effect;

/// Tries of an update before it gives up.
pub(super) const UPDATE_TRIES_MAX: u32 = 16;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;

/// A client of a cluster. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
    options: Arc<RequestOptions>,
}

/// Ends the tasks with the last clone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.links.drain().for_each(|(_, link)| link.end());
        drop(state);
        self.shared.timer.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    connect_timeout: Duration,
    tls: Option<ClientTls>,
    state: Mutex<State>,
    timer: Notify,
}

#[derive(Debug)]
struct State {
    machine: Machine,
    waiters: HashMap<CallId, oneshot::Sender<Result<Outcome, ClientError>>>,
    links: HashMap<LinkId, LinkTask>,
    /// When the timer's task wakes.
    timer_ns: u64,
}

#[derive(Debug)]
struct LinkTask {
    outgoing: Arc<Notify>,
    task: tokio::task::AbortHandle,
}

impl LinkTask {
    fn end(self) {
        self.task.abort();
    }
}

impl Client {
    /// Connects to any node, `host:port`, and learns the ring from it.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] when nothing answers there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(&[address.to_string()], ClientOptions::default()).await
    }

    /// Connects to the first of these nodes that answers.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] when none does.
    pub async fn connect_with(
        addresses: &[String],
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let connect_timeout = options.connect_timeout;
        let tls = options.tls.clone();
        let reachable = first_reachable(addresses, connect_timeout, tls.as_ref()).await?;
        let machine = Machine::new(&reachable, options, fastrand::u64(..));
        let shared = Arc::new(Shared {
            began: Instant::now(),
            connect_timeout,
            tls,
            state: Mutex::new(State {
                machine,
                waiters: HashMap::new(),
                links: HashMap::new(),
                timer_ns: u64::MAX,
            }),
            timer: Notify::new(),
        });
        tokio::spawn(keep_time(Arc::downgrade(&shared)));
        shared.pump(&mut shared.state());
        Ok(Self {
            handle: Arc::new(Handle { shared }),
            options: Arc::new(RequestOptions::default()),
        })
    }

    /// The same connections with other rules for the requests.
    #[must_use]
    pub fn with(&self, options: RequestOptions) -> Self {
        Self {
            handle: self.handle.clone(),
            options: Arc::new(options),
        }
    }

    /// Reads a key: its concurrent values and what was seen.
    ///
    /// # Errors
    /// [`ClientError`]; the key is unknown then, not absent.
    pub async fn get(&self, key: &[u8]) -> Result<Read, ClientError> {
        read_of(self.call(Call::get(key, &self.options)).await?)
    }

    /// Writes a value. With the context of a get it supersedes exactly what that saw; without one the bucket's
    /// `blind_put` rule applies.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::is_in_doubt`] says whether it may have happened.
    pub async fn put(
        &self,
        key: &[u8],
        value: &[u8],
        context: Option<&Context>,
    ) -> Result<Written, ClientError> {
        let call = Call::put(key, value, context.cloned(), &self.options);
        written_of(self.call(call).await?)
    }

    /// Deletes a key, as [`Self::put`] writes it.
    ///
    /// # Errors
    /// [`ClientError`], as of a put.
    pub async fn delete(
        &self,
        key: &[u8],
        context: Option<&Context>,
    ) -> Result<Written, ClientError> {
        let call = Call::delete(key, context.cloned(), &self.options);
        written_of(self.call(call).await?)
    }

    /// Reads, merges what did not see each other, changes it, writes it with the context; again where another writer
    /// came first. `change` may therefore be called several times; it gets `None` where the key has no value.
    ///
    /// # Errors
    /// [`ClientError::Contended`] after 16 tries, else as of a get and a put.
    pub async fn update(
        &self,
        key: &[u8],
        merge: &impl Merge,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Written, ClientError> {
        for _ in 0..UPDATE_TRIES_MAX {
            let read = self.get(key).await?;
            let value = change(read.merged(merge));
            let call = Call::update(key, &value, &read, &self.options);
            match self.call(call).await.and_then(written_of) {
                Err(ClientError::Stale { .. }) => {}
                Ok(written) if !written.is_applied => {}
                written => return written,
            }
        }
        Err(ClientError::Contended {
            tries: UPDATE_TRIES_MAX,
        })
    }

    /// Any call. Dropping the future leaves a write that was sent in doubt.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(&self, call: Call) -> Result<Outcome, ClientError> {
        let shared = &self.handle.shared;
        let receiver = {
            let mut state = shared.state();
            let id = state.machine.submit(shared.now(), call)?;
            let (sender, receiver) = oneshot::channel();
            state.waiters.insert(id, sender);
            shared.pump(&mut state);
            receiver
        };
        receiver.await.unwrap_or_else(|_| {
            Err(ClientError::Disconnected {
                effect: Effect::InDoubt,
                message: "the client was closed".into(),
            })
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        now(self.began)
    }

    /// Carries out what the machine wants after an input.
    fn pump(self: &Arc<Self>, state: &mut State) {
        while let Some(action) = state.machine.next_action() {
            match action {
                Action::Connect { link, address } => {
                    let outgoing = Arc::new(Notify::new());
                    let task = run_link(self.clone(), link, address, outgoing.clone());
                    let task = tokio::spawn(task).abort_handle();
                    state.links.insert(link, LinkTask { outgoing, task });
                }
                Action::Close { link } => {
                    if let Some(link) = state.links.remove(&link) {
                        link.end();
                    }
                }
            }
        }
        for link in state.machine.links_with_outgoing() {
            if let Some(task) = state.links.get(&link) {
                task.outgoing.notify_one();
            }
        }
        while let Some((id, result)) = state.machine.next_done() {
            if let Some(waiter) = state.waiters.remove(&id) {
                // A caller that has gone does not want to know.
                let _ = waiter.send(result);
            }
        }
        if let Some(next_ns) = state.machine.next_deadline_ns()
            && next_ns < state.timer_ns
        {
            state.timer_ns = next_ns;
            self.timer.notify_one();
        }
    }
}

/// A connection to a node.
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection from its beginning to its end.
async fn run_link(shared: Arc<Shared>, link: LinkId, address: String, outgoing: Arc<Notify>) {
    let socket = connect_socket(&address, shared.connect_timeout, shared.tls.as_ref()).await;
    let why = match socket {
        Ok(Socket::Plain(stream)) => {
            let (reader, writer) = stream.into_split();
            speak(&shared, link, (reader, writer), &outgoing).await
        }
        Ok(Socket::Tls(stream)) => {
            let halves = tokio::io::split(*stream);
            speak(&shared, link, halves, &outgoing).await
        }
        Err(error) => error,
    };
    let mut state = shared.state();
    state.links.remove(&link);
    state.machine.lost(shared.now(), link, &why.to_string());
    shared.pump(&mut state);
}

/// Carries bytes both ways until one of them ends.
async fn speak(
    shared: &Arc<Shared>,
    link: LinkId,
    (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    outgoing: &Notify,
) -> std::io::Error {
    {
        let mut state = shared.state();
        state.machine.connected(shared.now(), link);
        shared.pump(&mut state);
    }
    tokio::select! {
        error = read_all(shared, link, reader) => error,
        error = write_all(shared, link, writer, outgoing) => error,
    }
}

async fn read_all(
    shared: &Arc<Shared>,
    link: LinkId,
    mut reader: impl AsyncRead + Unpin,
) -> std::io::Error {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return std::io::Error::other("the node closed the connection"),
            Ok(bytes) => {
                let mut state = shared.state();
                state.machine.received(shared.now(), link, &buffer[..bytes]);
                shared.pump(&mut state);
            }
            Err(error) => return error,
        }
    }
}

async fn write_all(
    shared: &Arc<Shared>,
    link: LinkId,
    mut writer: impl AsyncWrite + Unpin,
    outgoing: &Notify,
) -> std::io::Error {
    let mut buffer = Vec::new();
    loop {
        while shared.state().machine.take_outgoing(link, &mut buffer) {
            if let Err(error) = writer.write_all(&buffer).await {
                return error;
            }
            buffer.clear();
        }
        // TLS may keep what the socket did not take.
        if let Err(error) = writer.flush().await {
            return error;
        }
        outgoing.notified().await;
    }
}

/// Ticks the machine until the client is gone.
async fn keep_time(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let wait_ns = {
            let mut state = strong.state();
            let now = strong.now();
            state.machine.tick(now);
            // As if it were awake already: the pump must not wake this very task, which looks for itself.
            state.timer_ns = 0;
            strong.pump(&mut state);
            state.timer_ns = state.machine.next_deadline_ns().unwrap_or(u64::MAX);
            state.timer_ns.saturating_sub(now.mono_ns)
        };
        // A second at most, so that a client that was dropped meanwhile is noticed.
        let wait =
            Duration::from_nanos(wait_ns).clamp(Duration::from_micros(100), Duration::from_secs(1));
        let _ = tokio::time::timeout(wait, strong.timer.notified()).await;
        drop(strong);
    }
}

/// The addresses, the first that answers in front.
async fn first_reachable(
    addresses: &[String],
    timeout: Duration,
    tls: Option<&ClientTls>,
) -> Result<Vec<String>, ClientError> {
    let mut failures = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        match connect_socket(address, timeout, tls).await {
            Ok(_) => {
                let mut addresses = addresses.to_vec();
                addresses.swap(0, index);
                return Ok(addresses);
            }
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(ClientError::Disconnected {
        effect: Effect::NotApplied,
        message: failures.join("; "),
    })
}

async fn connect_socket(
    address: &str,
    timeout: Duration,
    tls: Option<&ClientTls>,
) -> std::io::Result<Socket> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = tls else {
            return Ok(Socket::Plain(stream));
        };
        let connector = TlsConnector::from(tls.config());
        let stream = connector.connect(node_name(), stream).await;
        Ok(Socket::Tls(Box::new(stream.map_err(explained)?)))
    };
    tokio::time::timeout(timeout, connect)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

pub(super) fn now(began: Instant) -> Now {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        mono_ns: u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) fn read_of(outcome: Outcome) -> Result<Read, ClientError> {
    match outcome {
        Outcome::Read(read) => Ok(read),
        Outcome::Written(_) => Err(ClientError::Protocol("a write's answer to a get".into())),
    }
}

pub(super) fn written_of(outcome: Outcome) -> Result<Written, ClientError> {
    match outcome {
        Outcome::Written(written) => Ok(written),
        Outcome::Read(_) => Err(ClientError::Protocol("a get's answer to a write".into())),
    }
}
