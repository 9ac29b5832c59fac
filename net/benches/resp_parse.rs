//! What a RESP command costs to read: a `GET`, a `SET`, an inline `GET`, and a `GET` that came in two pieces.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gramme::resp::parse::{Parse, Parser};

const WORD_BYTES_MAX: usize = 1 << 20;

fn commands(c: &mut Criterion) {
    let get = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n".to_vec();
    let mut set = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$100\r\n".to_vec();
    set.extend_from_slice(&[b'x'; 100]);
    set.extend_from_slice(b"\r\n");
    let inline = b"GET key:000000000001\r\n".to_vec();
    let mut group = c.benchmark_group("resp_parse");
    for (name, input) in [("get", &get), ("set_100", &set), ("inline_get", &inline)] {
        group.throughput(Throughput::Bytes(input.len() as u64));
        let (mut parser, mut words) = (Parser::default(), Vec::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let parse = parser.parse(black_box(input), WORD_BYTES_MAX, &mut words);
                assert_eq!(parse, Parse::Done(input.len()));
            });
        });
    }
    let (first, _) = get.split_at(20);
    let (mut parser, mut words) = (Parser::default(), Vec::new());
    group.bench_function("get_in_two_pieces", |bencher| {
        bencher.iter(|| {
            let parse = parser.parse(black_box(first), WORD_BYTES_MAX, &mut words);
            assert!(matches!(parse, Parse::NeedMore(_)));
            let parse = parser.parse(black_box(&get), WORD_BYTES_MAX, &mut words);
            assert_eq!(parse, Parse::Done(get.len()));
        });
    });
    group.finish();
}

criterion_group!(benches, commands);
criterion_main!(benches);
