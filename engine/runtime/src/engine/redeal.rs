//! A start with another number of shards than the last one: every key is dealt to its new owner.
//!
//! The old shards run once more beside the new ones, whose files lie in directories of their own; every object is read
//! from the one and merged into the other, unchanged. Only when all of it is on stable media does the directory count
//! the new files: a crash before leaves the old ones as they were, and the next start begins anew.
//!
//! All records come along: those of buckets that this configuration does not name, for the next one may; tombstones, for
//! another node, an import or a late retry may bring what they deleted; and hints, each beside its key. Marks of what is
//! whole stay behind, since a key's history on its new shard begins anew: no birth from before goes on there, as after a
//! crash, and no time is given that the old shards may have given.
//!
//! What is damaged is not dealt: it would become absent. Other nodes bring it back while the old number serves.

use std::fs;
use std::io;
use std::path::PathBuf;

use gramme_core::base::ids::ShardIndex;
use gramme_core::cluster::has_company;
use gramme_core::port::{Op, read_record};
use gramme_core::shard::record_request;

use super::config::EngineConfig;
use super::starting::{Around, Redeal};
use super::{Engine, OpenError, Pipeline};
use crate::answer::Error;
use crate::directory::Directory;
use crate::state;

/// Records that are on their way at once.
const RECORDS_AT_ONCE_MAX: usize = 128;

/// Index entries that one scan looks at.
const SCAN_COUNT: u32 = 1024;

/// Deals the directory's files to the number of shards that it was opened for.
pub(super) fn redeal(directory: &mut Directory, config: &EngineConfig) -> Result<(), OpenError> {
    let (old_shards, new_shards) = (directory.shards(), directory.shards_asked());
    tracing::info!(
        from = old_shards,
        to = new_shards,
        "dealing the data to another number of shards"
    );
    let state = state::read(directory.path())
        .map_err(|error| OpenError::Io("read the cluster's state, ring.bin", error))?;
    let has_company = state.as_deref().map_or(Ok(false), has_company);
    let has_company = has_company.map_err(OpenError::Cluster)?;
    for shard in 0..new_shards {
        make_empty(directory.next_shard_dir(ShardIndex(shard)))
            .map_err(|error| OpenError::Io("make a directory for a shard", error))?;
    }
    let old_dir = |shard| directory.shard_dir(shard);
    let new_dir = |shard| directory.next_shard_dir(shard);
    let moving = |begin_after| Around {
        redeal: Redeal {
            has_company,
            begin_after,
        },
        ..Around::default()
    };
    let old = Engine::start(config, directory, (old_shards, &old_dir), moving(None))?;
    let found = old.recovery();
    if found.iter().any(|report| !report.damage.is_empty()) {
        return Err(OpenError::Redeal(format!(
            "parts of the log are damaged, and what was there is unknown (with --shards {old_shards} other nodes bring it back)"
        )));
    }
    let promised = found.iter().map(|report| report.promised).max();
    let new = Engine::start(config, directory, (new_shards, &new_dir), moving(promised))?;
    let mut mover = Mover {
        old: &old,
        writes: new.pipeline(RECORDS_AT_ONCE_MAX),
    };
    let mut moved: u64 = 0;
    for shard in 0..old_shards {
        let records = mover.move_shard(ShardIndex(shard));
        moved += records.map_err(|error| OpenError::Redeal(error.to_string()))?;
    }
    drop(mover);
    tracing::info!(
        moved,
        "records have their new shards, tombstones among them"
    );
    new.stop().map_err(OpenError::Redeal)?;
    old.stop().map_err(OpenError::Redeal)?;
    directory.adopt_next().map_err(OpenError::Directory)
}

struct Mover<'a> {
    old: &'a Engine,
    writes: Pipeline,
}

impl Mover<'_> {
    /// Moves what one of the old shards has; returns how many records.
    fn move_shard(&mut self, shard: ShardIndex) -> Result<u64, Error> {
        let (mut cursor, mut moved) = (0, 0);
        loop {
            let (count, nothing) = (SCAN_COUNT, &b""[..]);
            let request = record_request(nothing, nothing, Op::Records { cursor, count });
            let (next_cursor, records) = self.old.scan_blocking(shard, &request)?;
            for records in records.chunks(RECORDS_AT_ONCE_MAX) {
                self.move_records(records)?;
            }
            moved += records.len() as u64;
            if next_cursor == 0 {
                return Ok(moved);
            }
            cursor = next_cursor;
        }
    }

    fn move_records(&mut self, records: &[Vec<u8>]) -> Result<(), Error> {
        for record in records {
            let (bucket, key, object) = read_record(record).ok_or(Error::Unexpected)?;
            self.writes
                .add(0, &record_request(bucket, key, Op::Merge { object }))?;
        }
        let mut failed = None;
        self.writes.wait(records.len(), |reply| {
            if let Err(error) = reply.written() {
                failed = Some(error);
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

/// What a crash in the middle of an earlier try has left there goes.
fn make_empty(dir: PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir_all(dir)
}
