//! The table of the machines in `trees`: what each is told, what `apply` writes there, and that `revert` takes it back.

use crate::program::on;
use crate::trees::{self, Fake};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const VERDICTS: [&str; 8] = [
    "ok",
    "fix",
    "manual",
    "reboot",
    "managed",
    "told",
    "unknown",
    "not-applicable",
];

/// Its name, and how its tree is made.
type Machine = (&'static str, fn() -> Fake);

fn row(name: &str, tree: &Fake) -> String {
    let check = on(tree, "check", &["--json"]);
    let list: Vec<Value> = serde_json::from_str(&check.out).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in &list {
        *counts
            .entry(finding["verdict"].as_str().unwrap())
            .or_default() += 1;
    }
    assert_eq!(
        counts.values().sum::<usize>(),
        VERDICTS
            .iter()
            .map(|verdict| counts.get(verdict).copied().unwrap_or(0))
            .sum::<usize>(),
        "{name} has a verdict without a column: {counts:?}"
    );
    // Every machine has the directory in which the journal's own is made.
    tree.set("/var/lib/dpkg/status", "");
    let before = tree.snapshot();
    let apply = on(tree, "apply", &["--yes"]);
    let tuned = tree.snapshot();
    let written = before
        .iter()
        .filter(|(path, content)| tuned.get(*path) != Some(content))
        .count();
    let again = on(tree, "check", &["--json"]);
    let again: Vec<Value> = serde_json::from_str(&again.out).unwrap();
    let left = again
        .iter()
        .filter(|finding| finding["verdict"] == "fix")
        .count();
    on(tree, "revert", &["--yes"]);
    let is_as_before = if tree.snapshot() == before {
        "as before"
    } else {
        "CHANGED"
    };
    let mut line = format!("| {name} | {} |", check.code);
    for verdict in VERDICTS {
        let _ = write!(line, " {} |", counts.get(verdict).copied().unwrap_or(0));
    }
    let _ = writeln!(
        line,
        " {} | {written} | {left} | {is_as_before} |",
        apply.code
    );
    line
}

#[test]
fn the_table_of_machines_is_what_the_tuner_says() {
    let machines: [Machine; 13] = [
        ("bare metal, NVMe", trees::bare_metal_nvme),
        ("virtual machine, virtio", trees::vm_virtio),
        ("cloud instance (EC2)", trees::cloud_ec2),
        ("container", trees::container),
        ("two sockets", trees::two_sockets),
        ("md array", trees::md_raid),
        ("LVM over dm-crypt", trees::lvm_crypt),
        ("NVMe multipath", trees::nvme_multipath),
        ("bond and VLAN", trees::bond_vlan),
        ("ARM", trees::arm),
        ("kernel 5.15", trees::old_kernel),
        ("Xen", trees::xen),
        ("sabotaged", trees::sabotaged),
    ];
    let mut made = String::from(
        "# The machines of the tests\n\n\
         Trees of `/proc`, `/sys` and `/etc` (`trees.rs`), each checked, applied, checked and reverted; made by\n\
         `table_cases.rs`. Findings by verdict, then `apply`: its exit code, files that it changed, what was left to fix,\n\
         and the tree after `revert`, byte by byte.\n\n\
         | machine | exit of check | ",
    );
    made += &VERDICTS.join(" | ");
    made += " | exit of apply | files changed | left | after revert |\n|";
    made += &"---|".repeat(VERDICTS.len() + 6);
    made.push('\n');
    for (name, make) in machines {
        made += &row(name, &make());
    }
    assert!(!made.contains("CHANGED"), "{made}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/TREES.md");
    if std::env::var_os("GRAMME_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        made,
        "GRAMME_BLESS=1 writes it anew"
    );
}
