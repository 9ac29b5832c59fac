//! Of two writes that one node dated the later one is the later: however its clock was set, and whatever it forgot in
//! between, for a time that left it once is not given again.
//!
//! For worlds in which only the first node crashes, no disk fails, each write is acknowledged by all replicas, and a read asks
//! one: what any other node answers by itself it has never forgotten.

use std::collections::BTreeMap;

use crate::sim::history::{History, Write, WriteNumber};

/// Reads of keys that are written blind which show a value though the node that dated it dated another write or delete
/// later, and that one was acknowledged before the read began. A write has its date when it is acknowledged or read.
pub fn check(history: &History, is_cart: impl Fn(usize) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut dated: BTreeMap<WriteNumber, u64> = BTreeMap::new();
    let reads = history.reads.iter();
    for read in reads.filter(|read| !is_cart(read.key)) {
        for number in &read.shown {
            // In the order of their answers.
            dated.entry(*number).or_insert(read.answered_ns);
            let Some(former) = history.writes.get(number) else {
                continue;
            };
            let told_ns = former.acknowledged_ns.unwrap_or(u64::MAX);
            let dated_ns = dated.get(number).copied().unwrap_or(u64::MAX).min(told_ns);
            let Some(by) = former.dated_by.filter(|_| read.never_forgets()) else {
                continue;
            };
            let is_later = |write: &Write| {
                write.key == read.key
                    && write.dated_by == Some(by)
                    && write.begun_ns > dated_ns
                    && write.acknowledged_ns.is_some_and(|at| at < read.begun_ns)
            };
            if let Some((later, _)) = history.writes.iter().find(|(_, write)| is_later(write)) {
                found.push(format!(
                    "key {} at {:.3} ms: a read shows w{number}, though node {by} dated w{later} after it",
                    read.key,
                    read.begun_ns as f64 / 1e6
                ));
            }
        }
    }
    found
}
