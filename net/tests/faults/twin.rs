//! A directory that was copied, as a volume's snapshot or a cloned machine is, and two processes that run with one each.

use std::path::Path;

use rustix::process::Signal;

use crate::alone;
use crate::cluster::{Cluster, Node, until};
use crate::full::Redis;
use crate::ledger::Ledger;

const KEYS: usize = 600;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("readable").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("copied");
        }
    }
}

fn is_refused(node: &Node) -> bool {
    let standing = node.status()["standing"].to_string();
    node.page("/health").0 == 503 && standing.contains("another process with its id")
}

#[test]
fn two_processes_with_one_id_are_both_refused_and_nothing_is_lost() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let mut ledger = Ledger::new("twins", 1_000);
    ledger.write(&cluster.nodes[0], KEYS);
    cluster.wait_whole();
    cluster.nodes[2].end(Signal::TERM);
    let dir = tempfile::tempdir().expect("a directory");
    let mut twin = Node::new(dir.path(), "twin", "127.0.0.1");
    copy(&cluster.nodes[2].data, &twin.data);
    cluster.nodes[2].start(None);
    twin.start(None);
    until("a refusal of both", || {
        is_refused(&cluster.nodes[2]) && is_refused(&twin)
    });
    for node in [&cluster.nodes[2], &twin] {
        let mut redis = Redis::connect(node);
        until("refusals of writes", || {
            redis
                .command(&[b"SET", b"twins-new", b"value"])
                .starts_with(b"-")
        });
    }
    // The other two go on, and delete what both twins have.
    ledger.write(&cluster.nodes[1], KEYS / 4);
    ledger.delete(&cluster.nodes[1], 3);
    twin.end(Signal::KILL);
    // Which of both directories is the right one only an operator knows: what was refused stays so until it is started again.
    cluster.nodes[2].end(Signal::TERM);
    cluster.nodes[2].start(None);
    cluster.wait_whole();
    assert_eq!(ledger.back(&cluster.nodes), Vec::<String>::new());
    ledger.finish("twins", 1, &cluster.nodes);
}
