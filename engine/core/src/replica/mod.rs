//! The shard: one core's part of a node, a state machine over its log and index.
//!
//! # Layout
//! - `config`, `status`: what it is told, what it tells;
//! - `machine`: the state, and an event in, effects out;
//! - `open`: a start;
//! - `get`, `write`, `scan`: what requests do;
//! - `clean`, `scrub`, `checkpoints`: what happens behind them;
//! - `stages`, `foreground`, `pace`: where clients' time goes, what they feel, and how fast the background may go;
//! - `records`, `kept`, `hints`: what the background needs of it: ranges, marks of what is whole, hints;
//! - `turn`: what those who stand on it handle an event with.

mod checkpoints;
mod clean;
mod config;
mod foreground;
mod get;
pub(crate) mod hints;
mod kept;
mod machine;
mod open;
pub(crate) mod pace;
pub(crate) mod records;
mod replaying;
mod scan;
mod scrub;
mod stages;
mod status;
pub(crate) mod turn;
mod write;

pub use config::{Bucket, ShardConfig};
pub use hints::record_request;
pub use machine::Replica;
pub use open::{OpenError, RecoveryReport};
pub use pace::{BACKGROUND_BYTES_PER_S_DEFAULT, PaceConfig, SLA_P999_NS_DEFAULT};
pub use stages::{Stage, StageTimes, Stages};
pub use status::{Damage, ShardStatus, WriteState};

#[cfg(test)]
pub(crate) mod bench_tests;
#[cfg(test)]
mod causal_tests;
#[cfg(test)]
mod checkpoints_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod full_tests;
#[cfg(test)]
mod lost_tests;
#[cfg(test)]
mod map_tests;
#[cfg(test)]
mod prefix_tests;
#[cfg(test)]
mod quarantine_tests;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod scrub_tests;
