//! The architecture as a test: what ARCHITECTURE.md says of the tree is true of its text.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_path_buf()
}

fn rust_files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("lists").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("reads");
            found.push((path, text));
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    let name = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    ["_tests", "_props", "_bench"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
        || path
            .components()
            .any(|part| part.as_os_str().to_string_lossy().ends_with("_tests"))
}

/// The text before the first test module, without comments.
fn code(text: &str) -> String {
    let before = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    before
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_core_touches_nothing() {
    let core = root().join("engine/core/src");
    let lib = fs::read_to_string(core.join("lib.rs")).expect("reads");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
    let banned = [
        "Instant::now",
        "SystemTime",
        "std::net",
        "std::fs",
        "std::thread",
        "tokio",
        "glommio",
        "HashMap",
        "HashSet",
        "async fn",
    ];
    for (path, text) in rust_files(&core).iter().filter(|(path, _)| !is_test(path)) {
        for word in banned {
            assert!(!code(text).contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn a_module_of_the_core_imports_only_from_those_above_it() {
    let core = root().join("engine/core/src");
    let lib = fs::read_to_string(core.join("lib.rs")).expect("reads");
    let order: Vec<String> = lib
        .lines()
        .filter_map(|line| {
            line.strip_prefix("pub mod ")?
                .strip_suffix(';')
                .map(str::to_owned)
        })
        .collect();
    assert!(order.len() >= 6, "{order:?}");
    for (position, module) in order.iter().enumerate() {
        for (path, text) in rust_files(&core.join(module))
            .iter()
            .filter(|(path, _)| !is_test(path))
        {
            for below in &order[position + 1..] {
                let import = format!("crate::{below}::");
                assert!(
                    !code(text).contains(&import),
                    "{} imports {import} from below",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn imports_go_from_net_to_runtime_to_core_and_never_back() {
    let manifest =
        |package: &str| fs::read_to_string(root().join(package).join("Cargo.toml")).expect("reads");
    assert!(!manifest("engine/core").contains("gramme-engine"));
    let net_of_runtime = manifest("engine/runtime")
        .lines()
        .any(|line| line.starts_with("gramme ="));
    assert!(!net_of_runtime, "the engine does not know the network");
    assert!(
        !manifest("tuning").contains("gramme-core"),
        "the tuner stands alone"
    );
}

#[test]
fn nothing_is_pretended() {
    let this = Path::new(file!()).file_name().expect("a name").to_owned();
    for (path, text) in rust_files(&root()) {
        let is_ours = !path
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("target"));
        if is_ours && path.file_name() != Some(&this) {
            for word in ["todo!(", "unimplemented!(", "dbg!("] {
                assert!(!text.contains(word), "{} has {word}", path.display());
            }
        }
    }
}
