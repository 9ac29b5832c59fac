//! `gramme dev`: a cluster to try things out, one child process a node, in a directory that goes away with it.
//!
//! Owns the children: starts them, has them form a cluster, says when one ends and how to start it again, stops all.
//!
//! # Layout
//! - `child`: one node's process and its configuration;
//! - `form`: joining, planning and committing through the nodes' own commands.

mod child;
mod form;

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{EXIT_FAILED, EXIT_USAGE, fail};
use child::{Child, Place};

/// How long a node may take to stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// Ports between the native ports of two nodes; a node's shards listen behind its own.
const PORTS_A_NODE: u16 = 10;
/// More nodes would meet the ports of others, and no machine to try things out on carries them.
const NODES_MAX: u16 = 20;

/// The flags.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Nodes, one child process each.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Where the data lies; without it a temporary directory, removed at exit.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// The first node's port of the Redis protocol.
    #[arg(long, default_value_t = 7379)]
    resp: u16,
    /// The first node's port of the native protocol.
    #[arg(long, default_value_t = 7400)]
    listen: u16,
    /// The first node's port of the admin HTTP server.
    #[arg(long, default_value_t = 7480)]
    admin: u16,
}

impl Args {
    /// Where a node is to be, or what is in the way.
    fn place(&self, node: u16) -> Result<Place, String> {
        let port = |first: u16, step: u16| {
            node.checked_mul(step)
                .and_then(|behind| first.checked_add(behind))
                .ok_or_else(|| {
                    format!("the ports of node {node} would lie behind 65535; choose lower ones")
                })
        };
        Ok(Place {
            node,
            nodes: self.nodes,
            resp: port(self.resp, 1)?,
            listen: port(self.listen, PORTS_A_NODE)?,
            admin: port(self.admin, 1)?,
            seed: (node > 0).then(|| format!("127.0.0.1:{}", self.listen)),
        })
    }
}

/// What the session waits for.
enum News {
    Line(u16, String),
    Ended(u16),
    Typed(String),
    Formed(Result<String, String>),
    Signal,
}

/// Runs until Ctrl-C, or until no node is left.
pub(crate) fn run(args: &Args) -> ExitCode {
    if args.nodes == 0 || args.nodes > NODES_MAX {
        return fail(
            EXIT_USAGE,
            format_args!("--nodes {}: 1 to {NODES_MAX} are possible", args.nodes),
        );
    }
    // Dropped, and so removed, after the nodes have ended.
    let (dir, _temporary) = match &args.dir {
        Some(dir) => (dir.clone(), None),
        None => match tempfile::Builder::new().prefix("gramme-dev-").tempdir() {
            Ok(temporary) => (temporary.path().to_path_buf(), Some(temporary)),
            Err(error) => {
                return fail(
                    EXIT_FAILED,
                    format_args!("cannot make a temporary directory: {error}; say one with --dir"),
                );
            }
        },
    };
    match Session::begin(args, &dir).and_then(Session::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => fail(EXIT_FAILED, what),
    }
}

struct Session<'a> {
    args: &'a Args,
    children: Vec<Child>,
    news: Sender<News>,
    told: Receiver<News>,
    is_forming: bool,
    is_told_to_stop: bool,
    /// How the last node ended that was not told to.
    failure: Option<String>,
}

impl<'a> Session<'a> {
    fn begin(args: &'a Args, dir: &Path) -> Result<Self, String> {
        let (news, told) = mpsc::channel();
        let mut signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|error| format!("cannot listen for signals: {error}"))?;
        let on_signal = news.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                let _ = on_signal.send(News::Signal);
            }
        });
        let on_typed = news.clone();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let _ = on_typed.send(News::Typed(line));
            }
        });
        let children = (0..args.nodes)
            .map(|node| Ok(Child::new(args.place(node)?, dir)))
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self {
            args,
            children,
            news,
            told,
            is_forming: false,
            is_told_to_stop: false,
            failure: None,
        })
    }

    fn run(mut self) -> Result<(), String> {
        for child in &mut self.children {
            child.start(&self.news)?;
        }
        let mut until: Option<Instant> = None;
        while self.children.iter().any(Child::is_running) {
            let message = match until {
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.told.recv_timeout(left)
                }
                None => self.told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(News::Signal) => {
                    self.is_told_to_stop = true;
                    until = Some(Instant::now() + STOP_WAIT);
                    for child in &self.children {
                        child.signal(Signal::TERM);
                    }
                }
                Ok(news) => self.take(news)?,
                Err(_) => {
                    for child in self.children.iter().filter(|child| child.is_running()) {
                        eprintln!(
                            "gramme: node {} did not stop within {} s; killing it",
                            child.node(),
                            STOP_WAIT.as_secs()
                        );
                        child.signal(Signal::KILL);
                    }
                    until = Some(Instant::now() + STOP_WAIT);
                }
            }
        }
        match self.failure {
            Some(failure) if !self.is_told_to_stop || self.args.nodes == 1 => Err(failure),
            Some(_) | None => Ok(()),
        }
    }

    fn take(&mut self, news: News) -> Result<(), String> {
        match news {
            News::Line(node, line) => self.line(node, &line),
            News::Ended(node) => self.ended(node)?,
            News::Typed(line) => self.typed(line.trim()),
            News::Formed(Ok(what)) => self.welcome(&what),
            News::Formed(Err(what)) => {
                eprintln!("gramme: {what}; the nodes run on, see gramme cluster status");
            }
            News::Signal => {}
        }
        Ok(())
    }

    fn line(&mut self, node: u16, line: &str) {
        let Some(child) = self.children.get_mut(usize::from(node)) else {
            return;
        };
        if !line.starts_with("ready ") {
            eprintln!("node {node}: {line}");
            return;
        }
        child.is_ready = true;
        println!("node {node} is {line}");
        if self.is_forming || !self.children.iter().all(|child| child.is_ready) {
            return;
        }
        self.is_forming = true;
        if self.args.nodes == 1 {
            self.welcome("");
            return;
        }
        let (news, nodes) = (self.news.clone(), self.args.nodes);
        let first = format!("127.0.0.1:{}", self.args.listen);
        std::thread::spawn(move || {
            let _ = news.send(News::Formed(form::form(&first, nodes)));
        });
    }

    fn ended(&mut self, node: u16) -> Result<(), String> {
        let Some(child) = self.children.get_mut(usize::from(node)) else {
            return Ok(());
        };
        let status = child.wait()?;
        let is_in_order = self.is_told_to_stop && status.success();
        if is_in_order {
            return Ok(());
        }
        self.failure = Some(format!(
            "node {node} ended ({status}); what it said is above"
        ));
        if !self.is_told_to_stop && self.args.nodes > 1 {
            eprintln!("node {node} ended ({status}); the others serve on");
            eprintln!("to start it again type: restart {node}");
            eprintln!("or in another terminal: {}", child.command_line());
        }
        Ok(())
    }

    fn typed(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match (
            words.next(),
            words.next().and_then(|word| word.parse::<u16>().ok()),
        ) {
            (None, _) => {}
            (Some("restart"), Some(node)) if node < self.args.nodes => self.restart(node),
            (Some("stop"), Some(node)) if node < self.args.nodes => {
                if let Some(child) = self.children.get(usize::from(node)) {
                    child.signal(Signal::TERM);
                }
            }
            (Some(_), _) => println!(
                "restart N starts node N again, stop N stops it (N from 0 to {}); Ctrl-C stops all",
                self.args.nodes - 1
            ),
        }
    }

    fn restart(&mut self, node: u16) {
        let Some(child) = self.children.get_mut(usize::from(node)) else {
            return;
        };
        if child.is_running() {
            println!("node {node} runs; stop {node} stops it");
            return;
        }
        if let Err(what) = child.start(&self.news) {
            eprintln!("gramme: {what}");
        }
    }

    fn welcome(&self, formed: &str) {
        if !formed.is_empty() {
            println!("{formed}");
        }
        let (args, last) = (self.args, self.children.last());
        println!("try   redis-cli -p {} set greeting hello", args.resp);
        let other = last.map_or(args.resp, |child| child.place().resp);
        println!("then  redis-cli -p {other} get greeting");
        if args.nodes > 1 {
            println!(
                "and   gramme cluster status --node 127.0.0.1:{}",
                args.listen
            );
        }
        println!(
            "console: http://127.0.0.1:{0}/  health and counters: http://127.0.0.1:{0}/health http://127.0.0.1:{0}/status",
            args.admin
        );
        if args.nodes > 1 {
            println!("kill any node, the others serve on; restart N starts node N again");
        }
        println!(
            "Ctrl-C stops {}{}",
            if args.nodes > 1 { "all" } else { "it" },
            if args.dir.is_some() {
                ""
            } else {
                " and removes the data"
            }
        );
    }
}
