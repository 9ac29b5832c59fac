//! Driving an embedded store from threads.
//!
//! Owns the loop of one thread: take what is due, start it, write down what ended. Never knows which store it is.
//!
//! Invariants: a request that is due before the end is executed, or recorded as timed out with the time it waited.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, sharpen_timers};
use super::plan::{LoadPlan, Pace};
use super::recorder::Moments;
use super::source::Source;
use super::window::{Collector, Gauges, Pump, Window};
use crate::target::outcome::ErrorKind;
use crate::target::store::{SessionSource, StoreError, StoreRequest, StoreSession};
use crate::workload::{KeySpace, Operation, OperationStream, Workload};

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

#[derive(Debug, Clone, Copy)]
struct Slot {
    operation: Operation,
    intended_ns: u64,
    freed_ns: u64,
    sent_ns: u64,
}

/// One worker's whole life, on the calling thread: an engine that wants the load on a core of its own calls this
/// there.
pub fn drive(
    session: &mut dyn StoreSession,
    mut source: Source,
    mut pump: Pump,
    plan: &LoadPlan,
    clock: Clock,
) {
    sharpen_timers();
    let depth = u32::try_from(plan.depth.max(1)).unwrap_or(1);
    let mut slots: Vec<Option<Slot>> = vec![None; depth as usize];
    let mut free: Vec<u32> = (0..depth).rev().collect();
    let mut freed_ns = vec![0; depth as usize];
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let give_up_ns = plan.end_ns() + plan.timeout.as_nanos() as u64;
    let open = matches!(plan.pace, Pace::Open { .. } | Pace::Trace { .. });
    let mut spun_ns = 0;
    loop {
        let now_ns = clock.now_ns();
        let due = source.due_ns(now_ns);
        let in_flight = slots.len() - free.len();
        let gauges = Gauges {
            backlog: in_flight as u64 + waiting(plan, now_ns, due),
            spun_ns,
        };
        pump.tick(now_ns, gauges);
        if now_ns > give_up_ns && open {
            break;
        }
        match (due, free.last().copied()) {
            (Some(due_ns), Some(tag)) if due_ns <= now_ns => {
                free.pop();
                let operation = source.take();
                source.stream.write_key(&operation, &mut key);
                value.clear();
                if operation.value_bytes > 0 {
                    source.stream.write_value(&operation, &mut value);
                }
                let sent_ns = clock.now_ns();
                slots[tag as usize] = Some(Slot {
                    operation,
                    intended_ns: if open { due_ns } else { sent_ns },
                    freed_ns: if open {
                        freed_ns[tag as usize]
                    } else {
                        sent_ns
                    },
                    sent_ns,
                });
                pump.recorder.counts.due += 1;
                session.submit(
                    StoreRequest {
                        operation: &operation,
                        key: &key,
                        value: &value,
                    },
                    tag,
                );
            }
            (None, _) if in_flight == 0 => break,
            (Some(due_ns), _) if in_flight == 0 => {
                spun_ns += wait_until(clock, due_ns.min(pump.edge_ns()), plan.spin)
            }
            _ => {}
        }
        let patience = match due {
            Some(due_ns) if !free.is_empty() => Duration::from_nanos(due_ns.saturating_sub(now_ns)),
            _ => Duration::from_millis(10),
        };
        session.completions(patience, &mut |tag, outcome| {
            let Some(slot) = slots.get_mut(tag as usize).and_then(Option::take) else {
                return;
            };
            let answered_ns = clock.now_ns();
            free.push(tag);
            freed_ns[tag as usize] = answered_ns;
            pump.tick(answered_ns, gauges);
            // A thread (or its session's slot) is the connection here: until it is free, the request waits.
            let moments = Moments {
                intended_ns: slot.intended_ns,
                free_ns: slot.intended_ns.max(slot.freed_ns),
                sent_ns: slot.sent_ns,
                answered_ns,
            };
            pump.recorder.record(slot.operation.verb, outcome, moments);
        });
    }
    let now_ns = clock.now_ns();
    while let Some(due_ns) = source.due_ns(now_ns).filter(|_| open) {
        let operation = source.take();
        pump.recorder.counts.due += 1;
        pump.recorder
            .record_unsent(operation.verb, ErrorKind::Timeout, due_ns, now_ns);
    }
    pump.finish(Gauges {
        backlog: 0,
        spun_ns,
    });
}

/// About how many requests are due and not taken by any thread, as this thread's part: nobody keeps a list of them,
/// but the schedule's oldest one tells how far behind it is.
fn waiting(plan: &LoadPlan, now_ns: u64, due_ns: Option<u64>) -> u64 {
    let late_s = due_ns.map_or(0.0, |due_ns| now_ns.saturating_sub(due_ns) as f64 / 1e9);
    let rate = match &plan.pace {
        Pace::Open { rate, .. } => *rate,
        Pace::Trace { entries } => entries.len() as f64 / plan.duration.as_secs_f64(),
        Pace::Closed | Pace::Fill => 0.0,
    };
    (late_s * rate / plan.threads as f64) as u64
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
