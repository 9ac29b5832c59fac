//! What the program does beside a node: looks at one, reads and writes its keys, verifies, exports and imports directories.

use std::path::Path;
use std::process::Command;

use crate::node::{Node, PROGRAM};

#[test]
fn top_shows_what_a_node_does_and_fails_where_none_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    assert_eq!(client.command(&["SET", "shown", "1"]), "+OK");
    let top = |admin: &str, how: &str| {
        Command::new(PROGRAM)
            .args(["top", "--admin", admin, "--every", "0.1", how])
            .output()
            .expect("it runs")
    };
    let admin = node.admin.to_string();
    let told: serde_json::Value =
        serde_json::from_slice(&top(&admin, "--json").stdout).expect("JSON");
    let shown = &told["nodes"][0];
    assert_eq!(shown["keys"], serde_json::json!(1), "{told}");
    assert_eq!(shown["is_serving"], serde_json::json!(true), "{told}");
    let text = String::from_utf8(top(&admin, "--once").stdout).expect("text");
    assert!(text.contains("serving"), "{text}");
    drop(node);
    let failed = top(&admin, "--once");
    assert_eq!(failed.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&failed.stderr).contains(&admin));
}

#[test]
fn the_program_reads_and_writes_keys_of_a_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let run = |words: &[&str]| {
        let command = Command::new(PROGRAM)
            .args(words)
            .args(["--node", &node.native.to_string()])
            .output();
        let output = command.expect("the program starts");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text"),
        )
    };
    assert_eq!(run(&["get", "k"]).0, Some(1));
    assert_eq!(run(&["put", "k", "over the native protocol"]).0, Some(0));
    assert_eq!(
        run(&["get", "k"]),
        (Some(0), "over the native protocol\n".to_owned())
    );
    assert_eq!(
        node.client().command(&["GET", "k"]),
        "over the native protocol"
    );
    assert_eq!(run(&["del", "k"]).0, Some(0));
    assert_eq!(run(&["get", "k"]).0, Some(1));
}

#[test]
fn damage_is_found_and_named_and_a_sound_directory_verifies() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &["--durability", "one"]);
    let mut client = node.client();
    for key in 0..50 {
        assert_eq!(
            client.command(&["SET", &format!("k{key}"), &"needle".repeat(100)]),
            "+OK"
        );
    }
    node.signal("TERM");
    assert!(node.wait().0.success());
    let data = |what: &str| {
        let output = Command::new(PROGRAM)
            .args(["data", what, "--json"])
            .arg(dir.path())
            .output();
        let output = output.expect("the program starts");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), said)
    };
    let (code, sound) = data("verify");
    assert_eq!(
        (code, &sound["is_sound"], &sound["records"]),
        (Some(0), &true.into(), &50.into()),
        "{sound}"
    );
    let (code, stat) = data("stat");
    assert_eq!(
        (code, &stat["shards"][0]["records"]),
        (Some(0), &50.into()),
        "{stat}"
    );

    let shard = dir.path().join("shard-0");
    let segments = std::fs::read_dir(&shard)
        .expect("there")
        .map(|entry| entry.expect("readable").path());
    let damaged = segments
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .any(|path| {
            let mut bytes = std::fs::read(&path).expect("readable");
            let Some(at) = bytes
                .windows(12)
                .position(|window| window == b"needleneedle")
            else {
                return false;
            };
            bytes[at + 3] ^= 1;
            std::fs::write(&path, bytes).expect("writable");
            true
        });
    assert!(damaged, "the values are in the log");
    let (code, said) = data("verify");
    assert_eq!(
        (
            code,
            said["damage"].as_array().map(Vec::len),
            &said["records"]
        ),
        (Some(3), Some(1), &49.into()),
        "{said}"
    );

    // An export has all the rest, names what is missing, and fails: also when it goes on after an interruption.
    let file = dir.path().join("keys");
    for more in [&[][..], &["--resume"]] {
        let output = Command::new(PROGRAM)
            .args(["data", "export", "--to"])
            .arg(&file)
            .args(more)
            .arg(dir.path())
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        let text = std::fs::read_to_string(&file).expect("text");
        let keys = text.lines().filter(|line| !line.starts_with("{\"cursor\""));
        assert_eq!(keys.count(), 49, "{said}");
        let named = said.lines().filter(|line| line.contains("cannot be read;"));
        assert_eq!(named.count(), usize::from(more.is_empty()), "{said}");
    }
}

#[test]
fn an_export_imported_elsewhere_has_every_value_sibling_and_time() {
    let home = tempfile::tempdir().expect("a directory");
    let config = home.path().join("gramme.toml");
    std::fs::write(&config, "[buckets.carts]\nblind_put = \"sibling\"\n").expect("written");
    let config = config.to_str().expect("text");
    let (first, second, file) = (
        home.path().join("first"),
        home.path().join("second"),
        home.path().join("keys"),
    );
    let node = Node::start(&first, &["--config", config]);
    let mut client = node.client();
    for key in 0..1000 {
        assert_eq!(
            client.command(&["SET", &format!("k{key}"), &format!("v{key}")]),
            "+OK"
        );
    }
    assert_eq!(
        client.command(&["SET", "later", "gone", "EX", "5000"]),
        "+OK"
    );
    for value in ["apple", "pear"] {
        let put = Command::new(PROGRAM)
            .args([
                "put",
                "cart",
                value,
                "--bucket",
                "carts",
                "--node",
                &node.native.to_string(),
            ])
            .output();
        assert!(put.expect("the program starts").status.success());
    }
    node.signal("TERM");
    assert!(node.wait().0.success());

    let data = |words: &[&str], dir: &Path| {
        let output = Command::new(PROGRAM)
            .arg("data")
            .args(words)
            .args(["--config", config])
            .arg(dir)
            .output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        said
    };
    let file = file.to_str().expect("text");
    let said = data(&["export", "--to", file], &first);
    assert!(said.contains("1002 keys exported"), "{said}");
    let whole = std::fs::read(file).expect("readable");
    // As an interruption would leave it: in the middle of a line.
    std::fs::write(file, &whole[..whole.len() * 2 / 3]).expect("writable");
    data(&["export", "--to", file, "--resume"], &first);
    // Pages may be cut elsewhere; the keys are the same, each once.
    let keys = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let lines = text.lines().filter(|line| !line.starts_with("{\"cursor\""));
        let mut keys: Vec<String> = lines.map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    };
    let resumed = std::fs::read(file).expect("readable");
    let (resumed, whole) = (keys(&resumed), keys(&whole));
    assert!(
        resumed == whole,
        "{} and {} keys",
        resumed.len(),
        whole.len()
    );
    let said = data(&["import", "--from", file], &second);
    assert!(said.contains("1002 keys imported"), "{said}");

    let node = Node::start(&second, &["--config", config]);
    let mut client = node.client();
    assert_eq!(client.command(&["DBSIZE"]), ":1002", "of all buckets");
    for key in 0..1000 {
        assert_eq!(
            client.command(&["GET", &format!("k{key}")]),
            format!("v{key}")
        );
    }
    let left: i64 = client
        .command(&["TTL", "later"])
        .trim_start_matches(':')
        .parse()
        .expect("seconds");
    assert!((4900..=5000).contains(&left), "{left}");
    let found = Command::new(PROGRAM)
        .args([
            "get",
            "cart",
            "--bucket",
            "carts",
            "--all",
            "--node",
            &node.native.to_string(),
        ])
        .output()
        .expect("the program starts");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("apple") && found.contains("pear"), "{found}");
}
