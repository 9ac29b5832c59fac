//! `gramme bench search`.
//!
//! Owns the walk from step to step: each begins with new connections and a rested target.

use std::io::{self, Write};
use std::time::Duration;

use super::args::SearchArgs;
use super::exit::{Ended, Failure};
use super::plan;
use super::run::{load_with_progress, measure_with_progress};
use crate::load::plan::LoadPlan;
use crate::measure::run::{Measured, Measurement};
use crate::measure::target::Target;
use crate::record::analysis::WarmUpRule;
use crate::record::folder;
use crate::record::report::{SlaVerdict, Verdict};
use crate::record::series::{Point, PointKind, SEARCH_SCHEMA, SearchReport};
use crate::report::terminal;
use crate::stats::quantile::samples_min;
use crate::stats::search::{Search, Step, StepResult};
use crate::stats::unit::show_us;
use crate::stats::validity::Limit;

/// A step at a low rate is lengthened until its percentile can be told, up to this.
const STEP_MAX: Duration = Duration::from_secs(120);

/// A search for a rate that holds goes down only as long as a step takes no longer than this.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// Requests that wait longer than this break any sensible promise; giving up keeps a broken step short.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Searches.
pub fn search(args: &SearchArgs) -> Result<Ended, Failure> {
    let workload = plan::workload(&args.load)?;
    if !(args.start > 0.0 && args.rate_max > 0.0) {
        return Err(Failure::usage("--start and --rate-max must be above 0"));
    }
    if let Some(out) = args
        .out
        .as_deref()
        .filter(|out| out.join("search.json").exists())
    {
        return Err(Failure::usage(format!(
            "--out {}: a search is there already; choose another folder",
            out.display()
        )));
    }
    let target = Target::open(&args.target, &workload, &plan::store_settings(&args.load))?;
    let base = Measurement {
        plan: plan::load_plan(
            &args.load,
            &args.target,
            plan::open_pace(args.start, &workload),
        )?,
        warm_up: WarmUpRule::Auto,
        sla: Some(args.sla.clone()),
        label: None,
        workload,
    };
    load_with_progress(&target, &base, args.load.load)?;
    let mut walk = Walk {
        args,
        target: &target,
        base,
        points: Vec::new(),
        last: None,
    };
    let report = walk.walk()?;
    if let Some(out) = &args.out {
        let json = serde_json::to_string_pretty(&report).map_err(Failure::invalid)?;
        std::fs::create_dir_all(out)
            .and_then(|()| std::fs::write(out.join("search.json"), json + "\n"))
            .map_err(|error| {
                Failure::invalid(format!(
                    "cannot save the search in {}: {error}",
                    out.display()
                ))
            })?;
        if let Some(last) = walk.last.filter(|_| report.confirmed) {
            folder::save(
                &out.join("confirm"),
                &last.report,
                &last.windows,
                &walk.base.workload,
            )
            .map_err(Failure::invalid)?;
        }
        eprintln!("saved in {}", out.display());
    }
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(Failure::invalid)? + "\n"
    } else {
        as_text(&report)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::invalid)?;
    Ok(match (report.confirmed, report.rate > 0.0) {
        (true, _) => Ended::Met,
        (false, false) => Ended::Missed,
        (false, true) => Ended::Invalid,
    })
}

struct Walk<'a> {
    args: &'a SearchArgs,
    target: &'a Target,
    base: Measurement,
    points: Vec<Point>,
    /// The confirming run.
    last: Option<Measured>,
}

impl Walk<'_> {
    fn walk(&mut self) -> Result<SearchReport, Failure> {
        let step = self
            .args
            .step
            .unwrap_or(self.base.plan.duration / 6)
            .max(Duration::from_millis(500));
        let rate_min = self.samples() / step.max(PROBE_MAX).as_secs_f64();
        let mut search =
            Search::new(self.args.start, self.args.rate_max, self.args.precision).down_to(rate_min);
        loop {
            let (kind, rate, length) = match search.next_step() {
                Step::Probe { rate } => (PointKind::Probe, rate, step),
                Step::Confirm { rate } => (PointKind::Confirm, rate, self.base.plan.duration),
                Step::Curve { rate } => (PointKind::Curve, rate, step),
                Step::Done => break,
            };
            let result = self.step(kind, rate, length)?;
            search.tell(result);
            std::thread::sleep(self.args.rest);
        }
        let found = search
            .found()
            .ok_or_else(|| Failure::invalid("the search ended without an answer"))?;
        let limited_by = match found {
            found if found.generator_limited => "generator",
            found if found.rate >= self.args.rate_max => "rate-max",
            _ => "target",
        };
        let mut notes = Vec::new();
        if limited_by == "generator" {
            notes.push("the generator, not the target, set the upper end: the true limit may be higher (more --threads, or another machine)".to_owned());
        }
        if found.rate == 0.0 {
            notes.push(format!(
                "broken at {rate_min:.0} requests/s too, where nothing queues: this is the target's own floor, or the \
                 jitter of this host (`gramme tune calibrate` shows it); still lower rates take longer steps (--step)"
            ));
        }
        if !found.confirmed && found.rate > 0.0 {
            notes.push("no longer run confirmed the rate: the target (or this host) is less steady than the short steps showed".to_owned());
        }
        self.points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        Ok(SearchReport {
            schema: SEARCH_SCHEMA.to_owned(),
            target: self.target.address().to_string(),
            workload: self.base.workload.name.clone(),
            sla: self.args.sla.to_string(),
            rate: found.rate,
            confirmed: found.confirmed,
            limited_by: limited_by.to_owned(),
            points: std::mem::take(&mut self.points),
            notes,
            target_facts: self.target.facts().iter().cloned().collect(),
            host: crate::record::host::HostFacts::gather(None),
        })
    }

    /// Requests that a step needs for the promise's highest percentile.
    fn samples(&self) -> f64 {
        samples_min(self.args.sla.quantile_max().unwrap_or(0.5)) as f64 * 2.2
    }

    fn step(
        &mut self,
        kind: PointKind,
        rate: f64,
        length: Duration,
    ) -> Result<StepResult, Failure> {
        let duration = length.max(Duration::from_secs_f64(
            (self.samples() / rate).min(STEP_MAX.as_secs_f64()),
        ));
        let mut measurement = self.base.clone();
        measurement.plan = LoadPlan {
            pace: plan::open_pace(rate, &self.base.workload),
            duration,
            timeout: self.base.plan.timeout.min(TIMEOUT_MAX),
            ..self.base.plan.clone()
        };
        let word = match kind {
            PointKind::Probe => "probe",
            PointKind::Confirm => "confirm",
            PointKind::Curve => "curve",
        };
        let measured =
            measure_with_progress(self.target, &measurement, &format!("{word} {rate:.0}/s"))?;
        let report = &measured.report;
        let result = match (report.verdict, report.limit, report.sla) {
            (Verdict::Valid, _, Some(SlaVerdict::Met)) => StepResult::Held,
            (Verdict::Invalid, Some(Limit::GeneratorCpu | Limit::GeneratorLag), _) => {
                StepResult::GeneratorLimited
            }
            _ => StepResult::Broken,
        };
        let outcome = match result {
            StepResult::Held => "holds".to_owned(),
            StepResult::Broken if report.verdict == Verdict::Valid => "broken".to_owned(),
            StepResult::Broken | StepResult::GeneratorLimited => {
                format!("broken: {}", report.reason)
            }
        };
        let r = &report.response_us;
        eprintln!(
            "{word:<8}{rate:>9.0}/s  p50 {:>7}  p99 {:>7}  p99.9 {:>7}  {outcome}",
            show_us(r.p50),
            show_us(r.p99),
            show_us(r.p99_9)
        );
        self.points.push(Point::of(kind, rate, report));
        if kind == PointKind::Confirm && result == StepResult::Held {
            self.last = Some(measured);
        }
        Ok(result)
    }
}

/// The result for a person.
pub fn as_text(report: &SearchReport) -> String {
    let mut lines = vec![terminal::curve(&report.points)];
    lines.push(format!(
        "{}  {}  {}",
        report.target, report.workload, report.sla
    ));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.push(match (report.rate > 0.0, report.confirmed) {
        (false, _) => "the SLA does not hold at any rate that was tried".to_owned(),
        (true, true) => format!(
            "holds up to {:.0} requests/s (confirmed by a longer run; limited by {})",
            report.rate, report.limited_by
        ),
        (true, false) => format!(
            "held at {:.0} requests/s in short runs, NOT confirmed",
            report.rate
        ),
    });
    lines.join("\n") + "\n"
}
