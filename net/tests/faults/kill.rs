//! `kill -9`: one node after the other under load, and all at once.

use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::{Cluster, NODES};
use crate::load::Load;
use crate::{alone, is_long};

/// Buffered writes are on stable media after a few milliseconds; this is far more, so that no two kills meet one write.
const COMMITTED: Duration = Duration::from_millis(1_000);

#[test]
fn what_was_acknowledged_survives_kills_of_one_node_after_the_other_and_of_all_at_once() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let rounds = if is_long() { 40 } else { 3 };
    let load = Load::start(&cluster, "killed", Durability::Buffered);
    for round in 0..rounds {
        std::thread::sleep(COMMITTED);
        let node = &mut cluster.nodes[round % NODES];
        node.end(Signal::KILL);
        std::thread::sleep(Duration::from_millis(300));
        node.start(None);
        cluster.wait_whole();
    }
    let record = load.finish(&cluster, ("killed", rounds as u64));
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");

    // A write that is on W stable media survives the loss of every memory.
    let rounds = if is_long() { 20 } else { 1 };
    for round in 0..rounds {
        let name = format!("all-killed-{round}");
        let load = Load::start(&cluster, &name, Durability::All);
        std::thread::sleep(Duration::from_secs(1));
        for node in &cluster.nodes {
            node.signal(Signal::KILL);
        }
        for node in &mut cluster.nodes {
            node.end(Signal::KILL);
            node.start(None);
        }
        cluster.wait_whole();
        let record = load.finish(&cluster, (&name, NODES as u64));
        assert_eq!(record.lost, Vec::<String>::new());
        assert!(record.acknowledged > 10, "{record}");
    }
}
