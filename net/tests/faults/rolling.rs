//! A rolling restart, as an upgrade makes it: SIGTERM, wait, start, one node after the other under load.

use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::{Cluster, NODES};
use crate::load::Load;
use crate::{alone, is_long};

#[test]
fn a_rolling_restart_costs_no_request_and_no_write() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "rolling", Durability::Buffered);
    let rounds = if is_long() { 10 } else { 1 };
    for restart in 0..rounds * NODES {
        std::thread::sleep(Duration::from_millis(500));
        let node = &mut cluster.nodes[restart % NODES];
        node.end(Signal::TERM);
        node.start(None);
        cluster.wait_whole();
    }
    let record = load.finish(&cluster, ("rolling", (rounds * NODES) as u64));
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");
}
