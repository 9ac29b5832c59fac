//! What `check` finds on each machine.

use crate::program::{on, run};
use crate::trees::{self, Fake};
use serde_json::Value;
use std::collections::BTreeSet;

fn findings(tree: &Fake, words: &[&str]) -> (i32, Vec<Value>) {
    let run = on(tree, "check", &[&["--json"], words].concat());
    let Value::Array(list) = serde_json::from_str(&run.out).expect("JSON") else {
        panic!("not a list")
    };
    (run.code, list)
}

fn verdicts(list: &[Value], knob: &str) -> BTreeSet<String> {
    list.iter()
        .filter(|f| f["knob"] == knob)
        .map(|f| f["verdict"].as_str().unwrap().to_owned())
        .collect()
}

/// One line of the table: machine, what is said of it, and the verdict on some knobs.
struct Row {
    name: &'static str,
    make: fn() -> Fake,
    described: &'static str,
    verdicts: &'static [(&'static str, &'static str)],
}

const TABLE: &[Row] = &[
    Row {
        name: "bare metal with NVMe",
        make: trees::bare_metal_nvme,
        described: "bare metal; shards on CPUs 0-7 of 0-7; disks: nvme0n1 nvme1n1; network: eth0",
        verdicts: &[
            ("disk-scheduler", "fix"),
            ("disk-write-cache", "told"),
            ("nvme-irqs", "managed"),
            ("nvme-power-saving", "fix"),
            ("pcie-aspm", "fix"),
            ("cpu-governor", "fix"),
            ("cpu-idle", "fix"),
            ("clock-source", "ok"),
            ("nic-irqs", "fix"),
            ("irqbalance", "fix"),
            ("rps", "ok"),
            ("xps", "fix"),
            ("somaxconn", "ok"),
            ("huge-pages", "fix"),
            ("io-uring", "ok"),
            ("kernel-version", "ok"),
        ],
    },
    Row {
        name: "VM with virtio",
        make: trees::vm_virtio,
        described: "virtual machine (kvm); shards on CPUs 0-1 of 0-1; disks: vda; network: ens3",
        verdicts: &[
            ("clock-source", "ok"),
            ("cpu-governor", "not-applicable"),
            ("cpu-idle", "not-applicable"),
            ("cpu-boost", "not-applicable"),
            ("nvme-irqs", "not-applicable"),
            ("disk-scheduler", "fix"),
            ("nic-irqs", "fix"),
            ("nic-queues", "manual"),
            ("rps", "fix"),
            ("xps", "not-applicable"),
        ],
    },
    Row {
        name: "cloud instance",
        make: trees::cloud_ec2,
        described: "virtual machine (kvm), Amazon EC2; shards on CPUs 0-15 of 0-15; disks: nvme0n1; network: ens5",
        verdicts: &[
            ("disk-scheduler", "ok"),
            ("clock-source", "ok"),
            ("stolen-time", "manual"),
            ("nvme-irqs", "managed"),
            ("cpu-energy-preference", "not-applicable"),
            ("nic-irqs", "fix"),
            ("rps", "fix"),
        ],
    },
    Row {
        name: "container",
        make: trees::container,
        described: "container (docker) on bare metal; ",
        verdicts: &[
            ("disk-scheduler", "not-applicable"),
            ("swappiness", "not-applicable"),
            ("cpu-governor", "not-applicable"),
            ("somaxconn", "not-applicable"),
            ("nic-irqs", "not-applicable"),
            ("irqbalance", "not-applicable"),
            ("io-uring", "ok"),
            ("cpu-quota", "manual"),
            ("locked-memory", "manual"),
            ("open-files", "manual"),
        ],
    },
    Row {
        name: "two sockets",
        make: trees::two_sockets,
        described: "bare metal; ",
        verdicts: &[
            ("numa-balancing", "fix"),
            ("numa-locality", "told"),
            ("clock-source", "reboot"),
        ],
    },
    Row {
        name: "ARM",
        make: trees::arm,
        described: "bare metal; ",
        verdicts: &[
            ("clock-source", "ok"),
            ("cpu-governor", "fix"),
            ("cpu-idle", "not-applicable"),
        ],
    },
    Row {
        name: "old kernel",
        make: trees::old_kernel,
        described: "bare metal; ",
        verdicts: &[("kernel-version", "reboot"), ("io-uring", "ok")],
    },
    Row {
        name: "Xen",
        make: trees::xen,
        described: "virtual machine (xen); shards on CPUs 0-3 of 0-3; disks: xvda",
        verdicts: &[("clock-source", "fix"), ("disk-scheduler", "ok")],
    },
    Row {
        name: "sabotaged",
        make: trees::sabotaged,
        described: "bare metal; ",
        verdicts: &[("disk-write-cache", "manual"), ("io-uring", "fix")],
    },
];

#[test]
fn each_machine_is_asked_for_what_it_can_do() {
    for row in TABLE {
        let tree = (row.make)();
        let (code, list) = findings(&tree, &[]);
        assert_eq!(code, 1, "{}: something that matters is off", row.name);
        for (knob, verdict) in row.verdicts {
            assert_eq!(
                verdicts(&list, knob),
                BTreeSet::from([(*verdict).to_owned()]),
                "{}: {knob}",
                row.name
            );
        }
        let text = on(&tree, "check", &[]).out;
        assert!(
            text.starts_with(row.described),
            "{}: {}",
            row.name,
            text.lines().next().unwrap()
        );
    }
}

#[test]
fn the_json_list_has_the_promised_fields_and_every_knob() {
    let (_, list) = findings(&trees::bare_metal_nvme(), &[]);
    for finding in &list {
        for field in [
            "knob", "path", "current", "wanted", "verdict", "severity", "why", "action",
        ] {
            assert!(finding[field].is_string(), "{field} of {finding}");
        }
    }
    let named: BTreeSet<&str> = list.iter().map(|f| f["knob"].as_str().unwrap()).collect();
    for knob in gramme_tune::knobs::all() {
        assert!(
            named.contains(knob.id),
            "{} is passed over in silence",
            knob.id
        );
    }
}

#[test]
fn a_check_writes_nothing() {
    let tree = trees::bare_metal_nvme();
    let before = tree.snapshot();
    findings(&tree, &[]);
    on(&tree, "apply", &["--dry-run"]);
    on(&tree, "apply", &["--script"]);
    on(&tree, "persist", &["--dry-run"]);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_host_on_which_only_small_things_are_off_exits_with_0() {
    let (code, list) = findings(
        &trees::bare_metal_nvme(),
        &["--only", "disk-nomerges,timer-migration"],
    );
    assert_eq!((code, list.len()), (0, 3));
}

#[test]
fn an_array_is_looked_at_through_its_members() {
    let tree = trees::md_raid();
    let (_, list) = findings(
        &tree,
        &[
            "--data",
            "/data/gramme",
            "--only",
            "disk-scheduler,fs-options,fs-type",
        ],
    );
    let paths: Vec<&str> = list.iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "/sys/block/nvme0n1/queue/scheduler",
            "/sys/block/nvme1n1/queue/scheduler",
            "/proc/self/mountinfo: /data",
            "/proc/self/mountinfo: /data"
        ]
    );
    assert_eq!(
        verdicts(&list, "fs-options"),
        BTreeSet::from(["manual".to_owned()]),
        "discard is set"
    );
    assert_eq!(
        verdicts(&list, "fs-type"),
        BTreeSet::from(["ok".to_owned()])
    );
}

#[test]
fn layers_of_device_mapper_lead_to_the_one_disk() {
    let (_, list) = findings(
        &trees::lvm_crypt(),
        &[
            "--data",
            "/var/lib/gramme",
            "--only",
            "disk-scheduler,fs-type",
        ],
    );
    assert_eq!(list[0]["path"], "/sys/block/sda/queue/scheduler");
    assert_eq!(list[1]["verdict"], "manual", "btrfs");
}

#[test]
fn of_a_multipath_disk_the_path_is_set_and_its_queues_are_counted() {
    let (_, list) = findings(
        &trees::nvme_multipath(),
        &["--only", "disk-scheduler,nvme-irqs"],
    );
    assert!(
        list.iter()
            .any(|f| f["path"] == "/sys/block/nvme0c0n1/queue/scheduler")
    );
    let irqs = list.iter().find(|f| f["knob"] == "nvme-irqs").unwrap();
    assert_eq!(irqs["wanted"], "≥ 4 queues");
    assert!(
        irqs["current"].as_str().unwrap().starts_with("2 queues"),
        "the admin queue is none"
    );
}

#[test]
fn a_bond_is_looked_at_through_its_cards() {
    let text = on(&trees::bond_vlan(), "check", &[]).out;
    assert!(
        text.lines().next().unwrap().ends_with("network: eth0 eth1"),
        "{text}"
    );
}

#[test]
fn interrupts_go_to_the_spare_cpus_when_many_shards_share_a_queue() {
    let tree = trees::two_sockets();
    let (_, list) = findings(
        &tree,
        &[
            "--cpus",
            "2-15",
            "--only",
            "nic-irqs,cpu-workqueues,cpu-isolation",
        ],
    );
    let wanted: Vec<&str> = list
        .iter()
        .filter(|f| f["knob"] == "nic-irqs")
        .map(|f| f["wanted"].as_str().unwrap())
        .collect();
    assert_eq!(
        wanted,
        ["0-1", "0-1"],
        "the asynchronous interrupt is left alone"
    );
    assert_eq!(
        verdicts(&list, "cpu-workqueues"),
        BTreeSet::from(["fix".to_owned()])
    );
    assert_eq!(
        verdicts(&list, "cpu-isolation"),
        BTreeSet::from(["reboot".to_owned()])
    );
}

#[test]
fn a_container_with_its_own_sysctls_is_asked_for_them() {
    let tree = trees::container();
    let mounts = tree
        .get("/proc/self/mountinfo")
        .replace("/proc/sys ro", "/proc/sys rw");
    tree.set("/proc/self/mountinfo", &mounts);
    let (_, list) = findings(&tree, &["--only", "syn-backlog,swappiness"]);
    assert_eq!(
        list[0]["verdict"], "not-applicable",
        "swappiness is the host's"
    );
    assert_eq!(list[1]["verdict"], "fix");
}

#[test]
fn a_virtual_machine_made_from_a_containers_image_is_no_container() {
    let tree = trees::vm_virtio();
    tree.set("/.dockerenv", "");
    let text = on(&tree, "check", &[]).out;
    assert!(
        text.starts_with("virtual machine (kvm), made from a container's image;"),
        "{text}"
    );
}

#[test]
fn a_wrong_call_exits_with_2_and_says_what_to_do() {
    let tree = trees::arm();
    let misspelt = on(&tree, "check", &["--only", "swapiness"]);
    assert_eq!(misspelt.code, 2);
    assert!(
        misspelt.err.contains("did you mean swappiness?"),
        "{}",
        misspelt.err
    );
    assert_eq!(on(&tree, "check", &["--cpus", "0-9"]).code, 2);
    assert_eq!(on(&tree, "check", &["--nic", "eth7"]).code, 2);
    assert_eq!(run(&["check", "--root", "/no/such/place"]).code, 2);
    assert_eq!(run(&["check", "--colour"]).code, 2);
}

#[test]
fn an_empty_directory_is_a_machine_of_which_nothing_is_known() {
    let tree = trees::arm();
    let empty = tree.at("/empty");
    std::fs::create_dir(&empty).unwrap();
    let answer = run(&["check", "--root", &empty.to_string_lossy(), "--json"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let list: Vec<Value> = serde_json::from_str(&answer.out).unwrap();
    assert!(
        list.iter()
            .all(|f| f["verdict"] != "fix" && f["verdict"] != "ok"),
        "{}",
        answer.out
    );
}
