//! Requests and answers that cross threads: their bytes copied into one buffer, their ranges moved along.
//!
//! One buffer for all parts of a request, and one for any number of requests of a batch, so that a hop costs one
//! allocation at most, and none where the buffer is one that came back.

use gramme_core::base::ids::Token;
use gramme_core::port::{
    ByteRange, Condition, ContextArg, Durability, Expiry, Failure, Op, Outcome, Put, Request,
    RequestId,
};
use gramme_core::version::WriteId;

/// A request whose bytes lie in a buffer beside it.
#[derive(Debug)]
pub(crate) struct Packed {
    deadline_ns: Option<u64>,
    token: Token,
    durability: Option<Durability>,
    bucket: ByteRange,
    key: ByteRange,
    op: PackedOp,
}

#[derive(Debug)]
enum PackedOp {
    Get,
    Exists,
    Put {
        context: PackedContext,
        value: ByteRange,
        expiry: Expiry,
        condition: Condition,
        want_previous: bool,
        want_context: bool,
        write_id: Option<WriteId>,
    },
    Delete {
        context: PackedContext,
        want_previous: bool,
        want_context: bool,
        write_id: Option<WriteId>,
    },
    Merge {
        object: ByteRange,
    },
    SetExpiry {
        expiry: Expiry,
        want_previous: bool,
    },
    Scan {
        cursor: u64,
        count: u32,
    },
    Count,
}

#[derive(Debug)]
enum PackedContext {
    Blind,
    Latest,
    Opaque(ByteRange),
}

impl PackedContext {
    fn pack(context: ContextArg<'_>, buffer: &mut Vec<u8>) -> Self {
        match context {
            ContextArg::Blind => Self::Blind,
            ContextArg::Latest => Self::Latest,
            ContextArg::Opaque(bytes) => Self::Opaque(append(buffer, bytes)),
        }
    }

    fn unpack<'a>(&self, buffer: &'a [u8]) -> ContextArg<'a> {
        match self {
            Self::Blind => ContextArg::Blind,
            Self::Latest => ContextArg::Latest,
            Self::Opaque(range) => ContextArg::Opaque(range.of(buffer)),
        }
    }
}

impl Packed {
    /// Appends the request's bytes to the buffer.
    pub(crate) fn pack(request: &Request<'_>, buffer: &mut Vec<u8>) -> Self {
        let bucket = append(buffer, request.bucket);
        let key = append(buffer, request.key);
        let op = match request.op {
            Op::Get => PackedOp::Get,
            Op::Exists => PackedOp::Exists,
            Op::Put(put) => PackedOp::Put {
                context: PackedContext::pack(put.context, buffer),
                value: append(buffer, put.value),
                expiry: put.expiry,
                condition: put.condition,
                want_previous: put.want_previous,
                want_context: put.want_context,
                write_id: put.write_id,
            },
            Op::Delete {
                context,
                want_previous,
                want_context,
                write_id,
            } => PackedOp::Delete {
                context: PackedContext::pack(context, buffer),
                want_previous,
                want_context,
                write_id,
            },
            Op::Merge { object } => PackedOp::Merge {
                object: append(buffer, object),
            },
            Op::SetExpiry {
                expiry,
                want_previous,
            } => PackedOp::SetExpiry {
                expiry,
                want_previous,
            },
            Op::Scan { cursor, count } => PackedOp::Scan { cursor, count },
            Op::Count => PackedOp::Count,
        };
        Self {
            deadline_ns: request.deadline_ns,
            token: request.token,
            durability: request.durability,
            bucket,
            key,
            op,
        }
    }

    /// The request again, over the buffer that it was packed into.
    pub(crate) fn unpack<'a>(&self, buffer: &'a [u8], id: RequestId) -> Request<'a> {
        let op = match &self.op {
            PackedOp::Get => Op::Get,
            PackedOp::Exists => Op::Exists,
            PackedOp::Put {
                context,
                value,
                expiry,
                condition,
                want_previous,
                want_context,
                write_id,
            } => Op::Put(Put {
                context: context.unpack(buffer),
                value: value.of(buffer),
                expiry: *expiry,
                condition: *condition,
                want_previous: *want_previous,
                want_context: *want_context,
                write_id: *write_id,
            }),
            PackedOp::Delete {
                context,
                want_previous,
                want_context,
                write_id,
            } => Op::Delete {
                context: context.unpack(buffer),
                want_previous: *want_previous,
                want_context: *want_context,
                write_id: *write_id,
            },
            PackedOp::Merge { object } => Op::Merge {
                object: object.of(buffer),
            },
            PackedOp::SetExpiry {
                expiry,
                want_previous,
            } => Op::SetExpiry {
                expiry: *expiry,
                want_previous: *want_previous,
            },
            PackedOp::Scan { cursor, count } => Op::Scan {
                cursor: *cursor,
                count: *count,
            },
            PackedOp::Count => Op::Count,
        };
        Request {
            id,
            deadline_ns: self.deadline_ns,
            bucket: self.bucket.of(buffer),
            key: self.key.of(buffer),
            token: self.token,
            durability: self.durability,
            op,
        }
    }

    /// Whether it may have changed something by the time that nobody answers for it any more.
    pub(crate) const fn is_write(&self) -> bool {
        matches!(
            self.op,
            PackedOp::Put { .. }
                | PackedOp::Delete { .. }
                | PackedOp::Merge { .. }
                | PackedOp::SetExpiry { .. }
        )
    }
}

/// Appends what the outcome refers to in `bytes`, and only that, to `into`; returns the outcome that refers to it there.
pub(crate) fn copy_outcome(outcome: &Outcome, bytes: &[u8], into: &mut Vec<u8>) -> Outcome {
    let mut moved = |range: ByteRange| append(into, range.of(bytes));
    match *outcome {
        Outcome::Object {
            object,
            key_hash,
            receipt,
        } => Outcome::Object {
            object: moved(object),
            key_hash,
            receipt,
        },
        Outcome::Written {
            context,
            existed,
            previous,
            receipt,
        } => Outcome::Written {
            context: context.map(&mut moved),
            existed,
            previous: previous.map(&mut moved),
            receipt,
        },
        Outcome::ConditionNotMet { previous } => Outcome::ConditionNotMet {
            previous: previous.map(&mut moved),
        },
        Outcome::Keys { next_cursor, keys } => Outcome::Keys {
            next_cursor,
            keys: moved(keys),
        },
        Outcome::Failed(Failure::Stale { current }) => Outcome::Failed(Failure::Stale {
            current: moved(current),
        }),
        Outcome::Absent { .. } | Outcome::Exists(_) | Outcome::Count(_) | Outcome::Failed(_) => {
            *outcome
        }
    }
}

/// A buffer holds 4 GiB at most: keys, contexts and values are bounded far below, and senders bound their batches.
fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> ByteRange {
    let start = u32::try_from(buffer.len()).expect("batches are bounded far below 4 GiB");
    buffer.extend_from_slice(bytes);
    let end = u32::try_from(buffer.len()).expect("batches are bounded far below 4 GiB");
    ByteRange { start, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::port::Receipt;

    #[test]
    fn a_request_comes_out_as_it_went_in_whatever_lies_before_it() {
        let request = Request {
            id: RequestId(1),
            deadline_ns: Some(9),
            bucket: b"carts",
            key: b"k",
            token: Token(77),
            durability: Some(Durability::All),
            op: Op::Put(Put {
                context: ContextArg::Opaque(b"ctx"),
                value: b"value",
                expiry: Expiry::AtMs(5),
                condition: Condition::IfAbsent,
                want_previous: true,
                want_context: false,
                write_id: Some(WriteId {
                    client: 1,
                    sequence: 2,
                }),
            }),
        };
        let mut buffer = b"before".to_vec();
        let packed = Packed::pack(&request, &mut buffer);
        let unpacked = packed.unpack(&buffer, RequestId(1));
        assert_eq!(format!("{request:?}"), format!("{unpacked:?}"));
        assert!(packed.is_write());
    }

    #[test]
    fn only_the_bytes_of_the_outcome_are_copied() {
        let bytes = b"....object....";
        let outcome = Outcome::Object {
            object: ByteRange { start: 4, end: 10 },
            key_hash: 3,
            receipt: Receipt::default(),
        };
        let mut into = b"xx".to_vec();
        let copied = copy_outcome(&outcome, bytes, &mut into);
        let Outcome::Object { object, .. } = copied else {
            panic!("{copied:?}");
        };
        assert_eq!(object.of(&into), b"object");
        assert_eq!(into.len(), 8);
    }
}
