//! A shard driven through its public interface alone, on a disk in memory that does everything at once.
//!
//! Shared by the tests of this folder and the benchmarks, which include it by path. It allocates only for the files.

use std::collections::BTreeMap;

use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, SegmentId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::port::{
    Condition, ContextArg, Effect, Effects, Event, Expiry, FileId, IoError, Op, Outcome, Put,
    Request, RequestId, Source,
};
use gramme_core::replica::{Bucket, Replica, ShardConfig};
use gramme_core::ring::Slices;

#[derive(Default)]
struct Disk(BTreeMap<FileId, Vec<u8>>);

impl Source for Disk {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        Vec::new()
    }

    fn read(&mut self, _: FileId, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        Ok(0)
    }
}

/// A shard, its disk and its clocks.
pub(crate) struct Rig {
    shard: Replica,
    disk: Disk,
    effects: Effects,
    /// What the disk was told to do, until it is carried out.
    asked: Vec<Effect>,
    now: Now,
    next_id: u64,
    /// Answers that were none of what a caller hopes for.
    pub(crate) failed: u64,
}

impl Rig {
    /// A new shard with so much RAM for values.
    pub(crate) fn new(memory_bytes: u64) -> Self {
        let segment_bytes = 64 << 20;
        let config = ShardConfig {
            node: NodeId(1),
            shard: ShardIndex(0),
            slices: Slices::new(256, 1).expect("256 is a power of two"),
            tag_seed: 1,
            buckets: vec![Bucket::new(b"default")],
            segment_bytes,
            block_bytes: 4096,
            read_align_bytes: 512,
            capacity_bytes: 64 * u64::from(segment_bytes),
            memory_bytes,
            commit_interval_ns: 1_000_000,
            commits_in_flight_max: 4,
            clean_bytes_per_s: 128 << 20,
            scrub_ns: 0,
            checkpoint_bytes: 1 << 40,
            requests_max: 10_000,
            value_bytes_max: 1 << 20,
            clock_drift_ms_max: 500,
        };
        let now = Now {
            mono_ns: 1,
            wall_ms: 1_700_000_000_000,
        };
        let mut disk = Disk::default();
        let (shard, _) = Replica::open(config, now, &mut disk).expect("an empty directory opens");
        let mut rig = Self {
            shard,
            disk,
            effects: Effects::default(),
            asked: Vec::with_capacity(64),
            now,
            next_id: 0,
            failed: 0,
        };
        rig.turn();
        rig.turn();
        rig
    }

    fn step(&mut self, event: Event<'_>) {
        self.shard.step(self.now, event, &mut self.effects);
        for effect in self.effects.list.drain(..) {
            match effect {
                Effect::Reply {
                    outcome: Outcome::Failed(_) | Outcome::Absent { .. },
                    ..
                } => self.failed += 1,
                Effect::Reply { .. } | Effect::Applied { .. } | Effect::Stopped => {}
                Effect::Write { .. }
                | Effect::Read { .. }
                | Effect::Prepare { .. }
                | Effect::Remove { .. } => {
                    self.asked.push(effect);
                }
            }
        }
        self.effects.clear();
    }

    /// The end of a turn; the disk does at once what it was told.
    pub(crate) fn turn(&mut self) {
        self.now.mono_ns += 1_000_000;
        self.now.wall_ms += 1;
        self.step(Event::TurnEnd);
        while let Some(effect) = self.asked.pop() {
            match effect {
                Effect::Write {
                    ticket,
                    file,
                    offset,
                    data,
                } => {
                    let held = self.disk.0.entry(file).or_default();
                    let bytes = self.shard.log_bytes(data);
                    let end = offset as usize + bytes.len();
                    if held.len() < end {
                        held.resize(end, 0);
                    }
                    held[offset as usize..end].copy_from_slice(bytes);
                    self.step(Event::WriteDone {
                        ticket,
                        result: Ok(()),
                    });
                }
                Effect::Read {
                    ticket,
                    file,
                    offset,
                    bytes,
                    ..
                } => {
                    let held = self.disk.0.remove(&file).unwrap_or_default();
                    let end = held.len().min(offset as usize + bytes as usize);
                    self.step(Event::ReadDone {
                        ticket,
                        result: Ok(&held[offset as usize..end]),
                    });
                    self.disk.0.insert(file, held);
                }
                Effect::Prepare {
                    ticket,
                    file,
                    bytes,
                    ..
                } => {
                    self.disk
                        .0
                        .entry(file)
                        .or_default()
                        .resize(bytes as usize, 0);
                    self.step(Event::PrepareDone {
                        ticket,
                        result: Ok(()),
                    });
                }
                Effect::Remove { file } => {
                    self.disk.0.remove(&file);
                }
                Effect::Reply { .. } | Effect::Applied { .. } | Effect::Stopped => {}
            }
        }
    }

    fn request(&mut self, key: &[u8], op: Op<'_>) {
        self.next_id += 1;
        let request = Request {
            id: RequestId(self.next_id),
            deadline_ns: None,
            bucket: b"default",
            key,
            token: hash::token(b"default", key),
            durability: None,
            quorum: Default::default(),
            wants_object: false,
            is_forwarded: false,
            op,
        };
        self.step(Event::Request(request));
    }

    /// A `latest` put, as RESP `SET` does it.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        let put = Put {
            context: ContextArg::Latest,
            value,
            expiry: Expiry::Never,
            condition: Condition::Always,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        self.request(key, Op::Put(put));
    }

    /// A get.
    pub(crate) fn get(&mut self, key: &[u8]) {
        self.request(key, Op::Get);
    }

    /// How many gets went to the disk.
    pub(crate) fn disk_reads(&self) -> u64 {
        self.shard.status().disk_reads
    }
}

/// A key of sixteen bytes, without allocating.
pub(crate) fn key(k: u64) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    let mut rest = k;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}
