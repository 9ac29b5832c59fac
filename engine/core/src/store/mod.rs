//! Bytes on disk: the log, its index, its checkpoints. Knows nothing of owners.
//!
//! # Layout
//! - `format`: batches and records as bytes;
//! - `place`: where a record lies, in 64 bits;
//! - `preface`: what each batch says of the log itself;
//! - `frontier`: what a batch depends on in the logs of the node's other shards;
//! - `buffer`, `segment`, `log`: what is appended to, and read while it is in memory;
//! - `index`, `cache`, `digest`: what is in RAM of each key;
//! - `log_reader`, `tails`, `recovery`, `checkpoint`: from files to an index and a log that goes on;
//! - `piece`: a part of a segment as the background reads it;
//! - `cut`: where the logs of a node's shards end after a crash.

pub mod buffer;
pub mod cache;
pub mod checkpoint;
pub mod cut;
pub mod digest;
pub mod format;
pub mod frontier;
pub mod index;
pub mod log;
mod log_reader;
pub(crate) mod piece;
pub mod place;
pub mod preface;
pub mod recovery;
pub mod segment;
mod tails;
