//! What the generator itself costs, against a server in the same process that does nothing.
//!
//! Owns the two runs: as fast as one thread can, and slowly, for the floor of latency. A target's figures cannot be
//! better than these.

use std::io;
use std::time::Duration;

use super::Figure;
use crate::load::plan::{LoadPlan, Pace};
use crate::load::sockets;
use crate::load::window::Window;
use crate::stats::latencies::Packed;
use crate::stub::{Behaviour, StubServer};
use crate::target::resp::Resp;
use crate::workload::{KeySpace, Process, Shape, preset};

const CONNECTIONS: usize = 50;
const FLOOR_RATE: f64 = 1000.0;

/// Measures both.
pub fn measure(length: Duration) -> io::Result<Vec<Figure>> {
    let server = StubServer::start(([127, 0, 0, 1], 0).into(), Behaviour::default())?;
    let workload =
        preset::find("ycsb-c").ok_or_else(|| io::Error::other("the preset ycsb-c is missing"))?;
    let run = |pace: Pace| -> io::Result<Vec<Window>> {
        let plan = LoadPlan {
            pace,
            duration: length,
            threads: 1,
            connections: CONNECTIONS,
            depth: 1,
            timeout: Duration::from_secs(5),
            in_flight_max: 1_000_000,
            spin: std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 2),
            seed: 1,
            window: LoadPlan::window_for(length),
            share_index: 0,
            share_count: 1,
        };
        sockets::run(
            &Resp::default(),
            server.address(),
            &plan,
            &workload,
            &KeySpace::new(workload.records),
            |_| {},
        )
        .map(|driven| driven.windows)
    };
    let fast = run(Pace::Closed)?;
    let ended: u64 = fast.iter().map(|window| window.counts.ended).sum();
    let busy: f64 =
        fast.iter().map(|window| window.cpu_share_max).sum::<f64>() / fast.len().max(1) as f64;
    let slow = run(Pace::Open {
        rate: FLOOR_RATE,
        process: Process::Poisson,
        shape: Shape::Constant,
    })?;
    let responses: Vec<Packed> = slow.iter().map(Window::response_all).collect();
    let floor = Packed::join(&responses);
    let seconds = length.as_secs_f64();
    Ok(vec![
        Figure::new(
            "generator, greatest rate on one thread",
            ended as f64 / seconds,
            "/s",
        )
        .noted(format!(
            "{CONNECTIONS} connections without pipelining, closed loop, null server"
        )),
        Figure::new(
            "generator, CPU of its thread a request",
            busy * seconds * 1e6 / ended.max(1) as f64,
            "us",
        ),
        Figure::new(
            format!("generator, floor of latency at {FLOOR_RATE:.0}/s, p50"),
            floor.quantile_ns(0.5) as f64 / 1e3,
            "us",
        ),
        Figure::new(
            format!("generator, floor of latency at {FLOOR_RATE:.0}/s, p99"),
            floor.quantile_ns(0.99) as f64 / 1e3,
            "us",
        ),
    ])
}
