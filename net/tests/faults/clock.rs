//! A node whose clock is an hour ahead: refused and reported, it poisons nothing, and takes its part when it is right again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::alone;
use crate::cluster::{Cluster, Node, until};
use crate::full::Redis;
use crate::load::Load;

const HOUR_MS: i64 = 3_600_000;

fn clock_of(dir: &Path, node: &mut Node) -> PathBuf {
    let path = dir.join(format!("{}.clock", node.name));
    fs::write(&path, "0").expect("written");
    node.set_clock(&path);
    path
}

/// A connection to the bucket in which the last writer wins.
fn connect(node: &Node) -> Redis {
    let mut redis = Redis::connect(node);
    assert_eq!(redis.command(&[b"DYN.BUCKET", b"last"]), b"+OK");
    redis
}

fn wait_bucket(cluster: &Cluster) {
    until("a bucket that all know", || {
        cluster.nodes.iter().all(|node| {
            let buckets = node.status()["buckets"].to_string();
            buckets.contains("\"last\"")
        })
    });
}

fn set(redis: &mut Redis, options: &[&[u8]], number: usize, value: &[u8]) -> Vec<u8> {
    let key = format!("clock-{number}");
    let mut words: Vec<&[u8]> = vec![b"DYN.OPT"];
    words.extend_from_slice(options);
    assert_eq!(redis.command(&words), b"+OK");
    redis.command(&[b"SET", key.as_bytes(), value])
}

/// What the node with the wrong clock is, to itself and to the others.
fn wait_refused(cluster: &Cluster) {
    until("a node that is told of its clock", || {
        cluster.nodes[2].page("/health").0 == 503
    });
    let (_, health) = cluster.nodes[2].page("/health");
    assert!(health.contains("s ahead of the others"), "{health}");
    let standing = cluster.nodes[2].status()["standing"].to_string();
    assert!(standing.contains("s ahead of the others"), "{standing}");
    assert!(cluster.nodes[2].said().contains("s ahead of the others"));
    for node in &cluster.nodes[..2] {
        let reports = node.status()["reports"].to_string();
        assert!(reports.contains("ms ahead of this node's"), "{reports}");
        assert!(node.said().contains("ms ahead of this node's"));
        assert_eq!(node.page("/health").0, 200, "the others serve");
    }
}

/// Writes through the node with the wrong clock, then through a right one: the later write is what all show.
fn overwrite(cluster: &Cluster, shown_by: usize, keys: std::ops::Range<usize>) {
    let mut wrong = connect(&cluster.nodes[2]);
    let mut taken = 0;
    for number in keys.clone() {
        let options: &[&[u8]] = if number % 2 == 0 {
            &[b"W", b"1"]
        } else {
            &[b"W", b"2"]
        };
        taken += usize::from(set(&mut wrong, options, number, b"of the wrong clock") == b"+OK");
    }
    let mut right = connect(&cluster.nodes[0]);
    for number in keys.clone() {
        assert_eq!(set(&mut right, &[b"W", b"2"], number, b"later"), b"+OK");
    }
    let mut stale = Vec::new();
    for node in &cluster.nodes[..shown_by] {
        let mut redis = connect(node);
        assert_eq!(redis.command(&[b"DYN.OPT", b"R", b"2"]), b"+OK");
        for number in keys.clone() {
            let key = format!("clock-{number}");
            let shown = redis.command(&[b"GET", key.as_bytes()]);
            if shown != b"later" {
                let shown = String::from_utf8_lossy(&shown).into_owned();
                stale.push(format!("{key} at {}: {shown}", node.name));
            }
        }
    }
    assert_eq!(stale, Vec::<String>::new());
    eprintln!(
        "  {taken} of {} writes through the wrong clock's node taken",
        keys.len()
    );
}

/// How long a value is to live, and what still lives, is reckoned by the cluster's time also through the wrong clock's node.
fn expire(cluster: &Cluster) {
    let mut wrong = connect(&cluster.nodes[2]);
    let mut right = connect(&cluster.nodes[0]);
    let lives_on = |redis: &mut Redis, key: &[u8]| -> i64 {
        let told = redis.command(&[b"TTL", key]);
        let told = String::from_utf8_lossy(&told).into_owned();
        told.trim_start_matches(':').parse().expect("a number")
    };
    let expected = 280..=300;
    assert_eq!(
        right.command(&[b"SET", b"expire-r", b"v", b"EX", b"300"]),
        b"+OK"
    );
    let set = wrong.command(&[b"SET", b"expire-w", b"v", b"EX", b"300"]);
    assert_eq!(set, b"+OK");
    assert_eq!(right.command(&[b"SET", b"expire-e", b"v"]), b"+OK");
    assert_eq!(wrong.command(&[b"EXPIRE", b"expire-e", b"300"]), b":1");
    for key in [b"expire-r", b"expire-w", b"expire-e"] {
        for redis in [&mut right, &mut wrong] {
            assert_eq!(redis.command(&[b"GET", key]), b"v");
            let left = lives_on(redis, key);
            assert!(expected.contains(&left), "{key:?}: {left} s");
        }
    }
}

/// It takes its part again, and what it dates is taken by the others at once.
fn wait_right(cluster: &Cluster) {
    until("a node whose clock is right again", || {
        cluster.nodes[2].page("/health").0 == 200
    });
    cluster.wait_whole();
    let forwarded = cluster.nodes[2].counter("forwarded");
    let mut redis = connect(&cluster.nodes[2]);
    for number in 1_000..1_100 {
        assert_eq!(set(&mut redis, &[b"W", b"3"], number, b"right"), b"+OK");
    }
    assert_eq!(cluster.nodes[2].counter("forwarded"), forwarded);
}

#[test]
fn a_node_that_starts_with_a_clock_an_hour_ahead_poisons_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut clocks = Vec::new();
    let mut cluster = Cluster::start_with("127.0.0.1", |node| {
        clocks.push(clock_of(dir.path(), node));
    });
    let lww = ["buckets", "last", "--conflict", "lww"];
    assert!(cluster.nodes[0].command(&lww).is_some());
    wait_bucket(&cluster);
    cluster.nodes[2].end(Signal::TERM);
    fs::write(&clocks[2], HOUR_MS.to_string()).expect("written");
    cluster.nodes[2].start(None);
    wait_refused(&cluster);
    overwrite(&cluster, 3, 0..60);
    expire(&cluster);
    cluster.nodes[2].end(Signal::KILL);
    fs::write(&clocks[2], "0").expect("written");
    cluster.nodes[2].start(None);
    wait_right(&cluster);
    overwrite(&cluster, 3, 0..60);
}

#[test]
fn a_clock_that_leaps_an_hour_ahead_poisons_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut clocks = Vec::new();
    let cluster = Cluster::start_with("127.0.0.1", |node| {
        clocks.push(clock_of(dir.path(), node));
    });
    let lww = ["buckets", "last", "--conflict", "lww"];
    assert!(cluster.nodes[0].command(&lww).is_some());
    wait_bucket(&cluster);
    let load = Load::start(&cluster, "leapt", Durability::Buffered);
    overwrite(&cluster, 3, 0..20);
    fs::write(&clocks[2], HOUR_MS.to_string()).expect("written");
    // At once, before anybody has told it (others' answers are too old to it for what it is asked), and then.
    overwrite(&cluster, 2, 20..40);
    wait_refused(&cluster);
    overwrite(&cluster, 3, 40..60);
    std::thread::sleep(Duration::from_secs(2));
    fs::write(&clocks[2], "0").expect("written");
    wait_right(&cluster);
    overwrite(&cluster, 3, 0..80);
    let record = load.finish(&cluster, ("leapt", 1));
    assert_eq!(record.lost, Vec::<String>::new());
}
