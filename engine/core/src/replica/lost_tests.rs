//! What is lost and what is not: starts without any checkpoint, rotten record headers, batches that never arrived.
//!
//! Method: as in `damage_tests`, but keys are overwritten and deleted, so that an older value or the absence of a newer
//! one can be told from the truth. A get must give the newest value, or a failure where it is lost.

use crate::base::hash;
use crate::base::ids::SegmentId;
use crate::port::{Durability, Effects, Failure, FileId, RequestId};
use crate::replica::bench_tests::{Bench, config, name, seeds};
use crate::store::format::{BATCH_HEADER_BYTES, RECORD_HEADER_BYTES};
use crate::store::place::{Place, tag15};
use crate::store::segment::SegmentState;

const COLD: u64 = 60;
const DELETED: u64 = 40;

fn put_durable(bench: &mut Bench, key: &[u8], value: &[u8]) {
    let id = bench.put(key, value, Some(Durability::One));
    bench.wait(id);
}

fn place_of(bench: &Bench, key: &[u8]) -> Place {
    let tag = hash::tag(bench.config.tag_seed, b"default", key);
    let entry = bench
        .shard
        .index
        .get(hash::token(b"default", key), tag15(tag));
    entry.expect("the key is known").place
}

fn spot_of(bench: &Bench, key: &[u8]) -> (SegmentId, usize) {
    let place = place_of(bench, key);
    let layout = bench.shard.layout;
    (layout.segment(place), layout.offset(place) as usize)
}

fn flip(bench: &mut Bench, (id, at): (SegmentId, usize)) {
    let bytes = bench
        .disk
        .files
        .get_mut(&FileId::Segment(id))
        .expect("a file");
    bytes[at] ^= 4;
}

fn lose_checkpoints(bench: &mut Bench) {
    for slot in 0..2 {
        if let Some(bytes) = bench.disk.files.get_mut(&FileId::Checkpoint(slot)) {
            bytes[8..96].fill(7);
        }
    }
}

/// Cold keys that stay, keys that are deleted, and others that are overwritten until the cleaner has been through.
fn cleaned(seed: u64) -> Bench {
    let mut bench = Bench::new(seed, config(24, 64 << 10));
    for k in 0..COLD + DELETED {
        bench.put(&name(k), &[1; 700], None);
        bench.put(&name(9000 + k), &[2; 300], None);
    }
    bench.turns(20);
    let ids: Vec<u64> = (COLD..COLD + DELETED)
        .map(|k| bench.delete(&name(k), Some(Durability::One)))
        .collect();
    for id in ids {
        bench.wait(id);
    }
    overwrite(&mut bench, 130);
    bench
}

fn overwrite(bench: &mut Bench, rounds: u64) {
    for round in 0..rounds {
        bench.now.wall_ms += 1000;
        let ids: Vec<u64> = (0..40)
            .map(|k| bench.put(&name(5000 + k), &[round as u8; 350], None))
            .collect();
        for id in ids {
            bench.wait(id);
        }
    }
    let ids: Vec<u64> = (0..40)
        .map(|k| bench.put(&name(5000 + k), b"last", Some(Durability::One)))
        .collect();
    for id in ids {
        bench.wait(id);
    }
}

fn check_cleaned(bench: &mut Bench, seed: u64) {
    assert_eq!(bench.report.damage, [], "seed {seed}: nothing is missing");
    for k in 0..COLD {
        assert_eq!(
            bench.get(&name(k)),
            Ok(Some(vec![1; 700])),
            "seed {seed}: key {k}"
        );
    }
    for k in COLD..COLD + DELETED {
        assert_eq!(bench.get(&name(k)), Ok(None), "seed {seed}: key {k}");
    }
    for k in 0..40 {
        assert_eq!(
            bench.get(&name(5000 + k)),
            Ok(Some(b"last".to_vec())),
            "seed {seed}: key {k}"
        );
    }
    bench.check_sums();
}

#[test]
fn a_start_without_checkpoints_takes_no_freed_segment_for_lost_and_brings_nothing_back() {
    let mut freed = 0;
    for seed in 0..seeds(16) {
        let mut bench = cleaned(seed);
        for again in 0..3 {
            let status = bench.shard.status();
            freed += status.segments_freed;
            if seed % 2 == 0 {
                bench.stop();
                lose_checkpoints(&mut bench);
                bench.reopen();
            } else {
                bench.disk.crash(&mut bench.random);
                lose_checkpoints(&mut bench);
                bench.reopen();
            }
            assert_eq!(bench.report.checkpoint_entries, 0);
            check_cleaned(&mut bench, seed);
            overwrite(&mut bench, 10 + 30 * again);
        }
        check_cleaned(&mut bench, seed);
    }
    assert!(freed > 0, "segments were given back");
}

/// On a node with company the tombstones are forgotten by agreement as soon as they are there, and their segments are given
/// back long before the older ones, in which the values lie among cold keys.
#[test]
fn what_was_forgotten_by_agreement_does_not_come_back_by_a_replay_of_the_whole_log() {
    let is_deleted = |k: u64| k.is_multiple_of(10);
    for seed in 0..seeds(12) {
        let mut bench = Bench::new(seed, config(24, 64 << 10));
        bench.shard.set_replicated(true);
        for k in 0..500 {
            bench.put(&name(k), &[1; 700], None);
        }
        bench.turns(20);
        overwrite(&mut bench, 10);
        for k in (0..500).filter(|k| is_deleted(*k)) {
            let id = bench.delete(&name(k), Some(Durability::One));
            bench.wait(id);
            let token = hash::token(b"default", &name(k));
            let fingerprint = bench.shard.fingerprint_named(b"default", &name(k));
            let fingerprint = fingerprint.expect("a tombstone");
            assert!(bench.shard.forget_tombstone(token, fingerprint));
        }
        for again in 0..3 {
            overwrite(&mut bench, 130);
            assert!(bench.shard.status().segments_freed > 0, "seed {seed}");
            if seed % 2 == 0 {
                bench.stop();
            } else {
                bench.disk.crash(&mut bench.random);
            }
            lose_checkpoints(&mut bench);
            bench.reopen();
            bench.shard.set_replicated(true);
            assert_eq!(bench.report.checkpoint_entries, 0, "seed {seed}");
            assert_eq!(bench.report.damage, [], "seed {seed}: nothing is missing");
            for k in 0..500 {
                let expected = (!is_deleted(k)).then(|| vec![1; 700]);
                assert_eq!(
                    bench.get(&name(k)),
                    Ok(expected),
                    "seed {seed}, start {again}: key {k}"
                );
            }
            bench.check_sums();
        }
    }
}

#[test]
fn a_segment_that_is_really_missing_is_reported_also_without_checkpoints() {
    for seed in 0..seeds(16) {
        let mut bench = cleaned(seed);
        let is_live = |(_, segment): &(SegmentId, &crate::store::segment::Segment)| {
            segment.state == SegmentState::Sealed && segment.live_bytes > 0
        };
        let Some((missing, _)) = bench.shard.log.segments.iter().find(is_live) else {
            continue;
        };
        bench.disk.crash(&mut bench.random);
        if seed % 2 == 0 {
            lose_checkpoints(&mut bench);
        }
        bench.disk.files.remove(&FileId::Segment(missing));
        bench.reopen();
        for start in 0..3 {
            assert!(
                bench.report.damage.iter().any(|d| d.segment == missing),
                "seed {seed}, start {start}: {:?}",
                bench.report.damage
            );
            let mut failed = 0;
            for k in 0..COLD + DELETED {
                let expected = (k < COLD).then(|| vec![1; 700]);
                match bench.get(&name(k)) {
                    Ok(found) => assert!(found == expected, "seed {seed}, start {start}: key {k}"),
                    Err(Failure::Corrupt { .. } | Failure::Unknown) => failed += 1,
                    Err(failure) => panic!("seed {seed}: key {k}: {failure}"),
                }
            }
            assert!(failed > 0, "seed {seed}, start {start}");
            overwrite(&mut bench, 3);
            bench.crash();
        }
    }
}

const KEYS: u64 = 50;

/// Keys that were written twice, durable, one by one; behind them the log goes on.
fn twice(seed: u64) -> Bench {
    let mut settings = config(40, 64 << 10);
    settings.checkpoint_bytes = 1 << 40;
    let mut bench = Bench::new(seed, settings);
    for k in 0..KEYS {
        bench.put(&name(k), b"old", None);
    }
    for k in 0..KEYS {
        if k % 5 == 0 {
            put_durable(&mut bench, &name(k), b"new");
        } else {
            bench.put(&name(k), b"new", None);
        }
    }
    finish(&mut bench);
    bench
}

/// What is written until everything before it is known as durable.
fn finish(bench: &mut Bench) {
    for _ in 0..4 {
        put_durable(bench, b"later", b"");
        bench.turns(20);
    }
}

/// Which keys fail; no other has an older value or is absent.
fn failing(bench: &mut Bench, expected: &[u8]) -> Vec<u64> {
    let failing = |k: &u64| match bench.get(&name(*k)) {
        Ok(found) => {
            assert_eq!(found.as_deref(), Some(expected), "key {k}");
            false
        }
        Err(Failure::Corrupt { .. } | Failure::Unknown) => true,
        Err(failure) => panic!("key {k}: {failure}"),
    };
    (0..KEYS).filter(failing).collect()
}

#[test]
fn a_rotten_record_header_in_the_tail_makes_its_key_unknown_and_no_other() {
    for seed in 0..seeds(20) {
        let mut bench = twice(seed);
        let hit = seed * 7 % KEYS;
        let (id, at) = spot_of(&bench, &name(hit));
        flip(
            &mut bench,
            (id, at + seed as usize * 5 % RECORD_HEADER_BYTES),
        );
        bench.reopen();
        assert_eq!(failing(&mut bench, b"new"), [hit], "seed {seed}");
        let damage: Vec<_> = bench.report.damage.iter().map(|d| d.segment).collect();
        assert_eq!(damage, [id], "seed {seed}");
        assert_eq!(bench.get(b"nobody"), Ok(None), "seed {seed}");
        bench.stop_and_start();
        assert_eq!(failing(&mut bench, b"new"), [hit], "seed {seed}: it stays");
        put_durable(&mut bench, &name(hit), b"new");
        assert_eq!(
            failing(&mut bench, b"new"),
            [] as [u64; 0],
            "seed {seed}: written again"
        );
        bench.check_sums();
    }
}

/// Where the batch begins in which a key's record is.
fn batch_of(bench: &Bench, key: &[u8]) -> (SegmentId, usize) {
    let (id, offset) = spot_of(bench, key);
    let bytes = &bench.disk.files[&FileId::Segment(id)];
    let start = (0..=offset - BATCH_HEADER_BYTES)
        .rev()
        .find(|at| at % 512 == 0 && bytes[*at..].starts_with(b"GRMB"));
    (id, start.expect("a batch"))
}

#[test]
fn a_rotten_batch_header_loses_nothing_since_its_records_verify() {
    for seed in 0..seeds(20) {
        let mut bench = twice(seed);
        let (id, at) = batch_of(&bench, &name(seed * 7 % KEYS));
        flip(&mut bench, (id, at + 9));
        bench.reopen();
        assert_eq!(failing(&mut bench, b"new"), [] as [u64; 0], "seed {seed}");
        assert_eq!(bench.get(b"nobody"), Ok(None), "seed {seed}");
    }
}

#[test]
fn a_commit_that_never_arrived_makes_its_keys_unknown_and_no_others() {
    for seed in 0..seeds(20) {
        let mut bench = twice(seed);
        bench.disk.lose_writes = 1;
        for k in 0..3 {
            bench.put(&name(k), b"newest", None);
        }
        put_durable(&mut bench, &name(3), b"newest");
        finish(&mut bench);
        bench.reopen();
        let lost = failing(&mut bench, b"new");
        assert!(lost.contains(&0) && lost.iter().all(|k| *k < 4), "{lost:?}");
        assert_ne!(bench.report.damage, [], "seed {seed}");
        assert_eq!(bench.get(b"nobody"), Ok(None), "seed {seed}");
    }
}

/// Nobody can say which keys were in the first of the two: every older one may have been.
#[test]
fn two_commits_that_never_arrived_make_every_older_key_unknown_until_it_is_written_again() {
    for seed in 0..seeds(10) {
        let mut bench = twice(seed);
        bench.delete(&name(KEYS - 1), Some(Durability::One));
        finish(&mut bench);
        bench.disk.lose_writes = 2;
        put_durable(&mut bench, &name(0), b"newest");
        bench.turns(30);
        put_durable(&mut bench, &name(1), b"newest");
        finish(&mut bench);
        put_durable(&mut bench, &name(7), b"new");
        finish(&mut bench);
        bench.reopen();
        let all_but_7: Vec<u64> = (0..KEYS).filter(|k| *k != 7).collect();
        assert_eq!(failing(&mut bench, b"new"), all_but_7, "seed {seed}");
        assert_eq!(bench.get(b"nobody"), Err(Failure::Unknown), "seed {seed}");
        assert_ne!(bench.report.damage, [], "seed {seed}");
        // Neither checkpoints nor their loss nor the cleaner's copies make them known.
        bench.stop_and_start();
        assert_eq!(failing(&mut bench, b"new"), all_but_7, "seed {seed}: stop");
        bench.stop();
        lose_checkpoints(&mut bench);
        bench.reopen();
        assert_eq!(failing(&mut bench, b"new"), all_but_7, "seed {seed}: log");
        let before = place_of(&bench, &name(20));
        bench.config.checkpoint_bytes = 64 << 10;
        bench.config.capacity_bytes = 10 * (64 << 10);
        bench.stop_and_start();
        overwrite(&mut bench, 200);
        assert_ne!(place_of(&bench, &name(20)), before, "the cleaner moved it");
        assert_eq!(failing(&mut bench, b"new"), all_but_7, "seed {seed}: moved");
        assert!(bench.shard.status().damage_unrepaired > 0, "seed {seed}");
        for k in all_but_7 {
            put_durable(&mut bench, &name(k), b"new");
        }
        bench.stop_and_start();
        assert_eq!(failing(&mut bench, b"new"), [] as [u64; 0], "seed {seed}");
        bench.check_sums();
    }
}

/// A cold segment at the log's beginning holds off the reaping of what was deleted since, but not for ever; and what was
/// reaped stays away when the whole log is replayed.
#[test]
fn tombstones_over_a_cold_segment_are_few_in_the_end() {
    let mut bench = Bench::new(1, config(24, 64 << 10));
    for k in 0..COLD {
        bench.put(&name(k), &[1; 1000], None);
    }
    bench.turns(20);
    for k in 0..20_000 {
        let key = name(10_000 + k);
        bench.put(&key, b"brief", None);
        let id = bench.delete(&key, None);
        bench.wait(id);
        bench.now.wall_ms += 100;
    }
    let status = bench.shard.status();
    assert!(
        status.tombstones < 6_000,
        "{} tombstones",
        status.tombstones
    );
    assert!(status.tombstones_reaped > 10_000);
    bench.stop();
    lose_checkpoints(&mut bench);
    bench.reopen();
    assert_eq!(bench.report.damage, []);
    for k in (0..20_000).step_by(13) {
        assert_eq!(bench.get(&name(10_000 + k)), Ok(None), "key {k}");
    }
    for k in 0..COLD {
        assert_eq!(bench.get(&name(k)), Ok(Some(vec![1; 1000])), "key {k}");
    }
    bench.check_sums();
}

/// This copy may be the only one that a write was acknowledged for.
#[test]
fn a_read_that_fails_once_makes_nobody_forget_the_record() {
    let mut bench = Bench::new(7, config(24, 64 << 10));
    bench.shard.set_replicated(true);
    let id = bench.put(&name(1), &[1; 700], Some(Durability::One));
    bench.wait(id);
    bench.stop_and_start();
    bench.shard.set_replicated(true);
    for times in [1, 2] {
        bench.disk.fail_reads = times;
        for _ in 0..times {
            assert!(matches!(bench.get(&name(1)), Err(Failure::ReadFailed(_))));
        }
        assert_eq!(bench.get(&name(1)), Ok(Some(vec![1; 700])));
        bench.crash();
        bench.shard.set_replicated(true);
    }
    // One that fails every time is given up, so that others bring it back.
    bench.disk.fail_reads = u32::MAX;
    for _ in 0..8 {
        assert!(bench.get(&name(1)).is_err());
    }
    bench.disk.fail_reads = 0;
    assert_eq!(bench.get(&name(1)), Err(Failure::Unknown));
    assert_eq!(bench.shard.tainted().count(), 1);
    // It counts as unrepaired until the partition is whole again.
    assert_eq!(bench.shard.status().damage_unrepaired, 1);
    let partition = bench.shard.tainted().next().expect("one");
    let mut effects = Effects::default();
    let is_marked = bench
        .shard
        .mark_whole(bench.now, partition, RequestId(1 << 40), &mut effects);
    assert!(is_marked);
    let status = bench.shard.status();
    assert_eq!((status.damage_unrepaired, status.damage.len()), (0, 1));
}
