//! Crashes: the shard against a reference map, on a disk that loses and tears what was on its way.
//!
//! Method: one client writes in a known order, so the state after each write is known. At any moment the shard must
//! answer from the present state (or say why not); after a crash its state must be that after some prefix of the writes
//! which holds every write that was acknowledged as durable.

use std::collections::BTreeMap;

use crate::port::{Durability, Outcome};
use crate::replica::bench_tests::{Bench, Random, config, name, seeds};

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// The writes in their order, and how many of them are certain.
#[derive(Default)]
struct History {
    base: State,
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    durable: usize,
}

fn apply(state: &mut State, write: &(Vec<u8>, Option<Vec<u8>>)) {
    match &write.1 {
        Some(value) => state.insert(write.0.clone(), value.clone()),
        None => state.remove(&write.0),
    };
}

impl History {
    fn present(&self) -> State {
        let mut state = self.base.clone();
        self.writes
            .iter()
            .for_each(|write| apply(&mut state, write));
        state
    }

    /// Which prefix the shard shows; goes on from it.
    fn settle(&mut self, bench: &mut Bench, keys: u64, seed: u64) {
        let found: State = (0..keys)
            .filter_map(|k| {
                let key = name(k);
                bench
                    .get(&key)
                    .unwrap_or_else(|e| panic!("seed {seed}: {e}"))
                    .map(|value| (key, value))
            })
            .collect();
        let mut state = self.base.clone();
        let mut fits = (self.durable == 0 && state == found).then_some(0);
        for (at, write) in self.writes.iter().enumerate() {
            apply(&mut state, write);
            if at + 1 >= self.durable && state == found {
                fits = Some(at + 1);
            }
        }
        let total = self.writes.len();
        assert!(
            fits.is_some(),
            "seed {seed}: the state is that of no prefix of at least {} of {total} writes",
            self.durable
        );
        *self = Self {
            base: found,
            writes: Vec::new(),
            durable: 0,
        };
    }
}

fn value(random: &mut Random, stamp: u64) -> Vec<u8> {
    let length = if random.chance(3) {
        random.below(12_000)
    } else {
        random.below(300)
    };
    let mut value = stamp.to_le_bytes().to_vec();
    value.resize(8 + length as usize, stamp as u8);
    value
}

fn history_of(seed: u64, steps: u64) {
    let mut bench = Bench::new(seed, config(24, 64 << 10));
    let mut history = History::default();
    let keys = 20 + bench.random.below(400);
    let mut unanswered: Vec<(u64, usize, bool)> = Vec::new();
    for step in 0..steps {
        match bench.random.below(1000) {
            0..560 => {
                let key = name(bench.random.below(keys));
                let value = value(&mut bench.random, step);
                let is_durable = bench.random.chance(30);
                let id = bench.put(&key, &value, is_durable.then_some(Durability::One));
                history.writes.push((key, Some(value)));
                unanswered.push((id, history.writes.len(), is_durable));
            }
            560..640 => {
                let key = name(bench.random.below(keys));
                let is_durable = bench.random.chance(30);
                let id = bench.delete(&key, is_durable.then_some(Durability::One));
                history.writes.push((key, None));
                unanswered.push((id, history.writes.len(), is_durable));
            }
            640..860 => {
                let key = name(bench.random.below(keys));
                // A write that waits for room may be carried out after this get began: only settled keys are compared.
                let is_settled = unanswered
                    .iter()
                    .all(|(_, at, _)| history.writes[at - 1].0 != key);
                let found = bench
                    .get(&key)
                    .unwrap_or_else(|e| panic!("seed {seed} step {step}: {e}"));
                if is_settled {
                    assert_eq!(
                        found,
                        history.present().get(&key).cloned(),
                        "seed {seed} step {step}"
                    );
                }
            }
            860..990 => bench.turns(2),
            990..996 => {
                for (id, ..) in unanswered.drain(..) {
                    let (outcome, _) = bench.wait(id);
                    assert!(
                        matches!(outcome, Outcome::Written { .. }),
                        "seed {seed} step {step}: {outcome:?}"
                    );
                }
                bench.stop_and_start();
                history.durable = history.writes.len();
                history.settle(&mut bench, keys, seed);
            }
            _ => {
                bench.answers.clear();
                unanswered.clear();
                bench.crash();
                history.settle(&mut bench, keys, seed);
            }
        }
        unanswered.retain(|(id, at, is_durable)| match bench.answers.remove(id) {
            None => true,
            Some((Outcome::Written { .. }, _)) => {
                if *is_durable {
                    history.durable = history.durable.max(*at);
                }
                false
            }
            Some((outcome, _)) => panic!("seed {seed} step {step}: {outcome:?}"),
        });
        // Writes are handed in one after the other: one that waits holds up the next, so that the order is known.
        while let Some((id, at, is_durable)) = unanswered
            .first()
            .copied()
            .filter(|_| bench.shard.status().requests_waiting > 0)
        {
            let (outcome, _) = bench.wait(id);
            assert!(
                matches!(outcome, Outcome::Written { .. }),
                "seed {seed} step {step}: {outcome:?}"
            );
            if is_durable {
                history.durable = history.durable.max(at);
            }
            unanswered.remove(0);
        }
    }
    bench.check_sums();
    let status = bench.shard.status();
    assert_eq!(status.damage, [], "seed {seed}: no damage was made");
}

#[test]
fn every_crash_leaves_a_prefix_that_holds_what_was_acknowledged_as_durable() {
    for seed in 0..seeds(30) {
        history_of(seed, 4_000);
    }
}
