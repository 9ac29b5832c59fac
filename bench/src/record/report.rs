//! The document that a run leaves: JSON that describes itself.
//!
//! Owns the fields and their names, which are a contract with whoever reads them. Never holds NaN: a figure that
//! does not exist is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::host::HostFacts;
use crate::stats::latencies::Summary;
use crate::stats::sla::Finding;
use crate::stats::validity::Limit;

/// The schema's name, in every record.
pub const SCHEMA: &str = "gramme-bench/run/1";

/// Whether a run may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may.
    Valid,
    /// It may not; `reason` says why.
    Invalid,
}

/// Whether the SLA was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlaVerdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
}

/// A 95 % interval of a percentile, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Its lower end.
    pub low_us: f64,
    /// Its upper end; absent when there were too few requests to bound the percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_us: Option<f64>,
}

/// One verb's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerbReport {
    /// Requests that ended.
    pub requests: u64,
    /// Intended start to answer.
    pub response_us: Summary,
}

/// The generator, so that its part in the figures can be judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// Its threads.
    pub threads: usize,
    /// Its connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: usize,
    /// The busiest thread's CPU share, without spinning.
    pub cpu_share: f64,
    /// CPU time a request, without spinning: the generator's threads for a server, the whole process (generator and
    /// store together) for an embedded store.
    pub cpu_us_per_request: f64,
}

/// A run's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// `SCHEMA`.
    pub schema: String,
    /// What was measured.
    pub target: String,
    /// A name given by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The workload's name.
    pub workload: String,
    /// `open`, `closed` or `trace`.
    #[serde(rename = "loop")]
    pub pace: String,
    /// Whether the run may be believed.
    pub verdict: Verdict,
    /// Why it may not; empty when it may.
    pub reason: String,
    /// The resource that was in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Requests a second that the schedule asked for; absent in a closed loop.
    pub offered_rate: Option<f64>,
    /// Answers a second.
    pub achieved_rate: f64,
    /// Requests that ended in the measured part.
    pub requests: u64,
    /// Of those, the failed ones.
    pub errors: u64,
    /// The failed ones by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// The first error in the target's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Intended start to answer: what a user feels.
    pub response_us: Summary,
    /// Sent to answer: what a closed-loop tool would print.
    pub service_us: Summary,
    /// How late the generator was.
    pub lag_us: Summary,
    /// How long requests waited for a free connection.
    pub wait_us: Summary,
    /// How late a thread of this host woke that did nothing but sleep.
    pub host_jitter_us: Summary,
    /// 95 % intervals of the response's percentiles.
    pub confidence: BTreeMap<String, Confidence>,
    /// Percentiles that the number of requests cannot support.
    pub unsupported: Vec<String>,
    /// Each verb's part.
    pub by_verb: BTreeMap<String, VerbReport>,
    /// Whether the SLA was kept; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<SlaVerdict>,
    /// Its conditions, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sla_findings: Vec<Finding>,
    /// Reads that found the right value.
    pub hits: u64,
    /// Reads that found nothing.
    pub misses: u64,
    /// Reads that found a value that this harness did not write.
    pub foreign: u64,
    /// Seconds measured.
    pub measured_s: f64,
    /// Seconds discarded before.
    pub warmup_s: f64,
    /// Length of one window of the series.
    pub window_s: f64,
    /// Answers a second in each window of the whole run.
    pub series_rate: Vec<f64>,
    /// The generator.
    pub generator: GeneratorReport,
    /// Bytes that this process wrote to disk for each byte of key and value written (embedded stores only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_per_byte: Option<f64>,
    /// What the reader should know.
    pub notes: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// Seconds since 1970 at the start.
    pub started_unix_s: u64,
    /// The target's own facts.
    pub target_facts: BTreeMap<String, String>,
    /// The host's.
    pub host: HostFacts,
}
