//! gramme shards on cores: executors, disks, mailboxes, and the embedded engine.
//!
//! # Layout
//! - [`clock`]: the two clocks of a turn;
//! - [`ring`]: one io_uring for each shard, which its disk and its edges share;
//! - [`doorbell`]: how a sleeping shard is woken;
//! - `packed`: requests and answers whose bytes cross threads;
//! - `calls`: batches of the embedded handle's requests;
//! - `mailbox`: how threads and shards speak to a shard;
//! - `frontiers`: what shards tell each other of their logs;
//! - [`directory`]: the data directory, its lock and superblock;
//! - `disk`: a shard's files;
//! - `state`: the file of the cluster's state;
//! - [`edge`]: what a source of requests is;
//! - `executor`: one shard's loop;
//! - [`options`], [`answer`], [`merge`]: what a caller says about a request, what it gets, and how it reconciles;
//! - [`local`]: a shard seen by a future on its own core;
//! - `directory`: the data directory, its lock and its identity;
//! - `engine`: all shards of a node, and the handle to them.

pub mod answer;
mod calls;
pub mod clock;
pub mod directory;
mod disk;
pub mod doorbell;
pub mod edge;
mod engine;
mod executor;
mod frontiers;
pub mod local;
mod mailbox;
pub mod merge;
pub mod options;
mod packed;
pub mod ring;
mod state;
mod tray;

pub use answer::{Context, Error, Found, Written};
pub use engine::{
    ClusterConfig, EdgeFactory, Engine, EngineConfig, OpenError, Pipeline, Reply, SLA_P999_RANGE,
    check_background_rate,
};
pub use gramme_core as core;
pub use local::Local;
pub use merge::Merge;
pub use options::Options;
