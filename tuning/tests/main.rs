//! The tuner as a person meets it, on trees of several machines.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod apply_cases;
mod check_cases;
mod crash_cases;
mod deploy_cases;
mod docs_cases;
mod foreign_bytes_cases;
mod persist_cases;
mod program;
mod table_cases;
mod trees;
