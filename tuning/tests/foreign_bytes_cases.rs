//! Nonsense in the kernel's files: never a panic, never a write into what was not understood.

use crate::trees;
use gramme_tune::apply::plan;
use gramme_tune::check::{Choice, check};
use gramme_tune::cpus::CpuSet;
use gramme_tune::machine::{Machine, Selection};
use gramme_tune::tree::RootedTree;
use std::fs;
use std::path::PathBuf;

const NONSENSE: [&[u8]; 8] = [
    b"",
    b"\n",
    b"[",
    b"][",
    b"\xff\xfe\x00garbage",
    b"18446744073709551616",
    b"-1",
    b"a b [c] d - e 1,2-3 0x7f : \t\n\n - \n:::\nnvme0q\n",
];

fn files(tree: &trees::Fake) -> Vec<PathBuf> {
    tree.snapshot()
        .into_keys()
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn any_one_file_may_hold_anything() {
    let tree = trees::bare_metal_nvme();
    for file in files(&tree) {
        let good = fs::read(&file).unwrap();
        for bad in NONSENSE {
            fs::write(&file, bad).unwrap();
            let rooted = RootedTree::open(tree.root()).unwrap();
            let machine = Machine::discover(&rooted, &Selection::default());
            let findings = check(&rooted, &machine, &Choice::default());
            plan(&rooted, &findings);
        }
        fs::write(&file, good).unwrap();
    }
}

#[test]
fn a_number_that_is_none_is_told_as_unknown_and_not_overwritten() {
    let tree = trees::arm();
    tree.set("/proc/sys/vm/swappiness", "many");
    let rooted = RootedTree::open(tree.root()).unwrap();
    let machine = Machine::discover(&rooted, &Selection::default());
    let findings = check(
        &rooted,
        &machine,
        &Choice {
            only: vec!["swappiness".into()],
            skip: vec![],
        },
    );
    assert_eq!(
        findings
            .iter()
            .map(|f| f.verdict.word())
            .collect::<Vec<_>>(),
        ["unknown"]
    );
    assert!(plan(&rooted, &findings).is_empty());
}

#[test]
fn both_spellings_of_random_sets_come_back_the_same() {
    // A fixed sequence: a failure is the same failure tomorrow.
    let mut random = 0x1234_5678_9abc_def1_u64;
    for _ in 0..500 {
        let mut cpus = Vec::new();
        for _ in 0..20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            cpus.push(u32::try_from(random % 300).unwrap());
        }
        let set: CpuSet = cpus.into_iter().collect();
        assert_eq!(CpuSet::from_list(&set.to_string()), Some(set.clone()));
        assert_eq!(CpuSet::from_mask(&set.to_mask()), Some(set));
    }
}
