//! What the outside tells the shard.

use core::fmt;

use crate::base::ids::{NodeId, SegmentId};
use crate::port::{Message, Note, Peer, Request};

/// Names one disk operation of this shard; its completion carries it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ticket(pub u64);

/// A file of one shard's directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum FileId {
    /// One segment of the log.
    Segment(SegmentId),
    /// One of the two checkpoint slots, 0 or 1.
    Checkpoint(u8),
}

/// Why a disk operation failed, as far as the shard acts differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoKind {
    /// No space, or a quota: `ENOSPC`, `EDQUOT`, `EFBIG`.
    Full,
    /// Anything else.
    Failed,
}

/// A failed disk operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoError {
    /// What the shard acts on.
    pub kind: IoKind,
    /// The system's error number, for the report; 0 when a read was short.
    pub errno: i32,
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            IoKind::Full => write!(f, "no space (errno {})", self.errno),
            IoKind::Failed => write!(f, "I/O error (errno {})", self.errno),
        }
    }
}

/// One thing that happened. The time is handed to `Shard::step` beside it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client's request, for a key that this shard owns.
    Request(Request<'a>),
    /// A [`crate::port::Effect::Write`] is on stable media, or failed.
    WriteDone {
        /// The write's ticket.
        ticket: Ticket,
        /// Its end.
        result: Result<(), IoError>,
    },
    /// A [`crate::port::Effect::Read`] is done. The bytes may be fewer than asked at the end of a file.
    ReadDone {
        /// The read's ticket.
        ticket: Ticket,
        /// The bytes, from the asked offset on.
        result: Result<&'a [u8], IoError>,
    },
    /// A [`crate::port::Effect::Prepare`] is done: the file is there with its space.
    PrepareDone {
        /// The preparation's ticket.
        ticket: Ticket,
        /// Its end.
        result: Result<(), IoError>,
    },
    /// A message of another node's shard.
    Message {
        /// Who sent it, and where the answer goes.
        from: Peer,
        /// The message.
        message: Message<&'a [u8]>,
    },
    /// The connection to a node ended, or could not be made: what was asked of it may never be answered.
    PeerLost(NodeId),
    /// A note of another shard of this node.
    Note(Note),
    /// What the node's shards have begun, whenever that has changed, before the next request: whatever the request's
    /// client was told of before lies in these batches. Not on a node with one shard.
    Begun {
        /// The tick of the newest of them.
        tick: u64,
        /// For each shard its greatest batch.
        batches: &'a [u64],
    },
    /// Every batch of this tick or an earlier one, of all shards, is on stable media, and none will be begun. Told at
    /// the end of a turn while the shard [asks for it](crate::shard::Shard::awaits_others).
    Settled {
        /// The tick.
        tick: u64,
    },
    /// Nothing more is at hand in this turn of the loop: the shard closes its group commit.
    TurnEnd,
    /// The time of [`next_deadline`](crate::shard::Shard::next_deadline_ns) has come.
    Tick,
    /// The node stops: commit everything, write a checkpoint, then [`crate::port::Effect::Stopped`].
    Stop,
}

/// The files of one shard as a start reads them, before the shard runs.
pub trait Source {
    /// Every segment file that is there, in any order, with its length in bytes.
    fn segments(&self) -> Vec<(SegmentId, u64)>;

    /// Reads at `offset` into the whole of `into` (offset and length are multiples of the block); returns the bytes
    /// read, fewer only at the end of the file; 0 when there is no such file.
    ///
    /// # Errors
    /// [`IoError`] as the device gave it.
    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, IoError>;
}
