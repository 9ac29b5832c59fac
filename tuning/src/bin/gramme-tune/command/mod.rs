//! One file a command.

pub(crate) mod apply;
pub(crate) mod calibrate;
pub(crate) mod check;
pub(crate) mod hold;
pub(crate) mod jitter;
pub(crate) mod knobs;
pub(crate) mod persist;
pub(crate) mod revert;
mod table;

pub(crate) use table::print;

/// Prints to standard output, and ends quietly when nobody reads any more (`… | head`).
pub(crate) fn out(text: &str) -> Result<(), crate::Failure> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(crate::Failure::of),
    }
}
