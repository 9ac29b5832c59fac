//! One Redis client's connection.
//!
//! Owns what the connection has said about itself, and the loop from bytes to commands. The commands are methods in the
//! files beside this one.
//!
//! Invariants:
//! - requests under way are at most [`REQUESTS_MAX`], and few where the values are large: a command on more keys than
//!   fit goes on as answers come, its words staying in the reactor's input until then;
//! - what is under way on a key ends before a command that must not overtake it is taken (`Order`);
//! - nothing is allocated by a length that the client has only declared.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use gramme_core::base::hash::token;
use gramme_core::base::ids::Token;
use gramme_core::base::limits::{BUCKET_DEFAULT, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use gramme_core::port::{
    Condition, ContextArg, Durability, Expiry, Foreseen, Op, Outcome, Quorum, Request,
};

use super::RespOptions;
use super::answers::Wanted;
use super::encode::{Version, error};
use super::parse::{Parse, Parser};
use super::pending::{Order, Pending};
use super::scan::Scanned;
use super::table;
use super::values::Each;
use super::words::{Refusal, Words};
use crate::reactor::session::{Io, Session};

/// Requests of one connection under way.
const REQUESTS_MAX: usize = 256;

/// Bytes that the answers under way may be expected to have.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How long an answer may be of which nothing is known.
const ANSWER_BYTES_FEARED: usize = 256 << 10;

/// The longest word: one that is too long for a value is answered, not a reason to end the connection.
const WORD_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);

/// Input as long as this may be of several commands.
const PIPELINE_BYTES: usize = 128;

/// Commands that are looked at before the first of them is taken.
const FORESEEN_MAX: usize = 32;
/// Commands that usually look at no record that is there.
const BLIND: [&[u8]; 3] = [b"SET", b"DEL", b"UNLINK"];

/// A command of more keys waits for all that may go before it, whatever its keys are.
const KEYS_COMPARED_MAX: usize = 64;

/// The longest word and command of a client that has not said the password.
const STRANGER_BYTES_MAX: usize = 16 << 10;

/// A command on many keys that has not submitted all of them.
pub(super) struct Running {
    pub(super) each: Each,
    /// The next of its words.
    pub(super) next: usize,
    /// The length of the command.
    bytes: usize,
}

impl Running {
    pub(super) const fn new(each: Each, next: usize) -> Self {
        Self {
            each,
            next,
            bytes: 0,
        }
    }
}

/// One Redis client's connection.
pub struct RespSession {
    // The connection.
    pub(super) options: Arc<RespOptions>,
    pub(super) number: u64,
    pub(super) peer: Option<SocketAddr>,

    // What it has said.
    pub(super) version: Version,
    /// Whether it has said the password, or none is needed.
    pub(super) is_known: bool,
    pub(super) bucket: Cow<'static, [u8]>,
    pub(super) durability: Option<Durability>,
    pub(super) deadline_ns: Option<u64>,
    pub(super) quorum: Quorum,
    pub(super) name: Vec<u8>,

    // Its commands.
    parser: Parser,
    ranges: Vec<Range<usize>>,
    pub(super) running: Option<Running>,
    pub(super) pending: Pending,
    pub(super) is_ended: bool,
    is_full: bool,
    /// Whether the next command, or the next key of the running one, waits for what is under way on its keys.
    is_held: bool,
    /// About how long its longest recent answer was; at first what is feared.
    answer_bytes: usize,
}

impl RespSession {
    /// A new connection's.
    pub fn new(options: Arc<RespOptions>, number: u64, peer: Option<SocketAddr>) -> Self {
        let is_known = options.password.is_none();
        Self {
            options,
            number,
            peer,
            version: Version::Two,
            is_known,
            bucket: Cow::Borrowed(BUCKET_DEFAULT),
            durability: None,
            deadline_ns: None,
            quorum: Quorum::default(),
            name: Vec::new(),
            parser: Parser::default(),
            ranges: Vec::new(),
            running: None,
            pending: Pending::default(),
            is_ended: false,
            is_full: false,
            is_held: false,
            answer_bytes: ANSWER_BYTES_FEARED,
        }
    }

    /// As at its beginning.
    pub(super) fn reset(&mut self) {
        self.version = Version::Two;
        self.is_known = self.options.password.is_none();
        self.bucket = Cow::Borrowed(BUCKET_DEFAULT);
        self.durability = None;
        self.deadline_ns = None;
        self.quorum = Quorum::default();
        self.name = Vec::new();
    }

    /// Writes an answer that needs no shard, behind those that are waited for.
    pub(super) fn answer(&mut self, io: &mut Io<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.pending.is_empty() {
            write(io.out);
        } else {
            let mut ready = Vec::new();
            write(&mut ready);
            self.pending.push_ready(ready);
        }
    }

    /// Submits a request on a key.
    pub(super) fn submit(&mut self, io: &mut Io<'_>, wanted: Wanted, key: &[u8], op: Op<'_>) {
        if let Some(refusal) = self.too_large(key, &op) {
            return match wanted {
                Wanted::Part(part) => self.refuse_part(io, part, refusal),
                _ => self.answer(io, |out| super::answers::failed(out, &refusal)),
            };
        }
        let token = token(&self.bucket, key);
        let tag = self.pending.push(wanted, self.version, order(&op, token));
        let id = io.connection.request(tag);
        let now_ns = io.port.now().mono_ns;
        io.port.submit(Request {
            id,
            deadline_ns: self
                .deadline_ns
                .map(|deadline_ns| now_ns.saturating_add(deadline_ns)),
            bucket: &self.bucket,
            key,
            token,
            durability: self.durability,
            quorum: self.quorum,
            wants_object: false,
            is_forwarded: false,
            op,
        });
    }

    /// Submits a request that has no key to one shard.
    pub(super) fn submit_to(&mut self, io: &mut Io<'_>, shard: u16, tag: u32, op: Op<'_>) {
        let now_ns = io.port.now().mono_ns;
        let request = Request {
            id: io.connection.request(tag),
            deadline_ns: self
                .deadline_ns
                .map(|deadline_ns| now_ns.saturating_add(deadline_ns)),
            bucket: &self.bucket,
            key: &[],
            token: token(&self.bucket, &[]),
            durability: None,
            quorum: Quorum::default(),
            wants_object: false,
            is_forwarded: false,
            op,
        };
        io.port
            .submit_to(gramme_core::base::ids::ShardIndex(shard), request);
    }

    /// Whether another request may be under way.
    pub(super) fn has_room(&mut self) -> bool {
        let by_bytes = ANSWER_BYTES_MAX / self.answer_bytes.max(1);
        self.is_full = self.pending.len() >= by_bytes.clamp(4, REQUESTS_MAX);
        !self.is_full
    }

    /// Whether what is under way on a command's keys goes before it.
    fn must_follow(&mut self, words: &Words<'_>) -> bool {
        if !self.pending.is_ordering(true) {
            return false;
        }
        let Some(command) = table::find(words.name()) else {
            return false;
        };
        let is_write = command.flags.contains(&"write");
        if !self.pending.is_ordering(is_write) {
            return false;
        }
        let (first, last, step) = command.keys;
        let last = if last < 0 { words.len() as i64 } else { last };
        let keys = usize::try_from(last - first + 1).unwrap_or(0);
        self.is_held = match first {
            0 => command.flags.contains(&"readonly"),
            _ if keys > KEYS_COMPARED_MAX => true,
            _ => (first..=last).step_by(step as usize).any(|at| {
                let key = words.get(at as usize - 1);
                self.pending.precedes(token(&self.bucket, key), is_write)
            }),
        };
        self.is_held
    }

    /// As [`Self::must_follow`], for one key of a command that has begun.
    pub(super) fn must_follow_on(&mut self, key: &[u8], is_write: bool) -> bool {
        self.is_held = self.pending.is_ordering(is_write)
            && self.pending.precedes(token(&self.bucket, key), is_write);
        self.is_held
    }

    /// Looks through the commands that have come at once, so that the shard fetches their keys' places from memory
    /// together instead of one after the other: half of a pipelined command's time was waiting for those.
    fn foresee(&mut self, input: &[u8], io: &Io<'_>) {
        if input.len() < PIPELINE_BYTES || self.running.is_some() || self.parser.is_midway() {
            return;
        }
        let (mut parser, mut at) = (Parser::default(), 0);
        let mut keys = [Foreseen::default(); FORESEEN_MAX];
        let mut foreseen = 0;
        for place in &mut keys {
            let rest = input.get(at..).unwrap_or_default();
            let Parse::Done(bytes) = parser.parse(rest, STRANGER_BYTES_MAX, &mut self.ranges)
            else {
                break;
            };
            let word = |at: usize| parser.bytes(rest).get(self.ranges.get(at)?.clone());
            let (Some(name), Some(key)) = (word(0), word(1)) else {
                break;
            };
            *place = Foreseen {
                token: token(&self.bucket, key),
                is_of_record: !BLIND.iter().any(|blind| blind.eq_ignore_ascii_case(name)),
            };
            foreseen += 1;
            at += bytes;
        }
        io.port.foresee(&keys[..foreseen]);
    }

    fn too_large(&self, key: &[u8], op: &Op<'_>) -> Option<gramme_core::port::Failure> {
        let over = |bytes: usize, bytes_max: usize| {
            (bytes > bytes_max).then_some(gramme_core::port::Failure::TooLarge {
                bytes: bytes as u64,
                bytes_max: bytes_max as u64,
            })
        };
        let value_bytes = match op {
            Op::Put(put) => put.value.len(),
            _ => 0,
        };
        over(key.len(), KEY_BYTES_MAX).or_else(|| over(value_bytes, self.options.value_bytes_max))
    }

    fn refuse_part(
        &mut self,
        io: &mut Io<'_>,
        part: super::answers::Part,
        refusal: gramme_core::port::Failure,
    ) {
        self.pending.push_refused(part, refusal);
        self.pending.drain(io.out);
    }

    fn command(&mut self, io: &mut Io<'_>, words: &Words<'_>) {
        let done = match table::find(words.name()) {
            None => Err(table::unknown(words)),
            Some(command) if !command.takes(words.len()) => Err(words.wrong_number()),
            Some(command) if !self.is_known && !command.is_for_strangers => {
                Err("NOAUTH Authentication required.".to_owned())
            }
            Some(command) => (command.run)(self, io, words),
        };
        if let Err(refusal) = done {
            self.refuse(io, &refusal);
        }
    }

    fn refuse(&mut self, io: &mut Io<'_>, refusal: &Refusal) {
        self.answer(io, |out| error(out, refusal));
    }

    /// Takes the next command; returns how many bytes of the input are used, none to wait.
    fn step(&mut self, input: &[u8], io: &mut Io<'_>) -> Option<usize> {
        let word_bytes_max = if self.is_known {
            WORD_BYTES_MAX
        } else {
            STRANGER_BYTES_MAX
        };
        let mut ranges = std::mem::take(&mut self.ranges);
        let mut parser = std::mem::take(&mut self.parser);
        let used = if let Some(running) = self.running.take() {
            let words = Words::new(parser.bytes(input), &ranges);
            self.run_each(io, &words, running.each, running.next);
            Some(running.bytes)
        } else {
            match parser.parse(input, word_bytes_max, &mut ranges) {
                Parse::Done(bytes) => {
                    let words = Words::new(parser.bytes(input), &ranges);
                    if self.must_follow(&words) {
                        None
                    } else {
                        if !ranges.is_empty() {
                            self.command(io, &words);
                        }
                        Some(bytes)
                    }
                }
                Parse::NeedMore(_) => None,
                Parse::Bad(text) => {
                    self.refuse(io, &format!("ERR {text}"));
                    self.is_ended = true;
                    Some(input.len())
                }
            }
        };
        if self.running.is_none() && ranges.capacity() > 1024 && !parser.is_midway() {
            ranges = Vec::new();
        }
        self.ranges = ranges;
        self.parser = parser;
        match &mut self.running {
            // Its words stay where they are, in the input and in `ranges`.
            Some(running) => {
                running.bytes = used?;
                None
            }
            None => used,
        }
    }
}

/// What may follow it before its answer.
fn order(op: &Op<'_>, token: Token) -> Order {
    match op {
        Op::Put(put) => {
            let is_plain = put.condition == Condition::Always
                && !put.want_previous
                && put.expiry != Expiry::Keep
                && matches!(put.context, ContextArg::Latest);
            if is_plain {
                Order::Free
            } else {
                Order::Decides(token)
            }
        }
        Op::Delete { .. } | Op::SetExpiry { .. } => Order::Decides(token),
        _ => Order::Reads(token),
    }
}

impl Session for RespSession {
    fn received(&mut self, input: &[u8], io: &mut Io<'_>) -> usize {
        let mut at = 0;
        self.foresee(input, io);
        while !self.is_ended && !self.is_held && self.has_room() {
            let Some(used) = self.step(input.get(at..).unwrap_or_default(), io) else {
                break;
            };
            at += used;
        }
        if self.is_ended {
            self.pending.push_end();
            io.is_ended = self.pending.drain(io.out);
            return input.len();
        }
        at
    }

    fn reply(&mut self, tag: u32, outcome: &Outcome, bytes: &[u8], io: &mut Io<'_>) {
        let before = io.out.len();
        match self.scan_answered(tag, outcome, bytes, io) {
            Some(Scanned::GoesOn) => return,
            Some(Scanned::Ended) => {}
            None => {
                let now_ms = io.port.clients_ms();
                io.is_ended = self.pending.answered(tag, (outcome, bytes), now_ms, io.out);
            }
        }
        let written = io.out.len() - before;
        self.answer_bytes = written.max(self.answer_bytes - self.answer_bytes / 8);
        if self.is_full && self.pending.len() <= REQUESTS_MAX / 2 {
            self.has_room();
        }
        self.is_held &= self.pending.is_ordering(true);
    }

    fn is_blocked(&self) -> bool {
        self.is_full || self.is_held
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.running.is_none()
    }

    fn is_stranger(&self) -> bool {
        !self.is_known
    }
}
