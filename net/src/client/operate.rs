//! One operator's command to one node, JSON both ways: no routing, no retry, since whoever asks names the node.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::ToSocketAddrs as _;
use std::time::{Duration, Instant};

use crate::tls::{ClientTls, Stream, hint};
use crate::wire::{self, Message, Parse};

/// Why a command has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperateError {
    /// Nothing listens there. Nothing happened.
    Unreachable {
        /// The address.
        node: String,
        /// What the system says.
        error: io::Error,
    },
    /// The connection ended, or the answer did not come in time. The command may have been carried out: look with
    /// `status`; every command may be given again.
    Lost(io::Error),
    /// The node refused the command. Nothing happened.
    Refused(String),
    /// The answer is not of this protocol.
    Strange(String),
}

impl fmt::Display for OperateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { node, error } => write!(f, "cannot reach {node}: {error}"),
            Self::Lost(error) => write!(
                f,
                "the node did not answer ({error}); look at its status, and give the command again"
            ),
            Self::Refused(what) => write!(f, "the node refused: {what}"),
            Self::Strange(what) => write!(f, "the node's answer is not of this protocol: {what}"),
        }
    }
}

impl std::error::Error for OperateError {}

/// Has the node at this address (`HOST:PORT` of its native port) carry out a command, over TLS where
/// there is one; returns its answer.
///
/// # Errors
/// [`OperateError`]; an answer that says that the command was refused is no error here.
pub fn operate(
    node: &str,
    command: &[u8],
    wait: Duration,
    tls: Option<&ClientTls>,
) -> Result<Vec<u8>, OperateError> {
    let until = Instant::now() + wait;
    let mut socket = connect(node, wait, tls).map_err(|error| OperateError::Unreachable {
        node: node.to_owned(),
        error,
    })?;
    let mut frame = Vec::new();
    wire::encode(&mut frame, 1, true, &Message::Operate(command));
    socket.write_all(&frame).map_err(OperateError::Lost)?;
    let mut received = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match wire::parse(&received) {
            Parse::Done(frame) => {
                return match frame.message {
                    Message::Report(answer) => Ok(answer.to_vec()),
                    Message::Error(problem) => {
                        Err(OperateError::Refused(problem.message.to_owned()))
                    }
                    _ => Err(OperateError::Strange("another frame than asked for".into())),
                };
            }
            Parse::NeedMore(_) => {}
            Parse::Unknown(frame) => return Err(OperateError::Strange(frame.why.to_string())),
            Parse::Bad(error) => return Err(OperateError::Strange(error.to_string())),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(OperateError::Lost(io::ErrorKind::TimedOut.into()));
        }
        socket
            .socket()
            .set_read_timeout(Some(left))
            .map_err(OperateError::Lost)?;
        match socket.read(&mut buffer).map_err(OperateError::Lost)? {
            0 => {
                let why = format!("it closed the connection{}", hint(&received));
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, why);
                return Err(OperateError::Lost(error));
            }
            read => received.extend_from_slice(&buffer[..read]),
        }
    }
}

fn connect(node: &str, wait: Duration, tls: Option<&ClientTls>) -> io::Result<Stream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in node.to_socket_addrs()? {
        match Stream::connect(&address, wait, tls) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
