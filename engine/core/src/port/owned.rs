//! A request that owns its bytes: what waits for the disk, and what crosses from core to core.

use crate::port::{ContextArg, Op, Put, Request};

impl Request<'_> {
    /// The request without its bytes.
    pub fn shape(&self) -> Request<'static> {
        Request {
            bucket: &[],
            key: &[],
            op: self.op.with_parts(&[], &[]),
            ..*self
        }
    }
}

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
        let (value, context) = request.op.parts();
        let bytes = [request.bucket, request.key, value, context]
            .concat()
            .into_boxed_slice();
        let bucket_end = request.bucket.len();
        let key_end = bucket_end + request.key.len();
        Self {
            shape: request.shape(),
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
            op: self.shape.op.with_parts(value, context),
            ..self.shape
        }
    }
}

impl<'a> ContextArg<'a> {
    /// The opaque context's bytes; empty where it has none.
    pub const fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Opaque(bytes) => bytes,
            Self::Blind | Self::Latest => &[],
        }
    }
}

impl Op<'_> {
    /// Whether it may change something.
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Put(_) | Self::Delete { .. } | Self::Merge { .. } | Self::SetExpiry { .. }
        )
    }
}

impl<'a> Op<'a> {
    /// Its bytes: the value (or object), and the opaque context; empty where it has none.
    pub fn parts(&self) -> (&'a [u8], &'a [u8]) {
        match self {
            Op::Put(put) => (put.value, put.context.bytes()),
            Op::Delete { context, .. } => (&[], context.bytes()),
            Op::Merge { object } => (object, &[]),
            Op::Cluster { command } => (command, &[]),
            Op::Get
            | Op::Exists
            | Op::Fetch { .. }
            | Op::SetExpiry { .. }
            | Op::Scan { .. }
            | Op::Records { .. }
            | Op::Count => (&[], &[]),
        }
    }

    /// The same operation with these bytes in the places of its own.
    pub fn with_parts<'b>(&self, value: &'b [u8], context: &'b [u8]) -> Op<'b> {
        match *self {
            Op::Get => Op::Get,
            Op::Exists => Op::Exists,
            Op::Fetch { wants_object } => Op::Fetch { wants_object },
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
            Op::Cluster { .. } => Op::Cluster { command: value },
            Op::SetExpiry {
                expiry,
                want_previous,
            } => Op::SetExpiry {
                expiry,
                want_previous,
            },
            Op::Scan { cursor, count } => Op::Scan { cursor, count },
            Op::Records { cursor, count } => Op::Records { cursor, count },
            Op::Count => Op::Count,
        }
    }
}

fn with_context<'b>(context: ContextArg<'_>, bytes: &'b [u8]) -> ContextArg<'b> {
    match context {
        ContextArg::Blind => ContextArg::Blind,
        ContextArg::Latest => ContextArg::Latest,
        ContextArg::Opaque(_) => ContextArg::Opaque(bytes),
    }
}
