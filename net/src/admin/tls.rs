//! The admin server's connections with TLS.
//!
//! Owns the handshakes: a task each, so that one that does not go on keeps nobody else waiting; so many at once, each
//! so long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::reactor::session::STRANGER_NS_MAX;

/// Handshakes at once; who comes then waits for one of them to end.
const HANDSHAKES_MAX: usize = 64;

/// Connections whose handshake is over, as axum takes them.
pub(super) struct TlsListener {
    address: io::Result<SocketAddr>,
    greeted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    /// Accepts on this socket from now on, in a task that ends with the listener.
    pub(super) fn new(socket: TcpListener, config: Arc<ServerConfig>) -> Self {
        let (sender, greeted) = mpsc::channel(HANDSHAKES_MAX);
        let address = socket.local_addr();
        tokio::spawn(accept_all(socket, config.into(), sender));
        Self { address, greeted }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.greeted.recv().await {
            Some(greeted) => greeted,
            // The task that accepts ends only after this.
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
    acceptor: TlsAcceptor,
    greeted: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        // axum's own way to accept: it rests after a failure.
        let (stream, peer) = Listener::accept(&mut socket).await;
        let (acceptor, greeted) = (acceptor.clone(), greeted.clone());
        tokio::spawn(async move {
            let within = Duration::from_nanos(STRANGER_NS_MAX);
            let handshake = tokio::time::timeout(within, acceptor.accept(stream)).await;
            drop(permit);
            match handshake {
                Ok(Ok(stream)) => {
                    // The server may have stopped.
                    let _ = greeted.send((stream, peer)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, "an admin connection ends: {error}"),
                Err(_) => {
                    tracing::debug!(%peer, "an admin connection ends: its handshake takes too long")
                }
            }
        });
    }
}
