//! A client's request, as every edge (RESP, native, embedded) hands it in.

use crate::base::ids::Token;
use crate::version::WriteId;

/// Chosen by the edge, handed back untouched with the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// How many of a write's acknowledgements must be on stable media.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// None: acknowledged from memory, committed within `commit_interval`.
    #[default]
    Buffered,
    /// One of the W (the paper's durable write).
    One,
    /// All of the W.
    All,
}

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
    /// What to do.
    pub op: Op<'a>,
}

/// What a request does.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// The object of the key: [`crate::port::Outcome::Object`] or `Absent`.
    Get,
    /// Whether the key has a value: `Outcome::Exists`.
    Exists,
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
    /// How many keys have a value: `Outcome::Count` (expired ones count until they are noticed).
    Count,
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
