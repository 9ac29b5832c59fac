//! Nodes that go by the rules: who gets what, over which connection, and who is told that another is gone.

use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use gramme_core::base::ids::ShardIndex;
use gramme_core::base::limits::PARTITIONS_DEFAULT;
use gramme_core::port::{CallId, Held, Lane, Message};
use gramme_core::ring::Slices;

use crate::WAIT;
use crate::side::{Side, fetch, start, text_of, view, whole};
use crate::spy::{Ask, Told};

#[test]
fn messages_reach_the_shard_of_their_token_and_answers_come_back_on_the_same_connections() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (a, b) = (
        start(dirs[0].path(), 2, None),
        start(dirs[1].path(), 3, None),
    );
    let both = view(vec![a.known(), b.known()]);
    a.learn(&both);
    b.learn(&both);
    let owners = Slices::new(PARTITIONS_DEFAULT, 3).expect("valid");
    let (node_a, node_b) = (a.engine.node(), b.engine.node());
    for number in 0..60_u32 {
        let key = number.to_le_bytes();
        let (token, message, bytes) = fetch(&key);
        a.send(1, node_b, (Lane::Token(token), message, &bytes));
        let (at, from, text) = b.next_message();
        assert_eq!(at, owners.shard_of(token));
        assert_eq!((from.node, from.shard), (node_a, ShardIndex(1)));
        assert!(text.starts_with("Fetch {"), "{text}");

        let object = vec![7; number as usize * 1000];
        let held = Held {
            fingerprint: 9,
            object: Some(whole(&object)),
        };
        let answer = Message::Fetched {
            call: CallId(1),
            result: Ok(held),
            queue: 3,
        };
        b.send(at.0, node_a, (Lane::Shard(from.shard), answer, &object));
        let (back_at, back_from, text) = a.next_message();
        assert_eq!(back_at, ShardIndex(1));
        assert_eq!((back_from.node, back_from.shard), (node_b, at));
        assert_eq!(
            text,
            format!("{:?}", answer.map(&|range| range.of(&object)))
        );
    }
    let opened = |side: &Side| side.counters.peers.opened.load(Ordering::Relaxed);
    a.wait(|counters| &counters.received, 60);
    assert_eq!((opened(&a), opened(&b)), (3, 3), "one a pair of shards");
}

#[test]
fn gossip_reaches_a_seed_by_its_address_and_the_seed_answers_a_node_that_it_does_not_know() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (a, b) = (
        start(dirs[0].path(), 2, None),
        start(dirs[1].path(), 2, None),
    );
    let begun = Instant::now();
    let seed = format!("localhost:{}", b.address.port());
    // The name is looked up at the first try, whose message is lost.
    let (at, from, text) = loop {
        assert!(begun.elapsed() < WAIT, "{:?}", a.counters);
        a.ask(0, Ask::Gossip(seed.clone(), b"join".to_vec()));
        if let Ok(Told::Message { at, from, text }) = b.told.recv_timeout(Duration::from_millis(50))
        {
            break (at, from, text);
        }
    };
    assert_eq!((at, from.node), (Lane::CONTROL_SHARD, a.engine.node()));
    assert_eq!(
        text,
        format!(
            "{:?}",
            Message::Gossip {
                bytes: b"join".as_slice()
            }
        )
    );
    b.gossip(a.engine.node(), b"welcome");
    let (_, from, text) = a.next_message();
    assert_eq!(from.node, b.engine.node());
    assert!(text.contains("Gossip"), "{text}");
    // And now that it is known who is there, by its id.
    a.gossip(b.engine.node(), b"again");
    while b.next_message().2 == text_of(b"join") {}
    assert_eq!(a.counters.peers.opened.load(Ordering::Relaxed), 1);
}

#[test]
fn a_peer_that_dies_is_told_and_reached_again_when_it_is_back() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (a, b) = (
        start(dirs[0].path(), 1, None),
        start(dirs[1].path(), 1, None),
    );
    let node_b = b.engine.node();
    a.learn(&view(vec![a.known(), b.known()]));
    a.gossip(node_b, b"1");
    assert_eq!(b.next_message().2, text_of(b"1"));
    let (at, lost) = (
        ShardIndex(0),
        Told::Lost {
            at: ShardIndex(0),
            node: node_b,
        },
    );
    let address = b.address;
    b.engine.stop().expect("stopped");
    drop(b);
    assert_eq!(a.next(), lost);
    // While it is away, tries are few and each message's sender is told.
    let failed_before = a.counters.peers.failed.load(Ordering::Relaxed);
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        a.gossip(node_b, b"2");
        assert_eq!(a.next(), lost);
        sent += 1;
    }
    let failed = a.counters.peers.failed.load(Ordering::Relaxed) - failed_before;
    assert!(
        (1..=8).contains(&failed),
        "{failed} tries for {sent} messages"
    );

    let b = start(dirs[1].path(), 1, Some(address));
    assert_eq!(b.engine.node(), node_b);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < WAIT, "{:?}", a.counters);
        a.gossip(node_b, b"3");
        match b.told.recv_timeout(Duration::from_millis(50)) {
            Ok(Told::Message { at: to, text, .. }) => {
                assert_eq!((to, text), (at, text_of(b"3")));
                break;
            }
            Ok(Told::Lost { .. }) => panic!("it has asked nobody"),
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
