//! Scans: every key that is there throughout is seen, once, whatever else goes on.

use std::collections::BTreeMap;

use crate::port::{Durability, Op, Outcome};
use crate::replica::bench_tests::{Bench, config, name, seeds};

/// The keys of one walk, each with how often it was seen; other keys are written meanwhile.
pub(super) fn walk(
    bench: &mut Bench,
    count: u32,
    mut meanwhile: impl FnMut(&mut Bench),
) -> BTreeMap<Vec<u8>, u32> {
    let mut seen = BTreeMap::new();
    let mut cursor = 0;
    for _ in 0..100_000 {
        let id = bench.send(b"", Op::Scan { cursor, count }, None);
        let (outcome, bytes) = bench.wait(id);
        let Outcome::Keys { next_cursor, keys } = outcome else {
            panic!("{outcome:?} for a scan")
        };
        let mut keys = keys.of(&bytes);
        while let Some((length, rest)) = keys.split_first_chunk() {
            let (key, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            *seen.entry(key.to_vec()).or_insert(0) += 1;
            keys = rest;
        }
        if next_cursor == 0 {
            return seen;
        }
        assert!(next_cursor > cursor, "the cursor goes on");
        cursor = next_cursor;
        meanwhile(bench);
    }
    panic!("a walk ends")
}

#[test]
fn a_walk_sees_every_key_once_with_records_on_disk_and_in_memory() {
    for seed in 0..seeds(20) {
        let mut bench = Bench::new(seed, config(40, 64 << 10));
        let keys = 400;
        for k in 0..keys {
            let length = bench.random.below(600) as usize;
            let id = bench.put(&name(k), &vec![1; length], Some(Durability::One));
            bench.wait(id);
        }
        // A third of them is in memory, here and there.
        for k in (0..keys).step_by(3) {
            bench.put(&name(k), b"new", None);
        }
        let count = [1, 3, 10, 100, 4096][(seed % 5) as usize];
        let mut stamp = 0;
        let seen = walk(&mut bench, count, |bench| {
            stamp += 1;
            bench.put(&name(10_000 + stamp % 50), &[2; 300], None);
            bench.put(&name(stamp % keys), &[3; 300], None);
            bench.delete(&name(10_000 + (stamp + 25) % 50), None);
        });
        for k in 0..keys {
            assert_eq!(
                seen.get(&name(k)),
                Some(&1),
                "seed {seed}, count {count}: key {k}"
            );
        }
    }
}

#[test]
fn a_walk_sees_neither_deleted_nor_expired_keys_nor_those_of_other_buckets() {
    let mut settings = config(24, 64 << 10);
    settings.buckets.push(crate::replica::Bucket::new(b"other"));
    let mut bench = Bench::new(1, settings);
    for k in 0..100 {
        let id = bench.put(&name(k), b"value", None);
        bench.wait(id);
        if k % 2 == 0 {
            bench.delete(&name(k), None);
        }
    }
    let put = crate::port::Put {
        context: crate::port::ContextArg::Latest,
        value: b"elsewhere",
        expiry: crate::port::Expiry::Never,
        condition: crate::port::Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    bench.send_in(b"other", b"theirs", Op::Put(put), None);
    let at = bench.now.wall_ms + 10;
    bench.send(
        b"brief",
        Op::Put(crate::port::Put {
            expiry: crate::port::Expiry::AtMs(at),
            ..put
        }),
        None,
    );
    bench.now.wall_ms += 20;
    let seen = walk(&mut bench, 7, |_| {});
    let expected: BTreeMap<Vec<u8>, u32> = (0..100)
        .filter(|k| k % 2 == 1)
        .map(|k| (name(k), 1))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn keys_of_one_token_are_told_apart_warm_and_cold() {
    let mut bench = Bench::new(1, config(24, 64 << 10));
    bench.one_token = Some(crate::base::ids::Token(0x4000_0000_0000_0001));
    let keys = 20;
    for k in 0..keys {
        bench.put(&name(k), &[k as u8; 400], Some(Durability::One));
    }
    bench.turns(20);
    let id = bench.delete(&name(3), None);
    bench.wait(id);
    for is_cold in [false, true] {
        if is_cold {
            bench.stop_and_start();
        }
        for k in 0..keys {
            let expected = (k != 3).then(|| vec![k as u8; 400]);
            assert_eq!(
                bench.get(&name(k)).expect("reads"),
                expected,
                "key {k}, cold {is_cold}"
            );
        }
        if is_cold {
            bench.stop_and_start();
        }
        let seen = walk(&mut bench, 5, |_| {});
        let expected: BTreeMap<Vec<u8>, u32> = (0..keys)
            .filter(|k| *k != 3)
            .map(|k| (name(k), 1))
            .collect();
        assert_eq!(seen, expected, "cold {is_cold}");
    }
}

#[test]
fn a_walk_passes_over_what_it_cannot_read_counts_it_and_sees_all_else() {
    for seed in 0..seeds(5) {
        let mut bench = Bench::new(seed, config(40, 64 << 10));
        let one_token = (seed % 3 == 0).then_some(crate::base::ids::Token(0x4000_0000_0000_0001));
        bench.one_token = one_token;
        let keys = if one_token.is_some() { 40 } else { 200 };
        for k in 0..keys {
            let value = format!("value-of-{k}-").repeat(20);
            let id = bench.put(&name(k), value.as_bytes(), Some(Durability::One));
            bench.wait(id);
        }
        bench.stop();
        // Several in a row, so that one call meets more than one.
        let mut rotten = std::collections::BTreeSet::new();
        for k in (0..keys).filter(|k| k % 16 < 3) {
            let needle = format!("value-of-{k}-value").into_bytes();
            for bytes in bench.disk.files.values_mut() {
                let at = bytes
                    .windows(needle.len())
                    .position(|bytes| bytes == needle);
                if let Some(at) = at {
                    bytes[at] ^= 1;
                    rotten.insert(k);
                }
            }
        }
        assert!(!rotten.is_empty());
        bench.reopen();
        let count = [1, 3, 10, 100, 4096][(seed % 5) as usize];
        for round in 1..=2 {
            let seen = walk(&mut bench, count, |_| {});
            let expected: BTreeMap<Vec<u8>, u32> = (0..keys)
                .filter(|k| !rotten.contains(k))
                .map(|k| (name(k), 1))
                .collect();
            assert_eq!(seen, expected, "seed {seed}, count {count}, round {round}");
            let counted = bench.shard.status().scan_unreadable;
            assert!(counted >= rotten.len() as u64, "seed {seed}: {counted}");
            assert_eq!(
                bench.shard.status().damage.len(),
                rotten.len(),
                "seed {seed}"
            );
        }
    }
}

/// The cache has room for a few of the records only, and none of them is of the walk's bucket.
#[test]
fn a_walk_goes_past_more_than_memory_holds() {
    for seed in 0..seeds(5) {
        let mut settings = config(40, 64 << 10);
        settings.buckets.push(crate::replica::Bucket::new(b"other"));
        let mut bench = Bench::new(seed, settings);
        for k in 0..600 {
            let id = bench.put(&name(k), &[1; 400], Some(Durability::One));
            bench.wait(id);
        }
        bench.stop_and_start();
        let before = bench.shard.status().disk_reads;
        let (mut cursor, mut calls) = (0, 0);
        loop {
            let count = 4096;
            let id = bench.send_in(b"other", b"", Op::Scan { cursor, count }, None);
            let Outcome::Keys { next_cursor, keys } = bench.wait(id).0 else {
                panic!("not keys")
            };
            assert_eq!(keys.start, keys.end, "seed {seed}");
            (cursor, calls) = (next_cursor, calls + 1);
            if next_cursor == 0 {
                break;
            }
        }
        assert!(calls <= 2, "seed {seed}: {calls}");
        let read = bench.shard.status().disk_reads - before;
        assert!(read < 600 * 600 / 4, "seed {seed}: {read}");
    }
}
