//! `gramme top`: what the nodes of a cluster do right now, a line each, from their admin ports.
//!
//! It asks nothing but `/status`, so it costs a data core nothing and works with nodes of another version: what an answer
//! lacks is left out. A node that does not answer is a line too.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::net::ToSocketAddrs as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gramme::client::ClientTls;
use serde_json::{Value, json};

use crate::table::Table;
use crate::tls::TlsArgs;
use crate::{EXIT_FAILED, EXIT_USAGE, admin, fail};

/// The arguments of `gramme top`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A node's admin port; the nodes that it names are shown too. May be given several times.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7480")]
    admin: Vec<String>,
    /// How often, in seconds; rates are over as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    every: f64,
    /// One look, and the end; so it is where the output is no terminal.
    #[arg(long)]
    once: bool,
    /// One look, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// What one node said, by its admin address.
type Answers = BTreeMap<String, Result<Value, String>>;

pub(crate) fn run(args: &Args) -> ExitCode {
    if !(0.1..=3600.0).contains(&args.every) {
        return fail(EXIT_USAGE, "--every takes 0.1 to 3600 seconds");
    }
    let tls = match args.tls.read() {
        Ok(tls) => tls,
        Err(why) => return fail(EXIT_USAGE, why),
    };
    let tls = tls.as_ref();
    let every = Duration::from_secs_f64(args.every);
    let is_live = !args.once && !args.json && std::io::stdout().is_terminal();
    let mut before = ask_all(&args.admin, tls);
    let mut asked = Instant::now();
    loop {
        std::thread::sleep(every);
        let now = ask_all(&args.admin, tls);
        let seconds = asked.elapsed().as_secs_f64();
        asked = Instant::now();
        if !is_live && now.values().all(Result::is_err) {
            let why: Vec<String> = now.into_values().filter_map(Result::err).collect();
            return fail(EXIT_FAILED, why.join("; "));
        }
        let told = if args.json {
            format!("{:#}\n", as_json(&before, &now, seconds))
        } else {
            as_text(&before, &now, seconds)
        };
        // From the top of the screen, and nothing of the last look behind it.
        let clear = if is_live { "\x1b[H\x1b[J" } else { "" };
        let mut out = std::io::stdout();
        let written = write!(out, "{clear}{told}").and_then(|()| out.flush());
        if !is_live || written.is_err() {
            return ExitCode::SUCCESS;
        }
        before = now;
    }
}

/// Asks the nodes at these addresses, and those that they name.
fn ask_all(admins: &[String], tls: Option<&ClientTls>) -> Answers {
    let mut answers = ask_each(admins.to_vec(), tls);
    let mut named: Vec<String> = Vec::new();
    for answer in answers.values().flatten() {
        let members = answer["members"].as_array().into_iter().flatten();
        let admins = members.filter_map(|member| member["admin"].as_str());
        named.extend(admins.filter(|admin| !admin.is_empty()).map(str::to_owned));
    }
    // The same node by another name is one.
    let own: Vec<&str> = answers
        .values()
        .flatten()
        .filter_map(|answer| answer["admin"].as_str())
        .collect();
    named.retain(|admin| !answers.contains_key(admin) && !own.contains(&admin.as_str()));
    named.sort();
    named.dedup();
    answers.extend(ask_each(named, tls));
    answers
}

fn ask_each(admins: Vec<String>, tls: Option<&ClientTls>) -> Answers {
    std::thread::scope(|scope| {
        let asked: Vec<_> = admins
            .into_iter()
            .map(|admin| scope.spawn(move || (admin.clone(), ask(&admin, tls))))
            .collect();
        asked
            .into_iter()
            .filter_map(|one| one.join().ok())
            .collect()
    })
}

/// A node's `/status`.
fn ask(admin: &str, tls: Option<&ClientTls>) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("{admin} does not answer: {error}");
    let address = admin.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| format!("{admin} is no address"))?;
    let body = admin::get(address, "/status", tls).map_err(failed)?;
    serde_json::from_str(&body)
        .map_err(|_| format!("{admin} is no admin port of gramme: `/status` is no JSON"))
}

/// What is shown of one node.
fn look(answer: &Value, before: Option<&Value>, seconds: f64) -> Value {
    let rate = |name: &str| {
        let was = before.map(|before| sum(before, name))?;
        // A node that was started again counts from nothing.
        Some((sum(answer, name).saturating_sub(was) as f64 / seconds).round())
    };
    let worst_us = |stage: &str| {
        let shards = answer["shards"].as_array().into_iter().flatten();
        let p999 = shards.filter_map(|shard| shard["latency"][stage]["p999_us"].as_u64());
        p999.max()
    };
    let reasons = answer["reasons"].as_array().cloned().unwrap_or_default();
    json!({
        "name": answer["name"].as_str().or(answer["native"].as_str()),
        "zone": answer["zone"],
        "is_serving": answer["is_serving"],
        "reasons": reasons,
        "keys": sum(answer, "keys"),
        "live_bytes": sum(answer, "live_bytes"),
        "used_bytes": sum(answer, "used_bytes"),
        "gets_per_s": rate("gets"),
        "puts_per_s": rate("puts"),
        "partitions_held": answer["partitions_held"],
        "moving": sum(answer, "transfers") + sum(answer, "handovers"),
        "hints_pending": answer["hints_pending"],
        "p999_us": {
            "turn": worst_us("turn"),
            "disk_read": worst_us("disk_read"),
            "commit": worst_us("commit"),
            "replicas": worst_us("replicas"),
        },
    })
}

/// A counter of all shards together.
fn sum(answer: &Value, counter: &str) -> u64 {
    let shards = answer["shards"].as_array().into_iter().flatten();
    let counts = shards.filter_map(|shard| shard["counters"][counter].as_u64());
    counts.sum()
}

fn as_json(before: &Answers, now: &Answers, seconds: f64) -> Value {
    let nodes = now.iter().map(|(admin, answer)| match answer {
        Ok(answer) => {
            let mut told = look(answer, was(before, admin), seconds);
            told["admin"] = json!(admin);
            told
        }
        Err(error) => json!({ "admin": admin, "error": error }),
    });
    json!({ "nodes": nodes.collect::<Vec<_>>() })
}

fn as_text(before: &Answers, now: &Answers, seconds: f64) -> String {
    let mut table = Table::new(&[
        "node", "zone", "state", "keys", "live MB", "used MB", "gets/s", "puts/s", "held",
        "moving", "hints", "turn", "read", "commit", "replicas",
    ]);
    let mut remarks = String::new();
    for (admin, answer) in now {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                table.row(vec![admin.clone(), String::new(), "SILENT".into()]);
                remarks.push_str(&format!("{error}\n"));
                continue;
            }
        };
        let told = look(answer, was(before, admin), seconds);
        let word = |value: &Value| match value {
            Value::String(word) => word.clone(),
            Value::Number(number) => number.as_f64().map_or(String::new(), |n| format!("{n}")),
            _ => String::new(),
        };
        let mb = |name: &str| format!("{:.1}", told[name].as_u64().unwrap_or(0) as f64 / 1e6);
        let ms = |stage: &str| {
            let us = told["p999_us"][stage].as_u64();
            us.map_or(String::new(), |us| format!("{:.2}", us as f64 / 1e3))
        };
        let is_serving = told["is_serving"] == json!(true);
        table.row(vec![
            word(&told["name"]),
            word(&told["zone"]),
            if is_serving { "serving" } else { "NOT SERVING" }.into(),
            word(&told["keys"]),
            mb("live_bytes"),
            mb("used_bytes"),
            word(&told["gets_per_s"]),
            word(&told["puts_per_s"]),
            word(&told["partitions_held"]),
            word(&told["moving"]),
            word(&told["hints_pending"]),
            ms("turn"),
            ms("disk_read"),
            ms("commit"),
            ms("replicas"),
        ]);
        for reason in told["reasons"].as_array().into_iter().flatten() {
            remarks.push_str(&format!("{}: {}\n", word(&told["name"]), word(reason)));
        }
    }
    let legend = "turn, read, commit, replicas: p99.9 of each part of a request since the start, in ms, of the slowest shard\n";
    format!("{}{legend}{remarks}", table.text())
}

fn was<'a>(before: &'a Answers, admin: &str) -> Option<&'a Value> {
    before.get(admin).and_then(|answer| answer.as_ref().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(gets: u64) -> Value {
        json!({
            "name": "node-0", "zone": "east", "is_serving": true, "reasons": [], "hints_pending": 7,
            "partitions_held": 64,
            "shards": [
                { "counters": { "gets": gets, "keys": 3 }, "latency": { "turn": { "p999_us": 250 } } },
                { "counters": { "gets": gets, "keys": 4 }, "latency": { "turn": { "p999_us": 1500 } } },
                null,
            ],
        })
    }

    #[test]
    fn shards_are_summed_rates_are_over_the_time_and_the_slowest_is_shown() {
        let told = look(&status(600), Some(&status(100)), 2.0);
        assert_eq!(told["keys"], json!(7));
        assert_eq!(told["gets_per_s"], json!(500.0));
        assert_eq!(told["p999_us"]["turn"], json!(1500));
        assert_eq!(told["p999_us"]["commit"], Value::Null);
        let anew = look(&status(0), Some(&status(100)), 2.0);
        assert_eq!(anew["gets_per_s"], json!(0.0), "it was started again");
    }

    #[test]
    fn who_does_not_answer_is_a_line_and_says_why() {
        let mut now = Answers::new();
        now.insert(
            "127.0.0.1:1".into(),
            Err("127.0.0.1:1 does not answer: refused".into()),
        );
        now.insert("127.0.0.1:2".into(), Ok(status(5)));
        let text = as_text(&Answers::new(), &now, 1.0);
        assert!(
            text.contains("SILENT") && text.contains("refused"),
            "{text}"
        );
        assert!(
            text.contains("node-0") && text.contains("serving"),
            "{text}"
        );
        let told = as_json(&Answers::new(), &now, 1.0);
        assert!(told["nodes"][0]["error"].is_string(), "{told}");
    }
}
