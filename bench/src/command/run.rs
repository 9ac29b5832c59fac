//! `gramme bench run`.
//!
//! Owns its output: the report as text or JSON on stdout, everything else on stderr.

use std::io::{self, Write};
use std::time::Duration;

use super::args::RunArgs;
use super::exit::{Ended, Failure};
use super::plan;
use super::progress::{LoadProgress, RunProgress};
use crate::agent::fleet;
use crate::load::plan::LoadPlan;
use crate::load::window::Window;
use crate::measure::run::{LoadRule, Measured, Measurement, measure, measure_by, prepare};
use crate::measure::target::Target;
use crate::record::analysis::WarmUpRule;
use crate::record::folder;
use crate::record::report::{RunReport, SlaVerdict, Verdict};
use crate::stats::latencies::Summary;
use crate::stats::unit::show_us;
use crate::workload::KeySpace;

/// Runs it.
pub fn run(args: &RunArgs) -> Result<Ended, Failure> {
    let measurement = plan::run(args)?;
    if let Some(out) = args.out.as_deref().filter(|out| folder::holds_run(out)) {
        return Err(Failure::usage(format!(
            "--out {}: a run is there already; choose another folder",
            out.display()
        )));
    }
    let target = Target::open(
        &args.target,
        &measurement.workload,
        &plan::store_settings(&args.load),
    )?;
    let rule = match args.load.load {
        // A trace brings its own keys.
        LoadRule::Auto if args.trace.is_some() => LoadRule::Never,
        rule => rule,
    };
    load_with_progress(&target, &measurement, rule)?;
    let measured = match args.agents.as_slice() {
        [] => measure_with_progress(&target, &measurement, "run")?,
        agents => measure_on_agents(&target, &measurement, agents)?,
    };
    if let Some(out) = &args.out {
        folder::save(
            out,
            &measured.report,
            &measured.windows,
            &measurement.workload,
        )
        .map_err(Failure::invalid)?;
        eprintln!("saved in {}", out.display());
    }
    print(&measured.report, args.json)?;
    Ok(ended(&measured.report))
}

/// Loads what is missing and shows it.
pub(super) fn load_with_progress(
    target: &Target,
    measurement: &Measurement,
    rule: LoadRule,
) -> Result<(), Failure> {
    let progress = LoadProgress::new(measurement.workload.records);
    let written = prepare(target, measurement, rule, &|records| progress.add(records))
        .map_err(Failure::invalid)?;
    progress.finish(written);
    Ok(())
}

/// Measures and shows it.
pub(super) fn measure_with_progress(
    target: &Target,
    measurement: &Measurement,
    label: &str,
) -> Result<Measured, Failure> {
    let space = KeySpace::new(measurement.workload.records);
    let total = length_of(measurement);
    let mut progress = RunProgress::new(label.to_owned(), LoadPlan::window_for(total), total);
    let measured = measure(target, measurement, &space, |window| progress.see(window))
        .map_err(Failure::invalid);
    progress.finish();
    measured
}

/// Measures with the load of other hosts.
fn measure_on_agents(
    target: &Target,
    measurement: &Measurement,
    agents: &[String],
) -> Result<Measured, Failure> {
    if target.is_embedded() {
        return Err(Failure::usage(
            "agents drive servers only: an embedded store lives in this process",
        ));
    }
    let total = length_of(measurement);
    let mut progress = RunProgress::new(
        format!("{} agents", agents.len()),
        LoadPlan::window_for(total),
        total,
    );
    let mut drive = |plan: &LoadPlan, seen: &mut dyn FnMut(&Window)| {
        let ran = fleet::run(agents, target.address(), plan, &measurement.workload, seen);
        ran.map(|ran| (ran.driven, ran.notes))
            .map_err(|error| target.failed(error))
    };
    let measured = measure_by(target, measurement, &mut drive, &mut |window| {
        progress.see(window)
    });
    progress.finish();
    measured.map_err(Failure::invalid)
}

fn length_of(measurement: &Measurement) -> Duration {
    match measurement.warm_up {
        WarmUpRule::Auto => measurement.plan.duration,
        WarmUpRule::Fixed(length) => measurement.plan.duration + length,
    }
}

/// The exit that a report deserves: without valid figures there is no judging an SLA.
pub(super) fn ended(report: &RunReport) -> Ended {
    match (report.verdict, report.sla) {
        (Verdict::Invalid, _) => Ended::Invalid,
        (Verdict::Valid, Some(SlaVerdict::Missed)) => Ended::Missed,
        (Verdict::Valid, Some(SlaVerdict::Met) | None) => Ended::Met,
    }
}

fn print(report: &RunReport, json: bool) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(report).map_err(Failure::invalid)? + "\n"
    } else {
        as_text(report)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::invalid)
}

/// The report for a person.
pub fn as_text(report: &RunReport) -> String {
    let mut lines = Vec::new();
    lines.push(format!(
        "{}  {}  {} loop",
        report.target, report.workload, report.pace
    ));
    let offered = report
        .offered_rate
        .map(|rate| format!(" of {rate:.0} offered"))
        .unwrap_or_default();
    lines.push(format!(
        "{:.0} requests/s{offered}, {} requests in {:.1} s ({:.1} s of warm-up discarded), {} errors",
        report.achieved_rate, report.requests, report.measured_s, report.warmup_s, report.errors
    ));
    for (kind, count) in &report.errors_by_kind {
        lines.push(format!("  errors, {kind}: {count}"));
    }
    if let Some(error) = &report.first_error {
        lines.push(format!("  the first in the target's words: {error}"));
    }
    lines.push(String::new());
    lines.push(
        "                  p50       p90       p99     p99.9    p99.99       max      mean"
            .to_owned(),
    );
    let row = |name: &str, s: &Summary, unsupported: &[String]| {
        let cell = |key: &str, us: f64| {
            if unsupported.iter().any(|name| name == key) {
                "-".to_owned()
            } else {
                show_us(us)
            }
        };
        let cells = [
            cell("p50", s.p50),
            cell("p90", s.p90),
            cell("p99", s.p99),
            cell("p99_9", s.p99_9),
            cell("p99_99", s.p99_99),
            show_us(s.max),
            show_us(s.mean),
        ];
        name_and_cells(name, &cells)
    };
    lines.push(row("response", &report.response_us, &report.unsupported));
    let bounds: Vec<String> = ["p50", "p90", "p99", "p99_9", "p99_99"]
        .iter()
        .map(|name| match report.confidence.get(*name) {
            Some(bound) if !report.unsupported.iter().any(|missing| missing == name) => {
                format!("<{}", bound.high_us.map_or("?".to_owned(), show_us))
            }
            _ => "-".to_owned(),
        })
        .collect();
    lines.push(name_and_cells("  95 % sure", &bounds));
    lines.push(row("service", &report.service_us, &report.unsupported));
    if report.pace != "closed" {
        lines.push(row("wait", &report.wait_us, &report.unsupported));
        lines.push(row("lag", &report.lag_us, &report.unsupported));
    }
    if report.by_verb.len() > 1 {
        for (verb, part) in &report.by_verb {
            lines.push(row(verb, &part.response_us, &report.unsupported));
        }
    }
    lines.push(String::new());
    lines.push(format!(
        "generator: {} threads, {} connections of depth {}, busiest thread {:.0} % of a CPU, {:.2} us of CPU a request",
        report.generator.threads,
        report.generator.connections,
        report.generator.depth,
        report.generator.cpu_share * 100.0,
        report.generator.cpu_us_per_request
    ));
    if report.hits + report.misses + report.foreign > 0 {
        lines.push(format!(
            "reads: {} right, {} found nothing, {} not ours",
            report.hits, report.misses, report.foreign
        ));
    }
    if let Some(ratio) = report.written_per_byte {
        lines.push(format!("written to disk for each byte put: {ratio:.2}"));
    }
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    for finding in &report.sla_findings {
        let found = if finding.condition.starts_with("errors") {
            format!("{:.4} %", finding.found * 100.0)
        } else {
            show_us(finding.found)
        };
        lines.push(format!(
            "SLA {}: {} ({found})",
            finding.condition,
            if finding.met { "met" } else { "MISSED" }
        ));
    }
    lines.push(match report.verdict {
        Verdict::Valid => "VALID".to_owned(),
        Verdict::Invalid => format!("INVALID: {}", report.reason),
    });
    lines.join("\n") + "\n"
}

fn name_and_cells(name: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
    format!("{name:<11}{cells}")
}
