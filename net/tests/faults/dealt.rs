//! Members whose number of shards changes from one start to the next, as when a machine gets another number of cores.

use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::{Cluster, NODES, until};
use crate::ledger::Ledger;
use crate::load::Load;
use crate::{alone, is_long};

#[test]
fn a_rolling_change_of_the_number_of_shards_costs_no_request_and_no_write() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "dealt", Durability::Buffered);
    let rounds = if is_long() { 4 } else { 1 };
    for restart in 0..rounds * NODES {
        std::thread::sleep(Duration::from_millis(500));
        let node = &mut cluster.nodes[restart % NODES];
        // A crash does not hinder it either.
        let signal = [Signal::TERM, Signal::KILL, Signal::TERM][restart % 3];
        node.end(signal);
        node.shards = [2, 3, 1][(restart + restart / NODES) % 3];
        node.start(None);
        cluster.wait_whole();
    }
    let record = load.finish(&cluster, ("dealt", (rounds * NODES) as u64));
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");
}

#[test]
fn hints_and_deletions_are_dealt_to_another_number_of_shards_too() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let mut ledger = Ledger::new("dealt-hints", 1_000);
    ledger.write(&cluster.nodes[0], 300);
    cluster.wait_whole();
    cluster.nodes[2].end(Signal::KILL);
    // Both that are left keep hints for the third.
    ledger.delete(&cluster.nodes[0], 3);
    ledger.write(&cluster.nodes[1], 300);
    for (node, shards) in [(0, 3), (1, 2)] {
        let node = &mut cluster.nodes[node];
        let pending = node.counter("hints_pending");
        assert!(pending > 50, "{pending}");
        node.end(Signal::TERM);
        node.shards = shards;
        node.start(None);
        assert_eq!(node.counter("hints_pending"), pending);
    }
    cluster.nodes[2].shards = 2;
    cluster.nodes[2].start(None);
    cluster.wait_whole();
    ledger.finish("dealt-hints", 3, &cluster.nodes);
    until("an end of the hints", || {
        let pending = cluster
            .nodes
            .iter()
            .map(|node| node.counter("hints_pending"));
        pending.sum::<u64>() == 0
    });
}
