//! gramme shards on cores: executors, disks, mailboxes, and the embedded engine.
//!
//! # Layout
//! - [`clock`]: the two clocks of a turn;
//! - [`ring`]: one io_uring for each shard, which its disk and its edges share;
//! - [`doorbell`]: how a sleeping shard is woken;
//! - `packed`: requests and answers whose bytes cross threads;
//! - `calls`: batches of the embedded handle's requests;
//! - `mailbox`: how threads and shards speak to a shard;
//! - [`directory`]: the data directory, its lock and superblock;
//! - `disk`: a shard's files;
//! - [`edge`]: what a source of requests is;
//! - `executor`: one shard's loop;
//! - [`options`], [`answer`]: what a caller says about a request, and what it gets;
//! - [`local`]: a shard seen by a future on its own core.

pub mod answer;
mod calls;
pub mod clock;
pub mod directory;
mod disk;
pub mod doorbell;
pub mod edge;
mod executor;
pub mod local;
mod mailbox;
pub mod options;
mod packed;
pub mod ring;

pub use gramme_core as core;
