//! What can be measured: addresses, wire formats, embedded stores.
//!
//! Owns how each kind of target is spoken to. Never decides when or what: that is the load's and the workload's.
//!
//! # Layout
//! `outcome` is how one operation ended · `address` reads `--target` · `wire` is the trait of protocols,
//! `store` that of embedded stores, with one file for each of them.

pub mod address;
pub mod outcome;
pub mod store;
pub mod wire;

pub mod memcached;
pub mod resp;

pub(crate) mod embedded;
pub mod native;

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;

pub mod open;
