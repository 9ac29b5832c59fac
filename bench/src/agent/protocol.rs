//! The words between judge and agent.
//!
//! Owns their form and their bounds. Never waits for ever: every read has a timeout set by its caller.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::load::plan::LoadPlan;
use crate::load::window::Window;
use crate::record::host::HostFacts;
use crate::workload::Workload;

/// Both sides must speak the same version.
pub const VERSION: u32 = 1;
/// A longer line is refused: a window of a million distinct values is far shorter.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What the judge asks for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// `VERSION`.
    pub version: u32,
    /// The secret that both were given, if any.
    pub token: Option<String>,
    /// The target's address.
    pub target: String,
    /// The workload.
    pub workload: Workload,
    /// The plan, with this agent's share.
    pub plan: LoadPlan,
}

/// What an agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Connected to the target, waiting for the start.
    Ready(HostFacts),
    /// One window has ended.
    Window(Box<Window>),
    /// The run has ended; the first error in the target's words.
    Done(Option<String>),
    /// It cannot be done.
    Failed(String),
}

/// The start.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Now.
    Go,
}

/// One side of a conversation.
#[derive(Debug)]
pub struct Line {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Line {
    /// Over a connection.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Line {
            writer: stream.try_clone()?,
            reader: BufReader::new(stream),
        })
    }

    /// The connection, for its timeouts.
    pub fn stream(&self) -> &TcpStream {
        &self.writer
    }

    /// Says something.
    pub fn say<T: Serialize>(&mut self, word: &T) -> io::Result<()> {
        let mut text = serde_json::to_string(word)?;
        text.push('\n');
        self.writer.write_all(text.as_bytes())
    }

    /// Hears something.
    pub fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut text = String::new();
        let read = (&mut self.reader)
            .take(LINE_BYTES_MAX)
            .read_line(&mut text)?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other side closed the connection",
            ));
        }
        if !text.ends_with('\n') {
            return Err(io::Error::other("a line was cut short or is too long"));
        }
        serde_json::from_str(&text)
            .map_err(|error| io::Error::other(format!("not understood: {error}")))
    }
}
