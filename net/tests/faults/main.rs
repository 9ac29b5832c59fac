//! Real processes that are killed, stopped, starved and cut, with a record of what clients were told outside of them.
//!
//! `cargo test -p gramme --test faults -- --nocapture` runs the short forms one after the other and prints their records;
//! with `GRAMME_FAULTS=long` they take minutes instead of seconds. What needs root says that it is skipped without it.
//!
//! # Layout
//! - `cluster`: three processes, and one alone;
//! - `ledger`: keys of which some are deleted again, and each node's own word on them;
//! - `load`: clients that note what they were told, and the record that is made of it;
//! - a file for each fault.

#![allow(missing_docs, reason = "tests")]

mod away;
mod clock;
mod cluster;
mod dealt;
mod disk;
mod full;
mod idle;
mod kill;
mod ledger;
mod load;
mod mixed;
mod moving;
#[path = "../ports/mod.rs"]
mod ports;
mod proxy;
#[path = "../rings/mod.rs"]
mod rings;
mod rolling;
mod stop;
mod twin;
mod zones;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: each wants the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the long forms are asked for.
fn is_long() -> bool {
    std::env::var("GRAMME_FAULTS").is_ok_and(|form| form == "long")
}
