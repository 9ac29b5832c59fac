//! `gramme bench` and `gramme tune`: the programs of their own beside this one.
//!
//! They are packages of their own so that a server is built without what only they need.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::{EXIT_FAILED, fail};

/// What is passed on as it is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program's own arguments; `--help` tells them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    args: Vec<OsString>,
}

/// Becomes the program; returns only when that fails.
pub(crate) fn run(program: &str, args: &Args) -> ExitCode {
    let path = match std::env::current_exe() {
        Ok(own) => own.with_file_name(program),
        Err(error) => {
            return fail(
                EXIT_FAILED,
                format_args!("cannot find where gramme itself lies: {error}"),
            );
        }
    };
    if !path.exists() {
        return fail(
            EXIT_FAILED,
            format_args!(
                "{program} is not beside gramme ({}); build it with `cargo build --release -p {program}` and put it there",
                path.display()
            ),
        );
    }
    // The exit code is then that program's own, and so are signals.
    let error = Command::new(&path).args(&args.args).exec();
    fail(
        EXIT_FAILED,
        format_args!("cannot run {}: {error}", path.display()),
    )
}
