//! The admin server's connections, with TLS or without.
//!
//! Owns their bounds: how many there are, and how long one may be idle, a handshake's time among it. Each is greeted in a
//! task of its own, so that one that does not go on keeps nobody else waiting.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;

use crate::reactor::session::STRANGER_NS_MAX;

/// Connections at once; who comes then waits for one of them to end.
const CONNECTIONS_MAX: usize = 256;

/// How long nothing may be read or written: longer than it takes to the next scrape.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// How long the first bytes may take to come, or a handshake.
const FIRST_MAX: Duration = Duration::from_nanos(STRANGER_NS_MAX);

/// What is accepted on a socket, as axum takes it.
pub(super) struct Connections {
    address: io::Result<SocketAddr>,
    greeted: mpsc::Receiver<(Connection, SocketAddr)>,
}

impl Connections {
    /// Accepts on this socket from now on, in a task.
    pub(super) fn new(socket: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        let (sender, greeted) = mpsc::channel(CONNECTIONS_MAX);
        let address = socket.local_addr();
        tokio::spawn(accept_all(socket, tls.map(TlsAcceptor::from), sender));
        Self { address, greeted }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.greeted.recv().await {
            Some(greeted) => greeted,
            // The task that accepts ends with the server only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let failed = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        self.address.as_ref().copied().map_err(failed)
    }
}

async fn accept_all(
    mut socket: TcpListener,
    tls: Option<TlsAcceptor>,
    greeted: mpsc::Sender<(Connection, SocketAddr)>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        // axum's own way to accept: it rests after a failure.
        let (stream, peer) = Listener::accept(&mut socket).await;
        let (tls, greeted) = (tls.clone(), greeted.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(FIRST_MAX, greet(stream, tls)).await {
                Ok(Ok(stream)) => {
                    // The server may have stopped.
                    let _ = greeted.send((Connection::new(stream, permit), peer)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, "an admin connection ends: {error}"),
                Err(_) => tracing::debug!(%peer, "an admin connection ends: it says nothing"),
            }
        });
    }
}

/// Waits until it is known that the other side wants something.
async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Stream>> {
    match tls {
        Some(tls) => Ok(Box::new(tls.accept(stream).await?)),
        None => {
            stream.peek(&mut [0]).await?;
            Ok(Box::new(stream))
        }
    }
}

/// What carries HTTP.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection, which ends when it is idle for too long.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    idle: Pin<Box<Sleep>>,
    /// Others wait for its place.
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Box<dyn Stream>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            idle: Box::pin(sleep(IDLE_MAX)),
            _permit: permit,
        }
    }

    /// What came of a try: it was not idle, or is, or has been for too long.
    fn tried<T>(
        &mut self,
        tried: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
            return tried;
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.tried(tried, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.tried(tried, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_flush(cx);
        this.tried(tried, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.tried(tried, cx)
    }
}
