//! Siblings are exactly the concurrent writes: none that another one shown has seen.

use crate::sim::checks::Shown;
use crate::sim::history::{History, Write};

/// Values that are shown beside one that saw them.
pub fn check(history: &History, shown: &Shown, is_cart: impl Fn(usize) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for ((node, key), values) in shown {
        if !is_cart(*key) {
            continue;
        }
        for number in values {
            let seen = history
                .writes
                .get(number)
                .map(|write| history.closure(write.seen.iter().copied()))
                .unwrap_or_default();
            let is_once = |other: &&u64| history.writes.get(*other).is_some_and(Write::is_once);
            if let Some(other) = values
                .iter()
                .filter(is_once)
                .find(|other| *other != number && seen.contains(other))
            {
                found.push(format!(
                    "key {key} at node {node}: w{other} is shown beside w{number}, which saw it"
                ));
            }
        }
    }
    found
}
