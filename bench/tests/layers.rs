//! The order of the modules is a rule: each imports from those before it, never from those after, and the workload
//! does no I/O, so that simulator and tests may share it.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules in the order of the `mod` lines of `lib.rs`.
fn order() -> Vec<String> {
    let text = fs::read_to_string(root().join("lib.rs")).expect("lib.rs");
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("pub mod ")?
                .strip_suffix(';')
                .map(str::to_owned)
        })
        .collect()
}

#[test]
fn no_module_imports_from_a_later_one() {
    let order = order();
    assert!(order.len() > 5);
    for (place, module) in order.iter().enumerate() {
        let mut files = Vec::new();
        sources(&root().join(module), &mut files);
        for file in files
            .iter()
            .filter(|file| !file.to_string_lossy().contains("test"))
        {
            let text = fs::read_to_string(file).expect("readable");
            for later in &order[place + 1..] {
                assert!(
                    !text.contains(&format!("crate::{later}::")),
                    "{} imports from {later}, which comes after {module}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_workload_does_no_input_or_output() {
    let mut files = Vec::new();
    sources(&root().join("workload"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        for forbidden in ["std::fs", "std::net", "std::io", "std::time", "std::thread"] {
            assert!(
                !text.contains(forbidden),
                "{} uses {forbidden}",
                file.display()
            );
        }
    }
}
