//! A comparison on the page: its sentence, its ratios, its table.
//!
//! Owns the picture of the intervals around 1.

use std::fmt::Write;

use crate::record::series::CompareReport;
use crate::report::svg::escape;
use crate::stats::compare::Difference;

pub(super) fn section(body: &mut String, report: &CompareReport) {
    let _ = write!(
        body,
        "<h2>Comparison · {} · {} loop</h2><p>A {}<br>B {}</p><p class=\"answer\">{}</p>",
        escape(&report.workload),
        report.pace,
        escape(&report.a),
        escape(&report.b),
        escape(&report.words)
    );
    *body += &ratios(report);
    *body += "<div class=\"wide\"><table><tr><th><th>A<th>B<th>B/A<th>95 % interval<th>p (Holm)<th>verdict</tr>";
    for metric in &report.metrics {
        let class = match metric.verdict {
            Difference::Better => "good",
            Difference::Worse => "bad",
            Difference::Same | Difference::NoDifferenceSeen => "dim",
        };
        let _ = write!(
            body,
            "<tr><td>{}<td>{:.1}<td>{:.1}<td>{:.3}<td>{:.3} … {:.3}<td>{:.4}<td class=\"{class}\">{}</tr>",
            escape(&metric.metric),
            metric.a,
            metric.b,
            metric.ratio,
            metric.ratio_low,
            metric.ratio_high,
            metric.p_value,
            metric.verdict.words()
        );
    }
    *body += "</table></div>";
    for note in &report.notes {
        let _ = write!(body, "<p class=\"note\">{}</p>", escape(note));
    }
}

/// The intervals of the ratios around 1, on a logarithmic axis.
fn ratios(report: &CompareReport) -> String {
    const ROW: f64 = 30.0;
    let reach = report
        .metrics
        .iter()
        .flat_map(|metric| [metric.ratio_low, metric.ratio_high])
        .map(|ratio| ratio.ln().abs())
        .fold(0.05, f64::max)
        .min(5.0)
        * 1.1;
    let x = |ratio: f64| 430.0 + (ratio.ln() / reach).clamp(-1.0, 1.0) * 300.0;
    let height = ROW * report.metrics.len() as f64 + 24.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 860 {height}\" role=\"img\"><line class=\"mark\" x1=\"430\" x2=\"430\" y1=\"0\" y2=\"{:.0}\"/>",
        height - 18.0
    );
    for (row, metric) in report.metrics.iter().enumerate() {
        let y = ROW * (row as f64 + 0.6);
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"110\" y=\"{:.1}\" text-anchor=\"end\">{}</text><line class=\"bar c0\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><circle class=\"dot c0\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\"/><text class=\"tick\" x=\"745\" y=\"{:.1}\">{:.3}</text>",
            y + 4.0,
            escape(&metric.metric),
            x(metric.ratio_low),
            x(metric.ratio_high),
            x(metric.ratio),
            y + 4.0,
            metric.ratio
        );
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"430\" y=\"{:.1}\" text-anchor=\"middle\">B/A = 1</text></svg>",
        height - 4.0
    );
    svg
}
