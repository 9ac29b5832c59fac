//! Requests and answers that cross threads: their bytes copied into one buffer, their ranges moved along.
//!
//! One buffer for all parts of a request, and one for any number of requests of a batch, so that a hop costs one
//! allocation at most, and none where the buffer is one that came back.

use std::cell::RefCell;

use gramme_core::port::{ByteRange, Foreseen, Message, Outcome, Request, RequestId};

/// A request whose bytes lie in a buffer beside it.
#[derive(Debug)]
pub(crate) struct Packed {
    shape: Request<'static>,
    bucket: ByteRange,
    key: ByteRange,
    value: ByteRange,
    context: ByteRange,
}

impl Packed {
    /// Appends the request's bytes to the buffer.
    pub(crate) fn pack(request: &Request<'_>, buffer: &mut Vec<u8>) -> Self {
        let (value, context) = request.op.parts();
        Self {
            bucket: append(buffer, request.bucket),
            key: append(buffer, request.key),
            value: append(buffer, value),
            context: append(buffer, context),
            shape: request.shape(),
        }
    }

    /// The request again, over the buffer that it was packed into.
    pub(crate) fn unpack<'a>(&self, buffer: &'a [u8], id: RequestId) -> Request<'a> {
        let op = self
            .shape
            .op
            .with_parts(self.value.of(buffer), self.context.of(buffer));
        Request {
            id,
            bucket: self.bucket.of(buffer),
            key: self.key.of(buffer),
            op,
            ..self.shape
        }
    }

    /// What it will look at.
    pub(crate) fn foreseen(&self) -> Foreseen {
        Foreseen {
            token: self.shape.token,
            is_of_record: self.shape.op.is_of_record(),
        }
    }

    /// Whether it may have changed something by the time that nobody answers for it any more.
    pub(crate) const fn is_write(&self) -> bool {
        self.shape.op.is_write()
    }
}

/// Appends what the outcome refers to in `bytes`, and only that, to `into`; returns the outcome that refers to it there.
pub(crate) fn copy_outcome(outcome: &Outcome, bytes: &[u8], into: &mut Vec<u8>) -> Outcome {
    outcome.map(|range| append(into, range.of(bytes)))
}

/// Appends a message's bytes to `into`; returns the message that refers to them there.
pub(crate) fn copy_message(message: Message<&[u8]>, into: &mut Vec<u8>) -> Message<ByteRange> {
    let into = RefCell::new(into);
    message.map(&|bytes| append(&mut into.borrow_mut(), bytes))
}

/// A buffer holds 4 GiB at most: keys, contexts and values are bounded far below, senders bound their batches, and
/// a message of another node was one frame.
fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> ByteRange {
    let start = u32::try_from(buffer.len()).expect("batches are bounded far below 4 GiB");
    buffer.extend_from_slice(bytes);
    let end = u32::try_from(buffer.len()).expect("batches are bounded far below 4 GiB");
    ByteRange { start, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::base::ids::Token;
    use gramme_core::port::{Condition, ContextArg, Durability, Expiry, Op, Put, Quorum, Receipt};
    use gramme_core::version::WriteId;

    #[test]
    fn a_request_comes_out_as_it_went_in_whatever_lies_before_it() {
        let request = Request {
            id: RequestId(1),
            deadline_ns: Some(9),
            bucket: b"carts",
            key: b"k",
            token: Token(77),
            durability: Some(Durability::All),
            quorum: Quorum::default(),
            wants_object: false,
            is_forwarded: false,
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
