//! The operations of one worker, one after the other.
//!
//! Owns the worker's random stream and its choices. Never sends anything and never reads a clock.
//!
//! Invariants:
//! - the same workload, seed, worker and count of workers give the same operations;
//! - inserts of all workers take ids from one shared counter, so no two insert the same key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::distribution::{KeyChooser, stream_seed};
use super::key::KeyFormat;
use super::mix::{Verb, VerbChooser};
use super::spec::{Durability, Workload};
use super::value::{ValueMaker, ValueSize};

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// What to do.
    pub verb: Verb,
    /// To which key (the first, for a scan).
    pub key_id: u64,
    /// Bytes of the value that it writes, 0 for those that write none.
    pub value_bytes: u32,
    /// Keys that it scans, 0 for all but a scan.
    pub scan_keys: u32,
    /// Seconds until what it writes expires, 0 for never.
    pub ttl_s: u32,
    /// Whether a write must be on stable media.
    pub durability: Durability,
}

/// The ids in the store, shared by all workers.
#[derive(Debug)]
pub struct KeySpace {
    loaded: u64,
    claimed: AtomicU64,
}

impl KeySpace {
    /// A space in which ids below `loaded` are present.
    pub fn new(loaded: u64) -> Arc<Self> {
        Arc::new(KeySpace {
            loaded,
            claimed: AtomicU64::new(loaded),
        })
    }

    /// Ids that inserts have claimed so far, with those loaded. The last few may still be on their way.
    pub fn present(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Ids present before the run.
    pub fn loaded(&self) -> u64 {
        self.loaded
    }

    fn claim(&self) -> u64 {
        self.claimed.fetch_add(1, Ordering::Relaxed)
    }
}

/// Draws the operations of one worker and writes their bytes.
#[derive(Debug, Clone)]
pub struct OperationStream {
    rng: Xoshiro256PlusPlus,
    verbs: VerbChooser,
    keys: KeyChooser,
    space: Arc<KeySpace>,
    format: KeyFormat,
    values: ValueSize,
    maker: ValueMaker,
    scan_keys_max: u32,
    ttl_s: u32,
    durability: Durability,
    written: u64,
}

impl OperationStream {
    /// The stream of worker `worker` of `workers`. The workload must have no problem.
    pub fn new(
        workload: &Workload,
        space: &Arc<KeySpace>,
        seed: u64,
        worker: u64,
        workers: u64,
    ) -> Result<Self, String> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream_seed(seed, worker));
        let maker = ValueMaker::new(&mut rng);
        Ok(OperationStream {
            verbs: VerbChooser::new(&workload.mix),
            keys: KeyChooser::new(&workload.keys, workload.records, seed, worker, workers),
            space: Arc::clone(space),
            format: workload.key_format()?,
            values: workload.values.clone(),
            maker,
            scan_keys_max: workload.scan_keys_max,
            ttl_s: workload.ttl_s.unwrap_or(0),
            durability: workload.durability,
            written: worker << 40,
            rng,
        })
    }

    /// The next operation.
    pub fn next_operation(&mut self) -> Operation {
        let verb = self.verbs.choose(&mut self.rng);
        let key_id = match verb {
            Verb::Insert => self.space.claim(),
            Verb::Read | Verb::Write | Verb::Delete | Verb::Update | Verb::Scan => {
                self.keys.choose(&mut self.rng, self.space.present())
            }
        };
        let writes = matches!(verb, Verb::Write | Verb::Insert | Verb::Update);
        Operation {
            verb,
            key_id,
            value_bytes: if writes {
                self.values.draw(&mut self.rng)
            } else {
                0
            },
            scan_keys: if verb == Verb::Scan {
                self.rng.random_range(1..=self.scan_keys_max)
            } else {
                0
            },
            ttl_s: if writes { self.ttl_s } else { 0 },
            durability: self.durability,
        }
    }

    /// The operation that loads record `key_id` before a run.
    pub fn load_operation(&mut self, key_id: u64) -> Operation {
        Operation {
            verb: Verb::Insert,
            key_id,
            value_bytes: self.values.draw(&mut self.rng),
            scan_keys: 0,
            ttl_s: self.ttl_s,
            durability: Durability::Default,
        }
    }

    /// Puts the key's bytes into `key`.
    pub fn write_key(&self, operation: &Operation, key: &mut Vec<u8>) {
        self.format.write(operation.key_id, key);
    }

    /// Puts the value's bytes into `value`; each call makes a value of its own.
    pub fn write_value(&mut self, operation: &Operation, value: &mut Vec<u8>) {
        self.written += 1;
        self.maker
            .write(operation.key_id, self.written, operation.value_bytes, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::preset;

    fn stream(name: &str, worker: u64, space: &Arc<KeySpace>) -> OperationStream {
        OperationStream::new(&preset::find(name).expect("built in"), space, 1, worker, 2)
            .expect("has no problem")
    }

    #[test]
    fn one_seed_gives_one_load() {
        let space = KeySpace::new(10_000);
        let (mut a, mut b) = (stream("cart", 0, &space), stream("cart", 0, &space));
        let mut other = stream("cart", 1, &space);
        let first: Vec<_> = (0..100).map(|_| a.next_operation()).collect();
        assert!(
            first
                .iter()
                .all(|operation| *operation == b.next_operation())
        );
        assert!(
            first
                .iter()
                .any(|operation| *operation != other.next_operation()),
            "workers must differ"
        );
    }

    #[test]
    fn inserts_never_meet_and_come_after_what_was_loaded() {
        let space = KeySpace::new(10_000);
        let mut inserted: Vec<u64> = (0..2)
            .flat_map(|worker| {
                let mut mine = stream("ycsb-d", worker, &space);
                (0..5000)
                    .map(move |_| mine.next_operation())
                    .filter(|operation| operation.verb == Verb::Insert)
                    .map(|operation| operation.key_id)
                    .collect::<Vec<_>>()
            })
            .collect();
        let count = inserted.len();
        inserted.sort_unstable();
        inserted.dedup();
        assert_eq!(inserted.len(), count);
        assert!(inserted.iter().all(|id| *id >= 10_000));
        assert_eq!(space.present(), 10_000 + count as u64);
    }

    #[test]
    fn writes_carry_their_size_and_expiry_and_reads_do_not() {
        let space = KeySpace::new(10_000);
        let mut sessions = stream("session", 0, &space);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            let operation = sessions.next_operation();
            assert_eq!(operation.verb == Verb::Write, operation.ttl_s == 1800);
            assert_eq!(operation.verb == Verb::Write, operation.value_bytes > 0);
            sessions.write_key(&operation, &mut key);
            assert_eq!(key.len(), 16);
            sessions.write_value(&operation, &mut value);
            assert_eq!(value.len(), operation.value_bytes as usize);
        }
    }
}
