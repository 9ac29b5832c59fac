//! A promise about latency, and whether it was kept.
//!
//! Owns the grammar `p99.9<2ms,errors<0.01%` and its judgement. Never rounds in anyone's favour: a percentile equal to its bound has missed a
//! `<`.

use std::fmt;
use std::str::FromStr;

use super::latencies::Latencies;

/// All conditions must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Sla {
    /// As it was written.
    text: String,
    conditions: Vec<Condition>,
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Condition {
    measure: Measure,
    bound: f64,
    or_equal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Measure {
    QuantileNs(f64),
    MeanNs,
    MaxNs,
    ErrorShare,
}

/// One condition's figure beside its bound.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// The condition in words.
    pub condition: String,
    /// What was measured: microseconds, or a share of the requests.
    pub found: f64,
    /// Whether it held.
    pub met: bool,
}

impl Sla {
    /// The greatest percentile that is asked for, which says how many requests are needed.
    pub fn quantile_max(&self) -> Option<f64> {
        let quantiles = self
            .conditions
            .iter()
            .filter_map(|condition| match condition.measure {
                Measure::QuantileNs(quantile) => Some(quantile),
                Measure::MeanNs | Measure::MaxNs | Measure::ErrorShare => None,
            });
        quantiles.max_by(f64::total_cmp)
    }

    /// The bound of the greatest percentile that is asked for, in microseconds.
    pub fn quantile_bound_us(&self) -> Option<f64> {
        let greatest = self.quantile_max()?;
        let bound = self
            .conditions
            .iter()
            .find(|condition| condition.measure == Measure::QuantileNs(greatest))?;
        Some(bound.bound / 1000.0)
    }

    /// Judges responses and the share of failed requests.
    pub fn judge(&self, responses: &Latencies, error_share: f64) -> Vec<Finding> {
        let find = |condition: &Condition| {
            let found = match condition.measure {
                Measure::QuantileNs(quantile) => responses.quantile_ns(quantile) as f64,
                Measure::MeanNs => responses.mean_ns(),
                Measure::MaxNs => responses.max_ns() as f64,
                Measure::ErrorShare => error_share,
            };
            let met = found < condition.bound || (condition.or_equal && found == condition.bound);
            let shown = if condition.measure == Measure::ErrorShare {
                found
            } else {
                found / 1000.0
            };
            Finding {
                condition: condition.to_string(),
                found: shown,
                met,
            }
        };
        self.conditions.iter().map(find).collect()
    }
}

impl fmt::Display for Sla {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.or_equal { "<=" } else { "<" };
        match self.measure {
            Measure::QuantileNs(quantile) => write!(
                f,
                "p{}{sign}{}",
                trim(quantile * 100.0),
                duration(self.bound)
            ),
            Measure::MeanNs => write!(f, "mean{sign}{}", duration(self.bound)),
            Measure::MaxNs => write!(f, "max{sign}{}", duration(self.bound)),
            Measure::ErrorShare => write!(f, "errors{sign}{}%", trim(self.bound * 100.0)),
        }
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn duration(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => trim(ns / 1e9) + "s",
        ns if ns >= 1e6 => trim(ns / 1e6) + "ms",
        ns if ns >= 1e3 => trim(ns / 1e3) + "us",
        ns => trim(ns) + "ns",
    }
}

impl FromStr for Sla {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let conditions: Result<Vec<Condition>, String> = text
            .split(',')
            .map(|part| parse_condition(part.trim()))
            .collect();
        Ok(Sla {
            text: text.to_owned(),
            conditions: conditions?,
        })
    }
}

fn parse_condition(text: &str) -> Result<Condition, String> {
    let help = "write conditions such as p99.9<2ms, mean<500us, max<1s or errors<0.01%";
    let Some((name, bound)) = text.split_once('<') else {
        return Err(format!("'{text}' holds no '<': {help}"));
    };
    let (or_equal, bound) = match bound.strip_prefix('=') {
        Some(rest) => (true, rest.trim()),
        None => (false, bound.trim()),
    };
    let name = name.trim();
    let measure = match name {
        "mean" | "avg" => Measure::MeanNs,
        "max" => Measure::MaxNs,
        "errors" => Measure::ErrorShare,
        _ => {
            let percent = name
                .strip_prefix('p')
                .and_then(|digits| digits.parse::<f64>().ok());
            match percent.filter(|percent| *percent > 0.0 && *percent < 100.0) {
                // Rounded, so that 99.9 gives 0.999 and not its neighbour.
                Some(percent) => Measure::QuantileNs((percent * 1e6).round() / 1e8),
                None => {
                    return Err(format!(
                        "'{name}' is not something that is measured: {help}"
                    ));
                }
            }
        }
    };
    let bound = if measure == Measure::ErrorShare {
        parse_share(bound)
    } else {
        parse_duration_ns(bound)
    };
    let bound = bound.ok_or_else(|| format!("'{text}' has a bound that cannot be read: {help}"))?;
    Ok(Condition {
        measure,
        bound,
        or_equal,
    })
}

fn parse_share(text: &str) -> Option<f64> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .map(|value| value / scale)
        .filter(|share| (0.0..=1.0).contains(share))
}

/// Reads `2ms`, `500us`, `1.5s`, `100ns`; a number alone is no duration.
pub fn parse_duration_ns(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return None,
    };
    number
        .parse::<f64>()
        .ok()
        .map(|value| value * scale)
        .filter(|ns| ns.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_example_is_judged() {
        let sla: Sla = "p99.9<2ms,errors<0.01%"
            .parse()
            .expect("the contract's example");
        assert_eq!(
            (sla.quantile_max(), sla.quantile_bound_us()),
            (Some(0.999), Some(2000.0))
        );
        let mut latencies = Latencies::new();
        latencies.record_n(1_000_000, 9_995);
        latencies.record_n(50_000_000, 5);
        let findings = sla.judge(&latencies, 0.0);
        assert!(findings.iter().all(|finding| finding.met), "{findings:?}");
        latencies.record_n(50_000_000, 10);
        let findings = sla.judge(&latencies, 0.0001);
        assert!(
            findings.iter().all(|finding| !finding.met),
            "an error share equal to a strict bound has missed it: {findings:?}"
        );
        assert_eq!(findings[0].condition, "p99.9<2ms");
        assert_eq!(findings[1].condition, "errors<0.01%");
    }

    #[test]
    fn all_forms_are_read() {
        for text in [
            "p50<=100us",
            "p99<1.5s",
            "mean<500us",
            "max<1s",
            "errors<0.1",
            "p99.99 < 10ms , errors <= 1%",
        ] {
            assert!(text.parse::<Sla>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_condition_that_means_nothing_is_refused() {
        for text in [
            "",
            "p99",
            "p99<2",
            "p0<1ms",
            "p100<1ms",
            "q99<1ms",
            "p99<2parsec",
            "errors<200%",
            "p99<2ms,",
            "errors<2ms",
        ] {
            assert!(text.parse::<Sla>().is_err(), "{text:?} was taken");
        }
    }
}
