//! Who is a member, who seems alive, and what follows for this node. Knows nothing of keys.
//!
//! # Layout
//! - `boot`: a node's start, and what is kept from run to run;
//! - `rng`, `detector`: who seems alive, by SWIM;
//! - `word`: what control shards say to each other; `sighting`: who spoke; `clock`: whose clock is wrong;
//! - `buckets`: their rules as cluster state;
//! - `vitals`: how full disks are, as their nodes say;
//! - `view`, `progress`: what all shards work by, and what they say of partitions that move;
//! - `known`: what others have shown that they know, before something is taken away for good;
//! - `machine`, `voice`, `exchange`, `publish`: the [`Cluster`] that joins them: time and messages in, an [`Out`] back;
//! - `command`, `status`: operators' commands and their answers, JSON.

mod boot;
mod buckets;
mod clock;
mod command;
mod detector;
mod exchange;
mod known;
mod machine;
mod progress;
mod publish;
mod rng;
mod sighting;
mod status;
mod view;
mod vitals;
mod voice;
mod word;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod membership_tests;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod starts_tests;

pub use boot::{Boot, BootError, has_company};
pub use machine::{Cluster, Out};
pub use vitals::Vitals;
