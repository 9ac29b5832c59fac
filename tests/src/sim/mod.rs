//! The simulator: a whole cluster of real engines in one thread on virtual time from one seed.
//!
//! # Layout
//! - `random`, `swarm`: chance, and what a seed draws of it;
//! - `disk`, `frontiers`, `node`: a shard, the disk under it, and what shards of a node tell each other;
//! - `world`: virtual time, the network, and faults;
//! - `client`, `history`: what clients do, and what they saw;
//! - `checks`: what must hold of it, a file each;
//! - `run`: one seed from its beginning to its verdict.

pub mod checks;
mod client;
pub(crate) mod disk;
mod frontiers;
mod history;
mod node;
pub(crate) mod random;
mod run;
mod swarm;
mod world;

pub use run::{Report, run};
pub use swarm::Swarm;
