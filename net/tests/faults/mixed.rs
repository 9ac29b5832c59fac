//! Nodes of two releases in one cluster, and a rolling restart from the one to the other and back.
//!
//! There is no newer release yet, so a proxy before each node makes one: what a *newer* node says to others gets what a later
//! release may add by the rules of `wire::version` (fields in its bodies, optional flags, words of gossip at their ends, a
//! greater version in its hello), and frames go along that must be left alone (unknown kinds, flags that must be
//! understood, unknown words of gossip). Clients are newer than their servers and older, at once.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gramme::wire::{HEADER_BYTES, seal};
use gramme_core::port::Durability;
use rustix::process::Signal;

use crate::cluster::{Cluster, NODES, Node, PROGRAM, free_ports, until};
use crate::full::Redis;
use crate::load::{Load, value_of};
use crate::{alone, is_long};

const HOST: &str = "127.0.0.1";

// The header's fields, as `wire::header` has them.
const KIND: usize = 4;
const FLAGS: usize = 6;
const BODY_BYTES: usize = 20;

const HELLO: u8 = 1;
const RING: u8 = 2;
const PEER: u8 = 10;
const REPORT: u8 = 12;
const GOSSIP: u8 = 44;

/// Optional flags that nobody has yet, and one that must be understood.
const OPTIONAL: u8 = 0x28;
const MANDATORY: u8 = 0x40;

/// Who is newer, and what was made of it.
#[derive(Default)]
struct Releases {
    /// The ids of nodes that are of this release; all others are newer.
    older: Mutex<BTreeSet<u64>>,
    /// The least version that newer nodes say they speak; 0: as they do.
    version_min: AtomicU8,
    grown: AtomicU64,
    injected: AtomicU64,
}

impl Releases {
    fn is_older(&self, node: u64) -> bool {
        let older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        older.contains(&node)
    }

    fn set_older(&self, node: u64, is_older: bool) {
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        if is_older {
            older.insert(node);
        } else {
            older.remove(&node);
        }
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number) as usize
}

fn set_number(bytes: &mut [u8], at: usize, number: usize) {
    let number = u32::try_from(number).expect("short");
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Puts bytes into a frame, and says so in its lengths.
fn put_in(frame: &mut Vec<u8>, at: usize, more: &[u8], is_of_body: bool) {
    frame.splice(at..at, more.iter().copied());
    let frame_bytes = frame.len();
    set_number(frame, 0, frame_bytes);
    if is_of_body {
        let body_bytes = number(frame, BODY_BYTES) + more.len();
        set_number(frame, BODY_BYTES, body_bytes);
    }
}

/// The payload of gossip with more at the end of its word, or with a word that nobody knows.
fn newer_gossip(frame: &[u8], is_unknown: bool) -> Vec<u8> {
    // Time and body, then the envelope up to the length of the address.
    let payload = HEADER_BYTES + 8 + number(frame, BODY_BYTES);
    let listen = payload + 4 + 8 + 20 + 8 + 8;
    let word = listen + 2 + usize::from(u16::from_le_bytes([frame[listen], frame[listen + 1]]));
    let mut newer = frame.to_vec();
    let end = newer.len() - 4;
    if is_unknown {
        newer[word] = 200;
    } else {
        put_in(&mut newer, end, b"of a later release", false);
    }
    let end = newer.len() - 4;
    let sum = crc32c::crc32c(&newer[payload..end]);
    newer[end..].copy_from_slice(&sum.to_le_bytes());
    newer
}

/// A frame as a later release would say it, and what it would say besides.
fn newer(frame: &[u8], count: u64, releases: &Releases, out: &mut Vec<u8>) {
    let kind = frame[KIND];
    let mut grown = frame.to_vec();
    let is_between_nodes = kind > REPORT;
    let start = HEADER_BYTES + if is_between_nodes { 8 } else { 0 };
    match kind {
        HELLO | PEER => grown[start] = 9,
        GOSSIP => grown = newer_gossip(frame, false),
        _ => {}
    }
    let min = releases.version_min.load(Ordering::Relaxed);
    if kind == PEER && min > 0 {
        let min_at = start + number(&grown, BODY_BYTES) - 1;
        grown[min_at] = min;
    }
    if kind == RING {
        let end = grown.len();
        put_in(&mut grown, end, b"newer", false);
    } else {
        let end = start + number(&grown, BODY_BYTES);
        put_in(&mut grown, end, b"12345678", true);
    }
    grown[FLAGS] |= OPTIONAL;
    seal(&mut grown);
    if is_between_nodes && count.is_multiple_of(8) {
        // Whoever took one of these for what it was made of would do that twice.
        let mut unknown_kind = grown.clone();
        unknown_kind[KIND] = 200;
        let mut unknown_flag = grown.clone();
        unknown_flag[FLAGS] |= MANDATORY;
        let mut injected = vec![unknown_kind, unknown_flag];
        if kind == GOSSIP {
            injected.push(newer_gossip(&grown, true));
        }
        for frame in &mut injected {
            seal(frame);
            out.extend_from_slice(frame);
        }
        let injected = injected.len() as u64;
        releases.injected.fetch_add(injected, Ordering::Relaxed);
    }
    out.extend_from_slice(&grown);
    releases.grown.fetch_add(1, Ordering::Relaxed);
}

/// Hands a port's connections on to another.
fn hand_on(from: u16, to: u16, releases: &Arc<Releases>) {
    let listener = TcpListener::bind((HOST, from)).expect("a free port");
    let releases = Arc::clone(releases);
    std::thread::spawn(move || {
        for opened in listener.incoming().flatten() {
            let Ok(target) = TcpStream::connect((HOST, to)) else {
                continue;
            };
            for (source, sink) in [(&opened, &target), (&target, &opened)] {
                if let (Ok(source), Ok(sink)) = (source.try_clone(), sink.try_clone()) {
                    let releases = Arc::clone(&releases);
                    std::thread::spawn(move || carry(source, sink, &releases));
                }
            }
        }
    });
}

/// One direction of a connection.
fn carry(mut source: TcpStream, mut sink: TcpStream, releases: &Releases) {
    let _ = (source.set_nodelay(true), sink.set_nodelay(true));
    let mut held = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    // Whether its sender is of this release: its first frame tells.
    let mut is_older = None;
    let mut count = 0;
    while let Ok(bytes @ 1..) = source.read(&mut buffer) {
        held.extend_from_slice(&buffer[..bytes]);
        let mut out = Vec::new();
        let mut used = 0;
        while held.len() - used >= HEADER_BYTES {
            let frame_bytes = number(&held, used);
            let Some(frame) = held.get(used..used + frame_bytes) else {
                break;
            };
            let is_older = *is_older.get_or_insert_with(|| {
                frame[KIND] == PEER && {
                    let mut id = [0; 8];
                    // Behind a version and a cluster.
                    id.copy_from_slice(&frame[HEADER_BYTES + 9..HEADER_BYTES + 17]);
                    releases.is_older(u64::from_le_bytes(id))
                }
            });
            if is_older {
                out.extend_from_slice(frame);
            } else {
                count += 1;
                newer(frame, count, releases, &mut out);
            }
            used += frame_bytes;
        }
        held.drain(..used);
        if sink.write_all(&out).is_err() {
            break;
        }
    }
    // The other direction ends by this, too.
    let _ = (
        source.shutdown(Shutdown::Both),
        sink.shutdown(Shutdown::Both),
    );
}

fn status(address: &str) -> serde_json::Value {
    let output = Command::new(PROGRAM)
        .args(["cluster", "status", "--json", "--node", address])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The node's id, by itself.
fn id_of(address: &str) -> u64 {
    let status = status(address);
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let me = members.iter().find(|member| member["is_me"] == true);
    let id = me.and_then(|member| member["id"].as_str());
    let digits = id.map(|id| id.trim_start_matches('n'));
    let id = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    id.unwrap_or_else(|| panic!("no id of this node in {status}"))
}

/// A counter of a node's metrics.
fn counter(node: &Node, name: &str) -> f64 {
    let mut admin = TcpStream::connect(node.admin()).expect("its admin port");
    admin
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
        .expect("asked");
    let mut said = String::new();
    admin.read_to_string(&mut said).expect("answered");
    let value = said.lines().find_map(|line| {
        let (found, value) = line.rsplit_once(' ')?;
        found.ends_with(name).then(|| value.parse().ok())?
    });
    value.unwrap_or_else(|| panic!("no {name} in {said}"))
}

#[test]
fn older_and_newer_nodes_are_one_cluster_and_a_rolling_restart_between_them_costs_nothing() {
    let _alone = alone();
    let releases = Arc::new(Releases::default());
    let mut first = None;
    // The first node is the older one; the others join it, and are newer.
    let mut cluster = Cluster::start_with(HOST, |node| {
        match &first {
            None => first = Some(node.address()),
            Some(address) => releases.set_older(id_of(address), true),
        }
        let proxy = free_ports(HOST, 2);
        node.advertised = Some(format!("{HOST}:{proxy}"));
        hand_on(proxy, node.port, &releases);
        hand_on(proxy + 1, node.port + 1, &releases);
    });
    let ids: Vec<u64> = cluster
        .nodes
        .iter()
        .map(|node| id_of(&node.address()))
        .collect();
    let load = Load::start(&cluster, "mixed", Durability::Buffered);
    std::thread::sleep(Duration::from_secs(if is_long() { 10 } else { 1 }));
    let mut unknown = 0.0;
    let mut restarts = 0;
    // Up to the newer release and down to this one, each node in its turn.
    let rounds = if is_long() { 8 } else { 2 };
    for round in 0..rounds {
        for (number, id) in ids.iter().enumerate() {
            let node = &mut cluster.nodes[number];
            unknown += counter(node, "peer_messages_dropped_unknown_total");
            assert_eq!(counter(node, "peer_bad_frames_total"), 0.0, "{}", node.name);
            node.end(Signal::TERM);
            releases.set_older(*id, round % 2 == 1);
            node.start(None);
            restarts += 1;
            // Has every partition compared while both releases are there.
            let repair = Command::new(PROGRAM)
                .args(["cluster", "repair", "--node", &node.address()])
                .stdout(Stdio::null())
                .status();
            assert!(repair.expect("it runs").success());
            cluster.wait_whole();
        }
    }
    let record = load.finish(&cluster, ("mixed", restarts));
    let mut wrong = Vec::new();
    for node in &cluster.nodes {
        assert_eq!(counter(node, "peer_bad_frames_total"), 0.0, "{}", node.name);
        let status = status(&node.address()).to_string();
        assert!(!status.contains("no gossip of this version"), "{status}");
        let mut redis = Redis::connect(node);
        assert_eq!(redis.command(&[b"DYN.OPT", b"R", b"1"]), b"+OK");
        for key in &record.keys {
            let held = redis.command(&[b"GET", key.as_bytes()]);
            if held != b"$-1" && held != value_of(key) {
                wrong.push(format!("{key} at {}", node.name));
            }
        }
    }
    let (grown, injected) = (
        releases.grown.load(Ordering::Relaxed),
        releases.injected.load(Ordering::Relaxed),
    );
    eprintln!("  {grown} frames were grown, {injected} injected, {unknown} passed over");
    assert_eq!(record.lost, Vec::<String>::new());
    assert_eq!(record.failures, Vec::<String>::new());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(record.acknowledged > 100, "{record}");
    assert!(unknown > 0.0 && injected > 0, "nothing unknown was said");

    // One that speaks nothing in common with the others stays outside, and all logs say why.
    releases.version_min.store(7, Ordering::Relaxed);
    let node = &mut cluster.nodes[NODES - 1];
    node.end(Signal::TERM);
    releases.set_older(ids[NODES - 1], false);
    node.start(None);
    until(
        "a node that says why it does not speak with another",
        || {
            let said = cluster.nodes[0].said();
            let line = said.lines().find(|line| line.contains("none in common"));
            line.is_some_and(|line| line.contains("1 to 1") && line.contains("7 to 9"))
        },
    );
    assert_eq!(
        status(&cluster.nodes[0].address())["members"]
            .as_array()
            .map(Vec::len),
        Some(NODES)
    );
}
