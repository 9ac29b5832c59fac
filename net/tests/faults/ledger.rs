//! Keys of which some are deleted again: what was kept must stay, what was deleted must not come back, on any node.

use std::collections::BTreeMap;

use crate::cluster::{Node, until};
use crate::full::Redis;

/// What was written, and what was deleted, as the clients were told.
pub(crate) struct Ledger {
    name: &'static str,
    value_bytes: usize,
    operations: u64,
    acknowledged: u64,
    /// By number: whether it is to be there.
    keys: BTreeMap<usize, bool>,
}

impl Ledger {
    /// Of keys that begin so, with values of so many bytes.
    pub(crate) fn new(name: &'static str, value_bytes: usize) -> Self {
        Self {
            name,
            value_bytes,
            operations: 0,
            acknowledged: 0,
            keys: BTreeMap::new(),
        }
    }

    pub(crate) fn value(&self, number: usize) -> Vec<u8> {
        let mut value = format!("{} {number} ", self.name).into_bytes();
        value.resize(self.value_bytes, number as u8);
        value
    }

    fn key(&self, number: usize) -> Vec<u8> {
        format!("{}-{number}", self.name).into_bytes()
    }

    fn is_taken(&mut self, redis: &mut Redis, words: &[&[u8]], taken: &[&[u8]]) -> bool {
        self.operations += 1;
        let is_taken = taken.contains(&redis.command(words).as_slice());
        self.acknowledged += u64::from(is_taken);
        is_taken
    }

    /// Writes so many more keys through a node.
    pub(crate) fn write(&mut self, node: &Node, count: usize) {
        let mut redis = Redis::connect(node);
        let first = self.keys.len();
        for number in first..first + count {
            let (key, value) = (self.key(number), self.value(number));
            let is_taken = self.is_taken(&mut redis, &[b"SET", &key, &value], &[b"+OK"]);
            assert!(is_taken, "{number} is not taken");
            self.keys.insert(number, true);
        }
    }

    /// Deletes every so manieth through a node.
    pub(crate) fn delete(&mut self, node: &Node, every: usize) {
        let mut redis = Redis::connect(node);
        for number in (0..self.keys.len()).step_by(every) {
            let key = self.key(number);
            let is_taken = self.is_taken(&mut redis, &[b"DEL", &key], &[b":0", b":1"]);
            assert!(is_taken, "{number} is not deleted");
            self.keys.insert(number, false);
        }
    }

    /// Waits until each of these nodes alone says what the ledger says, and returns what never did.
    pub(crate) fn wrong<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> Vec<String> {
        let mut wrong = Vec::new();
        for node in nodes {
            let mut redis = Redis::connect(node);
            assert_eq!(redis.command(&[b"DYN.OPT", b"R", b"1"]), b"+OK");
            for (number, is_there) in &self.keys {
                let key = self.key(*number);
                let expected = if *is_there {
                    self.value(*number)
                } else {
                    b"$-1".to_vec()
                };
                if redis.command(&[b"GET", &key]) != expected {
                    wrong.push(format!(
                        "{}-{number} at {}: is {} there",
                        self.name,
                        node.name,
                        if *is_there { "not" } else { "again" }
                    ));
                }
            }
        }
        wrong
    }

    /// Says what came of it. Deleted keys that are there again at any moment are wrong; what is to be there may come a
    /// moment late to a node that was away.
    pub(crate) fn finish(&self, name: &str, faults: u64, nodes: &[Node]) {
        // Deleted keys are looked for at once.
        let back = self.back(nodes);
        assert_eq!(back, Vec::<String>::new());
        let mut wrong = Vec::new();
        until("what was kept, on every node", || {
            wrong = self.wrong(nodes);
            assert_eq!(self.back(nodes), Vec::<String>::new());
            wrong.is_empty()
        });
        eprintln!(
            "record {name}: operations {}, acknowledged {}, failed 0, faults {faults}, lost {}, back {}",
            self.operations,
            self.acknowledged,
            wrong.len(),
            back.len()
        );
    }

    /// The deleted keys that a client of any of these nodes can see, with the quorums that clients have.
    pub(crate) fn back(&self, nodes: &[Node]) -> Vec<String> {
        let mut back = Vec::new();
        for node in nodes {
            let mut redis = Redis::connect(node);
            for number in self.keys.iter().filter(|(_, is)| !**is).map(|(at, _)| *at) {
                let answer = redis.command(&[b"GET", &self.key(number)]);
                if answer != b"$-1" {
                    let answer = String::from_utf8_lossy(&answer[..answer.len().min(60)]);
                    back.push(format!("{}-{number} at {}: {answer}", self.name, node.name));
                }
            }
        }
        back
    }
}
