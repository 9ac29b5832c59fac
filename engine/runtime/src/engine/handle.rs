//! The embedded handle: requests from any thread, and callers' futures on the owner's core.
//!
//! Each method has an async form, which any runtime can poll, and a blocking one. A single request crosses to the
//! owner's core and back, and two sleeping threads have to be woken for it: for throughput use a [`Pipeline`], or move
//! the work to the owner with [`Engine::on_owner`].
//!
//! [`Pipeline`]: super::Pipeline

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;

use gramme_core::base::hash;
use gramme_core::base::ids::ShardIndex;
use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_core::port::{Condition, Failure, Lane, Op, Outcome, Request};

use super::Engine;
use crate::answer::{self, Error, Found, Written};
use crate::calls::{Batch, Replies, ReplyTo};
use crate::clock;
use crate::edge::EdgeMessage;
use crate::local::Local;
use crate::mailbox::{LocalFuture, Message, NotSent};
use crate::merge::Merge;
use crate::options::Options;

/// How often `update` reads and writes again before it gives up.
const UPDATE_TRIES_MAX: u32 = 16;

/// A request on its way.
struct Pending {
    receiver: oneshot::Receiver<Replies>,
    is_write: bool,
}

impl Pending {
    async fn wait<R>(
        self,
        read: impl FnOnce(&Outcome, &[u8], u64) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let received = self.receiver.await;
        Self::read(received, self.is_write, read)
    }

    fn wait_blocking<R>(
        self,
        read: impl FnOnce(&Outcome, &[u8], u64) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let received = self.receiver.recv();
        Self::read(received, self.is_write, read)
    }

    fn read<R>(
        received: Result<Replies, oneshot::RecvError>,
        is_write: bool,
        read: impl FnOnce(&Outcome, &[u8], u64) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let replies = received.map_err(|_| Error::Stopped { in_doubt: is_write })?;
        let Some((_, outcome)) = replies.list.first() else {
            return Err(Error::Unexpected);
        };
        read(outcome, &replies.bytes, clock::now().wall_ms)
    }
}

/// The outcome of a future that ran on another thread, or how it panicked.
type Ran<T> = Result<T, Box<dyn Any + Send>>;

impl Engine {
    fn call(&self, request: &Request<'_>) -> Result<Pending, Error> {
        self.call_on(self.slices().shard_of(request.token), request)
    }

    fn call_on(&self, owner: ShardIndex, request: &Request<'_>) -> Result<Pending, Error> {
        let is_write = !matches!(
            request.op,
            Op::Get | Op::Exists | Op::Scan { .. } | Op::Records { .. } | Op::Count
        );
        let (sender, receiver) = oneshot::channel();
        let mut batch = Batch::new(ReplyTo::One(Some(sender)));
        batch.push(0, request);
        self.post(owner, Message::Calls(batch))?;
        Ok(Pending { receiver, is_write })
    }

    /// The next keys of one shard in the options' bucket, blocking: where to go on (0 at the end), and the keys. `count`
    /// bounds how many index entries are looked at, so that fewer keys than that may come, also none.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn keys_blocking(
        &self,
        shard: ShardIndex,
        cursor: u64,
        count: u32,
        options: &Options<'_>,
    ) -> Result<(u64, Vec<Vec<u8>>), Error> {
        self.scan_blocking(shard, &options.scan(cursor, count))
    }

    /// A scan of one shard, blocking: where to go on, and the keys.
    pub(super) fn scan_blocking(
        &self,
        shard: ShardIndex,
        request: &Request<'_>,
    ) -> Result<(u64, Vec<Vec<u8>>), Error> {
        self.call_on(shard, request)?.wait_blocking(answer::keys)
    }

    /// Has the control shard carry out an operator's command (JSON, as `gramme_core::cluster` takes it), blocking;
    /// returns its answer, JSON.
    ///
    /// # Errors
    /// As for [`get`](Self::get); an engine by itself has no such shard.
    pub fn operate_blocking(&self, command: &[u8]) -> Result<Vec<u8>, Error> {
        let options = Options::default();
        let request = Request {
            op: Op::Cluster { command },
            ..options.get(&[])
        };
        self.call_on(Lane::CONTROL_SHARD, &request)?
            .wait_blocking(answer::report)
    }

    /// Puts a message into a shard's mailbox, or says why not; nothing has happened then.
    fn post(&self, shard: ShardIndex, message: Message) -> Result<(), Error> {
        let Some(address) = self.address(shard) else {
            return Err(Error::Unexpected);
        };
        match address.post(message) {
            Ok(()) => Ok(()),
            Err(NotSent::Full(message)) => {
                forget(message);
                Err(Error::Failed(Failure::Overloaded { retry_after_ms: 1 }))
            }
            Err(NotSent::Closed(message)) => {
                forget(message);
                Err(Error::Stopped { in_doubt: false })
            }
        }
    }

    /// The key's values.
    ///
    /// # Errors
    /// [`Error`] says what failed; a key that cannot be read is an error, never `None`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        self.get_with(key, &Options::default()).await
    }

    /// The key's values, with options.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn get_with(
        &self,
        key: &[u8],
        options: &Options<'_>,
    ) -> Result<Option<Found>, Error> {
        let pending = self.call(&options.get(key))?;
        pending.wait(answer::found).await
    }

    /// As [`get_with`](Self::get_with), blocking this thread.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_blocking(&self, key: &[u8], options: &Options<'_>) -> Result<Option<Found>, Error> {
        self.call(&options.get(key))?.wait_blocking(answer::found)
    }

    /// Writes a value, by the default bucket's rules.
    ///
    /// # Errors
    /// [`Error`] says what failed, and whether the write is in doubt.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<Written, Error> {
        self.put_with(key, value, &Options::default()).await
    }

    /// Writes a value, with options.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn put_with(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Options<'_>,
    ) -> Result<Written, Error> {
        let pending = self.call(&options.put(key, value, true))?;
        pending.wait(answer::written).await
    }

    /// As [`put_with`](Self::put_with), blocking this thread.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn put_blocking(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Options<'_>,
    ) -> Result<Written, Error> {
        self.call(&options.put(key, value, true))?
            .wait_blocking(answer::written)
    }

    /// Deletes the key.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn delete(&self, key: &[u8], options: &Options<'_>) -> Result<Written, Error> {
        let pending = self.call(&options.delete(key, true))?;
        pending.wait(answer::written).await
    }

    /// As [`delete`](Self::delete), blocking this thread.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete_blocking(&self, key: &[u8], options: &Options<'_>) -> Result<Written, Error> {
        self.call(&options.delete(key, true))?
            .wait_blocking(answer::written)
    }

    /// Reads, merges what did not see each other, changes it, writes it with the context, and starts anew where another
    /// writer came between. `change` may therefore be called several times; it gets `None` where the key has no value.
    ///
    /// # Errors
    /// As for [`put`](Self::put), and [`Error::Contended`].
    pub async fn update(
        &self,
        key: &[u8],
        merge: &impl Merge,
        options: &Options<'_>,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Written, Error> {
        for _ in 0..UPDATE_TRIES_MAX {
            let found = self.get_with(key, options).await?;
            let context = found.as_ref().map(|found| found.context.clone());
            let value = change(found.map(|found| merged(&found, merge)));
            let options = Options {
                context: context.as_ref(),
                ..*options
            };
            let mut request = options.put(key, &value, true);
            if let (Op::Put(put), None) = (&mut request.op, &context) {
                // Nothing was there to be superseded; whoever writes first has a value that must be merged.
                put.condition = Condition::IfAbsent;
            }
            let written = self.call(&request)?.wait(|outcome, bytes, wall_ms| {
                if matches!(outcome, Outcome::ConditionNotMet { .. }) {
                    return Ok(None);
                }
                answer::written(outcome, bytes, wall_ms).map(Some)
            });
            match written.await {
                Ok(Some(written)) => return Ok(written),
                Ok(None) | Err(Error::Stale(_) | Error::Failed(Failure::Stale { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended {
            tries: UPDATE_TRIES_MAX,
        })
    }

    /// As [`update`](Self::update), blocking this thread.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn update_blocking(
        &self,
        key: &[u8],
        merge: &impl Merge,
        options: &Options<'_>,
        change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Written, Error> {
        super::block::on(self.update(key, merge, options, change))
    }

    /// Runs the caller's future on the core that owns the key (in the default bucket), with direct access to the shard:
    /// no hop, and no wait where the answer is at hand. It starts at once; what is returned waits for its result. A
    /// panic of it is a panic of whoever waits.
    ///
    /// The future shares its core with all requests of that shard: it must not block, and long computing belongs
    /// elsewhere.
    ///
    /// # Errors
    /// [`Error::Failed`] with `Overloaded` where the shard's mailbox is full, [`Error::Stopped`] where the engine stops
    /// before it ends.
    pub fn on_owner<F, Fut, T>(
        &self,
        key: &[u8],
        make: F,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<F, Fut, T>
    where
        F: FnOnce(Local) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let owner = self.slices().shard_of(hash::token(BUCKET_DEFAULT, key));
        self.on_shard(owner, make)
    }

    /// As [`on_owner`](Self::on_owner), blocking this thread.
    ///
    /// # Errors
    /// As for [`on_owner`](Self::on_owner).
    pub fn on_owner_blocking<F, Fut, T>(&self, key: &[u8], make: F) -> Result<T, Error>
    where
        F: FnOnce(Local) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        super::block::on(self.on_owner(key, make))
    }

    /// As [`on_owner`](Self::on_owner), on a given shard.
    ///
    /// # Errors
    /// As for [`on_owner`](Self::on_owner).
    pub fn on_shard<F, Fut, T>(
        &self,
        shard: ShardIndex,
        make: F,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<F, Fut, T>
    where
        F: FnOnce(Local) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel::<Ran<T>>();
        let run = Box::new(move |local| -> LocalFuture {
            Box::pin(async move {
                let result = caught(async move { make(local).await }).await;
                // Whoever waited may have gone.
                let _ = sender.send(result);
            })
        });
        let posted = self.post(shard, Message::Run(run));
        async move {
            posted?;
            match receiver.await {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => Err(Error::Stopped { in_doubt: true }),
            }
        }
    }

    /// As [`on_shard`](Self::on_shard), blocking this thread.
    ///
    /// # Errors
    /// As for [`on_owner`](Self::on_owner).
    pub fn on_shard_blocking<F, Fut, T>(&self, shard: ShardIndex, make: F) -> Result<T, Error>
    where
        F: FnOnce(Local) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        super::block::on(self.on_shard(shard, make))
    }

    /// Runs a future on every shard at the same time; the results are in the shards' order.
    ///
    /// # Errors
    /// As for [`on_owner`](Self::on_owner), the first of them.
    pub async fn on_each_shard<F, Fut, T>(&self, make: F) -> Result<Vec<T>, Error>
    where
        F: Fn(Local) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let running: Vec<_> = (0..self.shards())
            .map(|shard| self.on_shard(ShardIndex(shard), make.clone()))
            .collect();
        let mut results = Vec::with_capacity(running.len());
        for future in running {
            results.push(future.await?);
        }
        Ok(results)
    }

    /// As [`on_each_shard`](Self::on_each_shard), blocking this thread.
    ///
    /// # Errors
    /// As for [`on_each_shard`](Self::on_each_shard).
    pub fn on_each_shard_blocking<F, Fut, T>(&self, make: F) -> Result<Vec<T>, Error>
    where
        F: Fn(Local) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        super::block::on(self.on_each_shard(make))
    }

    /// Sends a message to the edge of a shard.
    ///
    /// # Errors
    /// [`Error::Failed`] with `Overloaded` where the mailbox is full, [`Error::Stopped`] where the engine has stopped.
    pub fn send_to_edge(&self, shard: ShardIndex, message: EdgeMessage) -> Result<(), Error> {
        self.post(shard, Message::Edge(message))
    }
}

/// A batch that was not taken must not answer for itself: its caller gets the error.
fn forget(message: Message) {
    if let Message::Calls(batch) = message {
        batch.forget();
    }
}

fn merged(found: &Found, merge: &impl Merge) -> Vec<u8> {
    match found.values.as_slice() {
        [single] => single.clone(),
        several => {
            let siblings: Vec<&[u8]> = several.iter().map(Vec::as_slice).collect();
            merge.merge(&siblings)
        }
    }
}

/// Runs a caller's future so that a panic of it is the caller's, not the shard's.
async fn caught<T>(future: impl Future<Output = T>) -> Ran<T> {
    let mut future = pin!(future);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}
