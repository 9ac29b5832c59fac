//! Commands that read and write values.

use gramme_core::port::{Condition, ContextArg, Expiry, Op, Put};

use super::answers::{Part, Total, Wanted};
use super::encode::array;
use super::session::{RespSession, Running};
use super::words::{Refusal, Words, instant_of, syntax};
use crate::reactor::session::Io;

/// What a command does with each of its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Each {
    /// `MGET`.
    Get,
    /// `MSET`: of each key and the value behind it.
    Put,
    /// `DEL`, `UNLINK`.
    Delete,
    /// `EXISTS`.
    Exists,
}

impl Each {
    const fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete)
    }
}

pub(super) const fn put(value: &[u8]) -> Put<'_> {
    Put {
        context: ContextArg::Latest,
        value,
        expiry: Expiry::Default,
        condition: Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    }
}

pub(super) const fn delete(want_previous: bool) -> Op<'static> {
    Op::Delete {
        context: ContextArg::Latest,
        want_previous,
        want_context: false,
        write_id: None,
    }
}

impl RespSession {
    pub(super) fn get(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::Value, words.get(0), Op::Get);
        Ok(())
    }

    pub(super) fn strlen(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::Length, words.get(0), Op::Get);
        Ok(())
    }

    pub(super) fn set(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let (key, value) = (words.get(0), words.get(1));
        if words.len() == 2 {
            self.submit(io, Wanted::Ok, key, Op::Put(put(value)));
            return Ok(());
        }
        let mut put = put(value);
        let now_ms = io.port.clients_ms();
        // Redis reads all options before it looks at the time that one of them names.
        let mut time = None;
        let mut at = 2;
        while at < words.len() {
            let option = words.upper(at);
            let is_timed = time.is_some() || put.expiry != Expiry::Default;
            match option.as_slice() {
                b"NX" if put.condition != Condition::IfPresent => {
                    put.condition = Condition::IfAbsent;
                }
                b"XX" if put.condition != Condition::IfAbsent => {
                    put.condition = Condition::IfPresent;
                }
                b"KEEPTTL" if !is_timed => put.expiry = Expiry::Keep,
                b"GET" => put.want_previous = true,
                b"EX" | b"PX" | b"EXAT" | b"PXAT" if !is_timed && at + 1 < words.len() => {
                    at += 1;
                    time = Some((option, words.get(at)));
                }
                _ => return Err(syntax()),
            }
            at += 1;
        }
        let mut is_past = false;
        if let Some((option, word)) = time {
            let at_ms = instant_of(&option, word, now_ms, "set")?;
            is_past = at_ms <= now_ms;
            put.expiry = Expiry::AtMs(at_ms);
        }
        let wanted = if put.want_previous {
            Wanted::Previous
        } else {
            Wanted::Ok
        };
        let op = if is_past && put.condition == Condition::Always {
            // What has expired already needs no space.
            delete(put.want_previous)
        } else {
            Op::Put(put)
        };
        self.submit(io, wanted, key, op);
        Ok(())
    }

    pub(super) fn getdel(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::Previous, words.get(0), delete(true));
        Ok(())
    }

    pub(super) fn getex(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let key = words.get(0);
        let now_ms = io.port.clients_ms();
        let expiry = match (words.len(), words.upper(1).as_slice()) {
            (1, _) => return self.get(io, words),
            (2, b"PERSIST") => Expiry::Never,
            (3, option @ (b"EX" | b"PX" | b"EXAT" | b"PXAT")) => {
                let at_ms = instant_of(option, words.get(2), now_ms, "getex")?;
                if at_ms <= now_ms {
                    return self.getdel(io, words);
                }
                Expiry::AtMs(at_ms)
            }
            _ => return Err(syntax()),
        };
        let op = Op::SetExpiry {
            expiry,
            want_previous: true,
        };
        self.submit(io, Wanted::Previous, key, op);
        Ok(())
    }

    pub(super) fn mget(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.answer(io, |out| array(out, words.len()));
        self.run_each(io, words, Each::Get, 0);
        Ok(())
    }

    /// Not atomic: each key is a write of its own; where one fails, others may have been written.
    pub(super) fn mset(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        if !words.len().is_multiple_of(2) {
            return Err(words.wrong_number());
        }
        self.run_each(io, words, Each::Put, 0);
        Ok(())
    }

    pub(super) fn del(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.run_each(io, words, Each::Delete, 0);
        Ok(())
    }

    pub(super) fn exists(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.run_each(io, words, Each::Exists, 0);
        Ok(())
    }

    /// Submits a request for each key from one of the words on, as long as there is room.
    pub(super) fn run_each(&mut self, io: &mut Io<'_>, words: &Words<'_>, each: Each, from: usize) {
        let step = if each == Each::Put { 2 } else { 1 };
        let mut next = from;
        while next < words.len() {
            // The first goes in any case: its command was taken since there was room.
            let is_full = next > from && !self.has_room();
            if is_full || self.must_follow_on(words.get(next), each.is_write()) {
                self.running = Some(Running::new(each, next));
                return;
            }
            let is_last = next + step >= words.len();
            let part = |total| {
                Wanted::Part(if is_last {
                    Part::Last(total)
                } else {
                    Part::More
                })
            };
            let key = words.get(next);
            match each {
                Each::Get => self.submit(io, Wanted::Value, key, Op::Get),
                Each::Put => {
                    let value = words.get(next + 1);
                    self.submit(io, part(Total::Ok), key, Op::Put(put(value)));
                }
                Each::Delete => self.submit(io, part(Total::Sum), key, delete(true)),
                Each::Exists => self.submit(io, part(Total::Sum), key, Op::Exists),
            }
            next += step;
        }
    }
}
