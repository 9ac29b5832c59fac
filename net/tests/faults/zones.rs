//! Acknowledgements from so many failure domains as a client asks for, by whichever way it asks.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::alone;
use crate::cluster::{Cluster, Node, PROGRAM, until};
use crate::full::Redis;

/// What `gramme` says to this, with the receipt; and its exit code.
fn run(node: &Node, words: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = Command::new(PROGRAM)
        .args(words)
        .args(["--json", "--node", &node.address()])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), said)
}

fn is_refused(said: &serde_json::Value, zones: (u8, u8)) -> bool {
    let (asked, there) = zones;
    let error = said["error"].as_str().unwrap_or_default();
    let why = format!("{asked} zones were asked for, and {there} can be reached");
    error.contains(&why) && said["in_doubt"] == false
}

#[test]
fn a_write_is_acknowledged_by_as_many_zones_as_were_asked_for_or_refused_where_there_are_fewer() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    for node in &cluster.nodes {
        let name = node.name.as_str();
        let (code, said) = run(node, &["put", name, "v", "--zones", "3", "--w", "1"]);
        assert_eq!((code, &said["receipt"]["zones"]), (Some(0), &3.into()));
        let (code, said) = run(node, &["get", name, "--zones", "2", "--r", "1"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said["receipt"]["zones"].as_u64() >= Some(2), "{said}");
        for words in [
            &["put", "never", "v", "--zones", "4"][..],
            &["del", name, "--zones", "4"],
            &["get", name, "--zones", "4"],
        ] {
            let (code, said) = run(node, words);
            assert_eq!(code, Some(3), "{words:?}: {said}");
            assert!(is_refused(&said, (4, 3)), "{words:?}: {said}");
        }
        assert_eq!(run(node, &["get", "never"]).0, Some(1));
        assert_eq!(run(node, &["get", name]).0, Some(0), "it was not deleted");
    }
    let mut redis = Redis::connect(&cluster.nodes[1]);
    assert_eq!(redis.command(&[b"DYN.OPT", b"ZONES", b"4"]), b"+OK");
    let refused = redis.command(&[b"SET", b"never", b"v"]);
    let said = String::from_utf8_lossy(&refused);
    assert!(said.starts_with("-QUORUM replicas in 4 zones"), "{said}");
    assert_eq!(redis.command(&[b"DYN.OPT", b"ZONES", b"3"]), b"+OK");
    assert_eq!(redis.command(&[b"SET", b"redis", b"v"]), b"+OK");

    // A zone less.
    cluster.nodes[2].end(Signal::KILL);
    let first = &cluster.nodes[0];
    until("a zone that is missed", || {
        let (code, said) = run(first, &["put", "late", "v", "--zones", "3"]);
        assert_eq!(code, Some(3), "{said}");
        is_refused(&said, (3, 2))
    });
    let (code, said) = run(first, &["put", "late", "v", "--zones", "2"]);
    assert_eq!((code, &said["receipt"]["zones"]), (Some(0), &2.into()));
}
