//! Nodes as processes: started, signalled, waited for; ended by their handles, also when an assertion fails.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gramme");
/// Longer than anything here takes on a busy machine.
pub(crate) const WAIT: Duration = Duration::from_secs(120);
pub(crate) const NODES: usize = 3;

/// Small segments and few partitions: a cluster forms in a few seconds.
const CONFIG: &str = "segment_bytes = 1048576\ncapacity_bytes = 536870912\nmemory_bytes = 33554432\nshards = 1\n\
                      partitions = 64\npin_to_cores = false\ninsecure = true\n";

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// So many ports in a row that are free now.
pub(crate) fn free_ports(host: &str, count: u16) -> u16 {
    for _ in 0..1_000 {
        let first = TcpListener::bind((host, 0)).expect("a port");
        let port = first.local_addr().expect("bound").port();
        let is_free = |behind: u16| {
            let port = port.checked_add(behind);
            port.is_some_and(|port| TcpListener::bind((host, port)).is_ok())
        };
        if (1..count).all(is_free) {
            return port;
        }
    }
    panic!("no {count} ports in a row are free");
}

/// One node: where it is, and its process while it runs.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) host: String,
    /// Native; the shard's own port is the next, then those of Redis and HTTP.
    pub(crate) port: u16,
    /// Where others reach its native port, if not there.
    pub(crate) advertised: Option<String>,
    pub(crate) data: PathBuf,
    config: PathBuf,
    pub(crate) process: Option<Child>,
}

impl Node {
    pub(crate) fn new(dir: &Path, name: &str, host: &str) -> Self {
        let config = dir.join(format!("{name}.toml"));
        fs::write(&config, CONFIG).expect("written");
        Self {
            name: name.to_owned(),
            host: host.to_owned(),
            port: free_ports(host, 4),
            advertised: None,
            data: dir.join(name),
            config,
            process: None,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn resp(&self) -> (String, u16) {
        (self.host.clone(), self.port + 2)
    }

    fn log(&self) -> PathBuf {
        self.config.with_extension("log")
    }

    /// What `gramme` is told to serve it.
    pub(crate) fn arguments(&self, seed: Option<&str>) -> Vec<String> {
        let at = |port: u16| format!("{}:{port}", self.host);
        let mut words = vec![
            "serve".into(),
            "--data".into(),
            self.data.display().to_string(),
        ];
        let mut say = |name: &str, value: String| words.extend([name.to_owned(), value]);
        say("--config", self.config.display().to_string());
        say("--listen", at(self.port));
        say("--resp", at(self.port + 2));
        say("--admin", at(self.port + 3));
        say("--name", self.name.clone());
        say("--zone", self.name.clone());
        if let Some(advertised) = &self.advertised {
            say("--advertise", advertised.clone());
        }
        if let Some(seed) = seed {
            say("--join", seed.to_owned());
        }
        words
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(&mut self, seed: Option<&str>) {
        let mut command = Command::new(PROGRAM);
        command.args(self.arguments(seed));
        self.start_as(command);
    }

    pub(crate) fn start_as(&mut self, mut command: Command) {
        let log = File::create(self.log()).expect("a log");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(command.spawn().expect("it starts"));
        until("a node that is ready", || {
            let said = self.said();
            let process = self.process.as_mut().expect("just started");
            let ended = process.try_wait().expect("ours");
            assert!(ended.is_none(), "{} ended at its start: {said}", self.name);
            said.lines().any(|line| line.starts_with("ready "))
        });
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> Pid {
        let process = self.process.as_ref().expect("it runs");
        Pid::from_raw(i32::try_from(process.id()).expect("a pid")).expect("a pid")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Ends it with a signal and waits for its end.
    pub(crate) fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let mut process = self.process.take().expect("it runs");
        until("the end of a process", || {
            process.try_wait().expect("ours").is_some()
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            if std::thread::panicking() {
                eprintln!("{} said: {}", self.name, self.said());
            }
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Three nodes, each in a zone of its own.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    _dir: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with("127.0.0.1", |_| {})
    }

    /// With nodes at this address, each changed before it starts.
    pub(crate) fn start_with(host: &str, mut change: impl FnMut(&mut Node)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut cluster = Self {
            nodes: Vec::new(),
            _dir: dir,
        };
        for number in 0..NODES {
            let mut node = Node::new(cluster._dir.path(), &format!("n{number}"), host);
            change(&mut node);
            let seed = cluster
                .nodes
                .first()
                .map(|node| node.advertised.clone().unwrap_or(node.address()));
            node.start(seed.as_deref());
            cluster.nodes.push(node);
        }
        until("two members, staged beside the first", || {
            cluster.status(0)["staged"].as_array().map_or(0, Vec::len) == NODES - 1
        });
        until("a plan", || cluster.command(0, &["plan"]).is_some());
        until("a commit", || cluster.command(0, &["commit"]).is_some());
        cluster.wait_whole();
        cluster
    }

    fn command(&self, node: usize, words: &[&str]) -> Option<Vec<u8>> {
        let output = Command::new(PROGRAM)
            .arg("cluster")
            .args(words)
            .args(["--node", &self.nodes[node].address()])
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        output.status.success().then_some(output.stdout)
    }

    fn status(&self, node: usize) -> serde_json::Value {
        let said = self
            .command(node, &["status", "--json"])
            .unwrap_or_default();
        serde_json::from_slice(&said).unwrap_or_default()
    }

    /// Waits until every node sees every member alive with all that it is to hold.
    pub(crate) fn wait_whole(&self) {
        for node in 0..NODES {
            until("a cluster that is whole", || {
                let status = self.status(node);
                let members = status["members"].as_array().cloned().unwrap_or_default();
                let is_whole = |member: &serde_json::Value| {
                    member["pending"] == 0 && member["held"] != 0 && member["is_alive"] == true
                };
                members.len() == NODES && members.iter().all(is_whole)
            });
        }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }
}
