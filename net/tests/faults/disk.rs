//! A disk that dies under a node: routed around, said to whoever asks, and made good by another node in its place.
//!
//! The file system lies in a file on a memory file system, behind a loop device. Then the file is cut to nothing and there is
//! no room for it any more: every read and every write of the device fails.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::{Cluster, Node, PROGRAM, until};
use crate::full::Redis;
use crate::ledger::Ledger;
use crate::load::{Load, value_of};
use crate::{alone, is_long};

/// Mounts the disk's parts in the mount namespace that it runs in.
const MOUNT: &str = "mount -t tmpfs -o size=400M none \"$0\" && truncate -s 300M \"$0/image\" && \
                     mkfs.ext4 -q -F -m 0 \"$0/image\" && mount -o loop \"$0/image\" \"$1\" && shift && exec \"$@\"";
/// Ends it, from within: what is there is gone, and there is no room for anything new.
const KILL: &str = "truncate -s 0 \"$0/image\" && mount -o remount,size=1M \"$0\"; \
                    head -c 2M /dev/zero > \"$0/ballast\"; test -e \"$0/ballast\"";

/// Where a node's disk is, and what is under it.
struct Disk {
    below: std::path::PathBuf,
}

impl Disk {
    fn new(dir: &Path, node: &mut Node) -> Self {
        let (below, mount) = (dir.join("below"), dir.join("disk"));
        for dir in [&below, &mount] {
            std::fs::create_dir(dir).expect("made");
        }
        node.data = mount.join("data");
        Self { below }
    }

    fn command(&self, node: &Node, program: &str, arguments: Vec<String>) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", MOUNT])
            .arg(&self.below)
            .arg(node.data.parent().expect("the mount"))
            .arg(program)
            .args(arguments);
        command
    }

    fn kill(&self, node: &Node) {
        let killed = Command::new("nsenter")
            .args(["-t", &node.pid().as_raw_nonzero().to_string(), "-m"])
            .args(["sh", "-c", KILL])
            .arg(&self.below)
            .stderr(Stdio::null())
            .status();
        assert!(
            killed.is_ok_and(|killed| killed.success()),
            "the disk lives"
        );
    }
}

#[test]
fn a_disk_that_dies_costs_no_request_and_a_replacement_makes_it_good() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start_of(2, "127.0.0.1", |_| {});
    let mut disk = None;
    let mut is_possible = true;
    cluster.add_as("n2", |node, seed| {
        let here = Disk::new(dir.path(), node);
        let tried = here
            .command(node, "true", Vec::new())
            .stderr(Stdio::null())
            .status();
        is_possible = tried.is_ok_and(|tried| tried.success());
        let arguments = node.arguments(Some(seed));
        let command = is_possible.then(|| here.command(node, PROGRAM, arguments));
        disk = Some(here);
        command
    });
    if !is_possible {
        eprintln!("skipped: a disk of its own needs root, mkfs.ext4, unshare and loop devices");
        return;
    }
    let disk = disk.expect("made");
    cluster.commit();
    cluster.wait_whole();
    let mut ledger = Ledger::new("disk", 1_000);
    ledger.write(&cluster.nodes[0], 500);
    let load = Load::start(&cluster, "disk", Durability::One);
    std::thread::sleep(Duration::from_secs(1));
    disk.kill(&cluster.nodes[2]);
    until("a node that says that its disk failed", || {
        let (code, health) = cluster.nodes[2].page("/health");
        code == 503 && health.contains("read-only since its disk failed")
    });
    until("others that say so, too", || {
        let warnings = cluster.nodes[0].status()["warnings"].to_string();
        warnings.contains("takes no writes")
    });
    std::thread::sleep(Duration::from_secs(if is_long() { 20 } else { 2 }));
    ledger.delete(&cluster.nodes[0], 5);
    cluster.replace("n2", "n3");
    // What only the broken one might have, nobody gets any more.
    let mut broken = cluster.nodes.remove(2);
    broken.end(Signal::KILL);
    cluster.remove("n2", "--lost");
    cluster.wait_whole();
    let record = load.finish(&cluster, ("disk", 1));
    ledger.finish("disk, each node's own", 1, &cluster.nodes);
    let new = cluster.nodes.last().expect("the new one");
    let mut redis = Redis::connect(new);
    assert_eq!(redis.command(&[b"DYN.OPT", b"R", b"1"]), b"+OK");
    let missing = record
        .keys
        .iter()
        .filter(|key| redis.command(&[b"GET", key.as_bytes()]) != value_of(key));
    let missing: Vec<&String> = missing.collect();
    assert_eq!(missing, Vec::<&String>::new(), "not on the new node");
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");
}
