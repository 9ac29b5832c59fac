//! A shard, as a caller's future on its own core sees it: no hop, no copy, no queue between.
//!
//! A request steps the machine at once. Where its answer is at hand (a cached get, a buffered put), it is given without
//! waiting and without an allocation; else the future waits like any other client.
//!
//! Invariant: a future that never waits still lets its shard live: after [`REQUESTS_BETWEEN_TURNS`] requests it yields to
//! the shard's loop.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use gramme_core::base::ids::ShardIndex;
use gramme_core::port::{Outcome, Request};
use gramme_core::ring::Slices;

use crate::answer::{self, Error, Found, Written};
use crate::clock;
use crate::edge::Port as _;
use crate::executor::{Core, Origin, ShardPort, Waiter};
use crate::options::Options;

/// Requests of one future between two turns of the loop.
const REQUESTS_BETWEEN_TURNS: u32 = 64;

/// Requests of one future that share one reading of the clocks.
const REQUESTS_BETWEEN_CLOCKS: u32 = 16;

/// One shard, from a future that runs on its core. Keys of other shards work too, and cost a hop.
#[derive(Clone)]
pub struct Local {
    core: Rc<RefCell<Core>>,
    requests: Cell<u32>,
}

impl Local {
    pub(crate) const fn new(core: Rc<RefCell<Core>>) -> Self {
        Self {
            core,
            requests: Cell::new(0),
        }
    }

    /// The shard.
    pub fn shard(&self) -> ShardIndex {
        self.core.borrow().index()
    }

    /// The cut of the token space; who owns what.
    pub fn slices(&self) -> Slices {
        self.core.borrow().port.slices()
    }

    /// Whether this shard owns the key, in the default bucket.
    pub fn owns(&self, key: &[u8]) -> bool {
        let options = Options::default();
        let core = self.core.borrow();
        core.port.slices().shard_of(options.get(key).token) == core.index()
    }

    /// The key's values.
    ///
    /// # Errors
    /// [`Error`] says what failed; a key that cannot be read is an error, never `None`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        let options = Options::default();
        self.request(options.get(key), |outcome, bytes, wall_ms| {
            answer::found(outcome, bytes, wall_ms)
        })
        .await
    }

    /// Gives the latest value to `read` where it lies, without a copy.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn get_with<R>(
        &self,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, Error> {
        let options = Options::default();
        self.request(options.get(key), |outcome, bytes, wall_ms| {
            answer::latest(outcome, bytes, wall_ms).map(read)
        })
        .await
    }

    /// Writes a value, by the default bucket's rules.
    ///
    /// # Errors
    /// [`Error`] says what failed, and whether the write is in doubt.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<Written, Error> {
        let options = Options::default();
        self.request(options.put(key, value, false), answer::written)
            .await
    }

    /// Writes a value with options; the answer has the context that the writer goes on with.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn put_with(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Options<'_>,
    ) -> Result<Written, Error> {
        self.request(options.put(key, value, true), answer::written)
            .await
    }

    /// Deletes the key.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn delete(&self, key: &[u8]) -> Result<Written, Error> {
        let options = Options::default();
        self.request(options.delete(key, false), answer::written)
            .await
    }

    /// Deletes the key with options; the answer has the context that the writer goes on with.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn delete_with(&self, key: &[u8], options: &Options<'_>) -> Result<Written, Error> {
        self.request(options.delete(key, true), answer::written)
            .await
    }

    /// Reads with options.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn get_options(
        &self,
        key: &[u8],
        options: &Options<'_>,
    ) -> Result<Option<Found>, Error> {
        self.request(options.get(key), answer::found).await
    }

    /// Starts another future on this core, beside this one: more requests in flight from one caller. What is returned
    /// waits for its result; dropping it gives that future up.
    pub fn spawn<F, T>(&self, future: F) -> impl Future<Output = T> + use<F, T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let running = self.core.borrow().count_local();
        glommio::spawn_local(async move {
            let _running = running;
            future.await
        })
    }

    /// Waits without keeping the core.
    pub async fn sleep(&self, time: Duration) {
        glommio::timer::sleep(time).await;
    }

    /// Lets the shard take a turn, and the other futures on this core theirs: for a caller that computes for long.
    pub async fn yield_now(&self) {
        glommio::executor().yield_now().await;
    }

    async fn request<R>(
        &self,
        request: Request<'_>,
        read: impl FnOnce(&Outcome, &[u8], u64) -> R,
    ) -> R {
        let requests = self.requests.get().wrapping_add(1);
        self.requests.set(requests);
        if requests.is_multiple_of(REQUESTS_BETWEEN_TURNS) {
            glommio::executor().yield_now().await;
        }
        let mut read = Some(read);
        let waiting = {
            let mut core = self.core.borrow_mut();
            if requests % REQUESTS_BETWEEN_CLOCKS == 1 {
                core.port.now = clock::now();
            }
            let wall_ms = core.port.now.wall_ms;
            let slot = core.port.waiters.insert(Waiter::Waiting(None));
            let id = Origin::Local(slot).id();
            let at_once = core.step_local(
                id,
                |port: &mut ShardPort| port.route(Request { id, ..request }),
                |outcome, bytes| read.take().map(|read| read(outcome, bytes, wall_ms)),
            );
            if let Some(Some(result)) = at_once {
                core.port.waiters.remove(slot);
                return result;
            }
            Waiting {
                core: Rc::clone(&self.core),
                slot,
            }
        };
        let (outcome, bytes) = waiting.answer().await;
        let wall_ms = self.core.borrow().port.now.wall_ms;
        let read = read.take().expect("the answer was not at hand");
        read(&outcome, &bytes, wall_ms)
    }
}

/// A request that waits; giving it up leaves its answer to be dropped.
struct Waiting {
    core: Rc<RefCell<Core>>,
    slot: usize,
}

impl Waiting {
    async fn answer(self) -> (Outcome, Vec<u8>) {
        poll_fn(|context| {
            let mut core = self.core.borrow_mut();
            let waiter = core
                .port
                .waiters
                .get_mut(self.slot)
                .expect("a waiter's slot is its own until it is answered");
            match waiter {
                Waiter::Done(outcome, bytes) => Poll::Ready((*outcome, core::mem::take(bytes))),
                Waiter::Waiting(_) | Waiter::Abandoned => {
                    *waiter = Waiter::Waiting(Some(context.waker().clone()));
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // While an executor is torn down the core may be borrowed; its slots do not matter any more.
        let Ok(mut core) = self.core.try_borrow_mut() else {
            return;
        };
        match core.port.waiters.get_mut(self.slot) {
            Some(waiter @ Waiter::Waiting(_)) => *waiter = Waiter::Abandoned,
            Some(_) => {
                core.port.waiters.remove(self.slot);
            }
            None => {}
        }
    }
}
