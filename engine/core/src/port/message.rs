//! What the shards of different nodes say to each other.
//!
//! Messages go one way and may be lost, doubled or late; an answer names its question by [`CallId`], which carries a
//! generation, so that one that comes too late is recognised. A message about a key goes to the shard that owns the key
//! on the receiving node, whatever shard sent it.
//!
//! `B` is how bytes are held: [`ByteRange`](crate::port::ByteRange) on the way out, `&[u8]` on the way in.

use core::fmt;

use crate::base::hash;
use crate::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use crate::port::{Outcome, Request};

/// A question of one shard, and its generation; only the asker reads it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct CallId(pub u64);

/// Which shard of a node a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// The owner of this token, whatever number of shards the node has.
    Token(Token),
    /// This shard (an answer goes to the shard that asked).
    Shard(ShardIndex),
    /// The shard with the control role; on a connection that carries nothing else.
    Control,
}

impl Lane {
    /// The shard with the control role.
    pub const CONTROL_SHARD: ShardIndex = ShardIndex(0);
}

/// Where a message came from; where its answer goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its shard.
    pub shard: ShardIndex,
}

/// Why a peer did not do what it was asked. State there: unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It neither holds the partition nor is to hold it; its ring may be newer.
    NotHere,
    /// Its queues are full.
    Overloaded,
    /// It takes no writes, for want of space.
    DiskFull,
    /// It takes no writes, its disk failed.
    ReadOnly,
    /// It holds the key, and cannot read it: unknown there, not absent.
    Unreadable,
    /// The object does not verify, or is from a clock too far ahead.
    BadObject,
    /// It is stopping.
    Stopping,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHere => "it does not hold the partition",
            Self::Overloaded => "its queues are full",
            Self::DiskFull => "its disk is full",
            Self::ReadOnly => "its disk failed",
            Self::Unreadable => "its record of the key is unreadable",
            Self::BadObject => "the object does not verify there, or is from a clock too far ahead",
            Self::Stopping => "it is stopping",
        })
    }
}

/// What a replica holds of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held<B> {
    /// The fingerprint, 0 when it certainly holds nothing.
    pub fingerprint: u64,
    /// The object, tombstones too, where it was asked for and there is one.
    pub object: Option<B>,
}

/// One range of tokens, both ends included, within one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenRange {
    /// The first.
    pub first: Token,
    /// The last.
    pub last: Token,
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub enum Message<B> {
    /// Merge this object into what you hold; answered by [`Message::Applied`].
    Apply {
        /// The question.
        call: CallId,
        /// Bucket, key and the key's token.
        key: KeyName<B>,
        /// The whole object.
        object: B,
        /// Answer only when it is on stable media.
        is_durable: bool,
        /// Keep it for this node, which is away.
        hint_for: Option<NodeId>,
        /// Repair or transfer: bounded by credit, behind clients.
        is_background: bool,
    },
    /// The answer: whether it is on stable media.
    Applied {
        /// The question.
        call: CallId,
        /// Its end.
        result: Result<bool, Refusal>,
        /// Requests that wait at the answering shard.
        queue: u32,
    },
    /// What do you hold of this key? Answered by [`Message::Fetched`].
    Fetch {
        /// The question.
        call: CallId,
        /// The key.
        key: KeyName<B>,
        /// The object, or only its fingerprint.
        wants_object: bool,
    },
    /// The answer.
    Fetched {
        /// The question.
        call: CallId,
        /// Its end.
        result: Result<Held<B>, Refusal>,
        /// Requests that wait at the answering shard.
        queue: u32,
    },
    /// Coordinate this client's request: the sender is not on the key's preference list, or cannot. Answered by
    /// [`Message::Outcome`].
    Request {
        /// The question.
        call: CallId,
        /// Of a write: told apart by it from every other that its sender's shard forwards, so that it is carried out once
        /// though its frame may come twice. 0: an older release's, or not needed.
        name: u64,
        /// The request without its bytes; `deadline_ns` is what is left of it.
        shape: Request<'static>,
        /// Bucket, key and token.
        key: KeyName<B>,
        /// The put's value.
        value: B,
        /// The put's opaque context.
        context: B,
    },
    /// The answer: the outcome, whose ranges are counted from the beginning of `bytes`.
    Outcome {
        /// The question.
        call: CallId,
        /// The end.
        outcome: Outcome,
        /// What it refers to.
        bytes: B,
    },
    /// Compare what both hold of a range; see `upkeep::reconcile`.
    Compare {
        /// The question.
        call: CallId,
        /// The range.
        range: TokenRange,
        /// The sum of its fingerprints at the sender (wrapping).
        sum: u64,
        /// How many keys the sender has there.
        count: u64,
    },
    /// The answer to [`Message::Compare`].
    Compared {
        /// The question.
        call: CallId,
        /// The part of the range that the answering shard owns.
        range: TokenRange,
        /// The sum of its fingerprints of that part.
        sum: u64,
        /// How many keys it has there.
        count: u64,
        /// Its keys as pairs of token and fingerprint, 16 bytes each, little-endian, where they are few; else empty.
        list: B,
    },
    /// Send the records of these tokens: 8 bytes each, little-endian. Answered by [`Message::Records`].
    Pull {
        /// The question.
        call: CallId,
        /// Any of the tokens (for the way to the shard).
        lane: Token,
        /// The tokens.
        tokens: B,
    },
    /// Records: each `u32` bucket length, `u32` key length, `u32` object length, bucket, key, object.
    Records {
        /// The question.
        call: CallId,
        /// How many of the tokens asked for are answered by it, from the first on: the rest must be asked for again.
        tokens_answered: u32,
        /// The records.
        records: B,
        /// Whether some that it should have could not be read.
        is_incomplete: bool,
    },
    /// Whether these tombstones may be forgotten, or that they are to be; see `upkeep::reaper`.
    Reap {
        /// The question.
        call: CallId,
        /// Of this partition.
        partition: PartitionId,
        /// Ask, or do.
        is_final: bool,
        /// Pairs of token and fingerprint, 16 bytes each.
        list: B,
    },
    /// The answer: the pairs of which this shard holds exactly that tombstone, or nothing, and no hint.
    Reaped {
        /// The question.
        call: CallId,
        /// The pairs.
        list: B,
    },
    /// Gossip, between control shards; see `cluster`.
    Gossip {
        /// Its bytes.
        bytes: B,
    },
}

/// A key by its names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyName<B> {
    /// The bucket.
    pub bucket: B,
    /// The key.
    pub key: B,
    /// `base::hash::token(bucket, key)`.
    pub token: Token,
}

impl<'a> KeyName<&'a [u8]> {
    /// The name of a bucket's key.
    pub fn of(bucket: &'a [u8], key: &'a [u8]) -> Self {
        let token = hash::token(bucket, key);
        Self { bucket, key, token }
    }
}

impl TokenRange {
    /// Of one token.
    pub const fn one(token: Token) -> Self {
        Self {
            first: token,
            last: token,
        }
    }
}

impl CallId {
    /// Of a message whose answer nobody waits for.
    pub(crate) const NOBODY: Self = Self(u64::MAX);
}

impl<'a> Request<'a> {
    /// Its key, by its names.
    pub(crate) const fn key_name(&self) -> KeyName<&'a [u8]> {
        KeyName {
            bucket: self.bucket,
            key: self.key,
            token: self.token,
        }
    }
}

impl<B: Copy> KeyName<B> {
    fn map<C>(self, f: &impl Fn(B) -> C) -> KeyName<C> {
        KeyName {
            bucket: f(self.bucket),
            key: f(self.key),
            token: self.token,
        }
    }
}

impl<B: Copy> Message<B> {
    /// The same message with its bytes held in another way.
    pub fn map<C>(self, f: &impl Fn(B) -> C) -> Message<C> {
        match self {
            Self::Apply {
                call,
                key,
                object,
                is_durable,
                hint_for,
                is_background,
            } => Message::Apply {
                call,
                key: key.map(f),
                object: f(object),
                is_durable,
                hint_for,
                is_background,
            },
            Self::Applied {
                call,
                result,
                queue,
            } => Message::Applied {
                call,
                result,
                queue,
            },
            Self::Fetch {
                call,
                key,
                wants_object,
            } => Message::Fetch {
                call,
                key: key.map(f),
                wants_object,
            },
            Self::Fetched {
                call,
                result,
                queue,
            } => Message::Fetched {
                call,
                result: result.map(|held| Held {
                    fingerprint: held.fingerprint,
                    object: held.object.map(f),
                }),
                queue,
            },
            Self::Request {
                call,
                name,
                shape,
                key,
                value,
                context,
            } => Message::Request {
                call,
                name,
                shape,
                key: key.map(f),
                value: f(value),
                context: f(context),
            },
            Self::Outcome {
                call,
                outcome,
                bytes,
            } => Message::Outcome {
                call,
                outcome,
                bytes: f(bytes),
            },
            Self::Compare {
                call,
                range,
                sum,
                count,
            } => Message::Compare {
                call,
                range,
                sum,
                count,
            },
            Self::Compared {
                call,
                range,
                sum,
                count,
                list,
            } => Message::Compared {
                call,
                range,
                sum,
                count,
                list: f(list),
            },
            Self::Pull { call, lane, tokens } => Message::Pull {
                call,
                lane,
                tokens: f(tokens),
            },
            Self::Records {
                call,
                tokens_answered,
                records,
                is_incomplete,
            } => Message::Records {
                call,
                tokens_answered,
                records: f(records),
                is_incomplete,
            },
            Self::Reap {
                call,
                partition,
                is_final,
                list,
            } => Message::Reap {
                call,
                partition,
                is_final,
                list: f(list),
            },
            Self::Reaped { call, list } => Message::Reaped {
                call,
                list: f(list),
            },
            Self::Gossip { bytes } => Message::Gossip { bytes: f(bytes) },
        }
    }
}

impl Message<&[u8]> {
    /// A forwarded client request as a request again; its id is the caller's to choose.
    pub fn as_request<'a>(
        shape: &Request<'static>,
        key: KeyName<&'a [u8]>,
        value: &'a [u8],
        context: &'a [u8],
    ) -> Request<'a> {
        Request {
            bucket: key.bucket,
            key: key.key,
            token: key.token,
            op: shape.op.with_parts(value, context),
            ..*shape
        }
    }
}

/// A message on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// To this node.
    pub to: NodeId,
    /// To which of its shards.
    pub lane: Lane,
    /// The message; its bytes lie in `Effects::bytes`.
    pub message: Message<crate::port::ByteRange>,
}
