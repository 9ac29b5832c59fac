//! A node as a process of the built program, and what speaks to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::ports;

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_gramme");
/// Longer than any start or stop takes on a busy machine.
pub(super) const WAIT: Duration = Duration::from_secs(30);

pub(super) struct Node {
    pub(super) process: Child,
    pub(super) said: BufReader<ChildStderr>,
    pub(super) resp: SocketAddr,
    pub(super) native: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// A port with a free one behind it, for the one shard.
pub(super) fn two_ports() -> u16 {
    ports::free_ports("127.0.0.1", 2)
}

pub(super) fn serve(dir: &Path, more: &[&str]) -> Command {
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
    pub(super) fn start(dir: &Path, more: &[&str]) -> Self {
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

    pub(super) fn client(&self) -> Client {
        let stream = TcpStream::connect(self.resp).expect("it listens");
        stream.set_read_timeout(Some(WAIT)).expect("settable");
        Client(BufReader::new(stream))
    }

    pub(super) fn http(&self, path: &str) -> String {
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

    pub(super) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .expect("kill is there");
        assert!(sent.success());
    }

    /// After a signal: how it ended, and what it said since it was ready.
    pub(super) fn wait(mut self) -> (ExitStatus, String) {
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

pub(super) fn wait(process: &mut Child) -> ExitStatus {
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
pub(super) fn refused(mut command: Command) -> (Option<i32>, String) {
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

pub(super) struct Client(pub(super) BufReader<TcpStream>);

impl Client {
    pub(super) fn command(&mut self, words: &[&str]) -> String {
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
