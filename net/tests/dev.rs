//! A local cluster as its users meet it: `gramme dev` forms one of three processes, `gramme cluster` looks at it, and any
//! of them may be killed and started again.
//!
//! Owns its processes: the parent is ended by its handle, also when an assertion fails, and the nodes end with it.

#![allow(missing_docs, reason = "tests")]

mod ports;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gramme");
/// Longer than anything here takes on a busy machine.
const WAIT: Duration = Duration::from_secs(180);

struct Dev {
    process: Child,
    typed: ChildStdin,
    said: Receiver<String>,
    /// All lines so far.
    lines: Vec<String>,
    resp: u16,
    listen: u16,
}

impl Dev {
    fn start(home: &std::path::Path) -> Self {
        let free = |count| ports::free_ports("127.0.0.1", count);
        Self::start_at(home, (free(3), free(30), free(3)))
    }

    fn start_at(home: &std::path::Path, (resp, listen, admin): (u16, u16, u16)) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["dev", "--resp", &resp.to_string()])
            .args(["--listen", &listen.to_string()])
            .args(["--admin", &admin.to_string()])
            .env("TMPDIR", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, said) = mpsc::channel();
        let typed = process.stdin.take().expect("piped");
        let outputs: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(process.stdout.take().expect("piped")),
            Box::new(process.stderr.take().expect("piped")),
        ];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            process,
            typed,
            said,
            lines: Vec::new(),
            resp,
            listen,
        }
    }

    /// The next line that has this in it. That a node ended, where that is not what is waited for, is the end of it.
    fn hears(&mut self, what: &str) -> String {
        let until = Instant::now() + WAIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let why = match self.said.recv_timeout(left) {
                Ok(line) => {
                    self.lines.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                    if !line.contains(" ended (") {
                        continue;
                    }
                    "a node ended"
                }
                Err(RecvTimeoutError::Timeout) => "too late",
                Err(RecvTimeoutError::Disconnected) => "it ended",
            };
            panic!("never said `{what}`, {why}:\n{}", self.lines.join("\n"));
        }
    }

    /// How it ends.
    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.process.try_wait().expect("asked") {
                return status;
            }
            let said = self.lines.join("\n");
            assert!(Instant::now() < until, "it does not stop:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn redis(&self, node: u16, words: &[&str]) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.resp + node)).expect("it listens");
        stream.set_read_timeout(Some(WAIT)).expect("a timeout");
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        (&stream).write_all(command.as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("answered");
        if line.starts_with('$') && !line.starts_with("$-") {
            line.clear();
            reader.read_line(&mut line).expect("answered");
        }
        line.trim_end().to_owned()
    }

    /// `gramme cluster` with these words, at a node.
    fn cluster(&self, node: u16, words: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(PROGRAM)
            .arg("cluster")
            .args(words)
            .args(["--node", &format!("127.0.0.1:{}", self.listen + 10 * node)])
            .output()
            .expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into())
    }

    fn status(&self, node: u16) -> serde_json::Value {
        let (code, said) = self.cluster(node, &["status", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(&said).expect("JSON")
    }

    fn wait_until_alive(&self, node: u16, alive: usize) {
        let until = Instant::now() + WAIT;
        loop {
            let status = self.status(node);
            let members = status["members"].as_array().expect("members");
            let found = members
                .iter()
                .filter(|member| member["is_alive"] == true)
                .count();
            if (found, members.len()) == (alive, 3) {
                return;
            }
            assert!(Instant::now() < until, "never {alive} alive: {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process of a node, as it was said when it was ready.
    fn pid(&self, node: u16) -> u32 {
        let ready = format!("node {node} is ready");
        let said = self.lines.iter().rev().find(|line| line.contains(&ready));
        let said = said.expect("it was ready");
        let pid = said
            .split_whitespace()
            .find_map(|word| word.strip_prefix("pid="));
        pid.expect("a pid").parse().expect("a number")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .expect("kill is there");
    assert!(sent.success());
}

#[test]
fn three_nodes_form_a_cluster_that_survives_any_of_them() {
    let home = tempfile::tempdir().expect("a directory");
    let mut dev = Dev::start(home.path());
    dev.hears("a cluster of 3 nodes");
    dev.hears("Ctrl-C stops all");
    assert_eq!(dev.redis(0, &["SET", "greeting", "hello"]), "+OK");
    assert_eq!(dev.redis(2, &["GET", "greeting"]), "hello");

    // What operators see and do, and how it ends.
    let (code, text) = dev.cluster(1, &["status"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("node-2") && text.contains("layout 2"),
        "{text}"
    );
    let (code, text) = dev.cluster(2, &["ring"]);
    assert_eq!(
        (code, text.contains("1024 partitions of 3")),
        (Some(0), true),
        "{text}"
    );
    let (code, text) = dev.cluster(0, &["commit"]);
    assert_eq!(
        (code, text.contains("nothing is planned")),
        (Some(3), true),
        "{text}"
    );
    let (code, text) = dev.cluster(0, &["leave", "nobody"]);
    assert_eq!(
        (code, text.contains("no node `nobody`")),
        (Some(3), true),
        "{text}"
    );
    let (code, text) = dev.cluster(0, &["buckets", "b", "--n", "2", "--w", "3"]);
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = dev.cluster(0, &["buckets", "b", "--ttl-ms", "5000"]);
    assert_eq!((code, text.contains("5000")), (Some(0), true), "{text}");

    for killed in [1, 2] {
        signal(dev.pid(killed), "KILL");
        let said = dev.hears(&format!("node {killed} ended"));
        assert!(said.contains("serve on"), "{said}");
        let command = dev.hears("gramme serve --data");
        assert!(
            command.contains(&format!("--name node-{killed}")),
            "{command}"
        );
        dev.wait_until_alive(0, 2);
        let key = format!("k{killed}");
        assert_eq!(dev.redis(3 - killed, &["SET", &key, "v"]), "+OK");
        writeln!(dev.typed, "restart {killed}").expect("typed");
        dev.hears(&format!("node {killed} is ready"));
        dev.wait_until_alive(0, 3);
        assert_eq!(dev.redis(0, &["GET", &key]), "v");
    }

    // A port that somebody else took meanwhile: that it takes long is said, then why it ended; the others serve on.
    signal(dev.pid(2), "KILL");
    dev.hears("node 2 ended");
    let taken = bind_soon(dev.resp + 2);
    writeln!(dev.typed, "restart 2").expect("typed");
    dev.hears("trying for");
    let said = dev.hears("node 2 is not ready after");
    assert!(
        said.contains("is in use") && said.contains("/health: "),
        "{said}"
    );
    let said = dev.hears("node 2 ended");
    assert!(said.contains("is in use; stop what uses it"), "{said}");
    assert!(said.contains("the others serve on"), "{said}");
    drop(taken);
    writeln!(dev.typed, "restart 2").expect("typed");
    dev.hears("node 2 is ready");

    // As `timeout -s INT` sends it: to the process, and to its group at once.
    signal(dev.process.id(), "INT");
    signal(dev.process.id(), "INT");
    let status = dev.end();
    assert!(status.success(), "{status}");
    let left = std::fs::read_dir(home.path()).expect("there").count();
    assert_eq!(left, 0, "the directory is removed");
}

/// The port of a node that was killed, as soon as the kernel has ended its sockets.
fn bind_soon(port: u16) -> TcpListener {
    let until = Instant::now() + WAIT;
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(bound) => return bound,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_node_that_cannot_start_ends_it_and_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let free = |count| ports::free_ports("127.0.0.1", count);
    let (resp, listen, admin) = (free(3), free(30), free(3));
    let _taken = TcpListener::bind(("127.0.0.1", admin + 1)).expect("free");
    let mut dev = Dev::start_at(home.path(), (resp, listen, admin));
    let said = dev.hears("gramme: node 1 ended before it was ready");
    assert!(
        said.contains(&format!(
            "the admin address 127.0.0.1:{} is in use",
            admin + 1
        )),
        "{said}"
    );
    assert_eq!(dev.end().code(), Some(3));
    let left = std::fs::read_dir(home.path()).expect("there").count();
    assert_eq!(left, 0, "the directory is removed");
}
