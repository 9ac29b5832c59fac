//! A pipeline: many requests in flight from one thread, at a fraction of a hop each.
//!
//! Owns the batches that gather for each shard, and the answers that have come back. A batch costs one message and one
//! doorbell however long it is; requests that are added while the thread waits for answers share the next one.
//! For one thread; clone the engine and make one each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gramme_core::base::ids::ShardIndex;
use gramme_core::port::{Failure, Outcome, Request};

use super::Engine;
use crate::answer::{self, Error, Found, Written};
use crate::calls::{Batch, Replies, ReplyTo};
use crate::clock;
use crate::mailbox::{Message, NotSent};
use crate::options::Options;
use crate::tray::Tray;

/// A batch is sent when it has this many requests.
const BATCH_CALLS_MAX: usize = 128;

/// Or when it has this many bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// With so many requests in flight answers to some are about to come.
const MANY_IN_FLIGHT: usize = 8;

/// When a batch is offered again to a mailbox that was full.
const RETRY_AFTER: Duration = Duration::from_micros(200);

/// Many requests in flight, carried out and answered in any order, also those on one key.
pub struct Pipeline {
    engine: Engine,
    batches: Vec<Option<Batch>>,
    in_flight: usize,
    in_flight_max: usize,
    /// Bounded by the requests in flight.
    tray: Arc<Tray>,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// As its request had it.
    pub tag: u64,
    outcome: &'a Outcome,
    bytes: &'a [u8],
    wall_ms: u64,
}

impl<'a> Reply<'a> {
    /// The latest value, in place, where this answers a get.
    ///
    /// # Errors
    /// [`Error`] says what failed.
    pub fn latest(&self) -> Result<Option<&'a [u8]>, Error> {
        answer::latest(self.outcome, self.bytes, self.wall_ms)
    }

    /// The encoded object (`core::version::ObjectView::parse`), where this answers a get: what `Op::Merge` takes.
    ///
    /// # Errors
    /// [`Error`] says what failed.
    pub fn object(&self) -> Result<Option<&'a [u8]>, Error> {
        answer::object(self.outcome, self.bytes, self.wall_ms)
    }

    /// All values with their context, where this answers a get.
    ///
    /// # Errors
    /// [`Error`] says what failed.
    pub fn found(&self) -> Result<Option<Found>, Error> {
        answer::found(self.outcome, self.bytes, self.wall_ms)
    }

    /// The write, where this answers a put or a delete.
    ///
    /// # Errors
    /// [`Error`] says what failed, and whether the write is in doubt.
    pub fn written(&self) -> Result<Written, Error> {
        answer::written(self.outcome, self.bytes, self.wall_ms)
    }
}

impl Pipeline {
    pub(super) fn new(engine: Engine, in_flight_max: usize) -> Self {
        let batches = (0..engine.shards()).map(|_| None).collect();
        Self {
            engine,
            batches,
            in_flight: 0,
            in_flight_max: in_flight_max.max(1),
            tray: Arc::default(),
        }
    }

    /// Requests that are not answered.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether one more request fits; take answers if not.
    pub const fn has_room(&self) -> bool {
        self.in_flight < self.in_flight_max
    }

    /// Reads a key; `tag` comes back with the answer.
    ///
    /// # Errors
    /// `Overloaded` without room; [`Error::Stopped`]. Nothing happened, and no answer comes.
    pub fn get(&mut self, tag: u64, key: &[u8], options: &Options<'_>) -> Result<(), Error> {
        self.add(tag, &options.get(key))
    }

    /// Writes a value.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn put(
        &mut self,
        tag: u64,
        key: &[u8],
        value: &[u8],
        options: &Options<'_>,
    ) -> Result<(), Error> {
        self.add(tag, &options.put(key, value, false))
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn delete(&mut self, tag: u64, key: &[u8], options: &Options<'_>) -> Result<(), Error> {
        self.add(tag, &options.delete(key, false))
    }

    /// Merges an encoded object ([`Reply::object`]) into what is there: what import does. Repeating it changes nothing.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn merge(
        &mut self,
        tag: u64,
        key: &[u8],
        object: &[u8],
        options: &Options<'_>,
    ) -> Result<(), Error> {
        self.add(tag, &options.merge(key, object))
    }

    pub(super) fn add(&mut self, tag: u64, request: &Request<'_>) -> Result<(), Error> {
        if !self.has_room() {
            return Err(Error::Failed(Failure::Overloaded { retry_after_ms: 0 }));
        }
        let owner = self.engine.slices().shard_of(request.token);
        let Some(slot) = self.batches.get_mut(usize::from(owner.0)) else {
            return Err(Error::Unexpected);
        };
        let tray = &self.tray;
        let batch = slot.get_or_insert_with(|| Batch::new(ReplyTo::Pipeline(Arc::clone(tray))));
        batch.push(tag, request);
        let is_full = batch.len() >= BATCH_CALLS_MAX || batch.bytes_len() >= BATCH_BYTES_MAX;
        self.in_flight += 1;
        if is_full {
            self.send(owner);
        }
        Ok(())
    }

    /// Sends what has gathered. [`wait`](Self::wait) does it too.
    pub fn flush(&mut self) {
        for shard in 0..self.engine.shards() {
            self.send(ShardIndex(shard));
        }
    }

    fn send(&mut self, shard: ShardIndex) {
        let Some(slot) = self.batches.get_mut(usize::from(shard.0)) else {
            return;
        };
        let Some(batch) = slot.take() else { return };
        let Some(address) = self.engine.address(shard) else {
            return;
        };
        match address.post(Message::Calls(batch)) {
            Ok(()) => {}
            // It goes with the next flush; until then it grows no further than the room in this pipeline.
            Err(NotSent::Full(Message::Calls(batch))) => *slot = Some(batch),
            // A batch that is dropped answers for itself.
            Err(NotSent::Full(_) | NotSent::Closed(_)) => {}
        }
    }

    /// Takes the answers that are there, without waiting; returns how many. Sends nothing: what a full mailbox did not take
    /// goes with the next [`flush`](Self::flush) or [`wait`](Self::wait).
    pub fn poll(&mut self, mut take: impl FnMut(Reply<'_>)) -> usize {
        let mut taken = 0;
        while let Some(replies) = self.tray.take() {
            taken += self.take(&replies, &mut take);
        }
        taken
    }

    /// Sends what has gathered, and takes answers until there are `least` of them, or nothing is in flight; returns how
    /// many.
    pub fn wait(&mut self, least: usize, take: impl FnMut(Reply<'_>)) -> usize {
        self.wait_until(least, None, take)
    }

    /// As [`wait`](Self::wait), but no longer than this.
    pub fn wait_for(&mut self, least: usize, time: Duration, take: impl FnMut(Reply<'_>)) -> usize {
        self.wait_until(least, Instant::now().checked_add(time), take)
    }

    fn wait_until(
        &mut self,
        least: usize,
        until: Option<Instant>,
        mut take: impl FnMut(Reply<'_>),
    ) -> usize {
        self.flush();
        let mut taken = self.poll(&mut take);
        while taken < least && self.in_flight > 0 {
            // A batch that a full mailbox did not take is offered again soon: no answer may be on its way that would
            // end the wait.
            let is_refused = self.batches.iter().any(Option::is_some);
            let offer_again = is_refused.then(|| Instant::now() + RETRY_AFTER);
            let wake_at = [offer_again, until].into_iter().flatten().min();
            match self.tray.wait(wake_at, self.in_flight >= MANY_IN_FLIGHT) {
                Some(replies) => taken += self.take(&replies, &mut take),
                None if until.is_some_and(|at| at <= Instant::now()) => break,
                None => {}
            }
            taken += self.poll(&mut take);
            self.flush();
        }
        taken
    }

    fn take(&mut self, replies: &Replies, take: &mut impl FnMut(Reply<'_>)) -> usize {
        let wall_ms = clock::now().wall_ms;
        for (tag, outcome) in &replies.list {
            take(Reply {
                tag: *tag,
                outcome,
                bytes: &replies.bytes,
                wall_ms,
            });
        }
        self.in_flight -= replies.list.len();
        replies.list.len()
    }
}
