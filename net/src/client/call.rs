//! One call as the client keeps it until its end, so that it can be sent again.

use std::time::Duration;

use gramme_core::base::hash;
use gramme_core::base::ids::Token;
use gramme_core::base::limits::{
    BUCKET_BYTES_MAX, CONTEXT_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use gramme_core::port::{Condition, ContextArg};
use gramme_core::version::WriteId;

use super::{ClientError, Context, Read, RequestOptions};
use crate::wire::{Delete, Get, Message, Put, Write};

/// What to do.
#[derive(Clone, Debug)]
pub enum CallOp {
    /// Read the key.
    Get,
    /// Write a value.
    Put {
        /// It.
        value: Vec<u8>,
        /// What the writer saw.
        context: Option<Context>,
    },
    /// Write a tombstone.
    Delete {
        /// What the deleter saw.
        context: Option<Context>,
    },
}

/// A key, what to do with it, and how.
#[derive(Clone, Debug)]
pub struct Call {
    /// The key.
    pub key: Vec<u8>,
    /// What to do.
    pub op: CallOp,
    /// How.
    pub options: RequestOptions,
    /// The write's name; the client gives one where there is none.
    pub write_id: Option<WriteId>,
}

impl Call {
    /// A get.
    pub fn get(key: &[u8], options: &RequestOptions) -> Self {
        Self::new(key, CallOp::Get, options)
    }

    /// A put; without a context the bucket's `blind_put` rule applies.
    pub fn put(
        key: &[u8],
        value: &[u8],
        context: Option<Context>,
        options: &RequestOptions,
    ) -> Self {
        let value = value.to_vec();
        Self::new(key, CallOp::Put { value, context }, options)
    }

    /// A deletion.
    pub fn delete(key: &[u8], context: Option<Context>, options: &RequestOptions) -> Self {
        Self::new(key, CallOp::Delete { context }, options)
    }

    /// The write of an update: it supersedes what was read; where nothing was there, whoever writes first has a value
    /// that must be merged, so the second is not done.
    pub(super) fn update(key: &[u8], value: &[u8], read: &Read, options: &RequestOptions) -> Self {
        let mut call = Self::put(key, value, read.context.clone(), options);
        if read.context.is_none() {
            call.options.condition = Condition::IfAbsent;
        }
        call
    }

    fn new(key: &[u8], op: CallOp, options: &RequestOptions) -> Self {
        Self {
            key: key.to_vec(),
            op,
            options: options.clone(),
            write_id: None,
        }
    }

    /// The limits, at the client's edge.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        let too_long = |what: &str, bytes: usize, bytes_max: usize| {
            let message = format!("{what} has {bytes} bytes, {bytes_max} are allowed");
            (bytes > bytes_max).then_some(ClientError::Usage(message))
        };
        let (value_bytes, context_bytes) = match &self.op {
            CallOp::Get => (0, 0),
            CallOp::Put { value, context } => (value.len(), context_bytes(context)),
            CallOp::Delete { context } => (0, context_bytes(context)),
        };
        let quorum = self.options.quorum;
        if quorum.n != 0 && (quorum.r > quorum.n || quorum.w > quorum.n) {
            return Err(ClientError::Usage(format!(
                "r = {} and w = {} cannot exceed n = {}",
                quorum.r, quorum.w, quorum.n
            )));
        }
        too_long("the key", self.key.len(), KEY_BYTES_MAX)
            .or_else(|| {
                too_long(
                    "the bucket's name",
                    self.options.bucket.len(),
                    BUCKET_BYTES_MAX,
                )
            })
            .or_else(|| too_long("the value", value_bytes, VALUE_BYTES_MAX))
            .or_else(|| too_long("the context", context_bytes, CONTEXT_BYTES_MAX))
            .map_or(Ok(()), Err)
    }

    pub(super) fn token(&self) -> Token {
        hash::token(&self.options.bucket, &self.key)
    }

    pub(super) const fn is_write(&self) -> bool {
        !matches!(self.op, CallOp::Get)
    }

    /// How many zones it asks for.
    pub(super) const fn zones(&self) -> u8 {
        self.options.quorum.zones
    }

    /// Whether sending it again is harmless when it may have happened already.
    pub(super) fn is_repeatable(&self) -> bool {
        self.options.condition == Condition::Always
    }

    /// As a frame says it, with the time that is left.
    pub(super) fn message(&self, left: Duration) -> Message<'_> {
        let target = Get {
            bucket: &self.options.bucket,
            key: &self.key,
            deadline_us: u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1),
            quorum: self.options.quorum,
        };
        let write = Write {
            target,
            context: if self.options.latest {
                ContextArg::Latest
            } else {
                ContextArg::Blind
            },
            durability: self.options.durability,
            write_id: self.write_id,
            is_strict: self.options.is_strict,
            want_context: true,
            want_previous: false,
        };
        match &self.op {
            CallOp::Get => Message::Get(target),
            CallOp::Put { value, context } => Message::Put(Put {
                write: with_context(write, context),
                value,
                expiry: self.options.expiry,
                condition: self.options.condition,
            }),
            CallOp::Delete { context } => Message::Delete(Delete {
                write: with_context(write, context),
            }),
        }
    }
}

fn with_context<'a>(write: Write<'a>, context: &'a Option<Context>) -> Write<'a> {
    match context {
        Some(context) => Write {
            context: ContextArg::Opaque(context.as_bytes()),
            ..write
        },
        None => write,
    }
}

fn context_bytes(context: &Option<Context>) -> usize {
    context
        .as_ref()
        .map_or(0, |context| context.as_bytes().len())
}
