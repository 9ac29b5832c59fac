//! gramme shards on cores: executors, disks, mailboxes, and the embedded engine.
//!
//! # Layout
//! - [`ring`]: one io_uring for each shard, which its disk and its edges share;
//! - [`edge`]: what a source of requests is.

pub mod edge;
pub mod ring;

pub use gramme_core as core;
