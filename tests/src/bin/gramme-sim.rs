//! Runs seeds of the simulator and tells what broke.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use gramme_tests::sim::{Report, Scenario, Swarm, minimise, run_in};

/// A whole cluster on virtual time, from one seed.
#[derive(Parser)]
struct Args {
    /// `FROM..TO`, or one seed; several behind commas. From 1000000 on they draw every fault.
    #[arg(long, default_value = "1000000..1000200")]
    seeds: String,
    /// Also the seeds of this file: the first word of each line that begins with a number, in the scenario that the second one
    /// names, if it names one.
    #[arg(long)]
    file: Option<String>,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Only the faults of one bug; `list` tells them.
    #[arg(long)]
    scenario: Option<String>,
    /// Look for the fewest faults with which a seed fails.
    #[arg(long)]
    minimise: bool,
    /// Print each seed's line; of one that fails the story, whole, and of a live ring always what befell it.
    #[arg(long)]
    trace: bool,
    /// Fail where a mark of this file (its name is the first word of a line) was not reached by any of the seeds.
    #[cfg(feature = "marks")]
    #[arg(long)]
    marks: Option<String>,
    /// Instead: how many of the seeds it takes to find each deliberate fault of the engine.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutants: bool,
    /// Only these mutants.
    #[cfg(feature = "mutants")]
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Instead: each mutant of this file (lines of a name, a seed and possibly a scenario) must be found within 40 seeds
    /// from its own on.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    found: Option<String>,
}

fn ranges(text: &str) -> Option<Vec<std::ops::Range<u64>>> {
    let range = |text: &str| match text.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => {
            let seed: u64 = text.parse().ok()?;
            Some(seed..seed.checked_add(1)?)
        }
    };
    text.split(',').map(range).collect()
}

/// A seed, in a scenario or in the world that it draws itself.
type Drawn = (u64, Option<&'static Scenario>);

/// The seeds that a file lists.
fn listed(path: &str) -> std::io::Result<Vec<Drawn>> {
    let text = std::fs::read_to_string(path)?;
    let seeds = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let seed = words.next()?.parse().ok()?;
        Some((seed, words.next().and_then(Scenario::named)))
    });
    Ok(seeds.collect())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seeds = if args.file.is_some() && args.seeds == "1000000..1000200" {
        Vec::new()
    } else {
        let Some(seeds) = ranges(&args.seeds) else {
            eprintln!("--seeds: `{}` is neither a number nor FROM..TO", args.seeds);
            return ExitCode::from(2);
        };
        seeds
    };
    let listed = match args.file.as_deref().map(listed).transpose() {
        Ok(listed) => listed.unwrap_or_default(),
        Err(error) => {
            eprintln!("--file: {error}");
            return ExitCode::from(2);
        }
    };
    let scenario = match args.scenario.as_deref() {
        None => None,
        Some(name) => match Scenario::named(name) {
            Some(scenario) => Some(scenario),
            None => {
                for scenario in Scenario::all() {
                    println!("{}: {}", scenario.name, scenario.what);
                }
                return ExitCode::from(2 * u8::from(name != "list"));
            }
        },
    };
    #[cfg(feature = "mutants")]
    {
        if args.mutants {
            return mutants::hunt(&seeds, &args.only, scenario);
        }
        if let Some(path) = &args.found {
            return mutants::find_again(path);
        }
    }
    let seeds = seeds.into_iter().flatten().map(|seed| (seed, scenario));
    sweep(&args, seeds.chain(listed))
}

fn sweep(args: &Args, seeds: impl Iterator<Item = Drawn>) -> ExitCode {
    let began = Instant::now();
    let limit = args
        .minutes
        .map(|minutes| Duration::from_secs(minutes * 60));
    let (mut done, mut virtual_ms, mut steps, mut acknowledged) = (0_u64, 0, 0, 0);
    let (mut own_missed, mut shown_missed) = (0, 0);
    let mut failed = Vec::new();
    for (seed, scenario) in seeds {
        let drawn = |seed| scenario.map_or_else(|| Swarm::of(seed), |scenario| scenario.of(seed));
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            break;
        }
        let report = run_in(seed, drawn(seed));
        // Any seed may be the one that finds that the engine is not deterministic.
        if seed % 16 == 0 && run_in(seed, drawn(seed)).trace != report.trace {
            println!("seed {seed}: two runs differ");
            failed.push(seed);
        }
        done += 1;
        virtual_ms += report.virtual_ms;
        steps += report.steps;
        acknowledged += report.acknowledged;
        own_missed += report.weak_reads.0;
        shown_missed += report.weak_reads.1;
        if !report.violations.is_empty() {
            failed.push(seed);
            let within =
                scenario.map_or_else(String::new, |own| format!(" --scenario {}", own.name));
            println!(
                "seed {seed} violates, replay with `gramme-sim{within} --seeds {seed} --trace`:"
            );
            tell(&report, args.trace);
            if args.minimise
                && let Some((smallest, taken)) = minimise(seed, report.swarm)
            {
                println!("smallest, with {}:", taken.join(", "));
                tell(&smallest, true);
            }
        } else if args.trace {
            tell(&report, true);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{done} seeds in {seconds:.1} s ({:.1} a second), {steps} steps, {acknowledged} acknowledged writes, \
         {:.0} virtual seconds ({:.0} for each real one); {} failed {failed:?}",
        done as f64 / seconds,
        virtual_ms as f64 / 1e3,
        virtual_ms as f64 / 1e3 / seconds,
        failed.len()
    );
    println!(
        "not promised, and so only counted: {own_missed} reads missed a write of their own client, {shown_missed} what it \
         had been shown"
    );
    #[cfg(feature = "marks")]
    let has_missed = !marks::tell(args.marks.as_deref());
    #[cfg(not(feature = "marks"))]
    let has_missed = false;
    if failed.is_empty() && !has_missed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What became of a seed; whole, or its end.
fn tell(report: &Report, is_whole: bool) {
    if is_whole {
        println!(
            "seed {}: {} steps, {} acknowledged, trace {:016x}, {:?}",
            report.seed, report.steps, report.acknowledged, report.trace, report.swarm
        );
    }
    for violation in report.violations.iter().take(5) {
        println!("  {violation}");
    }
    let told = if is_whole { usize::MAX } else { 12 };
    let skipped = report.story.len().saturating_sub(told);
    for line in report.story.iter().skip(skipped) {
        println!("    {line}");
    }
}

#[cfg(feature = "marks")]
mod marks {
    use gramme_core::base::mark::{Mark, reached};

    /// Prints which marks the sweep reached, and how often; false where one of the file was not.
    pub(crate) fn tell(path: Option<&str>) -> bool {
        let reached = reached();
        let times = |(mark, times): &(Mark, u64)| format!("{mark:?} {times}");
        let found: Vec<String> = reached.iter().filter(|(_, n)| *n > 0).map(times).collect();
        println!(
            "{} of {} marks reached: {}",
            found.len(),
            reached.len(),
            found.join(", ")
        );
        let Some(path) = path else { return true };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("--marks: {path}: {error}");
                return false;
            }
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let listed = lines.filter_map(|line| line.split_whitespace().next());
        let is_reached = |name: &&str| {
            let named = |(mark, times): &(Mark, u64)| format!("{mark:?}") == **name && *times > 0;
            reached.iter().any(named)
        };
        let missed: Vec<&str> = listed.filter(|name| !is_reached(name)).collect();
        for name in &missed {
            let mark = Mark::ALL.iter().find(|mark| format!("{mark:?}") == *name);
            let what = mark.map_or("there is no such mark", |mark| mark.what());
            println!("mark {name} was never reached: {what}");
        }
        missed.is_empty()
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use std::ops::Range;
    use std::process::ExitCode;

    use gramme_core::base::mutant::{Mutant, set};
    use gramme_tests::sim::{Scenario, Swarm, run_in};

    /// So many seeds one that was found once has until it is found again.
    const AGAIN_WITHIN: u64 = 40;

    /// The first of the seeds that finds a mutant, and by what.
    fn find(
        mutant: Mutant,
        seeds: impl Iterator<Item = u64>,
        scenario: Option<&'static Scenario>,
    ) -> Option<(u64, u64, String)> {
        set(Some(mutant));
        let drawn = |seed| scenario.map_or_else(|| Swarm::of(seed), |scenario| scenario.of(seed));
        let find = seeds.zip(1..).find_map(|(seed, runs)| {
            let by = match std::panic::catch_unwind(|| run_in(seed, drawn(seed))) {
                Ok(report) if report.failed.is_empty() => return None,
                Ok(report) => report.failed.join(", "),
                Err(_) => "an assertion of the engine".to_owned(),
            };
            Some((seed, runs, by))
        });
        set(None);
        find
    }

    fn be_quiet() {
        // A panic of the engine is a find, and not worth its text.
        std::panic::set_hook(Box::new(|_| {}));
    }

    /// Runs the seeds with each mutant until one fails; prints the table.
    pub(crate) fn hunt(
        seeds: &[Range<u64>],
        only: &[String],
        scenario: Option<&'static Scenario>,
    ) -> ExitCode {
        be_quiet();
        let (mut caught, mut missed) = (0, Vec::new());
        println!("| mutant | what it does | found by | runs | seed |\n|---|---|---|---|---|");
        for mutant in Mutant::ALL {
            let name = format!("{mutant:?}");
            if !only.is_empty() && !only.contains(&name) {
                continue;
            }
            let what = mutant.what();
            match find(*mutant, seeds.iter().cloned().flatten(), scenario) {
                Some((seed, runs, by)) => {
                    caught += 1;
                    println!("| {name} | {what} | {by} | {runs} | {seed} |");
                }
                None => {
                    let runs = seeds.iter().cloned().flatten().count();
                    println!("| {name} | {what} | nothing | {runs} | |");
                    missed.push(name);
                }
            }
        }
        println!("\n{caught} found, {} not: {missed:?}", missed.len());
        ExitCode::from(u8::from(!missed.is_empty()))
    }

    /// Those that were found once must be found again.
    pub(crate) fn find_again(path: &str) -> ExitCode {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("--found: {path}: {error}");
                return ExitCode::from(2);
            }
        };
        be_quiet();
        let (mut found, mut lost) = (0, Vec::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(seed)) = (words.next(), words.next()) else {
                continue;
            };
            let mutant = Mutant::ALL
                .iter()
                .find(|mutant| format!("{mutant:?}") == name);
            let (Some(mutant), Ok(seed)) = (mutant, seed.parse::<u64>()) else {
                lost.push(name);
                continue;
            };
            let scenario = words.next().map(Scenario::named);
            if scenario.is_some_and(|named| named.is_none()) {
                lost.push(name);
                continue;
            }
            match find(*mutant, seed..seed + AGAIN_WITHIN, scenario.flatten()) {
                Some(_) => found += 1,
                None => lost.push(name),
            }
        }
        println!("{found} mutants found again, {} not: {lost:?}", lost.len());
        ExitCode::from(u8::from(!lost.is_empty()))
    }
}
