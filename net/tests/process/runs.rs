//! A node's run: what is there after it, what it says of itself meanwhile, and what does not begin at all.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::node::{Client, Node, PROGRAM, refused, serve, two_ports, wait};
use crate::ports;

#[test]
fn what_was_durable_survives_kill_and_what_was_buffered_a_clean_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &["--durability", "one"]);
    let mut client = node.client();
    assert_eq!(client.command(&["PING"]), "+PONG");
    for key in 0..200 {
        assert_eq!(
            client.command(&["SET", &format!("durable:{key}"), &format!("value {key}")]),
            "+OK"
        );
    }
    assert_eq!(client.command(&["DEL", "durable:7"]), ":1");
    node.signal("KILL");
    let (status, _) = node.wait();
    assert!(!status.success());

    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    for key in (0..200).filter(|key| *key != 7) {
        assert_eq!(
            client.command(&["GET", &format!("durable:{key}")]),
            format!("value {key}")
        );
    }
    assert_eq!(client.command(&["GET", "durable:7"]), "$-1");
    assert_eq!(client.command(&["SET", "buffered", "kept"]), "+OK");
    node.signal("TERM");
    let (status, said) = node.wait();
    assert!(
        status.success(),
        "a clean stop is a success: {status} {said}"
    );
    assert_eq!(said, "", "a clean stop says nothing");

    let node = Node::start(dir.path(), &[]);
    assert_eq!(node.client().command(&["GET", "buffered"]), "kept");
    assert_eq!(node.client().command(&["DBSIZE"]), ":200");
}

#[test]
fn the_admin_server_tells_how_the_node_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &["--name", "first", "--durability", "one"]);
    let mut client = node.client();
    assert_eq!(client.command(&["SET", "a", "1"]), "+OK");
    assert_eq!(client.command(&["GET", "a"]), "1");
    assert!(node.http("/health").starts_with("HTTP/1.1 200"));
    let metrics = node.http("/metrics");
    assert!(
        metrics.contains("\ngramme_puts_total{shard=\"0\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\ngramme_keys{shard=\"0\"} 1\n"),
        "{metrics}"
    );
    // Both requests came in some turn; one waited for its commit.
    for (stage, requests) in [("turn", 2), ("commit", 1), ("replicas", 0)] {
        let told = format!("_seconds_count{{shard=\"0\",stage=\"{stage}\"}} {requests}\n");
        assert!(metrics.contains(&told), "{told} in {metrics}");
    }
    let status = node.http("/status");
    let (_, body) = status.split_once("\r\n\r\n").expect("a body");
    let status: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(status["name"], "first");
    assert_eq!(status["is_serving"], true);
    assert_eq!(status["shards"][0]["counters"]["keys"], 1);
    let commit = &status["shards"][0]["latency"]["commit"];
    assert_eq!(commit["requests"], 1);
    let us = |name: &str| commit[name].as_u64().expect("a time");
    assert!(
        us("p50_us") > 0 && us("p50_us") == us("p999_us"),
        "{commit}"
    );
    assert_eq!(status["network"]["connections"], 1);
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let other = tempfile::tempdir().expect("a directory");

    let (code, said) = refused(serve(dir.path(), &[]));
    assert_eq!((code, said.lines().count()), (Some(3), 1), "{said}");
    assert!(
        said.contains(&format!("in use by process {}", node.process.id())),
        "{said}"
    );

    let mut taken = Command::new(PROGRAM);
    taken
        .arg("serve")
        .arg("--data")
        .arg(other.path())
        .args(["--resp", &node.resp.to_string()]);
    let (code, said) = refused({
        taken.stderr(Stdio::piped());
        taken
    });
    // The line before it says why it takes some seconds.
    assert_eq!((code, said.lines().count()), (Some(3), 2), "{said}");
    assert!(
        said.contains("trying for")
            && said.contains("--resp")
            && said.contains(&node.resp.to_string()),
        "{said}"
    );
    assert!(
        std::fs::read_dir(other.path())
            .expect("there")
            .next()
            .is_none(),
        "nothing was made"
    );

    let file = other.path().join("gramme.toml");
    std::fs::write(&file, "memory_byte = 5\n").expect("written");
    let (code, said) = refused(serve(
        &other.path().join("data"),
        &["--config", file.to_str().expect("text")],
    ));
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("did you mean `memory_bytes`"), "{said}");

    let (code, said) = refused(serve(other.path(), &["--join", "nowhere"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("HOST:PORT"), "{said}");
}

#[test]
fn a_local_node_to_try_things_out_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a directory");
    // It has a shard for each core, and a port for each shard.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = u16::try_from(cores).expect("few");
    let native = ports::free_ports("127.0.0.1", 1 + shards);
    let (resp, admin) = (two_ports(), two_ports());
    let mut process = Command::new(PROGRAM)
        .args([
            "dev",
            "--nodes",
            "1",
            "--listen",
            &native.to_string(),
            "--resp",
            &resp.to_string(),
            "--admin",
            &admin.to_string(),
        ])
        .env("TMPDIR", home.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut said = BufReader::new(process.stdout.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("text");
    assert!(line.starts_with("node 0 is ready"), "{line}");
    let stream = TcpStream::connect(("127.0.0.1", resp)).expect("it listens");
    assert_eq!(
        Client(BufReader::new(stream)).command(&["SET", "a", "b"]),
        "+OK"
    );
    assert!(
        std::fs::read_dir(home.path())
            .expect("there")
            .next()
            .is_some()
    );
    // Twice at once, as `timeout -s INT` sends it: to the process and to its group.
    let pid = process.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid, &pid]).status();
    assert!(sent.expect("kill is there").success());
    assert!(wait(&mut process).success());
    assert!(
        std::fs::read_dir(home.path())
            .expect("there")
            .next()
            .is_none(),
        "the directory is removed"
    );
    assert!(
        TcpStream::connect(("127.0.0.1", resp)).is_err(),
        "the node has ended"
    );
}
