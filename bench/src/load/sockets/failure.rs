//! Giving up and connecting again.
//!
//! Owns timeouts and reconnects. Invariant: whatever fails, every request that was due is recorded once.

use super::connection::{Asked, State, connect_start};
use super::*;

const RECONNECT_NS: u64 = 100_000_000;
const EXPIRY_CHECK_NS: u64 = 10_000_000;

impl<W: Wire> Worker<'_, W> {
    /// Ends every request of a connection and lets it go.
    pub(super) fn fail(&mut self, number: u32, kind: ErrorKind, why: &str, now_ns: u64) {
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
    pub(super) fn expire(&mut self, clock: Clock, now_ns: u64) {
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
    pub(super) fn abandon(&mut self, now_ns: u64) {
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
