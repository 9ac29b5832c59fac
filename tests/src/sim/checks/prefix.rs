//! What a crash takes from memory is the newest: of the writes that one node acknowledged in one life, whichever of its shards
//! did, none is lost where a later one is not. For worlds in which each key has one copy, and nothing is deleted.

use crate::sim::checks::Shown;
use crate::sim::history::History;

/// Writes to keys that are written blind that are lost, though what their node took later in the same life is shown.
pub fn check(history: &History, shown: &Shown, is_cart: impl Fn(usize) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    // Of each key that has one value the write that it is of.
    let values = shown.iter().filter(|((_, key), _)| !is_cart(*key));
    let values: Vec<(usize, Option<u64>)> = values
        .map(|((_, key), numbers)| (*key, numbers.first().copied()))
        .collect();
    for survivor in values.iter().filter_map(|(_, number)| *number) {
        let Some(later) = history.writes.get(&survivor) else {
            continue;
        };
        for (key, value) in &values {
            let shown_since = value.and_then(|number| history.writes.get(&number));
            let lost = history.writes.iter().find(|(_, write)| {
                let is_before = write.acknowledged_ns.is_some_and(|at| at < later.begun_ns);
                // What is shown was written before it: nothing took its place.
                let is_gone = shown_since.is_none_or(|shown| {
                    shown.acknowledged_ns.is_some_and(|at| at < write.begun_ns)
                });
                write.key == *key
                    && is_before
                    && write.dated_by.is_some()
                    && (write.dated_by, write.dated_in) == (later.dated_by, later.dated_in)
                    && is_gone
            });
            if let Some((number, _)) = lost {
                found.push(format!(
                    "key {key} shows {value:?}: w{number} was acknowledged and is lost, and w{survivor} of later is there"
                ));
            }
        }
    }
    found
}
