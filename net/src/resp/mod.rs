//! RESP: what makes every Redis client a client of gramme.
//!
//! Owns one connection's state: the version that it speaks, its bucket and options, the commands that wait. Decides
//! nothing about versions or durability: commands become requests, outcomes become answers.
//!
//! # Layout
//! - `parse`, `encode`: bytes to words and back;
//! - `words`: counts, numbers, times, patterns;
//! - `pending`: answers in the order of their commands;
//! - `command`: from outcomes to answers;
//! - `keys`, `server`: the commands.

mod command;
mod encode;
mod keys;
pub mod parse;
mod pending;
mod server;
mod words;

use std::ops::Range;

use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_core::port::{Durability, Outcome};

use crate::reactor::session::{Io, Protocol, Session};
use command::{Style, Wanted, take};
use encode::{Version, error};
use parse::{Parse, parse};
use pending::PendingAnswers;
use words::Words;

/// All commands that are there.
pub const COMMANDS: &[&str] = &[
    "PING",
    "ECHO",
    "HELLO",
    "AUTH",
    "SELECT",
    "CLIENT",
    "QUIT",
    "RESET",
    "COMMAND",
    "INFO",
    "CONFIG",
    "DBSIZE",
    "GET",
    "SET",
    "GETDEL",
    "GETEX",
    "MGET",
    "MSET",
    "DEL",
    "UNLINK",
    "EXISTS",
    "STRLEN",
    "TTL",
    "PTTL",
    "EXPIRE",
    "PEXPIRE",
    "PERSIST",
    "TYPE",
    "SCAN",
    "DYN.GET",
    "DYN.PUT",
    "DYN.DEL",
    "DYN.BUCKET",
    "DYN.OPT",
];

/// Commands that may wait at once.
const WAITING_MAX: usize = 1024;
/// A connection's output beyond which it is given no more of its own commands in one go.
const OUT_BYTES_MAX: usize = 4 << 20;
/// Room for words that a connection keeps from one command to the next.
const RANGES_KEPT: usize = 1024;

/// One Redis client's connection.
pub struct RespSession {
    version: Version,
    bucket: Vec<u8>,
    durability: Option<Durability>,
    deadline_ns: Option<u64>,
    name: Vec<u8>,
    is_closing: bool,
    pending: PendingAnswers,
    ranges: Vec<Range<usize>>,
    bulk_bytes_max: usize,
    /// The input is the beginning of something that has at least so many bytes.
    need: usize,
}

impl RespSession {
    /// A new connection's; longer words than `bulk_bytes_max` end it.
    pub fn new(bulk_bytes_max: usize) -> Self {
        Self {
            version: Version::Two,
            bucket: BUCKET_DEFAULT.to_vec(),
            durability: None,
            deadline_ns: None,
            name: Vec::new(),
            is_closing: false,
            pending: PendingAnswers::default(),
            ranges: Vec::new(),
            bulk_bytes_max,
            need: 0,
        }
    }

    fn reset(&mut self) {
        self.version = Version::Two;
        self.bucket = BUCKET_DEFAULT.to_vec();
        self.durability = None;
        self.deadline_ns = None;
        self.name = Vec::new();
    }

    /// Writes an answer that needs nothing, behind those that are waited for.
    fn answer_now(&mut self, io: &mut Io<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.pending.is_empty() {
            write(io.out);
        } else {
            let mut ready = Vec::new();
            write(&mut ready);
            self.pending.push_ready(ready);
        }
    }

    fn command(&mut self, io: &mut Io<'_>, words: &Words<'_>) {
        let mut upper = [0; 8];
        let name = match upper.get_mut(..words.name.len()) {
            Some(upper) => {
                upper.copy_from_slice(words.name);
                upper.make_ascii_uppercase();
                &*upper
            }
            None => &[],
        };
        let done = match name {
            b"GET" => self.get(io, words),
            b"SET" => self.set(io, words),
            b"GETDEL" => self.getdel(io, words),
            b"GETEX" => self.getex(io, words),
            b"MGET" => self.mget(io, words),
            b"MSET" => self.mset(io, words),
            b"DEL" | b"UNLINK" => self.del(io, words),
            b"EXISTS" => self.exists(io, words),
            b"STRLEN" => self.of_value(io, words, Wanted::Length),
            b"TTL" | b"PTTL" => {
                let now_ms = io.port.now().wall_ms;
                self.of_value(
                    io,
                    words,
                    Wanted::TimeLeft {
                        is_ms: name == b"PTTL",
                        now_ms,
                    },
                )
            }
            b"EXPIRE" => self.expire(io, words, false),
            b"PEXPIRE" => self.expire(io, words, true),
            b"PERSIST" => self.persist(io, words),
            b"TYPE" => self.of_value(io, words, Wanted::Type),
            b"DBSIZE" => self.dbsize(io, words),
            b"SCAN" => self.scan(io, words),
            b"DYN.GET" => self.dyn_get(io, words),
            b"DYN.PUT" => self.dyn_put(io, words),
            b"DYN.DEL" => self.dyn_del(io, words),
            _ => {
                let mut out = Vec::new();
                match self.serve(io, words, &mut out) {
                    Some(Ok(())) => {
                        self.answer_now(io, |to| to.extend_from_slice(&out));
                        Ok(())
                    }
                    Some(Err(refusal)) => Err(refusal),
                    None => {
                        self.answer_now(io, |out| server::unknown(words, out));
                        Ok(())
                    }
                }
            }
        };
        if let Err(refusal) = done {
            self.answer_now(io, |out| error(out, &refusal));
        }
    }
}

impl Session for RespSession {
    fn received(&mut self, input: &[u8], io: &mut Io<'_>) -> usize {
        if input.len() < self.need {
            return 0;
        }
        self.need = 0;
        let mut ranges = std::mem::take(&mut self.ranges);
        let mut used = 0;
        while !self.is_closing && !self.is_blocked() && io.out.len() < OUT_BYTES_MAX {
            let rest = input.get(used..).unwrap_or_default();
            match parse(rest, self.bulk_bytes_max, &mut ranges) {
                Parse::Done(taken) => {
                    used += taken;
                    if let Some((name, ranges)) = ranges.split_first() {
                        let name = rest.get(name.clone()).unwrap_or_default();
                        self.command(
                            io,
                            &Words {
                                name,
                                bytes: rest,
                                ranges,
                            },
                        );
                    }
                }
                Parse::NeedMore(need) => {
                    self.need = if rest.is_empty() { 0 } else { need };
                    break;
                }
                Parse::Bad(text) => {
                    self.answer_now(io, |out| error(out, &format!("ERR {text}")));
                    self.is_closing = true;
                }
            }
        }
        if ranges.capacity() > RANGES_KEPT {
            ranges = Vec::new();
        }
        self.ranges = ranges;
        io.is_ended = self.is_closing && self.pending.is_empty();
        if self.is_closing { input.len() } else { used }
    }

    fn reply(&mut self, tag: u32, outcome: &Outcome, bytes: &[u8], io: &mut Io<'_>) {
        let style = Style {
            version: self.version,
            now_ms: io.port.now().wall_ms,
        };
        let Some(position) = self.pending.position(tag) else {
            return;
        };
        let Some(entry) = self.pending.entry(position) else {
            return;
        };
        let Some(wanted) = entry.wanted.as_mut() else {
            return;
        };
        if matches!(wanted, Wanted::Scan(_)) {
            let Some(answer) = self.scan_answered(tag, outcome, bytes, io) else {
                return;
            };
            if let Some(entry) = self.pending.entry(position) {
                entry.ready = answer;
            }
        } else {
            let out = if position.at == 0 {
                &mut *io.out
            } else {
                &mut entry.ready
            };
            if !take(wanted, position.sub, outcome, bytes, style, out) {
                return;
            }
        }
        self.pending.settle(position, io.out);
        io.is_ended = self.is_closing && self.pending.is_empty();
    }

    fn is_blocked(&self) -> bool {
        self.pending.waiting() >= WAITING_MAX
    }
}

/// Redis clients' protocol, for a listening socket.
pub struct RespProtocol {
    /// The longest word that a command may have.
    pub bulk_bytes_max: usize,
}

impl Protocol for RespProtocol {
    fn open(&self, _peer: Option<std::net::SocketAddr>) -> Box<dyn Session> {
        Box::new(RespSession::new(self.bulk_bytes_max))
    }

    fn refusal(&self) -> &'static [u8] {
        b"-ERR max number of clients reached\r\n"
    }
}
