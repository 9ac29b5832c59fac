//! A session against a port of the test's own: what it hands in, what it answers, what ends it.

use std::sync::Arc;

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::port::{
    ByteRange, Condition, ContextArg, Durability, Expiry, Failure, Outcome, Peer, Receipt, Request,
    RequestId,
};
use gramme_core::ring::Slices;
use gramme_core::shard::ShardStatus;
use gramme_engine::edge::{EdgeMessage, Port};

use super::*;
use crate::reactor::session::{ConnectionId, Io, Protocol, Session};
use crate::wire::{
    self, Delete, Get, Hello, Message, Parse, Put, Quorum, Ring, RingNode, Versions, Write,
};

/// Keeps what was submitted, as text, and the ids.
#[derive(Default)]
struct Recorder {
    requests: Vec<(RequestId, String)>,
}

impl Port for Recorder {
    fn now(&self) -> Now {
        Now {
            mono_ns: 1_000,
            wall_ms: 1,
        }
    }
    fn node(&self) -> NodeId {
        NodeId(1)
    }
    fn shard(&self) -> ShardIndex {
        ShardIndex(0)
    }
    fn slices(&self) -> Slices {
        Slices::new(16, 1).expect("valid")
    }
    fn submit(&mut self, request: Request<'_>) {
        self.requests.push((request.id, format!("{request:?}")));
    }
    fn submit_to(&mut self, _: ShardIndex, request: Request<'_>) {
        self.submit(request);
    }
    fn send(&mut self, _: ShardIndex, _: EdgeMessage) {}
    fn peer_message(&mut self, _: ShardIndex, _: Peer, _: gramme_core::port::Message<&[u8]>) {}
    fn peer_lost(&mut self, _: NodeId) {}
    fn status(&self) -> ShardStatus {
        ShardStatus::default()
    }
    fn wake_at(&mut self, _: u64) {}
}

struct Trace {
    session: Box<dyn Session>,
    port: Recorder,
    out: Vec<u8>,
    is_ended: bool,
}

impl Trace {
    fn new() -> Self {
        let ring = Ring {
            epoch: 7,
            routes: Vec::new(),
            partitions: 16,
            answered_by: 0,
            nodes: vec![RingNode {
                node: 3,
                host: String::new(),
                port: 1,
                shard_ports: vec![2],
            }],
        };
        Self {
            session: NativeProtocol::new(Arc::new(RingTable::new(ring))).open(None),
            port: Recorder::default(),
            out: Vec::new(),
            is_ended: false,
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut dyn Session, &mut Io<'_>) -> T) -> T {
        let mut io = Io {
            out: &mut self.out,
            port: &mut self.port,
            connection: ConnectionId {
                slot: 4,
                generation: 2,
            },
            is_ended: false,
            said: None,
        };
        let result = act(&mut *self.session, &mut io);
        self.is_ended |= io.is_ended;
        result
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        self.with(|session, io| session.received(bytes, io))
    }

    fn reply(&mut self, index: usize, outcome: &Outcome, bytes: &[u8]) {
        let (connection, tag) = ConnectionId::of(self.port.requests[index].0);
        assert_eq!((connection.slot, connection.generation), (4, 2));
        self.with(|session, io| session.reply(tag, outcome, bytes, io));
    }

    fn sent(&mut self) -> Vec<(u64, String)> {
        let mut frames = Vec::new();
        let mut rest = self.out.as_slice();
        while let Parse::Done(frame) = wire::parse(rest) {
            frames.push((frame.header.request_id, format!("{:?}", frame.message)));
            rest = &rest[frame.header.frame_bytes as usize..];
        }
        assert!(rest.is_empty(), "only whole frames");
        self.out.clear();
        frames
    }
}

fn get(key: &[u8]) -> Get<'_> {
    Get {
        bucket: b"default",
        key,
        deadline_us: 9,
        quorum: Quorum::default(),
    }
}

fn write(key: &[u8]) -> Write<'_> {
    Write {
        target: get(key),
        context: ContextArg::Latest,
        durability: Some(Durability::All),
        write_id: None,
        is_strict: false,
        want_context: true,
        want_previous: false,
    }
}

fn frame(id: u64, message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, id, true, message);
    bytes
}

#[test]
fn requests_reach_the_port_with_everything_that_the_client_said() {
    let mut trace = Trace::new();
    let put = Put {
        write: write(b"k2"),
        value: b"value",
        expiry: Expiry::AtMs(99),
        condition: Condition::IfPresent,
    };
    let delete = Delete {
        write: write(b"k3"),
    };
    let bytes = [
        frame(10, &Message::Get(get(b"k1"))),
        frame(11, &Message::Put(put)),
        frame(12, &Message::Delete(delete)),
    ]
    .concat();
    assert_eq!(trace.receive(&bytes), bytes.len());
    let texts: Vec<&str> = trace
        .port
        .requests
        .iter()
        .map(|(_, t)| t.as_str())
        .collect();
    assert_eq!(texts.len(), 3);
    assert!(texts[0].contains("Get") && texts[0].contains("deadline_ns: Some(10000)"));
    for part in [
        "AtMs(99)",
        "IfPresent",
        "Latest",
        "Some(All)",
        "want_context: true",
    ] {
        assert!(texts[1].contains(part), "{part} in {}", texts[1]);
    }
    assert!(texts[2].contains("Delete"));
}

#[test]
fn answers_carry_the_clients_ids_in_whatever_order_they_come() {
    let mut trace = Trace::new();
    let bytes = [
        frame(10, &Message::Get(get(b"k1"))),
        frame(11, &Message::Get(get(b"k2"))),
    ]
    .concat();
    trace.receive(&bytes);
    let receipt = Receipt {
        replicas: 1,
        ..Receipt::default()
    };
    trace.reply(1, &Outcome::Absent { receipt }, &[]);
    let object = ByteRange { start: 1, end: 4 };
    let found = Outcome::Object {
        object,
        key_hash: 5,
        receipt,
    };
    trace.reply(0, &found, b"-abc-");
    let sent = trace.sent();
    assert_eq!((sent[0].0, sent[1].0), (11, 10));
    assert!(sent[0].1.contains("Absent") && sent[0].1.contains("ring_epoch: 7"));
    assert!(sent[1].1.contains("[97, 98, 99]"), "{}", sent[1].1);
}

#[test]
fn failures_say_whether_anything_happened() {
    let mut trace = Trace::new();
    let put = frame(1, &Message::Delete(Delete { write: write(b"k") }));
    for (failure, expected) in [
        (Failure::InDoubt, "effect: InDoubt"),
        (Failure::DiskFull, "effect: NotApplied"),
        (
            Failure::Overloaded { retry_after_ms: 8 },
            "retry_after_ms: 8",
        ),
        (
            Failure::Stale {
                current: ByteRange { start: 0, end: 2 },
            },
            "current: [111, 107]",
        ),
    ] {
        trace.receive(&put);
        let last = trace.port.requests.len() - 1;
        trace.reply(last, &Outcome::Failed(failure), b"ok");
        let sent = trace.sent();
        assert!(sent[0].1.contains(expected), "{expected} in {}", sent[0].1);
    }
}

#[test]
fn a_hello_is_answered_with_the_ring_and_a_ping_with_a_pong() {
    let mut trace = Trace::new();
    let hello = Hello {
        versions: Versions::OWN,
        client: 5,
    };
    trace.receive(&frame(1, &Message::Hello(hello)));
    trace.receive(&frame(2, &Message::Ping));
    let sent = trace.sent();
    assert!(sent[0].1.contains("shard_ports: [2]"));
    assert_eq!(sent[1], (2, "Pong".into()));
}

#[test]
fn half_a_frame_is_left_for_the_next_time() {
    let mut trace = Trace::new();
    let bytes = frame(1, &Message::Get(get(b"key")));
    for cut in 0..bytes.len() {
        assert_eq!(trace.receive(&bytes[..cut]), 0);
    }
    assert!(trace.port.requests.is_empty());
    assert_eq!(trace.receive(&bytes), bytes.len());
}

#[test]
fn garbage_ends_the_connection_with_an_error_frame() {
    let server_only = frame(1, &Message::Ring(Ring::default()));
    let mut huge = frame(1, &Message::Ping);
    let huge_bytes = u32::try_from(REQUEST_BYTES_MAX + 1).expect("fits");
    huge[..4].copy_from_slice(&huge_bytes.to_le_bytes());
    for bytes in [
        b"*1\r\n$4\r\nPING\r\n and so on".to_vec(),
        server_only,
        huge,
    ] {
        let mut trace = Trace::new();
        trace.receive(&bytes);
        assert!(trace.is_ended);
        assert!(trace.sent()[0].1.contains("BadFrame"));
    }
}

#[test]
fn too_many_requests_on_their_way_block_the_session_until_answers_come() {
    let mut trace = Trace::new();
    let one = frame(1, &Message::Get(get(b"k")));
    let bytes = one.repeat(IN_FLIGHT_MAX + 5);
    let used = trace.receive(&bytes);
    assert_eq!(used, one.len() * IN_FLIGHT_MAX);
    assert!(trace.session.is_blocked());
    let receipt = Receipt::default();
    trace.reply(0, &Outcome::Absent { receipt }, &[]);
    assert!(!trace.session.is_blocked());
    assert_eq!(trace.receive(&bytes[used..]), one.len(), "one more");
}

#[test]
fn a_strict_quorum_is_asked_for_as_the_frame_says() {
    let mut trace = Trace::new();
    for is_strict in [true, false] {
        let write = Write {
            is_strict,
            ..write(b"k")
        };
        trace.receive(&frame(1, &Message::Delete(Delete { write })));
        let (_, asked) = trace.port.requests.pop().expect("one");
        let said = format!("is_strict: {is_strict}");
        assert!(asked.contains(&said), "{asked}");
    }
}

#[test]
fn zones_are_asked_for_as_the_frame_says() {
    let mut trace = Trace::new();
    let mut write = write(b"k");
    write.target.quorum.zones = 3;
    trace.receive(&frame(1, &Message::Get(write.target)));
    trace.receive(&frame(2, &Message::Delete(Delete { write })));
    assert_eq!(trace.port.requests.len(), 2);
    for (_, asked) in &trace.port.requests {
        assert!(asked.contains("zones: 3"), "{asked}");
    }
}

#[test]
fn more_answers_than_replicas_are_a_contradiction() {
    let mut trace = Trace::new();
    let quorum = Quorum {
        n: 2,
        r: 3,
        w: 1,
        zones: 0,
    };
    let get = Get {
        quorum,
        ..get(b"k")
    };
    trace.receive(&frame(1, &Message::Get(get)));
    assert!(trace.port.requests.is_empty() && !trace.is_ended);
    assert!(trace.sent()[0].1.contains("BadRequest"));
}
