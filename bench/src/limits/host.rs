//! System calls, clocks, wake-ups, loopback.
//!
//! Owns the loops. Each takes about `length`; figures are medians or percentiles, since a mean would show the host's
//! noise.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::Figure;
use crate::load::clock::sharpen_timers;
use crate::stats::latencies::Latencies;

/// Measures all of them.
pub fn measure(length: Duration) -> io::Result<Vec<Figure>> {
    let mut figures = vec![
        Figure::new(
            "read of the clock",
            per_call_ns(length / 10, || _ = std::hint::black_box(Instant::now())),
            "ns",
        ),
        Figure::new(
            "system call (getppid)",
            per_call_ns(length / 10, || {
                _ = std::hint::black_box(rustix::process::getppid())
            }),
            "ns",
        ),
    ];
    figures.extend(wake_ups(length));
    figures.extend(sleeps(length));
    figures.extend(loopback(length)?);
    Ok(figures)
}

/// The median over batches of the time of one call.
fn per_call_ns(length: Duration, mut call: impl FnMut()) -> f64 {
    const BATCH: u32 = 1000;
    let mut batches = Latencies::new();
    let until = Instant::now() + length;
    while Instant::now() < until {
        let from = Instant::now();
        (0..BATCH).for_each(|_| call());
        batches.record(from.elapsed().as_nanos() as u64);
    }
    batches.quantile_ns(0.5) as f64 / f64::from(BATCH)
}

/// A round trip between two threads that sleep while they wait.
fn wake_ups(length: Duration) -> Vec<Figure> {
    let (ask, asked) = channel::<()>();
    let (answer, answered) = channel::<()>();
    let mut trips = Latencies::new();
    std::thread::scope(|scope| {
        scope.spawn(move || while asked.recv().is_ok() && answer.send(()).is_ok() {});
        let until = Instant::now() + length;
        while Instant::now() < until {
            let from = Instant::now();
            if ask.send(()).is_err() || answered.recv().is_err() {
                break;
            }
            trips.record(from.elapsed().as_nanos() as u64);
        }
        drop(ask);
    });
    pair("round trip of two sleeping threads", &trips)
}

/// How late a sleeper of a millisecond wakes.
fn sleeps(length: Duration) -> Vec<Figure> {
    sharpen_timers();
    let mut late = Latencies::new();
    let until = Instant::now() + length;
    while Instant::now() < until {
        let from = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
        late.record(
            from.elapsed()
                .saturating_sub(Duration::from_millis(1))
                .as_nanos() as u64,
        );
    }
    pair("lateness of a timer", &late)
}

/// One byte to a thread and back over TCP.
fn loopback(length: Duration) -> io::Result<Vec<Figure>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut trips = Latencies::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut byte = [0];
            while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
        });
        let (mut byte, until) = ([0], Instant::now() + length);
        while Instant::now() < until {
            let from = Instant::now();
            if near
                .write_all(&byte)
                .and_then(|()| near.read_exact(&mut byte))
                .is_err()
            {
                break;
            }
            trips.record(from.elapsed().as_nanos() as u64);
        }
        drop(near);
    });
    Ok(pair("round trip over loopback TCP", &trips))
}

fn pair(name: &str, latencies: &Latencies) -> Vec<Figure> {
    let us = |quantile| latencies.quantile_ns(quantile) as f64 / 1000.0;
    vec![
        Figure::new(format!("{name}, p50"), us(0.5), "us"),
        Figure::new(format!("{name}, p99.9"), us(0.999), "us"),
    ]
}
