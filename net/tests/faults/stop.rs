//! SIGSTOP: a node that is there, keeps its connections, and does nothing; then goes on as if no time had passed.

use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::load::Load;
use crate::{alone, is_long};

#[test]
fn a_node_that_is_stopped_for_a_while_costs_no_request_and_no_write() {
    let _alone = alone();
    let cluster = Cluster::start();
    let load = Load::start(&cluster, "stopped", Durability::Buffered);
    std::thread::sleep(Duration::from_secs(1));
    cluster.nodes[1].signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(if is_long() { 30 } else { 5 }));
    cluster.nodes[1].signal(Signal::CONT);
    cluster.wait_whole();
    std::thread::sleep(Duration::from_secs(1));
    let record = load.finish(&cluster, ("stopped", 1));
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");
}
