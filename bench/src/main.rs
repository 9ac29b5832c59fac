//! The `gramme-bench` binary; `gramme bench` executes it.

use std::process::ExitCode;

use clap::Parser;
use gramme_bench::command::args::{Cli, Command};
use gramme_bench::command::{compare, limits, report, run, search};

fn main() -> ExitCode {
    // A bad command line ends here with 2, as clap does it.
    let cli = Cli::parse();
    let ended = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Search(args) => search::search(args),
        Command::Compare(args) => compare::compare(args),
        Command::Report(args) => report::report(args),
        Command::Limits(args) => limits::limits(args),
        Command::Agent(args) => limits::agent(args),
        Command::Stub(args) => limits::stub(args),
    };
    match ended {
        Ok(ended) => ExitCode::from(ended.code()),
        Err(failure) => {
            eprintln!("gramme bench: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
