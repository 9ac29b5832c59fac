//! `gramme cluster`: what operators see of a cluster and do with it, through any of its nodes.
//!
//! Owns the flags and how answers look. Decides nothing: each command goes to the node as JSON and comes back as JSON.

mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use gramme::client::{OperateError, operate};
use gramme::secret::{ADMIN_TOKEN_VARIABLE, Source};
use serde_json::{Map, Value, json};

use crate::tls::TlsArgs;
use crate::{EXIT_FAILED, EXIT_USAGE, fail};

/// How long a node may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// The flags of all of them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Any node's native address.
    #[arg(
        long,
        global = true,
        default_value = "127.0.0.1:7400",
        value_name = "HOST:PORT"
    )]
    node: String,
    /// A file with the operators' token, where the nodes have one (or the environment: GRAMME_ADMIN_TOKEN).
    #[arg(long, global = true, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Print the node's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Members, who seems alive, what they hold, what is staged, warnings.
    Status,
    /// Who has which partitions.
    Ring(RingArgs),
    /// Stages a known node to get its share; a node started with --join is staged by itself.
    Join {
        /// Its id, name or address.
        target: String,
    },
    /// Stages a node to give up its share.
    Leave(LeaveArgs),
    /// Stages a new node to take the places of an old one, dead or alive.
    Replace {
        /// The one that leaves.
        old: String,
        /// The one that comes.
        new: String,
    },
    /// Shows what the staged changes would move, and every warning.
    Plan,
    /// Carries out what `plan` showed.
    Commit {
        /// What `plan` printed, when it was shown by another node.
        plan: Option<String>,
    },
    /// Drops all staged changes.
    Abort,
    /// Has the node compare all its partitions with their other replicas now.
    Repair,
    /// Lists the buckets, or sets rules of one while everything runs.
    Buckets(BucketArgs),
}

#[derive(clap::Args)]
struct RingArgs {
    /// Every partition, not only the sums.
    #[arg(long)]
    all: bool,
}

#[derive(clap::Args)]
struct LeaveArgs {
    /// Its id, name or address.
    target: String,
    /// It has left, and its membership ends for good.
    #[arg(long)]
    remove: bool,
    /// It is lost for good, with whatever only it had.
    #[arg(long, conflicts_with = "remove")]
    lost: bool,
}

#[derive(clap::Args)]
struct BucketArgs {
    /// The bucket to set; made when it is not there.
    name: Option<String>,
    /// Replicas.
    #[arg(long, requires = "name")]
    n: Option<u8>,
    /// Replicas that a read waits for.
    #[arg(long, requires = "name")]
    r: Option<u8>,
    /// Replicas that a write waits for.
    #[arg(long, requires = "name")]
    w: Option<u8>,
    /// When a write is acknowledged: buffered, one, all.
    #[arg(long, requires = "name")]
    durability: Option<String>,
    /// What happens to writes that did not see each other: siblings, lww, reject.
    #[arg(long, requires = "name")]
    conflict: Option<String>,
    /// What a put without a context means: latest, supersede, sibling, reject.
    #[arg(long, requires = "name")]
    blind_put: Option<String>,
    /// Values expire after this many milliseconds; 0: never.
    #[arg(long, requires = "name", value_name = "MS")]
    ttl_ms: Option<u64>,
}

impl BucketArgs {
    fn command(&self) -> Value {
        let Some(name) = &self.name else {
            return json!({ "command": "buckets" });
        };
        let mut set = Map::new();
        let mut rule = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                set.insert(name.into(), value);
            }
        };
        rule("n", self.n.map(Value::from));
        rule("r", self.r.map(Value::from));
        rule("w", self.w.map(Value::from));
        rule("durability", self.durability.clone().map(Value::from));
        rule("conflict", self.conflict.clone().map(Value::from));
        rule("blind_put", self.blind_put.clone().map(Value::from));
        let never_or = |ttl_ms| {
            if ttl_ms == 0 {
                Value::Null
            } else {
                Value::from(ttl_ms)
            }
        };
        rule("ttl_ms", self.ttl_ms.map(never_or));
        if set.is_empty() {
            return json!({ "command": "buckets" });
        }
        set.insert("name".into(), Value::from(name.as_str()));
        json!({ "command": "buckets", "set": set })
    }
}

impl Command {
    /// As the node takes it.
    fn json(&self) -> Value {
        match self {
            Self::Status => json!({ "command": "status" }),
            Self::Ring(_) => json!({ "command": "ring" }),
            Self::Join { target } => json!({ "command": "join", "node": target }),
            Self::Leave(args) => json!({
                "command": "leave",
                "node": args.target,
                "remove": args.remove,
                "lost": args.lost,
            }),
            Self::Replace { old, new } => json!({ "command": "replace", "old": old, "new": new }),
            Self::Plan => json!({ "command": "plan" }),
            Self::Commit { plan } => json!({ "command": "commit", "plan": plan }),
            Self::Abort => json!({ "command": "abort" }),
            Self::Repair => json!({ "command": "repair" }),
            Self::Buckets(args) => args.command(),
        }
    }

    /// The answer for people.
    fn show(&self, answer: &Value) -> String {
        match self {
            Self::Status => show::status(answer),
            Self::Ring(args) => show::ring(answer, args.all),
            Self::Plan => show::plan(answer),
            Self::Buckets(args) => show::buckets(answer, args.name.as_deref()),
            Self::Join { .. }
            | Self::Leave(_)
            | Self::Replace { .. }
            | Self::Commit { .. }
            | Self::Abort
            | Self::Repair => show::done(answer),
        }
    }
}

/// Asks, prints, ends: 0 done, 2 wrong use, 3 failed.
pub(crate) fn run(args: &Args) -> ExitCode {
    let command = match with_token(args.command.json(), args.admin_token_file.as_deref()) {
        Ok(command) => command.to_string(),
        Err(why) => return fail(EXIT_USAGE, why),
    };
    let tls = match args.tls.read() {
        Ok(tls) => tls,
        Err(why) => return fail(EXIT_USAGE, why),
    };
    let answer = match operate(&args.node, command.as_bytes(), ANSWER_WAIT, tls.as_ref()) {
        Ok(answer) => answer,
        Err(error @ OperateError::Unreachable { .. }) => {
            return fail(
                EXIT_FAILED,
                format_args!("{error}; name a node that runs with --node"),
            );
        }
        Err(error) => return fail(EXIT_FAILED, error),
    };
    let Ok(answer) = serde_json::from_slice::<Value>(&answer) else {
        return fail(
            EXIT_FAILED,
            "the node's answer is not JSON; it is of another version",
        );
    };
    if args.json {
        crate::keys::print_line(&answer.to_string());
    }
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        let is_usage = answer.get("is_usage") == Some(&Value::Bool(true));
        return fail(if is_usage { EXIT_USAGE } else { EXIT_FAILED }, error);
    }
    if !args.json {
        crate::keys::print_line(args.command.show(&answer).trim_end());
    }
    ExitCode::SUCCESS
}

/// The command with the operators' token, where there is one.
fn with_token(mut command: Value, file: Option<&Path>) -> Result<Value, String> {
    if let Some(source) = Source::find(ADMIN_TOKEN_VARIABLE, file) {
        let token = source.read()?;
        let text = token
            .text()
            .map_err(|error| format!("the token in {source} is no text: {error}"))?;
        command["token"] = Value::from(text);
    }
    Ok(command)
}

/// The flags are checked where they are declared.
#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &[&str]) -> Value {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("cluster"));
        let matches = command
            .try_get_matches_from([&["cluster"], line].concat())
            .expect("parses");
        <Args as clap::FromArgMatches>::from_arg_matches(&matches)
            .expect("parses")
            .command
            .json()
    }

    #[test]
    fn flags_become_the_nodes_commands() {
        assert_eq!(
            command(&["status", "--json"]),
            json!({ "command": "status" })
        );
        assert_eq!(
            command(&["buckets", "carts", "--n", "5", "--ttl-ms", "0"]),
            json!({ "command": "buckets", "set": { "name": "carts", "n": 5, "ttl_ms": null } })
        );
        assert_eq!(
            command(&["leave", "n12", "--lost"]),
            json!({ "command": "leave", "node": "n12", "remove": false, "lost": true })
        );
        assert_eq!(
            command(&["commit"]),
            json!({ "command": "commit", "plan": null })
        );
    }
}
