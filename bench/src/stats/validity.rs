//! Whether a run may be believed, and if not, which resource was in the way.
//!
//! Owns the rules. Never looks at an SLA's outcome: a run can be valid and bad.
//!
//! The rules, in the order in which they are named when several apply:
//! nothing answered · too short · the generator's bound on requests in flight · its CPU · its lateness · the target
//! fell behind the offered rate. Each leaves figures that describe something other than what was asked for.

use serde::{Deserialize, Serialize};

use super::quantile::samples_min;

/// A generator's thread that is busier than this cannot be trusted to be on time.
const CPU_SHARE_MAX: f64 = 0.8;
/// Lateness of the generator below this is not held against a run: it is the machine's timer, and it is in the
/// response times, which are thereby too long, never too short.
const LAG_NS_TOLERATED: u64 = 500_000;
/// Beyond the tolerated, lateness may be this part of the response.
const LAG_SHARE_MAX: f64 = 0.05;
/// Requests left waiting, as a part of all, from which the target did not keep up.
const BACKLOG_SHARE_MAX: f64 = 0.01;

/// What a run shows about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Requests followed a schedule.
    pub open_loop: bool,
    /// Requests that ended in the measured part.
    pub ended: u64,
    /// Of those, the failed ones.
    pub failed: u64,
    /// Requests that were due in the measured part.
    pub due: u64,
    /// Requests refused by the generator's own bound.
    pub capped: u64,
    /// That bound.
    pub in_flight_max: u64,
    /// The busiest generator thread's CPU share.
    pub cpu_share: f64,
    /// p99 of the generator's lateness.
    pub lag_p99_ns: u64,
    /// p99 of the response.
    pub response_p99_ns: u64,
    /// Requests due and not answered at the end of each window, up to the end of the schedule.
    pub backlog: Vec<u64>,
    /// Answers a second.
    pub achieved_rate: f64,
    /// Requests a second that the schedule asked for.
    pub offered_rate: f64,
    /// The greatest percentile that is to be judged.
    pub quantile: f64,
}

/// The resource that was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// No request succeeded.
    NoAnswer,
    /// Too few requests for the percentile.
    TooShort,
    /// The generator's bound on requests in flight.
    InFlightCap,
    /// The generator's CPU.
    GeneratorCpu,
    /// The generator was late.
    GeneratorLag,
    /// The target (or its connections) fell behind.
    Target,
}

/// Why a run is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalid {
    /// The resource.
    pub limit: Limit,
    /// In words, with the figures and what to do.
    pub reason: String,
}

/// Judges a run.
pub fn judge(evidence: &Evidence) -> Result<(), Invalid> {
    let invalid = |limit, reason| Err(Invalid { limit, reason });
    if evidence.ended == evidence.failed {
        return invalid(
            Limit::NoAnswer,
            format!(
                "none of {} requests succeeded: is the target up, and is it of this kind?",
                evidence.ended
            ),
        );
    }
    let needed = samples_min(evidence.quantile);
    if evidence.ended < needed {
        let percent = evidence.quantile * 100.0;
        return invalid(
            Limit::TooShort,
            format!(
                "too short: p{percent} needs at least {needed} requests and the run has {}; raise --duration or --rate",
                evidence.ended
            ),
        );
    }
    if !evidence.open_loop {
        return Ok(());
    }
    if evidence.capped > 0 {
        return invalid(
            Limit::InFlightCap,
            format!(
                "the bound of {} requests in flight was reached {} times: the target fell far behind; lower --rate, or raise --in-flight",
                evidence.in_flight_max, evidence.capped
            ),
        );
    }
    if evidence.cpu_share > CPU_SHARE_MAX {
        return invalid(
            Limit::GeneratorCpu,
            format!(
                "a generator thread used {:.0} % of a CPU: the generator is the limit; raise --threads or lower --rate",
                evidence.cpu_share * 100.0
            ),
        );
    }
    let lag_allowed_ns =
        LAG_NS_TOLERATED.max((evidence.response_p99_ns as f64 * LAG_SHARE_MAX) as u64);
    if evidence.lag_p99_ns > lag_allowed_ns {
        return invalid(
            Limit::GeneratorLag,
            format!(
                "the generator sent late: p99 {:.1} ms of lag within a response p99 of {:.1} ms; it had too little CPU (other load on this host, or requests too large for its threads); raise --threads, or move the generator",
                evidence.lag_p99_ns as f64 / 1e6,
                evidence.response_p99_ns as f64 / 1e6
            ),
        );
    }
    if saturated(evidence) {
        return invalid(
            Limit::Target,
            format!(
                "saturated: {:.0} of {:.0} requests a second were answered and the backlog never drained; the target (or its connections) is the limit: lower --rate or raise --connections",
                evidence.achieved_rate, evidence.offered_rate
            ),
        );
    }
    Ok(())
}

/// A target that keeps up has its backlog near zero now and then, also shortly after a stall; one that does not,
/// never in the last third of the run.
fn saturated(evidence: &Evidence) -> bool {
    let last_third = &evidence.backlog[evidence.backlog.len() * 2 / 3..];
    let least = last_third.iter().min().copied().unwrap_or(0);
    let allowed = (evidence.due as f64 * BACKLOG_SHARE_MAX).max(10.0);
    least as f64 > allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Evidence {
        Evidence {
            open_loop: true,
            ended: 10_000,
            due: 10_000,
            in_flight_max: 10_000,
            cpu_share: 0.2,
            lag_p99_ns: 50_000,
            response_p99_ns: 300_000,
            backlog: vec![0; 100],
            achieved_rate: 1000.0,
            offered_rate: 1000.0,
            quantile: 0.999,
            ..Evidence::default()
        }
    }

    fn limit(evidence: Evidence) -> Option<Limit> {
        judge(&evidence).err().map(|invalid| invalid.limit)
    }

    #[test]
    fn a_good_run_is_valid() {
        assert_eq!(judge(&good()), Ok(()));
    }

    #[test]
    fn each_resource_is_named() {
        assert_eq!(
            limit(Evidence {
                failed: 10_000,
                ..good()
            }),
            Some(Limit::NoAnswer)
        );
        assert_eq!(
            limit(Evidence {
                ended: 2_000,
                ..good()
            }),
            Some(Limit::TooShort)
        );
        assert_eq!(
            limit(Evidence {
                capped: 1,
                ..good()
            }),
            Some(Limit::InFlightCap)
        );
        assert_eq!(
            limit(Evidence {
                cpu_share: 0.9,
                ..good()
            }),
            Some(Limit::GeneratorCpu)
        );
        // A generator on a tenth of a CPU: 90 ms late out of every 100.
        assert_eq!(
            limit(Evidence {
                lag_p99_ns: 90_000_000,
                response_p99_ns: 95_000_000,
                ..good()
            }),
            Some(Limit::GeneratorLag)
        );
    }

    #[test]
    fn half_the_capacity_that_is_needed_is_saturation_and_a_stall_is_not() {
        let growing = (0..100).map(|window| window * 50).collect();
        assert_eq!(
            limit(Evidence {
                backlog: growing,
                ended: 5_000,
                ..good()
            }),
            Some(Limit::Target)
        );
        // One second of stall at the very end of ten: the backlog is large, but was zero just before.
        let stalled = (0..100)
            .map(|window| if window < 90 { 0 } else { (window - 89) * 100 })
            .collect();
        assert_eq!(
            limit(Evidence {
                backlog: stalled,
                response_p99_ns: 900_000_000,
                ..good()
            }),
            None
        );
    }

    #[test]
    fn a_closed_loop_may_use_all_its_cpu() {
        assert_eq!(
            limit(Evidence {
                open_loop: false,
                cpu_share: 1.0,
                lag_p99_ns: 1 << 40,
                ..good()
            }),
            None
        );
    }

    #[test]
    fn nothing_at_all_is_invalid_not_a_panic() {
        assert_eq!(limit(Evidence::default()), Some(Limit::NoAnswer));
    }
}
