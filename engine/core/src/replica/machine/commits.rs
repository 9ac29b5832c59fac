//! Group commit, and who waits for it: when a batch is closed, and what is answered when it is on stable media.

use super::*;
use crate::replica::stages::Stage;

pub(super) struct CommitWaiter {
    pub(super) batch: BatchNumber,
    pub(super) id: RequestId,
    pub(super) deadline_ns: Option<u64>,
    pub(super) since_ns: u64,
    /// The answer says that it is durable, not only that its time is.
    pub(super) is_promise: bool,
    pub(super) existed: bool,
    pub(super) context: Option<Box<[u8]>>,
    pub(super) previous: Option<Box<[u8]>>,
}

impl Replica {
    /// Answers a write when `batch` is on stable media.
    pub(in crate::replica) fn answer_when_durable(
        &mut self,
        now: Now,
        request: &Request<'_>,
        (batch, is_promise): (BatchNumber, bool),
        answer: Answer,
        effects: &Effects,
    ) {
        if is_promise {
            // One that is closed already is waited for until the other shards have what it depends on.
            self.log.promise(batch);
        }
        self.is_commit_urgent = true;
        self.waiting += 1;
        self.commit_waiters.push_back(CommitWaiter {
            batch,
            id: request.id,
            deadline_ns: request.deadline_ns,
            since_ns: now.mono_ns,
            is_promise,
            existed: answer.existed,
            context: answer.context.map(|range| range.of(&effects.bytes).into()),
            previous: answer.previous.map(|range| range.of(&effects.bytes).into()),
        });
    }

    pub(super) fn write_done(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<(), IoError>,
        effects: &mut Effects,
    ) {
        match result {
            Ok(()) => {
                if self.log.write_done(ticket) {
                    self.write_faults_in_row = 0;
                    self.release_durable(now, effects);
                } else {
                    self.checkpoint_written(now, ticket, Ok(()), effects);
                }
            }
            Err(error) => match self.log.write_failed(ticket, effects) {
                Some(commits) => self.mend_failed_write(now, &commits, effects),
                None => self.checkpoint_written(now, ticket, Err(error), effects),
            },
        }
    }

    pub(super) fn release_durable(&mut self, now: Now, effects: &mut Effects) {
        let (durable, firm) = (self.log.durable(), self.log.firm());
        while let Some(applied) = self
            .applied_ahead
            .pop_front_if(|applied| applied.batch <= durable)
        {
            let object = effects.keep(&applied.object);
            let id = applied.id;
            effects.list.push(Effect::Applied { id, object });
        }
        let is_over = |waiter: &mut CommitWaiter| {
            waiter.batch <= firm || waiter.batch <= durable && !waiter.is_promise
        };
        while let Some(waiter) = self.commit_waiters.pop_front_if(is_over) {
            self.waiting -= 1;
            let context = waiter.context.map(|bytes| effects.keep(&bytes));
            let previous = waiter.previous.map(|bytes| effects.keep(&bytes));
            let took_ns = now.mono_ns.saturating_sub(waiter.since_ns);
            if purpose_of(waiter.id).is_none() {
                self.background.foreground.waited(Stage::Commit, took_ns);
            }
            let receipt = Self::receipt(1, took_ns);
            effects.reply(
                waiter.id,
                Outcome::Written {
                    context,
                    existed: waiter.existed,
                    previous,
                    receipt,
                },
            );
        }
    }

    pub(super) fn drop_expired(&mut self, now: Now, effects: &mut Effects) {
        let is_late =
            |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now.mono_ns);
        if self
            .commit_waiters
            .iter()
            .any(|waiter| is_late(waiter.deadline_ns))
        {
            let (late, rest): (VecDeque<_>, VecDeque<_>) =
                core::mem::take(&mut self.commit_waiters)
                    .into_iter()
                    .partition(|waiter| is_late(waiter.deadline_ns));
            self.commit_waiters = rest;
            for waiter in late {
                self.waiting -= 1;
                self.stats.deadlines_missed += 1;
                effects.reply(waiter.id, Outcome::Failed(Failure::InDoubt));
            }
        }
        let is_over = |request: &OwnedRequest| is_late(request.request().deadline_ns);
        if self.stalled.iter().any(is_over) {
            let (late, rest): (VecDeque<_>, VecDeque<_>) = core::mem::take(&mut self.stalled)
                .into_iter()
                .partition(is_over);
            self.stalled = rest;
            for request in late {
                self.stats.deadlines_missed += 1;
                let failure = Failure::DeadlineNotApplied;
                effects.reply(request.request().id, Outcome::Failed(failure));
            }
        }
        for read in self.reads.values_mut() {
            let waiters = core::mem::take(&mut read.waiters);
            for waiter in waiters {
                if is_late(waiter.request().deadline_ns) {
                    self.waiting -= 1;
                    self.stats.deadlines_missed += 1;
                    effects.reply(
                        waiter.request().id,
                        Outcome::Failed(Failure::DeadlineNotApplied),
                    );
                } else {
                    read.waiters.push(waiter);
                }
            }
        }
    }

    /// The end of a turn: group commit, spares, background work, and the writes that wait for room.
    pub(super) fn turn_end(&mut self, now: Now, effects: &mut Effects) {
        self.last_turn_ns = now.mono_ns;
        self.background.turn_end(now.mono_ns);
        self.log.frontier.tick = self.log.frontier.tick.max(self.commit_tick(now.mono_ns));
        self.close_due_batch(now, effects);
        if self.has_stopped {
            self.is_awaiting_others = false;
            return;
        }
        self.log.keep_spares(now.mono_ns, effects);
        self.admission = self.find_admission();
        self.checkpoint_step(now, effects);
        self.clean_step(now, effects);
        self.scrub_step(now, effects);
        match self.admission {
            Admission::Go => {
                for _ in 0..self.stalled.len() {
                    let Some(request) = self.stalled.pop_front() else {
                        break;
                    };
                    self.request(now, &request.request(), None, effects);
                }
                self.try_refused_hints(now, effects);
            }
            // Each finds its own answer: puts wait or are refused, deletes go on.
            Admission::Full | Admission::Wait => {
                let is_waiting = self.admission == Admission::Wait;
                for request in core::mem::take(&mut self.stalled) {
                    if is_waiting && !matches!(request.request().op, Op::Delete { .. }) {
                        self.stalled.push_back(request);
                    } else {
                        self.request(now, &request.request(), None, effects);
                    }
                }
            }
        }
        self.close_due_batch(now, effects);
        let durable = self.log.durable();
        let has_waiter = self
            .commit_waiters
            .front()
            .is_some_and(|waiter| waiter.batch <= durable);
        self.is_awaiting_others = self.log.firm() < durable
            && (has_waiter || self.is_checkpoint_awaiting() || self.cleaner.is_awaiting_others);
    }

    /// The commit interval that a time falls into. All shards of a node count them alike, and a batch never holds
    /// writes of two: shards commit together, and what a crash undoes on one shard undoes no more than that interval on
    /// the others (`store::frontier`).
    pub const fn commit_tick(&self, mono_ns: u64) -> u64 {
        match mono_ns.checked_div(self.config.commit_interval_ns) {
            Some(tick) => tick,
            None => mono_ns,
        }
    }

    /// Closes the batch of an earlier interval before something of this one is appended.
    pub(in crate::replica) fn begin_tick(&mut self, now: Now, effects: &mut Effects) {
        let tick = self.log.frontier.tick.max(self.commit_tick(now.mono_ns));
        self.log.frontier.tick = tick;
        if self.log.open_tick().is_some_and(|open| open < tick) {
            self.log.close_batch(effects);
        }
        self.log.frontier.accept();
    }

    /// Whether another commit may be sent on its way.
    pub(super) fn is_commit_free(&self) -> bool {
        self.log.in_flight() < self.config.commits_in_flight_max as usize
    }

    pub(super) fn close_due_batch(&mut self, now: Now, effects: &mut Effects) {
        let Some(tick) = self.log.open_tick() else {
            return;
        };
        let is_old = self.commit_tick(now.mono_ns) > tick;
        if self.is_stopping || self.is_commit_free() && (self.is_commit_urgent || is_old) {
            self.log.close_batch(effects);
            self.is_commit_urgent = false;
        }
    }
}
