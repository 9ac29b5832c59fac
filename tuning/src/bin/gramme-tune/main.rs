//! The host tuner's command line: `gramme-tune …`, reached as `gramme tune …` too.
//!
//! Owns arguments, questions, output and exit codes: 0 ok, 1 something is off, 2 usage, 3 failed.
//! Never decides what is right for a host: the library's knobs do.

mod args;
mod command;
mod host;

use args::{Arguments, Command};
use clap::{CommandFactory as _, FromArgMatches as _};
use std::process::ExitCode;

/// What the program tells its caller.
pub(crate) enum Exit {
    /// Nothing to do.
    Fine,
    /// Something that matters is off.
    Off,
}

/// Why it stopped.
pub(crate) enum Failure {
    /// The call was wrong.
    Usage(String),
    /// The work failed.
    Failed(String),
}

impl Failure {
    pub(crate) fn of(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

fn main() -> ExitCode {
    let ids = gramme_tune::listing::ids();
    let spec = Arguments::command().after_help(ids);
    // clap prints by itself: 0 for help and version, 2 for a wrong call.
    let arguments =
        Arguments::from_arg_matches(&spec.get_matches()).unwrap_or_else(|error| error.exit());
    let result = match &arguments.command {
        Command::Check(own) => command::check::run(own),
        Command::Apply(own) => command::apply::run(own),
        Command::Revert(own) => command::revert::run(own),
        Command::Persist(own) => command::persist::run(own),
        Command::Calibrate(own) => command::calibrate::run(own),
        Command::Jitter(own) => command::jitter::run(own),
        Command::Hold(own) => command::hold::run(own),
        Command::Knobs(own) => command::knobs::list(own),
        Command::Explain(own) => command::knobs::explain(own),
    };
    match result {
        Ok(Exit::Fine) => ExitCode::SUCCESS,
        Ok(Exit::Off) => ExitCode::from(1),
        Err(Failure::Usage(text)) => {
            eprintln!("gramme-tune: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("gramme-tune: {text}");
            ExitCode::from(3)
        }
    }
}
