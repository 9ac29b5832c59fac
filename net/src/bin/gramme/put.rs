//! `gramme put`: writes a value.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::Instant;

use gramme::client::{ClientError, Context, Written};
use serde_json::json;

use crate::keys::{Failed, KeyArgs, context_text, parse_context, print_line, receipt_json};

/// Writes a key
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// The key
    key: String,
    /// The value; without it, or as `-`, it is read from standard input
    value: Option<String>,
    /// What was read, from `gramme get --json`: the write supersedes exactly that. Without it the bucket's rule holds
    #[arg(long, value_parser = parse_context)]
    context: Option<Context>,
    #[command(flatten)]
    common: KeyArgs,
}

pub(crate) fn run(args: &PutArgs) -> ExitCode {
    args.common.finish(|common| put(args, common))
}

fn put(args: &PutArgs, common: &KeyArgs) -> Result<u8, Failed> {
    let value = match args.value.as_deref() {
        Some(value) if value != "-" => value.as_bytes().to_vec(),
        _ => {
            let mut value = Vec::new();
            std::io::stdin().read_to_end(&mut value).map_err(|error| {
                ClientError::Usage(format!(
                    "the value could not be read from standard input: {error}"
                ))
            })?;
            value
        }
    };
    let client = common.client()?;
    let began = Instant::now();
    let written = client.put(args.key.as_bytes(), &value, args.context.as_ref())?;
    report(&args.key, &written, common, began);
    Ok(0)
}

/// Prints what a write came to.
pub(crate) fn report(key: &str, written: &Written, common: &KeyArgs, began: Instant) {
    if common.json {
        let report = json!({
            "key": key,
            "context": written.context.as_ref().map(context_text),
            "receipt": receipt_json(&written.receipt, written.server_ns, began),
        });
        print_line(&report.to_string());
    } else {
        let receipt = &written.receipt;
        println!(
            "ok: {} of {} replicas on stable media",
            receipt.on_stable_media, receipt.replicas
        );
    }
}
