//! The machine's limits on the page, so that a figure stands beside what is possible at all.
//!
//! Owns their table.

use std::fmt::Write;

use crate::limits::LimitsReport;
use crate::report::svg::escape;

pub(super) fn section(body: &mut String, report: &LimitsReport) {
    *body += "<h2>What this machine can do</h2><table><tr><th>limit<th><th>unit<th></tr>";
    for figure in &report.limits {
        let digits = if figure.value < 100.0 { 1 } else { 0 };
        // Writing to a string cannot fail.
        let _ = write!(
            body,
            "<tr><td>{}<td>{:.digits$}<td>{}<td style=\"white-space:normal\">{}</tr>",
            escape(&figure.name),
            figure.value,
            escape(&figure.unit),
            escape(&figure.note)
        );
    }
    *body += "</table>";
}
