//! Segments of which something was lost: kept while anything in them is needed or unknown, then given back like others.
//!
//! Method: as in `lost_tests`; the rest of the log is overwritten until the cleaner has been through all of it.

use crate::base::hash;
use crate::base::ids::SegmentId;
use crate::port::{
    Condition, ContextArg, Durability, Effects, Expiry, Failure, FileId, Op, Put, RequestId,
};
use crate::replica::PaceConfig;
use crate::replica::bench_tests::{Bench, config, name, seeds};
use crate::store::place::tag15;
use crate::store::segment::SegmentState;

const COLD: u64 = 60;

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
}

/// Overwrites until something holds.
fn until(bench: &mut Bench, mut holds: impl FnMut(&Bench) -> bool) {
    for _ in 0..1_000 {
        if holds(bench) {
            return;
        }
        overwrite(bench, 1);
    }
    panic!("it never holds; {:?}", bench.shard.status());
}

/// Cold keys among others that are overwritten, one of which expires in a year; nothing of it is in memory.
fn filled(seed: u64) -> Bench {
    let mut bench = Bench::new(seed, config(24, 64 << 10));
    let in_a_year = Put {
        context: ContextArg::Latest,
        value: b"in a year",
        expiry: Expiry::AtMs(bench.now.wall_ms + 365 * 86_400_000),
        condition: Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    for k in 0..COLD {
        bench.put(&name(k), &[1; 700], None);
        for other in 0..5 {
            bench.put(&name(5000 + (5 * k + other) % 40), &[2; 300], None);
        }
    }
    let id = bench.send(b"in a year", Op::Put(in_a_year), Some(Durability::One));
    bench.wait(id);
    overwrite(&mut bench, 8);
    bench.stop_and_start();
    bench
}

fn spot_of(bench: &Bench, key: &[u8]) -> (SegmentId, usize) {
    let tag = hash::tag(bench.config.tag_seed, b"default", key);
    let entry = bench
        .shard
        .index
        .get(hash::token(b"default", key), tag15(tag));
    let place = entry.expect("the key is known").place;
    let layout = bench.shard.layout;
    (layout.segment(place), layout.offset(place) as usize)
}

/// A bit of a key's value changes on the medium.
fn rot(bench: &mut Bench, key: &[u8]) -> SegmentId {
    let (id, at) = spot_of(bench, key);
    let file = bench.disk.files.get_mut(&FileId::Segment(id));
    file.expect("a file")[at + 60] ^= 4;
    id
}

fn generation_of(bench: &Bench, id: SegmentId) -> u64 {
    let segment = bench.shard.log.segments.get(id);
    segment.expect("it is known").generation
}

fn lose_newest_checkpoint(bench: &mut Bench) {
    let sequence = |slot: u8| {
        let bytes = bench.disk.files.get(&FileId::Checkpoint(slot))?;
        crate::store::checkpoint::CheckpointHeader::decode(bytes).map(|header| header.sequence)
    };
    let newest = if sequence(0) >= sequence(1) { 0 } else { 1 };
    assert!(bench.disk.rot_checkpoint(newest, &mut bench.random, 76));
}

fn check(bench: &mut Bench, seed: u64, lost: u64) {
    for k in (0..COLD).filter(|k| *k != lost) {
        assert_eq!(
            bench.get(&name(k)),
            Ok(Some(vec![1; 700])),
            "seed {seed}: key {k}"
        );
    }
    bench.check_sums();
}

#[test]
fn a_quarantined_segment_is_given_back_when_nothing_in_it_is_needed() {
    for seed in 0..seeds(12) {
        let mut bench = filled(seed);
        let lost = seed * 7 % COLD;
        let id = rot(&mut bench, &name(lost));
        until(&mut bench, |bench| {
            bench.shard.status().segments_quarantined > 0
        });
        let status = bench.shard.status();
        assert_eq!(status.segments_quarantined, 1, "seed {seed}");
        assert_eq!(status.damage.len(), 1, "seed {seed}: {:?}", status.damage);
        assert_eq!(status.damage_unrepaired, 1, "seed {seed}");
        let generation = generation_of(&bench, id);
        overwrite(&mut bench, 130);
        assert_eq!(generation_of(&bench, id), generation, "seed {seed}");
        assert!(matches!(
            bench.get(&name(lost)),
            Err(Failure::Corrupt { .. })
        ));
        let id = bench.put(&name(lost), &[1; 700], Some(Durability::One));
        bench.wait(id);
        until(&mut bench, |bench| bench.shard.status().damage.is_empty());
        let status = bench.shard.status();
        assert_eq!(status.segments_quarantined, 0, "seed {seed}");
        check(&mut bench, seed, COLD);
        bench.crash();
        assert_eq!(bench.report.damage, [], "seed {seed}");
        check(&mut bench, seed, COLD);
    }
}

#[test]
fn a_segment_whose_file_is_missing_is_none_any_more_when_all_of_it_is_there_again() {
    let mut missing = 0;
    for seed in 0..seeds(12) {
        let mut bench = filled(seed);
        overwrite(&mut bench, 40);
        bench.stop();
        let (id, _) = spot_of(&bench, &name(seed * 7 % COLD));
        let segment = bench.shard.log.segments.get(id);
        if segment.is_none_or(|segment| segment.state != SegmentState::Sealed) {
            continue;
        }
        missing += 1;
        bench.disk.files.remove(&FileId::Segment(id));
        bench.reopen();
        assert!(bench.report.damage.iter().any(|d| d.segment == id));
        overwrite(&mut bench, 60);
        assert_eq!(bench.shard.status().segments_quarantined, 1, "seed {seed}");
        for k in 0..COLD {
            bench.put(&name(k), &[1; 700], Some(Durability::One));
        }
        bench.put(b"in a year", b"", None);
        overwrite(&mut bench, 200);
        let status = bench.shard.status();
        assert_eq!(status.segments_quarantined, 0, "seed {seed}");
        assert_eq!(status.damage, [], "seed {seed}");
        for again in 0..3 {
            check(&mut bench, seed, COLD);
            bench.crash();
            assert_eq!(bench.report.damage, [], "seed {seed}, start {again}");
            overwrite(&mut bench, 20);
        }
    }
    assert!(missing > 0);
}

/// What was lost counts as one that expires, and an older checkpoint names it: where its segment is used anew, a start that
/// goes by that checkpoint would take it for one that is gone.
#[test]
fn what_is_unknown_stays_so_over_a_crash_whatever_became_of_its_segment() {
    let mut reused = 0;
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        bench.shard.set_replicated(true);
        overwrite(&mut bench, 60);
        // Nothing else that lives lies beside it, and it is not in memory.
        let (id, _) = spot_of(&bench, b"in a year");
        rot(&mut bench, b"in a year");
        let generation = generation_of(&bench, id);
        let _ = bench.get(b"in a year");
        if bench.get(b"in a year") != Err(Failure::Unknown) {
            continue;
        }
        for _ in 0..120 {
            overwrite(&mut bench, 1);
            if generation_of(&bench, id) != generation {
                reused += 1;
                break;
            }
        }
        if seed % 2 == 0 {
            lose_newest_checkpoint(&mut bench);
        }
        bench.crash();
        bench.shard.set_replicated(true);
        let found = bench.get(b"in a year");
        assert!(
            matches!(found, Err(Failure::Unknown | Failure::Corrupt { .. })),
            "seed {seed}: {found:?}"
        );
    }
    assert_eq!(reused, 0, "while it is unknown its segment is kept");
}

#[test]
fn what_others_brought_back_ends_the_quarantine_for_good() {
    let mut tried = 0;
    for seed in 0..seeds(20) {
        let mut bench = filled(seed);
        bench.shard.set_replicated(true);
        overwrite(&mut bench, 60);
        let id = rot(&mut bench, b"in a year");
        let generation = generation_of(&bench, id);
        let _ = bench.get(b"in a year");
        if bench.get(b"in a year") != Err(Failure::Unknown) {
            continue;
        }
        overwrite(&mut bench, 20 + seed);
        let partition = bench.shard.tainted().next().expect("one");
        let put = bench.put(b"in a year", b"back", Some(Durability::One));
        bench.wait(put);
        let mut effects = Effects::default();
        let is_marked =
            bench
                .shard
                .mark_whole(bench.now, partition, RequestId(1 << 40), &mut effects);
        assert!(is_marked);
        until(&mut bench, |bench| generation_of(bench, id) != generation);
        let status = bench.shard.status();
        assert_eq!(
            (status.damage_unrepaired, status.segments_quarantined),
            (0, 0)
        );
        if seed % 2 == 0 {
            lose_newest_checkpoint(&mut bench);
        }
        bench.crash();
        bench.shard.set_replicated(true);
        // By a checkpoint of before it came back everything may be unknown once more, never absent.
        let found = bench.get(b"in a year");
        let is_back = found == Ok(Some(b"back".to_vec()));
        assert!(
            is_back || matches!(found, Err(Failure::Unknown)),
            "seed {seed}: {found:?}"
        );
        if bench.report.damage.is_empty() {
            assert!(is_back, "seed {seed}");
            assert_eq!(bench.shard.tainted().count(), 0, "seed {seed}");
            tried += 1;
        }
    }
    assert!(tried > 0);
}

/// What the cleaner could not copy is read by nobody; where others have it, it is to come back from them.
#[test]
fn what_is_damaged_in_a_quarantined_segment_is_found_without_a_request() {
    for seed in 0..seeds(12) {
        let mut bench = filled(seed);
        bench.shard.set_replicated(true);
        rot(&mut bench, &name(seed * 7 % COLD));
        until(&mut bench, |bench| {
            bench.shard.status().segments_quarantined > 0
        });
        bench.shard.config.scrub_ns = 200_000_000;
        bench.shard.set_pace(PaceConfig::default());
        let upto = bench.shard.status().scrubs + 2;
        until(&mut bench, |bench| bench.shard.status().scrubs >= upto);
        assert_eq!(bench.shard.tainted().count(), 1, "seed {seed}");
    }
}

#[test]
fn a_read_of_the_cleaners_that_failed_once_costs_no_segment() {
    for seed in 0..seeds(12) {
        let mut bench = filled(seed);
        for _ in 0..6 {
            bench.disk.fail_reads = 1;
            until(&mut bench, |bench| bench.disk.fail_reads == 0);
            let freed = bench.shard.status().segments_freed;
            until(&mut bench, |bench| {
                bench.shard.status().segments_freed > freed + 2
            });
        }
        let status = bench.shard.status();
        assert_eq!(status.segments_quarantined, 0, "seed {seed}");
        assert_eq!((status.read_faults, status.damage), (6, vec![]));
        check(&mut bench, seed, COLD);
    }
}
