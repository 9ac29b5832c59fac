//! What this machine can do at most, so that a result can stand beside its physical limit.
//!
//! Owns small measurements of system calls, wake-ups, loopback, the disk and the generator itself. Never judges.
//!
//! # Layout
//! `host` measures the kernel · `disk` the device under a directory · `generator` this harness against a server
//! that does nothing.

pub mod host;

pub mod disk;

pub mod generator;

use serde::{Deserialize, Serialize};

use crate::record::host::HostFacts;

/// One limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: String,
    /// What to know about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Figure {
            name: name.into(),
            value,
            unit: unit.to_owned(),
            note: String::new(),
        }
    }

    /// With a note.
    pub fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// The schema's name.
pub const SCHEMA: &str = "gramme-bench/limits/1";

/// All limits of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsReport {
    /// `SCHEMA`.
    pub schema: String,
    /// The figures.
    pub limits: Vec<Figure>,
    /// The machine.
    pub host: HostFacts,
}
