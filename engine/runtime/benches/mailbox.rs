//! A hop between threads: a bounded crossbeam channel with a doorbell, as the shards have it, against glommio's shared
//! channel. One side sends batches and waits for their echo; reported per message.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use glommio::channels::shared_channel;
use glommio::{LocalExecutorBuilder, Placement};
use gramme_engine::doorbell::Doorbell;

const BATCHES: [u64; 3] = [1, 16, 64];
const CAPACITY: usize = 1024;

/// Echoes batches of `batch` messages until the channel closes; rings once a batch. It never sleeps, as a
/// busy shard does not.
fn echo(batch: u64, inbox: &Receiver<u64>, outbox: &Sender<u64>, doorbell: &Doorbell) {
    let mut echoed = 0;
    loop {
        match inbox.try_recv() {
            Ok(message) => {
                if outbox.send(message).is_err() {
                    return;
                }
                echoed += 1;
                if echoed % batch == 0 {
                    doorbell.ring();
                }
            }
            Err(crossbeam_channel::TryRecvError::Empty) => std::thread::yield_now(),
            Err(crossbeam_channel::TryRecvError::Disconnected) => return,
        }
    }
}

fn crossbeam_round_trips(batch: u64, rounds: u64) -> Duration {
    let (to, inbox) = bounded(CAPACITY);
    let (outbox, from) = bounded(CAPACITY);
    let here = Arc::new(Doorbell::new().expect("an event file"));
    let there = Doorbell::new().expect("an event file");
    let echoing = {
        let here = Arc::clone(&here);
        std::thread::spawn(move || echo(batch, &inbox, &outbox, &here))
    };
    let begun = Instant::now();
    for _ in 0..rounds {
        for message in 0..batch {
            to.send(message).expect("the echo lives");
        }
        there.ring();
        for _ in 0..batch {
            while from.try_recv().is_err() {
                std::thread::yield_now();
            }
        }
    }
    let took = begun.elapsed();
    drop(to);
    echoing.join().expect("the echo ends");
    took
}

fn glommio_round_trips(batch: u64, rounds: u64) -> Duration {
    let (to, inbox) = shared_channel::new_bounded(CAPACITY);
    let (outbox, from) = shared_channel::new_bounded(CAPACITY);
    let builder = || {
        LocalExecutorBuilder::new(Placement::Unbound).spin_before_park(Duration::from_micros(30))
    };
    let echoing = builder()
        .name("echo")
        .spawn(move || async move {
            let (inbox, outbox) = (inbox.connect().await, outbox.connect().await);
            while let Some(message) = inbox.recv().await {
                if outbox.send(message).await.is_err() {
                    return;
                }
            }
        })
        .expect("an executor");
    let asking = builder()
        .name("ask")
        .spawn(move || async move {
            let (to, from) = (to.connect().await, from.connect().await);
            let begun = Instant::now();
            for _ in 0..rounds {
                for message in 0..batch {
                    to.send(message).await.expect("the echo lives");
                }
                for _ in 0..batch {
                    from.recv().await.expect("the echo lives");
                }
            }
            begun.elapsed()
        })
        .expect("an executor");
    let took = asking.join().expect("the rounds end");
    echoing.join().expect("the echo ends");
    took
}

fn hops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox round trip");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(
            BenchmarkId::new("crossbeam and doorbell", batch),
            |bencher| {
                bencher.iter_custom(|rounds| crossbeam_round_trips(batch, rounds));
            },
        );
        group.bench_function(
            BenchmarkId::new("glommio shared channel", batch),
            |bencher| {
                bencher.iter_custom(|rounds| glommio_round_trips(batch, rounds));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, hops);
criterion_main!(benches);
