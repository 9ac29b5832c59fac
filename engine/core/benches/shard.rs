//! What a request costs the shard: one event in, its effects out, with everything in memory.
#![expect(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "../tests/rig/mod.rs"]
mod rig;

use rig::{Rig, key};

const KEYS: u64 = 100_000;

fn requests(criterion: &mut Criterion) {
    let mut rig = Rig::new(256 << 20);
    for k in 0..KEYS {
        rig.put(&key(k), &[7; 100]);
        if k % 32 == 31 {
            rig.turn();
        }
    }
    rig.turn();
    let mut group = criterion.benchmark_group("shard");
    group.throughput(Throughput::Elements(1));
    let mut k = 0;
    group.bench_function("get of 100 B from memory", |b| {
        b.iter(|| {
            k = (k + 7919) % KEYS;
            rig.get(&key(k));
        })
    });
    // Commits of 32 whose writes are a copy in memory: without the disk.
    group.bench_function("put of 100 B", |b| {
        b.iter(|| {
            k = (k + 7919) % KEYS;
            rig.put(&key(k), &[8; 100]);
            if k % 32 == 31 {
                rig.turn();
            }
        })
    });
    group.finish();
    assert_eq!(rig.failed, 0, "every request had its answer");
    assert_eq!(rig.disk_reads(), 0, "all lies in memory");
}

criterion_group!(benches, requests);
criterion_main!(benches);
