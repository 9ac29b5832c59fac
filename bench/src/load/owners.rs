//! Driving gramme's engine on the cores that own the data: the caller's work runs where the key is, without a hop.
//!
//! Owns the futures on each shard, `depth` of them, that share one worker. Never asks a shard for a key of another one:
//! each draws from the whole key space and passes over what it does not own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gramme::core::base::hash;
use gramme::core::base::ids::ShardIndex;
use gramme::core::base::limits::BUCKET_DEFAULT;
use gramme::core::ring::Slices;
use gramme::{Engine, Error, Local};

use super::clock::{Clock, sharpen_timers};
use super::plan::LoadPlan;
use super::source::Source;
use super::threads::Driven;
use super::window::{Collector, Pump, Window};
use super::worker::{Step, Worker};
use crate::target::embedded::{failed, options_of};
use crate::target::outcome::{ErrorKind, Outcome};
use crate::target::store::StoreError;
use crate::workload::{Durability, KeySpace, Operation, Verb, Workload};

/// Waits shorter than this are spent letting the shard turn, since its timers are no finer.
const SPIN_NS: u64 = 100_000;

/// Runs `plan` with one worker a shard, on that shard's core.
pub(super) fn run(
    engine: &Engine,
    plan: &LoadPlan,
    workload: &Workload,
    space: &Arc<KeySpace>,
    seen: impl FnMut(&Window),
) -> Result<Driven, StoreError> {
    let plan = LoadPlan {
        threads: usize::from(engine.shards()),
        ..plan.clone()
    };
    let sources = Source::for_workers(&plan, workload, space, true)
        .map_err(|error| StoreError::new("prepare the workload", error))?;
    let mut collector = Collector::new(plan.window.as_nanos() as u64);
    let clock = Clock::start_in(Duration::from_millis(20));
    let parts: Vec<(Source, Pump)> = sources
        .into_iter()
        .map(|source| (source, collector.pump()))
        .collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = parts
            .into_iter()
            .zip(0..)
            .map(|((source, pump), shard)| {
                let plan = plan.clone();
                // Starting it is all that these threads do; they wait until it has ended.
                scope.spawn(move || {
                    engine.on_shard_blocking(ShardIndex(shard), move |local| async move {
                        drive(local, source, pump, &plan, clock).await
                    })
                })
            })
            .collect();
        let windows = collector.collect(seen);
        let mut first_error = None;
        for worker in workers {
            let ended = worker
                .join()
                .unwrap_or(Err(Error::Stopped { in_doubt: true }))
                .map_err(|error| StoreError::new("run a worker on its shard", error))?;
            first_error = first_error.or(ended);
        }
        Ok(Driven {
            windows,
            first_error,
        })
    })
}

fn owner_of(slices: Slices, key: &[u8]) -> ShardIndex {
    slices.shard_of(hash::token(BUCKET_DEFAULT, key))
}

/// A worker and the first error that any of its futures met.
struct Shared {
    worker: RefCell<Worker>,
    first_error: RefCell<Option<String>>,
}

/// One shard's load; returns the first error.
async fn drive(
    local: Local,
    source: Source,
    pump: Pump,
    plan: &LoadPlan,
    clock: Clock,
) -> Option<String> {
    sharpen_timers();
    let slices = local.slices();
    let shard = local.shard();
    let worker = Worker::new(source, pump, plan, clock)
        .only(Box::new(move |key| owner_of(slices, key) == shard));
    let shared = Rc::new(Shared {
        worker: RefCell::new(worker),
        first_error: RefCell::default(),
    });
    while clock.now_ns() == 0 {
        local.sleep(Duration::from_millis(1)).await;
    }
    let others: Vec<_> = (1..plan.depth)
        .map(|_| local.spawn(ask(local.clone(), Rc::clone(&shared), clock)))
        .collect();
    ask(local, Rc::clone(&shared), clock).await;
    for other in others {
        other.await;
    }
    let shared = Rc::into_inner(shared)?;
    shared.worker.into_inner().finish();
    shared.first_error.into_inner()
}

/// One future: a request at a time until the run has ended.
async fn ask(local: Local, shared: Rc<Shared>, clock: Clock) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    loop {
        let step = shared.worker.borrow_mut().next(&mut key, &mut value);
        match step {
            Step::Start { tag, operation } => {
                let outcome = match execute(&local, &operation, &key, &value).await {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        let mut first_error = shared.first_error.borrow_mut();
                        first_error.get_or_insert_with(|| error.to_string());
                        failed(&error)
                    }
                };
                shared.worker.borrow_mut().ended(tag, outcome);
            }
            Step::Idle { until_ns } => wait_until(&local, &shared, clock, until_ns).await,
            // Others of this worker are in flight: this future has nothing to do before the next moment that is due.
            Step::Wait { patience } => {
                let until_ns = clock.now_ns() + patience.as_nanos() as u64;
                wait_until(&local, &shared, clock, until_ns).await;
            }
            Step::End => return,
        }
    }
}

async fn wait_until(local: &Local, shared: &Shared, clock: Clock, until_ns: u64) {
    let left_ns = until_ns.saturating_sub(clock.now_ns());
    if left_ns > SPIN_NS {
        local.sleep(Duration::from_nanos(left_ns - SPIN_NS)).await;
        return;
    }
    let from_ns = clock.now_ns();
    while clock.now_ns() < until_ns {
        local.yield_now().await;
    }
    let spun_ns = clock.now_ns().saturating_sub(from_ns);
    shared.worker.borrow_mut().spun(spun_ns);
}

async fn execute(
    local: &Local,
    operation: &Operation,
    key: &[u8],
    value: &[u8],
) -> Result<Outcome, Error> {
    let plain = operation.ttl_s == 0 && operation.durability == Durability::Default;
    match operation.verb {
        Verb::Read => read(local, operation.key_id, key).await,
        Verb::Write | Verb::Insert if plain => {
            local.put(key, value).await?;
            Ok(Outcome::Done)
        }
        Verb::Write | Verb::Insert => {
            local.put_with(key, value, &options_of(operation)).await?;
            Ok(Outcome::Done)
        }
        Verb::Update => {
            let found = read(local, operation.key_id, key).await?;
            local.put_with(key, value, &options_of(operation)).await?;
            Ok(found)
        }
        Verb::Delete => {
            local.delete_with(key, &options_of(operation)).await?;
            Ok(Outcome::Done)
        }
        Verb::Scan => Ok(Outcome::Failed(ErrorKind::Unsupported)),
    }
}

async fn read(local: &Local, key_id: u64, key: &[u8]) -> Result<Outcome, Error> {
    local
        .get_with(key, |value| Outcome::of_read(key_id, value))
        .await
}
