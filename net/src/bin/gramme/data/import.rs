//! `gramme data import`: the lines of an export into a directory.
//!
//! A key with one value is put, by its bucket's rules; a key with siblings is merged with all of them. Importing the
//! same lines again changes no value, so an import that failed may simply be repeated, or gone on with from a line.
//!
//! What is told as done is on stable media: each write is acknowledged from there, and a line counts when it and all
//! before it are. So a machine that dies takes nothing of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gramme::export_line::Line;
use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_core::port::Durability;
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
        lines: Done::new(args.skip),
    };
    let bar = progress(0, "lines");
    let stop = stop_flag()?;
    for (number, line) in (1..).zip(Lines(lines)) {
        if number <= args.skip {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            import.drain();
            engine.stop()?;
            return Err(match import.failed {
                None => {
                    let done = import.lines.upto();
                    format!("told to stop; {done} lines are done, go on with --skip {done}")
                }
                Some((number, error)) => went_wrong(number, &error, &import.lines),
            });
        }
        let taken = line.and_then(|line| import.take(number, &line));
        if let Err(error) = taken {
            import.drain();
            engine.stop()?;
            return Err(went_wrong(number, &error, &import.lines));
        }
        bar.set_position(import.lines.upto());
        if let Some((number, error)) = import.failed.take() {
            import.drain();
            engine.stop()?;
            return Err(went_wrong(number, &error, &import.lines));
        }
    }
    import.drain();
    bar.finish_and_clear();
    engine.stop()?;
    if let Some((number, error)) = import.failed {
        return Err(went_wrong(number, &error, &import.lines));
    }
    eprintln!(
        "{} keys imported of {} lines; {} had expired",
        import.imported,
        import.lines.upto(),
        import.expired
    );
    Ok(ExitCode::SUCCESS)
}

fn went_wrong(number: u64, error: &str, lines: &Done) -> String {
    let done = lines.upto();
    format!(
        "line {number}: {error}; {done} lines are done, go on with --skip {done} when that is mended"
    )
}

/// Which lines are done, though answers come in any order.
struct Done {
    /// The last line that was begun.
    last: u64,
    /// Lines that were begun and are not on stable media, or failed.
    open: BTreeSet<u64>,
}

impl Done {
    const fn new(upto: u64) -> Self {
        Self {
            last: upto,
            open: BTreeSet::new(),
        }
    }

    fn begin(&mut self, line: u64) {
        self.last = line;
        self.open.insert(line);
    }

    fn end(&mut self, line: u64) {
        self.open.remove(&line);
    }

    /// This line and all before it are done.
    fn upto(&self) -> u64 {
        self.open.first().map_or(self.last, |open| open - 1)
    }
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
    lines: Done,
}

impl Import {
    /// Begins a line; one of which nothing is to be written is done at once.
    fn take(&mut self, number: u64, text: &str) -> Result<(), String> {
        self.lines.begin(number);
        if !self.send(number, text)? {
            self.lines.end(number);
        }
        Ok(())
    }

    /// Sends what a line says; false where it says nothing.
    fn send(&mut self, number: u64, text: &str) -> Result<bool, String> {
        if text.trim().is_empty() {
            return Ok(false);
        }
        let line = Line::parse(text)?;
        if line.cursor.is_some() {
            return Ok(false);
        }
        let key = line.key()?;
        let mut options = Options {
            bucket: Some(line.bucket.as_deref().map_or(BUCKET_DEFAULT, str::as_bytes)),
            durability: Some(Durability::All),
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
                        return Ok(false);
                    }
                    options.ttl = Some(Duration::from_millis(at_ms - now_ms));
                }
                self.writes.put(number, &key, &line.value()?, &options)
            }
        };
        sent.map(|()| true).map_err(|error| error.to_string())
    }

    /// Waits for answers.
    fn wait(&mut self, least: usize) {
        let Self {
            writes,
            imported,
            failed,
            lines,
            ..
        } = self;
        writes.wait(least, |reply| match reply.written() {
            Ok(_) => {
                *imported += 1;
                lines.end(reply.tag);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_done_when_it_and_all_before_it_are_on_stable_media() {
        let mut lines = Done::new(3);
        assert_eq!(lines.upto(), 3, "what an earlier import has done");
        for line in 4..=6 {
            lines.begin(line);
        }
        assert_eq!(lines.upto(), 3, "nothing is done by being sent");
        lines.end(6);
        lines.end(4);
        assert_eq!(lines.upto(), 4);
        // The fifth failed: it stays open, whatever comes behind it.
        lines.begin(7);
        lines.end(7);
        assert_eq!(lines.upto(), 4);
    }

    #[test]
    fn what_a_stopped_import_says_is_done_is_there_after_the_machine_died() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = gramme_engine::EngineConfig {
            shards: Some(1),
            segment_bytes: Some(1 << 20),
            capacity_bytes: Some(64 << 20),
            memory_bytes: 16 << 20,
            pin_to_cores: false,
            // Nothing that is only buffered reaches the disk while this runs.
            commit_interval: Duration::from_secs(3600),
            ..gramme_engine::EngineConfig::new(dir.path())
        };
        let engine = gramme_engine::Engine::open(config).expect("opened");
        let mut import = Import {
            writes: engine.pipeline(IN_FLIGHT_MAX),
            imported: 0,
            expired: 0,
            failed: None,
            lines: Done::new(0),
        };
        for number in 1..=100 {
            let line = format!("{{\"key\":\"k{number}\",\"value\":\"v\"}}");
            import.take(number, &line).expect("a line");
        }
        import.drain();
        let done = import.lines.upto();
        assert_eq!((done, import.imported), (100, 100));
        // The files as they are now, as a machine that dies leaves them.
        let copy = tempfile::tempdir().expect("a directory");
        copy_all(dir.path(), copy.path());
        let left = gramme_engine::Engine::open(gramme_engine::EngineConfig {
            shards: Some(1),
            pin_to_cores: false,
            ..gramme_engine::EngineConfig::new(copy.path())
        });
        let left = left.expect("opened");
        for number in 1..=done {
            let key = format!("k{number}");
            let found = left.get_blocking(key.as_bytes(), &Options::default());
            assert!(found.expect("read").is_some(), "line {number}");
        }
        left.stop().expect("stopped");
        engine.stop().expect("stopped");
    }

    fn copy_all(from: &std::path::Path, to: &std::path::Path) {
        for entry in std::fs::read_dir(from).expect("there") {
            let entry = entry.expect("readable");
            let target = to.join(entry.file_name());
            if entry.file_type().expect("known").is_dir() {
                std::fs::create_dir(&target).expect("made");
                copy_all(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), &target).expect("copied");
            }
        }
    }
}
