//! Damage: bit rot, lost and misdirected writes, checkpoints that do not verify.
//!
//! Method: every key has one value that is known; the medium is damaged behind the shard's back. A get must give that
//! value or a failure; it must never give another value, nor say that the key is absent.

use std::collections::BTreeMap;

use crate::base::ids::SegmentId;
use crate::port::{Durability, Failure, FileId};
use crate::replica::bench_tests::{Bench, config, name, seeds};
use crate::store::segment::SegmentState;

const KEYS: u64 = 300;

fn value_of(k: u64) -> Vec<u8> {
    let mut value = k.to_le_bytes().to_vec();
    value.resize(100 + (k * 7 % 400) as usize, k as u8);
    value
}

/// A bench whose keys each have their value, durable, written once.
fn filled(seed: u64) -> Bench {
    let mut bench = Bench::new(seed, config(40, 64 << 10));
    let ids: Vec<u64> = (0..KEYS)
        .map(|k| bench.put(&name(k), &value_of(k), Some(Durability::One)))
        .collect();
    for id in ids {
        bench.wait(id);
    }
    bench
}

/// How many keys failed; panics when one is absent or has another value.
fn check(bench: &mut Bench, seed: u64) -> usize {
    let mut failed = 0;
    for k in 0..KEYS {
        match bench.get(&name(k)) {
            Ok(Some(found)) => assert_eq!(found, value_of(k), "seed {seed}: key {k}"),
            Ok(None) => panic!("seed {seed}: key {k} is absent"),
            Err(Failure::Corrupt { .. } | Failure::Unknown) => failed += 1,
            Err(failure) => panic!("seed {seed}: key {k}: {failure}"),
        }
    }
    failed
}

#[test]
fn a_rotten_record_is_a_failure_that_names_its_place() {
    let mut failures = 0;
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        bench.stop_and_start();
        let mut hit: Vec<SegmentId> = Vec::new();
        for _ in 0..20 {
            let segments: Vec<SegmentId> = (bench.shard.log.segments.iter())
                .filter(|(_, segment)| segment.state == SegmentState::Sealed)
                .map(|(id, _)| id)
                .collect();
            let rotten = bench
                .disk
                .rot(&mut bench.random, |id| segments.contains(&id));
            hit.extend(rotten.map(|(id, _)| id));
        }
        for k in 0..KEYS {
            match bench.get(&name(k)) {
                Ok(found) => assert_eq!(found, Some(value_of(k)), "seed {seed}: key {k}"),
                Err(Failure::Corrupt { segment, .. }) => {
                    assert!(hit.contains(&segment), "seed {seed}: {segment} is whole");
                    failures += 1;
                }
                Err(failure) => panic!("seed {seed}: key {k}: {failure}"),
            }
        }
        let failed = check(&mut bench, seed);
        let damage = bench.shard.status().damage;
        assert_eq!(failed > 0, !damage.is_empty(), "seed {seed}: {damage:?}");
    }
    assert!(failures > 0, "some rot hit something live");
}

#[test]
fn what_is_unknown_is_told_until_it_is_written_again_and_the_place_longer() {
    let mut hit = 0;
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        bench.stop_and_start();
        let sealed: Vec<SegmentId> = (bench.shard.log.segments.iter())
            .filter(|(_, segment)| segment.state == SegmentState::Sealed)
            .map(|(id, _)| id)
            .collect();
        for _ in 0..10 {
            bench.disk.rot(&mut bench.random, |id| sealed.contains(&id));
        }
        let failed = check(&mut bench, seed);
        let status = bench.shard.status();
        assert_eq!(status.damage_unrepaired, failed as u64, "seed {seed}");
        hit += failed;
        let is_damaged = !status.damage.is_empty();
        // Once more where the start finds it.
        if seed % 2 == 0 {
            bench.stop_and_start();
            check(&mut bench, seed);
        }
        for k in 0..KEYS {
            let id = bench.put(&name(k), &value_of(k), Some(Durability::One));
            bench.wait(id);
        }
        let status = bench.shard.status();
        assert_eq!(status.damage_unrepaired, 0, "seed {seed}");
        assert_eq!(!status.damage.is_empty(), is_damaged, "seed {seed}");
    }
    assert!(hit > 0, "some rot hit something live");
}

/// A batch says which batch before it was durable when it was closed, so a start can tell a hole that was promised to
/// someone from a torn tail. The newest commits, as many as may be on their way at once, cannot be told apart.
#[test]
fn a_start_after_rot_in_the_middle_of_the_log_reports_it() {
    let mut reported = 0;
    for seed in 0..seeds(60) {
        let mut bench = Bench::new(seed, config(40, 64 << 10));
        for k in 0..KEYS {
            let id = bench.put(&name(k), &value_of(k), Some(Durability::One));
            if bench.random.chance(20) {
                bench.wait(id);
            }
        }
        bench.turns(50);
        let (active, end, _) = bench.shard.log.end().expect("it was written to");
        for _ in 0..2 {
            let id = bench.put(b"later", b"", Some(Durability::One));
            bench.wait(id);
        }
        let replayed = bench.shard.checkpoints.replay_generation;
        let is_replayed = |id: SegmentId| {
            let segment = bench.shard.log.segments.get(id);
            segment.is_some_and(|s| s.generation >= replayed && s.generation > 0)
        };
        let Some((id, at)) = bench.disk.rot(&mut bench.random, is_replayed) else {
            continue;
        };
        let generation = |id| bench.shard.log.segments.get(id).map(|s| s.generation);
        if generation(id) > generation(active) || id == active && at >= end as usize {
            continue;
        }
        bench.reopen();
        assert_eq!(
            bench.report.torn_bytes, 0,
            "seed {seed}: rot in {id} at {at}"
        );
        let failed = check(&mut bench, seed);
        let is_reported = bench
            .report
            .damage
            .iter()
            .any(|damage| damage.segment == id);
        reported += u64::from(is_reported);
        assert!(
            failed == 0 || is_reported,
            "seed {seed}: {failed} keys failed, none was told"
        );
    }
    assert!(reported > 0, "some rot hit something");
}

#[test]
fn a_torn_tail_is_cut_without_a_word() {
    let mut torn = 0;
    for seed in 0..seeds(30) {
        let mut bench = filled(seed);
        for k in 0..40 {
            bench.put(&name(1000 + k), &value_of(k), Some(Durability::One));
        }
        bench.crash();
        torn += bench.report.torn_bytes;
        assert_eq!(bench.report.damage, [], "seed {seed}");
        assert_eq!(check(&mut bench, seed), 0, "seed {seed}");
        assert_eq!(bench.shard.status().damage, [], "seed {seed}");
    }
    assert!(torn > 0, "some crash tore something");
}

#[test]
fn the_cleaner_keeps_a_segment_in_which_something_live_does_not_verify() {
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        bench.stop_and_start();
        for _ in 0..10 {
            bench.disk.rot(&mut bench.random, |_| true);
        }
        // Overwriting some keys, again and again, makes the cleaner go through everything.
        for round in 0..60 {
            let ids: Vec<u64> = (0..40)
                .map(|k| bench.put(&name(5000 + k), &value_of(round * 40 + k), None))
                .collect();
            for id in ids {
                bench.wait(id);
            }
        }
        check(&mut bench, seed);
        bench.stop_and_start();
        check(&mut bench, seed);
    }
}

#[test]
fn a_lost_or_misdirected_write_is_noticed() {
    for (is_lost, seed) in (0..seeds(20)).map(|seed| (seed % 2 == 0, seed)) {
        let mut bench = filled(seed);
        let mut again = BTreeMap::new();
        for k in 0..KEYS {
            if k % 50 == 20 {
                let count = if is_lost {
                    &mut bench.disk.lose_writes
                } else {
                    &mut bench.disk.misdirect_writes
                };
                *count = 1;
            }
            let id = bench.put(&name(KEYS + k), &value_of(k), Some(Durability::One));
            bench.wait(id);
            again.insert(name(KEYS + k), value_of(k));
        }
        // While it runs.
        check(&mut bench, seed);
        for (key, value) in &again {
            match bench.get(key) {
                Ok(found) => assert_eq!(found.as_ref(), Some(value), "seed {seed}"),
                Err(Failure::Corrupt { .. }) => {}
                Err(failure) => panic!("seed {seed}: {failure}"),
            }
        }
        // After a start from its checkpoint and the tail.
        bench.turns(50);
        bench.reopen();
        let failed = check(&mut bench, seed);
        assert!(
            failed == 0
                || !bench.report.damage.is_empty()
                || !bench.shard.status().damage.is_empty()
        );
        for (key, value) in &again {
            match bench.get(key) {
                Ok(found) => assert_eq!(found.as_ref(), Some(value), "seed {seed}"),
                Err(Failure::Corrupt { .. } | Failure::Unknown) => {}
                Err(failure) => panic!("seed {seed}: {failure}"),
            }
        }
    }
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_other() {
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        bench.stop_and_start();
        bench.put(&name(KEYS + 1), b"more", None);
        bench.turns(20);
        bench.stop();
        let newest = newest_slot(&bench);
        let upto = if seed % 2 == 0 { 76 } else { 2000 };
        assert!(bench.disk.rot_checkpoint(newest, &mut bench.random, upto));
        bench.reopen();
        assert_eq!(check(&mut bench, seed), 0, "seed {seed}");
        assert_eq!(
            bench.report.damage,
            [],
            "seed {seed}: the log has everything"
        );
    }
}

fn newest_slot(bench: &Bench) -> u8 {
    let sequence = |slot: u8| {
        let bytes = bench.disk.files.get(&FileId::Checkpoint(slot))?;
        crate::store::checkpoint::CheckpointHeader::decode(bytes).map(|header| header.sequence)
    };
    if sequence(0) >= sequence(1) { 0 } else { 1 }
}

#[test]
fn without_a_whole_checkpoint_the_whole_log_is_replayed() {
    for seed in 0..seeds(10) {
        let mut bench = filled(seed);
        bench.stop_and_start();
        bench.stop();
        for slot in 0..2 {
            bench.disk.files.remove(&FileId::Checkpoint(slot));
        }
        bench.reopen();
        assert_eq!(check(&mut bench, seed), 0, "seed {seed}");
        assert_eq!(bench.report.damage, [], "seed {seed}");
        assert_eq!(bench.report.records_replayed, KEYS);
    }
}

/// Segments are given back while only the newest checkpoint is known to lie behind them. When that one is damaged, the
/// one before names segments that are gone: what can no longer be known is said, and nothing comes back from the dead.
#[test]
fn an_old_checkpoint_after_much_cleaning_brings_nothing_back() {
    for seed in 0..seeds(20) {
        let mut bench = Bench::new(seed, config(24, 64 << 10));
        let deleted = 40;
        for k in 0..deleted {
            bench.put(&name(k), &value_of(k), None);
        }
        bench.turns(20);
        let ids: Vec<u64> = (0..deleted).map(|k| bench.delete(&name(k), None)).collect();
        for id in ids {
            bench.wait(id);
        }
        bench.now.wall_ms += 100_000;
        for round in 0..150 {
            let ids: Vec<u64> = (0..40)
                .map(|k| bench.put(&name(5000 + k), &value_of(round * 40 + k), None))
                .collect();
            for id in ids {
                bench.wait(id);
            }
        }
        assert!(bench.shard.status().tombstones_reaped > 0, "seed {seed}");
        bench.stop();
        let newest = newest_slot(&bench);
        assert!(bench.disk.rot_checkpoint(newest, &mut bench.random, 76));
        bench.reopen();
        for k in 0..deleted {
            match bench.get(&name(k)) {
                Ok(None) | Err(Failure::Unknown) => {}
                other => panic!("seed {seed}: deleted key {k}: {other:?}"),
            }
        }
    }
}

/// The value lies in a segment that is never cleaned, its tombstone in one that is given back.
#[test]
fn a_deleted_key_stays_deleted_when_the_newest_checkpoint_rots() {
    let mut freed = 0;
    for seed in 0..seeds(20) {
        let mut settings = config(12, 64 << 10);
        settings.checkpoint_bytes = 1 << 40;
        let mut bench = Bench::new(seed, settings);
        bench.put(b"ghost", b"alive", None);
        for k in 0..70 {
            bench.put(&name(k), &[1; 1000], None);
        }
        bench.turns(20);
        bench.stop_and_start();
        bench.delete(b"ghost", None);
        for round in 0..4_000 {
            let id = bench.put(&name(5000 + round % 40), &[round as u8; 500], None);
            bench.wait(id);
            bench.now.wall_ms += 200;
            let status = bench.shard.status();
            if status.segments_freed > 0 && round > 300 {
                freed += 1;
                break;
            }
        }
        let newest = newest_slot(&bench);
        assert!(bench.disk.rot_checkpoint(newest, &mut bench.random, 76));
        bench.crash();
        match bench.get(b"ghost") {
            Ok(None) | Err(Failure::Unknown) => {}
            other => panic!("seed {seed}: a deleted key is back: {other:?}"),
        }
    }
    assert!(freed > 0, "segments were given back");
}

#[test]
fn a_delete_of_a_key_that_is_unknown_makes_it_absent() {
    let mut unknown = 0;
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        bench.turns(50);
        // Of two commits in a row that are lost, nobody can say what was in the first.
        bench.disk.lose_writes = 2;
        for _ in 0..6 {
            let id = bench.put(b"later", b"", Some(Durability::One));
            bench.wait(id);
            bench.turns(20);
        }
        bench.reopen();
        if bench.get(b"nobody") != Err(Failure::Unknown) {
            continue;
        }
        unknown += 1;
        let id = bench.delete(b"nobody", Some(Durability::One));
        bench.wait(id);
        assert_eq!(
            bench.get(b"nobody"),
            Ok(None),
            "seed {seed}: its deletion is known"
        );
    }
    assert!(unknown > 0, "commits were lost");
}
