//! A worker's next operation and the moment at which it is due.
//!
//! Owns the joining of schedule and stream. Never waits and never sends.
//!
//! Invariants: in an open loop and in a trace, moments come from the schedule alone; a slow target does not move
//! them.

use std::sync::{Arc, Mutex, PoisonError};

use super::plan::{LoadPlan, Pace};
use crate::workload::trace::TraceEntry;
use crate::workload::{Arrivals, KeySpace, Operation, OperationStream, Workload};

/// Gives one worker its operations.
#[derive(Debug)]
pub struct Source {
    moments: Moments,
    /// What to ask, and its bytes.
    pub stream: OperationStream,
    end_ns: u64,
}

#[derive(Debug)]
enum Moments {
    Closed,
    /// This worker's own part of the schedule.
    Open {
        arrivals: Arrivals,
        next_ns: u64,
    },
    /// A schedule from which several threads take whenever they are free.
    ///
    /// Nothing is taken ahead of need: a thread that is busy must not hold what an idle one could start.
    Shared {
        arrivals: Arc<Mutex<Arrivals>>,
        next_ns: Option<u64>,
    },
    Trace {
        entries: Arc<[TraceEntry]>,
        next: usize,
        stride: usize,
    },
    Fill {
        next_id: u64,
        stride: u64,
        ids: u64,
    },
}

impl Source {
    /// The sources of all workers of one run. With `shared`, workers take from one schedule as they become free (the
    /// threads of an embedded store); otherwise each has every n-th arrival (connections belong to a worker).
    pub fn for_workers(
        plan: &LoadPlan,
        workload: &Workload,
        space: &Arc<KeySpace>,
        shared: bool,
    ) -> Result<Vec<Source>, String> {
        let workers = plan.threads as u64 * plan.share_count;
        let first = plan.share_index * plan.threads as u64;
        let one_schedule = match &plan.pace {
            Pace::Open {
                rate,
                process,
                shape,
            } if shared => {
                let arrivals = Arrivals::new(
                    *process,
                    *shape,
                    *rate,
                    plan.seed,
                    plan.share_index,
                    plan.share_count,
                );
                Some(Arc::new(Mutex::new(arrivals)))
            }
            Pace::Open { .. } | Pace::Closed | Pace::Trace { .. } | Pace::Fill => None,
        };
        (first..first + plan.threads as u64)
            .map(|worker| {
                let moments = match (&plan.pace, &one_schedule) {
                    (Pace::Open { .. }, Some(arrivals)) => Moments::Shared {
                        next_ns: None,
                        arrivals: Arc::clone(arrivals),
                    },
                    (
                        Pace::Open {
                            rate,
                            process,
                            shape,
                        },
                        None,
                    ) => {
                        let mut arrivals =
                            Arrivals::new(*process, *shape, *rate, plan.seed, worker, workers);
                        Moments::Open {
                            next_ns: arrivals.next_ns(),
                            arrivals,
                        }
                    }
                    (Pace::Closed, _) => Moments::Closed,
                    (Pace::Trace { entries }, _) => Moments::Trace {
                        entries: Arc::clone(entries),
                        next: worker as usize,
                        stride: workers as usize,
                    },
                    (Pace::Fill, _) => Moments::Fill {
                        next_id: worker,
                        stride: workers,
                        ids: workload.records,
                    },
                };
                Ok(Source {
                    moments,
                    stream: OperationStream::new(workload, space, plan.seed, worker, workers)?,
                    end_ns: plan.end_ns(),
                })
            })
            .collect()
    }

    /// When the next operation is due; `None` when there is none any more. `now_ns` means: at once.
    pub fn due_ns(&mut self, now_ns: u64) -> Option<u64> {
        match &mut self.moments {
            Moments::Closed => (now_ns < self.end_ns).then_some(now_ns),
            Moments::Open { next_ns, .. } => (*next_ns < self.end_ns).then_some(*next_ns),
            Moments::Shared { arrivals, next_ns } => {
                let next_ns = *next_ns.get_or_insert_with(|| take(arrivals));
                (next_ns < self.end_ns).then_some(next_ns)
            }
            Moments::Trace { entries, next, .. } => entries
                .get(*next)
                .map(|entry| entry.at_ns)
                .filter(|at_ns| *at_ns < self.end_ns),
            Moments::Fill { next_id, ids, .. } => (*next_id < *ids).then_some(now_ns),
        }
    }

    /// Takes the operation that `due_ns` spoke of.
    pub fn take(&mut self) -> Operation {
        match &mut self.moments {
            Moments::Closed => self.stream.next_operation(),
            Moments::Open { arrivals, next_ns } => {
                *next_ns = arrivals.next_ns();
                self.stream.next_operation()
            }
            Moments::Shared { next_ns, .. } => {
                *next_ns = None;
                self.stream.next_operation()
            }
            Moments::Trace {
                entries,
                next,
                stride,
            } => {
                let operation = entries.get(*next).map(|entry| entry.operation);
                *next += *stride;
                operation.unwrap_or_else(|| self.stream.next_operation())
            }
            Moments::Fill {
                next_id, stride, ..
            } => {
                let id = *next_id;
                *next_id += *stride;
                self.stream.load_operation(id)
            }
        }
    }
}

fn take(arrivals: &Mutex<Arrivals>) -> u64 {
    arrivals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .next_ns()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::workload::{Process, Shape, preset};

    fn plan(pace: Pace, threads: usize) -> LoadPlan {
        LoadPlan {
            pace,
            duration: Duration::from_secs(1),
            threads,
            connections: threads,
            depth: 1,
            timeout: Duration::from_secs(1),
            in_flight_max: 100,
            spin: false,
            seed: 1,
            window: Duration::from_millis(100),
            share_index: 0,
            share_count: 1,
        }
    }

    fn sources(pace: Pace, threads: usize, shared: bool) -> Vec<Source> {
        let workload = preset::find("ycsb-a").expect("built in");
        Source::for_workers(
            &plan(pace, threads),
            &workload,
            &KeySpace::new(workload.records),
            shared,
        )
        .expect("valid")
    }

    #[test]
    fn shared_or_dealt_out_the_schedule_is_the_same() {
        let open = || Pace::Open {
            rate: 1000.0,
            process: Process::Poisson,
            shape: Shape::Constant,
        };
        let all = |shared| {
            let mut moments = Vec::new();
            for mut source in sources(open(), 2, shared) {
                while let Some(due_ns) = source.due_ns(0) {
                    moments.push(due_ns);
                    source.take();
                }
            }
            moments.sort_unstable();
            moments
        };
        let dealt = all(false);
        assert!(
            (900..1100).contains(&dealt.len()),
            "{} arrivals in a second",
            dealt.len()
        );
        assert_eq!(dealt, all(true));
    }

    #[test]
    fn a_fill_writes_every_key_once() {
        let mut ids: Vec<u64> = sources(Pace::Fill, 3, false)
            .into_iter()
            .flat_map(|mut source| {
                std::iter::from_fn(move || source.due_ns(7).map(|_| source.take().key_id))
            })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_closed_loop_ends_with_its_time() {
        let mut source = sources(Pace::Closed, 1, false).pop().expect("one");
        assert_eq!(source.due_ns(5), Some(5));
        assert_eq!(source.due_ns(1_000_000_000), None);
    }
}
