//! One node of `gramme dev`: its configuration, its process, and what it says.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use gramme::secret::{ADMIN_TOKEN_VARIABLE, PASSWORD_VARIABLE};
use rustix::process::{Pid, Signal, kill_process};

use super::News;

/// Several nodes share a machine: what each may take.
const MEMORY_BYTES: u64 = 128 << 20;
const CAPACITY_BYTES: u64 = 8 << 30;
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long a node may take to be ready before that is said; then it is said again after twice as long, and so on.
const LATE_AFTER: Duration = Duration::from_secs(5);

/// Where a node is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) node: u16,
    pub(super) nodes: u16,
    pub(super) resp: u16,
    pub(super) listen: u16,
    pub(super) admin: u16,
    /// The node that it joins.
    pub(super) seed: Option<String>,
}

/// A node and its process, when it runs.
pub(super) struct Child {
    place: Place,
    data: PathBuf,
    config: PathBuf,
    process: Option<std::process::Child>,
    /// Whether it has said so, in this run of it.
    pub(super) is_ready: bool,
    started_at: Instant,
    /// When it will be late, after it was started.
    late_after: Duration,
    /// What it said last, but that it is ready.
    last_said: String,
}

impl Child {
    pub(super) fn new(place: Place, dir: &Path) -> Self {
        Self {
            data: dir.join(format!("node-{}", place.node)),
            config: dir.join(format!("node-{}.toml", place.node)),
            place,
            process: None,
            is_ready: false,
            started_at: Instant::now(),
            late_after: LATE_AFTER,
            last_said: String::new(),
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn node(&self) -> u16 {
        self.place.node
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Its process, for whoever wants to kill it.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(std::process::Child::id)
    }

    pub(super) fn said(&mut self, line: &str) {
        line.clone_into(&mut self.last_said);
    }

    /// What it said last, to go behind how it ended.
    pub(super) fn last_words(&self) -> String {
        match self.last_said.as_str() {
            "" => String::new(),
            said => format!(": {said}"),
        }
    }

    /// When it is to be said that it is not ready yet.
    pub(super) fn late_at(&self) -> Option<Instant> {
        (self.is_running() && !self.is_ready).then(|| self.started_at + self.late_after)
    }

    /// Says that it is not ready yet, and what it says of itself.
    pub(super) fn say_late(&mut self, now: Instant) {
        let passed = now.duration_since(self.started_at);
        self.late_after = passed * 2;
        let (node, admin) = (self.place.node, self.place.admin);
        let said = self.last_words();
        // Its server may take as long as it likes.
        std::thread::spawn(move || {
            let why = health(admin).unwrap_or_else(|error| format!("no answer, {error}"));
            eprintln!(
                "node {node} is not ready after {} s{said} (http://127.0.0.1:{admin}/health: {why})",
                passed.as_secs()
            );
        });
    }

    /// Its arguments, as a person would type them.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["serve".to_owned()];
        let mut flag = |name: &str, value: String| {
            arguments.push(format!("--{name}"));
            arguments.push(value);
        };
        let place = &self.place;
        flag("data", self.data.display().to_string());
        if place.nodes > 1 {
            flag("config", self.config.display().to_string());
        }
        flag("resp", format!("127.0.0.1:{}", place.resp));
        flag("listen", format!("127.0.0.1:{}", place.listen));
        flag("admin", format!("127.0.0.1:{}", place.admin));
        if place.nodes > 1 {
            flag("name", format!("node-{}", place.node));
            flag("zone", format!("z{}", place.node % 3));
        }
        if let Some(seed) = &place.seed {
            flag("join", seed.clone());
        }
        arguments
    }

    /// What starts it in another terminal.
    pub(super) fn command_line(&self) -> String {
        let quoted = |argument: String| {
            let is_plain = argument
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_./:".contains(letter));
            if is_plain {
                argument
            } else {
                format!("'{}'", argument.replace('\'', r"'\''"))
            }
        };
        let arguments: Vec<String> = self.arguments().into_iter().map(quoted).collect();
        format!("gramme {}", arguments.join(" "))
    }

    /// What several nodes on one machine need said: small files, a part of the memory, and no core of their own.
    fn write_config(&self) -> Result<(), String> {
        let shards = std::thread::available_parallelism().map_or(1, usize::from)
            / usize::from(self.place.nodes);
        let mut text = String::new();
        // The shards' ports lie between two nodes' native ports.
        let _ = writeln!(text, "shards = {}", shards.clamp(1, 8));
        let _ = writeln!(text, "pin_to_cores = false");
        let _ = writeln!(text, "memory_bytes = {MEMORY_BYTES}");
        let _ = writeln!(text, "capacity_bytes = {CAPACITY_BYTES}");
        let _ = writeln!(text, "segment_bytes = {SEGMENT_BYTES}");
        std::fs::create_dir_all(self.config.parent().unwrap_or(Path::new(".")))
            .and_then(|()| std::fs::write(&self.config, text))
            .map_err(|error| format!("cannot write {}: {error}", self.config.display()))
    }

    pub(super) fn start(&mut self, news: &Sender<News>) -> Result<(), String> {
        let node = self.place.node;
        let own = std::env::current_exe()
            .map_err(|error| format!("cannot find where gramme itself lies: {error}"))?;
        if self.place.nodes > 1 {
            self.write_config()?;
        }
        let mut process = Command::new(own)
            .args(self.arguments())
            .arg("--ends-with-parent")
            // Nodes to try things out ask nobody for a password.
            .env_remove(PASSWORD_VARIABLE)
            .env_remove(ADMIN_TOKEN_VARIABLE)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C comes to this process, which then stops the nodes in order.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start node {node}: {error}"))?;
        let Some(said) = process.stderr.take() else {
            return Err(format!("node {node} has no stderr"));
        };
        self.process = Some(process);
        self.is_ready = false;
        self.started_at = Instant::now();
        self.late_after = LATE_AFTER;
        self.last_said.clear();
        let news = news.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let _ = news.send(News::Line(node, line));
            }
            let _ = news.send(News::Ended(node));
        });
        Ok(())
    }

    /// Its process has ended: how.
    pub(super) fn wait(&mut self) -> Result<ExitStatus, String> {
        let node = self.place.node;
        let mut process = self
            .process
            .take()
            .ok_or_else(|| format!("node {node} does not run"))?;
        process
            .wait()
            .map_err(|error| format!("cannot learn how node {node} ended: {error}"))
    }

    pub(super) fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else { return };
        let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = kill_process(pid, signal) {
            eprintln!(
                "gramme: node {} cannot be told to stop: {error}",
                self.place.node
            );
        }
    }
}

/// What a node's admin server says of its health.
fn health(admin: u16) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
    let body = crate::admin::get(address, "/health", None)?;
    Ok(body.split_whitespace().collect::<Vec<_>>().join(" "))
}
