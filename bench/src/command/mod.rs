//! The command line: `gramme-bench run | search | compare | limits | report | agent | stub`.
//!
//! Owns what is typed and what is printed. Never measures by itself.
//!
//! # Layout
//! `exit` is how a command ends · `args` is what was typed · `plan` is what will run · `progress` shows it while it
//! runs · then one file a command.

pub mod exit;

pub mod args;

pub mod plan;

pub mod progress;

pub mod run;

pub mod search;

pub mod compare;

pub mod limits;

pub mod report;
