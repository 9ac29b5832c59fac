//! `gramme del`: deletes a key.

use std::process::ExitCode;
use std::time::Instant;

use gramme::client::Context;

use crate::keys::{Failed, KeyArgs, parse_context};
use crate::put::report;

/// Deletes a key
#[derive(Debug, clap::Args)]
pub(crate) struct DelArgs {
    /// The key
    key: String,
    /// What was read, from `gramme get --json`: exactly that is deleted. Without it, everything earlier
    #[arg(long, value_parser = parse_context)]
    context: Option<Context>,
    #[command(flatten)]
    common: KeyArgs,
}

pub(crate) fn run(args: &DelArgs) -> ExitCode {
    args.common.finish(|common| delete(args, common))
}

fn delete(args: &DelArgs, common: &KeyArgs) -> Result<u8, Failed> {
    let client = common.client()?;
    let began = Instant::now();
    let written = client.delete(args.key.as_bytes(), args.context.as_ref())?;
    report(&args.key, &written, common, began);
    Ok(0)
}
