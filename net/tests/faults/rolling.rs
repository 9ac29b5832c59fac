//! Nodes that are ended and started again under load, one after the other: a rolling restart, as an upgrade makes it, and one
//! after which each finds another number of cores.

use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::{Cluster, NODES, Node};
use crate::load::Load;
use crate::{alone, is_long};

/// Ends and starts each node so many rounds, as `restart` does the manieth.
fn roll(name: &str, rounds: usize, restart: impl Fn(&mut Node, usize)) {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, name, Durability::Buffered);
    let restarts = rounds * NODES;
    for number in 0..restarts {
        std::thread::sleep(Duration::from_millis(500));
        restart(&mut cluster.nodes[number % NODES], number);
        cluster.wait_whole();
    }
    let record = load.finish(&cluster, (name, restarts as u64));
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");
}

#[test]
fn a_rolling_restart_costs_no_request_and_no_write() {
    roll("rolling", if is_long() { 10 } else { 1 }, |node, _| {
        node.end(Signal::TERM);
        node.start(None);
    });
}

#[test]
fn a_rolling_change_of_the_number_of_shards_costs_no_request_and_no_write() {
    roll("dealt", if is_long() { 4 } else { 1 }, |node, number| {
        // A crash does not hinder it either.
        node.end([Signal::TERM, Signal::KILL, Signal::TERM][number % 3]);
        node.shards = [2, 3, 1][(number + number / NODES) % 3];
        node.start(None);
    });
}
