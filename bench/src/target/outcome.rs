//! How one operation ended.
//!
//! Owns the kinds of error that are counted apart. An error is always an outcome, never a reason to leave a request
//! out of the figures.

use serde::{Deserialize, Serialize};

use crate::workload::value::{ValueVerdict, judge};

/// How many kinds of error there are.
pub const ERROR_KINDS: usize = 8;

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// No connection could be made, or it broke under the request.
    Connection,
    /// No answer within the timeout; the request is in the figures with at least that time.
    Timeout,
    /// The target answered with an error.
    Refused,
    /// The target answered that it is overloaded.
    Overloaded,
    /// The target answered something that is not its protocol.
    Protocol,
    /// The target returned a value that was damaged or belongs to another key.
    WrongValue,
    /// The target cannot do this operation.
    Unsupported,
    /// The generator's own bound on requests in flight was reached, so it was not sent.
    Capped,
}

impl ErrorKind {
    /// All kinds, in the order of their indexes.
    pub const ALL: [ErrorKind; ERROR_KINDS] = [
        ErrorKind::Connection,
        ErrorKind::Timeout,
        ErrorKind::Refused,
        ErrorKind::Overloaded,
        ErrorKind::Protocol,
        ErrorKind::WrongValue,
        ErrorKind::Unsupported,
        ErrorKind::Capped,
    ];

    /// A dense number for tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in JSON and tables.
    pub fn word(self) -> &'static str {
        match self {
            ErrorKind::Connection => "connection",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Refused => "refused",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Protocol => "protocol",
            ErrorKind::WrongValue => "wrong-value",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Capped => "in-flight-cap",
        }
    }
}

/// How one operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A write, delete or scan was done.
    Done,
    /// A read found the right value.
    Hit,
    /// A read found a value that this harness did not write, so it cannot be judged.
    Foreign,
    /// A read found nothing.
    Miss,
    /// It failed.
    Failed(ErrorKind),
}

impl Outcome {
    /// The outcome of a read of `key_id` that returned `value`.
    pub fn of_read(key_id: u64, value: Option<&[u8]>) -> Outcome {
        match value.map(|value| judge(key_id, value)) {
            None => Outcome::Miss,
            Some(ValueVerdict::Right) => Outcome::Hit,
            Some(ValueVerdict::Foreign) => Outcome::Foreign,
            Some(ValueVerdict::Wrong) => Outcome::Failed(ErrorKind::WrongValue),
        }
    }
}
