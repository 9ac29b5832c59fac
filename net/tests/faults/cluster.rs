//! Nodes as processes: started, signalled, waited for; ended by their handles, also when an assertion fails.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) use crate::ports::free_ports;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gramme");
/// Longer than anything here takes on a busy machine.
pub(crate) const WAIT: Duration = Duration::from_secs(120);
pub(crate) const NODES: usize = 3;

/// Small segments and few partitions: a cluster forms in a few seconds.
const CONFIG: &str = "segment_bytes = 1048576\ncapacity_bytes = 536870912\nmemory_bytes = 33554432\n\
                      partitions = 64\npin_to_cores = false\ninsecure = true\n";
/// What a node can be started with here; their ports follow the native one.
const SHARDS_MAX: u16 = 3;

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One node: where it is, and its process while it runs.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) host: String,
    /// Native; the shards' own ports are the next, then those of Redis and HTTP.
    pub(crate) port: u16,
    pub(crate) shards: u16,
    /// Where others reach its native port, if not there.
    pub(crate) advertised: Option<String>,
    pub(crate) data: PathBuf,
    config: PathBuf,
    /// Set for it alone.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) process: Option<Child>,
}

impl Node {
    pub(crate) fn new(dir: &Path, name: &str, host: &str) -> Self {
        let config = dir.join(format!("{name}.toml"));
        fs::write(&config, CONFIG).expect("written");
        Self {
            name: name.to_owned(),
            host: host.to_owned(),
            port: free_ports(host, SHARDS_MAX + 3),
            shards: 1,
            advertised: None,
            data: dir.join(name),
            config,
            environment: Vec::new(),
            process: None,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn resp(&self) -> (String, u16) {
        (self.host.clone(), self.port + SHARDS_MAX + 1)
    }

    pub(crate) fn admin(&self) -> (&str, u16) {
        (&self.host, self.port + SHARDS_MAX + 2)
    }

    fn log(&self) -> PathBuf {
        self.config.with_extension("log")
    }

    /// What `gramme` is told to serve it.
    pub(crate) fn arguments(&self, seed: Option<&str>) -> Vec<String> {
        let at = |(host, port): (&str, u16)| format!("{host}:{port}");
        let mut words = vec![
            "serve".into(),
            "--data".into(),
            self.data.display().to_string(),
        ];
        let mut say = |name: &str, value: String| words.extend([name.to_owned(), value]);
        say("--config", self.config.display().to_string());
        say("--listen", self.address());
        say("--resp", at((&self.host, self.resp().1)));
        say("--admin", at(self.admin()));
        say("--shards", self.shards.to_string());
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
            .envs(self.environment.iter().cloned())
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

    /// The answer of its admin server: the status code, and the body.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.admin());
        let mut stream = stream.expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("settable");
        let asked = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.host);
        stream.write_all(asked.as_bytes()).expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (code.expect("a status code"), body.to_owned())
    }

    /// The sum over its shards of one of the counters of its status page.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let (_, page) = self.page("/status");
        let page: serde_json::Value = serde_json::from_str(&page).unwrap_or_default();
        let shards = page["shards"].as_array().cloned().unwrap_or_default();
        let counted = shards
            .iter()
            .map(|shard| shard["counters"][name].as_u64().expect("a counter"));
        counted.sum()
    }

    /// What `gramme` says to a command that is given to this node; none where it fails.
    pub(crate) fn command(&self, words: &[&str]) -> Option<Vec<u8>> {
        let output = Command::new(PROGRAM)
            .arg("cluster")
            .args(words)
            .args(["--node", &self.address()])
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        output.status.success().then_some(output.stdout)
    }

    /// Its status of the cluster.
    pub(crate) fn status(&self) -> serde_json::Value {
        let said = self.command(&["status", "--json"]).unwrap_or_default();
        serde_json::from_slice(&said).unwrap_or_default()
    }

    /// The members of its cluster, as it sees them.
    pub(crate) fn members(&self) -> Vec<serde_json::Value> {
        let members = self.status()["members"].clone();
        members.as_array().cloned().unwrap_or_default()
    }

    /// Its clock is wrong by as many milliseconds as this file says, from its next start on.
    pub(crate) fn set_clock(&mut self, by_ms: &Path) {
        let path = by_ms.display().to_string();
        self.environment = vec![("GRAMME_TEST_CLOCK".into(), path)];
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
    pub(crate) fn start_with(host: &str, change: impl FnMut(&mut Node)) -> Self {
        Self::start_of(NODES, host, change)
    }

    /// The same with so many.
    pub(crate) fn start_of(nodes: usize, host: &str, mut change: impl FnMut(&mut Node)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut cluster = Self {
            nodes: Vec::new(),
            _dir: dir,
        };
        for number in 0..nodes {
            let mut node = Node::new(cluster._dir.path(), &format!("n{number}"), host);
            change(&mut node);
            let seed = cluster
                .nodes
                .first()
                .map(|node| node.advertised.clone().unwrap_or(node.address()));
            node.start(seed.as_deref());
            cluster.nodes.push(node);
        }
        until("all members, staged beside the first", || {
            cluster.nodes[0].status()["staged"]
                .as_array()
                .map_or(0, Vec::len)
                == nodes - 1
        });
        until("a plan", || cluster.nodes[0].command(&["plan"]).is_some());
        until("a commit", || {
            cluster.nodes[0].command(&["commit"]).is_some()
        });
        cluster.wait_whole();
        cluster
    }

    /// Waits until every node sees every member alive with all that it is to hold.
    pub(crate) fn wait_whole(&self) {
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            self.wait_whole_to(node);
        }
    }

    fn wait_whole_to(&self, node: &Node) {
        let begun = Instant::now();
        loop {
            let status = node.status();
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let is_whole = |member: &serde_json::Value| {
                member["pending"] == 0 && member["held"] != 0 && member["is_alive"] == true
            };
            if members.len() == self.nodes.len() && members.iter().all(is_whole) {
                return;
            }
            let is_late = begun.elapsed() > WAIT;
            assert!(!is_late, "never whole to {}: {status}", node.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts one more, which joins and is staged.
    pub(crate) fn add(&mut self, name: &str) {
        self.add_with(name, |_| {});
    }

    /// The same, changed before it starts.
    pub(crate) fn add_with(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        self.add_as(name, |node, seed| {
            change(node);
            let mut command = Command::new(PROGRAM);
            command.args(node.arguments(Some(seed)));
            Some(command)
        });
    }

    /// The same, started by a command of one's own; not at all without one.
    pub(crate) fn add_as(
        &mut self,
        name: &str,
        command: impl FnOnce(&mut Node, &str) -> Option<Command>,
    ) {
        let first = &self.nodes[0];
        let seed = first.advertised.clone().unwrap_or(first.address());
        let mut node = Node::new(self._dir.path(), name, &first.host);
        let Some(command) = command(&mut node, &seed) else {
            return;
        };
        node.start_as(command);
        self.nodes.push(node);
        until("a new node that is known", || {
            let members = self.nodes[0].members();
            members.iter().any(|member| member["name"] == name)
        });
    }

    /// What is staged is planned and committed.
    pub(crate) fn commit(&self) {
        let first = &self.nodes[0];
        until("a plan", || first.command(&["plan"]).is_some());
        assert!(first.command(&["commit"]).is_some(), "{}", first.status());
    }

    /// A new node takes the places of an old one, and is waited for until it has everything.
    pub(crate) fn replace(&mut self, old: &str, new: &str) {
        self.add(new);
        assert!(self.nodes[0].command(&["replace", old, new]).is_some());
        self.commit();
        until("a new node with everything", || {
            let members = self.nodes[0].members();
            members.iter().any(|member| {
                member["name"] == new && member["pending"] == 0 && member["held"] == 64
            })
        });
    }

    /// A node that has left, or was replaced, is removed for good, as soon as that is allowed.
    pub(crate) fn remove(&self, name: &str, how: &str) {
        until("an end of its membership", || {
            self.nodes[0].command(&["leave", name, how]).is_some()
        });
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }
}
