//! A connection of a thread that waits, with TLS or without.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use super::{ClientTls, node_name};

/// A connection to a node.
#[derive(Debug)]
pub enum Stream {
    /// Whoever is between can read it.
    Plain(TcpStream),
    /// Nobody else can, and the other side is a node.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects, and makes sure that the other side is a node, where there is TLS; each step within `timeout`.
    ///
    /// # Errors
    /// Nothing answers there, or it is no node of the cluster.
    pub fn connect(
        address: &SocketAddr,
        timeout: Duration,
        tls: Option<&ClientTls>,
    ) -> io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(address, timeout)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        let Some(tls) = tls else {
            return Ok(Self::Plain(socket));
        };
        let connection = ClientConnection::new(tls.config(), node_name());
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(explained)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// What carries it; for its options.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

/// A failed handshake, for people.
pub(crate) fn explained(error: io::Error) -> io::Error {
    let is_tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = match is_tls {
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("TLS: {error} (does that port speak TLS?)")
        }
        Some(_) => format!("TLS: {error}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "TLS: the other side closed during the handshake (does that port speak TLS?)".into()
        }
        None => return error,
    };
    io::Error::new(error.kind(), text)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
