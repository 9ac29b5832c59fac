//! What `apply` and `revert` do to a tree, through the program.

use crate::program::on;
use crate::trees::{self, Fake};
use std::fs;

type Make = fn() -> Fake;

const MACHINES: [(&str, Make); 8] = [
    ("bare metal", trees::bare_metal_nvme),
    ("virtio", trees::vm_virtio),
    ("cloud", trees::cloud_ec2),
    ("two sockets", trees::two_sockets),
    ("md", trees::md_raid),
    ("multipath", trees::nvme_multipath),
    ("arm", trees::arm),
    ("xen", trees::xen),
];

#[test]
fn apply_then_revert_leaves_every_machine_as_it_was() {
    for (name, make) in MACHINES {
        let tree = make();
        let before = tree.snapshot();
        let applied = on(&tree, "apply", &["--yes"]);
        assert_eq!(applied.code, 0, "{name}: {}", applied.err);
        assert_ne!(tree.snapshot(), before, "{name}");
        let reverted = on(&tree, "revert", &["--yes"]);
        assert_eq!(reverted.code, 0, "{name}: {}", reverted.err);
        // The journal's parent directories are the system's own; here they did not exist.
        fs::remove_dir_all(tree.at("/var")).unwrap();
        assert_eq!(tree.snapshot(), before, "{name}");
    }
}

#[test]
fn a_second_apply_writes_nothing() {
    for (name, make) in MACHINES {
        let tree = make();
        on(&tree, "apply", &["--yes"]);
        let after = tree.snapshot();
        let second = on(&tree, "apply", &["--yes"]);
        assert!(
            second.out.starts_with("nothing to do"),
            "{name}: {}",
            second.out
        );
        assert_eq!(tree.snapshot(), after, "{name}");
    }
}

#[test]
fn what_was_applied_is_no_longer_off() {
    let tree = trees::bare_metal_nvme();
    on(&tree, "apply", &["--yes"]);
    let check = on(&tree, "check", &[]);
    assert_eq!(check.code, 0, "{}", check.out);
    assert_eq!(
        tree.get("/sys/block/nvme0n1/queue/scheduler"),
        "[none] mq-deadline kyber"
    );
    assert_eq!(tree.get("/proc/irq/43/smp_affinity_list"), "3");
    assert_eq!(tree.get("/sys/class/net/eth0/queues/tx-3/xps_cpus"), "8");
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "1");
    let balance = tree.get("/etc/default/irqbalance");
    assert_eq!(
        balance,
        "# keep this comment\nIRQBALANCE_ONESHOT=0\nIRQBALANCE_BANNED_CPULIST=0-7"
    );
    // Interrupts of NVMe queues are the kernel's; the write cache is nobody's to write.
    assert_eq!(tree.get("/proc/irq/49/smp_affinity_list"), "0-7");
    assert_eq!(
        tree.get("/sys/block/nvme0n1/queue/write_cache"),
        "write through"
    );
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_written() {
    let tree = trees::arm();
    let before = tree.snapshot();
    let run = on(&tree, "apply", &[]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("--yes"), "{}", run.err);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn only_and_skip_choose_the_knobs() {
    let tree = trees::arm();
    on(
        &tree,
        "apply",
        &[
            "--yes",
            "--only",
            "swappiness,huge-pages",
            "--skip",
            "huge-pages",
        ],
    );
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "1");
    assert_eq!(
        tree.get("/sys/kernel/mm/transparent_hugepage/enabled"),
        "[always] madvise never"
    );
    assert_eq!(tree.get("/proc/sys/kernel/timer_migration"), "1");
}

#[test]
fn what_somebody_changed_since_is_left_and_told() {
    let tree = trees::arm();
    on(
        &tree,
        "apply",
        &["--yes", "--only", "swappiness,timer-migration"],
    );
    tree.set("/proc/sys/vm/swappiness", "10");
    let run = on(&tree, "revert", &["--yes"]);
    assert_eq!(run.code, 0);
    assert!(
        run.out.contains("somebody has set it to \"10\""),
        "{}",
        run.out
    );
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "10");
    assert_eq!(tree.get("/proc/sys/kernel/timer_migration"), "1");
}

#[test]
fn two_applies_are_taken_back_to_the_first_beginning() {
    let tree = trees::arm();
    on(&tree, "apply", &["--yes", "--only", "swappiness"]);
    tree.set("/proc/sys/vm/swappiness", "30");
    on(&tree, "apply", &["--yes", "--only", "swappiness"]);
    on(&tree, "revert", &["--yes"]);
    // 30 was somebody's own value between the two; it is what stood before the newest of ours.
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "30");
    let tree = trees::arm();
    on(&tree, "apply", &["--yes", "--only", "swappiness"]);
    on(&tree, "apply", &["--yes", "--only", "timer-migration"]);
    on(&tree, "revert", &["--yes"]);
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "60");
    assert_eq!(tree.get("/proc/sys/kernel/timer_migration"), "1");
}

#[test]
fn after_a_restart_the_kernels_values_are_forgotten_and_files_are_not() {
    let tree = trees::bare_metal_nvme();
    on(
        &tree,
        "apply",
        &["--yes", "--only", "swappiness,irqbalance"],
    );
    tree.set(
        "/proc/sys/kernel/random/boot_id",
        "0a1b2c3d-0000-4000-8000-000000000002",
    );
    // In the new start somebody wants 1 by other means: it is not ours to take back.
    let run = on(&tree, "revert", &["--yes"]);
    assert!(run.out.contains("1 put back"), "{}", run.out);
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "1");
    assert_eq!(
        tree.get("/etc/default/irqbalance"),
        "# keep this comment\nIRQBALANCE_ONESHOT=0"
    );
}

#[test]
fn the_script_does_what_apply_does() {
    let tree = trees::bare_metal_nvme();
    let script = on(&tree, "apply", &["--script"]).out;
    // The script names the machine's own paths; here they lie under the tree.
    let root = tree.root().to_string_lossy();
    let script = script
        .replace("'/proc", &format!("'{root}/proc"))
        .replace("'/sys", &format!("'{root}/sys"));
    let script = script.replace("'/etc", &format!("'{root}/etc"));
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "1");
    let check = on(&tree, "check", &[]);
    assert_eq!(check.code, 0, "{}", check.out);
}

#[test]
fn the_journals_place_can_be_chosen_and_is_removed_when_it_is_done() {
    let tree = trees::arm();
    let journal = tree.at("/journal-of-mine");
    let place = journal.to_string_lossy().into_owned();
    on(
        &tree,
        "apply",
        &["--yes", "--only", "swappiness", "--journal", &place],
    );
    assert!(journal.exists());
    on(&tree, "revert", &["--yes", "--journal", &place]);
    assert!(!journal.exists());
    assert_eq!(
        on(&tree, "revert", &["--yes"]).out.lines().count(),
        1,
        "says that there is nothing"
    );
}
