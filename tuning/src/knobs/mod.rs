//! The catalogue: every knob, one definition each.
//!
//! Owns the order of the listing and the lookup by id.
//! Never evaluates: see `check`.

mod cpu;
mod disk;
mod memory;
mod network;
mod network_queues;
mod node;
mod node_probes;

use crate::knob::Knob;

/// Every knob, in the order of the listing.
pub fn all() -> impl Iterator<Item = &'static Knob> {
    [
        node::KNOBS,
        disk::KNOBS,
        cpu::KNOBS,
        memory::KNOBS,
        network::KNOBS,
    ]
    .into_iter()
    .flatten()
}

/// The knob of that name.
pub fn find(id: &str) -> Option<&'static Knob> {
    all().find(|knob| knob.id == id)
}

/// The known name that is most like `id`, for the error about an unknown one.
pub fn nearest(id: &str) -> Option<&'static str> {
    all()
        .map(|knob| (distance(id, knob.id), knob.id))
        .min()
        .filter(|(far, _)| *far <= 6)
        .map(|(_, id)| id)
}

/// The number of single-letter edits between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (done, a) in left.chars().enumerate() {
        let mut next = vec![done + 1];
        for (index, b) in right.iter().enumerate() {
            let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&row, index) + usize::from(a != *b);
            next.push(
                replaced
                    .min(at(&row, index + 1) + 1)
                    .min(at(&next, index) + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_every_knob_explains_itself() {
        let mut ids = BTreeSet::new();
        for knob in all() {
            assert!(ids.insert(knob.id), "{} is defined twice", knob.id);
            assert!(knob.why.len() > 20, "{} does not say why", knob.id);
            assert!(
                !knob.risk.is_empty(),
                "{} does not say what it risks",
                knob.id
            );
            assert!(
                knob.path_pattern().starts_with('/') || knob.path_pattern().contains("of the"),
                "{}",
                knob.id
            );
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        assert_eq!(nearest("disk-schedular"), Some("disk-scheduler"));
        assert_eq!(nearest("completely-something-else"), None);
    }

    #[test]
    fn no_knob_ever_writes_the_write_cache() {
        for knob in all().filter(|knob| knob.path_pattern().contains("write_cache")) {
            assert!(!knob.is_applied());
        }
    }
}
