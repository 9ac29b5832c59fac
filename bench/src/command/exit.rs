//! How a command ends, for people and for CI.
//!
//! Owns the exit codes of the contract: 0 SLA met (or none asked for), 1 not met, 2 usage, 3 no valid run.

use std::fmt;

use crate::measure::target::TargetError;

/// A command's end when it is not a success.
#[derive(Debug)]
pub enum Failure {
    /// What was typed cannot be run: 2.
    Usage(String),
    /// No valid figures came of it: 3.
    Invalid(String),
}

/// A command's end when it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The SLA was met, or none was asked for: 0.
    Met,
    /// The SLA was not met, or `compare` found B worse: 1.
    Missed,
    /// The run is invalid, and its output has said why: 3.
    Invalid,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Invalid(_) => 3,
        }
    }

    /// A usage error.
    pub fn usage(problem: impl fmt::Display) -> Self {
        Failure::Usage(problem.to_string())
    }

    /// A failed measurement.
    pub fn invalid(problem: impl fmt::Display) -> Self {
        Failure::Invalid(problem.to_string())
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        if error.is_usage() {
            Failure::usage(error)
        } else {
            Failure::invalid(error)
        }
    }
}

impl Ended {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Ended::Met => 0,
            Ended::Missed => 1,
            Ended::Invalid => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(problem) => write!(f, "{problem}\nSee `gramme-bench --help`."),
            Failure::Invalid(problem) => f.write_str(problem),
        }
    }
}
