//! Starting requests.
//!
//! Owns the order: what is due goes out on the connection that has been free for longest, and what finds none waits
//! its turn.

use super::connection::{Asked, State};
use super::*;

impl<W: Wire> Worker<'_, W> {
    /// Starts everything that is due, as far as connections are free; the rest waits.
    pub(super) fn send_due(&mut self, clock: Clock, now_ns: u64) {
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
    pub(super) fn start(&mut self, number: u32, due_ns: u64, operation: Operation, clock: Clock) {
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

    pub(super) fn send(&mut self, number: u32, mut asked: Asked, clock: Clock) {
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

    pub(super) fn flush(&mut self, number: u32, clock: Clock) {
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
    pub(super) fn offer(&mut self, number: u32, free_ns: u64) {
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

    /// Gives a connection that has room the request that waits longest, or a place in the queue.
    pub(super) fn next_for(&mut self, number: u32, clock: Clock, now_ns: u64) {
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
}
