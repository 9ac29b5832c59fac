//! The built program as its users meet it: started, spoken to, killed, started again, refused.
//!
//! Owns its processes: each is ended by its handle, also when an assertion fails. Ports are the system's choice.

#![allow(missing_docs, reason = "tests")]

mod ports;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gramme");
/// Longer than any start or stop takes on a busy machine.
const WAIT: Duration = Duration::from_secs(30);

struct Node {
    process: Child,
    said: BufReader<ChildStderr>,
    resp: SocketAddr,
    native: SocketAddr,
    admin: SocketAddr,
}

/// A port with a free one behind it, for the one shard.
fn two_ports() -> u16 {
    ports::free_ports("127.0.0.1", 2)
}

fn serve(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg("serve")
        .arg("--data")
        .arg(dir)
        .args(["--shards", "1", "--memory", "33554432"]);
    command.args(["--resp", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--listen", &format!("127.0.0.1:{}", two_ports())]);
    command
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Node {
    #[expect(
        clippy::zombie_processes,
        reason = "its handle, or the panic that ends the test, ends it"
    )]
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut process = serve(dir, more).spawn().expect("the program starts");
        let mut said = BufReader::new(process.stderr.take().expect("piped"));
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                said.read_line(&mut line).expect("readable"),
                0,
                "it ended without being ready: {all}"
            );
            if let Some(ready) = line.trim().strip_prefix("ready ") {
                let address = |name: &str| {
                    let said = ready.split(' ').find_map(|word| word.strip_prefix(name));
                    said.expect("named").parse().expect("an address")
                };
                let (resp, native, admin) =
                    (address("resp="), address("native="), address("admin="));
                return Self {
                    process,
                    said,
                    resp,
                    native,
                    admin,
                };
            }
            all += &line;
        }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.resp).expect("it listens");
        stream.set_read_timeout(Some(WAIT)).expect("settable");
        Client(BufReader::new(stream))
    }

    fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("it listens");
        stream.set_read_timeout(Some(WAIT)).expect("settable");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: gramme\r\nConnection: close\r\n\r\n"
        )
        .expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .expect("kill is there");
        assert!(sent.success());
    }

    /// After a signal: how it ended, and what it said since it was ready.
    fn wait(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.process);
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("text");
        (status, rest)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It has ended already where a test ended it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait(process: &mut Child) -> ExitStatus {
    let until = Instant::now() + WAIT;
    loop {
        if let Some(status) = process.try_wait().expect("ours") {
            return status;
        }
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs to the end: the exit code and what was said on stderr.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let mut process = command.spawn().expect("the program starts");
    let status = wait(&mut process);
    let mut said = String::new();
    process
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    (status.code(), said)
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn command(&mut self, words: &[&str]) -> String {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(bytes.as_bytes()).expect("taken");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        let line = line.trim_end();
        let Some(bytes) = line
            .strip_prefix('$')
            .and_then(|bytes| bytes.parse::<usize>().ok())
        else {
            return line.to_owned();
        };
        let mut value = vec![0; bytes + 2];
        self.0.read_exact(&mut value).expect("the value");
        value.truncate(bytes);
        String::from_utf8(value).expect("text")
    }
}

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
