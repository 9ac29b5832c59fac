//! The simulator: a whole cluster of real engines in one thread on virtual time from one seed.
//!
//! # Layout
//! - `random`, `swarm`: chance, and what a seed draws of it;
//! - `disk`, `frontiers`, `node`, `membership`: a shard, the disk under it, what shards of a node tell each other, and what
//!   the node is in its cluster;
//! - `redeal`: a node's disks dealt to another number of shards;
//! - `world`: virtual time, the network, faults, and operators;
//! - `client`, `history`: what clients do, and what they saw;
//! - `checks`: what must hold of it, a file each;
//! - `run`: one seed from its beginning to its verdict;
//! - `scenario`: worlds bent towards one bug each;
//! - `minimise`: a failing seed with as few faults as possible.

pub mod checks;
mod client;
pub(crate) mod disk;
mod frontiers;
mod history;
mod membership;
mod minimise;
mod node;
pub(crate) mod random;
mod redeal;
mod run;
mod scenario;
mod swarm;
mod world;

pub use minimise::minimise;
pub use run::{Report, run, run_in};
pub use scenario::Scenario;
pub use swarm::{LIVE_FROM, Swarm, WIDE_FROM};
