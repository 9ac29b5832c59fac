//! The series of windows that a run leaves behind, joined from all workers.
//!
//! Owns the hand-over: a worker swaps its recorder for an empty one at a window's edge (two pointers), and this
//! side, on another thread, does the adding and packing. Never makes a worker wait.
//!
//! Invariants:
//! - windows are without gaps and in order; a worker that slept through some reports them as empty;
//! - what was recorded before an edge is in the window before it, so a request counts where it *ended*.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde::{Deserialize, Serialize};

use super::clock::thread_cpu_ns;
use super::recorder::{Counts, Recorder};
use crate::stats::latencies::{Latencies, Packed};
use crate::workload::Verb;

/// What all workers together saw in one window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its number, from 0 at the run's start.
    pub index: u64,
    /// Intended start to answer, by verb.
    pub response: [Packed; 6],
    /// Sent to answer.
    pub service: Packed,
    /// How late the generator was.
    pub lag: Packed,
    /// Waiting for a free connection.
    pub wait: Packed,
    /// Counts.
    pub counts: Counts,
    /// Requests due and not answered at the window's end.
    pub backlog: u64,
    /// The busiest worker's CPU time in this window, without spinning, as a part of the window.
    pub cpu_share_max: f64,
    /// All workers' CPU time in this window, without spinning.
    pub busy_ns: u64,
    /// All workers' time spent spinning up to a due moment, which is not a cost of the requests.
    pub spun_ns: u64,
}

impl Window {
    /// All verbs' responses together.
    pub fn response_all(&self) -> Packed {
        Packed::join(&self.response)
    }

    /// The responses of one verb.
    pub fn response_of(&self, verb: Verb) -> &Packed {
        &self.response[verb.index()]
    }
}

/// A worker's state at a window's edge.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Requests due and not answered.
    pub backlog: u64,
    /// Time spent spinning since the start of the run.
    pub spun_ns: u64,
}

/// One worker's part of one window.
#[derive(Debug)]
pub struct Report {
    index: u64,
    recorder: Option<Box<Recorder>>,
    gauges: Gauges,
    cpu_ns: u64,
    spun_ns: u64,
}

/// A worker's end of the hand-over.
#[derive(Debug)]
pub struct Pump {
    window_ns: u64,
    index: u64,
    edge_ns: u64,
    /// Where to write now.
    pub recorder: Box<Recorder>,
    reports: Sender<Report>,
    spares: Receiver<Box<Recorder>>,
    busy_ns_before: u64,
    spun_ns_before: u64,
}

impl Pump {
    /// Closes the windows that ended before `now_ns`. Call it before recording what happened at `now_ns`.
    #[inline]
    pub fn tick(&mut self, now_ns: u64, gauges: Gauges) {
        if now_ns >= self.edge_ns {
            self.close(now_ns, gauges);
        }
    }

    /// The next window's edge.
    pub fn edge_ns(&self) -> u64 {
        self.edge_ns
    }

    #[cold]
    fn close(&mut self, now_ns: u64, gauges: Gauges) {
        let busy_ns = thread_cpu_ns().saturating_sub(gauges.spun_ns);
        let cpu_ns = busy_ns.saturating_sub(self.busy_ns_before);
        self.busy_ns_before = busy_ns;
        let mut spun_ns = gauges.spun_ns - self.spun_ns_before;
        self.spun_ns_before = gauges.spun_ns;
        let empty = self.spares.try_recv().unwrap_or_default();
        let mut full = Some(std::mem::replace(&mut self.recorder, empty));
        while now_ns >= self.edge_ns {
            // A collector that has gone away means that the run was given up; there is nobody to tell.
            let _ = self.reports.send(Report {
                index: self.index,
                recorder: full.take(),
                gauges,
                cpu_ns,
                spun_ns: std::mem::take(&mut spun_ns),
            });
            self.index += 1;
            self.edge_ns += self.window_ns;
        }
    }

    /// Hands over what is left.
    pub fn finish(mut self, gauges: Gauges) {
        let edge_ns = self.edge_ns;
        self.close(edge_ns, gauges);
    }
}

/// Joins the workers' reports.
#[derive(Debug)]
pub struct Collector {
    window_ns: u64,
    reports: Receiver<Report>,
    sender: Option<Sender<Report>>,
    returns: Vec<Sender<Box<Recorder>>>,
    open: BTreeMap<u64, Joining>,
}

#[derive(Debug, Default)]
struct Joining {
    parts: usize,
    /// Packed at once: adding the few buckets that hold something is far cheaper than adding whole histograms, and
    /// this runs beside the workers on the same machine.
    windows: Vec<Window>,
    backlog: u64,
    busy_ns: u64,
    busy_ns_max: u64,
    spun_ns: u64,
}

impl Collector {
    /// A collector for windows of `window_ns`.
    pub fn new(window_ns: u64) -> Self {
        let (sender, reports) = channel();
        Collector {
            window_ns: window_ns.max(1),
            reports,
            sender: Some(sender),
            returns: Vec::new(),
            open: BTreeMap::new(),
        }
    }

    /// The end for one more worker. Only before `collect`.
    pub fn pump(&mut self) -> Pump {
        let (give_back, spares) = channel();
        // One spare in hand and one on its way: the worker never allocates.
        let _ = give_back.send(Box::default());
        self.returns.push(give_back);
        Pump {
            window_ns: self.window_ns,
            index: 0,
            edge_ns: self.window_ns,
            recorder: Box::default(),
            reports: self
                .sender
                .clone()
                .expect("pumps are made before collecting"),
            spares,
            busy_ns_before: 0,
            spun_ns_before: 0,
        }
    }

    /// Receives until all workers have finished; shows each window as it completes.
    pub fn collect(mut self, mut seen: impl FnMut(&Window)) -> Vec<Window> {
        drop(self.sender.take());
        let mut windows = Vec::new();
        while let Ok(report) = self.reports.recv() {
            self.join(report);
            while self
                .open
                .first_key_value()
                .is_some_and(|(_, joining)| joining.parts == self.returns.len())
            {
                self.complete(&mut windows, &mut seen);
            }
        }
        // Workers end in different windows; what the last of them sent is complete although parts are missing.
        while !self.open.is_empty() {
            self.complete(&mut windows, &mut seen);
        }
        windows
    }

    fn join(&mut self, report: Report) {
        let joining = self.open.entry(report.index).or_default();
        joining.parts += 1;
        joining.spun_ns += report.spun_ns;
        joining.backlog += report.gauges.backlog;
        joining.busy_ns += report.cpu_ns;
        joining.busy_ns_max = joining.busy_ns_max.max(report.cpu_ns);
        if let Some(mut recorder) = report.recorder {
            joining.windows.push(pack(&recorder));
            recorder.clear();
            // Any worker may have it: they are all alike. One that has ended no longer wants it.
            let turn = usize::try_from(report.index).unwrap_or(0) % self.returns.len();
            let _ = self.returns[turn].send(recorder);
        }
    }

    fn complete(&mut self, windows: &mut Vec<Window>, seen: &mut impl FnMut(&Window)) {
        let Some((index, joining)) = self.open.pop_first() else {
            return;
        };
        let mut window = match joining.windows.as_slice() {
            [one] => one.clone(),
            parts => joined(parts),
        };
        window.index = index;
        window.backlog = joining.backlog;
        window.busy_ns = joining.busy_ns;
        window.cpu_share_max = joining.busy_ns_max as f64 / self.window_ns as f64;
        window.spun_ns = joining.spun_ns;
        seen(&window);
        windows.push(window);
    }
}

fn pack(recorder: &Recorder) -> Window {
    Window {
        response: std::array::from_fn(|verb| {
            recorder.response[verb]
                .as_ref()
                .map(Latencies::pack)
                .unwrap_or_default()
        }),
        service: recorder.service.pack(),
        lag: recorder.lag.pack(),
        wait: recorder.wait.pack(),
        counts: recorder.counts.clone(),
        ..Window::default()
    }
}

/// Histograms and counts of several windows of the same time.
pub fn joined(parts: &[Window]) -> Window {
    let mut counts = Counts::default();
    parts.iter().for_each(|part| counts.merge(&part.counts));
    Window {
        response: std::array::from_fn(|verb| {
            Packed::join(parts.iter().map(|part| &part.response[verb]))
        }),
        service: Packed::join(parts.iter().map(|part| &part.service)),
        lag: Packed::join(parts.iter().map(|part| &part.lag)),
        wait: Packed::join(parts.iter().map(|part| &part.wait)),
        counts,
        ..Window::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::recorder::Moments;
    use crate::target::outcome::Outcome;

    fn record(pump: &mut Pump, at_ns: u64) {
        pump.tick(at_ns, Gauges::default());
        let moments = Moments {
            intended_ns: at_ns - 5,
            free_ns: at_ns - 5,
            sent_ns: at_ns - 4,
            answered_ns: at_ns,
        };
        pump.recorder.record(Verb::Read, Outcome::Hit, moments);
    }

    #[test]
    fn windows_have_no_gaps_and_lose_nothing() {
        let mut collector = Collector::new(100);
        let (mut a, mut b) = (collector.pump(), collector.pump());
        for at_ns in [10, 50, 110, 990] {
            record(&mut a, at_ns);
        }
        for at_ns in [20, 120, 130] {
            record(&mut b, at_ns);
        }
        a.finish(Gauges::default());
        b.finish(Gauges::default());
        let windows = collector.collect(|_| {});
        let ended: Vec<u64> = windows.iter().map(|window| window.counts.ended).collect();
        assert_eq!(ended, [3, 3, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(
            windows
                .iter()
                .enumerate()
                .all(|(place, window)| window.index == place as u64)
        );
        assert_eq!(windows[1].response_of(Verb::Read).count(), 3);
    }
}
