//! Every fuzz target has a corpus in the tree and a program for cargo-fuzz, and its corpus holds.

use std::fs;
use std::path::Path;

use gramme_tests::fuzz::TARGETS;
use gramme_tests::fuzz::mutate::Mutator;

#[test]
fn every_target_holds_on_its_corpus_and_has_a_program() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).expect("reads");
    for target in &TARGETS {
        let name = target.name;
        let program = dir.join(format!("fuzz_targets/{name}.rs"));
        let program = fs::read_to_string(program).expect("a program for cargo-fuzz");
        assert!(
            program.contains(&format!("run(\"{name}\", input)")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let corpus = fs::read_dir(dir.join("corpus").join(name)).expect("a corpus");
        let mut inputs = 0;
        for entry in corpus.flatten() {
            (target.run)(&fs::read(entry.path()).expect("reads"));
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has an empty corpus");
    }
}

#[test]
fn a_seed_makes_the_same_mutants_again() {
    let corpus = [b"*1\r\n$4\r\nPING\r\n".to_vec(), vec![7; 40]];
    let (mut one, mut other) = (Mutator::new(5), Mutator::new(5));
    let mut distinct = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let mutant = one.next(&corpus);
        assert_eq!(mutant, other.next(&corpus));
        distinct.insert(mutant);
    }
    assert!(
        distinct.len() > 400,
        "only {} of 500 differ",
        distinct.len()
    );
}
