//! The gramme shard: a state machine that owns token ranges, their log and their index.
//!
//! No socket, file, clock, thread, random source or async lives in this crate. The outside hands in one
//! [`port::Event`] at a time, with the time beside it, and carries out the [`port::Effect`]s that the shard appends to
//! a buffer which the caller owns. The same bytes in give the same bytes out: production and the simulator run this
//! very code.
//!
//! # Layout
//! In the order in which they build on each other; a module imports from those above it, never from below:
//! - [`base`]: ids, time, hashing, limits;
//! - [`version`]: dots, contexts, objects and their merge;
//! - [`ring`]: members, layouts and routes: which nodes and which shard own a token;
//! - [`port`]: events, effects, requests and outcomes;
//! - [`store`]: bytes on disk: log, index, cache, checkpoint, recovery, cleaner;
//! - [`replica`]: what this shard keeps, as owner or as stand-in, and what requests do to it;
//! - [`coordinate`]: a client's request, one slot each;
//! - [`cluster`]: who is a member, who seems alive: gossip, and operators' commands;
//! - [`upkeep`]: the background: hints, transfers, comparing, draining, tombstones;
//! - [`shard`]: the machine that joins them: an event in, effects out.
#![forbid(unsafe_code)]

pub mod base;

pub mod version;

pub mod ring;

pub mod port;

pub mod store;

pub mod replica;

pub mod coordinate;

pub mod cluster;

pub mod upkeep;

pub mod shard;
