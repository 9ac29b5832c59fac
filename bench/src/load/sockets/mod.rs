//! Driving a server over sockets.
//!
//! Owns the loop of one worker: send what is due, read what has come, give up what took too long. One epoll and a
//! set of connections a worker; nothing is shared with another worker.
//!
//! Invariants:
//! - a request that is due is sent at once when a connection is free, else it waits in the order of the schedule;
//!   it is never skipped, and its response counts from its intended start;
//! - every request that was due ends in the record: answered, failed or timed out;
//! - the connections take turns, so that few requests over many connections touch them all.
//!
//! # Layout
//! `connection` is one socket with its buffers · `send` starts what is due · `receive` reads answers · `failure` gives
//! up and connects again.
//!
//! Why epoll and not a runtime: two system calls a request, no task, no waker; a CPU that the generator uses is one
//! that a target on the same machine does not have.

mod connection;

mod send;

mod receive;

mod failure;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::load::clock::{Clock, sharpen_timers};
use crate::load::plan::{LoadPlan, Pace};
use crate::load::recorder::Moments;
use crate::load::source::Source;
use crate::load::threads::Driven;
use crate::load::window::{Collector, Gauges, Pump, Window};
use crate::target::outcome::{ErrorKind, Outcome};
use crate::target::wire::{Parsed, Step, Wire};
use crate::workload::{KeySpace, Operation, Verb, Workload};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A sleep this much shorter than the wait leaves the rest to spinning, since sleepers wake late.
const SPIN_NS: u64 = 60_000;

/// Runs `plan` on the server at `address`.
pub fn run<W: Wire>(
    wire: &W,
    address: SocketAddr,
    plan: &LoadPlan,
    workload: &Workload,
    space: &Arc<KeySpace>,
    seen: impl FnMut(&Window),
) -> io::Result<Driven> {
    allow_descriptors(plan.connections);
    let sources = Source::for_workers(plan, workload, space, false).map_err(io::Error::other)?;
    let mut collector = Collector::new(plan.window.as_nanos() as u64);
    let mut workers = Vec::new();
    for (number, source) in sources.into_iter().enumerate() {
        let mine =
            plan.connections / plan.threads + usize::from(number < plan.connections % plan.threads);
        workers.push(Worker::new(
            wire,
            address,
            plan,
            source,
            collector.pump(),
            mine.max(1),
        )?);
    }
    let clock = Clock::start_in(Duration::from_millis(20));
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(move || worker.drive(clock)))
            .collect();
        let windows = collector.collect(seen);
        let mut first_error = None;
        for thread in threads {
            let ended = thread
                .join()
                .map_err(|_| io::Error::other("a worker's thread panicked"))?;
            first_error = first_error.or(ended?);
        }
        Ok(Driven {
            windows,
            first_error,
        })
    })
}

/// Raises this process's own limit of open files as far as it may, when so many connections need it. Where that is
/// not enough, connecting fails and says so.
fn allow_descriptors(connections: usize) {
    const OTHERS: u64 = 64;
    let mut limit = getrlimit(Resource::Nofile);
    let needed = connections as u64 + OTHERS;
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.unwrap_or(needed).min(needed));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

struct Worker<'a, W> {
    // per run
    wire: &'a W,
    address: SocketAddr,
    plan: &'a LoadPlan,
    paced: bool,
    timeout_ns: u64,
    in_flight_max: usize,
    epoll: OwnedFd,
    source: Source,
    pump: Pump,
    first_error: Option<String>,
    // per request
    connections: Vec<connection::Connection>,
    free: VecDeque<u32>,
    waiting: VecDeque<(u64, Operation)>,
    in_flight: usize,
    up: usize,
    /// The last attempt to connect was refused and no connection is up: requests fail at once, as a client's would.
    unreachable: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    // per turn
    dirty: Vec<u32>,
    spun_ns: u64,
    expiry_check_ns: u64,
}

impl<'a, W: Wire> Worker<'a, W> {
    fn new(
        wire: &'a W,
        address: SocketAddr,
        plan: &'a LoadPlan,
        source: Source,
        pump: Pump,
        count: usize,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                &stream,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )?;
            let mut connection = connection::Connection::new(stream, plan.depth);
            connection.greeting_left = wire.greet(&mut connection.out);
            connection.flush()?;
            connections.push(connection);
        }
        Ok(Worker {
            wire,
            address,
            plan,
            paced: matches!(plan.pace, Pace::Open { .. } | Pace::Trace { .. }),
            timeout_ns: plan.timeout.as_nanos() as u64,
            in_flight_max: plan.in_flight_max.div_ceil(plan.threads),
            epoll,
            source,
            pump,
            first_error: None,
            free: VecDeque::with_capacity(count),
            waiting: VecDeque::new(),
            in_flight: 0,
            up: count,
            unreachable: false,
            key: Vec::new(),
            value: Vec::new(),
            dirty: Vec::new(),
            spun_ns: 0,
            expiry_check_ns: 0,
            connections,
        })
    }

    fn drive(mut self, clock: Clock) -> io::Result<Option<String>> {
        sharpen_timers();
        let mut events = vec![
            Event {
                flags: EventFlags::empty(),
                data: EventData::new_u64(0)
            };
            256
        ];
        for number in 0..self.connections.len() {
            self.offer(number as u32, 0);
        }
        clock.wait_for_start();
        let give_up_ns = self.plan.end_ns().saturating_add(self.timeout_ns);
        loop {
            let now_ns = clock.now_ns();
            self.pump.tick(now_ns, self.gauges());
            self.send_due(clock, now_ns);
            if now_ns >= self.expiry_check_ns {
                self.expire(clock, now_ns);
            }
            let due_ns = self.source.due_ns(now_ns);
            if self.in_flight == 0 && self.waiting.is_empty() && due_ns.is_none() {
                break;
            }
            let hopeless = self.unreachable && matches!(self.plan.pace, Pace::Fill);
            if hopeless || (self.paced && now_ns >= give_up_ns) {
                break;
            }
            self.wait(clock, now_ns, due_ns, &mut events)?;
        }
        self.abandon(clock.now_ns());
        let gauges = self.gauges();
        self.pump.finish(gauges);
        Ok(self.first_error)
    }

    fn gauges(&self) -> Gauges {
        Gauges {
            backlog: (self.in_flight + self.waiting.len()) as u64,
            spun_ns: self.spun_ns,
        }
    }

    /// Waits for answers, or until something is due.
    fn wait(
        &mut self,
        clock: Clock,
        now_ns: u64,
        due_ns: Option<u64>,
        events: &mut [Event],
    ) -> io::Result<()> {
        let paced_due_ns = due_ns.filter(|_| self.paced).unwrap_or(u64::MAX);
        let wake_ns = paced_due_ns
            .min(self.pump.edge_ns())
            .min(self.expiry_check_ns);
        let mut sleep_ns = wake_ns.saturating_sub(now_ns);
        let spinning = self.plan.spin && paced_due_ns.saturating_sub(now_ns) <= SPIN_NS;
        if spinning {
            sleep_ns = 0;
        } else if self.plan.spin && paced_due_ns == wake_ns {
            sleep_ns -= SPIN_NS;
        }
        let timeout = Timespec {
            tv_sec: (sleep_ns / 1_000_000_000) as i64,
            tv_nsec: (sleep_ns % 1_000_000_000) as i64,
        };
        let ready = match epoll::wait(&self.epoll, &mut *events, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        if ready == 0 && spinning {
            self.spun_ns += clock.now_ns().saturating_sub(now_ns);
        }
        for event in events.iter().take(ready) {
            let number = event.data.u64() as u32;
            let flags = event.flags;
            if flags.contains(EventFlags::OUT) {
                self.writable(number, clock);
            }
            if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
                self.readable(number, clock);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
