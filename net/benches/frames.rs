//! What a frame costs to write and to read, with and without a checksum.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gramme::wire::peer::{PeerFrame, PeerParse, encode_peer, parse_peer};
use gramme::wire::{self, Answer, Get, Message, Parse, Put, Quorum, Reply, Write};
use gramme_core::base::hash;
use gramme_core::port::{
    CallId, Condition, ContextArg, Expiry, KeyName, Lane, Message as PeerMessage, Receipt,
};

fn frames(c: &mut Criterion) {
    let value = [7_u8; 100];
    let get = Get {
        bucket: b"default",
        key: b"user/0000000000000001",
        deadline_us: 100_000,
        quorum: Quorum::default(),
    };
    let put = Put {
        write: Write {
            target: get,
            context: ContextArg::Blind,
            durability: None,
            write_id: None,
            is_strict: false,
            want_context: true,
            want_previous: false,
        },
        value: &value,
        expiry: Expiry::Default,
        condition: Condition::Always,
    };
    let answer = Answer {
        reply: Reply::Object {
            object: &value,
            key_hash: 1,
        },
        receipt: Receipt::default(),
        server_ns: 1,
        ring_epoch: 1,
    };
    let messages = [
        ("get", Message::Get(get)),
        ("put", Message::Put(put)),
        ("answer", Message::Answer(answer)),
    ];
    for (checksum, suffix) in [(false, ""), (true, "_checksum")] {
        for (name, message) in &messages {
            let mut group = c.benchmark_group(format!("frame/{name}{suffix}"));
            group.throughput(Throughput::Elements(1));
            group.bench_function("encode", |b| {
                let mut out = Vec::with_capacity(512);
                b.iter(|| {
                    out.clear();
                    wire::encode(&mut out, 1, checksum, black_box(message));
                    black_box(out.len())
                });
            });
            let mut bytes = Vec::new();
            wire::encode(&mut bytes, 1, checksum, message);
            group.bench_function("decode", |b| {
                b.iter(|| match wire::parse(black_box(&bytes)) {
                    Parse::Done(frame) => frame.header.frame_bytes,
                    Parse::Unknown(_) | Parse::NeedMore(_) | Parse::Bad(_) => {
                        unreachable!("it was just encoded")
                    }
                });
            });
            group.finish();
        }
    }
}

fn peers(c: &mut Criterion) {
    let (bucket, key) = (b"default".as_slice(), b"user/0000000000000001".as_slice());
    let object = [7_u8; 120];
    let name = KeyName {
        bucket,
        key,
        token: hash::token(bucket, key),
    };
    let apply = PeerMessage::Apply {
        call: CallId(1),
        key: name,
        object: object.as_slice(),
        is_durable: false,
        hint_for: None,
        is_background: false,
    };
    let applied = PeerMessage::Applied {
        call: CallId(1),
        result: Ok(false),
        queue: 0,
    };
    for (checksum, suffix) in [(false, ""), (true, "_checksum")] {
        for (what, message) in [("apply", apply), ("applied", applied)] {
            let frame = PeerFrame {
                lane: Lane::Token(name.token),
                sent_ms: 1,
                message,
            };
            let mut group = c.benchmark_group(format!("peer/{what}{suffix}"));
            group.throughput(Throughput::Elements(1));
            group.bench_function("encode", |b| {
                let mut out = Vec::with_capacity(512);
                b.iter(|| {
                    out.clear();
                    encode_peer(&mut out, checksum, black_box(&frame))
                });
            });
            let mut bytes = Vec::new();
            encode_peer(&mut bytes, checksum, &frame);
            group.bench_function("decode", |b| {
                b.iter(|| match parse_peer(black_box(&bytes)) {
                    PeerParse::Done { frame_bytes, .. } => frame_bytes,
                    _ => unreachable!("it was just encoded"),
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, frames, peers);
criterion_main!(benches);
