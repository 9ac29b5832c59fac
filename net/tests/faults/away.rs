//! A node that comes back after the cluster went on without it: removed for good, replaced, or just away for long.

use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::{Cluster, until};
use crate::full::Redis;
use crate::ledger::Ledger;
use crate::{alone, is_long};

const KEYS: usize = 600;

#[test]
fn a_removed_node_that_returns_is_refused_and_told_why_and_serves_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let mut ledger = Ledger::new("removed", 1_000);
    ledger.write(&cluster.nodes[0], KEYS);
    cluster.wait_whole();
    let mut gone = cluster.nodes.pop().expect("the third");
    gone.end(Signal::KILL);
    assert!(cluster.nodes[0].command(&["leave", "n2"]).is_some());
    cluster.commit();
    cluster.remove("n2", "--lost");
    // Two hold everything now; what is deleted and forgotten between them is still in the directory of the third.
    ledger.delete(&cluster.nodes[1], 2);
    ledger.write(&cluster.nodes[1], KEYS / 4);

    gone.start(None);
    let mut redis = Redis::connect(&gone);
    let mut served = Vec::new();
    until("a refusal", || {
        // Deleted while it was gone. Until it is told, it may ask the others.
        for number in (0..20).step_by(2) {
            let key = format!("removed-{number}");
            let answer = redis.command(&[b"GET", key.as_bytes()]);
            if answer != b"$-1" && !answer.starts_with(b"-") {
                served.push(key);
            }
        }
        gone.said()
            .contains("was removed from the cluster for good")
    });
    assert_eq!(served, Vec::<String>::new(), "it serves what it has");
    // The shards hear of it within some ms.
    until("refusals of everything", || {
        [
            &[b"SET".as_slice(), b"new", b"value"][..],
            &[b"GET", b"removed-1"],
            &[b"DEL", b"removed-1"],
        ]
        .iter()
        .all(|words| redis.command(words).starts_with(b"-"))
    });
    let (code, health) = gone.page("/health");
    assert_eq!(code, 503);
    assert!(health.contains("removed from the cluster"), "{health}");
    let standing = gone.status()["standing"].to_string();
    assert!(standing.contains("removed for good"), "{standing}");
    std::thread::sleep(Duration::from_secs(if is_long() { 60 } else { 1 }));
    let members = cluster.nodes[0].members();
    assert_eq!(members.len(), 2, "{members:?}");
    ledger.finish("removed", 1, &cluster.nodes);
    // It ends in order, and its next start is told the same.
    gone.end(Signal::TERM);
    gone.start(None);
    until("a refusal again", || gone.page("/health").0 == 503);
}

#[test]
fn a_node_that_was_replaced_while_it_was_dead_brings_no_deleted_key_back() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let mut ledger = Ledger::new("replaced", 1_000);
    ledger.write(&cluster.nodes[0], KEYS);
    cluster.wait_whole();
    let mut gone = cluster.nodes.pop().expect("the third");
    gone.end(Signal::KILL);
    ledger.delete(&cluster.nodes[1], 2);
    cluster.replace("n2", "n3");
    ledger.write(&cluster.nodes[1], KEYS / 4);
    ledger.delete(&cluster.nodes[2], 3);
    // It still holds what only it might have: it hands that over, and is gone.
    gone.start(None);
    cluster.remove("n2", "--remove");
    assert_eq!(ledger.back(&cluster.nodes), Vec::<String>::new());
    until("a refusal", || {
        gone.page("/health").0 == 503
            && gone
                .said()
                .contains("was removed from the cluster for good")
    });
    let answer = Redis::connect(&gone).command(&[b"GET", b"replaced-1"]);
    assert!(answer.starts_with(b"-"), "{answer:?}");
    cluster.wait_whole();
    ledger.finish("replaced", 1, &cluster.nodes);
}

#[test]
fn a_node_that_was_away_for_longer_than_any_timeout_brings_no_deleted_key_back() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let clock = dir.path().join("clock");
    let set_clock = |by_ms: i64| std::fs::write(&clock, by_ms.to_string()).expect("written");
    set_clock(0);
    let mut cluster = Cluster::start_with("127.0.0.1", |node| {
        node.set_clock(&clock);
    });
    let mut ledger = Ledger::new("away", 1_000);
    ledger.write(&cluster.nodes[0], KEYS);
    cluster.wait_whole();
    cluster.nodes[2].end(Signal::KILL);
    ledger.delete(&cluster.nodes[1], 2);
    // Whatever is measured by the wall clock has passed; in the long form what is measured by waiting, too.
    set_clock(24 * 3_600 * 1_000);
    std::thread::sleep(Duration::from_secs(if is_long() { 150 } else { 6 }));
    let reaped = |cluster: &Cluster| -> u64 {
        let nodes = cluster.nodes.iter().filter(|node| node.process.is_some());
        nodes.map(|node| node.counter("tombstones_reaped")).sum()
    };
    assert_eq!(reaped(&cluster), 0, "the third has not seen the deletes");
    cluster.nodes[2].start(None);
    assert_eq!(ledger.back(&cluster.nodes), Vec::<String>::new());
    cluster.wait_whole();
    ledger.finish("away", 1, &cluster.nodes);
    if is_long() {
        until("tombstones that are forgotten", || reaped(&cluster) > 0);
        ledger.finish("away, forgotten", 1, &cluster.nodes);
    }
}
