//! When the faults have stopped, all nodes show the same.

use std::collections::BTreeMap;

use crate::sim::checks::Shown;

/// Keys of which two nodes show different values.
pub fn check(shown: &Shown) -> Vec<String> {
    let mut by_key: BTreeMap<usize, Vec<(usize, _)>> = BTreeMap::new();
    for ((node, key), values) in shown {
        by_key.entry(*key).or_default().push((*node, values));
    }
    let mut found = Vec::new();
    for (key, nodes) in by_key {
        if nodes.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            found.push(format!("key {key}: nodes differ at the end: {nodes:?}"));
        }
    }
    found
}
