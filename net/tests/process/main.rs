//! The built program as its users meet it: started, spoken to, killed, started again, refused.
//!
//! Owns its processes: each is ended by its handle, also when an assertion fails. Ports are the system's choice.
//!
//! # Layout
//! - `node`: a process and its clients; `runs`: what becomes of one; `commands`: what the program does beside it.

#![allow(missing_docs, reason = "tests")]

mod commands;
mod node;
#[path = "../ports/mod.rs"]
mod ports;
mod runs;
