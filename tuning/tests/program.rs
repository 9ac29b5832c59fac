//! Runs the program on a tree.

use crate::trees::Fake;
use std::process::Command;

pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn run(words: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_gramme-tune"))
        .args(words)
        .output()
        .expect("the program starts");
    Run {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Runs a command with `--root` of that tree.
pub(crate) fn on(tree: &Fake, command: &str, words: &[&str]) -> Run {
    let root = tree.root().to_string_lossy().into_owned();
    run(&[&[command, "--root", &root], words].concat())
}
