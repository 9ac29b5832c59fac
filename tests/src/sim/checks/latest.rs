//! Of keys that are written blind, the last writer's value stays: none is shown that was acknowledged long before another
//! acknowledged write or delete of the key began. Long is more than clocks can be apart.

use crate::sim::checks::{Shown, apart_ns, is_strict};
use crate::sim::history::{History, Write};
use crate::sim::swarm::Swarm;

/// Values that are shown though a later writer took their place.
pub fn check(
    history: &History,
    (shown, swarm): (&Shown, &Swarm),
    is_cart: impl Fn(usize) -> bool,
) -> Vec<String> {
    let apart_ns = apart_ns(swarm);
    let mut found = Vec::new();
    for ((node, key), values) in shown {
        if is_cart(*key) {
            continue;
        }
        for number in values {
            let Some(ended_ns) = history
                .writes
                .get(number)
                .filter(|write| write.is_once())
                .and_then(|write| write.acknowledged_ns)
            else {
                continue;
            };
            let is_later = |write: &Write| {
                write.key == *key
                    && !write.is_renewal
                    && !history.may_be_renewed(write, (is_strict(swarm), apart_ns))
                    && write.acknowledged_ns.is_some()
                    && write.begun_ns > ended_ns + apart_ns
            };
            if let Some((later, _)) = history.writes.iter().find(|(_, write)| is_later(write)) {
                found.push(format!(
                    "key {key} at node {node}: w{number} is shown, though w{later} was written long after it"
                ));
            }
        }
    }
    found
}
