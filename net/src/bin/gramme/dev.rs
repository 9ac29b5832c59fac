//! `gramme dev`: a node to try things out, a child process, in a directory that goes away with it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{EXIT_FAILED, EXIT_USAGE, fail};

/// How long a node may take to stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// The flags.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Nodes, one child process each.
    #[arg(long, default_value_t = 1)]
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

enum News {
    Line(String),
    NodeEnded,
    Signal,
}

/// Runs until Ctrl-C, or until the node ends.
pub(crate) fn run(args: &Args) -> ExitCode {
    if args.nodes != 1 {
        return fail(
            EXIT_USAGE,
            format_args!(
                "--nodes {}: clusters of more than one node are not there yet; use --nodes 1",
                args.nodes
            ),
        );
    }
    // Dropped, and so removed, after the node has ended.
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
    match session(args, &dir.join("node-0")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => fail(EXIT_FAILED, what),
    }
}

fn session(args: &Args, data: &std::path::Path) -> Result<(), String> {
    let (news, told) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let on_signal = news.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let _ = on_signal.send(News::Signal);
        }
    });
    let mut node = start(args, data, news)?;
    let mut is_told_to_stop = false;
    loop {
        let message = if is_told_to_stop {
            told.recv_timeout(STOP_WAIT).ok()
        } else {
            told.recv().ok()
        };
        match message {
            Some(News::Line(line)) if line.starts_with("ready ") => welcome(args, &line),
            Some(News::Line(line)) => eprintln!("node 0: {line}"),
            Some(News::Signal) => {
                is_told_to_stop = true;
                signal(&node, Signal::TERM);
            }
            Some(News::NodeEnded) => break,
            None => {
                eprintln!(
                    "gramme: node 0 did not stop within {} s; killing it",
                    STOP_WAIT.as_secs()
                );
                signal(&node, Signal::KILL);
                break;
            }
        }
    }
    let status = node
        .wait()
        .map_err(|error| format!("cannot learn how node 0 ended: {error}"))?;
    if is_told_to_stop && status.success() {
        Ok(())
    } else {
        Err(format!("node 0 ended ({status}); what it said is above"))
    }
}

fn start(args: &Args, data: &std::path::Path, news: Sender<News>) -> Result<Child, String> {
    let own = std::env::current_exe()
        .map_err(|error| format!("cannot find where gramme itself lies: {error}"))?;
    let mut node = Command::new(own)
        .arg("serve")
        .arg("--data")
        .arg(data)
        .arg("--ends-with-parent")
        .args(["--resp", &format!("127.0.0.1:{}", args.resp)])
        .args(["--listen", &format!("127.0.0.1:{}", args.listen)])
        .args(["--admin", &format!("127.0.0.1:{}", args.admin)])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C comes to this process, which then stops the node in order.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start node 0: {error}"))?;
    let Some(said) = node.stderr.take() else {
        return Err("node 0 has no stderr".into());
    };
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            let _ = news.send(News::Line(line));
        }
        let _ = news.send(News::NodeEnded);
    });
    Ok(node)
}

fn signal(node: &Child, signal: Signal) {
    let Some(pid) = i32::try_from(node.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    if let Err(error) = kill_process(pid, signal) {
        eprintln!("gramme: node 0 cannot be told to stop: {error}");
    }
}

fn welcome(args: &Args, line: &str) {
    println!("node 0 is {line}");
    println!("try   redis-cli -p {} set greeting hello", args.resp);
    println!("then  redis-cli -p {} get greeting", args.resp);
    println!(
        "health and counters: http://127.0.0.1:{0}/health http://127.0.0.1:{0}/status",
        args.admin
    );
    println!(
        "Ctrl-C stops it{}",
        if args.dir.is_some() {
            ""
        } else {
            " and removes its data"
        }
    );
}
