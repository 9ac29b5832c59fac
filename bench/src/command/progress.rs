//! What is shown while something runs.
//!
//! Owns the lines on stderr: rewritten in place on a terminal, one a few seconds otherwise. Never writes to stdout.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::load::window::Window;
use crate::stats::latencies::Packed;
use crate::stats::unit::show_us;

/// Shows the windows of a run, about once a second.
pub struct RunProgress {
    label: String,
    window: Duration,
    total: Duration,
    pending: Vec<Window>,
    seen: u64,
    live: bool,
    drawn: bool,
}

impl RunProgress {
    /// Progress of a run of `total`.
    pub fn new(label: String, window: Duration, total: Duration) -> Self {
        RunProgress {
            label,
            window,
            total,
            pending: Vec::new(),
            seen: 0,
            live: io::stderr().is_terminal(),
            drawn: false,
        }
    }

    /// Takes one window in.
    pub fn see(&mut self, window: &Window) {
        self.pending.push(window.clone());
        self.seen += 1;
        let every = if self.live { 1.0 } else { 5.0 };
        if self.pending.len() as f64 * self.window.as_secs_f64() >= every {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let length_s = self.pending.len() as f64 * self.window.as_secs_f64();
        let parts: Vec<Packed> = self.pending.iter().map(Window::response_all).collect();
        let all = Packed::join(&parts);
        let errors: u64 = self
            .pending
            .iter()
            .map(|window| window.counts.errors_total())
            .sum();
        let backlog = self.pending.last().map_or(0, |window| window.backlog);
        let us = |quantile| show_us(all.quantile_ns(quantile) as f64 / 1000.0);
        let line = format!(
            "{} {:>4.0}/{:.0}s  {:>9.0}/s  p50 {}  p99 {}  p99.9 {}  max {}  errors {errors}  waiting {backlog}",
            self.label,
            self.seen as f64 * self.window.as_secs_f64(),
            self.total.as_secs_f64(),
            all.count() as f64 / length_s,
            us(0.5),
            us(0.99),
            us(0.999),
            show_us(all.max_ns as f64 / 1000.0),
        );
        let mut out = io::stderr().lock();
        // Nobody needs to hear that progress cannot be shown.
        let _ = if self.live {
            write!(out, "\r\x1b[2K{line}")
        } else {
            writeln!(out, "{line}")
        };
        let _ = out.flush();
        self.drawn = true;
        self.pending.clear();
    }

    /// Ends the line.
    pub fn finish(self) {
        if self.live && self.drawn {
            eprintln!();
        }
    }
}

/// Shows how far a load has come.
pub struct LoadProgress {
    total: u64,
    done: AtomicU64,
    started: Instant,
    shown_ms: AtomicU64,
    live: bool,
}

impl LoadProgress {
    /// Progress of a load of `total` records.
    pub fn new(total: u64) -> Self {
        LoadProgress {
            total,
            done: AtomicU64::new(0),
            started: Instant::now(),
            shown_ms: AtomicU64::new(0),
            live: io::stderr().is_terminal(),
        }
    }

    /// Adds records.
    pub fn add(&self, records: u64) {
        let done = self.done.fetch_add(records, Ordering::Relaxed) + records;
        let now_ms = self.started.elapsed().as_millis() as u64;
        let before_ms = self.shown_ms.load(Ordering::Relaxed);
        let every_ms = if self.live { 200 } else { 5000 };
        let due = now_ms >= before_ms + every_ms;
        if !due
            || self
                .shown_ms
                .compare_exchange(before_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let rate = done as f64 * 1000.0 / now_ms.max(1) as f64;
        let left_s = (self.total.saturating_sub(done)) as f64 / rate.max(1.0);
        let line = format!(
            "loading {done} of {} records, {rate:.0}/s, {left_s:.0} s left",
            self.total
        );
        let mut out = io::stderr().lock();
        let _ = if self.live {
            write!(out, "\r\x1b[2K{line}")
        } else {
            writeln!(out, "{line}")
        };
        let _ = out.flush();
    }

    /// Ends the line.
    pub fn finish(&self, written: u64) {
        if written == 0 {
            return;
        }
        let clear = if self.live { "\r\x1b[2K" } else { "" };
        let seconds = self.started.elapsed().as_secs_f64();
        eprintln!(
            "{clear}loaded {written} records in {seconds:.1} s, {:.0}/s",
            written as f64 / seconds.max(1e-9)
        );
    }
}
