//! `gramme get`, `put` and `del` as a script uses them: output, JSON and exit codes.

#[path = "../examples/node/mod.rs"]
mod node;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

struct Shell {
    address: String,
    node: node::Node,
    _directory: tempfile::TempDir,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let failures = self.node.engine.failures();
        if !failures.is_empty() {
            eprintln!("shards failed: {failures:?}");
        }
    }
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl Shell {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let node = node::start(&directory.path().join("data"), 1).expect("started");
        Self {
            address: node.address.to_string(),
            node,
            _directory: directory,
        }
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, b"")
    }

    fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gramme"))
            .args(args)
            .args(["--node", &self.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut input = child.stdin.take().expect("piped");
        // A command that does not read its input may have ended already.
        let _ = input.write_all(stdin);
        drop(input);
        let output = child.wait_with_output().expect("ended");
        Ended {
            code: output.status.code().expect("not killed"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

#[test]
fn a_value_goes_in_and_comes_out() {
    let shell = Shell::new();
    assert_eq!(shell.run(&["get", "k"]).code, 1, "not found");
    assert_eq!(shell.run(&["put", "k", "value"]).code, 0);
    let got = shell.run(&["get", "k"]);
    assert_eq!((got.code, got.out.as_str()), (0, "value\n"));
    shell.run_with(&["put", "k", "-"], b"from standard input");
    assert_eq!(shell.run(&["get", "k"]).out, "from standard input\n");
    assert_eq!(shell.run(&["del", "k"]).code, 0);
    assert_eq!(shell.run(&["get", "k"]).code, 1);
}

#[test]
fn siblings_are_exit_code_4_until_a_write_saw_them() {
    let shell = Shell::new();
    let first = shell.run(&["put", "k", "0", "--json"]).json();
    let context = first["context"].as_str().expect("has one").to_string();
    for value in ["a", "b"] {
        let written = shell.run(&["put", "k", value, "--context", &context]);
        assert_eq!(written.code, 0, "{}", written.err);
    }
    let got = shell.run(&["get", "k"]);
    assert_eq!((got.code, got.out.as_str()), (4, "b\n"));
    assert!(
        got.err.contains("--context"),
        "says what to do: {}",
        got.err
    );
    let all = shell.run(&["get", "k", "--all"]);
    assert_eq!((all.code, all.out.as_str()), (4, "b\na\n"));
    let seen = shell.run(&["get", "k", "--json"]).json();
    assert_eq!(seen["values"], serde_json::json!(["b", "a"]));
    let context = seen["context"].as_str().expect("has one");
    shell.run(&["put", "k", "merged", "--context", context]);
    let got = shell.run(&["get", "k"]);
    assert_eq!((got.code, got.out.as_str()), (0, "merged\n"));
}

#[test]
fn the_receipt_tells_what_is_on_stable_media() {
    let shell = Shell::new();
    let written = shell.run(&["put", "k", "v", "--durability", "one", "--json"]);
    let receipt = &written.json()["receipt"];
    assert_eq!(receipt["on_stable_media"], 1);
    assert_eq!(receipt["replicas"], 1);
    let got = shell.run(&["get", "k", "--json"]).json();
    assert_eq!(got["found"], true);
    assert!(got["receipt"]["total_us"].is_u64());
}

#[test]
fn bytes_that_are_not_text_are_base64_in_json() {
    let shell = Shell::new();
    shell.run_with(&["put", "k"], &[0xff, 0]);
    let got = shell.run(&["get", "k", "--json"]).json();
    assert_eq!(got["encoding"], "base64");
    assert_eq!(got["values"], serde_json::json!(["/wA="]));
}

#[test]
fn errors_say_what_to_do_and_have_their_exit_codes() {
    let shell = Shell::new();
    for (args, code, expected) in [
        (vec!["put", "k", "v", "--bucket", "nowhere"], 3, "bucket"),
        (vec!["get", "k", "--bucket", "nowhere"], 3, "bucket"),
        (vec!["put", "k", "v", "--n", "1", "--w", "2"], 2, "exceed"),
        (vec!["put", "k", "v", "--zones", "2"], 3, "and 1 can"),
        (vec!["get", "k", "--zones", "2"], 3, "and 1 can"),
        (vec!["put", "k", "v", "--context", "!"], 2, "not a context"),
        (
            vec!["put", "k", "v", "--context", "AAAA"],
            3,
            "not a context",
        ),
        (vec!["get", "k", "--deadline", "5"], 2, "100ms"),
        (vec!["get"], 2, "KEY"),
    ] {
        let ended = shell.run(&args);
        assert_eq!(ended.code, code, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(expected), "{args:?}: {}", ended.err);
    }
    let nobody = Command::new(env!("CARGO_BIN_EXE_gramme"))
        .args(["get", "k", "--node", "127.0.0.1:1"])
        .output()
        .expect("ended");
    assert_eq!(nobody.status.code(), Some(3));
    let err = String::from_utf8_lossy(&nobody.stderr);
    assert!(
        err.contains("127.0.0.1:1") && err.contains("running"),
        "{err}"
    );
}
