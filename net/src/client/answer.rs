//! What comes back: values with their context, receipts of writes, and errors that say whether anything happened.

use std::fmt;

use gramme_core::port::Receipt;
use gramme_core::version::ObjectView;
pub use gramme_engine::answer::Context;
use gramme_engine::merge::Merge;

use crate::wire::{Effect, ErrorCode};

/// What a get found.
#[derive(Clone, Debug)]
pub struct Read {
    /// The concurrent values, the latest writer's first; none: the key has no value.
    pub values: Vec<Vec<u8>>,
    /// What was seen, for the next put; none when the key has no value.
    pub context: Option<Context>,
    /// Who took part.
    pub receipt: Receipt,
    /// Nanoseconds that the server took.
    pub server_ns: u64,
}

impl Read {
    /// Of a key without a value.
    pub(super) const fn absent(receipt: Receipt, server_ns: u64) -> Self {
        Self {
            values: Vec::new(),
            context: None,
            receipt,
            server_ns,
        }
    }

    /// Of an encoded object; none when it is not one.
    pub(super) fn of_object(object: &[u8], key_hash: u64, wall_ms: u64) -> Option<Self> {
        let view = ObjectView::parse(object).ok()?;
        let mut live: Vec<_> = view.live(wall_ms).collect();
        live.sort_unstable_by_key(|sibling| std::cmp::Reverse(sibling.dot.rank()));
        let values: Vec<Vec<u8>> = live
            .iter()
            .filter_map(|sibling| sibling.content.value().map(<[u8]>::to_vec))
            .collect();
        let mut context = Vec::new();
        view.encode_client_context(key_hash, &mut context);
        Some(Self {
            context: (!values.is_empty()).then(|| Context::from_bytes(&context)),
            values,
            receipt: Receipt::default(),
            server_ns: 0,
        })
    }

    /// One value that stands for all; none when the key has none.
    pub fn merged(&self, merge: &impl Merge) -> Option<Vec<u8>> {
        match self.values.as_slice() {
            [] => None,
            [value] => Some(value.clone()),
            values => {
                let siblings: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
                Some(merge.merge(&siblings))
            }
        }
    }

    /// The latest writer's value.
    pub fn latest(&self) -> Option<&[u8]> {
        self.values.first().map(Vec::as_slice)
    }
}

/// What a write came to.
#[derive(Clone, Debug)]
pub struct Written {
    /// To go on with: covers what the writer's own context covered, and this write.
    pub context: Option<Context>,
    /// Whether the condition was met; nothing was written otherwise.
    pub is_applied: bool,
    /// Who took part, and how many had it on stable media.
    pub receipt: Receipt,
    /// Nanoseconds that the server took.
    pub server_ns: u64,
}

/// The end of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of a get.
    Read(Read),
    /// Of a put or a delete.
    Written(Written),
}

/// Why a request failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refused it, or could not finish it.
    Server {
        /// For programs.
        code: ErrorCode,
        /// Whether anything happened.
        effect: Effect,
        /// What the server says.
        message: String,
    },
    /// The write did not see what is there. Not applied. Merge and write again with this context.
    Stale {
        /// What is there.
        current: Box<Read>,
    },
    /// The deadline passed before an answer came.
    Deadline {
        /// Whether anything happened.
        effect: Effect,
    },
    /// No node could be reached, or the connection broke.
    Disconnected {
        /// Whether anything happened.
        effect: Effect,
        /// What the system says.
        message: String,
    },
    /// Too many requests of this client are on their way. Not applied.
    TooManyInFlight,
    /// Not something that can be asked. Not applied.
    Usage(String),
    /// The server's bytes are not the protocol's.
    Protocol(String),
    /// `update` met other writers each time. Not applied, as far as the last try tells.
    Contended {
        /// How often it tried.
        tries: u32,
    },
}

impl ClientError {
    /// Whether a write may have happened, or may yet: read the key, or retry it with its write id.
    pub const fn is_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::Server {
                effect: Effect::InDoubt,
                ..
            } | Self::Deadline {
                effect: Effect::InDoubt
            } | Self::Disconnected {
                effect: Effect::InDoubt,
                ..
            }
        )
    }

    pub(super) fn with_effect(mut self, new: Effect) -> Self {
        match &mut self {
            Self::Server { effect, .. }
            | Self::Deadline { effect }
            | Self::Disconnected { effect, .. } => *effect = new,
            Self::Stale { .. }
            | Self::TooManyInFlight
            | Self::Usage(_)
            | Self::Protocol(_)
            | Self::Contended { .. } => {}
        }
        self
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { message, .. } => f.write_str(message)?,
            Self::Stale { .. } => f.write_str(
                "the key has values that this write did not see; read it, merge, and write with the new context",
            )?,
            Self::Deadline { .. } => {
                f.write_str("no answer came before the deadline; give it more time, or look at the node's load")?;
            }
            Self::Disconnected { message, .. } => write!(f, "no node answered: {message}; is it running there?")?,
            Self::TooManyInFlight => f.write_str(
                "too many requests of this client wait; await some of them, or raise in_flight_max",
            )?,
            Self::Usage(what) => f.write_str(what)?,
            Self::Protocol(what) => write!(f, "the server does not speak gramme's protocol: {what}")?,
            Self::Contended { tries } => write!(
                f,
                "other writers came first {tries} times; try again when there are fewer"
            )?,
        }
        if self.is_in_doubt() {
            f.write_str(" (in doubt: a write may have happened)")?;
        }
        Ok(())
    }
}

impl std::error::Error for ClientError {}
