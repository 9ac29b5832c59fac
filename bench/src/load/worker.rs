//! One worker of a store: what is due next, what is in flight, what has ended.
//!
//! Owns the slots of requests in flight and the writing down. Never starts a request and never waits: a thread
//! (`threads`) or a future on a shard's core (`owners`) does, as `next` tells it.
//!
//! Invariants: a request that is due before the end is executed, or recorded as timed out with the time it waited.

use std::time::Duration;

use super::clock::Clock;
use super::plan::{LoadPlan, Pace};
use super::recorder::Moments;
use super::source::Source;
use super::window::{Gauges, Pump};
use crate::target::outcome::{ErrorKind, Outcome};
use crate::workload::{Operation, Verb};

/// How long a worker without a free slot waits before it looks at its windows again.
const FULL_PATIENCE: Duration = Duration::from_millis(10);

/// What to do next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Start this request, whose key and value are in the buffers that `next` was given.
    Start {
        /// Its slot.
        tag: u32,
        /// It.
        operation: Operation,
    },
    /// Nothing is in flight and nothing is due before this moment.
    Idle { until_ns: u64 },
    /// Wait for an end, so long at most.
    Wait { patience: Duration },
    /// All has ended.
    End,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    operation: Operation,
    intended_ns: u64,
    freed_ns: u64,
    sent_ns: u64,
}

/// Whether a key is this worker's to ask for.
pub(super) type Owns = Box<dyn Fn(&[u8]) -> bool>;

/// One worker.
pub(super) struct Worker {
    // Fixed.
    plan: LoadPlan,
    clock: Clock,
    is_open: bool,
    give_up_ns: u64,
    owns: Option<Owns>,

    // Changing.
    source: Source,
    pump: Pump,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    freed_ns: Vec<u64>,
    spun_ns: u64,
    patience: Duration,
}

impl Worker {
    pub(super) fn new(source: Source, pump: Pump, plan: &LoadPlan, clock: Clock) -> Self {
        let depth = u32::try_from(plan.depth.max(1)).unwrap_or(1);
        Worker {
            give_up_ns: plan.end_ns() + plan.timeout.as_nanos() as u64,
            is_open: matches!(plan.pace, Pace::Open { .. } | Pace::Trace { .. }),
            plan: plan.clone(),
            clock,
            owns: None,
            source,
            pump,
            slots: vec![None; depth as usize],
            free: (0..depth).rev().collect(),
            freed_ns: vec![0; depth as usize],
            spun_ns: 0,
            patience: Duration::ZERO,
        }
    }

    /// A worker that asks only for keys that are its own; inserts, whose keys come from one counter, are made by
    /// whichever worker drew them.
    pub(super) fn only(self, owns: Owns) -> Self {
        Worker {
            owns: Some(owns),
            ..self
        }
    }

    /// What to do now; the bytes of a request that is to be started are put into `key` and `value`.
    pub(super) fn next(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Step {
        let now_ns = self.clock.now_ns();
        let due = self.source.due_ns(now_ns);
        let in_flight = self.slots.len() - self.free.len();
        let gauges = self.gauges(now_ns, due);
        self.pump.tick(now_ns, gauges);
        if now_ns > self.give_up_ns && self.is_open {
            return Step::End;
        }
        self.patience = match due {
            Some(due_ns) if !self.free.is_empty() => {
                Duration::from_nanos(due_ns.saturating_sub(now_ns))
            }
            _ => FULL_PATIENCE,
        };
        match (due, self.free.last().copied()) {
            (Some(due_ns), Some(tag)) if due_ns <= now_ns => {
                self.free.pop();
                let operation = self.start(tag, due_ns, key, value);
                Step::Start { tag, operation }
            }
            (None, _) if in_flight == 0 => Step::End,
            (Some(due_ns), _) if in_flight == 0 => Step::Idle {
                until_ns: due_ns.min(self.pump.edge_ns()),
            },
            _ => Step::Wait {
                patience: self.patience,
            },
        }
    }

    fn start(
        &mut self,
        tag: u32,
        due_ns: u64,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Operation {
        let mut operation = self.source.take();
        self.source.stream.write_key(&operation, key);
        if let Some(owns) = &self.owns {
            while operation.verb != Verb::Insert && !owns(key) {
                operation = self.source.stream.next_operation();
                self.source.stream.write_key(&operation, key);
            }
        }
        value.clear();
        if operation.value_bytes > 0 {
            self.source.stream.write_value(&operation, value);
        }
        let sent_ns = self.clock.now_ns();
        let freed_ns = self.freed_ns.get(tag as usize).copied().unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(tag as usize) {
            *slot = Some(Slot {
                operation,
                intended_ns: if self.is_open { due_ns } else { sent_ns },
                freed_ns: if self.is_open { freed_ns } else { sent_ns },
                sent_ns,
            });
        }
        self.pump.recorder.counts.due += 1;
        operation
    }

    /// How long to wait for an end after a start: not at all while another request is due.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, tag: u32, outcome: Outcome) {
        let Some(slot) = self.slots.get_mut(tag as usize).and_then(Option::take) else {
            return;
        };
        let answered_ns = self.clock.now_ns();
        self.free.push(tag);
        if let Some(freed_ns) = self.freed_ns.get_mut(tag as usize) {
            *freed_ns = answered_ns;
        }
        if answered_ns >= self.pump.edge_ns() {
            // What is due by now waits for this thread too.
            let due = self.source.due_ns(answered_ns);
            let gauges = self.gauges(answered_ns, due);
            self.pump.tick(answered_ns, gauges);
        }
        // A thread (or its session's slot) is the connection here: until it is free, the request waits.
        let moments = Moments {
            intended_ns: slot.intended_ns,
            free_ns: slot.intended_ns.max(slot.freed_ns),
            sent_ns: slot.sent_ns,
            answered_ns,
        };
        self.pump
            .recorder
            .record(slot.operation.verb, outcome, moments);
    }

    /// So long was spent spinning up to a due moment.
    pub(super) fn spun(&mut self, spun_ns: u64) {
        self.spun_ns += spun_ns;
    }

    /// Records what was due and could not be started, and hands everything over.
    pub(super) fn finish(mut self) {
        let now_ns = self.clock.now_ns();
        while let Some(due_ns) = self.source.due_ns(now_ns).filter(|_| self.is_open) {
            let operation = self.source.take();
            self.pump.recorder.counts.due += 1;
            self.pump
                .recorder
                .record_unsent(operation.verb, ErrorKind::Timeout, due_ns, now_ns);
        }
        self.pump.finish(Gauges {
            backlog: 0,
            spun_ns: self.spun_ns,
        });
    }

    fn gauges(&self, now_ns: u64, due: Option<u64>) -> Gauges {
        let in_flight = self.slots.len() - self.free.len();
        Gauges {
            backlog: in_flight as u64 + waiting(&self.plan, now_ns, due),
            spun_ns: self.spun_ns,
        }
    }
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
