//! The only words spoken with the outside: events in, effects out, both closed enums.
//!
//! A runtime takes one event at a time to `Shard::step`, then carries out the effects in their order. Bytes of events
//! are borrowed from the runtime's buffers; bytes of effects lie in [`Effects::bytes`] (small answers, copied once) or
//! in the shard's own log buffers (writes, in place).

mod effect;
mod event;
pub(crate) mod ids;
mod message;
mod note;
mod outcome;
mod owned;
mod progress;
mod request;

pub use crate::base::durability::Durability;

pub use effect::{ByteRange, Effect, Effects, LogRange};
pub use event::{Event, FileId, IoError, IoKind, Source, Ticket};
pub use message::{CallId, Held, KeyName, Lane, Message, Peer, Refusal, Send, TokenRange};
pub use note::{Note, ShardDisk};
pub(crate) use outcome::write_record;
pub use outcome::{Failure, Outcome, Receipt, listed, read_record};
pub use owned::OwnedRequest;
pub use progress::{Progress, WorkProgress};
pub use request::{Condition, ContextArg, Expiry, Foreseen, Op, Put, Quorum, Request, RequestId};
