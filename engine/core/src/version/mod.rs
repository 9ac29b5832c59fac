//! Versions: what a value's history is, and how two histories become one.
//!
//! Owns the identity of a write ([`Dot`]), what a reader has seen ([`Context`], and as opaque bytes
//! [`ClientContext`]), a key's siblings ([`Object`], read in place as [`ObjectView`]), their [`Fingerprint`], and the
//! rules of a put ([`put`]).
//! Never knows who owns a key, never reads a clock: the time of a new write is handed in.
//!
//! # Layout
//! - `dot`: actors, dots, write ids;
//! - `fingerprint`: 64 bits that identify a key's exact set of dots;
//! - `policy`: what a bucket says about conflicts and puts without a context;
//! - `context`: a set of dots written small;
//! - `opaque`: a context as bytes for clients;
//! - `format`: the byte layout of an object;
//! - `view`: an object read in place;
//! - `object`: an object that is owned, and the merge;
//! - `put`: what a put makes of what is there.

mod context;
mod dot;
mod fingerprint;
mod format;
mod object;
mod opaque;
mod policy;
mod put;
mod view;

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod version_props;
#[cfg(test)]
mod version_tests;

pub use context::Context;
pub use dot::{Actor, Dot, WriteId};
pub use fingerprint::{DotSum, Fingerprint};
pub use format::{ObjectError, latest_encoded_len, write_latest};
pub use object::{Object, Sibling};
pub use opaque::{ClientContext, ContextError, write_latest_context};
pub use policy::{BlindPut, Conflict};
pub use put::{
    Local, PutError, PutInput, PutMode, PutOutcome, dominates_without_read, put,
    replaces_without_read,
};
pub use view::{Content, ObjectView, SiblingView, Siblings};
