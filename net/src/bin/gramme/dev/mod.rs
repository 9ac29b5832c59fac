//! `gramme dev`: a cluster to try things out, one child process a node, in a directory that goes away with it.
//!
//! Owns the children: starts them, has them form a cluster, says when one ends or is late and how to start it again, stops
//! all.
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

use crate::signals::{Asked, on_asked};
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
    Asked(Asked),
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
        Ok(code) => code,
        Err(what) => fail(EXIT_FAILED, what),
    }
}

struct Session<'a> {
    args: &'a Args,
    children: Vec<Child>,
    news: Sender<News>,
    told: Receiver<News>,
    is_forming: bool,
    /// When nodes that are to stop are killed.
    kill_at: Option<Instant>,
    /// By what it was asked to end, the last time.
    asked: Option<Asked>,
    /// Why it ends without having been asked to, or did not end in order.
    failure: Option<String>,
}

impl<'a> Session<'a> {
    fn begin(args: &'a Args, dir: &Path) -> Result<Self, String> {
        let (news, told) = mpsc::channel();
        let on_signal = news.clone();
        on_asked(move |asked| {
            let _ = on_signal.send(News::Asked(asked));
        })
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
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
            kill_at: None,
            asked: None,
            failure: None,
        })
    }

    fn run(mut self) -> Result<ExitCode, String> {
        for child in &mut self.children {
            child.start(&self.news)?;
        }
        while self.children.iter().any(Child::is_running) {
            let news = match self.next_deadline() {
                Some(at) => self
                    .told
                    .recv_timeout(at.saturating_duration_since(Instant::now())),
                None => self.told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if let Ok(news) = news {
                self.take(news)?;
            }
            self.look();
        }
        match (self.failure, self.asked) {
            (Some(failure), _) => Err(failure),
            (None, Some(asked)) if asked.is_again => Ok(ExitCode::from(asked.exit_code())),
            (None, _) => Ok(ExitCode::SUCCESS),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self.kill_at {
            Some(at) => Some(at),
            None => self.children.iter().filter_map(Child::late_at).min(),
        }
    }

    /// Does what is due.
    fn look(&mut self) {
        let now = Instant::now();
        let Some(kill_at) = self.kill_at else {
            let late = |child: &&mut Child| child.late_at().is_some_and(|at| at <= now);
            for child in self.children.iter_mut().filter(late) {
                child.say_late(now);
            }
            return;
        };
        if now < kill_at {
            return;
        }
        for child in self.children.iter().filter(|child| child.is_running()) {
            self.failure = Some(format!(
                "node {} did not stop within {} s and was killed",
                child.node(),
                STOP_WAIT.as_secs()
            ));
            child.signal(Signal::KILL);
        }
        self.kill_at = Some(now + STOP_WAIT);
    }

    fn stop(&mut self, signal: Signal) {
        self.kill_at = Some(Instant::now() + STOP_WAIT);
        for child in &self.children {
            child.signal(signal);
        }
    }

    fn asked(&mut self, asked: Asked) {
        // Nodes that ended before are no failure of what ends now.
        self.failure = None;
        self.asked = Some(asked);
        if asked.is_again {
            eprintln!("gramme: asked twice; killing the nodes");
            self.stop(Signal::KILL);
        } else {
            self.stop(Signal::TERM);
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
            News::Asked(asked) => self.asked(asked),
        }
        Ok(())
    }

    fn line(&mut self, node: u16, line: &str) {
        let Some(child) = self.children.get_mut(usize::from(node)) else {
            return;
        };
        if !line.starts_with("ready ") {
            eprintln!("node {node}: {line}");
            child.said(line);
            return;
        }
        child.is_ready = true;
        let pid = child
            .pid()
            .map_or(String::new(), |pid| format!(" pid={pid}"));
        println!("node {node} is {line}{pid}");
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
        let how = child.wait()?;
        if self.kill_at.is_some() {
            // By a signal ends what was killed, or was told to stop before it listened for that.
            if how.code().is_some_and(|code| code != 0) && self.failure.is_none() {
                self.failure = Some(format!(
                    "node {node} did not stop in order ({how}){}",
                    child.last_words()
                ));
            }
            return Ok(());
        }
        if self.args.nodes == 1 {
            self.failure = Some(format!("node {node} ended ({how}){}", child.last_words()));
        } else if !self.is_forming {
            // Without all of them there is no cluster to begin with, and nobody may be there to type anything.
            self.failure = Some(format!(
                "node {node} ended before it was ready ({how}){}",
                child.last_words()
            ));
            self.stop(Signal::TERM);
        } else {
            self.failure = Some(format!(
                "the last node ended, node {node} ({how}){}",
                child.last_words()
            ));
            eprintln!(
                "node {node} ended ({how}){}; the others serve on",
                child.last_words()
            );
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
            println!(
                "kill any node (kill -9 its pid), the others serve on; restart N starts node N again"
            );
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
