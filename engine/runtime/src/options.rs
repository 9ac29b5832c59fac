//! What a caller may say about one request, and the request that comes of it.

use std::time::Duration;

use gramme_core::base::hash;
use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_core::port::{
    Condition, ContextArg, Durability, Expiry, Op, Put, Quorum, Request, RequestId,
};
use gramme_core::version::WriteId;

use crate::answer::Context;
use crate::clock;

/// Options of one request; `Options::default()` is right for most. All references, so that making them costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The bucket; `default` where none is named. Naming one that is not configured fails with `NoBucket`.
    pub bucket: Option<&'a [u8]>,
    /// How durable a write is; the bucket's rule where it is not said. More durable waits for the disk.
    pub durability: Option<Durability>,
    /// How long the caller is willing to wait. Work that has not begun by then is dropped (`DeadlineNotApplied`).
    pub deadline: Option<Duration>,
    /// What the writer has read: the write then supersedes exactly that. None: the bucket's `blind_put` rule.
    pub context: Option<&'a Context>,
    /// The value expires after this time; never earlier than a millisecond.
    pub ttl: Option<Duration>,
    /// In how many distinct zones a write's acknowledgements are, and a read's answers; 0 and 1 ask for nothing. A node that is
    /// the whole cluster is in one: more fails with `Zones`, not applied.
    pub zones: u8,
    /// Names the write, so that one that is retried after `InDoubt` is one write.
    pub write_id: Option<WriteId>,
}

impl Options<'_> {
    fn bucket(&self) -> &[u8] {
        self.bucket.unwrap_or(BUCKET_DEFAULT)
    }

    fn request<'b>(&'b self, key: &'b [u8], op: Op<'b>) -> Request<'b> {
        let bucket = self.bucket();
        let deadline_ns = self.deadline.map(|deadline| {
            let wait_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
            clock::mono_ns().saturating_add(wait_ns)
        });
        Request {
            id: RequestId(0),
            deadline_ns,
            bucket,
            key,
            token: hash::token(bucket, key),
            durability: self.durability,
            quorum: Quorum {
                zones: self.zones,
                ..Quorum::default()
            },
            wants_object: false,
            is_forwarded: false,
            op,
        }
    }

    fn context_arg(&self) -> ContextArg<'_> {
        self.context.map_or(ContextArg::Blind, |context| {
            ContextArg::Opaque(context.as_bytes())
        })
    }

    pub(crate) fn get<'b>(&'b self, key: &'b [u8]) -> Request<'b> {
        self.request(key, Op::Get)
    }

    pub(crate) fn put<'b>(
        &'b self,
        key: &'b [u8],
        value: &'b [u8],
        want_context: bool,
    ) -> Request<'b> {
        let expiry = self.ttl.map_or(Expiry::Default, |ttl| {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
            Expiry::AtMs(clock::now().wall_ms.saturating_add(ttl_ms))
        });
        self.request(
            key,
            Op::Put(Put {
                context: self.context_arg(),
                value,
                expiry,
                condition: Condition::Always,
                want_previous: false,
                want_context,
                write_id: self.write_id,
            }),
        )
    }

    pub(crate) fn merge<'b>(&'b self, key: &'b [u8], object: &'b [u8]) -> Request<'b> {
        self.request(key, Op::Merge { object })
    }

    pub(crate) fn scan(&self, cursor: u64, count: u32) -> Request<'_> {
        self.request(b"", Op::Scan { cursor, count })
    }

    pub(crate) fn delete<'b>(&'b self, key: &'b [u8], want_context: bool) -> Request<'b> {
        self.request(
            key,
            Op::Delete {
                context: self.context_arg(),
                want_previous: false,
                want_context,
                write_id: self.write_id,
            },
        )
    }
}
