//! No space, and writes that fail.

use std::collections::BTreeMap;

use crate::base::ids::{NodeId, PartitionId};
use crate::port::{
    Condition, ContextArg, Durability, Effects, Event, Expiry, Failure, Op, Outcome, Put, Request,
    RequestId,
};
use crate::replica::bench_tests::{Bench, config, name, seeds};
use crate::replica::machine::Admission;
use crate::replica::{ShardConfig, WriteState};

const VALUE: [u8; 1000] = [7; 1000];

/// Puts new keys until one is refused; how many there are.
fn fill(bench: &mut Bench, seed: u64) -> u64 {
    for k in 0.. {
        let id = bench.put(&name(k), &VALUE, None);
        match bench.wait(id).0 {
            Outcome::Written { .. } => {}
            Outcome::Failed(Failure::DiskFull) => return k,
            other => panic!("seed {seed}: put {k}: {other:?}"),
        }
    }
    unreachable!("it fills up")
}

fn delete_all(bench: &mut Bench, keys: core::ops::Range<u64>, seed: u64) {
    for k in keys {
        let id = bench.delete(&name(k), None);
        let outcome = bench.wait(id).0;
        assert!(
            matches!(outcome, Outcome::Written { .. }),
            "seed {seed}: delete {k}: {outcome:?}"
        );
    }
}

fn assert_puts_work(bench: &mut Bench, seed: u64) {
    for attempt in 0.. {
        let id = bench.put(b"again", &VALUE, Some(Durability::One));
        match bench.wait(id).0 {
            Outcome::Written { .. } => return,
            Outcome::Failed(Failure::DiskFull) if attempt < 500 => bench.turns(50),
            other => panic!("seed {seed}: {other:?}; {:?}", bench.shard.status()),
        }
    }
}

#[test]
fn a_full_disk_refuses_puts_serves_gets_and_deletes_and_recovers() {
    for seed in 0..seeds(10) {
        let mut bench = Bench::new(seed, config(12, 64 << 10));
        let keys = fill(&mut bench, seed);
        assert!(
            keys > 300,
            "seed {seed}: {keys} keys of 1 kB fit into 768 kB"
        );
        assert_eq!(bench.shard.status().writes, WriteState::DiskFull);
        for k in 0..keys {
            assert_eq!(
                bench.get(&name(k)).ok().flatten().as_deref(),
                Some(VALUE.as_slice()),
                "seed {seed}"
            );
        }
        delete_all(&mut bench, 0..keys, seed);
        for k in 0..keys {
            assert_eq!(bench.get(&name(k)).ok(), Some(None), "seed {seed}");
        }
        assert_puts_work(&mut bench, seed);
    }
}

#[test]
fn a_device_that_refuses_space_is_a_full_disk_until_it_has_some() {
    for seed in 0..seeds(10) {
        let mut bench = Bench::new(seed, config(60, 64 << 10));
        bench.disk.segments_max = 12;
        let keys = fill(&mut bench, seed);
        assert!(keys > 200, "seed {seed}: {keys} keys");
        bench.disk.segments_max = 60;
        assert_puts_work(&mut bench, seed);
        for k in 0..keys {
            assert_eq!(
                bench.get(&name(k)).ok().flatten().as_deref(),
                Some(VALUE.as_slice()),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_device_that_refused_space_is_asked_again_though_there_are_spares() {
    for seed in 0..seeds(10) {
        let mut bench = Bench::new(seed, config(60, 64 << 10));
        bench.disk.segments_max = 6;
        // Of few keys: what is overwritten is given back, and lies there as spares.
        for k in 0..1_500 {
            let id = bench.put(&name(k % 20), &VALUE, None);
            bench.wait(id);
        }
        bench.turns(500);
        bench.disk.segments_max = 60;
        assert_puts_work(&mut bench, seed);
        let now_ns = bench.now.mono_ns;
        let later = bench
            .shard
            .next_deadline_ns()
            .is_none_or(|at_ns| at_ns > now_ns);
        assert!(later, "seed {seed}: it does not look without a pause");
    }
}

#[test]
fn a_device_without_space_for_a_checkpoint_recovers_when_it_has_some() {
    for seed in 0..seeds(10) {
        let mut bench = Bench::new(seed, config(12, 64 << 10));
        bench.disk.refuses_checkpoints = true;
        let keys = fill(&mut bench, seed);
        delete_all(&mut bench, 0..keys, seed);
        for k in 0..keys {
            assert_eq!(bench.get(&name(k)).ok(), Some(None), "seed {seed}");
        }
        bench.disk.refuses_checkpoints = false;
        assert_puts_work(&mut bench, seed);
    }
}

/// What is told as pending is both: `upkeep_stats` of the shard adds them.
#[test]
fn a_hint_without_room_is_counted_until_it_lies_in_the_log_and_then_there() {
    let mut bench = Bench::new(3, config(12, 64 << 10));
    let keys = fill(&mut bench, 3);
    bench.keep_hint(NodeId(9), b"carts", b"k1");
    let counts = |bench: &Bench| (bench.shard.hints(), bench.shard.hints_without_room());
    assert_eq!(counts(&bench), (0, 1));
    // The same hint again is the same.
    bench.keep_hint(NodeId(9), b"carts", b"k1");
    bench.turns(50);
    assert_eq!(counts(&bench), (0, 1));
    delete_all(&mut bench, 0..keys, 3);
    assert_puts_work(&mut bench, 3);
    bench.turns(10);
    assert_eq!(counts(&bench), (1, 0));
}

#[test]
fn a_stop_on_a_full_device_ends_and_loses_nothing() {
    for seed in 0..seeds(5) {
        let mut bench = Bench::new(seed, config(12, 64 << 10));
        bench.disk.refuses_checkpoints = true;
        for k in 0..100 {
            bench.put(&name(k), &VALUE, None);
        }
        bench.stop_and_start();
        for k in 0..100 {
            assert_eq!(
                bench.get(&name(k)).ok().flatten().as_deref(),
                Some(VALUE.as_slice()),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn many_small_deletes_on_a_full_disk_all_go_through() {
    for seed in 0..seeds(3) {
        let mut bench = Bench::new(seed, config(12, 64 << 10));
        let mut keys = 0;
        loop {
            let id = bench.put(&name(keys), &[1; 20], None);
            match bench.wait(id).0 {
                Outcome::Written { .. } => keys += 1,
                Outcome::Failed(Failure::DiskFull) => break,
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        delete_all(&mut bench, 0..keys, seed);
    }
}

#[test]
fn one_failed_write_is_mended() {
    for seed in 0..seeds(30) {
        let mut bench = Bench::new(seed, config(24, 64 << 10));
        let mut ids = Vec::new();
        for step in 0..600 {
            if step % 200 == 100 {
                bench.disk.fail_writes = 1;
            }
            let k = bench.random.below(60);
            let value = format!("{step}");
            ids.push((
                bench.put(&name(k), value.as_bytes(), Some(Durability::One)),
                k,
                value,
            ));
            if bench.random.chance(30) {
                bench.turns(1);
            }
            // Nothing that is in memory only because of a fault is seen otherwise.
            let k = bench.random.below(60);
            let newest = ids
                .iter()
                .rev()
                .find(|(_, of, _)| *of == k)
                .map(|(.., value)| value.clone().into_bytes());
            if bench.shard.status().requests_waiting == 0 {
                assert_eq!(
                    bench.get(&name(k)).expect("reads"),
                    newest,
                    "seed {seed} step {step}"
                );
            }
        }
        let mut last = BTreeMap::new();
        for (id, k, value) in ids {
            let outcome = bench.wait(id).0;
            assert!(
                matches!(outcome, Outcome::Written { .. }),
                "seed {seed}: {outcome:?}"
            );
            last.insert(k, value.into_bytes());
        }
        bench.check_sums();
        let status = bench.shard.status();
        assert!(status.write_faults > 0, "seed {seed}: a write failed");
        assert_eq!(status.writes, WriteState::Open, "seed {seed}");
        bench.crash();
        for (k, value) in &last {
            assert_eq!(
                bench.get(&name(*k)).expect("reads").as_ref(),
                Some(value),
                "seed {seed}"
            );
        }
        assert_eq!(bench.report.damage, [], "seed {seed}");
    }
}

#[test]
fn failures_in_a_row_make_the_shard_read_only_and_writes_in_doubt() {
    for seed in 0..seeds(10) {
        let mut bench = Bench::new(seed, config(24, 64 << 10));
        for k in 0..50 {
            let id = bench.put(&name(k), b"before", Some(Durability::One));
            bench.wait(id);
        }
        bench.disk.fail_writes = u32::MAX;
        let id = bench.put(&name(1), b"after", Some(Durability::One));
        let outcome = bench.wait(id).0;
        assert!(
            matches!(outcome, Outcome::Failed(Failure::InDoubt)),
            "seed {seed}: {outcome:?}"
        );
        let id = bench.put(&name(2), b"after", None);
        let outcome = bench.wait(id).0;
        assert!(
            matches!(outcome, Outcome::Failed(Failure::ReadOnly)),
            "seed {seed}: {outcome:?}"
        );
        assert_eq!(bench.shard.status().writes, WriteState::ReadOnly);
        assert_eq!(
            bench.get(&name(3)).expect("reads"),
            Some(b"before".to_vec())
        );
        bench.disk.fail_writes = 0;
        bench.crash();
        for k in 2..50 {
            assert_eq!(
                bench.get(&name(k)).expect("reads"),
                Some(b"before".to_vec()),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_failed_write_with_more_on_its_way_than_the_tail_holds_is_mended() {
    for seed in 0..seeds(20) {
        let mut bench = Bench::new(seed, config(24, 64 << 10));
        bench.turns(10);
        bench.disk.fail_writes = 1;
        // Together with their copies they are more than the tail holds.
        let ids: Vec<u64> = (0..50)
            .map(|k| bench.put(&name(k), &VALUE, Some(Durability::One)))
            .collect();
        for id in ids {
            let outcome = bench.wait(id).0;
            assert!(
                matches!(outcome, Outcome::Written { .. }),
                "seed {seed}: {outcome:?}"
            );
        }
        bench.crash();
        for k in 0..50 {
            let found = bench.get(&name(k)).expect("reads");
            assert_eq!(found.as_deref(), Some(VALUE.as_slice()), "seed {seed}: {k}");
        }
    }
}

/// A checkpoint that is being made while a write to the log fails may stand on what never counts.
#[test]
fn a_failed_write_takes_nothing_of_which_a_checkpoint_was_being_made() {
    for seed in 0..seeds(40) {
        let config = ShardConfig {
            checkpoint_bytes: 8 << 10,
            ..config(24, 64 << 10)
        };
        let mut bench = Bench::new(seed, config);
        let mut acknowledged = BTreeMap::new();
        for round in 0..30 {
            for step in 0..30_u64 {
                let percent = if round % 3 == 2 { 60 } else { 4 };
                if bench.random.chance(percent) {
                    bench.disk.fail_writes = 1;
                }
                let k = bench.random.below(20);
                let value = format!("{round} {step}").into_bytes();
                let id = bench.put(&name(k), &value, Some(Durability::One));
                let value = Some(value);
                match bench.wait(id).0 {
                    Outcome::Written { .. } => {
                        acknowledged.insert(k, vec![value]);
                    }
                    // It may be there or not; the shard takes no more.
                    Outcome::Failed(Failure::InDoubt | Failure::ReadOnly) => {
                        let values = acknowledged.entry(k).or_insert_with(|| vec![None]);
                        values.push(value);
                        bench.turns(20);
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            bench.disk.fail_writes = 0;
            bench.crash();
            assert_eq!(bench.report.damage, [], "seed {seed} round {round}");
            for (k, values) in &mut acknowledged {
                let found = bench.get(&name(*k));
                let found = found.unwrap_or_else(|e| panic!("seed {seed} round {round}: {e}"));
                assert!(
                    values.contains(&found),
                    "seed {seed} round {round}: key {k} is {found:?}, not one of {values:?}"
                );
                *values = vec![found];
            }
        }
        bench.check_sums();
    }
}

/// Whoever waits for the batch that was the newest when a write failed must find all of it on stable media.
#[test]
fn what_is_appended_anew_counts_as_durable_together() {
    for seed in 0..seeds(20) {
        let mut bench = Bench::new(seed, config(24, 64 << 10));
        bench.turns(10);
        for k in 0..50 {
            bench.put(&name(k), &VALUE, Some(Durability::One));
        }
        let (newest, durable) = (bench.shard.log.newest(), bench.shard.log.durable());
        assert!(newest > durable, "seed {seed}");
        bench.disk.fail_writes = 1;
        while bench.shard.log.durable() < newest {
            bench.complete_one();
            bench.event(Event::TurnEnd);
            bench.now.mono_ns += 1_000_000;
        }
        assert_eq!(bench.shard.status().write_faults, 1, "seed {seed}");
        bench.crash();
        for k in 0..50 {
            let found = bench.get(&name(k)).expect("reads");
            assert_eq!(found.as_deref(), Some(VALUE.as_slice()), "seed {seed}: {k}");
        }
    }
}

#[test]
fn a_shard_that_turned_read_only_makes_no_checkpoint_of_what_it_could_not_write() {
    for seed in 0..seeds(10) {
        let config = ShardConfig {
            checkpoint_bytes: 8 << 10,
            ..config(24, 64 << 10)
        };
        let mut bench = Bench::new(seed, config);
        for k in 0..30 {
            let id = bench.put(&name(k), b"before", Some(Durability::One));
            bench.wait(id);
        }
        bench.disk.fail_writes = u32::MAX;
        for k in 0..30 {
            bench.put(&name(k), &VALUE, None);
        }
        bench.turns(100);
        assert_eq!(bench.shard.status().writes, WriteState::ReadOnly);
        bench.disk.fail_writes = 0;
        bench.crash();
        for k in 0..30 {
            let found = bench.get(&name(k)).expect("reads");
            assert_eq!(found.as_deref(), Some(b"before".as_slice()), "seed {seed}");
        }
    }
}

#[test]
fn writes_that_wait_for_a_commit_are_refused_beyond_what_may_wait() {
    let few = ShardConfig {
        requests_max: 4,
        ..config(60, 64 << 10)
    };
    let mut bench = Bench::new(1, few);
    let ids: Vec<_> = (0..6)
        .map(|k| bench.put(&name(k), &VALUE, Some(Durability::One)))
        .collect();
    assert_eq!(bench.shard.status().requests_waiting, 4);
    for (k, id) in ids.into_iter().enumerate() {
        let outcome = bench.wait(id).0;
        let is_refused = matches!(outcome, Outcome::Failed(Failure::Overloaded { .. }));
        assert_eq!(is_refused, k >= 4, "{k}: {outcome:?}");
    }
    assert_eq!(bench.shard.status().shed, 2);
    let id = bench.put(&name(6), &VALUE, Some(Durability::One));
    assert!(matches!(bench.wait(id).0, Outcome::Written { .. }));
}

#[test]
fn a_put_that_waits_for_room_is_answered_at_its_deadline() {
    let mut bench = Bench::new(1, config(12, 64 << 10));
    for k in 0..100_000u64 {
        bench.put(&name(k % 50), &VALUE, None);
        if k % 20 == 0 {
            bench.turns(1);
        }
        if bench.shard.admission == Admission::Wait {
            break;
        }
    }
    let (id, key) = (RequestId(1 << 40), name(1));
    let deadline_ns = bench.now.mono_ns + 1_000_000;
    bench.event(Event::Request(Request {
        id,
        deadline_ns: Some(deadline_ns),
        bucket: b"default",
        key: &key,
        token: crate::base::hash::token(b"default", &key),
        durability: None,
        quorum: Default::default(),
        wants_object: false,
        is_forwarded: false,
        op: Op::Put(Put {
            context: ContextArg::Latest,
            value: &VALUE,
            expiry: Expiry::Never,
            condition: Condition::Always,
            want_previous: false,
            want_context: false,
            write_id: None,
        }),
    }));
    // The disk does nothing meanwhile, so no room comes.
    for _ in 0..20 {
        bench.now.mono_ns += 1_000_000;
        let due_ns = bench.shard.next_deadline_ns();
        if due_ns.is_some_and(|at_ns| at_ns <= bench.now.mono_ns) {
            bench.event(Event::Tick);
        }
    }
    assert!(bench.shard.admission == Admission::Wait);
    let answer = bench.answers.get(&id.0).map(|(outcome, _)| *outcome);
    let late = Outcome::Failed(Failure::DeadlineNotApplied);
    assert_eq!(format!("{answer:?}"), format!("{:?}", Some(late)));
}

#[test]
fn a_shard_that_takes_no_writes_says_of_no_partition_that_it_is_whole_or_gone() {
    let mut bench = Bench::new(1, config(24, 64 << 10));
    bench.disk.fail_writes = u32::MAX;
    let id = bench.put(&name(1), &VALUE, Some(Durability::One));
    bench.wait(id);
    assert_eq!(bench.shard.status().writes, WriteState::ReadOnly);
    // The disk is well again, and has not what the index names.
    bench.disk.fail_writes = 0;
    let (now, mut effects) = (bench.now, Effects::default());
    let partition = PartitionId(0);
    let is_marked = (bench.shard).mark_whole(now, partition, RequestId(1 << 40), &mut effects);
    let is_dropped = bench.shard.drop_partition(now, partition, &mut effects);
    assert!(!is_marked && !is_dropped);
    assert_eq!(bench.shard.status().keys, 1);
}
