//! A client's request, as every edge (RESP, native, embedded) hands it in.

use crate::base::durability::Durability;
use crate::base::ids::Token;
use crate::version::WriteId;

/// Chosen by the edge, handed back untouched with the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// One request. The edge has found by `token` that this shard owns the key.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Comes back with the answer.
    pub id: RequestId,
    /// When the client stops waiting, on the clock of `Now::mono_ns`; work not begun by then is dropped.
    pub deadline_ns: Option<u64>,
    /// The bucket's name.
    pub bucket: &'a [u8],
    /// The key.
    pub key: &'a [u8],
    /// `base::hash::token(bucket, key)`.
    pub token: Token,
    /// Instead of the bucket's.
    pub durability: Option<Durability>,
    /// How many replicas, instead of the bucket's numbers.
    pub quorum: Quorum,
    /// Tell the object that a write made, by `Effect::Applied`, as soon as it is in the log (what a coordinator sends to
    /// the other replicas).
    pub wants_object: bool,
    /// It came from another node's coordinator: it is not forwarded again.
    pub is_forwarded: bool,
    /// What to do.
    pub op: Op<'a>,
}

/// How many replicas take part in one request; zero stands for the bucket's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quorum {
    /// N: replicas, never more than the placement has.
    pub n: u8,
    /// R: answers of a read.
    pub r: u8,
    /// W: acknowledgements of a write.
    pub w: u8,
    /// A write's acknowledgements, and a read's answers, are from so many distinct zones; 0 and 1 ask for nothing.
    pub zones: u8,
    /// Only nodes of the preference list count, no stand-ins.
    pub is_strict: bool,
}

/// What a request does.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// The object of the key: [`crate::port::Outcome::Object`] or `Absent`.
    Get,
    /// Whether the key has a value: `Outcome::Exists`.
    Exists,
    /// What this shard itself holds of the key, tombstones too: `Outcome::Held`.
    Fetch {
        /// The object, or only its fingerprint (which needs no disk).
        wants_object: bool,
    },
    /// Write a value: `Outcome::Written`.
    Put(Put<'a>),
    /// Write a tombstone: `Outcome::Written`, whose `existed` says whether there was a value.
    Delete {
        /// What the deleter saw.
        context: ContextArg<'a>,
        /// Whether the answer must say if there was a value and return it (may cost a read).
        want_previous: bool,
        /// Whether the answer returns a context.
        want_context: bool,
        /// Names the write for retries.
        write_id: Option<WriteId>,
    },
    /// Merge an encoded object into what is there: what replication, import and moving a directory do: `Written`.
    Merge {
        /// The object (`version::Object::encode`).
        object: &'a [u8],
    },
    /// Change only the expiry of a key that has a value: `Written`, or `ConditionNotMet` when there is none.
    SetExpiry {
        /// The new one.
        expiry: Expiry,
        /// Return the object as it was.
        want_previous: bool,
    },
    /// The next keys of this shard after `cursor` (0 begins), in token order: `Outcome::Keys`.
    Scan {
        /// Where the last one ended.
        cursor: u64,
        /// How many index entries to look at, at most.
        count: u32,
    },
    /// The next records of this shard after `cursor`, of all buckets, whether they are configured or not, tombstones, what
    /// has expired and hints too: `Outcome::Keys`, whose list is of records ([`crate::port::read_record`]; each belongs
    /// in a [`record_request`](crate::shard::record_request)). One that cannot be read is a failure. Never leaves its
    /// node: what moving a directory does.
    Records {
        /// Where the last one ended.
        cursor: u64,
        /// How many index entries to look at, at most.
        count: u32,
    },
    /// A command of an operator to the shard with the control role (`cluster::command`): `Outcome::Cluster`.
    Cluster {
        /// The command, JSON.
        command: &'a [u8],
    },
    /// How many keys have a value: `Outcome::Count` (expired ones count until they are noticed).
    Count,
}

impl Op<'_> {
    /// Whether the usual way of it looks at the record that is there, not only at what the index knows.
    pub fn is_of_record(&self) -> bool {
        match self {
            Self::Put(put) => {
                put.condition != Condition::Always
                    || put.want_previous
                    || put.expiry == Expiry::Keep
            }
            Self::Delete { want_previous, .. } => *want_previous,
            _ => true,
        }
    }
}

/// A key that a request will come for soon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreseen {
    /// Its token.
    pub token: Token,
    /// Whether its record will be looked at ([`Op::is_of_record`]).
    pub is_of_record: bool,
}

/// A put.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// What the writer saw.
    pub context: ContextArg<'a>,
    /// The value.
    pub value: &'a [u8],
    /// When it expires.
    pub expiry: Expiry,
    /// Under which condition, decided at this coordinator.
    pub condition: Condition,
    /// Return the object as it was (costs a read).
    pub want_previous: bool,
    /// Whether the answer returns a context.
    pub want_context: bool,
    /// Names the write for retries.
    pub write_id: Option<WriteId>,
}

/// The context of a write.
#[derive(Clone, Copy, Debug)]
pub enum ContextArg<'a> {
    /// None: the bucket's `blind_put` rule applies.
    Blind,
    /// None, and it follows everything earlier, whatever the bucket's rule (what RESP `SET` and `DEL` do).
    Latest,
    /// As a reader got it.
    Opaque(&'a [u8]),
}

/// When a written value expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// By the bucket's `ttl`, else never.
    Default,
    /// Never.
    Never,
    /// At this time, in milliseconds since the Unix epoch.
    AtMs(u64),
    /// As the value there has it (costs a read).
    Keep,
}

/// A condition on what the coordinator's replica holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// None.
    Always,
    /// Only when the key has no value.
    IfAbsent,
    /// Only when the key has a value.
    IfPresent,
}
