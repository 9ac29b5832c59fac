//! The page: one file, readable without a network.
//!
//! Owns its structure and style. Never refers to anything outside itself: no script, no font, no image.

use std::fmt::Write;

use super::svg::{Axis, Chart, Line, Scale, escape};
use crate::load::window::Window;
use crate::record::folder::SavedRun;
use crate::record::report::{RunReport, Verdict};
use crate::record::series::{CompareReport, PointKind, SearchReport};
use crate::stats::latencies::{Packed, Summary};
use crate::stats::unit::show_us;

/// What a page shows.
#[derive(Debug, Default)]
pub struct Contents {
    /// Saved runs.
    pub runs: Vec<SavedRun>,
    /// Saved searches.
    pub searches: Vec<SearchReport>,
    /// Saved comparisons.
    pub comparisons: Vec<CompareReport>,
}

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#667;--line:#d8dde3;--card:#f6f8fa;--good:#1a7f37;--bad:#c02;
--c0:#0969da;--c1:#bc4c00;--c2:#8250df;--c3:#1a7f37;--c4:#bf3989;--c5:#57606a}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#9aa4af;--line:#30363d;--card:#161b22;--good:#3fb950;--bad:#ff6b6b;
--c0:#58a6ff;--c1:#f0883e;--c2:#bc8cff;--c3:#3fb950;--c4:#f778ba;--c5:#9aa4af}}
body{font:15px/1.5 system-ui,sans-serif;background:var(--bg);color:var(--fg);max-width:900px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .4em}h3{font-size:1em;margin:1.4em 0 .2em}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:.6em 0}
th,td{padding:.25em .55em;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--dim);font-weight:500}
th:first-child,td:first-child{text-align:left;white-space:normal}
.answer{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.7em 1em;font-size:1.05em}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}.dim,.empty,.note{color:var(--dim)}.wide{overflow-x:auto}
svg{width:100%;height:auto;display:block}.grid{stroke:var(--line);stroke-width:1}.tick,.markname{font-size:11px;fill:var(--dim)}.label{font-size:12px;fill:var(--dim)}
.line{fill:none;stroke-width:1.8;stroke:currentColor}.dot{fill:currentColor}.dashed{stroke-dasharray:5 4}.mark{stroke:var(--bad);stroke-dasharray:3 3}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
.legend{display:flex;flex-wrap:wrap;gap:.2em 1.2em;font-size:13px;color:var(--dim);margin:.2em 0 0 4em}.legend i{display:inline-block;width:1.4em;border-top:3px solid currentColor;margin-right:.4em;vertical-align:middle}.legend i.dashed{border-top-style:dashed}
.bar{stroke:currentColor;stroke-width:3}details{margin:.8em 0}summary{cursor:pointer;color:var(--dim)}
";

/// Makes the page.
pub fn page(contents: &Contents) -> String {
    let mut body = String::new();
    contents
        .comparisons
        .iter()
        .for_each(|comparison| compare_section(&mut body, comparison));
    contents
        .searches
        .iter()
        .for_each(|search| search_section(&mut body, search));
    if !contents.runs.is_empty() {
        runs_section(&mut body, &contents.runs);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>gramme bench</title><style>{STYLE}</style></head>\n<body><h1>gramme bench</h1>{body}\
         <p class=\"note\">Latency counts from the intended start of each request; what a tool would print that times from the sending is the dashed line. Percentiles that the number of requests cannot support are not shown.</p></body></html>\n"
    )
}

fn us_axis() -> Axis {
    Axis {
        label: "response".to_owned(),
        scale: Scale::Log,
        tick: power_of_ten,
    }
}

/// Ticks of a logarithmic axis are whole powers of ten.
fn power_of_ten(us: f64) -> String {
    match us {
        us if us >= 999_999.0 => format!("{:.0}s", us / 1e6),
        us if us >= 999.0 => format!("{:.0}ms", us / 1e3),
        us if us >= 0.99 => format!("{us:.0}us"),
        us => format!("{:.0}ns", us * 1e3),
    }
}

fn cell(summary_us: f64, name: &str, report: &RunReport) -> String {
    if report.unsupported.iter().any(|missing| missing == name) {
        "–".to_owned()
    } else {
        show_us(summary_us)
    }
}

fn runs_section(body: &mut String, runs: &[SavedRun]) {
    *body += "<h2>Runs</h2><div class=\"wide\"><table><tr><th>run<th>offered<th>achieved<th>errors<th>p50<th>p99<th>p99.9<th>95 % sure<th>p99.99<th>max<th>verdict</tr>";
    for run in runs {
        let report = &run.report;
        let Summary {
            p50,
            p99,
            p99_9,
            p99_99,
            max,
            ..
        } = report.response_us;
        let bound = report
            .confidence
            .get("p99_9")
            .and_then(|confidence| confidence.high_us)
            .map_or("–".to_owned(), |us| format!("&lt;{}", show_us(us)));
        let verdict = match report.verdict {
            Verdict::Valid => "<span class=\"good\">valid</span>".to_owned(),
            Verdict::Invalid => format!(
                "<span class=\"bad\" title=\"{}\">INVALID</span>",
                escape(&report.reason)
            ),
        };
        // Writing to a string cannot fail.
        let _ = write!(
            body,
            "<tr><td>{}<td>{}<td>{:.0}<td>{}<td>{}<td>{}<td>{}<td>{bound}<td>{}<td>{}<td>{verdict}</tr>",
            escape(&name_of(run)),
            report
                .offered_rate
                .map_or("–".to_owned(), |rate| format!("{rate:.0}")),
            report.achieved_rate,
            report.errors,
            cell(p50, "p50", report),
            cell(p99, "p99", report),
            cell(p99_9, "p99_9", report),
            cell(p99_99, "p99_99", report),
            show_us(max)
        );
    }
    *body += "</table></div><h3>Percentile spectrum</h3>";
    *body += &spectrum(runs).to_svg();
    for (number, run) in runs.iter().enumerate() {
        run_details(body, run, number);
    }
}

fn name_of(run: &SavedRun) -> String {
    let report = &run.report;
    let label = report
        .label
        .clone()
        .unwrap_or_else(|| report.target.clone());
    format!(
        "{label} · {} · {}",
        report.workload,
        run.folder.file_name().unwrap_or_default().to_string_lossy()
    )
}

fn spectrum(runs: &[SavedRun]) -> Chart {
    let mut lines = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let measured = measured_windows(run);
        let responses: Vec<Packed> = measured.iter().map(Window::response_all).collect();
        let name = name_of(run);
        lines.push(spectrum_line(
            &Packed::join(&responses),
            name.clone(),
            number,
            false,
        ));
        if run.report.pace != "closed" {
            lines.push(spectrum_line(
                &Packed::join(measured.iter().map(|window| &window.service)),
                format!("{name}, timed from the sending"),
                number,
                true,
            ));
        }
    }
    let x = Axis {
        label: "percentile".to_owned(),
        scale: Scale::Linear,
        tick: nines_tick,
    };
    Chart {
        x,
        y: us_axis(),
        lines,
        mark: None,
    }
}

fn nines_tick(nines: f64) -> String {
    // Written with as many digits as the percentile has nines.
    let digits = (nines.ceil() as usize).saturating_sub(2);
    format!("{:.digits$}", 100.0 - 10f64.powf(2.0 - nines))
}

/// Percentiles against the number of nines; ends where the requests end.
fn spectrum_line(all: &Packed, name: String, colour: usize, dashed: bool) -> Line {
    const STEPS: u32 = 120;
    let nines_max = (all.count().max(1) as f64).log10();
    let points = (0..=STEPS)
        .map(|step| nines_max * f64::from(step) / f64::from(STEPS))
        .map(|nines| {
            (
                nines,
                all.quantile_ns(1.0 - 10f64.powf(-nines)) as f64 / 1000.0,
            )
        })
        .collect();
    Line {
        name,
        colour,
        dashed,
        dots: false,
        points,
    }
}

fn measured_windows(run: &SavedRun) -> &[Window] {
    let discarded = (run.report.warmup_s / run.report.window_s).round() as usize;
    run.windows.get(discarded..).unwrap_or(&[])
}

fn run_details(body: &mut String, run: &SavedRun, number: usize) {
    let report = &run.report;
    let _ = write!(body, "<h2>{}</h2>", escape(&name_of(run)));
    if report.verdict == Verdict::Invalid {
        let _ = write!(
            body,
            "<p class=\"answer bad\">INVALID: {}</p>",
            escape(&report.reason)
        );
    }
    for finding in &report.sla_findings {
        let (class, word) = if finding.met {
            ("good", "met")
        } else {
            ("bad", "missed")
        };
        let found = if finding.condition.starts_with("errors") {
            format!("{:.4} %", finding.found * 100.0)
        } else {
            show_us(finding.found)
        };
        let _ = write!(
            body,
            "<p class=\"answer\">{} <span class=\"{class}\">{word}</span> ({found})</p>",
            escape(&finding.condition)
        );
    }
    *body += "<h3>Time line</h3>";
    *body += &time_line(run, number).to_svg();
    *body += "<div class=\"wide\"><table><tr><th><th>p50<th>p90<th>p99<th>p99.9<th>p99.99<th>max<th>mean</tr>";
    let mut row = |name: &str, s: &Summary| {
        let _ = write!(
            body,
            "<tr><td>{name}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            cell(s.p50, "p50", report),
            cell(s.p90, "p90", report),
            cell(s.p99, "p99", report),
            cell(s.p99_9, "p99_9", report),
            cell(s.p99_99, "p99_99", report),
            show_us(s.max),
            show_us(s.mean)
        );
    };
    row("response: intended start to answer", &report.response_us);
    row("service: sent to answer", &report.service_us);
    row("wait: for a free connection", &report.wait_us);
    row("lag: the generator's own lateness", &report.lag_us);
    row(
        "this host: a sleeping thread's lateness",
        &report.host_jitter_us,
    );
    for (verb, part) in &report.by_verb {
        row(verb, &part.response_us);
    }
    *body += "</table></div>";
    for note in &report.notes {
        let _ = write!(body, "<p class=\"note\">{}</p>", escape(note));
    }
    *body += "<details><summary>Host, target and generator</summary><table>";
    let mut fact = |name: &str, value: &str| {
        let _ = write!(body, "<tr><td>{}<td>{}</tr>", escape(name), escape(value));
    };
    report
        .host
        .0
        .iter()
        .for_each(|(name, value)| fact(name, value));
    report
        .target_facts
        .iter()
        .for_each(|(name, value)| fact(&format!("target: {name}"), value));
    let generator = &report.generator;
    fact(
        "generator",
        &format!(
            "{} threads, {} connections of depth {}",
            generator.threads, generator.connections, generator.depth
        ),
    );
    fact(
        "generator CPU",
        &format!(
            "{:.0} % of a CPU, {:.2} us a request",
            generator.cpu_share * 100.0,
            generator.cpu_us_per_request
        ),
    );
    fact("seed", &report.seed.to_string());
    *body += "</table></details>";
}

fn time_line(run: &SavedRun, _number: usize) -> Chart {
    let window_s = run.report.window_s;
    let per_point = (run.windows.len() / 300)
        .max(1)
        .max((0.5 / window_s) as usize);
    let points: Vec<(f64, Packed)> = run
        .windows
        .chunks(per_point)
        .enumerate()
        .map(|(place, chunk)| {
            let parts: Vec<Packed> = chunk.iter().map(Window::response_all).collect();
            (
                place as f64 * per_point as f64 * window_s,
                Packed::join(&parts),
            )
        })
        .filter(|(_, all)| !all.is_empty())
        .collect();
    let line = |name: &str, colour, quantile: f64| Line {
        name: name.to_owned(),
        colour,
        dashed: false,
        dots: false,
        points: points
            .iter()
            .map(|(at_s, all)| (*at_s, all.quantile_ns(quantile) as f64 / 1000.0))
            .collect(),
    };
    Chart {
        x: Axis {
            label: "seconds".to_owned(),
            scale: Scale::Linear,
            tick: |seconds| format!("{seconds:.0}"),
        },
        y: us_axis(),
        lines: vec![
            line("p50", 0, 0.5),
            line("p99", 1, 0.99),
            line("max", 4, 1.0),
        ],
        mark: None,
    }
}

/// One point for each rate: a rate that was tried again gets the median of its tries.
fn median_by_rate(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    points
        .chunk_by(|a, b| a.0 == b.0)
        .filter_map(|same| same.get(same.len() / 2).copied())
        .collect()
}

fn search_section(body: &mut String, search: &SearchReport) {
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
        mark: None,
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
            (Verdict::Valid, Some(crate::record::report::SlaVerdict::Met)) => "holds".to_owned(),
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

fn compare_section(body: &mut String, report: &CompareReport) {
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
            crate::stats::compare::Difference::Better => "good",
            crate::stats::compare::Difference::Worse => "bad",
            crate::stats::compare::Difference::Same
            | crate::stats::compare::Difference::NoDifferenceSeen => "dim",
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
