//! What a client was told did not happen, did not happen: *not applied* and *in doubt* are different words.

use crate::sim::checks::Shown;
use crate::sim::history::{History, WriteNumber};

/// Writes of which every try was answered with *not applied*, and whose values were shown all the same.
pub fn check(history: &History, shown: &Shown) -> Vec<String> {
    let is_denied = |number: &&WriteNumber| {
        history
            .writes
            .get(number)
            .is_some_and(|write| write.is_denied())
    };
    let mut found = Vec::new();
    for read in &history.reads {
        for number in read.shown.iter().filter(is_denied) {
            found.push(format!(
                "key {}: a read shows w{number}, of which its client was told that it was not applied",
                read.key
            ));
        }
    }
    for ((node, key), values) in shown {
        for number in values.iter().filter(is_denied) {
            found.push(format!(
                "key {key} at node {node}: w{number} is there, of which its client was told that it was not applied"
            ));
        }
    }
    found
}
