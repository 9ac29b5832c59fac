//! `gramme get`: a key's value, or all of its concurrent ones.

use std::process::ExitCode;
use std::time::Instant;

use crate::keys::{
    EXIT_NOT_FOUND, EXIT_SIBLINGS, Failed, KeyArgs, context_text, print_bytes, print_line,
    receipt_json, values_json,
};

/// Reads a key
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The key
    key: String,
    #[command(flatten)]
    common: KeyArgs,
}

pub(crate) fn run(args: &GetArgs) -> ExitCode {
    args.common.finish(|common| get(&args.key, common))
}

fn get(key: &str, common: &KeyArgs) -> Result<u8, Failed> {
    let client = common.client()?;
    let began = Instant::now();
    let read = client.get(key.as_bytes())?;
    if common.json {
        let mut report = values_json(&read);
        report["key"] = key.into();
        report["receipt"] = receipt_json(&read.receipt, read.server_ns, began);
        print_line(&report.to_string());
    } else {
        let shown = if common.all { read.values.len() } else { 1 };
        for value in read.values.iter().take(shown) {
            print_bytes(value);
        }
        if read.values.is_empty() {
            eprintln!("gramme: `{key}` has no value");
        }
        if read.values.len() > 1 {
            let context = read.context.as_ref().map_or_else(String::new, context_text);
            eprintln!(
                "gramme: `{key}` has {} concurrent values{}; write the merged one with --context {context}",
                read.values.len(),
                if common.all {
                    ""
                } else {
                    ", this is the latest (--all shows every one)"
                },
            );
        }
    }
    Ok(match read.values.len() {
        0 => EXIT_NOT_FOUND,
        1 => 0,
        _ => EXIT_SIBLINGS,
    })
}
