//! What the shards of a node agree on at their start, before any of them serves: where their logs end.
//!
//! Owns the order: each shard replays its log and tells its end; when all have, the cut is chosen (`store::cut`); those
//! that lose something mark it in their files and replay anew; only when all have marked does any go on. So a crash in
//! the middle of it finds nothing that anybody was told, and one after it finds the same cut.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crossbeam_channel::{Receiver, Sender, bounded};
use gramme_core::base::ids::ShardIndex;
use gramme_core::port::FileId;
use gramme_core::shard::RecoveryReport;
use gramme_core::store::cut::{Tail, TailBatch, consistent};
use gramme_core::store::format::{BATCH_HEADER_BYTES, BatchHeader};

use super::OpenError;
use crate::disk::file_name;

/// How far a shard is on its way up.
pub(super) enum Progress {
    /// Its log is replayed and ends so.
    Replayed(ShardIndex, Tail),
    /// What it had to cut is cut.
    Cut,
    /// It serves, or has failed.
    Started(ShardIndex, Result<RecoveryReport, OpenError>),
}

/// A shard's end of the agreement.
pub(super) struct Agreement(Receiver<Verdict>);

/// The start's end, one for each shard.
pub(super) struct Verdicts(Vec<Sender<Verdict>>);

enum Verdict {
    /// These go.
    Cut(Vec<TailBatch>),
    /// All have cut what they had to.
    Go,
}

/// The ends of an agreement between so many shards.
pub(super) fn agreement(shards: u16) -> (Verdicts, Vec<Option<Agreement>>) {
    let ends = (0..shards).map(|_| bounded(2));
    let (verdicts, agreements): (Vec<_>, Vec<_>) = ends
        .map(|(sender, receiver)| (sender, Some(Agreement(receiver))))
        .unzip();
    (Verdicts(verdicts), agreements)
}

impl Agreement {
    /// Tells the end of this shard's log, and cuts what must go; returns whether anything was. It returns when all the
    /// others have done so too.
    pub(super) fn reach(
        &self,
        (shard, tail): (ShardIndex, Tail),
        progress: &Sender<Progress>,
        directory: &Path,
    ) -> Result<bool, OpenError> {
        let given_up = || OpenError::Config("another shard could not start".into());
        // Whoever opens the engine may have given up: then no verdict comes either.
        let _ = progress.send(Progress::Replayed(shard, tail));
        let Ok(Verdict::Cut(batches)) = self.0.recv() else {
            return Err(given_up());
        };
        mark(directory, &batches).map_err(|error| OpenError::Io("cut a log", error))?;
        if let Some(first) = batches.first() {
            let (batch, batches) = (first.noted.number, batches.len());
            tracing::info!(%shard, %batch, batches, "cut what depends on lost writes of other shards");
        }
        let _ = progress.send(Progress::Cut);
        match self.0.recv() {
            Ok(Verdict::Go) => Ok(!batches.is_empty()),
            Ok(Verdict::Cut(_)) | Err(_) => Err(given_up()),
        }
    }
}

impl Verdicts {
    /// All logs end so: chooses the cut.
    pub(super) fn choose(&self, mut tails: Vec<Tail>) {
        for (at, stay) in consistent(&tails).into_iter().enumerate() {
            let gone = tails.get_mut(at).map(|tail| tail.batches.split_off(stay));
            self.send(at, Verdict::Cut(gone.unwrap_or_default().into()));
        }
    }

    /// All have cut.
    pub(super) fn go(&self) {
        for at in 0..self.0.len() {
            self.send(at, Verdict::Go);
        }
    }

    /// Those that wait go on, without a verdict.
    pub(super) fn give_up(&mut self) {
        self.0.clear();
    }

    fn send(&self, at: usize, verdict: Verdict) {
        if let Some(sender) = self.0.get(at) {
            // One that has ended says so itself.
            let _ = sender.send(verdict);
        }
    }
}

/// Marks batches as cut on stable media, the last first: what is left after a crash in the middle is a log that ends
/// somewhere among them.
fn mark(directory: &Path, batches: &[TailBatch]) -> std::io::Result<()> {
    for batch in batches.iter().rev() {
        let path = directory.join(file_name(FileId::Segment(batch.segment)));
        let file = File::options().read(true).write(true).open(path)?;
        let (mut bytes, at) = ([0; BATCH_HEADER_BYTES], u64::from(batch.offset));
        file.read_exact_at(&mut bytes, at)?;
        let header = BatchHeader::decode(&bytes).filter(|h| h.number == batch.noted.number);
        let header = header.ok_or_else(|| {
            std::io::Error::other(format!("{} was there and is not", batch.noted.number))
        })?;
        let cut = BatchHeader {
            is_cut: true,
            ..header
        };
        file.write_all_at(&cut.encode(), at)?;
        file.sync_data()?;
    }
    Ok(())
}
