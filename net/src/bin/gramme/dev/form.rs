//! How the nodes of `gramme dev` become a cluster: by the commands that an operator would give.

use std::time::{Duration, Instant};

use gramme::client::operate;
use serde_json::{Value, json};

/// How long the nodes may take to know each other.
const KNOWN_WAIT: Duration = Duration::from_secs(30);
/// How long the partitions may take to be where they should; nothing is lost when it takes longer.
const MOVED_WAIT: Duration = Duration::from_secs(60);
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until the first node knows all, has them take their shares, and says how it went.
///
/// # Errors
/// In words.
pub(super) fn form(first: &str, nodes: u16) -> Result<String, String> {
    let status = wait(first, KNOWN_WAIT, |status| {
        members(status).count() >= usize::from(nodes)
            && members(status).all(|member| member["is_alive"] == true)
    })?
    .ok_or_else(|| {
        format!(
            "the nodes did not find each other within {} s",
            KNOWN_WAIT.as_secs()
        )
    })?;
    let is_staged = status["staged"]
        .as_array()
        .is_some_and(|staged| !staged.is_empty());
    if is_staged {
        ask(first, &json!({ "command": "plan" }))?;
        ask(first, &json!({ "command": "commit" }))?;
    }
    let moved = wait(first, MOVED_WAIT, |status| {
        members(status).all(|member| member["pending"] == 0 && member["target"] != 0)
    })?;
    Ok(match moved {
        Some(status) => format!(
            "a cluster of {nodes} nodes: {} partitions of {} replicas each",
            status["partitions"],
            status["replicas"]
                .as_u64()
                .unwrap_or(0)
                .min(u64::from(nodes))
        ),
        None => format!(
            "a cluster of {nodes} nodes; some replicas still move, see gramme cluster status --node {first}"
        ),
    })
}

/// The first status that fits, if one comes in time.
fn wait(
    first: &str,
    wait: Duration,
    fits: impl Fn(&Value) -> bool,
) -> Result<Option<Value>, String> {
    let until = Instant::now() + wait;
    loop {
        let is_late = Instant::now() >= until;
        match ask(first, &json!({ "command": "status" })) {
            Ok(status) if fits(&status) => return Ok(Some(status)),
            Ok(_) if is_late => return Ok(None),
            // A machine that is busy with starting nodes may be late with answers too.
            Err(error) if is_late => return Err(error),
            Ok(_) | Err(_) => {}
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn members(status: &Value) -> impl Iterator<Item = &Value> {
    status["members"].as_array().into_iter().flatten()
}

fn ask(node: &str, command: &Value) -> Result<Value, String> {
    let answer = operate(node, command.to_string().as_bytes(), ANSWER_WAIT, None)
        .map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| format!("{node} answers what is not JSON: {error}"))?;
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer),
    }
}
