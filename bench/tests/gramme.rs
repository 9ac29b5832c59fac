//! gramme as a target: its engine through the handle and on the owners' cores, its node through its own protocol.
//! Nothing is lost and every value read is the one that was written, whatever the machine's speed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use gramme::config::File;
use gramme::node::Node;
use serde_json::Value;

fn bench(line: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_gramme-bench"))
        .args(line.split(' '))
        .output()
        .expect("the binary runs");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn scratch(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("gramme-bench-gramme-{}-{name}", std::process::id()));
    // A leftover of an earlier run with the same process id.
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// Requests were answered, none failed, and none read a wrong value or nothing.
fn assert_sound(report: &Value, what: &str) {
    assert!(
        report["requests"].as_u64().is_some_and(|count| count > 0),
        "{what}: {report}"
    );
    assert_eq!(report["errors"], 0, "{what}: {report}");
    assert_eq!(report["misses"], 0, "{what}: {report}");
}

#[test]
fn the_embedded_engine_serves_the_load_through_the_handle_and_on_the_owners_cores() {
    let directory = scratch("embedded");
    let common = format!(
        "run --target embedded:{} --records 3000 --duration 1s --shards 2 --json",
        directory.display()
    );
    for more in [
        "--workload ycsb-a --closed --threads 2 --depth 32",
        "--workload ycsb-a --closed --on-owner",
        "--workload ycsb-f --closed --on-owner --depth 8",
        "--workload ycsb-c --closed --depth 8",
        "--workload ycsb-f --closed --depth 8",
        "--workload ycsb-b --rate 500",
        "--workload ycsb-b --rate 500 --on-owner",
        "--workload durable-put --closed --on-owner --depth 8",
        "--workload durable-put --closed --threads 4",
    ] {
        assert_sound(&bench(&format!("{common} {more}")), more);
    }
    std::fs::remove_dir_all(directory).expect("ours");
}

#[test]
fn scans_in_key_order_are_refused_before_the_run() {
    let directory = scratch("scans");
    let line = format!(
        "run --target embedded:{} --workload ycsb-e --duration 1s",
        directory.display()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_gramme-bench"))
        .args(line.split(' '))
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("wants to scan"), "{said}");
    std::fs::remove_dir_all(directory).expect("ours");
}

fn node(directory: &Path) -> Node {
    let any: Option<SocketAddr> = Some(([127, 0, 0, 1], 0).into());
    let file = File {
        data: Some(directory.to_path_buf()),
        listen: any,
        resp: any,
        admin: any,
        shards: Some(2),
        pin_to_cores: Some(false),
        ..File::default()
    };
    Node::start(&file.resolve().expect("consistent")).expect("free ports")
}

#[test]
fn a_node_serves_the_load_through_its_own_protocol() {
    let directory = scratch("native");
    let node = node(&directory);
    let common = format!(
        "run --target native://{} --records 3000 --duration 1s --json",
        node.addresses().native
    );
    for more in [
        "--workload ycsb-a --closed",
        "--workload ycsb-f --closed --connections 4 --depth 8 --threads 2",
        "--workload ycsb-b --rate 500",
        "--workload durable-put --closed --connections 8",
    ] {
        assert_sound(&bench(&format!("{common} {more}")), more);
    }
    node.stop().expect("stops in order");
    std::fs::remove_dir_all(directory).expect("ours");
}
