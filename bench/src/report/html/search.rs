//! A search on the page: its answer, its curve, its steps.
//!
//! Owns how a rate that was tried more than once is drawn. Never hides a step.

use std::fmt::Write;

use super::us_axis;
use crate::record::report::{SlaVerdict, Verdict};
use crate::record::series::{PointKind, SearchReport};
use crate::report::svg::{Axis, Chart, Line, Scale, escape};
use crate::stats::latencies::Summary;
use crate::stats::sla::Sla;
use crate::stats::unit::show_us;

/// One point for each rate: a rate that was tried again gets the median of its tries.
fn median_by_rate(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    points
        .chunk_by(|a, b| a.0 == b.0)
        .filter_map(|same| same.get(same.len() / 2).copied())
        .collect()
}

pub(super) fn section(body: &mut String, search: &SearchReport) {
    let answer = match (search.rate > 0.0, search.confirmed) {
        (true, true) => format!(
            "<span class=\"good\">{:.0} requests/s</span>, confirmed by a longer run; limited by the {}",
            search.rate, search.limited_by
        ),
        (true, false) => format!(
            "<span class=\"bad\">{:.0} requests/s, not confirmed</span>",
            search.rate
        ),
        (false, _) => "<span class=\"bad\">no rate that was tried</span>".to_owned(),
    };
    let _ = write!(
        body,
        "<h2>Search: {} · {}</h2><p class=\"answer\">{} holds up to {answer}</p><h3>Throughput and latency</h3>",
        escape(&search.target),
        escape(&search.workload),
        escape(&search.sla)
    );
    let usable: Vec<_> = search
        .points
        .iter()
        .filter(|point| point.requests > point.errors)
        .collect();
    let line = |name: &str, colour, of: fn(&Summary) -> f64| Line {
        name: name.to_owned(),
        colour,
        dashed: false,
        dots: true,
        points: median_by_rate(
            usable
                .iter()
                .map(|point| (point.rate, of(&point.response_us)))
                .collect(),
        ),
    };
    let bound_us = search
        .sla
        .parse::<Sla>()
        .ok()
        .and_then(|sla| sla.quantile_bound_us());
    let mark = bound_us.map(|us| (us, search.sla.clone()));
    let x = Axis {
        label: "requests/s offered".to_owned(),
        scale: Scale::Linear,
        tick: |rate| format!("{rate:.0}"),
    };
    let lines = vec![
        line("p50", 0, |s| s.p50),
        line("p99", 1, |s| s.p99),
        line("p99.9", 2, |s| s.p99_9),
    ];
    *body += &Chart {
        x,
        y: us_axis(),
        lines,
        mark,
    }
    .to_svg();
    *body += "<details><summary>Every step</summary><div class=\"wide\"><table><tr><th>step<th>offered<th>achieved<th>p50<th>p99<th>p99.9<th>errors<th>verdict</tr>";
    for point in &search.points {
        let kind = match point.kind {
            PointKind::Probe => "probe",
            PointKind::Confirm => "confirm",
            PointKind::Curve => "curve",
        };
        let verdict = match (point.verdict, point.sla) {
            (Verdict::Invalid, _) => escape(&point.reason),
            (Verdict::Valid, Some(SlaVerdict::Met)) => "holds".to_owned(),
            (Verdict::Valid, _) => "broken".to_owned(),
        };
        let s = &point.response_us;
        let _ = write!(
            body,
            "<tr><td>{kind}<td>{:.0}<td>{:.0}<td>{}<td>{}<td>{}<td>{}<td style=\"white-space:normal\">{verdict}</tr>",
            point.rate,
            point.achieved_rate,
            show_us(s.p50),
            show_us(s.p99),
            show_us(s.p99_9),
            point.errors
        );
    }
    *body += "</table></div></details>";
    for note in &search.notes {
        let _ = write!(body, "<p class=\"note\">{}</p>", escape(note));
    }
}
