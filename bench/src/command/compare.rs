//! `gramme bench compare`.
//!
//! Owns the order of the rounds: ABBA, so that a drift of the host touches both alike.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::args::CompareArgs;
use super::exit::{Ended, Failure};
use super::plan;
use super::run::{load_with_progress, measure_with_progress};
use crate::load::plan::{LoadPlan, Pace};
use crate::measure::run::{Measured, Measurement};
use crate::measure::target::Target;
use crate::record::folder;
use crate::record::host::HostFacts;
use crate::record::report::{RunReport, Verdict};
use crate::record::series::{COMPARE_SCHEMA, CompareReport, RoundRun, overall};
use crate::stats::compare::{Better, Comparison, Metric, ROUNDS_MIN, compare as test};
use crate::stats::unit::show_us;
use crate::target::address::Address;

/// Shorter runs say more about their beginning than about the target.
const RUN_MIN: Duration = Duration::from_secs(1);
const RATE_DEFAULT: f64 = 1000.0;

/// Compares.
pub fn compare(args: &CompareArgs) -> Result<Ended, Failure> {
    if args.rounds < ROUNDS_MIN {
        return Err(Failure::usage(format!(
            "--rounds must be at least {ROUNDS_MIN}: fewer cannot tell noise from difference"
        )));
    }
    if args.a == args.b && matches!(args.a, Address::Embedded { .. }) {
        return Err(Failure::usage(
            "A and B are the same directory; an embedded store can only be opened once",
        ));
    }
    let workload = plan::workload(&args.load)?;
    let side = |address: &Address| -> Result<(Target, Measurement), Failure> {
        let pace = if args.closed {
            Pace::Closed
        } else {
            plan::open_pace(args.rate.unwrap_or(RATE_DEFAULT), &workload)
        };
        let plan = plan::load_plan(&args.load, address, pace)?;
        let each =
            (plan.duration / u32::try_from(args.rounds * 2).unwrap_or(u32::MAX)).max(RUN_MIN);
        let measurement = Measurement {
            plan: LoadPlan {
                duration: each,
                ..plan
            },
            warm_up: plan::warm_up(&args.load),
            sla: None,
            label: None,
            workload: workload.clone(),
        };
        let target = Target::open(address, &workload, &plan::store_settings(&args.load))?;
        load_with_progress(&target, &measurement, args.load.load)?;
        Ok((target, measurement))
    };
    let (a, b) = (side(&args.a)?, side(&args.b)?);
    let mut runs_a = Vec::new();
    let mut runs_b = Vec::new();
    for round in 0..args.rounds {
        let mut sides = [("A", &a, &mut runs_a), ("B", &b, &mut runs_b)];
        if round % 2 == 1 {
            sides.reverse();
        }
        for (name, (target, measurement), runs) in sides {
            let before = match name {
                "A" => &args.before_a,
                _ => &args.before_b,
            };
            prepare(before.as_deref())?;
            let measured =
                measure_with_progress(target, measurement, &format!("round {} {name}", round + 1))?;
            show(round, name, &measured.report);
            save(args, round, name, &measured, measurement)?;
            runs.push(measured.report);
        }
    }
    let report = conclude(args, &a, &b, &runs_a, &runs_b);
    let json = serde_json::to_string_pretty(&report).map_err(Failure::invalid)? + "\n";
    if let Some(out) = &args.out {
        std::fs::write(out.join("compare.json"), &json).map_err(|error| {
            Failure::invalid(format!("cannot save in {}: {error}", out.display()))
        })?;
        eprintln!("saved in {}", out.display());
    }
    let text = if args.json { json } else { as_text(&report) };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::invalid)?;
    Ok(match report.verdict.as_str() {
        _ if !report.valid => Ended::Invalid,
        "worse" | "mixed" if args.fail_if_worse => Ended::Missed,
        _ => Ended::Met,
    })
}

/// Runs what is to be done before a run of one side, and waits for it.
fn prepare(command: Option<&str>) -> Result<(), Failure> {
    let Some(command) = command else {
        return Ok(());
    };
    let done = Command::new("sh")
        .args(["-c", command])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| Failure::invalid(format!("cannot run sh: {error}")))?;
    if !done.success() {
        return Err(Failure::invalid(format!(
            "`{command}` ended with {done}; what was to be compared is not there"
        )));
    }
    Ok(())
}

fn show(round: usize, name: &str, report: &RunReport) {
    let r = &report.response_us;
    let why = if report.verdict == Verdict::Valid {
        String::new()
    } else {
        format!("  INVALID: {}", report.reason)
    };
    eprintln!(
        "round {:>2} {name}  {:>9.0}/s  p50 {:>7}  p99 {:>7}  p99.9 {:>7}{why}",
        round + 1,
        report.achieved_rate,
        show_us(r.p50),
        show_us(r.p99),
        show_us(r.p99_9)
    );
}

fn save(
    args: &CompareArgs,
    round: usize,
    name: &str,
    measured: &Measured,
    measurement: &Measurement,
) -> Result<(), Failure> {
    let Some(out) = &args.out else { return Ok(()) };
    let folder = out.join(format!("{}-{:02}", name.to_lowercase(), round + 1));
    folder::save(
        &folder,
        &measured.report,
        &measured.windows,
        &measurement.workload,
    )
    .map_err(Failure::invalid)
}

fn conclude(
    args: &CompareArgs,
    a: &(Target, Measurement),
    b: &(Target, Measurement),
    runs_a: &[RunReport],
    runs_b: &[RunReport],
) -> CompareReport {
    let both_valid = |pair: &(&RunReport, &RunReport)| {
        pair.0.verdict == Verdict::Valid && pair.1.verdict == Verdict::Valid
    };
    let pairs: Vec<(&RunReport, &RunReport)> =
        runs_a.iter().zip(runs_b).filter(both_valid).collect();
    let metric = |name: &str, better, of: fn(&RunReport) -> f64| Metric {
        name: name.to_owned(),
        better,
        rounds: pairs.iter().map(|(a, b)| (of(a), of(b))).collect(),
    };
    let mut metrics = Vec::new();
    let mut notes = Vec::new();
    if args.closed {
        metrics.push(metric("requests/s", Better::More, |report| {
            report.achieved_rate
        }));
        metrics.push(metric("CPU us/request", Better::Less, |report| {
            report.generator.cpu_us_per_request
        }));
        notes.push("closed loop: compare the throughput; the latencies are of the faster side's own making".to_owned());
    }
    metrics.push(metric("p50 us", Better::Less, |report| {
        report.response_us.p50
    }));
    type Figure = fn(&RunReport) -> f64;
    let latencies: [(&str, &str, Figure); 2] = [
        ("p99 us", "p99", |report| report.response_us.p99),
        ("p99.9 us", "p99_9", |report| report.response_us.p99_9),
    ];
    for (name, key, of) in latencies {
        if pairs.iter().all(|(a, b)| {
            [a, b]
                .iter()
                .all(|run| !run.unsupported.iter().any(|missing| missing == key))
        }) {
            metrics.push(metric(name, Better::Less, of));
        } else {
            notes.push(format!("{name} is left out: the single runs hold too few requests for it; raise --duration or --rate"));
        }
    }
    let dropped = runs_a.len() - pairs.len();
    if dropped > 0 {
        notes.push(format!(
            "{dropped} of {} rounds had an invalid run and were left out",
            runs_a.len()
        ));
    }
    let valid = pairs.len() >= ROUNDS_MIN;
    let metrics: Vec<Comparison> = if valid {
        test(&metrics, args.threshold, args.load.seed)
    } else {
        Vec::new()
    };
    let (verdict, words) = match valid {
        true => overall(&metrics),
        false => (
            "no-difference-seen",
            format!(
                "only {} rounds were valid, and {ROUNDS_MIN} are needed: nothing can be said",
                pairs.len()
            ),
        ),
    };
    let kept = |runs: &[RunReport]| {
        runs.iter()
            .enumerate()
            .map(|(round, report)| RoundRun::of(round, report))
            .collect()
    };
    CompareReport {
        schema: COMPARE_SCHEMA.to_owned(),
        a: args.a.to_string(),
        b: args.b.to_string(),
        workload: a.1.workload.name.clone(),
        pace: if args.closed { "closed" } else { "open" }.to_owned(),
        verdict: verdict.to_owned(),
        words,
        valid,
        rounds: pairs.len(),
        metrics,
        runs_a: kept(runs_a),
        runs_b: kept(runs_b),
        notes,
        facts_a: a.0.facts().iter().cloned().collect(),
        facts_b: b.0.facts().iter().cloned().collect(),
        host: HostFacts::gather(None),
    }
}

/// The result for a person.
pub fn as_text(report: &CompareReport) -> String {
    let mut lines = vec![
        format!("A  {}", report.a),
        format!("B  {}", report.b),
        format!(
            "{}, {} loop, {} rounds ABBA",
            report.workload, report.pace, report.rounds
        ),
        String::new(),
        format!(
            "{:<16}{:>12}{:>12}{:>9}   {:<18}{:>8}  verdict",
            "", "A", "B", "B/A", "95 % interval", "p"
        ),
    ];
    for metric in &report.metrics {
        let interval = format!("{:.3} … {:.3}", metric.ratio_low, metric.ratio_high);
        let more = metric
            .rounds_needed
            .map(|rounds| format!(" ({rounds} rounds would show the threshold)"))
            .unwrap_or_default();
        lines.push(format!(
            "{:<16}{:>12.1}{:>12.1}{:>9.3}   {interval:<18}{:>8.4}  {}{more}",
            metric.metric,
            metric.a,
            metric.b,
            metric.ratio,
            metric.p_value,
            metric.verdict.words()
        ));
    }
    lines.push(String::new());
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.push(report.words.clone());
    lines.join("\n") + "\n"
}
