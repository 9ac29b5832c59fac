//! What the store's parts cost: the index at a million keys, an append to the log, a record's verification.
#![expect(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gramme_core::base::hash;
use gramme_core::base::ids::{BatchNumber, SegmentId, ShardIndex, Token};
use gramme_core::port::Effects;
use gramme_core::ring::Slices;
use gramme_core::store::format::{Record, Spot};
use gramme_core::store::index::{Entry, Index};
use gramme_core::store::log::{Head, Log, LogConfig};
use gramme_core::store::place::PlaceLayout;
use gramme_core::store::segment::{SegmentState, Segments};

const KEYS: u64 = 1_000_000;

fn token_of(k: u64) -> Token {
    hash::token(b"default", &k.to_le_bytes())
}

fn entry(k: u64) -> Entry {
    let layout = PlaceLayout::new(256 << 20);
    let place = layout.pack(
        SegmentId((k >> 20) as u32),
        ((k & 0xf_ffff) * 128 + 64) as u32,
        120,
        0,
        3,
    );
    Entry {
        fingerprint: k | 1,
        place,
    }
}

fn index(criterion: &mut Criterion) {
    let slices = Slices::new(256, 1).expect("a power of two");
    let mut index = Index::new(slices, ShardIndex(0));
    for k in 0..KEYS {
        index.put(token_of(k), 3, entry(k));
    }
    println!(
        "index: {:.1} bytes a key",
        index.memory_bytes() as f64 / KEYS as f64
    );
    let mut k = 0_u64;
    let mut next = move || {
        k = k
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (k >> 33) % KEYS
    };
    criterion.bench_function("index/get of 1 M", |b| {
        b.iter_batched(
            || token_of(next()),
            |token| index.get(black_box(token), 3),
            BatchSize::SmallInput,
        )
    });
    // As in a pipeline: each get is followed by the rest of its command's work.
    let work = vec![7_u8; 2048];
    let mut sixteen = || core::array::from_fn::<_, 16, _>(|_| token_of(next()));
    for (name, is_foreseen) in [("16 gets", false), ("16 gets, foreseen", true)] {
        criterion.bench_function(&format!("index/{name} with work between, of 1 M"), |b| {
            b.iter_batched(
                &mut sixteen,
                |tokens| {
                    if is_foreseen {
                        tokens.iter().for_each(|token| index.foresee(*token));
                    }
                    for token in tokens {
                        black_box(index.get(token, 3));
                        black_box(crc32c::crc32c(black_box(&work)));
                    }
                },
                BatchSize::SmallInput,
            )
        });
    }
    criterion.bench_function("index/miss of 1 M", |b| {
        b.iter_batched(
            || token_of(KEYS + next()),
            |token| index.get(black_box(token), 3),
            BatchSize::SmallInput,
        )
    });
    criterion.bench_function("index/overwrite of 1 M", |b| {
        b.iter_batched(
            || {
                let k = next();
                (token_of(k), entry(k))
            },
            |(token, entry)| index.put(token, 3, entry),
            BatchSize::SmallInput,
        )
    });
}

fn log() -> Log {
    let config = LogConfig {
        block_bytes: 4096,
        segment_bytes: 1 << 30,
        segments_max: 8,
        buffer_bytes: 1 << 20,
        tail_bytes_max: 16 << 20,
        backlog_bytes_max: usize::MAX,
        owner: 1,
    };
    let mut segments = Segments::default();
    for id in 0..8 {
        segments.reach(SegmentId(id)).state = SegmentState::Ready;
    }
    Log::new(config, segments, 1, BatchNumber(0), 1)
}

fn head(token: Token) -> Head<'static> {
    Head {
        token,
        tag15: 3,
        flags: 0,
        fingerprint: 7,
        bucket: b"default",
        key: b"key-000000000000",
    }
}

fn appends(criterion: &mut Criterion) {
    for bytes in [100_usize, 4096] {
        let object = vec![7; bytes];
        let mut group = criterion.benchmark_group("log");
        group.throughput(Throughput::Bytes(bytes as u64));
        // A thousand at a time, in commits of 32 that are durable at once.
        group.bench_function(format!("1000 appends of {bytes} B"), |b| {
            b.iter_batched_ref(
                || (log(), Effects::default()),
                |(log, effects)| {
                    for k in 0..1000_u64 {
                        let write = |out: &mut Vec<u8>| out.extend_from_slice(&object);
                        let appended = log.append(head(Token(k)), bytes, write, 1, effects);
                        black_box(appended.expect("there is room"));
                        if k % 32 == 31 {
                            log.close_batch(effects);
                            effects.clear();
                        }
                    }
                },
                BatchSize::LargeInput,
            )
        });
        group.finish();

        let mut log = log();
        let write = |out: &mut Vec<u8>| out.extend_from_slice(&object);
        let appended = log
            .append(head(Token(1)), bytes, write, 1, &mut Effects::default())
            .expect("there is room");
        let record = log
            .in_memory(appended.segment, appended.offset)
            .expect("it is in memory");
        let spot = Spot {
            generation: 1,
            offset: appended.offset,
        };
        assert!(Record::verify(record, spot).is_ok());
        criterion.bench_function(&format!("record/verify of {bytes} B"), |b| {
            b.iter(|| Record::verify(black_box(record), spot).is_ok())
        });
    }
}

criterion_group!(benches, index, appends);
criterion_main!(benches);
