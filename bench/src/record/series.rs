//! Documents that span several runs: a search's curve and a comparison.
//!
//! Owns their fields and their names, which are a contract with whoever reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::host::HostFacts;
use super::report::{RunReport, SlaVerdict, Verdict};
use crate::stats::compare::{Comparison, Difference};
use crate::stats::latencies::Summary;
use crate::stats::validity::Limit;

/// A search's schema.
pub const SEARCH_SCHEMA: &str = "gramme-bench/search/1";
/// A comparison's schema.
pub const COMPARE_SCHEMA: &str = "gramme-bench/compare/1";

/// Why a point was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// To narrow the limit down.
    Probe,
    /// To confirm it.
    Confirm,
    /// For the curve.
    Curve,
}

/// One step of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Why it was measured.
    pub kind: PointKind,
    /// Requests a second that were offered.
    pub rate: f64,
    /// Answers a second.
    pub achieved_rate: f64,
    /// Whether the step may be believed.
    pub verdict: Verdict,
    /// Why not.
    pub reason: String,
    /// The resource that was in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Whether the SLA was kept.
    pub sla: Option<SlaVerdict>,
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the failed ones.
    pub errors: u64,
    /// Intended start to answer.
    pub response_us: Summary,
    /// Sent to answer.
    pub service_us: Summary,
    /// How late the generator was.
    pub lag_us: Summary,
    /// The busiest generator thread's CPU share.
    pub generator_cpu_share: f64,
    /// Seconds measured.
    pub measured_s: f64,
}

impl Point {
    /// The point that a run makes.
    pub fn of(kind: PointKind, rate: f64, report: &RunReport) -> Self {
        Point {
            kind,
            rate,
            achieved_rate: report.achieved_rate,
            verdict: report.verdict,
            reason: report.reason.clone(),
            limit: report.limit,
            sla: report.sla,
            requests: report.requests,
            errors: report.errors,
            response_us: report.response_us,
            service_us: report.service_us,
            lag_us: report.lag_us,
            generator_cpu_share: report.generator.cpu_share,
            measured_s: report.measured_s,
        }
    }
}

/// A search's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// `SEARCH_SCHEMA`.
    pub schema: String,
    /// What was measured.
    pub target: String,
    /// The workload's name.
    pub workload: String,
    /// The promise.
    pub sla: String,
    /// The greatest rate at which it held.
    pub rate: f64,
    /// Whether a longer run confirmed that.
    pub confirmed: bool,
    /// `target`, `generator` or `rate-max`: what set the upper end.
    pub limited_by: String,
    /// Every step, in the order in which they were taken.
    pub points: Vec<Point>,
    /// What the reader should know.
    pub notes: Vec<String>,
    /// The target's own facts.
    pub target_facts: BTreeMap<String, String>,
    /// The host's.
    pub host: HostFacts,
}

/// One run of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRun {
    /// Its round, from 0.
    pub round: usize,
    /// Whether it may be believed.
    pub verdict: Verdict,
    /// Why not.
    pub reason: String,
    /// Answers a second.
    pub achieved_rate: f64,
    /// Intended start to answer.
    pub response_us: Summary,
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the failed ones.
    pub errors: u64,
    /// CPU time of this process a request, generator included.
    pub cpu_us_per_request: f64,
}

impl RoundRun {
    /// The part of a run's report that is kept.
    pub fn of(round: usize, report: &RunReport) -> Self {
        RoundRun {
            round,
            verdict: report.verdict,
            reason: report.reason.clone(),
            achieved_rate: report.achieved_rate,
            response_us: report.response_us,
            requests: report.requests,
            errors: report.errors,
            cpu_us_per_request: report.generator.cpu_us_per_request,
        }
    }
}

/// A comparison's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareReport {
    /// `COMPARE_SCHEMA`.
    pub schema: String,
    /// The first target.
    pub a: String,
    /// The second.
    pub b: String,
    /// The workload's name.
    pub workload: String,
    /// `open` or `closed`.
    #[serde(rename = "loop")]
    pub pace: String,
    /// `better`, `worse`, `mixed`, `same` or `no-difference-seen`: B against A.
    pub verdict: String,
    /// In a sentence.
    pub words: String,
    /// Whether enough valid rounds came together.
    pub valid: bool,
    /// Rounds with two valid runs.
    pub rounds: usize,
    /// Each figure's comparison.
    pub metrics: Vec<Comparison>,
    /// A's runs.
    pub runs_a: Vec<RoundRun>,
    /// B's runs.
    pub runs_b: Vec<RoundRun>,
    /// What the reader should know.
    pub notes: Vec<String>,
    /// A's facts.
    pub facts_a: BTreeMap<String, String>,
    /// B's facts.
    pub facts_b: BTreeMap<String, String>,
    /// The host's.
    pub host: HostFacts,
}

/// One word and one sentence for all figures together.
pub fn overall(metrics: &[Comparison]) -> (&'static str, String) {
    let named = |wanted: Difference| {
        let names: Vec<String> = metrics
            .iter()
            .filter(|metric| metric.verdict == wanted)
            .map(|metric| format!("{} ({:+.1} %)", metric.metric, (metric.ratio - 1.0) * 100.0))
            .collect();
        names.join(", ")
    };
    let (better, worse) = (named(Difference::Better), named(Difference::Worse));
    match (better.is_empty(), worse.is_empty()) {
        (false, true) => ("better", format!("B is better than A in {better}")),
        (true, false) => ("worse", format!("B is worse than A in {worse}")),
        (false, false) => (
            "mixed",
            format!("B is better than A in {better}, and worse in {worse}"),
        ),
        (true, true)
            if !metrics.is_empty()
                && metrics
                    .iter()
                    .all(|metric| metric.verdict == Difference::Same) =>
        {
            (
                "same",
                "A and B are the same within the threshold".to_owned(),
            )
        }
        (true, true) => (
            "no-difference-seen",
            "no difference was seen; a small one may exist".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_judged_by_its_parts() {
        let metric = |verdict| Comparison {
            metric: "p99".into(),
            a: 1.0,
            b: 1.1,
            ratio: 1.1,
            ratio_low: 1.0,
            ratio_high: 1.2,
            p_value: 0.01,
            verdict,
            rounds_needed: None,
        };
        let word = |verdicts: &[Difference]| {
            overall(&verdicts.iter().copied().map(metric).collect::<Vec<_>>()).0
        };
        assert_eq!(word(&[Difference::Better, Difference::Same]), "better");
        assert_eq!(
            word(&[Difference::Worse, Difference::NoDifferenceSeen]),
            "worse"
        );
        assert_eq!(word(&[Difference::Worse, Difference::Better]), "mixed");
        assert_eq!(word(&[Difference::Same, Difference::Same]), "same");
        assert_eq!(
            word(&[Difference::Same, Difference::NoDifferenceSeen]),
            "no-difference-seen"
        );
        assert_eq!(word(&[]), "no-difference-seen");
    }
}
