//! What a frame says, in the words of the core's port, borrowed from the buffer that it lies in.
//!
//! Owns the types between `encode` and `decode`. Never owns bytes but for the ring and messages of errors.

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::port::{Condition, ContextArg, Durability, Expiry, Receipt};
use gramme_core::version::WriteId;

use super::version::Versions;

/// One frame's content.
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// A client says who it is.
    Hello(Hello),
    /// The routing table; a client asks for it with a hello.
    Ring(Ring),
    /// A read.
    Get(Get<'a>),
    /// A write.
    Put(Put<'a>),
    /// A deletion.
    Delete(Delete<'a>),
    /// What a get, put or delete came to.
    Answer(Answer<'a>),
    /// What failed.
    Error(Problem<'a>),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// Another node says who it is.
    Peer(PeerHello),
    /// An operator's command to this node, JSON as `gramme_core::cluster` takes it.
    Operate(&'a [u8]),
    /// Its answer, JSON.
    Report(&'a [u8]),
}

/// The first frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The protocol versions that it speaks.
    pub versions: Versions,
    /// Its random name.
    pub client: u64,
}

/// The first frame of another node's shard, and the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// The protocol versions that it speaks.
    pub versions: Versions,
    /// Its cluster; 0 while it knows of none.
    pub cluster: u64,
    /// The node that says it.
    pub from: NodeId,
    /// Its shard.
    pub from_shard: ShardIndex,
    /// The node that it wants; [`NodeId`] 0 stands for whoever is at this address.
    pub to: NodeId,
    /// What the connection is for.
    pub lane: PeerLane,
}

/// What a connection between nodes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerLane {
    /// Everything about keys, between two shards.
    Data,
    /// Gossip, between control shards; never behind data.
    Control,
}

/// The routing table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ring {
    /// Grows with each change.
    pub epoch: u64,
    /// Partitions of the cluster.
    pub partitions: u32,
    /// The node that sent this, as an index of `nodes`.
    pub answered_by: u32,
    /// Every node.
    pub nodes: Vec<RingNode>,
    /// For each partition the nodes that answer for it, best first, as indexes of `nodes`; empty: any node.
    pub routes: Vec<Vec<u16>>,
}

/// One node of the table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RingNode {
    /// Its id.
    pub node: u64,
    /// Its host; empty: the one that the client reached this table by.
    pub host: String,
    /// The port of any shard.
    pub port: u16,
    /// The port of each shard.
    pub shard_ports: Vec<u16>,
}

/// How many replicas; 0 is the bucket's rule. Bounded by what the cluster has: the receipt tells how many took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Quorum {
    /// Replicas.
    pub n: u8,
    /// Answers that a read waits for.
    pub r: u8,
    /// Acknowledgements that a write waits for.
    pub w: u8,
    /// Distinct zones that either waits for; 0 and 1: any.
    pub zones: u8,
}

/// A read.
#[derive(Clone, Copy, Debug)]
pub struct Get<'a> {
    /// The bucket's name.
    pub bucket: &'a [u8],
    /// The key.
    pub key: &'a [u8],
    /// How long the client still waits from now; 0: for ever.
    pub deadline_us: u64,
    /// How many replicas.
    pub quorum: Quorum,
}

/// What puts and deletes share.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Where to.
    pub target: Get<'a>,
    /// What the writer saw.
    pub context: ContextArg<'a>,
    /// Instead of the bucket's.
    pub durability: Option<Durability>,
    /// Names the write for retries.
    pub write_id: Option<WriteId>,
    /// Only the key's own replicas count, no stand-ins.
    pub is_strict: bool,
    /// Return a context.
    pub want_context: bool,
    /// Return the object as it was.
    pub want_previous: bool,
}

/// A put.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Where and how.
    pub write: Write<'a>,
    /// The value.
    pub value: &'a [u8],
    /// When it expires.
    pub expiry: Expiry,
    /// Under which condition.
    pub condition: Condition,
}

/// A deletion.
#[derive(Clone, Copy, Debug)]
pub struct Delete<'a> {
    /// Where and how.
    pub write: Write<'a>,
}

/// What a request came to.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Itself.
    pub reply: Reply<'a>,
    /// Who took part, and the time on the disk.
    pub receipt: Receipt,
    /// Nanoseconds from the frame's arrival to its answer.
    pub server_ns: u64,
    /// The epoch of the table that the server has; greater than the client's: ask for it anew.
    pub ring_epoch: u64,
}

/// The forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The key's object, as it is encoded on disk.
    Object {
        /// Its bytes.
        object: &'a [u8],
        /// What a context's fingerprint is made with.
        key_hash: u64,
    },
    /// The key has no value.
    Absent,
    /// The write is done.
    Written {
        /// To go on with, where asked for.
        context: Option<&'a [u8]>,
        /// Whether there was a value; only told where the previous object was asked for, else true.
        existed: bool,
        /// The object as it was, where asked for and where it had a value.
        previous: Option<&'a [u8]>,
    },
    /// Nothing was written.
    ConditionNotMet {
        /// What is there, where asked for.
        previous: Option<&'a [u8]>,
    },
}

/// Whether anything happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Certainly not.
    NotApplied,
    /// It may have, or may yet.
    InDoubt,
}

/// What failed.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// For programs.
    pub code: ErrorCode,
    /// Whether anything happened.
    pub effect: Effect,
    /// Wait this long before the next try; 0: no hint.
    pub retry_after_ms: u32,
    /// For people.
    pub message: &'a str,
    /// The object that a stale write did not see; empty otherwise.
    pub current: &'a [u8],
}

/// Why a request failed; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorCode {
    /// Too many requests wait.
    Overloaded = 1,
    /// Too late.
    Deadline = 2,
    /// A write that was begun did not end well.
    InDoubt = 3,
    /// No space.
    DiskFull = 4,
    /// The disk failed.
    ReadOnly = 5,
    /// The write did not see everything.
    Stale = 6,
    /// Key or value over the limit.
    TooLarge = 7,
    /// Not a context of gramme's.
    BadContext = 8,
    /// No such bucket.
    NoBucket = 9,
    /// The record does not verify, was lost, or could not be read.
    Unreadable = 10,
    /// A clock is off.
    ClockBehind = 11,
    /// The node stops.
    Stopping = 12,
    /// A frame that cannot be read; the connection ends.
    BadFrame = 13,
    /// A request that contradicts itself.
    BadRequest = 14,
    /// Too few replicas answered.
    Quorum = 15,
    /// The node does not hold the key's partition; its ring is newer.
    NotHere = 16,
    /// A code of a newer release; its message says what happened.
    Other = 0xffff,
}

impl ErrorCode {
    /// The code of a number.
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Overloaded,
            2 => Self::Deadline,
            3 => Self::InDoubt,
            4 => Self::DiskFull,
            5 => Self::ReadOnly,
            6 => Self::Stale,
            7 => Self::TooLarge,
            8 => Self::BadContext,
            9 => Self::NoBucket,
            10 => Self::Unreadable,
            11 => Self::ClockBehind,
            12 => Self::Stopping,
            13 => Self::BadFrame,
            14 => Self::BadRequest,
            15 => Self::Quorum,
            16 => Self::NotHere,
            _ => Self::Other,
        }
    }
}
