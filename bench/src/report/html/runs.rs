//! Saved runs on the page: their table, their spectrum, and each with its time line.
//!
//! Owns the order of the columns. Never shows a percentile that the number of requests cannot support.

use std::fmt::Write;

use super::us_axis;
use crate::load::window::Window;
use crate::record::folder::SavedRun;
use crate::record::report::{RunReport, Verdict};
use crate::report::svg::{Axis, Chart, Line, Scale, escape};
use crate::stats::latencies::{Packed, Summary};
use crate::stats::unit::show_us;

fn cell(summary_us: f64, name: &str, report: &RunReport) -> String {
    if report.unsupported.iter().any(|missing| missing == name) {
        "–".to_owned()
    } else {
        show_us(summary_us)
    }
}

pub(super) fn section(body: &mut String, runs: &[SavedRun]) {
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
    runs.iter().for_each(|run| run_details(body, run));
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

fn run_details(body: &mut String, run: &SavedRun) {
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
    *body += &time_line(run).to_svg();
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

fn time_line(run: &SavedRun) -> Chart {
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
