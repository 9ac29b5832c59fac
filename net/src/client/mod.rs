//! The client: talks to the shard that owns a key, retries what may be retried, and says honestly what is in doubt.
//!
//! Owns routing by the downloaded ring, deadlines, retries within a budget, and pipelining. Never decides what
//! versions mean: siblings and contexts come from the server, merges from the caller.
//!
//! # Layout
//! - `options`: what a caller may say, for a client and for a request;
//! - `answer`: what comes back: values, contexts, receipts, errors;
//! - `machine`: the state machine of it all; bytes in, bytes out, no clock, no socket;
//! - `operate`: an operator's command to one node;
//! - `asynchronous`: [`Client`], on tokio;
//! - `blocking`: [`blocking::Client`], on `std::net`.

mod answer;
mod asynchronous;
pub mod blocking;
mod call;
pub mod machine;
mod operate;
mod options;

#[cfg(test)]
mod machine_tests;

pub use crate::tls::{ClientTls, TlsError};
pub use answer::{ClientError, Context, Outcome, Read, Written};
pub use asynchronous::Client;
pub use call::{Call, CallOp};
pub use gramme_engine::merge::{self, Merge};
pub use operate::{OperateError, operate};
pub use options::{ClientOptions, RequestOptions};
