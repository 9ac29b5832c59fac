//! One run, measured and judged.
//!
//! Owns what is read around a run (CPU, bytes written, steal) and the load before it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::target::{Target, TargetError};
use crate::load::clock::process_cpu_ns;
use crate::load::jitter::Jitter;
use crate::load::plan::LoadPlan;
use crate::load::threads::Driven;
use crate::load::window::Window;
use crate::record::analysis::{Material, WarmUpRule, analyse};
use crate::record::host::{HostFacts, steal_ticks, written_bytes};
use crate::record::report::RunReport;
use crate::stats::sla::Sla;
use crate::target::address::Address;
use crate::workload::{KeySpace, Workload};

/// Whether records are written before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LoadRule {
    /// When a sample finds less than nine tenths of them.
    Auto,
    /// In any case.
    Always,
    /// Never.
    Never,
}

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// The workload.
    pub workload: Workload,
    /// The plan; its duration is what is measured, a fixed warm-up comes before it.
    pub plan: LoadPlan,
    /// Where measuring begins.
    pub warm_up: WarmUpRule,
    /// The promise.
    pub sla: Option<Sla>,
    /// A name for the report.
    pub label: Option<String>,
}

/// A run with its series.
#[derive(Debug)]
pub struct Measured {
    /// The report.
    pub report: RunReport,
    /// The series.
    pub windows: Vec<Window>,
}

/// Writes the records if the rule says so; tells how many were written.
pub fn prepare(
    target: &Target,
    measurement: &Measurement,
    rule: LoadRule,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<u64, TargetError> {
    const PRESENT_ENOUGH: f64 = 0.9;
    let workload = &measurement.workload;
    let wanted = match rule {
        LoadRule::Always => true,
        LoadRule::Never => false,
        LoadRule::Auto => workload.reads_anything() && target.presence(workload)? < PRESENT_ENOUGH,
    };
    if !wanted {
        return Ok(0);
    }
    if rule == LoadRule::Auto && !target.keeps(workload)? {
        // A synthetic server: writing every record would take long and change nothing.
        return Ok(0);
    }
    target.load(workload, &measurement.plan, progress)?;
    Ok(workload.records)
}

/// What drives the target of a measurement.
type Drive<'a> = dyn FnMut(&LoadPlan, &mut dyn FnMut(&Window)) -> Result<(Driven, Vec<String>), TargetError>
    + 'a;

/// Runs and judges. `space` is kept between runs on one target, so that inserts go on where they stopped.
pub fn measure(
    target: &Target,
    measurement: &Measurement,
    space: &Arc<KeySpace>,
    mut seen: impl FnMut(&Window),
) -> Result<Measured, TargetError> {
    let mut drive = |plan: &LoadPlan, seen: &mut dyn FnMut(&Window)| {
        target
            .drive(plan, &measurement.workload, space, seen)
            .map(|driven| (driven, Vec::new()))
    };
    measure_by(target, measurement, &mut drive, &mut seen)
}

/// Judges a run that `drive` makes: here, or on other hosts.
pub fn measure_by(
    target: &Target,
    measurement: &Measurement,
    drive: &mut Drive<'_>,
    seen: &mut dyn FnMut(&Window),
) -> Result<Measured, TargetError> {
    let mut plan = measurement.plan.clone();
    if let WarmUpRule::Fixed(length) = measurement.warm_up {
        plan.duration += length;
    }
    plan.window = LoadPlan::window_for(plan.duration);
    let started = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let (cpu_before_ns, steal_before, written_before) =
        (process_cpu_ns(), steal_ticks(), written_bytes());
    let jitter = Jitter::start();
    let driven = drive(&plan, seen);
    let jitter = jitter.stop();
    let (driven, notes) = driven?;
    let cpu_ns = process_cpu_ns().saturating_sub(cpu_before_ns);
    let directory = match target.address() {
        Address::Embedded { directory, .. } => Some(directory.as_path()),
        Address::Server { .. } => None,
    };
    let mut report = analyse(Material {
        target: target.address().to_string(),
        label: measurement.label.clone(),
        workload: &measurement.workload,
        plan: &plan,
        warm_up: measurement.warm_up,
        sla: measurement.sla.as_ref(),
        windows: &driven.windows,
        first_error: driven.first_error,
        cpu_ns,
        written_bytes: target
            .is_embedded()
            .then(|| written_bytes().saturating_sub(written_before)),
        jitter: jitter.summary(),
        steal_ticks: steal_ticks().saturating_sub(steal_before),
        started_unix_s: started.as_secs(),
        target_facts: target.facts().to_vec(),
        host: HostFacts::gather(directory),
    });
    report.notes.extend(notes);
    Ok(Measured {
        report,
        windows: driven.windows,
    })
}
