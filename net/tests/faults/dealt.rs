//! What a member has beside its keys when its number of shards changes from one start to the next. That a whole cluster
//! does so under load is in `rolling`.

use rustix::process::Signal;

use crate::alone;
use crate::cluster::{Cluster, until};
use crate::ledger::Ledger;

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
