//! The built program with what protects it: passwords, tokens, TLS; what is let in, what is refused, and what is said of it.
//!
//! Owns its processes: each is ended by its handle, also when an assertion fails.

#![allow(missing_docs, reason = "tests")]

mod auth;
#[path = "../../src/tls/fixture.rs"]
mod fixture;
mod node;
#[path = "../ports/mod.rs"]
mod ports;
mod tls;
