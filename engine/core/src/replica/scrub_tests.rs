//! Scrubbing: what rotted at rest is found without a request, and nothing else is.

use crate::base::ids::SegmentId;
use crate::port::{Durability, Failure};
use crate::replica::bench_tests::{Bench, config, name, seeds};
use crate::replica::scan_tests::walk;
use crate::replica::status::WriteState;
use crate::store::segment::SegmentState;

const KEYS: u64 = 800;

fn value_of(k: u64) -> Vec<u8> {
    vec![k as u8; 100 + (k * 7 % 400) as usize]
}

/// A bench with several sealed segments, of which only the index is in memory.
fn filled(seed: u64) -> Bench {
    let mut config = config(40, 64 << 10);
    config.scrub_ns = 200_000_000;
    let mut bench = Bench::new(seed, config);
    for round in 0..2 {
        // Some of it is overwritten: holes in the segments.
        let ids: Vec<u64> = (0..KEYS)
            .filter(|k| round == 0 || k % 5 == 0)
            .map(|k| bench.put(&name(k), &value_of(k), Some(Durability::One)))
            .collect();
        for id in ids {
            bench.wait(id);
        }
    }
    bench.stop_and_start();
    bench
}

fn sealed(bench: &Bench) -> Vec<SegmentId> {
    (bench.shard.log.segments.iter())
        .filter(|(_, segment)| segment.state == SegmentState::Sealed)
        .map(|(id, _)| id)
        .collect()
}

/// Lets time go on until so many more passes are over.
fn scrub(bench: &mut Bench, passes: u64) {
    let upto = bench.shard.status().scrubs + passes;
    for _ in 0..100_000 {
        if bench.shard.status().scrubs >= upto {
            return;
        }
        bench.turns(1);
    }
    panic!("a pass ends");
}

/// How many keys cannot be read.
fn failed(bench: &mut Bench) -> u64 {
    let fails = |k: &u64| match bench.get(&name(*k)) {
        Ok(found) => {
            assert_eq!(found, Some(value_of(*k)), "key {k}");
            false
        }
        Err(Failure::Corrupt { .. } | Failure::Unknown) => true,
        Err(failure) => panic!("key {k}: {failure}"),
    };
    (0..KEYS).filter(fails).count() as u64
}

#[test]
fn what_rotted_is_told_before_anybody_asks_for_it() {
    let mut hit = 0;
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        let ids = sealed(&bench);
        assert!(ids.len() > 2, "there is something at rest");
        for _ in 0..10 {
            bench.disk.rot(&mut bench.random, |id| ids.contains(&id));
        }
        // The first pass begins somewhere.
        scrub(&mut bench, 2);
        bench.turns(50);
        let told = bench.shard.status().damage_unrepaired;
        assert_eq!(told, failed(&mut bench), "seed {seed}");
        hit += told;
    }
    assert!(hit > 0, "some rot hit something live");
}

#[test]
fn what_is_whole_is_read_once_in_a_pass_and_nothing_is_told() {
    for seed in 0..seeds(5) {
        let mut bench = filled(seed);
        scrub(&mut bench, 1);
        let before = bench.shard.status();
        let ids = sealed(&bench).into_iter();
        let used = |id| bench.shard.log.segments.get(id).expect("it is").used_bytes;
        let at_rest: u64 = ids.map(|id| u64::from(used(id))).sum();
        scrub(&mut bench, 1);
        let after = bench.shard.status();
        assert_eq!(after.scrubbed_bytes - before.scrubbed_bytes, at_rest);
        assert_eq!((after.damage_unrepaired, after.read_faults), (0, 0));
        assert_eq!(
            after.disk_reads, before.disk_reads,
            "no record was read alone"
        );
    }
}

#[test]
fn with_replicas_what_rotted_is_let_go_of_to_be_brought_back() {
    let mut lost = 0;
    for seed in 0..seeds(10) {
        let mut bench = filled(seed);
        bench.shard.set_replicated(true);
        let ids = sealed(&bench);
        for _ in 0..10 {
            bench.disk.rot(&mut bench.random, |id| ids.contains(&id));
        }
        scrub(&mut bench, 2);
        bench.turns(50);
        let is_tainted = bench.shard.tainted().next().is_some();
        let keys = bench.shard.status().keys;
        assert_eq!(is_tainted, keys < KEYS, "seed {seed}");
        lost += KEYS - keys;
        bench.check_sums();
    }
    assert!(lost > 0, "some rot hit something live");
}

#[test]
fn a_piece_that_cannot_be_read_is_read_record_by_record() {
    for seed in 0..seeds(5) {
        let mut bench = filled(seed);
        scrub(&mut bench, 1);
        let before = bench.shard.status();
        bench.disk.fail_reads = 1;
        scrub(&mut bench, 1);
        bench.turns(50);
        let after = bench.shard.status();
        assert_eq!(after.read_faults, 1, "seed {seed}");
        let read = after.disk_reads - before.disk_reads;
        assert!(
            (1..KEYS).contains(&read),
            "seed {seed}: {read} of one piece"
        );
        assert_eq!(after.damage_unrepaired, 0, "seed {seed}");
        assert_eq!(failed(&mut bench), 0, "seed {seed}");
    }
}

#[test]
fn a_read_that_failed_hides_no_key_from_a_walk() {
    for seed in 0..seeds(5) {
        let mut bench = filled(seed);
        scrub(&mut bench, 1);
        // A piece, and then one of its records.
        bench.disk.fail_reads = 2;
        scrub(&mut bench, 1);
        bench.turns(50);
        assert_eq!(bench.shard.status().read_faults, 2, "seed {seed}");
        let seen = walk(&mut bench, 100, |_| {});
        assert_eq!(seen.len() as u64, KEYS, "seed {seed}");
        assert_eq!(bench.shard.status().scan_unreadable, 0, "no walk met it");
    }
}

#[test]
fn a_step_that_cannot_be_taken_now_is_not_waited_for_awake() {
    let rests = |bench: &mut Bench| {
        bench.turns(500);
        let now_ns = bench.now.mono_ns;
        let next_ns = bench.shard.next_deadline_ns();
        next_ns.is_none_or(|at_ns| at_ns > now_ns)
    };
    let mut bench = filled(1);
    bench.turns(50);
    let now_ns = bench.now.mono_ns;
    bench.shard.background.spend(now_ns, 1 << 30);
    assert!(rests(&mut bench), "the background may begin nothing");
    let mut bench = filled(1);
    bench.disk.fail_writes = u32::MAX;
    let id = bench.put(&name(0), &value_of(0), Some(Durability::One));
    bench.wait(id);
    assert_eq!(bench.shard.status().writes, WriteState::ReadOnly);
    assert!(rests(&mut bench), "the shard is read-only");
}
