//! How fast checkpoints go: at the share that clients leave to the background, and never so slowly that the log outgrows them.

use super::bench_tests::{Bench, config, name};
use super::config::ShardConfig;
use super::pace::PaceConfig;
use super::stages::Stage;
use crate::port::Durability;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Enough for several pieces.
const KEYS: u64 = 30_000;

/// A shard with many keys whose checkpoint moves so many bytes a second at most, and is made only when it is wanted.
fn with_keys(bytes_per_s: u64) -> Bench {
    let config = ShardConfig {
        checkpoint_bytes: 1 << 40,
        ..config(40, 256 << 10)
    };
    let mut bench = Bench::new(1, config);
    for k in 0..KEYS {
        bench.put(&name(k), b"value", None);
        if k % 100 == 0 {
            bench.turns(1);
        }
    }
    bench.turns(100);
    bench.answers.clear();
    bench.shard.set_pace(PaceConfig {
        bytes_per_s,
        ..PaceConfig::default()
    });
    bench
}

/// One turn, with clients whose requests take so long.
fn turn(bench: &mut Bench, felt_ns: u64) {
    for _ in 0..20 {
        bench.shard.background.foreground.begun();
        let foreground = &mut bench.shard.background.foreground;
        foreground.waited(Stage::Commit, felt_ns);
    }
    bench.turns(1);
}

/// How long a checkpoint takes beside clients whose requests take so long.
fn checkpoint_takes_ns(felt_ns: u64) -> u64 {
    let mut bench = with_keys(4 << 20);
    // The share finds its place: something of the background has work.
    for _ in 0..1_000 {
        let now_ns = bench.now.mono_ns;
        bench.shard.background.held_back(now_ns);
        turn(&mut bench, felt_ns);
    }
    let (began_ns, before) = (bench.now.mono_ns, bench.shard.checkpoints.sequence());
    bench.shard.checkpoints.is_wanted = true;
    for _ in 0..20_000 {
        turn(&mut bench, felt_ns);
        if bench.shard.checkpoints.sequence() > before {
            return bench.now.mono_ns - began_ns;
        }
    }
    panic!("no checkpoint in {} ns", bench.now.mono_ns - began_ns);
}

#[test]
fn clients_that_wait_slow_a_checkpoint_down_and_others_do_not() {
    let unfelt_ns = checkpoint_takes_ns(MS);
    let felt_ns = checkpoint_takes_ns(30 * MS);
    assert!(unfelt_ns < SECOND, "{unfelt_ns}");
    // At the floor for two seconds only: then clients whom that does not help are excused.
    assert!(felt_ns > 2 * unfelt_ns, "{felt_ns} and {unfelt_ns}");
}

#[test]
fn a_checkpoint_is_whole_before_the_log_has_grown_by_half_however_slow_the_background() {
    let mut bench = with_keys(1024);
    bench.config.checkpoint_bytes = 2 << 20;
    bench.stop_and_start();
    bench.shard.set_pace(PaceConfig {
        bytes_per_s: 1024,
        ..PaceConfig::default()
    });
    let before = bench.shard.checkpoints.sequence();
    let every_bytes = (2 << 20).max(2 * bench.shard.index.memory_bytes() as u64);
    let began_ns = bench.now.mono_ns;
    let mut greatest = 0;
    for round in 0..40_000_u64 {
        let id = bench.put(&name(round * 7 % KEYS), &[7; 300], None);
        bench.wait(id);
        if round % 20 == 0 {
            bench.turns(1);
        }
        greatest = greatest.max(bench.shard.status().checkpoint_lag_bytes);
    }
    let made = bench.shard.checkpoints.sequence() - before;
    assert!(made >= 4, "{made}");
    // One segment more for what is on its way.
    let allowed = every_bytes / 2 * 3 + (256 << 10);
    assert!(greatest <= allowed, "{greatest}, {allowed} allowed");
    // The share alone would not have got there.
    let by_share = (bench.now.mono_ns - began_ns) / SECOND * 1024;
    assert!(by_share < KEYS * 24, "{by_share}");
}

#[test]
fn a_stop_waits_for_no_share() {
    let mut bench = with_keys(1024);
    bench.shard.checkpoints.is_wanted = true;
    // Long enough for the first piece of the entries, behind that of the segments.
    bench.turns(1000);
    let id = bench.put(b"one more", b"value", Some(Durability::One));
    bench.wait(id);
    let began_ns = bench.now.mono_ns;
    bench.stop();
    let took_ns = bench.now.mono_ns - began_ns;
    assert!(took_ns < SECOND, "{took_ns}");
}

#[test]
fn where_space_is_short_a_checkpoint_waits_for_no_share() {
    let config = ShardConfig {
        checkpoint_bytes: 1 << 40,
        ..config(12, 64 << 10)
    };
    let mut bench = Bench::new(1, config);
    bench.shard.set_pace(PaceConfig {
        bytes_per_s: 1024,
        ..PaceConfig::default()
    });
    let mut longest_ns = 0;
    for round in 0..6_000_u64 {
        let began_ns = bench.now.mono_ns;
        let id = bench.put(&name(round % 50), &[7; 1000], None);
        bench.wait(id);
        longest_ns = longest_ns.max(bench.now.mono_ns - began_ns);
    }
    assert!(bench.shard.checkpoints.sequence() > 3);
    assert!(longest_ns < SECOND / 4, "{longest_ns}");
}
