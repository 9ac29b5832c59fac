//! Answers in the order of their commands, whatever order they come in.
//!
//! Owns one entry for each command that waits. The commonest case, the answer of the oldest one, is written straight to
//! the connection's output; others are kept encoded.
//!
//! Invariant: the tags of the entries follow each other without a gap, modulo [`TAGS`].

use std::collections::VecDeque;

use crate::reactor::session::TAGS;
use crate::resp::command::Wanted;

/// One command that waits, or whose answer waits for those before it.
pub(super) struct Entry {
    first_tag: u32,
    /// What to make of the outcome; none: the answer is there.
    pub(super) wanted: Option<Wanted>,
    /// The answer, encoded.
    pub(super) ready: Vec<u8>,
}

/// A connection's commands that have not been answered, oldest first.
#[derive(Default)]
pub(super) struct PendingAnswers {
    entries: VecDeque<Entry>,
    next_tag: u32,
    waiting: usize,
}

/// A request's command: where it stands, and which of its requests it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) at: usize,
    pub(super) sub: usize,
}

impl PendingAnswers {
    /// Commands that wait for the shard.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether an answer made now can be written straight to the output.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes a command of so many requests; returns the tag of the first.
    pub(super) fn push(&mut self, wanted: Wanted, requests: usize) -> u32 {
        let first_tag = self.next_tag;
        self.next_tag = (self.next_tag + requests as u32) % TAGS;
        self.entries.push_back(Entry {
            first_tag,
            wanted: Some(wanted),
            ready: Vec::new(),
        });
        self.waiting += 1;
        first_tag
    }

    /// Notes an answer that is there already.
    pub(super) fn push_ready(&mut self, ready: Vec<u8>) {
        self.entries.push_back(Entry {
            first_tag: self.next_tag,
            wanted: None,
            ready,
        });
    }

    /// The command of a tag.
    pub(super) fn position(&self, tag: u32) -> Option<Position> {
        let base = self.entries.front()?.first_tag;
        let distance = |tag: u32| tag.wrapping_sub(base) % TAGS;
        let asked = distance(tag);
        let at = match self.entries.get(1) {
            Some(second) if distance(second.first_tag) <= asked => {
                self.entries
                    .partition_point(|entry| distance(entry.first_tag) <= asked)
                    - 1
            }
            _ => 0,
        };
        let entry = self.entries.get(at)?;
        Some(Position {
            at,
            sub: (asked - distance(entry.first_tag)) as usize,
        })
    }

    /// The entry at a position.
    pub(super) fn entry(&mut self, position: Position) -> Option<&mut Entry> {
        self.entries.get_mut(position.at)
    }

    /// Notes that the command at a position has its answer, and moves every answer that no earlier one holds up to the
    /// output.
    pub(super) fn settle(&mut self, position: Position, out: &mut Vec<u8>) {
        if let Some(entry) = self.entries.get_mut(position.at) {
            entry.wanted = None;
            self.waiting -= 1;
        }
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.wanted.is_none())
        {
            if let Some(entry) = self.entries.pop_front() {
                out.extend_from_slice(&entry.ready);
            }
        }
    }
}
