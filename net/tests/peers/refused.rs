//! What is refused, dropped and bounded, so that one peer's fault stays its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gramme::peer::UNSENT_BYTES_MAX;
use gramme::reactor::ReactorOptions;
use gramme::wire::peer::{PeerFrame, PeerParse, encode_peer, parse_peer};
use gramme::wire::{self, Parse, PeerHello};
use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::port::{CallId, Lane, Message};
use gramme_core::ring::NodeView;

use crate::WAIT;
use crate::raw::{Raw, hello};
use crate::side::{sockets, start, start_with, text_of, view, whole};
use crate::spy::Told;

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("soon")
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    let mut good = Raw::connect(&side, hello(&side));
    let other = PeerHello {
        from_shard: ShardIndex(5),
        ..hello(&side)
    };
    let mut bad = Raw::connect(&side, other);
    assert!(good.answer().starts_with("Peer("));
    assert!(bad.answer().starts_with("Peer("));
    bad.0.write_all(&[0xa5; 4096]).expect("written");
    assert!(bad.has_ended());
    side.wait(|counters| &counters.bad_frames, 1);
    assert_eq!(
        side.next(),
        Told::Lost {
            at: ShardIndex(0),
            node: NodeId(99)
        }
    );
    good.write(now_ms(), Message::Gossip { bytes: b"fine" });
    let (_, from, text) = side.next_message();
    assert_eq!((from.shard, text), (ShardIndex(4), text_of(b"fine")));
    // And a shard that there is not.
    let mut bytes = Vec::new();
    let lane = Lane::Shard(ShardIndex(7));
    let message = Message::Gossip {
        bytes: b"x".as_slice(),
    };
    let sent_ms = now_ms();
    assert!(encode_peer(
        &mut bytes,
        true,
        &PeerFrame {
            lane,
            sent_ms,
            message
        }
    ));
    good.0.write_all(&bytes).expect("written");
    side.wait(|counters| &counters.dropped_unknown, 1);
}

#[test]
fn objects_that_are_too_old_are_dropped_and_other_messages_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    let mut raw = Raw::connect(&side, hello(&side));
    let records = |bytes: &'static [u8]| Message::Records {
        call: CallId(1),
        tokens_answered: 1,
        records: bytes,
        is_incomplete: false,
    };
    raw.write(now_ms() - 31_000, records(b"old"));
    raw.write(now_ms() - 31_000, Message::Gossip { bytes: b"old" });
    raw.write(now_ms() - 20_000, records(b"late"));
    assert_eq!(side.next_message().2, text_of(b"old"));
    assert_eq!(side.next_message().2, format!("{:?}", records(b"late")));
    side.wait(|counters| &counters.dropped_old, 1);
}

#[test]
fn a_node_that_is_not_the_one_wanted_or_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    side.learn(&view(vec![side.known()]));
    let refused = |changed: PeerHello| {
        let mut raw = Raw::connect(&side, changed);
        let answer = raw.answer();
        assert!(raw.has_ended());
        answer
    };
    let me = side.engine.node();
    let answer = refused(PeerHello {
        from: me,
        ..hello(&side)
    });
    assert!(answer.contains("copied"), "{answer}");
    let answer = refused(PeerHello {
        to: NodeId(5),
        ..hello(&side)
    });
    assert!(answer.contains(&format!("this is {me}")), "{answer}");
    let answer = refused(PeerHello {
        cluster: 78,
        ..hello(&side)
    });
    assert!(answer.contains("cluster"), "{answer}");
    // One that has no cluster yet is heard.
    let mut raw = Raw::connect(
        &side,
        PeerHello {
            cluster: 0,
            ..hello(&side)
        },
    );
    assert!(raw.answer().starts_with("Peer("));
    side.wait(|counters| &counters.refused, 3);
}

#[test]
fn what_a_refused_node_had_said_is_not_counted_against_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = ReactorOptions {
        held_bytes_max: 64 << 10,
        ..ReactorOptions::default()
    };
    let side = start_with(dir.path(), (1, None), options);
    let address = SocketAddr::new(side.address.ip(), side.address.port() + 1);
    for _ in 0..20 {
        let wrong = PeerHello {
            to: NodeId(5),
            ..hello(&side)
        };
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, u64::MAX, false, &wire::Message::Peer(wrong));
        // What follows a hello at once, as of a node that is sure of itself.
        bytes.resize(bytes.len() + 8_000, 0);
        let mut raw = Raw(TcpStream::connect(address).expect("connected"));
        raw.0.write_all(&bytes).expect("written");
        assert!(raw.answer().contains("not"));
        assert!(raw.has_ended());
    }
    let mut client = Raw(TcpStream::connect(address).expect("connected"));
    let mut ping = Vec::new();
    wire::encode(&mut ping, 1, false, &wire::Message::Ping);
    let (first, rest) = ping.split_at(5);
    client.0.write_all(first).expect("written");
    std::thread::sleep(Duration::from_millis(100));
    client.0.write_all(rest).expect("written");
    assert_eq!(client.answer(), "Pong");
}

#[test]
fn what_waits_for_a_peer_that_never_reads_is_bounded_and_it_is_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    let (_common, own) = sockets(1, None);
    let port = own[0].local_addr().expect("bound").port();
    let deaf = NodeView {
        id: NodeId(99),
        address: format!("127.0.0.1:{}", port - 1),
        zone: "z".into(),
        shards: 1,
        is_alive: true,
        takes_values: true,
    };
    side.learn(&view(vec![side.known(), deaf]));
    let object = vec![1; 1 << 20];
    let message = Message::Records {
        call: CallId(1),
        tokens_answered: 1,
        records: whole(&object),
        is_incomplete: false,
    };
    let lane = Lane::Shard(ShardIndex(0));
    side.send(0, NodeId(99), (lane, message, &object));
    let (mut raw, _) = own[0].accept().expect("accepted");
    let answer = PeerHello {
        from: NodeId(99),
        to: side.engine.node(),
        ..hello(&side)
    };
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, 0, true, &wire::Message::Peer(answer));
    raw.write_all(&bytes).expect("written");
    side.wait(|counters| &counters.opened, 1);
    for _ in 0..100 {
        side.send(0, NodeId(99), (lane, message, &object));
    }
    side.wait(|counters| &counters.dropped_full, 1);
    let begun = Instant::now();
    assert_eq!(
        side.next(),
        Told::Lost {
            at: ShardIndex(0),
            node: NodeId(99)
        }
    );
    assert!(begun.elapsed() > Duration::from_secs(5), "it had its time");
    let taken = side.counters.peers.sent.load(Ordering::Relaxed);
    let kernel = 16 << 20;
    assert!(
        taken << 20 <= (2 * UNSENT_BYTES_MAX as u64) + kernel,
        "{taken} MiB"
    );
    // What did leave were whole frames in order.
    let mut bytes = Vec::new();
    let _ = raw.read_to_end(&mut bytes);
    let Parse::Done(frame) = wire::parse(&bytes) else {
        panic!("no hello");
    };
    let rest = &bytes[frame.header.frame_bytes as usize..];
    assert!(matches!(parse_peer(rest), PeerParse::Done { .. }));
}

#[test]
fn nodes_are_heard_however_many_clients_there_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = ReactorOptions {
        connections_max: 2,
        ..ReactorOptions::default()
    };
    let side = start_with(dir.path(), (1, None), options);
    let address = SocketAddr::new(side.address.ip(), side.address.port() + 1);
    let clients = [(); 2].map(|()| TcpStream::connect(address).expect("connected"));
    let begun = Instant::now();
    while side.counters.connections.load(Ordering::Relaxed) < 2 {
        assert!(begun.elapsed() < WAIT, "{:?}", side.counters);
        std::thread::sleep(Duration::from_millis(5));
    }
    // A client more is told so, and one that says nothing does not stay.
    let mut more = Raw(TcpStream::connect(address).expect("connected"));
    let mut get = Vec::new();
    wire::encode(&mut get, 1, false, &wire::Message::Ping);
    more.0.write_all(&get).expect("written");
    assert!(more.answer().contains("Overloaded"));
    assert!(more.has_ended());
    let mut silent = Raw(TcpStream::connect(address).expect("connected"));
    let mut node = Raw::connect(&side, hello(&side));
    assert!(node.answer().starts_with("Peer("));
    assert!(silent.has_ended());
    node.write(now_ms(), Message::Gossip { bytes: b"still" });
    assert_eq!(side.next_message().2, text_of(b"still"));
    drop(clients);
}
