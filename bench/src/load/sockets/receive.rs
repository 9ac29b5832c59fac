//! Reading answers.
//!
//! Owns the matching of replies to requests, in their order. Never waits.

use super::connection::{Asked, State};
use super::*;

/// Bytes that are no reply, or a reply that nobody asked for.
struct NotItsProtocol;

impl<W: Wire> Worker<'_, W> {
    pub(super) fn writable(&mut self, number: u32, clock: Clock) {
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

    pub(super) fn readable(&mut self, number: u32, clock: Clock) {
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
}
