//! What a frame costs to write and to read, with and without a checksum.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gramme::wire::{self, Answer, Get, Message, Parse, Put, Quorum, Reply, Write};
use gramme_core::port::{Condition, ContextArg, Expiry, Receipt};

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
                    Parse::NeedMore(_) | Parse::Bad(_) => unreachable!("it was just encoded"),
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, frames);
criterion_main!(benches);
