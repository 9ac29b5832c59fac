//! `gramme data import`: the lines of an export into a directory.
//!
//! A key with one value is put, by its bucket's rules; a key with siblings is merged with all of them. Importing the
//! same lines again changes no value, so an import that failed may simply be repeated, or gone on with from a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gramme::export_line::Line;
use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_engine::{Options, Pipeline};

use super::{EngineArgs, open_engine, progress, stop_flag};

/// Writes that are on their way at once.
const IN_FLIGHT_MAX: usize = 256;

/// Longer than any line of an export: the siblings of a key as base64, and its latest value again.
const LINE_BYTES_MAX: u64 = 256 << 20;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// The file to read; stdin without it.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Lines to pass over, which an earlier import has done.
    #[arg(long, default_value_t = 0, value_name = "LINES")]
    skip: u64,
}

/// Reads all lines.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let lines: Box<dyn BufRead> = match &args.from {
        None => Box::new(io::stdin().lock()),
        Some(path) => {
            let file = File::open(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Box::new(BufReader::new(file))
        }
    };
    let (engine, _) = open_engine(&args.engine, true)?;
    let mut import = Import {
        writes: engine.pipeline(IN_FLIGHT_MAX),
        imported: 0,
        expired: 0,
        failed: None,
    };
    let bar = progress(0, "lines");
    let stop = stop_flag()?;
    let mut done = args.skip;
    for (number, line) in (1..).zip(Lines(lines)) {
        if number <= args.skip {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            import.drain();
            engine.stop()?;
            return Err(match import.failed {
                None => {
                    format!("told to stop; {done} lines are done, go on with --skip {done}")
                }
                Some((number, error)) => went_wrong(number, &error),
            });
        }
        let taken = line.and_then(|line| import.take(number, &line));
        if let Err(error) = taken {
            import.drain();
            engine.stop()?;
            return Err(format!(
                "line {number}: {error}; those before are done, go on with --skip {}",
                number - 1
            ));
        }
        done = number;
        bar.inc(1);
        if let Some((number, error)) = import.failed.take() {
            import.drain();
            engine.stop()?;
            return Err(went_wrong(number, &error));
        }
    }
    import.drain();
    bar.finish_and_clear();
    // Everything is on stable media when this is done.
    engine.stop()?;
    if let Some((number, error)) = import.failed {
        return Err(went_wrong(number, &error));
    }
    eprintln!(
        "{} keys imported of {done} lines; {} had expired",
        import.imported, import.expired
    );
    Ok(ExitCode::SUCCESS)
}

/// A write failed; of those that were on their way with it nothing is known.
fn went_wrong(number: u64, error: &str) -> String {
    let from = number.saturating_sub(IN_FLIGHT_MAX as u64 + 1);
    format!("line {number}: {error}; go on with --skip {from} when that is mended")
}

/// The lines, none of them longer than an export can have.
struct Lines(Box<dyn BufRead>);

impl Iterator for Lines {
    type Item = Result<String, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        match (&mut self.0).take(LINE_BYTES_MAX).read_line(&mut line) {
            Ok(0) => None,
            Ok(read) if read as u64 == LINE_BYTES_MAX && !line.ends_with('\n') => Some(Err(
                format!("longer than {LINE_BYTES_MAX} bytes, which no line of an export is"),
            )),
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

struct Import {
    writes: Pipeline,
    imported: u64,
    expired: u64,
    /// The first write that failed: its line, and why.
    failed: Option<(u64, String)>,
}

impl Import {
    fn take(&mut self, number: u64, text: &str) -> Result<(), String> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let line = Line::parse(text)?;
        if line.cursor.is_some() {
            return Ok(());
        }
        let key = line.key()?;
        let mut options = Options {
            bucket: Some(line.bucket.as_deref().map_or(BUCKET_DEFAULT, str::as_bytes)),
            ..Options::default()
        };
        if !self.writes.has_room() {
            self.wait(1);
        }
        let sent = match line.object()? {
            Some(object) => self.writes.merge(number, &key, &object, &options),
            None => {
                if let Some(at_ms) = line.expires_at_ms {
                    let now_ms = SystemTime::now()
                        .duration_since(UNIX_EPOCH)
                        .map_or(0, |since| since.as_millis() as u64);
                    if at_ms <= now_ms {
                        self.expired += 1;
                        return Ok(());
                    }
                    options.ttl = Some(Duration::from_millis(at_ms - now_ms));
                }
                self.writes.put(number, &key, &line.value()?, &options)
            }
        };
        sent.map_err(|error| error.to_string())
    }

    /// Waits for answers.
    fn wait(&mut self, least: usize) {
        let Self {
            writes,
            imported,
            failed,
            ..
        } = self;
        writes.wait(least, |reply| match reply.written() {
            Ok(_) => *imported += 1,
            Err(error) if failed.as_ref().is_none_or(|(line, _)| reply.tag < *line) => {
                *failed = Some((reply.tag, error.to_string()));
            }
            Err(_) => {}
        });
    }

    fn drain(&mut self) {
        let left = self.writes.in_flight();
        self.wait(left);
    }
}
