//! Load from other hosts.
//!
//! Owns the conversation between the host that judges and the hosts that generate. Never compares clocks: an agent's
//! windows are numbered from its own start, and all start when they are told to.
//!
//! One JSON value a line, over TCP:
//!
//! ```text
//!   judge → agent   { "job": … }        agent → judge   { "ready": host }  or  { "failed": why }
//!   judge → agent   "go"                agent → judge   { "window": … } …  then { "done": … }
//! ```
//!
//! Histograms are sent whole and added, so the percentiles of all agents together are exact; averaging percentiles
//! would not be.
//!
//! # Layout
//! `protocol` is the words · `serve` is the agent · `fleet` is the judge's side.

pub mod protocol;

pub mod serve;

pub mod fleet;
