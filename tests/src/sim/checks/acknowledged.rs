//! No acknowledged write is lost, unless a write that saw it took its place.

use crate::sim::checks::Shown;
use crate::sim::history::History;

/// Acknowledged writes to carts that neither are shown, nor were seen by what is shown or by a delete.
pub fn check(history: &History, shown: &Shown, is_cart: impl Fn(usize) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for ((node, key), values) in shown {
        if !is_cart(*key) {
            continue;
        }
        let deletes = history
            .writes
            .iter()
            .filter(|(_, write)| write.key == *key && write.is_delete)
            .map(|(number, _)| *number);
        let accounted = history.closure(values.iter().copied().chain(deletes));
        for (number, write) in &history.writes {
            let must_be_there = write.key == *key && write.acknowledged_ns.is_some();
            if must_be_there && !accounted.contains(number) {
                found.push(format!(
                    "key {key} at node {node}: w{number} was acknowledged and is lost; shown: {values:?}"
                ));
            }
        }
    }
    found
}
