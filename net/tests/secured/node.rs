//! A node as a process: its configuration, where it is, what it says.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::ports::free_ports;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gramme");
/// Longer than anything here takes on a busy machine.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs the program to its end.
pub(crate) fn run(words: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(words).envs(environment.iter().copied());
    command.output().expect("it runs")
}

/// What a command said where it says that something is wrong.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One node of one shard; the ports of Redis and HTTP follow the shard's own.
pub(crate) struct Node {
    dir: PathBuf,
    pub(crate) host: String,
    pub(crate) port: u16,
    process: Child,
}

impl Node {
    /// Starts a node in this directory with this configuration behind what any node here has.
    pub(crate) fn start(dir: &Path, config: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_at(dir, "127.0.0.1", config, environment)
    }

    /// The same, on this address.
    pub(crate) fn start_at(
        dir: &Path,
        host: &str,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let port = free_ports(host, 4);
        let text = format!(
            "data = '{}'\nlisten = '{host}:{port}'\nresp = '{host}:{}'\nadmin = '{host}:{}'\nshards = 1\n\
             memory_bytes = 33554432\nsegment_bytes = 1048576\ncapacity_bytes = 268435456\npartitions = 64\n\
             pin_to_cores = false\n{config}",
            dir.join("data").display(),
            port + 2,
            port + 3,
        );
        fs::create_dir_all(dir).expect("made");
        fs::write(dir.join("gramme.toml"), text).expect("written");
        let mut node = Self {
            dir: dir.to_path_buf(),
            host: host.to_owned(),
            port,
            process: spawn(dir, environment),
        };
        node.wait_until_ready();
        node
    }

    /// Kills it, and starts it again where it was.
    pub(crate) fn kill_and_start(&mut self, between: impl FnOnce()) {
        self.process.kill().expect("it ran");
        self.process.wait().expect("ours");
        between();
        self.process = spawn(&self.dir, &[]);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        until("a node that is ready", || {
            let ended = self.process.try_wait().expect("ours");
            assert!(ended.is_none(), "it ended: {}", self.said());
            self.said().lines().any(|line| line.starts_with("ready "))
        });
    }

    /// All that it said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub(crate) fn native(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn resp(&self) -> String {
        format!("{}:{}", self.host, self.port + 2)
    }

    pub(crate) fn admin(&self) -> String {
        format!("{}:{}", self.host, self.port + 3)
    }

    /// Says something on a connection of its own to the Redis port, and returns the answer's first line.
    pub(crate) fn redis(&self) -> Redis<TcpStream> {
        Redis(connect(&self.resp()))
    }

    /// An HTTP request without TLS, and the answer.
    pub(crate) fn http(&self, request: &str) -> String {
        let mut stream = connect(&self.admin());
        stream.write_all(request.as_bytes()).expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill is there").success());
        let ended = self.process.wait().expect("ours");
        assert!(
            ended.success(),
            "{ended} {:?}: {}",
            ended.signal(),
            self.said()
        );
        self.said()
    }
}

/// Its process; what it says goes to a log of its own.
fn spawn(dir: &Path, environment: &[(&str, &str)]) -> Child {
    let log = fs::File::create(dir.join("log")).expect("a log");
    Command::new(PROGRAM)
        .args(["serve", "--config"])
        .arg(dir.join("gramme.toml"))
        .env("GRAMME_LOG", "debug")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts")
}

impl Drop for Node {
    fn drop(&mut self) {
        // It has ended already where a test ended it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection that does not wait for ever.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(WAIT)).expect("settable");
    stream
}

/// A client of the Redis protocol over whatever carries it.
pub(crate) struct Redis<S>(pub(crate) S);

impl<S: std::io::Read + std::io::Write> Redis<S> {
    /// The first line of the answer, or the value.
    pub(crate) fn say(&mut self, line: &str) -> String {
        self.0
            .write_all(format!("{line}\r\n").as_bytes())
            .expect("taken");
        let first = self.line();
        match first.strip_prefix('$') {
            Some("-1") | None => first,
            Some(_) => self.line(),
        }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("an answer");
            line.extend_from_slice(&byte);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("text")
    }
}
