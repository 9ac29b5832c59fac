//! `gramme data export`: every key as a line of JSON, in pages, resumable.
//!
//! What cannot be read is named on stderr and counted, and the export goes on with all the rest; then it fails. The count
//! is in the lines from which an interrupted export goes on, so that it is not forgotten by that.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use gramme::export_line::{Line, Place};
use gramme_core::base::ids::ShardIndex;
use gramme_core::port::Failure;
use gramme_engine::{Engine, Error, Options, Pipeline};

use super::{EngineArgs, open_engine, progress, stop_flag};

/// Index entries that one page looks at, and so reads that are on their way at once.
const PAGE_KEYS: u32 = 256;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// The file to write; stdout without it.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Goes on where an export to the same file was interrupted.
    #[arg(long, requires = "to")]
    resume: bool,
}

/// Writes all keys of all buckets of the configuration.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let (out, from): (Box<dyn Write>, _) = match &args.to {
        None => (Box::new(io::stdout().lock()), None),
        Some(path) => {
            let (file, from) = target(path, args.resume)?;
            (Box::new(file), from)
        }
    };
    let (engine, buckets) = open_engine(&args.engine, false)?;
    let keys: u64 = engine
        .status()
        .iter()
        .flatten()
        .map(|status| status.keys)
        .sum();
    let mut export = Export {
        reads: engine.pipeline(PAGE_KEYS as usize),
        out: BufWriter::new(out),
        written: 0,
        told: BTreeSet::new(),
        unreadable: from.as_ref().map_or(0, |place| place.unreadable),
    };
    let bar = progress(keys, "keys");
    let stop = stop_flag()?;
    let mut skipped_to = from;
    'all: for bucket in &buckets {
        for shard in 0..engine.shards() {
            let mut cursor = 0;
            if let Some(place) = &skipped_to {
                if (place.bucket.as_str(), place.shard) != (bucket, shard) {
                    continue;
                }
                // 0 is a shard's end.
                cursor = place.next;
                skipped_to = None;
                if cursor == 0 {
                    continue;
                }
            }
            loop {
                cursor = export.page(&engine, bucket, ShardIndex(shard), cursor)?;
                bar.set_position(export.written);
                if stop.load(Ordering::Relaxed) {
                    break 'all;
                }
                if cursor == 0 {
                    break;
                }
            }
        }
    }
    export.out.flush().map_err(|error| cannot_write(&error))?;
    bar.finish_and_clear();
    export.tell_damage(&engine);
    eprintln!("{} keys exported", export.written);
    engine.stop()?;
    if stop.load(Ordering::Relaxed) {
        return Err(match &args.to {
            Some(_) => "told to stop before the end; the same with --resume goes on there".into(),
            None => "told to stop before the end; what was written is not all".into(),
        });
    }
    match skipped_to {
        None if export.unreadable > 0 => Err(format!(
            "{} keys or places of the log could not be read, and what was there is not in the export: they are named \
             above, or were by the run that this one went on from; everything else is exported; bring them back from \
             another replica, or from a backup",
            export.unreadable
        )),
        None => Ok(ExitCode::SUCCESS),
        Some(place) => Err(format!(
            "nothing was exported: the file goes on at bucket {} shard {}, which this directory does not have; export anew, without --resume",
            place.bucket, place.shard
        )),
    }
}

/// The file to go on in, and where: behind its last complete page.
fn target(path: &Path, resume: bool) -> Result<(File, Option<Place>), String> {
    let told = |error: io::Error| format!("cannot write {}: {error}", path.display());
    if !resume {
        let made = File::options().write(true).create_new(true).open(path);
        return made
            .map(|file| (file, None))
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!(
                        "{} is there already; remove it, or go on in it with --resume",
                        path.display()
                    )
                }
                _ => told(error),
            });
    }
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(told)?;
    let (mut at, mut end, mut last) = (0, 0, None);
    // Line by line: an export may be longer than the memory.
    let (mut reader, mut line) = (BufReader::new(&file), Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(told)?;
        if read == 0 {
            break;
        }
        at += read as u64;
        if line.ends_with(b"\n") && line.starts_with(b"{\"cursor\"") {
            let line: Line = serde_json::from_slice(&line)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            (end, last) = (at, line.cursor);
        }
    }
    file.set_len(end).map_err(told)?;
    file.seek(SeekFrom::Start(end)).map_err(told)?;
    Ok((file, last))
}

fn cannot_write(error: &io::Error) -> String {
    format!("cannot write the export: {error}; make room, then go on with --resume")
}

struct Export {
    reads: Pipeline,
    out: BufWriter<Box<dyn Write>>,
    written: u64,
    /// Damaged places that were named: shard, segment, byte.
    told: BTreeSet<(u16, u32, u64)>,
    /// Keys and places that could not be read.
    unreadable: u64,
}

impl Export {
    /// Writes the next keys of a shard and the line that they are complete; where to go on, 0 at the end.
    fn page(
        &mut self,
        engine: &Engine,
        bucket: &str,
        shard: ShardIndex,
        cursor: u64,
    ) -> Result<u64, String> {
        let options = Options {
            bucket: Some(bucket.as_bytes()),
            ..Options::default()
        };
        let failed = |what: String| format!("bucket {bucket} shard {shard}: {what}");
        let page = engine.keys_blocking(shard, cursor, PAGE_KEYS, &options);
        let (next, keys) = page.map_err(|error| failed(error.to_string()))?;
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        for keys in keys.chunks(PAGE_KEYS as usize) {
            for (tag, key) in keys.iter().enumerate() {
                self.reads
                    .get(tag as u64, key, &options)
                    .map_err(|error| failed(error.to_string()))?;
            }
            let mut lines = Vec::with_capacity(keys.len());
            let mut unreadable = 0;
            self.reads.wait(keys.len(), |reply| {
                let key = keys.get(reply.tag as usize).map_or(&[][..], Vec::as_slice);
                let line = match reply.object() {
                    Ok(Some(object)) => Line::of(bucket, key, object, now_ms),
                    Ok(None) => Ok(None),
                    Err(Error::Failed(
                        failure @ (Failure::Corrupt { .. }
                        | Failure::Unknown
                        | Failure::ReadFailed(_)),
                    )) => {
                        unreadable += 1;
                        eprintln!("bucket {bucket} key {}: {failure}", key.escape_ascii());
                        Ok(None)
                    }
                    Err(error) => Err(format!("key {}: {error}", key.escape_ascii())),
                };
                lines.push((reply.tag, line));
            });
            self.unreadable += unreadable;
            // Answers from memory overtake those from the disk.
            lines.sort_unstable_by_key(|(tag, _)| *tag);
            for (_, line) in lines {
                if let Some(line) = line.map_err(failed)? {
                    self.line(&line)?;
                    self.written += 1;
                }
            }
        }
        if next == 0 {
            self.tell_damage(engine);
        }
        self.line(&Line::complete(Place {
            unreadable: self.unreadable,
            bucket: bucket.to_owned(),
            shard: shard.0,
            next,
        }))?;
        Ok(next)
    }

    /// Names the places of the log that cannot be read, once each: what a walk passed over, and what the start found.
    fn tell_damage(&mut self, engine: &Engine) {
        for (shard, status) in (0..).zip(engine.status()) {
            for place in status.iter().flat_map(|status| &status.damage) {
                if self.told.insert((shard, place.segment.0, place.offset)) {
                    self.unreadable += 1;
                    eprintln!(
                        "shard {shard} {} byte {}: cannot be read; its keys are unknown",
                        place.segment, place.offset
                    );
                }
            }
        }
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        let text = serde_json::to_vec(line).map_err(|error| error.to_string())?;
        self.out
            .write_all(&text)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|error| cannot_write(&error))
    }
}
