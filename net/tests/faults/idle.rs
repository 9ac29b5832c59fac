//! Ten thousand connections that say nothing, while others are served.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::alone;
use crate::cluster::{Node, until};
use crate::full::Redis;

const IDLE: usize = 10_000;

#[test]
fn ten_thousand_idle_connections_are_kept_while_others_are_served() {
    let _alone = alone();
    let needed = IDLE as u64 + 500;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        eprintln!(
            "skipped: {needed} file descriptors are needed, {:?} are allowed",
            limit.maximum
        );
        return;
    }
    let raised = Rlimit {
        current: limit.maximum.or(Some(needed)),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum");

    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::new(dir.path(), "n0", "127.0.0.1");
    node.start(None);
    let begun = Instant::now();
    let mut idle: Vec<TcpStream> = (0..IDLE)
        .map(|number| {
            TcpStream::connect(node.resp())
                .unwrap_or_else(|error| panic!("connection {number}: {error}"))
        })
        .collect();
    let opened = begun.elapsed();
    let mut redis = Redis::connect(&node);
    let (mut acknowledged, mut longest) = (0, Duration::ZERO);
    for number in 0..2_000_u32 {
        let (key, value) = (format!("k{}", number % 100), number.to_string());
        let asked = Instant::now();
        assert_eq!(
            redis.command(&[b"SET", key.as_bytes(), value.as_bytes()]),
            b"+OK"
        );
        assert_eq!(redis.command(&[b"GET", key.as_bytes()]), value.as_bytes());
        longest = longest.max(asked.elapsed());
        acknowledged += 2;
    }
    until("all of them are accepted", || {
        let info = redis.command(&[b"INFO", b"clients"]);
        let info = String::from_utf8_lossy(&info).into_owned();
        let connected = info
            .lines()
            .find_map(|line| line.strip_prefix("connected_clients:"));
        connected.and_then(|count| count.trim().parse::<usize>().ok()) == Some(IDLE + 1)
    });
    // They were idle, not gone.
    for stream in idle.iter_mut().step_by(97) {
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("settable");
        stream.write_all(b"PING\r\n").expect("taken");
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"+PONG\r\n");
    }
    eprintln!(
        "record idle: connections {IDLE} opened in {opened:.1?}, operations {acknowledged}, acknowledged {acknowledged}, \
         faults 0, longest pair {longest:.1?}, lost 0"
    );
}
