//! What an acknowledged write or delete saw never comes back.

use crate::sim::checks::Shown;
use crate::sim::history::{History, Write};

/// Values that are shown though an acknowledged write saw them.
pub fn check(history: &History, shown: &Shown, is_cart: impl Fn(usize) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for ((node, key), values) in shown {
        if !is_cart(*key) {
            continue;
        }
        for (number, write) in &history.writes {
            if write.key != *key || write.acknowledged_ns.is_none() {
                continue;
            }
            let is_once = |value: &&u64| history.writes.get(*value).is_some_and(Write::is_once);
            if let Some(back) = values
                .iter()
                .filter(is_once)
                .find(|value| write.seen.contains(value))
            {
                found.push(format!(
                    "key {key} at node {node}: w{back} came back, though the acknowledged w{number} saw it"
                ));
            }
        }
    }
    found
}
