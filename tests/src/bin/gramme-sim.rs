//! Runs seeds of the simulator and tells what broke.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use gramme_tests::sim::run;

/// A whole cluster on virtual time, from one seed.
#[derive(Parser)]
struct Args {
    /// `FROM..TO`, or one seed.
    #[arg(long, default_value = "0..200")]
    seeds: String,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Print the story of a seed that fails, whole, and each seed's line.
    #[arg(long)]
    trace: bool,
    /// Instead: how many of the seeds it takes to find each deliberate fault of the engine.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutants: bool,
    /// Only these mutants.
    #[cfg(feature = "mutants")]
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn range(text: &str) -> Option<std::ops::Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => {
            let seed: u64 = text.parse().ok()?;
            Some(seed..seed.checked_add(1)?)
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(seeds) = range(&args.seeds) else {
        eprintln!("--seeds: `{}` is neither a number nor FROM..TO", args.seeds);
        return ExitCode::from(2);
    };
    #[cfg(feature = "mutants")]
    if args.mutants {
        return hunt(&seeds, &args.only);
    }
    let began = Instant::now();
    let limit = args
        .minutes
        .map(|minutes| Duration::from_secs(minutes * 60));
    let (mut done, mut virtual_ms, mut steps, mut acknowledged) = (0_u64, 0, 0, 0);
    let mut failed = Vec::new();
    for seed in seeds {
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            break;
        }
        let report = run(seed);
        // Any seed may be the one that finds that the engine is not deterministic.
        if seed % 16 == 0 && run(seed).trace != report.trace {
            println!("seed {seed}: two runs differ");
            failed.push(seed);
        }
        done += 1;
        virtual_ms += report.virtual_ms;
        steps += report.steps;
        acknowledged += report.acknowledged;
        if args.trace {
            println!(
                "seed {seed}: {} steps, {} acknowledged, trace {:016x}, {:?}",
                report.steps, report.acknowledged, report.trace, report.swarm
            );
        }
        if !report.violations.is_empty() {
            failed.push(seed);
            println!("seed {seed} violates, replay with `gramme-sim --seeds {seed} --trace`:");
            for violation in report.violations.iter().take(5) {
                println!("  {violation}");
            }
            let told = if args.trace { usize::MAX } else { 12 };
            let skipped = report.story.len().saturating_sub(told);
            for line in report.story.iter().skip(skipped) {
                println!("    {line}");
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{done} seeds in {seconds:.1} s ({:.1} a second), {steps} steps, {acknowledged} acknowledged writes, \
         {:.0} virtual seconds ({:.0} for each real one); {} failed",
        done as f64 / seconds,
        virtual_ms as f64 / 1e3,
        virtual_ms as f64 / 1e3 / seconds,
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the seeds with each mutant until one fails; prints the table.
#[cfg(feature = "mutants")]
fn hunt(seeds: &std::ops::Range<u64>, only: &[String]) -> ExitCode {
    use gramme_core::base::mutant::{Mutant, set};
    // A panic of the engine is a find, and not worth its text.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut caught, mut missed) = (0, Vec::new());
    println!("| mutant | what it does | found by | runs |\n|---|---|---|---|");
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        set(Some(*mutant));
        let find = seeds.clone().find_map(|seed| {
            let by = match std::panic::catch_unwind(|| run(seed)) {
                Ok(report) if report.failed.is_empty() => return None,
                Ok(report) => report.failed.join(", "),
                Err(_) => "an assertion of the engine".to_owned(),
            };
            Some((seed, by))
        });
        set(None);
        let (by, runs) = match find {
            Some((seed, by)) => {
                caught += 1;
                (by, format!("{}", seed - seeds.start + 1))
            }
            None => {
                missed.push(name.clone());
                ("nothing".to_owned(), format!("{}", seeds.end - seeds.start))
            }
        };
        println!("| {name} | {} | {by} | {runs} |", mutant.what());
    }
    println!("\n{caught} found, {} not: {missed:?}", missed.len());
    if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
