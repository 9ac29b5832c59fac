//! What `gramme cluster ring --json` says, looked at by tests of whole clusters.

use std::collections::BTreeSet;

use serde_json::Value;

/// Whether each partition is read by its targets, so many, and nothing moves.
pub(crate) fn is_at_rest(ring: &Value, targets: usize) -> bool {
    let table = ring["table"].as_array().map_or(&[][..], Vec::as_slice);
    let is_right = |row: &Value| {
        let places = |field: &str| -> BTreeSet<u64> {
            let places = row[field].as_array().into_iter().flatten();
            places.filter_map(Value::as_u64).collect()
        };
        places("targets").len() == targets
            && places("targets") == places("readers")
            && places("pending").is_empty()
            && places("draining").is_empty()
    };
    !table.is_empty() && table.iter().all(is_right)
}
