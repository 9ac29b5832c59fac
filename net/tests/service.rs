//! A node under a service manager: what it is told, and when.

#![allow(missing_docs, reason = "tests")]

mod ports;

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than any start or stop takes on a busy machine.
const WAIT: Duration = Duration::from_secs(30);
const WATCHDOG_US: u64 = 1_000_000;

/// Ends its process, also when an assertion fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port with a free one behind it, for the one shard.
fn two_ports() -> u16 {
    ports::free_ports("127.0.0.1", 2)
}

fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let length = socket.recv(&mut bytes).expect("told in time");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn systemd_hears_of_readiness_life_and_the_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(WAIT)).expect("settable");
    let port = two_ports();
    let node = Command::new(env!("CARGO_BIN_EXE_gramme"))
        .args(["serve", "--shards", "1", "--memory", "33554432", "--data"])
        .arg(dir.path().join("data"))
        .args(["--resp", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", WATCHDOG_US.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut node = Ended(node);
    assert_eq!(heard(&socket), "READY=1");
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(heard(&socket), "WATCHDOG=1");
    }
    assert!(
        begun.elapsed() >= Duration::from_micros(WATCHDOG_US / 2),
        "not more often than it is asked"
    );
    let told = Command::new("kill").arg(node.0.id().to_string()).status();
    assert!(told.expect("kill is there").success());
    let last = loop {
        match heard(&socket).as_str() {
            "WATCHDOG=1" => {}
            other => break other.to_owned(),
        }
    };
    assert_eq!(last, "STOPPING=1");
    let until = Instant::now() + WAIT;
    while node.0.try_wait().expect("ours").is_none() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}
