//! From the series to the report.
//!
//! Owns the cut of the warm-up and the order of judgement. Never measures.

use std::collections::BTreeMap;
use std::time::Duration;

use super::host::HostFacts;
use super::report::{
    Confidence, GeneratorReport, RunReport, SCHEMA, SlaVerdict, VerbReport, Verdict,
};
use crate::load::plan::{LoadPlan, Pace};
use crate::load::recorder::Counts;
use crate::load::window::Window;
use crate::stats::latencies::{Latencies, Packed, Summary};
use crate::stats::quantile::{intervals, samples_min};
use crate::stats::sla::Sla;
use crate::stats::steady::{WarmUp, warm_up};
use crate::stats::validity::{Evidence, judge};
use crate::target::outcome::ErrorKind;
use crate::workload::{Verb, Workload};

/// Where measuring begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmUpRule {
    /// Found in the data.
    Auto,
    /// After so long.
    Fixed(Duration),
}

/// All that a report is made of.
#[derive(Debug)]
pub struct Material<'a> {
    /// What was measured.
    pub target: String,
    /// A name for it.
    pub label: Option<String>,
    /// The workload.
    pub workload: &'a Workload,
    /// The plan.
    pub plan: &'a LoadPlan,
    /// Where measuring begins.
    pub warm_up: WarmUpRule,
    /// The promise.
    pub sla: Option<&'a Sla>,
    /// The series.
    pub windows: &'a [Window],
    /// The first error in the target's words.
    pub first_error: Option<String>,
    /// CPU time of this process during the run.
    pub cpu_ns: u64,
    /// Bytes this process wrote during the run, for an embedded store.
    pub written_bytes: Option<u64>,
    /// The host's hiccups during the run.
    pub jitter: Summary,
    /// Hypervisor's steal during the run, in ticks of 10 ms.
    pub steal_ticks: u64,
    /// Seconds since 1970 at the start.
    pub started_unix_s: u64,
    /// The target's facts.
    pub target_facts: Vec<(String, String)>,
    /// The host's.
    pub host: HostFacts,
}

/// The percentiles that are reported, with their names.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
];

/// Makes the report.
pub fn analyse(material: Material<'_>) -> RunReport {
    let Material { plan, windows, .. } = material;
    let window_s = plan.window.as_secs_f64();
    let scheduled = match plan.pace {
        Pace::Fill => windows.len(),
        Pace::Open { .. } | Pace::Closed | Pace::Trace { .. } => {
            ((plan.duration.as_secs_f64() / window_s).round() as usize).min(windows.len())
        }
    };
    let found = find_warm_up(material.warm_up, &windows[..scheduled], window_s);
    let measured = &windows[found.windows..];
    let in_schedule = &windows[found.windows..scheduled.max(found.windows)];
    let measured_s = (in_schedule.len() as f64 * window_s).max(f64::MIN_POSITIVE);

    let series: Vec<Packed> = measured.iter().map(Window::response_all).collect();
    let mut response = Latencies::new();
    series
        .iter()
        .for_each(|window| response.merge_packed(window));
    let service = merged(measured, |window| &window.service);
    let lag = merged(measured, |window| &window.lag);
    let wait = merged(measured, |window| &window.wait);
    let mut counts = Counts::default();
    measured
        .iter()
        .for_each(|window| counts.merge(&window.counts));

    let unanswered = [ErrorKind::Timeout, ErrorKind::Connection];
    let answered = |window: &Window| {
        window.counts.ended
            - unanswered
                .iter()
                .map(|kind| window.counts.errors[kind.index()])
                .sum::<u64>()
    };
    let achieved_rate = in_schedule.iter().map(answered).sum::<u64>() as f64 / measured_s;
    let offered_rate = offered(plan, measured_s, found.windows as f64 * window_s);
    let errors = counts.errors_total();
    let cpu_share = mean(in_schedule.iter().map(|window| window.cpu_share_max));
    let evidence = Evidence {
        open_loop: matches!(plan.pace, Pace::Open { .. } | Pace::Trace { .. }),
        ended: counts.ended,
        failed: errors,
        due: counts.due,
        capped: counts.capped,
        in_flight_max: plan.in_flight_max as u64,
        // An embedded store works on the generator's own threads: their CPU is the target's.
        cpu_share: if material.written_bytes.is_some() {
            0.0
        } else {
            cpu_share
        },
        lag_p99_ns: lag.quantile_ns(0.99),
        response_p99_ns: response.quantile_ns(0.99),
        backlog: in_schedule.iter().map(|window| window.backlog).collect(),
        achieved_rate,
        offered_rate: offered_rate.unwrap_or(0.0),
        // Without a promise, a median is the least that a run must be able to tell.
        quantile: material.sla.and_then(Sla::quantile_max).unwrap_or(0.5),
    };
    let judged = judge(&evidence);
    let findings = material
        .sla
        .map(|sla| sla.judge(&response, errors as f64 / counts.ended.max(1) as f64))
        .unwrap_or_default();
    let sla = material.sla.map(|_| {
        if findings.iter().all(|finding| finding.met) {
            SlaVerdict::Met
        } else {
            SlaVerdict::Missed
        }
    });

    let confidence: BTreeMap<String, Confidence> = QUANTILES
        .iter()
        .zip(intervals(
            &series,
            &QUANTILES.map(|(_, quantile)| quantile),
            plan.seed,
        ))
        .map(|((name, _), interval)| {
            let high_us = interval.high_ns.map(|ns| ns as f64 / 1000.0);
            (
                (*name).to_owned(),
                Confidence {
                    low_us: interval.low_ns as f64 / 1000.0,
                    high_us,
                },
            )
        })
        .collect();
    let unsupported = QUANTILES
        .iter()
        .filter(|(_, quantile)| counts.ended < samples_min(*quantile))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    // For a server the workers' own time; an embedded store also works on threads of its own.
    let cpu_ns = match material.written_bytes {
        None => windows.iter().map(|window| window.busy_ns).sum(),
        Some(_) => material
            .cpu_ns
            .saturating_sub(windows.iter().map(|window| window.spun_ns).sum()),
    };
    let total_ended: u64 = windows.iter().map(|window| window.counts.ended).sum();
    let user_bytes = written_by_user(windows, material.workload);

    let mut report = RunReport {
        schema: SCHEMA.to_owned(),
        target: material.target,
        label: material.label,
        workload: material.workload.name.clone(),
        pace: pace_word(&plan.pace).to_owned(),
        verdict: if judged.is_ok() {
            Verdict::Valid
        } else {
            Verdict::Invalid
        },
        reason: judged
            .as_ref()
            .err()
            .map(|invalid| invalid.reason.clone())
            .unwrap_or_default(),
        limit: judged.err().map(|invalid| invalid.limit),
        offered_rate,
        achieved_rate,
        requests: counts.ended,
        errors,
        errors_by_kind: errors_by_kind(&counts),
        first_error: material.first_error,
        response_us: response.summary(),
        service_us: service.summary(),
        lag_us: lag.summary(),
        wait_us: wait.summary(),
        host_jitter_us: material.jitter,
        confidence,
        unsupported,
        by_verb: by_verb(measured),
        sla,
        sla_findings: findings,
        hits: counts.hits,
        misses: counts.misses,
        foreign: counts.foreign,
        measured_s,
        warmup_s: found.windows as f64 * window_s,
        window_s,
        series_rate: windows
            .iter()
            .map(|window| answered(window) as f64 / window_s)
            .collect(),
        generator: GeneratorReport {
            threads: plan.threads,
            connections: plan.connections,
            depth: plan.depth,
            cpu_share,
            cpu_us_per_request: cpu_ns as f64 / 1000.0 / total_ended.max(1) as f64,
        },
        written_per_byte: material
            .written_bytes
            .filter(|_| user_bytes > 0.0)
            .map(|bytes| bytes as f64 / user_bytes),
        notes: Vec::new(),
        seed: plan.seed,
        started_unix_s: material.started_unix_s,
        target_facts: material.target_facts.into_iter().collect(),
        host: material.host,
    };
    report.notes = notes(
        &report,
        &lag,
        &response,
        found.settled,
        material.steal_ticks,
    );
    report
}

fn find_warm_up(rule: WarmUpRule, scheduled: &[Window], window_s: f64) -> WarmUp {
    match rule {
        WarmUpRule::Fixed(length) => {
            let windows = (length.as_secs_f64() / window_s).ceil() as usize;
            WarmUp {
                windows: windows.min(scheduled.len()),
                settled: true,
            }
        }
        WarmUpRule::Auto => {
            let level = |window: &Window| {
                let all = window.response_all();
                (!all.is_empty()).then(|| all.quantile_ns(0.5) as f64)
            };
            warm_up(&scheduled.iter().map(level).collect::<Vec<_>>())
        }
    }
}

fn offered(plan: &LoadPlan, measured_s: f64, from_s: f64) -> Option<f64> {
    let until_s = from_s + measured_s;
    match &plan.pace {
        Pace::Open { rate, shape, .. } => {
            let mean = (shape.factor_mean(until_s) * until_s
                - shape.factor_mean(from_s.max(1e-9)) * from_s)
                / measured_s;
            Some(rate * mean)
        }
        Pace::Trace { entries } => {
            let inside = |at_ns: u64| (from_s..until_s).contains(&(at_ns as f64 / 1e9));
            Some(entries.iter().filter(|entry| inside(entry.at_ns)).count() as f64 / measured_s)
        }
        Pace::Closed | Pace::Fill => None,
    }
}

fn merged(windows: &[Window], of: impl Fn(&Window) -> &Packed) -> Latencies {
    let mut all = Latencies::new();
    windows
        .iter()
        .for_each(|window| all.merge_packed(of(window)));
    all
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn pace_word(pace: &Pace) -> &'static str {
    match pace {
        Pace::Open { .. } => "open",
        Pace::Closed => "closed",
        Pace::Trace { .. } => "trace",
        Pace::Fill => "fill",
    }
}

fn errors_by_kind(counts: &Counts) -> BTreeMap<String, u64> {
    let some = |kind: &ErrorKind| counts.errors[kind.index()] > 0;
    ErrorKind::ALL
        .iter()
        .copied()
        .filter(some)
        .map(|kind| (kind.word().to_owned(), counts.errors[kind.index()]))
        .collect()
}

fn by_verb(measured: &[Window]) -> BTreeMap<String, VerbReport> {
    Verb::ALL
        .iter()
        .filter_map(|verb| {
            let all = merged(measured, |window| window.response_of(*verb));
            (!all.is_empty()).then(|| {
                (
                    verb.word().to_owned(),
                    VerbReport {
                        requests: all.count(),
                        response_us: all.summary(),
                    },
                )
            })
        })
        .collect()
}

/// About how many bytes of keys and values the run wrote.
fn written_by_user(windows: &[Window], workload: &Workload) -> f64 {
    let writes: u64 = windows
        .iter()
        .flat_map(|window| {
            [Verb::Write, Verb::Insert, Verb::Update].map(|verb| window.response_of(verb).count())
        })
        .sum();
    writes as f64 * (workload.key.bytes as f64 + workload.values.mean_bytes())
}

fn notes(
    report: &RunReport,
    lag: &Latencies,
    response: &Latencies,
    settled: bool,
    steal_ticks: u64,
) -> Vec<String> {
    let mut notes = Vec::new();
    if report.pace == "closed" {
        notes.push("closed loop: a slow answer delays the next request, so these latencies are not what users would feel; compare throughput".to_owned());
    }
    if !settled {
        notes.push("the latency was still moving in the middle of the run: the first half was discarded; run longer".to_owned());
    }
    let reads = report.hits + report.misses + report.foreign;
    if reads > 0 && report.misses * 100 > reads {
        notes.push(format!("{:.1} % of the reads found nothing: an absent key is cheaper to read than a present one", report.misses as f64 * 100.0 / reads as f64));
    }
    if reads > 0 && report.foreign * 100 > reads {
        notes.push(format!("{:.1} % of the reads found a value that this harness did not write, so it could not be verified", report.foreign as f64 * 100.0 / reads as f64));
    }
    let (lag_p99_ns, response_p99_ns) = (lag.quantile_ns(0.99), response.quantile_ns(0.99));
    if report.verdict == Verdict::Valid && response_p99_ns > 0 && lag_p99_ns * 10 > response_p99_ns
    {
        notes.push(format!(
            "the generator's lateness (p99 {:.0} us) is within the response (p99 {:.0} us): the target is no slower than shown",
            lag_p99_ns as f64 / 1e3,
            response_p99_ns as f64 / 1e3
        ));
    }
    if report.host_jitter_us.p99_9 > report.response_us.p99_9
        && report.host_jitter_us.p99_9 > 1000.0
    {
        notes.push(format!(
            "a thread that did nothing but sleep was late by {:.1} ms in one case of a thousand: the tail shows this host as much as the target",
            report.host_jitter_us.p99_9 / 1000.0
        ));
    }
    if steal_ticks > 0 {
        notes.push(format!(
            "the hypervisor took {} ms of CPU from this machine during the run",
            steal_ticks * 10
        ));
    }
    if report
        .host
        .0
        .get("build")
        .is_some_and(|build| build == "debug")
    {
        notes.push("this is a debug build of the harness: build with --release before believing small latencies".to_owned());
    }
    notes
}

#[cfg(test)]
#[path = "analysis_tests.rs"]
mod tests;
