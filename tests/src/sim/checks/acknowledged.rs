//! No acknowledged write is lost, unless a write that saw it took its place, or its own time was over.

use crate::sim::checks::Shown;
use crate::sim::history::History;
use crate::sim::swarm::Swarm;

/// Acknowledged writes to carts that neither are shown, nor were seen by what is shown, by a delete, or by what expired.
pub fn check(
    history: &History,
    (shown, swarm, end_ns): (&Shown, &Swarm, u64),
    is_cart: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for ((node, key), values) in shown {
        if !is_cart(*key) {
            continue;
        }
        let of_key = history.writes.iter().filter(|(_, write)| write.key == *key);
        let over = of_key.filter(|(_, write)| write.may_be_over(end_ns, swarm.skew_ms));
        let over = over.map(|(number, _)| *number);
        let accounted = history.closure(values.iter().copied().chain(over));
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
