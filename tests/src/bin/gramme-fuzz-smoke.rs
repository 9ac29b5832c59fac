//! `gramme-fuzz-smoke`: every fuzz target over its corpus and over mutants of it, on the stable toolchain.
//!
//! Prints the seed; the same seed makes the same mutants. An input at which something does not hold is written to a file, and
//! `--replay` runs it again.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use gramme_tests::fuzz::memory::{Counting, peak_of};
use gramme_tests::fuzz::mutate::Mutator;
use gramme_tests::fuzz::{MEMORY_FACTOR, TARGETS, Target, target};

#[global_allocator]
static COUNTING: Counting = Counting;

/// An input that takes longer has hung: the slowest ones take some tens of milliseconds.
const HANG: Duration = Duration::from_secs(60);

/// Runs the fuzz targets for a while.
#[derive(Parser)]
struct Args {
    /// The mutants' seed; a new one when not said.
    #[arg(long)]
    seed: Option<u64>,
    /// How long to go on with mutants, all targets together.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Instead of a time: so many mutants of each target.
    #[arg(long)]
    mutants: Option<u64>,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
    /// Run this file as input of the target, and nothing else.
    #[arg(long, requires = "target")]
    replay: Option<PathBuf>,
    /// Make the corpora anew from the targets' own seeds.
    #[arg(long)]
    write_corpora: bool,
}

/// The input that runs now, for whoever watches.
static RUNNING: Mutex<Option<(Instant, &'static str, Vec<u8>)>> = Mutex::new(None);

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn corpus(target: &Target) -> Result<Vec<Vec<u8>>, String> {
    let dir = corpora().join(target.name);
    let told = |error| format!("{}: {error}", dir.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&dir).map_err(told)? {
        paths.push(entry.map_err(told)?.path());
    }
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).map_err(told))
        .collect()
}

fn write_corpora() -> Result<(), String> {
    for target in &TARGETS {
        let dir = corpora().join(target.name);
        let told = |error| format!("{}: {error}", dir.display());
        fs::create_dir_all(&dir).map_err(told)?;
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(dir.join(format!("{number:02}")), seed).map_err(told)?;
        }
        println!("{}: {} inputs", target.name, seeds.len());
    }
    Ok(())
}

/// Runs one input; the error is what did not hold.
fn run(target: &'static Target, input: &[u8]) -> Result<Duration, String> {
    let begun = Instant::now();
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) =
        Some((begun, target.name, input.to_vec()));
    let mut end = Ok(());
    let peak = peak_of(|| end = catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let took = begun.elapsed();
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    end.map_err(|_| "it panicked (see above)".to_owned())?;
    let bytes_max = target.memory_bytes_max + MEMORY_FACTOR * input.len();
    if peak > bytes_max {
        return Err(format!("it held {peak} bytes, {bytes_max} are allowed"));
    }
    Ok(took)
}

fn save(name: &str, input: &[u8]) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("gramme-fuzz-{name}-{:08x}", crc32c::crc32c(input)));
    if let Err(error) = fs::write(&path, input) {
        eprintln!("cannot write {}: {error}", path.display());
    }
    path
}

/// Ends the program when an input hangs.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((begun, name, input)) = &*running
            && begun.elapsed() > HANG
        {
            eprintln!("{name}: hangs with {}", save(name, input).display());
            std::process::exit(1);
        }
    }
}

fn smoke(args: &Args) -> Result<(), String> {
    let targets: Vec<&'static Target> = match &args.target {
        None => TARGETS.iter().collect(),
        Some(name) => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            vec![
                target(name)
                    .ok_or_else(|| format!("no target `{name}`; there are {}", names.join(", ")))?,
            ]
        }
    };
    if let (Some(path), [target]) = (&args.replay, targets.as_slice()) {
        let input = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let took = run(target, &input)?;
        println!("{}: holds, {took:?}", target.name);
        return Ok(());
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = args
        .seed
        .unwrap_or_else(|| clock.map_or(0, |since| since.as_nanos() as u64));
    println!("seed {seed}");
    let share = Duration::from_secs(args.seconds) / targets.len().max(1) as u32;
    let mut failed = 0;
    for target in targets {
        let corpus = corpus(target)?;
        if corpus.is_empty() {
            return Err(format!("{}: an empty corpus", target.name));
        }
        let (mut slowest, mut mutants) = (Duration::ZERO, 0);
        let failure = |input: &[u8], what: String| {
            let path = save(target.name, input);
            eprintln!(
                "{}: {what}; --target {0} --replay {}",
                target.name,
                path.display()
            );
        };
        // What is made once and kept is not the first input's.
        (target.run)(&corpus[0]);
        for input in &corpus {
            match run(target, input) {
                Ok(took) => slowest = slowest.max(took),
                Err(what) => {
                    failure(input, what);
                    failed += 1;
                }
            }
        }
        let (begun, mut mutator) = (Instant::now(), Mutator::new(seed));
        while args
            .mutants
            .map_or(begun.elapsed() < share, |count| mutants < count)
        {
            let input = mutator.next(&corpus);
            mutants += 1;
            match run(target, &input) {
                Ok(took) => slowest = slowest.max(took),
                Err(what) => {
                    failure(&input, what);
                    failed += 1;
                    break;
                }
            }
        }
        println!(
            "{:>16}: {} inputs of the corpus, {mutants} mutants, slowest {slowest:.1?}",
            target.name,
            corpus.len()
        );
    }
    if failed > 0 {
        return Err(format!(
            "{failed} inputs at which something does not hold; seed {seed}"
        ));
    }
    Ok(())
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::thread::spawn(watch);
    let done = if args.write_corpora {
        write_corpora()
    } else {
        smoke(&args)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("gramme-fuzz-smoke: {what}");
            ExitCode::FAILURE
        }
    }
}
