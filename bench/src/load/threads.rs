//! Driving an embedded store from threads.
//!
//! Owns the loop of one thread around a `Worker`: start what is due, wait for what ends. Never knows which store it is.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, sharpen_timers};
use super::owners;
use super::plan::LoadPlan;
use super::source::Source;
use super::window::{Collector, Pump, Window};
use super::worker::{Step, Worker};
use crate::target::store::{SessionSource, StoreError, StoreRequest, StoreSession};
use crate::workload::{KeySpace, OperationStream, Workload};

/// Records that one load batch writes.
const LOAD_BATCH: u64 = 1000;
/// A sleep this much shorter than the wait leaves the rest to spinning, since sleepers wake late.
const SPIN_NS: u64 = 60_000;

/// What came of a run.
#[derive(Debug)]
pub struct Driven {
    /// The series.
    pub windows: Vec<Window>,
    /// The first error in the target's own words.
    pub first_error: Option<String>,
}

/// Runs `plan` on an embedded store.
pub fn run(
    store: &dyn SessionSource,
    plan: &LoadPlan,
    workload: &Workload,
    space: &Arc<KeySpace>,
    seen: impl FnMut(&Window),
) -> Result<Driven, StoreError> {
    if let Some(engine) = store.on_owner() {
        return owners::run(engine, plan, workload, space, seen);
    }
    let sources = Source::for_workers(plan, workload, space, true)
        .map_err(|error| StoreError::new("prepare the workload", error))?;
    let mut collector = Collector::new(plan.window.as_nanos() as u64);
    let pumps: Vec<Pump> = sources.iter().map(|_| collector.pump()).collect();
    let clock = Clock::start_in(Duration::from_millis(20));
    std::thread::scope(|scope| {
        let workers: Vec<_> = sources
            .into_iter()
            .zip(pumps)
            .map(|(source, pump)| {
                scope.spawn(move || {
                    let mut session = store.session()?;
                    clock.wait_for_start();
                    drive(session.as_mut(), source, pump, plan, clock);
                    Ok(session.first_error().map(str::to_owned))
                })
            })
            .collect();
        let windows = collector.collect(seen);
        let mut first_error = None;
        for worker in workers {
            let ended: Result<Option<String>, StoreError> = worker
                .join()
                .unwrap_or_else(|_| Err(StoreError::new("run a worker", "its thread panicked")));
            first_error = first_error.or(ended?);
        }
        Ok(Driven {
            windows,
            first_error,
        })
    })
}

/// One worker's whole life, on the calling thread.
pub fn drive(
    session: &mut dyn StoreSession,
    source: Source,
    pump: Pump,
    plan: &LoadPlan,
    clock: Clock,
) {
    sharpen_timers();
    let mut worker = Worker::new(source, pump, plan, clock);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    loop {
        let patience = match worker.next(&mut key, &mut value) {
            Step::Start { tag, operation } => {
                let request = StoreRequest {
                    operation: &operation,
                    key: &key,
                    value: &value,
                };
                session.submit(request, tag);
                worker.patience()
            }
            Step::Idle { until_ns } => {
                let spun_ns = wait_until(clock, until_ns, plan.spin);
                worker.spun(spun_ns);
                Duration::ZERO
            }
            Step::Wait { patience } => patience,
            Step::End => break,
        };
        session.completions(patience, &mut |tag, outcome| worker.ended(tag, outcome));
    }
    worker.finish();
}

/// Waits for a moment; returns how long of it was spent spinning.
fn wait_until(clock: Clock, at_ns: u64, spin: bool) -> u64 {
    let now_ns = clock.now_ns();
    let left_ns = at_ns.saturating_sub(now_ns);
    if !spin {
        std::thread::sleep(Duration::from_nanos(left_ns));
        return 0;
    }
    if left_ns > SPIN_NS {
        std::thread::sleep(Duration::from_nanos(left_ns - SPIN_NS));
    }
    let spin_from_ns = clock.now_ns();
    while clock.now_ns() < at_ns {
        std::hint::spin_loop();
    }
    clock.now_ns() - spin_from_ns
}

/// Writes all records of the workload; `progress` is told how many are written.
pub fn load(
    store: &dyn SessionSource,
    workload: &Workload,
    threads: usize,
    seed: u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), StoreError> {
    let space = KeySpace::new(workload.records);
    let batches = workload.records.div_ceil(LOAD_BATCH);
    let next_batch = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1) as u64)
            .map(|worker| {
                let (space, next_batch) = (&space, &next_batch);
                scope.spawn(move || {
                    let mut stream =
                        OperationStream::new(workload, space, seed, worker, threads as u64)
                            .map_err(|error| StoreError::new("prepare the workload", error))?;
                    let mut pairs = Vec::new();
                    loop {
                        let batch = next_batch.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if batch >= batches {
                            return Ok(());
                        }
                        pairs.clear();
                        for id in
                            batch * LOAD_BATCH..((batch + 1) * LOAD_BATCH).min(workload.records)
                        {
                            let operation = stream.load_operation(id);
                            let (mut key, mut value) = (Vec::new(), Vec::new());
                            stream.write_key(&operation, &mut key);
                            stream.write_value(&operation, &mut value);
                            pairs.push((key, value));
                        }
                        store.store().load(&pairs)?;
                        progress(pairs.len() as u64);
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| {
                Err(StoreError::new(
                    "load the store",
                    "a loading thread panicked",
                ))
            })
        })
    })?;
    store.store().settle()
}

/// Which part of a sample of the workload's records is in the store, 0 to 1.
pub fn presence(store: &dyn SessionSource, workload: &Workload) -> Result<f64, StoreError> {
    const SAMPLES: u64 = 100;
    let format = workload
        .key_format()
        .map_err(|error| StoreError::new("prepare the workload", error))?;
    let mut key = Vec::new();
    let mut found = 0;
    for sample in 0..SAMPLES {
        format.write(sample * workload.records / SAMPLES, &mut key);
        store
            .store()
            .get(&key, &mut |value| found += u64::from(value.is_some()))?;
    }
    Ok(found as f64 / SAMPLES as f64)
}

#[cfg(test)]
#[path = "threads_tests.rs"]
mod tests;
