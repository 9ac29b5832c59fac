//! Frames between nodes: read, written again, and handed to a shard that has two of three replicas elsewhere.

use std::sync::Arc;

use gramme::wire::peer::{PeerFrame, PeerParse, encode_peer, parse_peer};
use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use gramme_core::port::{
    CallId, Condition, ContextArg, Durability, Event, Expiry, Held, KeyName, Lane, Message, Op,
    Outcome, Put, Quorum, Receipt, Refusal, Request, RequestId, TokenRange,
};
use gramme_core::ring::{BucketView, NodeView, PartitionView, RingView};
use gramme_core::version::{BlindPut, Conflict};

use super::host::{Host, ME, slices};
use super::native::{object, sealed};

const OTHER: NodeId = NodeId(2);

/// A frame that is read and written again reads the same.
pub(super) fn frame(input: &[u8]) {
    for bytes in [input, &sealed(input)] {
        each_frame(bytes, |frame| {
            let mut again = Vec::new();
            assert!(
                encode_peer(&mut again, true, frame),
                "what was read can be written"
            );
            let PeerParse::Done { frame: read, .. } = parse_peer(&again) else {
                panic!("not read again: {frame:?}");
            };
            assert_eq!(format!("{read:?}"), format!("{frame:?}"));
        });
    }
}

fn each_frame(bytes: &[u8], mut each: impl FnMut(&PeerFrame<'_>)) {
    let mut rest = bytes;
    loop {
        let frame_bytes = match parse_peer(rest) {
            PeerParse::Done { frame, frame_bytes } => {
                each(&frame);
                frame_bytes
            }
            PeerParse::Unknown { frame_bytes, .. } => frame_bytes,
            PeerParse::NeedMore(least) => {
                assert!(least > rest.len(), "what is there is enough");
                return;
            }
            PeerParse::Bad(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        rest = &rest[frame_bytes..];
    }
}

/// A shard that hears anything at all from its peers goes on: what it sends can be read, and it serves.
pub(super) fn shard(input: &[u8]) {
    let mut host = asking();
    each_frame(&sealed(input), |frame| {
        host.message(OTHER, frame.message);
        host.turn();
    });
    for _ in 0..4 {
        host.turn();
    }
    host.step(Event::PeerLost(OTHER));
    host.step(Event::PeerLost(NodeId(3)));
    host.now.mono_ns += 60_000_000_000;
    host.now.wall_ms += 60_000;
    host.turn();
    host.turn();
    for id in 1..=6 {
        let answers = host
            .answers
            .iter()
            .filter(|(found, ..)| *found == RequestId(id));
        assert!(answers.count() <= 1, "request {id} was answered twice");
    }
}

/// A shard of three nodes that has asked its peers for something.
fn asking() -> Host {
    let mut host = Host::new();
    let node = |id| NodeView {
        id: NodeId(id),
        address: String::new(),
        zone: format!("z{id}"),
        shards: 1,
        is_alive: true,
        takes_values: true,
    };
    let partition = |partition: usize| PartitionView {
        read: [0, 1, 2].into(),
        write: [0, 1, 2].into(),
        is_pending_here: partition % 4 == 3,
        ..PartitionView::default()
    };
    let bucket = |name: &[u8], blind_put| BucketView {
        name: name.to_vec(),
        n: 3,
        r: 2,
        w: 2,
        durability: Durability::Buffered,
        conflict: Conflict::Siblings,
        blind_put,
        ttl_ms: None,
    };
    host.view(RingView {
        epoch: 1,
        cluster: 7,
        me: ME,
        slices: slices(),
        nodes: (1..=3).map(node).collect(),
        partitions: Arc::new((0..16).map(partition).collect()),
        buckets: vec![
            bucket(b"default", BlindPut::Latest),
            bucket(b"carts", BlindPut::Sibling),
        ],
    });
    for (id, key) in (1..).zip([b"a".as_slice(), b"b", b"c"]) {
        for (id, op) in [(id, Op::Put(put())), (id + 3, Op::Get)] {
            let request = request(id, key, op);
            host.step(Event::Request(request));
        }
    }
    host.turn();
    host
}

fn put() -> Put<'static> {
    Put {
        context: ContextArg::Blind,
        value: b"value",
        expiry: Expiry::Default,
        condition: Condition::Always,
        want_previous: false,
        want_context: true,
        write_id: None,
    }
}

fn request<'a>(id: u64, key: &'a [u8], op: Op<'a>) -> Request<'a> {
    Request {
        id: RequestId(id),
        deadline_ns: Some(10_000_000_000),
        bucket: b"default",
        key,
        token: hash::token(b"default", key),
        durability: None,
        quorum: Quorum::default(),
        wants_object: false,
        is_forwarded: false,
        op,
    }
}

fn encoded(messages: &[Message<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let content = PeerFrame {
            lane: [Lane::Shard(ShardIndex(0)), Lane::Token(Token(u64::MAX / 3))][at % 2],
            sent_ms: 1_700_000_000_000,
            message: *message,
        };
        assert!(encode_peer(&mut out, at % 2 == 0, &content));
    }
    out
}

/// What peers say: answers to what [`asking`] asked, and questions of their own.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let object = object();
    let mut calls = Vec::new();
    for frame in &asking().frames {
        each_frame(frame, |frame| match frame.message {
            Message::Apply { call, .. } => calls.push((call, true)),
            Message::Fetch { call, .. } => calls.push((call, false)),
            _ => {}
        });
    }
    let answers = |applied: Result<bool, Refusal>, held: Result<Held<&'static [u8]>, Refusal>| {
        let answers: Vec<Message<&[u8]>> = calls
            .iter()
            .map(|(call, is_write)| {
                if *is_write {
                    Message::Applied {
                        call: *call,
                        result: applied,
                        queue: 3,
                    }
                } else {
                    Message::Fetched {
                        call: *call,
                        result: held,
                        queue: 3,
                    }
                }
            })
            .collect();
        encoded(&answers)
    };
    let nothing = Held {
        fingerprint: 0,
        object: None,
    };
    let other = Held {
        fingerprint: 77,
        ..nothing
    };
    let key = KeyName {
        bucket: b"default".as_slice(),
        key: b"k".as_slice(),
        token: hash::token(b"default", b"k"),
    };
    let apply = |hint_for, is_background| Message::Apply {
        call: CallId(9),
        key,
        object: object.as_slice(),
        is_durable: true,
        hint_for,
        is_background,
    };
    let fetch = |wants_object| Message::Fetch {
        call: CallId(10),
        key,
        wants_object,
    };
    let ask = |op: Op<'static>, value: &'static [u8]| Message::Request {
        call: CallId(11),
        name: 0,
        shape: Request {
            bucket: b"",
            key: b"",
            token: key.token,
            ..request(0, b"", op)
        },
        key,
        value,
        context: b"",
    };
    let put = Put {
        value: b"",
        ..put()
    };
    let (whole, list) = (
        TokenRange {
            first: Token(0),
            last: Token(u64::MAX / 16),
        },
        [key.token.0.to_le_bytes(), 77_u64.to_le_bytes()].concat(),
    );
    let compare = |count| Message::Compare {
        call: CallId(12),
        range: whole,
        sum: 5,
        count,
    };
    let compared = Message::Compared {
        call: CallId(12),
        range: whole,
        sum: 5,
        count: 1,
        list: list.as_slice(),
    };
    let pull = Message::Pull {
        call: CallId(13),
        lane: key.token,
        tokens: &list[..8],
    };
    let mut records = Vec::new();
    for bytes in [key.bucket, key.key, &object] {
        records.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    records.extend_from_slice(&[key.bucket, key.key, &object].concat());
    let records = Message::Records {
        call: CallId(13),
        tokens_answered: 1,
        records: records.as_slice(),
        is_incomplete: false,
    };
    let reap = |is_final| Message::Reap {
        call: CallId(14),
        partition: PartitionId(3),
        is_final,
        list: list.as_slice(),
    };
    let reaped = Message::Reaped {
        call: CallId(14),
        list: list.as_slice(),
    };
    let outcome = Message::Outcome {
        call: CallId(15),
        outcome: Outcome::Absent {
            receipt: Receipt::default(),
        },
        bytes: [].as_slice(),
    };
    vec![
        answers(Ok(true), Ok(nothing)),
        answers(Err(Refusal::Overloaded), Ok(other)),
        answers(Err(Refusal::NotHere), Err(Refusal::Unreadable)),
        encoded(&[apply(None, false), fetch(true), fetch(false)]),
        encoded(&[
            apply(Some(NodeId(3)), false),
            apply(None, true),
            fetch(true),
        ]),
        encoded(&[
            ask(Op::Put(put), b"value"),
            ask(Op::Get, b""),
            ask(Op::Count, b""),
        ]),
        encoded(&[
            ask(
                Op::Scan {
                    cursor: 0,
                    count: 10,
                },
                b"",
            ),
            ask(
                Op::SetExpiry {
                    expiry: Expiry::Never,
                    want_previous: true,
                },
                b"",
            ),
        ]),
        encoded(&[compare(0), compare(1), compared]),
        encoded(&[apply(None, true), pull, records]),
        encoded(&[reap(false), reap(true), reaped, outcome]),
        encoded(&[Message::Gossip { bytes: b"gossip" }]),
    ]
}
