//! A start: from what the directory holds to a shard that serves.

use core::cell::RefCell;
use core::fmt;
use std::collections::BTreeSet;

use crate::base::durability::Durability;
use crate::base::ids::SegmentId;
use crate::base::ids::{PartitionId, Token};
use crate::base::limits::VALUE_BYTES_MAX;
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::time::{Hlc, Now};
use crate::port::{FileId, IoError, Source};
use crate::replica::checkpoints::Checkpoints;
use crate::replica::config::{Bucket, ShardConfig};
use crate::replica::machine::{Parts, Replica};
use crate::replica::replaying::Replaying;
use crate::replica::status::Damage;
use crate::store::cache::RecordCache;
use crate::store::checkpoint::{CheckpointError, read_newest, shape};
use crate::store::cut::{Tail, TailBatch};
use crate::store::digest::Digest;
use crate::store::format::{FLAG_EXPIRES, RECORD_ALIGN, owner};
use crate::store::frontier::Frontier;
use crate::store::index::{Entry, Index};
use crate::store::log::{Log, LogConfig};
use crate::store::place::PlaceLayout;
use crate::store::preface::RollKey;
use crate::store::recovery::{Replayed, replay};
use crate::store::segment::SegmentState;

/// A log buffer's usual length.
const BUFFER_BYTES: usize = 1 << 20;
/// The least RAM of the readable tail, in buffers.
const TAIL_BUFFERS_MIN: usize = 4;
/// Memory that may wait for the disk, in buffers.
const BACKLOG_BUFFERS: usize = 32;
/// The least number of segments: one to write, spares, the cleaner's reserve.
const SEGMENTS_MIN: u64 = 8;

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Entries taken from the checkpoint.
    pub checkpoint_entries: u64,
    /// Slots whose checkpoint was looked at and not used, and why.
    pub checkpoints_refused: Vec<(u8, CheckpointError)>,
    /// Records replayed from the log's tail.
    pub records_replayed: u64,
    /// Bytes of the torn tail that were cut: nobody was told of them.
    pub torn_bytes: u64,
    /// Places that are lost.
    pub damage: Vec<Damage>,
    /// Where the shard's clock begins: no time up to here is given again.
    pub promised: Hlc,
    /// The end of the log, from which the start of a node with several shards finds what is to be cut.
    pub tail: Tail,
}

/// Why a shard cannot start. State: nothing was changed.
#[derive(Clone, Debug)]
pub enum OpenError {
    /// The configuration contradicts itself or what is on disk.
    Config(String),
    /// The device failed.
    Io(FileId, IoError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => write!(f, "{what}"),
            Self::Io(file, error) => write!(
                f,
                "{file:?} could not be read: {error}; replace the disk, or restore the directory"
            ),
        }
    }
}

impl core::error::Error for OpenError {}

fn check(config: &ShardConfig) -> Result<(), OpenError> {
    let block = config.block_bytes;
    let wrong = |what: String| Err(OpenError::Config(what));
    if !block.is_power_of_two() || !(512..=65_536).contains(&block) {
        return wrong(format!(
            "block_bytes is {block}; a power of two from 512 to 65536 is needed"
        ));
    }
    let align = config.read_align_bytes;
    if !align.is_power_of_two() || align > block {
        return wrong(format!(
            "read_align_bytes is {align}; a power of two up to the block, {block}, is needed"
        ));
    }
    if !config.segment_bytes.is_multiple_of(block) || config.segment_bytes < 64 * block {
        return wrong(format!(
            "segment_bytes is {}; a multiple of the block, at least 64 of them, is needed",
            config.segment_bytes
        ));
    }
    let least = SEGMENTS_MIN * u64::from(config.segment_bytes);
    if config.capacity_bytes < least {
        return wrong(format!(
            "capacity_bytes is {}; at least {SEGMENTS_MIN} segments, {least} bytes, are needed",
            config.capacity_bytes
        ));
    }
    if config.value_bytes_max as usize > VALUE_BYTES_MAX {
        return wrong(format!(
            "value_bytes_max is {}; at most {VALUE_BYTES_MAX} is possible",
            config.value_bytes_max
        ));
    }
    Ok(())
}

/// Collects a checkpoint's entries, a partition at a time.
struct Loader {
    index: Index,
    config: ShardConfig,
    partition: PartitionId,
    entries: Vec<(Token, Entry)>,
}

impl Loader {
    fn new(config: &ShardConfig) -> Self {
        let index = Index::new(config.slices, config.shard);
        Self {
            index,
            config: config.clone(),
            partition: PartitionId(0),
            entries: Vec::new(),
        }
    }

    fn take(&mut self, token: Token, entry: Entry) {
        let partition = self.config.slices.partition_of(token);
        if partition != self.partition {
            self.flush();
            self.partition = partition;
        }
        self.entries.push((token, entry));
    }

    fn flush(&mut self) {
        if !self.entries.is_empty() {
            self.index.load(self.partition, &self.entries);
            self.entries.clear();
        }
    }
}

impl RecoveryReport {
    /// Notes a place once.
    fn note_damage(&mut self, segment: SegmentId, offset: u32) {
        let offset = u64::from(offset);
        let damage = Damage { segment, offset };
        if !self.damage.contains(&damage) {
            self.damage.push(damage);
        }
    }
}

/// What the index has of a key whose record is lost: a place at which no record verifies, so that a read of the key
/// fails, and a fingerprint that nobody has seen. It counts as one that expires: whether the key is alive is unknown too.
fn lost_entry(layout: &PlaceLayout, (id, offset): (SegmentId, u32), key: RollKey) -> Entry {
    let place = layout.pack(id, offset, RECORD_ALIGN as u32, FLAG_EXPIRES, key.tag15);
    let fingerprint = (key.token.0 ^ place.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Entry { fingerprint, place }
}

impl Replica {
    /// Opens a shard from what its directory holds (nothing: a new one).
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        mut config: ShardConfig,
        now: Now,
        source: &mut dyn Source,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        check(&config)?;
        config.value_bytes_max = config.value_bytes_max.min(config.segment_bytes / 2);
        let block = config.block_bytes as usize;
        let layout = PlaceLayout::new(config.segment_bytes);
        let owner = owner(config.node, config.shard);
        let shape = shape(
            owner,
            config.slices.partitions(),
            config.slices.shards(),
            config.segment_bytes,
        );
        let mut report = RecoveryReport::default();

        let loader = RefCell::new(Loader::new(&config));
        let newest = read_newest(
            source,
            block,
            shape,
            || *loader.borrow_mut() = Loader::new(&config),
            |token, entry| loader.borrow_mut().take(token, entry),
        )
        .map_err(|(slot, error)| OpenError::Io(FileId::Checkpoint(slot), error))?;
        let mut loader = loader.into_inner();
        loader.flush();
        let index = loader.index;
        report.checkpoint_entries = index.len() as u64;
        if !newest.refused.is_empty() {
            mark::reach(Mark::CheckpointRefused);
        }
        let has_checkpoint = newest.found.is_some();
        report.checkpoints_refused = newest.refused;
        let (slot, header, from) = newest.found.unwrap_or_default();

        let mut tainted = BTreeSet::new();
        let mut lost_at = BTreeSet::new();
        let mut gone = Vec::new();
        let slices = config.slices;
        let mut replaying = Replaying::new(index, layout, slices);
        let state = replay(source, block, owner, &from, |replayed| match replayed {
            Replayed::Surveyed(segments) => {
                // A table, for this is asked of every key.
                let mut same_uses = vec![false; layout.segments_max() as usize];
                for used in &from.in_use {
                    let segment = segments.get(used.id);
                    let is_same = segment.is_some_and(|s| s.generation == used.generation);
                    if let Some(same_use) = same_uses.get_mut(used.id.0 as usize) {
                        *same_use = is_same;
                    }
                    if segment.is_some_and(|s| s.state == SegmentState::Quarantined) {
                        report.note_damage(used.id, 0);
                    }
                }
                replaying.index().remove_where(|token, entry| {
                    let id = layout.segment(entry.place);
                    let is_same_use = same_uses.get(id.0 as usize) == Some(&true);
                    if !is_same_use && !entry.place.is_tombstone() && !entry.place.expires() {
                        gone.push((token, entry.place));
                    }
                    !is_same_use
                });
            }
            Replayed::Record(id, offset, record) => {
                replaying.record(id, offset, record.header);
                report.records_replayed += 1;
            }
            Replayed::Frontier(segment, offset, noted) => report.tail.push(TailBatch {
                segment,
                offset,
                noted,
            }),
            Replayed::Lost(id, offset, header) => {
                replaying.record(id, offset, header);
                let entry = replaying.index().get(header.token, header.tag15);
                lost_at.extend(entry.map(|entry| (header.token, entry.place.0)));
                report.note_damage(id, offset);
            }
            Replayed::LostKey(id, offset, key) => {
                let entry = lost_entry(&layout, (id, offset), key);
                replaying.index().put(key.token, key.tag15, entry);
                lost_at.insert((key.token, entry.place.0));
                report.note_damage(id, offset);
            }
            Replayed::Damage(id, offset) => report.note_damage(id, offset),
        })
        .map_err(|(id, error)| OpenError::Io(FileId::Segment(id), error))?;
        let (index, dropped) = replaying.end();
        report.torn_bytes = state.torn_bytes;
        if !has_checkpoint && report.records_replayed > 0 {
            mark::reach(Mark::LogReplayedWhole);
        }
        // A value whose segment was given back since the checkpoint was moved or followed, and the tail tells so. One of
        // which it does not lay in a file that is missing.
        for (token, place) in gone {
            let partition = slices.partition_of(token);
            if !dropped.contains(&partition) && index.get(token, place.tag15()).is_none() {
                tainted.insert(partition);
                report.note_damage(layout.segment(place), 0);
            }
        }
        let lost = header.lost.later(state.lost);
        if lost.is_any() || header.is_tainted {
            tainted.extend((0..slices.partitions()).map(PartitionId));
            if report.damage.is_empty() {
                report.note_damage(lost.segment, lost.offset);
            }
        }

        report.tail.last = state.last;
        report.tail.is_damaged = !report.damage.is_empty();
        if report.tail.is_damaged {
            mark::reach(Mark::DamageFound);
        }

        let mut segments = state.segments;
        segments.forget_graves();
        let mut digest = Digest::new(config.slices);
        let mut live_bytes = 0;
        for (token, entry) in index.scan_after(None) {
            digest.replace(token, 0, entry.fingerprint);
            let bytes = u64::from(entry.place.bytes_upper());
            live_bytes += bytes;
            if let Some(segment) = segments.get_mut(layout.segment(entry.place)) {
                segment.live_bytes += bytes;
            }
        }

        let buffer_bytes = BUFFER_BYTES
            .min(config.segment_bytes as usize / 4)
            .next_multiple_of(block);
        let log_config = LogConfig {
            block_bytes: block,
            segment_bytes: config.segment_bytes,
            segments_max: u32::try_from(config.capacity_bytes / u64::from(config.segment_bytes))
                .unwrap_or(u32::MAX)
                .min(layout.segments_max()),
            buffer_bytes,
            tail_bytes_max: (config.memory_bytes as usize / 2).max(TAIL_BUFFERS_MIN * buffer_bytes),
            backlog_bytes_max: BACKLOG_BUFFERS * buffer_bytes,
            owner,
        };
        let mut log = Log::new(
            log_config,
            segments,
            state.next_generation,
            state.last,
            state.next_number,
        );
        log.lost = lost;
        let is_durable = |bucket: &Bucket| bucket.durability != Durability::Buffered;
        log.fill_spares = config.buckets.iter().any(is_durable);
        match (state.resume, &state.last_keys) {
            (Some(id), _) => log.resume(id),
            (None, Some(keys)) => log.set_roll(keys),
            (None, None) => {}
        }
        let promised = if mutant::is(Mutant::ClockForgotten) {
            0
        } else {
            state.hlc_ceiling.max(header.hlc_ceiling)
        };
        let hlc = Hlc(promised);
        report.promised = hlc.max(Hlc::from_ms(now.wall_ms).before());
        // What was not on stable media at a crash is forgotten here, and others may have it: no birth goes on.
        let is_clean =
            state.resume.is_some() && header.whole_since > 0 || mutant::is(Mutant::BirthContinued);
        let whole_since = if is_clean {
            Hlc(header.whole_since)
        } else {
            hlc
        };
        log.frontier = Frontier::new(config.slices.shards(), hlc.0);
        let shard = Self::from_parts(Parts {
            now,
            layout,
            index,
            digest,
            log,
            cache: RecordCache::new(config.memory_bytes / 2),
            hlc,
            whole_since,
            is_whole_known: is_clean,
            checkpoints: Checkpoints::new(slot, header.sequence, header.replay_generation),
            damage: report.damage.clone(),
            lost: lost_at,
            tainted,
            live_bytes,
            config,
        });
        Ok((shard, report))
    }
}
