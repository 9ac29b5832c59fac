//! A faulty network between the nodes, and before them: bytes late, changed, and connections cut. What was changed is
//! refused, and nothing wrong is stored.
//!
//! Frames carry checksums where they cross machines, so the test runs itself in a network namespace with an address that is
//! not the loopback's: every node says that it is reached at its proxy.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use gramme_core::port::Durability;

use crate::cluster::{Cluster, free_ports};
use crate::full::Redis;
use crate::load::{Load, value_of};
use crate::{alone, is_long};

const INSIDE: &str = "GRAMME_FAULTS_INSIDE";
const HOST: &str = "10.98.0.1";

pub(crate) const PASS: u8 = 0;
const DELAY: u8 = 1;
const CORRUPT: u8 = 2;
pub(crate) const CUT: u8 = 3;

/// What it does, and what it did.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) mode: AtomicU8,
    corrupted: AtomicU64,
    pub(crate) cut: AtomicU64,
}

/// Hands a port's connections on to another.
pub(crate) fn hand_on(host: &'static str, (from, to): (u16, u16), faults: &Arc<Faults>) {
    let listener = TcpListener::bind((host, from)).expect("a free port");
    let faults = Arc::clone(faults);
    std::thread::spawn(move || {
        for opened in listener.incoming().flatten() {
            let Ok(target) = TcpStream::connect((host, to)) else {
                continue;
            };
            let pairs = [(&opened, &target), (&target, &opened)];
            for (source, sink) in pairs {
                if let (Ok(source), Ok(sink)) = (source.try_clone(), sink.try_clone()) {
                    let faults = Arc::clone(&faults);
                    std::thread::spawn(move || carry(source, sink, &faults));
                }
            }
        }
    });
}

fn carry(mut source: TcpStream, mut sink: TcpStream, faults: &Faults) {
    let mut buffer = vec![0; 16 << 10];
    let mut count = 0_usize;
    while let Ok(bytes) = source.read(&mut buffer) {
        if bytes == 0 {
            break;
        }
        count += 1;
        match faults.mode.load(Ordering::Relaxed) {
            DELAY => std::thread::sleep(Duration::from_millis(30)),
            CORRUPT if count.is_multiple_of(40) => {
                // Anywhere: in a header, in a key, in an object.
                buffer[count * 7919 % bytes] ^= 1 << (count % 8);
                faults.corrupted.fetch_add(1, Ordering::Relaxed);
            }
            CUT if count.is_multiple_of(40) => {
                faults.cut.fetch_add(1, Ordering::Relaxed);
                // The rest of a frame never comes.
                let _ = sink.write_all(&buffer[..bytes / 2]);
                break;
            }
            _ => {}
        }
        if sink.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    // The other direction ends by this, too.
    let _ = (
        source.shutdown(Shutdown::Both),
        sink.shutdown(Shutdown::Both),
    );
}

/// Runs this test's inner half in a namespace; `None` where there are none.
fn inside(test: &str) -> Option<bool> {
    let name = format!("grmf{}", std::process::id());
    let ip = |words: &str| {
        let mut command = Command::new("ip");
        command
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let is_made = ip(&format!("netns add {name}"))
        && ip(&format!("-n {name} link set lo up"))
        && ip(&format!("-n {name} addr add {HOST}/32 dev lo"));
    let passed = is_made.then(|| {
        let this = std::env::current_exe().expect("a test's own program");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name]).arg(this);
        command
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .stdin(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    ip(&format!("netns del {name}"));
    passed
}

#[test]
fn bytes_that_change_between_nodes_are_refused_and_nothing_wrong_is_stored() {
    if std::env::var_os(INSIDE).is_none() {
        let _alone = alone();
        match inside(
            "proxy::bytes_that_change_between_nodes_are_refused_and_nothing_wrong_is_stored",
        ) {
            None => eprintln!("skipped: no network namespaces here (root and `ip` are needed)"),
            Some(passed) => assert!(passed, "see above"),
        }
        return;
    }
    let faults = Arc::new(Faults::default());
    let cluster = Cluster::start_with(HOST, |node| {
        let proxy = free_ports(HOST, 2);
        node.advertised = Some(format!("{HOST}:{proxy}"));
        hand_on(HOST, (proxy, node.port), &faults);
        hand_on(HOST, (proxy + 1, node.port + 1), &faults);
    });
    let load = Load::start(&cluster, "proxy", Durability::Buffered);
    let seconds = if is_long() { 20 } else { 2 };
    for mode in [DELAY, CORRUPT, CUT] {
        faults.mode.store(mode, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(seconds));
    }
    faults.mode.store(PASS, Ordering::Relaxed);
    cluster.wait_whole();
    let (corrupted, cut) = (
        faults.corrupted.load(Ordering::Relaxed),
        faults.cut.load(Ordering::Relaxed),
    );
    let record = load.finish(&cluster, ("proxy", corrupted + cut));
    // What each node alone has: a reader of several would not show every copy.
    let mut wrong = Vec::new();
    for node in &cluster.nodes {
        let mut redis = Redis::connect(node);
        assert_eq!(redis.command(&[b"DYN.OPT", b"R", b"1"]), b"+OK");
        for key in &record.keys {
            let held = redis.command(&[b"GET", key.as_bytes()]);
            if held != b"$-1" && held != value_of(key) {
                wrong.push(format!(
                    "{key} at {}: {}",
                    node.name,
                    String::from_utf8_lossy(&held)
                ));
            }
        }
    }
    eprintln!("  {corrupted} pieces were changed, {cut} connections cut");
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(corrupted > 0, "nothing was changed");
    assert!(cut > 0, "nothing was cut");
    assert!(record.acknowledged > 100, "{record}");
}
