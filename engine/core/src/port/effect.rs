//! What the shard asks of the outside.

use crate::base::ids::ShardIndex;
use crate::port::{FileId, KeyName, Note, Outcome, RequestId, Send, Ticket};

/// Bytes in [`Effects::bytes`], valid until [`Effects::clear`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ByteRange {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl ByteRange {
    /// The range's part of `bytes`, which are the [`Effects::bytes`] that it was made for, or a copy of them.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// Bytes in one of the shard's log buffers (`Replica::log_bytes`). They stay where they are, unchanged, until the
/// `WriteDone` of the write that names them. Address, length and offset are multiples of the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogRange {
    /// The buffer.
    pub buffer: u32,
    /// First byte in it.
    pub start: u32,
    /// Length.
    pub bytes: u32,
}

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// Answer a request.
    Reply {
        /// The request's id, as its edge chose it.
        id: RequestId,
        /// The answer.
        outcome: Outcome,
    },
    /// The object that a write with `wants_object` made (or found) is in the log; its `Reply` follows when it is as
    /// durable as asked. Only the shard's own coordinator asks for it.
    Applied {
        /// The request's id.
        id: RequestId,
        /// The whole object.
        object: ByteRange,
    },
    /// Write to stable media (the file is open with `O_DIRECT` and `O_DSYNC`).
    Write {
        /// For `WriteDone`.
        ticket: Ticket,
        /// Where.
        file: FileId,
        /// At which byte.
        offset: u64,
        /// What.
        data: LogRange,
    },
    /// Read; offset and length are multiples of the block.
    Read {
        /// For `ReadDone`.
        ticket: Ticket,
        /// From where.
        file: FileId,
        /// From which byte.
        offset: u64,
        /// How many.
        bytes: u32,
        /// Whether the cleaner or a checkpoint wants it, not a client.
        background: bool,
    },
    /// Make the file be there with `bytes` of allocated space, keeping what it has; its first `fill_bytes` written once
    /// with zeros where they were not (a durable write runs faster on blocks that were written before).
    Prepare {
        /// For `PrepareDone`.
        ticket: Ticket,
        /// Which.
        file: FileId,
        /// Its space.
        bytes: u64,
        /// How much of it to write once.
        fill_bytes: u64,
    },
    /// Delete the file; nothing waits for it.
    Remove {
        /// Which.
        file: FileId,
    },
    /// The answer to `Event::Stop`: everything is on stable media.
    Stopped,
}

/// The effects of one or more steps, in a buffer that the caller owns and reuses.
#[derive(Debug, Default)]
pub struct Effects {
    /// In the order in which they must happen.
    pub list: Vec<Effect>,
    /// Messages to other nodes; each may be lost.
    pub sends: Vec<Send>,
    /// Gossip for nodes of which only the address (`HOST:PORT` of the native port) is known: the seeds of a join. Each
    /// may be lost.
    pub gossip_by_address: Vec<(String, ByteRange)>,
    /// Notes to the shards of this node, this one too (it gets them at once); never lost, in order.
    pub notes: Vec<(ShardIndex, Note)>,
    /// The cluster state to keep: replaces the file atomically, off the data path; the newest wins.
    pub state: Option<Vec<u8>>,
    /// What operators should read in the node's log.
    pub reports: Vec<String>,
    /// What the byte ranges of `list` refer to.
    pub bytes: Vec<u8>,
}

impl Effects {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
            && self.sends.is_empty()
            && self.gossip_by_address.is_empty()
            && self.notes.is_empty()
            && self.state.is_none()
            && self.reports.is_empty()
    }

    /// Empties both, keeping their memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.sends.clear();
        self.gossip_by_address.clear();
        self.notes.clear();
        self.state = None;
        self.reports.clear();
        self.bytes.clear();
    }

    /// The bytes of a range.
    pub fn get(&self, range: ByteRange) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// Appends bytes and names them.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> ByteRange {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        ByteRange {
            start,
            end: self.bytes.len() as u32,
        }
    }

    /// Appends the names of a key.
    pub(crate) fn keep_key(&mut self, key: KeyName<&[u8]>) -> KeyName<ByteRange> {
        KeyName {
            bucket: self.keep(key.bucket),
            key: self.keep(key.key),
            token: key.token,
        }
    }

    /// Appends an answer.
    pub(crate) fn reply(&mut self, id: RequestId, outcome: Outcome) {
        self.list.push(Effect::Reply { id, outcome });
    }
}
