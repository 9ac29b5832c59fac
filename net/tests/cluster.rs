//! Whole nodes in one process that join, over sockets: who knows whom, who answers for whom, who is missed.

mod ports;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use gramme::client::blocking::Client;
use gramme::config::{Config, File};
use gramme::node::Node;

const WAIT: Duration = Duration::from_secs(60);

/// A native port that is free with those of `shards` shards behind it.
fn free_ports(shards: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free_ports("127.0.0.1", shards + 1)))
}

fn config(dir: &Path, (listen, shards): (SocketAddr, u16), join: Option<SocketAddr>) -> Config {
    let file = File {
        data: Some(dir.to_path_buf()),
        listen: Some(listen),
        resp: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        shards: Some(shards),
        join: join.map(|seed| vec![seed.to_string()]),
        memory_bytes: Some(32 << 20),
        segment_bytes: Some(1 << 20),
        capacity_bytes: Some(256 << 20),
        pin_to_cores: Some(false),
        ..File::default()
    };
    file.resolve().expect("a configuration")
}

/// Waits until the condition holds of a node's view.
fn wait(node: &Node, what: &str, is_so: impl Fn(&gramme_core::ring::RingView) -> bool) {
    let begun = Instant::now();
    while !node.view().is_some_and(|view| is_so(&view)) {
        assert!(begun.elapsed() < WAIT, "never {what}: {:?}", node.view());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn alive(view: &gramme_core::ring::RingView) -> usize {
    view.nodes.iter().filter(|node| node.is_alive).count()
}

#[test]
fn nodes_that_join_know_each_other_and_answer_for_whoever_holds_a_key() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    let shards = [1, 2, 1];
    let ports = shards.map(|shards| (free_ports(shards), shards));
    let begun = |number: usize, join: Option<usize>| {
        let seed = join.map(|seed| ports[seed].0);
        Node::start(&config(dirs[number].path(), ports[number], seed)).expect("started")
    };
    let first = begun(0, None);
    let second = begun(1, Some(0));
    // By way of the one that has joined just before.
    let third = begun(2, Some(1));
    for node in [&first, &second, &third] {
        wait(node, "three", |view| alive(view) == 3);
    }
    let clusters = [&first, &second, &third].map(|node| node.view().map(|view| view.cluster));
    assert!(clusters[0].is_some_and(|cluster| cluster != 0));
    assert!(clusters.iter().all(|cluster| *cluster == clusters[0]));

    // Nobody but the first holds anything yet: the others ask it.
    let clients = ports.map(|(address, _)| Client::connect(&address.to_string()).expect("reached"));
    for number in 0..60_u32 {
        let key = number.to_be_bytes();
        let [writer, reader] = [number as usize % 3, (number as usize + 1) % 3];
        clients[writer].put(&key, &key, None).expect("written");
        let read = clients[reader].get(&key).expect("read");
        assert_eq!(read.latest(), Some(key.as_slice()));
    }

    // One goes, and is missed; it comes back as the same node, without being told whom to join.
    let id = third.engine().node();
    third.stop().expect("stopped");
    for node in [&first, &second] {
        wait(node, "one less", |view| alive(view) == 2);
    }
    let third = begun(2, None);
    assert_eq!(third.engine().node(), id);
    for node in [&first, &second, &third] {
        wait(node, "three again", |view| alive(view) == 3);
    }
    let read = clients[0].get(&7_u32.to_be_bytes()).expect("read");
    assert!(read.latest().is_some());
    for node in [first, second, third] {
        assert_eq!(node.failures(), Vec::<String>::new());
        node.stop().expect("stopped");
    }
}
