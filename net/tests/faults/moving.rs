//! Faults in the middle of a join: a node killed, stopped, records that rotted, connections cut. The transfer goes on where
//! it was, ends, and nothing is lost.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::{Cluster, NODES, Node, free_ports, until};
use crate::ledger::Ledger;
use crate::load::{Load, Record};
use crate::proxy::{CUT, Faults, PASS, hand_on};
use crate::rings::is_at_rest;
use crate::{alone, is_long};

const VALUE_BYTES: usize = 16 << 10;

/// Enough that the transfer takes a while.
fn keys() -> usize {
    if is_long() { 1_000 } else { 300 }
}

/// Replicas that are not at their target yet, to the first node.
fn pending(cluster: &Cluster) -> u64 {
    let members = cluster.nodes[0].members();
    let all = members
        .iter()
        .map(|member| member["pending"].as_u64().unwrap_or(0));
    all.sum()
}

/// Waits until all nodes know one ring, each partition is where it belongs, and nothing moves any more.
fn wait_one_ring(cluster: &Cluster) {
    until("one ring", || {
        let asked = cluster.nodes.iter().map(|node| {
            let said = node.command(&["ring", "--json"]).unwrap_or_default();
            serde_json::from_slice(&said).unwrap_or_default()
        });
        let rings: Vec<serde_json::Value> = asked.collect();
        rings[0]["table"].as_array().map(Vec::len) == Some(64)
            && is_at_rest(&rings[0], NODES)
            && rings.iter().all(|ring| *ring == rings[0])
    });
}

/// A fourth node joins under load, and something happens in the middle of it.
fn join_amid(
    name: &'static str,
    mut cluster: Cluster,
    change: impl FnOnce(&mut Node),
    fault: impl FnOnce(&mut Cluster) -> u64,
) -> (Cluster, Record) {
    let mut ledger = Ledger::new(name, VALUE_BYTES);
    ledger.write(&cluster.nodes[0], keys());
    ledger.delete(&cluster.nodes[1], 10);
    cluster.wait_whole();
    let load = Load::start(&cluster, name, Durability::Buffered);
    cluster.add_with("n3", change);
    cluster.commit();
    let to_move = pending(&cluster);
    assert!(to_move > 0, "the transfer is over before the fault");
    let faults = fault(&mut cluster);
    cluster.wait_whole();
    let record = load.finish(&cluster, (name, faults));
    // A read may miss a write for a moment while its partition moves (`tests/README.md`, "Open"): it is not lost.
    assert_eq!(record.lost[record.missed..], Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");
    ledger.finish(&format!("{name}, each node's own"), faults, &cluster.nodes);
    wait_one_ring(&cluster);
    let last = cluster.nodes.last().expect("the fourth");
    eprintln!(
        "  {to_move} replicas to move at the fault, {} KiB fetched by the new node",
        last.counter("upkeep_pulled_bytes") / 1024
    );
    (cluster, record)
}

#[test]
fn a_node_that_is_killed_in_the_middle_of_a_join_costs_nothing() {
    let _alone = alone();
    // One that the new node fetches from; then the new one itself.
    for node in if is_long() {
        vec![1, 3, 0, 3]
    } else {
        vec![1, 3]
    } {
        let cluster = Cluster::start();
        join_amid(
            "killed-amid",
            cluster,
            |_| {},
            |cluster| {
                cluster.nodes[node].end(Signal::KILL);
                std::thread::sleep(Duration::from_millis(500));
                cluster.nodes[node].start(None);
                1
            },
        );
    }
}

#[test]
fn a_node_that_is_stopped_in_the_middle_of_a_join_costs_nothing() {
    let _alone = alone();
    for node in if is_long() { vec![1, 3] } else { vec![1] } {
        let cluster = Cluster::start();
        join_amid(
            "stopped-amid",
            cluster,
            |_| {},
            |cluster| {
                cluster.nodes[node].signal(Signal::STOP);
                std::thread::sleep(Duration::from_secs(if is_long() { 30 } else { 3 }));
                cluster.nodes[node].signal(Signal::CONT);
                1
            },
        );
    }
}

#[test]
fn connections_that_break_do_not_restart_a_transfer() {
    let _alone = alone();
    let faults = Arc::new(Faults::default());
    let host = "127.0.0.1";
    let behind_proxy = |node: &mut Node| {
        let proxy = free_ports(host, 2);
        node.advertised = Some(format!("{host}:{proxy}"));
        hand_on(host, (proxy, node.port), &faults);
        hand_on(host, (proxy + 1, node.port + 1), &faults);
    };
    let cluster = Cluster::start_with(host, behind_proxy);
    let (cluster, _) = join_amid("cut-amid", cluster, behind_proxy, |cluster| {
        faults.mode.store(CUT, Ordering::Relaxed);
        // Until it is through, or so long that it should be.
        for _ in 0..if is_long() { 200 } else { 30 } {
            std::thread::sleep(Duration::from_millis(100));
            if pending(cluster) == 0 {
                break;
            }
        }
        faults.mode.store(PASS, Ordering::Relaxed);
        faults.cut.load(Ordering::Relaxed)
    });
    let cut = faults.cut.load(Ordering::Relaxed);
    assert!(cut > 0, "nothing was cut");
    // Of four nodes each has three quarters: had each cut begun it anew, it would be many times that.
    let fetched = cluster.nodes[3].counter("upkeep_pulled_bytes");
    let whole = (keys() * VALUE_BYTES) as u64;
    assert!(
        fetched < 2 * whole,
        "{fetched} bytes for {whole} with {cut} cuts"
    );
}

/// Changes a byte in the middle of every so manieth value, wherever it lies in a stopped node's directory.
fn rot(data: &Path, ledger: &Ledger, every: usize) -> u64 {
    let mut changed = 0;
    let mut dirs = vec![data.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("readable");
            let file = fs::OpenOptions::new().write(true).open(&path);
            let file = file.expect("writeable");
            for number in (0..keys()).filter(|number| number % every == 1) {
                let begins = &ledger.value(number)[..32];
                let mut from = 0;
                while let Some(at) = find(&bytes[from..], begins) {
                    let place = from + at + VALUE_BYTES / 2;
                    if let Some(byte) = bytes.get(place) {
                        let other = [byte ^ 0x10];
                        file.write_all_at(&other, place as u64).expect("written");
                        changed += 1;
                    }
                    from += at + begins.len();
                }
            }
        }
    }
    changed
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = what[0];
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[test]
fn bad_records_of_a_source_do_not_stop_a_transfer_and_are_not_spread() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let mut ledger = Ledger::new("rot-amid", VALUE_BYTES);
    ledger.write(&cluster.nodes[0], keys());
    cluster.wait_whole();
    // Behind a clean stop nothing of it is in memory, and nothing is read until somebody wants it.
    let mut changed = 0;
    for node in 0..NODES {
        cluster.nodes[node].end(Signal::TERM);
        if node == 0 {
            changed = rot(&cluster.nodes[0].data, &ledger, 10);
        }
        cluster.nodes[node].start(None);
        cluster.wait_whole();
    }
    assert!(changed >= keys() as u64 / 10, "{changed} were changed");
    cluster.add("n3");
    cluster.commit();
    cluster.wait_whole();
    let faults = cluster.nodes[0].counter("read_faults");
    ledger.finish("rot-amid", changed, &cluster.nodes);
    wait_one_ring(&cluster);
    // What was found bad was brought back: the node serves as any other, and says that there was damage.
    let rotten = &cluster.nodes[0];
    until("a node of which nothing is unknown", || {
        rotten.page("/health").0 == 200
    });
    let (_, health) = rotten.page("/health");
    assert!(health.contains("nothing is unknown any more"), "{health}");
    assert!(rotten.counter("damaged_places") > 0);
    assert_eq!(rotten.counter("damage_unrepaired"), 0);
    let last = cluster.nodes.last().expect("the fourth");
    let fetched = last.counter("upkeep_pulled_bytes");
    eprintln!(
        "  {changed} values changed, {faults} found bad during the join, {} KiB fetched by the new node",
        fetched / 1024
    );
    let whole = (keys() * VALUE_BYTES) as u64;
    assert!(fetched < 2 * whole, "{fetched} bytes for {whole}");
}
