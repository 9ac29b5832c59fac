//! What `get`, `put` and `del` share: their flags, their client, how they print and how they end.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use gramme::client::{ClientError, ClientOptions, Context, Read, RequestOptions, blocking};
use gramme_core::port::{Durability, Receipt};
use serde_json::{Value, json};

use crate::tls::TlsArgs;

/// The key has no value.
pub(crate) const EXIT_NOT_FOUND: u8 = 1;
/// The arguments cannot be meant.
pub(crate) const EXIT_USAGE: u8 = 2;
/// It failed.
pub(crate) const EXIT_FAILED: u8 = 3;
/// The key has siblings, or the write's context is stale.
pub(crate) const EXIT_SIBLINGS: u8 = 4;

/// The flags of a request.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// The bucket whose rules hold
    #[arg(long, default_value = "default")]
    bucket: String,
    /// Replicas (default: the bucket's)
    #[arg(long)]
    n: Option<u8>,
    /// Replicas that a read waits for (default: the bucket's)
    #[arg(long)]
    r: Option<u8>,
    /// Replicas that a write waits for (default: the bucket's)
    #[arg(long)]
    w: Option<u8>,
    /// Distinct zones that answers must come from (a stand-in counts for its own); refused where the replicas are in fewer
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    zones: u8,
    /// Let nobody stand in for a replica that is away: a write fails where too few can be reached
    #[arg(long)]
    strict: bool,
    /// How many of a write's acknowledgements must be on stable media (default: the bucket's)
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// How long it may take, retries included
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    deadline: Duration,
    /// Any node's native address
    #[arg(long, default_value = "127.0.0.1:7400", value_name = "HOST:PORT")]
    node: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// Print JSON, with the receipt
    #[arg(long)]
    pub(crate) json: bool,
    /// Print every concurrent value, not only the latest
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DurabilityArg {
    Buffered,
    One,
    All,
}

/// A failed command: its words and its exit code.
pub(crate) struct Failed {
    error: ClientError,
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self { error }
    }
}

impl KeyArgs {
    /// A connected client with these rules.
    pub(crate) fn client(&self) -> Result<blocking::Client, Failed> {
        let tls = self.tls.read().map_err(ClientError::Usage)?;
        let options = ClientOptions {
            tls,
            connect_timeout: self.deadline.min(Duration::from_secs(2)),
            ..ClientOptions::default()
        };
        let client = blocking::Client::connect_with(std::slice::from_ref(&self.node), options)?;
        let request = RequestOptions::default()
            .bucket(self.bucket.as_str())
            .deadline(self.deadline)
            .quorum(
                self.n.unwrap_or(0),
                self.r.unwrap_or(0),
                self.w.unwrap_or(0),
            )
            .zones(self.zones);
        let request = if self.strict {
            request.strict()
        } else {
            request
        };
        Ok(client.with(match self.durability {
            None => request,
            Some(DurabilityArg::Buffered) => request.durability(Durability::Buffered),
            Some(DurabilityArg::One) => request.durability(Durability::One),
            Some(DurabilityArg::All) => request.durability(Durability::All),
        }))
    }

    /// Runs a command to its exit code.
    pub(crate) fn finish(&self, run: impl FnOnce(&Self) -> Result<u8, Failed>) -> ExitCode {
        ExitCode::from(run(self).unwrap_or_else(|failed| self.fail(&failed.error)))
    }

    fn fail(&self, error: &ClientError) -> u8 {
        let code = match error {
            ClientError::Stale { .. } => EXIT_SIBLINGS,
            ClientError::Usage(_) => EXIT_USAGE,
            _ => EXIT_FAILED,
        };
        eprintln!("gramme: {error}");
        if self.json {
            let mut report = json!({
                "error": error.to_string(),
                "in_doubt": error.is_in_doubt(),
            });
            if let ClientError::Stale { current } = error {
                report["current"] = values_json(current);
            }
            print_line(&report.to_string());
        }
        code
    }
}

/// Values and their context, as JSON.
pub(crate) fn values_json(read: &Read) -> Value {
    let texts: Option<Vec<&str>> = read
        .values
        .iter()
        .map(|value| std::str::from_utf8(value).ok())
        .collect();
    let (encoding, values) = match texts {
        Some(texts) => ("utf-8", json!(texts)),
        None => {
            let encode = |value: &Vec<u8>| BASE64_STANDARD.encode(value);
            (
                "base64",
                json!(read.values.iter().map(encode).collect::<Vec<_>>()),
            )
        }
    };
    json!({
        "found": !read.values.is_empty(),
        "values": values,
        "encoding": encoding,
        "context": read.context.as_ref().map(context_text),
    })
}

/// A receipt, as JSON.
pub(crate) fn receipt_json(receipt: &Receipt, server_ns: u64, began: Instant) -> Value {
    json!({
        "replicas": receipt.replicas,
        "zones": receipt.zones,
        "on_stable_media": receipt.on_stable_media,
        "stand_ins": receipt.stand_ins,
        "disk_us": receipt.disk_ns / 1_000,
        "server_us": server_ns / 1_000,
        "total_us": u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

/// A context as an argument can carry it.
pub(crate) fn context_text(context: &Context) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(context.as_bytes())
}

/// A context from an argument.
pub(crate) fn parse_context(text: &str) -> Result<Context, String> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map(|bytes| Context::from_bytes(&bytes))
        .map_err(|error| {
            format!("not a context ({error}); pass what `gramme get --json` printed, unchanged")
        })
}

/// `100ms`, `2s`, `500us`, `1m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wanted = || format!("`{text}` is not a duration; write 500us, 100ms, 2s or 1m");
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let duration = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(wanted()),
    };
    if duration.is_zero() {
        return Err("a deadline of nothing can never be met".into());
    }
    Ok(duration)
}

/// Prints to standard output; a reader that has gone ends the command quietly.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.write_all(b"\n"));
}

pub(crate) fn print_line(line: &str) {
    print_bytes(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "5", "s", "-1s", "1h", "0ms"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_context_survives_the_command_line() {
        let context = Context::from_bytes(&[0, 255, 62, 63]);
        assert_eq!(parse_context(&context_text(&context)), Ok(context));
        assert!(parse_context("not base64!").is_err());
    }
}
