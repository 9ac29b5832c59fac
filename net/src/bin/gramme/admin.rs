//! Asking a node's admin port.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use gramme::tls::{ClientTls, Stream};

/// How long a node may take to answer, each time it is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// A longer answer is cut.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What a node says under a path: the answer's body, whatever its status.
///
/// # Errors
/// It cannot be reached, is silent for too long, or says what is no text.
pub(crate) fn get(address: SocketAddr, path: &str, tls: Option<&ClientTls>) -> io::Result<String> {
    let mut stream = Stream::connect(&address, PATIENCE, tls)?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(body.to_owned())
}
