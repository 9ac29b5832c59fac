//! Answers in the order of their commands, whatever order they come in.
//!
//! Owns one entry for each request that waits, and for each answer that waits for those before it. The commonest case,
//! the answer of the oldest one, is written straight to the connection's output; others are kept encoded. A command on
//! many keys has an entry for each of its keys: the elements of an array follow each other by themselves, and parts of
//! a sum are added up in order, the last one writing it. So no command allocates by the number of its keys.

use std::collections::VecDeque;

use gramme_core::base::ids::Token;
use gramme_core::port::{Failure, Outcome};

use super::answers::{self, Part, Style, Wanted};
use super::encode::Version;
use crate::reactor::session::TAGS;

/// One request that waits, or an answer that waits for those before it.
enum Entry {
    Waiting(Waiting),
    Part(Part, Result<i64, Failure>),
    Ready(Vec<u8>),
    /// The connection ends here.
    End,
}

/// A request that waits.
struct Waiting {
    wanted: Wanted,
    /// What its command was given in: `HELLO` and `RESET` may have come behind it.
    version: Version,
    order: Order,
}

/// What may follow a request before its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Anything: a plain write comes before what is behind it by itself.
    Free,
    /// All but a write of the key: a read that waits for the disk would show that.
    Reads(Token),
    /// Nothing of the key: it reads a quorum first, and decides on what came meanwhile.
    Decides(Token),
}

/// A connection's requests and answers, oldest first.
#[derive(Default)]
pub(super) struct Pending {
    entries: VecDeque<Entry>,
    /// The oldest one's tag.
    first: u32,
    /// Those that wait with an order.
    reading: usize,
    deciding: usize,
    sum: i64,
    failed: Option<Failure>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether one that waits goes before some write, or before any other command.
    pub(super) const fn is_ordering(&self, is_write: bool) -> bool {
        self.deciding > 0 || (is_write && self.reading > 0)
    }

    /// Whether one that waits goes before this key's next write, or any other command on it.
    pub(super) fn precedes(&self, token: Token, is_write: bool) -> bool {
        let does = |entry: &Entry| {
            let Entry::Waiting(waiting) = entry else {
                return false;
            };
            waiting.order == Order::Decides(token)
                || (is_write && waiting.order == Order::Reads(token))
        };
        self.is_ordering(is_write) && self.entries.iter().any(does)
    }

    /// Notes a request that waits; returns its tag.
    pub(super) fn push(&mut self, wanted: Wanted, version: Version, order: Order) -> u32 {
        let tag = (self.first + self.entries.len() as u32) % TAGS;
        match order {
            Order::Free => {}
            Order::Reads(_) => self.reading += 1,
            Order::Decides(_) => self.deciding += 1,
        }
        self.entries.push_back(Entry::Waiting(Waiting {
            wanted,
            version,
            order,
        }));
        tag
    }

    /// Notes an answer that is there already, behind those that are waited for.
    pub(super) fn push_ready(&mut self, ready: Vec<u8>) {
        self.entries.push_back(Entry::Ready(ready));
    }

    /// Notes that the connection ends when everything before was answered.
    pub(super) fn push_end(&mut self) {
        self.entries.push_back(Entry::End);
    }

    /// What the answer of a request is to become.
    pub(super) fn wanted(&mut self, tag: u32) -> Option<&mut Wanted> {
        match self.entries.get_mut(self.place(tag))? {
            Entry::Waiting(waiting) => Some(&mut waiting.wanted),
            Entry::Part(..) | Entry::Ready(_) | Entry::End => None,
        }
    }

    /// Notes a part that was refused before it was a request.
    pub(super) fn push_refused(&mut self, part: Part, failure: Failure) {
        self.entries.push_back(Entry::Part(part, Err(failure)));
    }

    /// Gives a request its answer; returns whether the connection ends now.
    pub(super) fn settle(&mut self, tag: u32, answer: Vec<u8>, out: &mut Vec<u8>) -> bool {
        let place = self.place(tag);
        if let Some(entry) = self.entries.get_mut(place) {
            *entry = Entry::Ready(answer);
        }
        self.drain(out)
    }

    /// Takes an outcome; returns whether the connection ends now.
    pub(super) fn answered(
        &mut self,
        tag: u32,
        (outcome, bytes): (&Outcome, &[u8]),
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        let place = self.place(tag);
        let Some(entry) = self.entries.get_mut(place) else {
            return false;
        };
        if !matches!(entry, Entry::Waiting(..)) {
            return false;
        }
        let Entry::Waiting(waiting) = std::mem::replace(entry, Entry::End) else {
            return false;
        };
        match waiting.order {
            Order::Free => {}
            Order::Reads(_) => self.reading -= 1,
            Order::Decides(_) => self.deciding -= 1,
        }
        let style = Style {
            version: waiting.version,
            now_ms,
        };
        let done = match waiting.wanted {
            Wanted::Part(part) => Entry::Part(part, answers::number_of(outcome)),
            wanted if place == 0 => {
                answers::write(&wanted, outcome, bytes, style, out);
                Entry::Ready(Vec::new())
            }
            wanted => {
                let mut ready = Vec::new();
                answers::write(&wanted, outcome, bytes, style, &mut ready);
                Entry::Ready(ready)
            }
        };
        *entry = done;
        place == 0 && self.drain(out)
    }

    /// Moves every answer that no earlier one holds up to the output; returns whether the connection ends now.
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) -> bool {
        let mut is_ended = false;
        while self
            .entries
            .front()
            .is_some_and(|entry| !matches!(entry, Entry::Waiting(..)))
        {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.first = (self.first + 1) % TAGS;
            match entry {
                Entry::Ready(ready) => out.extend_from_slice(&ready),
                Entry::Part(part, result) => self.add(part, result, out),
                Entry::End => is_ended = true,
                Entry::Waiting(..) => {}
            }
        }
        if self.entries.is_empty() && self.entries.capacity() > 256 {
            self.entries = VecDeque::new();
        }
        is_ended
    }

    fn add(&mut self, part: Part, result: Result<i64, Failure>, out: &mut Vec<u8>) {
        match result {
            Ok(count) => self.sum += count,
            Err(failure) => {
                self.failed.get_or_insert(failure);
            }
        }
        if let Part::Last(total) = part {
            let sum = std::mem::take(&mut self.sum);
            match self.failed.take() {
                Some(failure) => answers::failed(out, &failure),
                None => answers::total(&total, sum, out),
            }
        }
    }

    fn place(&self, tag: u32) -> usize {
        ((tag + TAGS - self.first) % TAGS) as usize
    }
}
