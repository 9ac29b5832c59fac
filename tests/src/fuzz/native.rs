//! Frames of clients: read, written again, handed to a session and to a client.

use std::sync::Arc;

use gramme::client::machine::{Action, LinkId, Machine};
use gramme::client::{Call, ClientOptions, RequestOptions};
use gramme::native::{NativeProtocol, RingTable};
use gramme::reactor::session::Protocol;
use gramme::wire::{
    self, Answer, Delete, Effect, ErrorCode, FLAG_CHECKSUM, Get, HEADER_BYTES, Hello, Message,
    Parse, PeerHello, PeerLane, Problem, Put, Quorum, Reply, Ring, RingNode, Versions, Write,
};
use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::{Hlc, Now};
use gramme_core::port::{Condition, ContextArg, Durability, Expiry, Receipt};
use gramme_core::version::{Content, Dot, WriteId, write_latest, write_latest_context};

use super::host::Host;
use super::{option_of, pieces, resp};

/// Sets the checksum of every frame right, as far as the lengths lead from one to the next.
pub(super) fn sealed(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(frame) = bytes.get_mut(at..at.saturating_add(length)) else {
            break;
        };
        if length < HEADER_BYTES {
            break;
        }
        wire::seal(frame);
        at += length;
    }
    bytes
}

/// A frame that is read and written again reads the same.
pub(super) fn frame(input: &[u8]) {
    for bytes in [input, &sealed(input)] {
        let mut rest = bytes;
        loop {
            match wire::parse(rest) {
                Parse::Done(frame) => {
                    let mut again = Vec::new();
                    let is_checked = frame.header.flags & FLAG_CHECKSUM != 0;
                    let id = frame.header.request_id;
                    wire::encode(&mut again, id, is_checked, &frame.message);
                    let Parse::Done(read) = wire::parse(&again) else {
                        panic!("not read again: {:?}", frame.message);
                    };
                    assert_eq!(
                        format!("{:?}", read.message),
                        format!("{:?}", frame.message)
                    );
                    rest = &rest[frame.header.frame_bytes as usize..];
                }
                Parse::Unknown(frame) => {
                    assert!(!frame.why.to_string().is_empty());
                    rest = &rest[frame.header.frame_bytes as usize..];
                }
                Parse::NeedMore(least) => {
                    assert!(least > rest.len(), "what is there is enough");
                    break;
                }
                Parse::Bad(error) => {
                    assert!(!error.to_string().is_empty());
                    break;
                }
            }
        }
    }
}

/// A session against a shard: nothing panics, and what it says is frames.
pub(super) fn session(input: &[u8]) {
    let (option, input) = option_of(input);
    let mut host = Host::new();
    let table = Arc::new(RingTable::new(ring()));
    let mut session = NativeProtocol::new(table).open(None);
    let input = sealed(input);
    let out = resp::converse(&mut *session, &mut host, pieces(&input, option));
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let Parse::Done(frame) = wire::parse(rest) else {
            panic!("no frame: {rest:?}");
        };
        rest = &rest[frame.header.frame_bytes as usize..];
    }
}

const LINK: LinkId = LinkId(0);

fn now(ms: u64) -> Now {
    Now {
        mono_ns: ms * 1_000_000,
        wall_ms: 1_700_000_000_000 + ms,
    }
}

/// A client that has said hello and asked for a few things.
fn asking() -> Machine {
    let mut machine = Machine::new(&["127.0.0.1:7400".into()], ClientOptions::default(), 1);
    while machine.next_action().is_some() {}
    machine.connected(now(1), LINK);
    let options = RequestOptions::default();
    for key in [b"a".as_slice(), b"b", b"c"] {
        let calls = [
            Call::get(key, &options),
            Call::put(key, b"value", None, &options),
            Call::delete(key, None, &options),
        ];
        for call in calls {
            machine.submit(now(1), call).expect("there is room");
        }
    }
    machine
}

/// A client that hears anything at all goes on, and its calls end.
pub(super) fn client(input: &[u8]) {
    let (option, input) = option_of(input);
    let input = sealed(input);
    let mut machine = asking();
    let mut sent = Vec::new();
    for (ms, piece) in (2..).zip(pieces(&input, option)) {
        machine.received(now(ms), LINK, piece);
        while let Some(action) = machine.next_action() {
            if let Action::Connect { link, .. } = action {
                machine.connected(now(ms), link);
            }
        }
        machine.take_outgoing(LINK, &mut sent);
        sent.clear();
    }
    let mut ended = 0;
    for ms in [1_000_000, 2_000_000] {
        machine.tick(now(ms));
        while let Some((_, outcome)) = machine.next_done() {
            assert!(!format!("{outcome:?}").is_empty());
            ended += 1;
        }
    }
    assert_eq!(ended, 9, "every call ends by its deadline, once");
}

fn ring() -> Ring {
    Ring {
        epoch: 3,
        routes: vec![vec![0], vec![0, 1]],
        partitions: 16,
        answered_by: 0,
        nodes: vec![
            RingNode {
                node: 1,
                host: String::new(),
                port: 7400,
                shard_ports: vec![7401],
            },
            RingNode {
                node: 2,
                host: "::1".into(),
                port: 7400,
                shard_ports: vec![7401, 7402],
            },
        ],
    }
}

fn target<'a>(bucket: &'a [u8], key: &'a [u8]) -> Get<'a> {
    Get {
        bucket,
        key,
        deadline_us: 1_000_000,
        quorum: Quorum::default(),
    }
}

fn write<'a>(key: &'a [u8], context: ContextArg<'a>) -> Write<'a> {
    Write {
        target: target(b"carts", key),
        context,
        durability: Some(Durability::One),
        write_id: Some(WriteId {
            client: 7,
            sequence: 9,
        }),
        is_strict: true,
        want_context: true,
        want_previous: true,
    }
}

fn encoded(option: u8, messages: &[(u64, Message<'_>)]) -> Vec<u8> {
    let mut out = vec![option];
    for (at, (id, message)) in messages.iter().enumerate() {
        wire::encode(&mut out, *id, at % 2 == 0, message);
    }
    out
}

/// The dot of a write in the seeds.
pub(super) fn dot() -> Dot {
    Dot {
        actor: gramme_core::version::Actor {
            node: NodeId(1),
            birth: Hlc::from_ms(1_700_000_000_000),
        },
        hlc: Hlc::from_ms(1_700_000_000_000),
    }
}

/// An object of one value.
pub(super) fn object() -> Vec<u8> {
    let mut object = Vec::new();
    write_latest(&mut object, dot(), None, Content::Value(b"value"), None);
    object
}

/// Requests, as a client sends them; the first byte says in which pieces they come.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut context = Vec::new();
    write_latest_context(&mut context, 5, dot());
    let hello = Message::Hello(Hello {
        versions: Versions::OWN,
        client: 77,
    });
    let put = |key, context| {
        Message::Put(Put {
            write: write(key, context),
            value: b"a value of some length",
            expiry: Expiry::AtMs(1_800_000_000_000),
            condition: Condition::IfAbsent,
        })
    };
    let delete = Message::Delete(Delete {
        write: write(b"k", ContextArg::Latest),
    });
    let peer = Message::Peer(PeerHello {
        versions: Versions::OWN,
        cluster: 7,
        from: NodeId(2),
        from_shard: ShardIndex(1),
        to: NodeId(1),
        lane: PeerLane::Control,
    });
    vec![
        encoded(
            0,
            &[
                (u64::MAX, hello.clone()),
                (1, Message::Get(target(b"default", b"k"))),
            ],
        ),
        encoded(
            0,
            &[
                (1, put(b"k", ContextArg::Blind)),
                (2, Message::Get(target(b"carts", b"k"))),
            ],
        ),
        encoded(
            5,
            &[
                (1, put(b"k", ContextArg::Opaque(&context))),
                (2, delete.clone()),
            ],
        ),
        encoded(
            0,
            &[
                (1, put(b"k", ContextArg::Latest)),
                (2, put(b"k", ContextArg::Latest)),
                (3, delete),
            ],
        ),
        encoded(
            1,
            &[
                (1, Message::Ping),
                (2, Message::Pong),
                (3, Message::Operate(b"{\"op\":\"status\"}")),
            ],
        ),
        encoded(0, &[(1, peer)]),
        encoded(
            0,
            &[(1, Message::Ring(ring())), (2, Message::Report(b"{}"))],
        ),
    ]
}

/// Answers to what [`asking`] asked.
pub(super) fn client_seeds() -> Vec<Vec<u8>> {
    let mut machine = asking();
    let mut sent = Vec::new();
    machine.received(
        now(2),
        LINK,
        &encoded(0, &[(u64::MAX, Message::Ring(ring()))])[1..],
    );
    machine.take_outgoing(LINK, &mut sent);
    let mut ids = Vec::new();
    let mut rest = sent.as_slice();
    while let Parse::Done(frame) = wire::parse(rest) {
        ids.push(frame.header.request_id);
        rest = &rest[frame.header.frame_bytes as usize..];
    }
    ids.retain(|id| *id != u64::MAX);
    let (object, mut context) = (object(), Vec::new());
    write_latest_context(&mut context, 5, dot());
    let replies = [
        Reply::Object {
            object: &object,
            key_hash: 5,
        },
        Reply::Absent,
        Reply::Written {
            context: Some(&context),
            existed: true,
            previous: Some(&object),
        },
        Reply::ConditionNotMet {
            previous: Some(&object),
        },
    ];
    let answer = |reply| {
        Message::Answer(Answer {
            reply,
            receipt: Receipt::default(),
            server_ns: 5,
            ring_epoch: 9,
        })
    };
    let problem = |code| {
        Message::Error(Problem {
            code,
            effect: Effect::NotApplied,
            retry_after_ms: 4,
            message: "why",
            current: &object,
        })
    };
    let hello = (u64::MAX, Message::Ring(ring()));
    let mut seeds: Vec<Vec<u8>> = replies
        .into_iter()
        .map(|reply| {
            let answers = ids.iter().map(|id| (*id, answer(reply)));
            let frames: Vec<_> = std::iter::once(hello.clone()).chain(answers).collect();
            encoded(0, &frames)
        })
        .collect();
    for code in [
        ErrorCode::Stale,
        ErrorCode::Overloaded,
        ErrorCode::NotHere,
        ErrorCode::BadFrame,
    ] {
        let errors = ids.iter().map(|id| (*id, problem(code)));
        let frames: Vec<_> = std::iter::once(hello.clone()).chain(errors).collect();
        seeds.push(encoded(9, &frames));
    }
    seeds.push(encoded(0, &[hello, (1, Message::Pong), (2, Message::Ping)]));
    seeds
}
