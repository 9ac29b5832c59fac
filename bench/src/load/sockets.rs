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
//! Why epoll and not a runtime: two system calls a request, no task, no waker; a CPU that the generator uses is one
//! that a target on the same machine does not have.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::clock::{Clock, sharpen_timers};
use super::connection::{Asked, Connection, State, connect_start};
use super::plan::{LoadPlan, Pace};
use super::recorder::Moments;
use super::source::Source;
use super::threads::Driven;
use super::window::{Collector, Gauges, Pump, Window};
use crate::target::outcome::{ErrorKind, Outcome};
use crate::target::wire::{Parsed, Step, Wire};
use crate::workload::{KeySpace, Operation, Verb, Workload};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RECONNECT_NS: u64 = 100_000_000;
const EXPIRY_CHECK_NS: u64 = 10_000_000;
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

/// Bytes that are no reply, or a reply that nobody asked for.
struct NotItsProtocol;

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
    connections: Vec<Connection>,
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
            let mut connection = Connection::new(stream, plan.depth);
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

    /// Starts everything that is due, as far as connections are free; the rest waits.
    fn send_due(&mut self, clock: Clock, now_ns: u64) {
        while let Some(due_ns) = self
            .source
            .due_ns(now_ns)
            .filter(|due_ns| *due_ns <= now_ns)
        {
            if !self.paced && self.free.is_empty() {
                break;
            }
            let operation = self.source.take();
            self.pump.recorder.counts.due += 1;
            if let Some(number) = self.free.pop_front() {
                self.connections[number as usize].queued = false;
                self.start(number, due_ns, operation, clock);
                // With depth to spare it can take another at once.
                self.offer(number, self.connections[number as usize].free_ns);
            } else if self.unreachable {
                self.pump.recorder.record_unsent(
                    operation.verb,
                    ErrorKind::Connection,
                    due_ns,
                    now_ns,
                );
            } else if self.waiting.len() + self.in_flight >= self.in_flight_max {
                self.pump.recorder.counts.capped += 1;
                self.pump
                    .recorder
                    .record_unsent(operation.verb, ErrorKind::Capped, due_ns, now_ns);
            } else {
                self.waiting.push_back((due_ns, operation));
            }
        }
        while let Some(number) = self.dirty.pop() {
            self.flush(number, clock);
        }
    }

    /// Sends the first step of an operation.
    fn start(&mut self, number: u32, due_ns: u64, operation: Operation, clock: Clock) {
        let free_ns = due_ns.max(self.connections[number as usize].free_ns);
        self.in_flight += 1;
        let step = Step::first(operation.verb);
        self.send(
            number,
            Asked {
                operation,
                step,
                intended_ns: due_ns,
                free_ns,
                sent_ns: 0,
            },
            clock,
        );
    }

    fn send(&mut self, number: u32, mut asked: Asked, clock: Clock) {
        self.source
            .stream
            .write_key(&asked.operation, &mut self.key);
        self.value.clear();
        if asked.step == Step::Write {
            self.source
                .stream
                .write_value(&asked.operation, &mut self.value);
        }
        let connection = &mut self.connections[number as usize];
        self.wire.encode(
            asked.step,
            &asked.operation,
            &self.key,
            &self.value,
            &mut connection.out,
        );
        if asked.sent_ns == 0 {
            asked.sent_ns = clock.now_ns();
            if !self.paced {
                (asked.intended_ns, asked.free_ns) = (asked.sent_ns, asked.sent_ns);
            }
        }
        connection.asked.push_back(asked);
        if self.plan.depth == 1 {
            self.flush(number, clock);
        } else if self.dirty.last() != Some(&number) {
            self.dirty.push(number);
        }
    }

    fn flush(&mut self, number: u32, clock: Clock) {
        let connection = &mut self.connections[number as usize];
        match connection.flush() {
            Ok(whole) if whole == connection.blocked => {
                connection.blocked = !whole;
                let wanted = if whole {
                    EventFlags::IN
                } else {
                    EventFlags::IN | EventFlags::OUT
                };
                if let Some(stream) = &connection.stream {
                    // A socket that cannot be watched will be seen by its timeout.
                    let _ = epoll::modify(
                        &self.epoll,
                        stream,
                        EventData::new_u64(u64::from(number)),
                        wanted,
                    );
                }
            }
            Ok(_) => {}
            Err(error) => self.fail(
                number,
                ErrorKind::Connection,
                &error.to_string(),
                clock.now_ns(),
            ),
        }
    }

    /// Puts a connection into the queue when it can take a request, or gives it one that waits.
    fn offer(&mut self, number: u32, free_ns: u64) {
        let connection = &mut self.connections[number as usize];
        if !connection.queued
            && connection.state == State::Up
            && connection.asked.len() < self.plan.depth
            && !connection.blocked
        {
            connection.free_ns = free_ns;
            connection.queued = true;
            self.free.push_back(number);
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

    fn writable(&mut self, number: u32, clock: Clock) {
        let connection = &mut self.connections[number as usize];
        if connection.state == State::Connecting {
            let refused = connection
                .stream
                .as_ref()
                .and_then(|stream| stream.take_error().transpose());
            match refused {
                Some(Ok(error) | Err(error)) => {
                    return self.fail(
                        number,
                        ErrorKind::Connection,
                        &error.to_string(),
                        clock.now_ns(),
                    );
                }
                None => {
                    connection.state = State::Up;
                    connection.blocked = true;
                    connection.greeting_left = self.wire.greet(&mut connection.out);
                    self.up += 1;
                    self.unreachable = false;
                }
            }
        }
        self.flush(number, clock);
        self.next_for(number, clock, clock.now_ns());
    }

    fn readable(&mut self, number: u32, clock: Clock) {
        match self.connections[number as usize].fill() {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                return self.fail(
                    number,
                    ErrorKind::Connection,
                    &error.to_string(),
                    clock.now_ns(),
                );
            }
        }
        // One look at the clock for all replies of one read: they were here together.
        let answered_ns = clock.now_ns();
        self.pump.tick(answered_ns, self.gauges());
        while let Some(verdict) = self.take_reply(number) {
            match verdict {
                Ok(None) => {}
                Ok(Some((asked, outcome))) => {
                    self.answered(number, asked, outcome, answered_ns, clock)
                }
                Err(NotItsProtocol) => {
                    return self.fail(
                        number,
                        ErrorKind::Protocol,
                        "the target's answer is not of its protocol",
                        answered_ns,
                    );
                }
            }
        }
        self.next_for(number, clock, answered_ns);
    }

    /// The next whole reply, `None` when there is none; `Ok(None)` for one of the greeting.
    fn take_reply(
        &mut self,
        number: u32,
    ) -> Option<Result<Option<(Asked, Outcome)>, NotItsProtocol>> {
        let connection = &mut self.connections[number as usize];
        if connection.unread().is_empty() {
            return None;
        }
        let (step, key_id) = match connection.asked.front() {
            _ if connection.greeting_left > 0 => (Step::Write, 0),
            Some(asked) => (asked.step, asked.operation.key_id),
            // Bytes that nobody asked for.
            None => return Some(Err(NotItsProtocol)),
        };
        match self.wire.parse(step, key_id, connection.unread()) {
            Parsed::NeedMore => None,
            Parsed::Broken => Some(Err(NotItsProtocol)),
            Parsed::Reply { bytes, outcome } => {
                if matches!(outcome, Outcome::Failed(_)) && self.first_error.is_none() {
                    let text = &connection.unread()[..bytes.min(200)];
                    self.first_error = Some(String::from_utf8_lossy(text).trim().to_owned());
                }
                connection.consume(bytes);
                if connection.greeting_left > 0 {
                    connection.greeting_left -= 1;
                    return Some(Ok(None));
                }
                let asked = connection.asked.pop_front()?;
                Some(Ok(Some((asked, outcome))))
            }
        }
    }

    fn answered(
        &mut self,
        number: u32,
        asked: Asked,
        outcome: Outcome,
        answered_ns: u64,
        clock: Clock,
    ) {
        let more = asked.operation.verb == Verb::Update
            && asked.step == Step::Read
            && !matches!(outcome, Outcome::Failed(_));
        if more {
            if outcome == Outcome::Miss {
                self.pump.recorder.counts.misses += 1;
            }
            return self.send(
                number,
                Asked {
                    step: Step::Write,
                    ..asked
                },
                clock,
            );
        }
        self.in_flight -= 1;
        let Asked {
            intended_ns,
            free_ns,
            sent_ns,
            operation,
            ..
        } = asked;
        self.pump.recorder.record(
            operation.verb,
            outcome,
            Moments {
                intended_ns,
                free_ns,
                sent_ns,
                answered_ns,
            },
        );
    }

    /// Gives a connection that has room the request that waits longest, or a place in the queue.
    fn next_for(&mut self, number: u32, clock: Clock, now_ns: u64) {
        let connection = &mut self.connections[number as usize];
        if connection.state != State::Up || connection.blocked || connection.queued {
            return;
        }
        connection.free_ns = now_ns;
        while self.connections[number as usize].asked.len() < self.plan.depth
            && self.connections[number as usize].state == State::Up
        {
            let Some((due_ns, operation)) = self.waiting.pop_front() else {
                break;
            };
            self.start(number, due_ns, operation, clock);
        }
        self.offer(number, now_ns);
    }

    /// Ends every request of a connection and lets it go.
    fn fail(&mut self, number: u32, kind: ErrorKind, why: &str, now_ns: u64) {
        self.first_error.get_or_insert_with(|| why.to_owned());
        let connection = &mut self.connections[number as usize];
        // A connection that worked is made anew at once; one that could not be made waits.
        let pause_ns = match connection.state {
            State::Up => {
                self.up -= 1;
                0
            }
            State::Connecting | State::Down { .. } => {
                self.unreachable = self.up == 0;
                RECONNECT_NS
            }
        };
        connection.close(now_ns + pause_ns);
        if connection.queued {
            connection.queued = false;
            self.free.retain(|other| *other != number);
        }
        while let Some(asked) = self.connections[number as usize].asked.pop_front() {
            self.in_flight -= 1;
            let Asked {
                intended_ns,
                free_ns,
                sent_ns,
                operation,
                ..
            } = asked;
            self.pump.recorder.record(
                operation.verb,
                Outcome::Failed(kind),
                Moments {
                    intended_ns,
                    free_ns,
                    sent_ns,
                    answered_ns: now_ns,
                },
            );
        }
        if self.unreachable {
            while let Some((due_ns, operation)) = self.waiting.pop_front() {
                self.pump.recorder.record_unsent(
                    operation.verb,
                    ErrorKind::Connection,
                    due_ns,
                    now_ns,
                );
            }
        }
    }

    /// Gives up what has waited or been on its way for too long, and connects again what is down.
    fn expire(&mut self, clock: Clock, now_ns: u64) {
        self.expiry_check_ns = now_ns + EXPIRY_CHECK_NS;
        while let Some((due_ns, operation)) = self.waiting.front().copied() {
            if due_ns + self.timeout_ns > now_ns {
                break;
            }
            self.waiting.pop_front();
            self.pump
                .recorder
                .record_unsent(operation.verb, ErrorKind::Timeout, due_ns, now_ns);
        }
        for number in 0..self.connections.len() {
            let connection = &self.connections[number];
            let number = number as u32;
            if connection
                .asked
                .front()
                .is_some_and(|asked| asked.intended_ns + self.timeout_ns <= now_ns)
            {
                // The reply may still come: only a new connection keeps it apart from the next one.
                self.fail(
                    number,
                    ErrorKind::Timeout,
                    "no answer within the timeout",
                    now_ns,
                );
            } else if matches!(connection.state, State::Down { retry_ns } if retry_ns <= now_ns) {
                self.reconnect(number, clock);
            }
        }
    }

    fn reconnect(&mut self, number: u32, clock: Clock) {
        let started = connect_start(self.address).and_then(|stream| {
            epoll::add(
                &self.epoll,
                &stream,
                EventData::new_u64(u64::from(number)),
                EventFlags::IN | EventFlags::OUT,
            )?;
            Ok(stream)
        });
        let connection = &mut self.connections[number as usize];
        match started {
            Ok(stream) => {
                connection.stream = Some(stream);
                connection.state = State::Connecting;
            }
            Err(_) => {
                connection.state = State::Down {
                    retry_ns: clock.now_ns() + RECONNECT_NS,
                }
            }
        }
    }

    /// Records what is left at the very end as timed out.
    fn abandon(&mut self, now_ns: u64) {
        for number in 0..self.connections.len() {
            if !self.connections[number].asked.is_empty() {
                self.fail(
                    number as u32,
                    ErrorKind::Timeout,
                    "no answer before the end of the run",
                    now_ns,
                );
            }
        }
        while let Some((due_ns, operation)) = self.waiting.pop_front() {
            self.pump
                .recorder
                .record_unsent(operation.verb, ErrorKind::Timeout, due_ns, now_ns);
        }
        while let Some(due_ns) = self.source.due_ns(now_ns).filter(|_| self.paced) {
            let operation = self.source.take();
            self.pump.recorder.counts.due += 1;
            self.pump
                .recorder
                .record_unsent(operation.verb, ErrorKind::Timeout, due_ns, now_ns);
        }
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
