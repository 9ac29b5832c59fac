//! A request that owns its bytes: what waits for the disk, and what crosses from core to core.

use crate::port::{ContextArg, Op, Put, Request};

/// A request with all its bytes in one buffer.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    shape: Request<'static>,
    bytes: Box<[u8]>,
    bucket_end: usize,
    key_end: usize,
    value_end: usize,
}

impl OwnedRequest {
    /// A copy of a request.
    pub fn new(request: &Request<'_>) -> Self {
        let (value, context) = parts(&request.op);
        let bytes = [request.bucket, request.key, value, context]
            .concat()
            .into_boxed_slice();
        let bucket_end = request.bucket.len();
        let key_end = bucket_end + request.key.len();
        let shape = Request {
            id: request.id,
            deadline_ns: request.deadline_ns,
            bucket: &[],
            key: &[],
            token: request.token,
            durability: request.durability,
            op: with_parts(request.op, &[], &[]),
        };
        Self {
            shape,
            bytes,
            bucket_end,
            key_end,
            value_end: key_end + value.len(),
        }
    }

    /// The request, borrowed.
    pub fn request(&self) -> Request<'_> {
        let value = &self.bytes[self.key_end..self.value_end];
        let context = &self.bytes[self.value_end..];
        Request {
            bucket: &self.bytes[..self.bucket_end],
            key: &self.bytes[self.bucket_end..self.key_end],
            op: with_parts(self.shape.op, value, context),
            ..self.shape
        }
    }
}

fn context_bytes<'a>(context: &ContextArg<'a>) -> &'a [u8] {
    match context {
        ContextArg::Opaque(bytes) => bytes,
        ContextArg::Blind | ContextArg::Latest => &[],
    }
}

fn parts<'a>(op: &Op<'a>) -> (&'a [u8], &'a [u8]) {
    match op {
        Op::Put(put) => (put.value, context_bytes(&put.context)),
        Op::Delete { context, .. } => (&[], context_bytes(context)),
        Op::Merge { object } => (object, &[]),
        Op::Get | Op::Exists | Op::SetExpiry { .. } | Op::Scan { .. } | Op::Count => (&[], &[]),
    }
}

fn with_context<'b>(context: ContextArg<'_>, bytes: &'b [u8]) -> ContextArg<'b> {
    match context {
        ContextArg::Blind => ContextArg::Blind,
        ContextArg::Latest => ContextArg::Latest,
        ContextArg::Opaque(_) => ContextArg::Opaque(bytes),
    }
}

fn with_parts<'b>(op: Op<'_>, value: &'b [u8], context: &'b [u8]) -> Op<'b> {
    match op {
        Op::Get => Op::Get,
        Op::Exists => Op::Exists,
        Op::Put(put) => Op::Put(Put {
            context: with_context(put.context, context),
            value,
            expiry: put.expiry,
            condition: put.condition,
            want_previous: put.want_previous,
            want_context: put.want_context,
            write_id: put.write_id,
        }),
        Op::Delete {
            context: former,
            want_previous,
            want_context,
            write_id,
        } => Op::Delete {
            context: with_context(former, context),
            want_previous,
            want_context,
            write_id,
        },
        Op::Merge { .. } => Op::Merge { object: value },
        Op::SetExpiry {
            expiry,
            want_previous,
        } => Op::SetExpiry {
            expiry,
            want_previous,
        },
        Op::Scan { cursor, count } => Op::Scan { cursor, count },
        Op::Count => Op::Count,
    }
}
