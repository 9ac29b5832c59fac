//! One client against a map: conditions, expiry, previous values, tombstones and their reaping, through restarts.
//!
//! Method: every write is durable and waited for, so the map is exact at any moment. Time is moved so that no expiry
//! falls into the middle of a request.

use std::collections::BTreeMap;

use crate::port::{Condition, ContextArg, Durability, Expiry, Op, Outcome, Put};
use crate::replica::bench_tests::{Bench, config, name, seeds};
use crate::version::{Content, ObjectView};

/// No expiry may lie so close ahead when a request begins.
const CLEAR_MS: u64 = 10_000;

#[derive(Clone, PartialEq, Debug)]
struct Held {
    value: Vec<u8>,
    expires_at_ms: Option<u64>,
}

fn held_of(bytes: &[u8]) -> Held {
    let view = ObjectView::parse(bytes).expect("an object");
    let sibling = view.single().expect("one sibling");
    let Content::Value(value) = sibling.content else {
        panic!("a tombstone is absent")
    };
    Held {
        value: value.to_vec(),
        expires_at_ms: sibling.expires_at_ms,
    }
}

struct Client {
    bench: Bench,
    map: BTreeMap<Vec<u8>, Held>,
    seed: u64,
    reaped: u64,
}

impl Client {
    fn alive(&self, key: &[u8]) -> Option<Held> {
        let now_ms = self.bench.now.wall_ms;
        let is_alive = |held: &&Held| held.expires_at_ms.is_none_or(|at| at > now_ms);
        self.map.get(key).filter(is_alive).cloned()
    }

    fn clear_of_expiries(&mut self) {
        while let Some(at) = self
            .map
            .values()
            .filter_map(|held| held.expires_at_ms)
            .find(|at| (self.bench.now.wall_ms..self.bench.now.wall_ms + CLEAR_MS).contains(at))
        {
            self.bench.now.wall_ms = at + 1;
        }
    }

    fn expiry(&mut self) -> Expiry {
        match self.bench.random.below(4) {
            0 => Expiry::AtMs(self.bench.now.wall_ms + 20_000 + self.bench.random.below(60_000)),
            1 => Expiry::Keep,
            _ => Expiry::Never,
        }
    }

    fn after(&self, expiry: Expiry, before: Option<&Held>) -> Option<u64> {
        match expiry {
            Expiry::Default | Expiry::Never => None,
            Expiry::AtMs(at) => Some(at),
            Expiry::Keep => before.and_then(|held| held.expires_at_ms),
        }
    }

    /// Sends a write that is met or not; checks its answer.
    fn write(&mut self, key: &[u8], op: Op<'_>, (is_met, wants_previous): (bool, bool)) {
        let before = self.alive(key);
        let id = self.bench.send(key, op, Some(Durability::One));
        let (outcome, bytes) = self.bench.wait(id);
        let seed = self.seed;
        let previous = match outcome {
            Outcome::Written {
                existed, previous, ..
            } if is_met => {
                assert!(
                    !wants_previous || existed == before.is_some(),
                    "seed {seed}: {op:?}"
                );
                previous
            }
            Outcome::ConditionNotMet { previous } if !is_met => previous,
            other => panic!("seed {seed}: {other:?} for {op:?} on {before:?}"),
        };
        let previous = previous.map(|range| held_of(range.of(&bytes)));
        assert_eq!(
            previous,
            before.filter(|_| wants_previous),
            "seed {seed}: {op:?}"
        );
    }

    fn put(&mut self, key: &[u8], stamp: u64) {
        let before = self.alive(key);
        let expiry = self.expiry();
        let condition = match self.bench.random.below(6) {
            0 => Condition::IfAbsent,
            1 => Condition::IfPresent,
            _ => Condition::Always,
        };
        let is_met = match condition {
            Condition::Always => true,
            Condition::IfAbsent => before.is_none(),
            Condition::IfPresent => before.is_some(),
        };
        let want_previous = self.bench.random.chance(30);
        let mut value = stamp.to_le_bytes().to_vec();
        value.resize(8 + self.bench.random.below(600) as usize, stamp as u8);
        let put = Put {
            context: ContextArg::Latest,
            value: &value,
            expiry,
            condition,
            want_previous,
            want_context: self.bench.random.chance(20),
            write_id: None,
        };
        self.write(key, Op::Put(put), (is_met, want_previous));
        if is_met {
            let expires_at_ms = self.after(expiry, before.as_ref());
            self.map.insert(
                key.to_vec(),
                Held {
                    value,
                    expires_at_ms,
                },
            );
        }
    }

    fn set_expiry(&mut self, key: &[u8]) {
        let before = self.alive(key);
        let expiry = self.expiry();
        let want_previous = self.bench.random.chance(30);
        self.write(
            key,
            Op::SetExpiry {
                expiry,
                want_previous,
            },
            (before.is_some(), want_previous),
        );
        if let Some(before) = before {
            let expires_at_ms = self.after(expiry, Some(&before));
            self.map.insert(
                key.to_vec(),
                Held {
                    expires_at_ms,
                    ..before
                },
            );
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let want_previous = self.bench.random.chance(30);
        let op = Op::Delete {
            context: ContextArg::Latest,
            want_previous,
            want_context: false,
            write_id: None,
        };
        self.write(key, op, (true, want_previous));
        self.map.remove(key);
    }

    fn read(&mut self, key: &[u8], step: u64) {
        let seed = self.seed;
        let id = self.bench.send(key, Op::Get, None);
        let found = match self.bench.wait(id) {
            (Outcome::Object { object, .. }, bytes) => Some(held_of(object.of(&bytes))),
            (Outcome::Absent { .. }, _) => None,
            (other, _) => panic!("seed {seed} step {step}: {other:?}"),
        };
        assert_eq!(found, self.alive(key), "seed {seed} step {step}");
        let id = self.bench.send(key, Op::Exists, None);
        let (outcome, _) = self.bench.wait(id);
        assert!(
            matches!(outcome, Outcome::Exists(exists) if exists == found.is_some()),
            "seed {seed} step {step}: {outcome:?}"
        );
    }

    fn restart(&mut self, is_crash: bool, keys: u64) {
        self.reaped += self.bench.shard.status().tombstones_reaped;
        self.bench.check_sums();
        if is_crash {
            self.bench.crash();
        } else {
            self.bench.stop_and_start();
        }
        self.bench.check_sums();
        for k in 0..keys {
            self.clear_of_expiries();
            self.read(&name(k), u64::MAX);
        }
    }
}

fn client_of(seed: u64) -> u64 {
    let bench = Bench::new(seed, config(12, 64 << 10));
    let mut client = Client {
        bench,
        map: BTreeMap::new(),
        seed,
        reaped: 0,
    };
    let keys = 10 + client.bench.random.below(150);
    for step in 0..3_000 {
        client.clear_of_expiries();
        let key = name(client.bench.random.below(keys));
        match client.bench.random.below(1000) {
            0..450 => client.put(&key, step),
            450..550 => client.delete(&key),
            550..600 => client.set_expiry(&key),
            600..900 => client.read(&key, step),
            900..990 => client.bench.turns(3),
            990..994 => client.bench.now.wall_ms += client.bench.random.below(60_000),
            994..997 => client.restart(true, keys),
            _ => client.restart(false, keys),
        }
    }
    client.restart(true, keys);
    assert_eq!(client.bench.shard.status().damage, [], "seed {seed}");
    client.reaped
}

#[test]
fn a_client_sees_a_map_with_conditions_and_expiry_through_restarts() {
    let reaped: u64 = (0..seeds(20)).map(client_of).sum();
    assert!(reaped > 0, "tombstones and expired values are reaped");
}

#[test]
fn a_buckets_ttl_holds_unless_the_put_says_otherwise() {
    let mut settings = config(12, 64 << 10);
    settings.buckets[0].ttl_ms = Some(60_000);
    let mut bench = Bench::new(1, settings);
    let begun_ms = bench.now.wall_ms;
    for (key, expiry) in [(b"a", Expiry::Default), (b"b", Expiry::Never)] {
        let put = Put {
            context: ContextArg::Latest,
            value: b"value",
            expiry,
            condition: Condition::Always,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        let id = bench.send(key, Op::Put(put), None);
        bench.wait(id);
    }
    bench.now.wall_ms = begun_ms + 59_999;
    assert_eq!(bench.get(b"a").expect("reads"), Some(b"value".to_vec()));
    bench.now.wall_ms += 1_000;
    assert_eq!(bench.get(b"a").expect("reads"), None);
    assert_eq!(bench.get(b"b").expect("reads"), Some(b"value".to_vec()));
}

/// What a server of a few keys takes of memory is a matter of how much lives, not of how much was written.
#[test]
fn the_tail_in_memory_is_bounded_by_what_lives() {
    let config = crate::replica::ShardConfig {
        memory_bytes: 1 << 30,
        ..config(64, 4 << 20)
    };
    let mut bench = Bench::new(1, config);
    let value = vec![7; 256 << 10];
    for write in 0..600 {
        let id = bench.put(&name(write % 10), &value, None);
        assert!(matches!(bench.wait(id).0, Outcome::Written { .. }));
    }
    let tail_bytes = bench.shard.status().tail_bytes;
    assert!(
        tail_bytes > 16 << 20,
        "much of what was written: {tail_bytes}"
    );
    assert!(
        tail_bytes <= 64 << 20,
        "not all 150 MiB of it: {tail_bytes}"
    );
}
