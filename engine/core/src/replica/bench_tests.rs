//! The bench that the shard's tests share: a shard, its clocks, and a disk in memory that reorders, crashes, tears, rots,
//! loses and misdirects writes, fails and fills up.
//!
//! Everything is drawn from one seed, so a failing seed replays exactly.

use std::collections::BTreeMap;

use crate::base::hash;
use crate::base::ids::{NodeId, SegmentId, ShardIndex, Token};
use crate::base::time::Now;
use crate::port::ids::NOBODY;
use crate::port::*;
use crate::replica::hints::keep_hint;
use crate::replica::turn::Turn;
use crate::replica::{Bucket, PaceConfig, RecoveryReport, Replica, ShardConfig};
use crate::ring::{RingView, Slices};
use crate::version::{Content, ObjectView};

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub(crate) const BLOCK: usize = 512;

enum Pending {
    Write {
        ticket: Ticket,
        file: FileId,
        offset: usize,
        data: LogRange,
        bytes: Vec<u8>,
    },
    Read {
        ticket: Ticket,
        file: FileId,
        offset: usize,
        bytes: usize,
    },
    Prepare {
        ticket: Ticket,
        file: FileId,
        bytes: usize,
    },
}

/// Files in memory; what is not done is on its way.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<FileId, Vec<u8>>,
    pending: Vec<Pending>,
    /// The device has no space for more segments than these.
    pub(crate) segments_max: usize,
    /// The device has no space for checkpoints.
    pub(crate) refuses_checkpoints: bool,
    /// So many of the next writes to the log fail.
    pub(crate) fail_writes: u32,
    /// So many of the next reads fail.
    pub(crate) fail_reads: u32,
    /// So many of the next writes to the log are told done and never reach the medium.
    pub(crate) lose_writes: u32,
    /// So many of the next writes to the log reach another place instead.
    pub(crate) misdirect_writes: u32,
}

impl Source for Disk {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        let segment = |(id, bytes): (&FileId, &Vec<u8>)| match id {
            FileId::Segment(id) => Some((*id, bytes.len() as u64)),
            FileId::Checkpoint(_) => None,
        };
        self.files.iter().filter_map(segment).collect()
    }
    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let bytes = self.files.get(&file).map_or(&[][..], Vec::as_slice);
        let from = bytes.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}

impl Disk {
    pub(crate) fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        let held = self.files.entry(file).or_default();
        if held.len() < offset + bytes.len() {
            held.resize(offset + bytes.len(), 0);
        }
        held[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Flips a bit of a random byte that something was written to, of the segments that `is_hit` says; names the place.
    pub(crate) fn rot(
        &mut self,
        random: &mut Random,
        is_hit: impl Fn(SegmentId) -> bool,
    ) -> Option<(SegmentId, usize)> {
        let hit = |(file, bytes): (&FileId, &Vec<u8>)| match file {
            FileId::Segment(id) if is_hit(*id) && bytes.iter().any(|byte| *byte != 0) => Some(*id),
            FileId::Segment(_) | FileId::Checkpoint(_) => None,
        };
        let ids: Vec<SegmentId> = self.files.iter().filter_map(hit).collect();
        if ids.is_empty() {
            return None;
        }
        let id = ids[random.below(ids.len() as u64) as usize];
        let bytes = self.files.get_mut(&FileId::Segment(id))?;
        let used = bytes.iter().rposition(|byte| *byte != 0)? + 1;
        let at = random.below(used as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        Some((id, at))
    }

    /// Flips a bit in the first `upto` bytes of a checkpoint.
    pub(crate) fn rot_checkpoint(&mut self, slot: u8, random: &mut Random, upto: usize) -> bool {
        let Some(bytes) = self.files.get_mut(&FileId::Checkpoint(slot)) else {
            return false;
        };
        let at = random.below(upto.min(bytes.len()) as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        true
    }

    fn end_write(
        &mut self,
        random: &mut Random,
        file: FileId,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), IoError> {
        let is_log = matches!(file, FileId::Segment(_));
        let is_hit = |count: &mut u32| {
            let is_hit = is_log && *count > 0;
            *count -= u32::from(is_hit);
            is_hit
        };
        if is_hit(&mut self.fail_writes) {
            return Err(IoError {
                kind: IoKind::Failed,
                errno: 5,
            });
        }
        if is_hit(&mut self.lose_writes) {
            return Ok(());
        }
        if is_hit(&mut self.misdirect_writes) {
            let segments = self.segments();
            let (other, length) = segments[random.below(segments.len() as u64) as usize];
            let blocks = length.saturating_sub(bytes.len() as u64) / BLOCK as u64;
            let elsewhere = random.below(blocks.max(1)) as usize * BLOCK;
            self.write(FileId::Segment(other), elsewhere, bytes);
            return Ok(());
        }
        self.write(file, offset, bytes);
        Ok(())
    }

    /// Power is lost: each write on its way is whole, torn at blocks, or lost.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        for pending in core::mem::take(&mut self.pending) {
            let Pending::Write {
                file,
                offset,
                bytes,
                ..
            } = pending
            else {
                continue;
            };
            let kept = random.below(3);
            for (at, block) in bytes.chunks(BLOCK).enumerate() {
                if kept == 0 || kept == 1 && random.chance(50) {
                    self.write(file, offset + at * BLOCK, block);
                }
            }
        }
    }
}

/// A shard, its disk and its clocks.
pub(crate) struct Bench {
    pub(crate) shard: Replica,
    pub(crate) disk: Disk,
    pub(crate) random: Random,
    pub(crate) now: Now,
    pub(crate) config: ShardConfig,
    /// How fast the background goes, from the next start on.
    pub(crate) pace: PaceConfig,
    /// What the last start found.
    pub(crate) report: RecoveryReport,
    pub(crate) answers: BTreeMap<u64, (Outcome, Vec<u8>)>,
    /// The token of every key from now on, as somebody who knows the hash may choose his keys.
    pub(crate) one_token: Option<Token>,
    next_id: u64,
    pub(crate) stopped: bool,
}

pub(crate) fn config(segments: u64, segment_bytes: u32) -> ShardConfig {
    ShardConfig {
        node: NodeId(77),
        shard: ShardIndex(0),
        slices: Slices::new(16, 1).expect("valid"),
        tag_seed: 5,
        buckets: vec![Bucket::new(b"default")],
        segment_bytes,
        block_bytes: BLOCK as u32,
        read_align_bytes: BLOCK as u32,
        capacity_bytes: segments * u64::from(segment_bytes),
        memory_bytes: 64 << 10,
        commit_interval_ns: 10_000_000,
        commits_in_flight_max: 3,
        clean_bytes_per_s: 128 << 20,
        scrub_ns: 0,
        checkpoint_bytes: 256 << 10,
        requests_max: 1000,
        value_bytes_max: 1 << 20,
        clock_drift_ms_max: 500,
    }
}

impl Bench {
    pub(crate) fn new(seed: u64, config: ShardConfig) -> Self {
        let now = Now {
            mono_ns: 1,
            wall_ms: 1_700_000_000_000,
        };
        let mut disk = Disk {
            segments_max: usize::MAX,
            ..Disk::default()
        };
        let (mut shard, report) = Replica::open(config.clone(), now, &mut disk).expect("opens");
        // In some, checkpoints take long, so that much happens before one is whole.
        let pace = PaceConfig {
            bytes_per_s: if seed % 3 == 2 { 32 << 10 } else { 64 << 20 },
            ..PaceConfig::default()
        };
        shard.set_pace(pace);
        let random = Random::new(seed);
        let mut bench = Self {
            shard,
            disk,
            random,
            now,
            config,
            pace,
            report,
            answers: BTreeMap::new(),
            one_token: None,
            next_id: 1,
            stopped: false,
        };
        bench.turns(3);
        bench
    }

    /// Starts on what the disk holds; what was on its way must have ended.
    pub(crate) fn reopen(&mut self) {
        self.now.wall_ms += 1;
        self.stopped = false;
        let (shard, report) =
            Replica::open(self.config.clone(), self.now, &mut self.disk).expect("opens");
        self.shard = shard;
        self.shard.set_pace(self.pace);
        self.report = report;
        self.turns(3);
    }

    pub(crate) fn crash(&mut self) {
        self.disk.crash(&mut self.random);
        self.reopen();
    }

    pub(crate) fn stop_and_start(&mut self) {
        self.stop();
        self.reopen();
    }

    pub(crate) fn stop(&mut self) {
        self.event(Event::Stop);
        for _ in 0..10_000 {
            if self.stopped {
                break;
            }
            self.turns(1);
        }
        assert!(self.stopped, "a stop ends");
        self.disk.crash(&mut self.random);
    }

    /// What is kept as sums is what adding up gives: live bytes, tombstones, digests.
    pub(crate) fn check_sums(&self) {
        let shard = &self.shard;
        let mut live: BTreeMap<SegmentId, u64> = BTreeMap::new();
        let mut roots: BTreeMap<u32, u64> = BTreeMap::new();
        let mut tombstones = 0;
        for (token, entry) in shard.index.scan_after(None) {
            let segment = shard.layout.segment(entry.place);
            *live.entry(segment).or_insert(0) += u64::from(entry.place.bytes_upper());
            let partition = self.config.slices.partition_of(token).0;
            let root = roots.entry(partition).or_insert(0);
            *root = root.wrapping_add(entry.fingerprint);
            tombstones += u64::from(entry.place.is_tombstone());
        }
        for (id, segment) in shard.log.segments.iter() {
            let counted = live.get(&id).copied().unwrap_or(0);
            assert_eq!(segment.live_bytes, counted, "live bytes of {id}");
        }
        assert_eq!(shard.live_bytes, live.values().sum::<u64>(), "live bytes");
        assert_eq!(shard.status().tombstones, tombstones, "tombstones");
        for partition in 0..self.config.slices.partitions() {
            let root = shard.digest.root(crate::base::ids::PartitionId(partition));
            let counted = roots.get(&partition).copied().unwrap_or(0);
            assert_eq!(root, counted, "the digest of partition {partition}");
        }
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        let mut effects = Effects::default();
        self.shard.step(self.now, event, &mut effects);
        self.take(&effects);
    }

    fn take(&mut self, effects: &Effects) {
        for effect in &effects.list {
            match effect {
                Effect::Applied { .. } => {}
                Effect::Reply { id, .. } if *id == NOBODY => {}
                Effect::Reply { id, outcome } => {
                    let former = self.answers.insert(id.0, (*outcome, effects.bytes.clone()));
                    assert!(former.is_none(), "one answer for {id:?}");
                }
                Effect::Write {
                    ticket,
                    file,
                    offset,
                    data,
                } => {
                    let bytes = self.shard.log_bytes(*data).to_vec();
                    assert!(
                        bytes.len() == data.bytes as usize && bytes.len().is_multiple_of(BLOCK)
                    );
                    assert!(offset.is_multiple_of(BLOCK as u64));
                    self.disk.pending.push(Pending::Write {
                        ticket: *ticket,
                        file: *file,
                        offset: *offset as usize,
                        data: *data,
                        bytes,
                    });
                }
                Effect::Read {
                    ticket,
                    file,
                    offset,
                    bytes,
                    ..
                } => {
                    assert!(
                        offset.is_multiple_of(BLOCK as u64) && bytes.is_multiple_of(BLOCK as u32)
                    );
                    let (offset, bytes) = (*offset as usize, *bytes as usize);
                    self.disk.pending.push(Pending::Read {
                        ticket: *ticket,
                        file: *file,
                        offset,
                        bytes,
                    });
                }
                Effect::Prepare {
                    ticket,
                    file,
                    bytes,
                    ..
                } => {
                    let bytes = *bytes as usize;
                    self.disk.pending.push(Pending::Prepare {
                        ticket: *ticket,
                        file: *file,
                        bytes,
                    });
                }
                Effect::Remove { file } => {
                    self.disk.files.remove(file);
                }
                Effect::Stopped => self.stopped = true,
            }
        }
    }

    /// A random one of the operations on their way ends.
    pub(crate) fn complete_one(&mut self) -> bool {
        if self.disk.pending.is_empty() {
            return false;
        }
        let at = self.random.below(self.disk.pending.len() as u64) as usize;
        match self.disk.pending.swap_remove(at) {
            Pending::Write {
                ticket,
                file,
                offset,
                data,
                bytes,
            } => {
                assert_eq!(
                    self.shard.log_bytes(data),
                    bytes,
                    "bytes on their way to the disk stay as they are"
                );
                let result = self.disk.end_write(&mut self.random, file, offset, &bytes);
                self.event(Event::WriteDone { ticket, result });
            }
            Pending::Read {
                ticket,
                file,
                offset,
                bytes,
            } => {
                if let Some(left) = self.disk.fail_reads.checked_sub(1) {
                    self.disk.fail_reads = left;
                    let (kind, errno) = (IoKind::Failed, 5);
                    let result = Err(IoError { kind, errno });
                    self.event(Event::ReadDone { ticket, result });
                    return true;
                }
                let held = self.disk.files.get(&file).map_or(&[][..], Vec::as_slice);
                let from = held.get(offset..).unwrap_or_default();
                let copy = from[..from.len().min(bytes)].to_vec();
                self.event(Event::ReadDone {
                    ticket,
                    result: Ok(&copy),
                });
            }
            Pending::Prepare {
                ticket,
                file,
                bytes,
            } => {
                let is_new = !self.disk.files.contains_key(&file);
                let is_refused = match file {
                    FileId::Segment(_) => {
                        is_new && self.disk.segments().len() >= self.disk.segments_max
                    }
                    FileId::Checkpoint(_) => self.disk.refuses_checkpoints,
                };
                if is_refused {
                    let error = IoError {
                        kind: IoKind::Full,
                        errno: 28,
                    };
                    self.event(Event::PrepareDone {
                        ticket,
                        result: Err(error),
                    });
                } else {
                    let held = self.disk.files.entry(file).or_default();
                    held.resize(held.len().max(bytes), 0);
                    self.event(Event::PrepareDone {
                        ticket,
                        result: Ok(()),
                    });
                }
            }
        }
        true
    }

    /// Turns of the loop, with time going on.
    pub(crate) fn turns(&mut self, turns: u32) {
        for _ in 0..turns {
            for _ in 0..self.random.below(8) + 1 {
                self.complete_one();
            }
            self.now.mono_ns += self.random.below(3_000_000);
            self.now.wall_ms += self.random.below(3);
            self.event(Event::TurnEnd);
            if self
                .shard
                .next_deadline_ns()
                .is_some_and(|deadline| deadline <= self.now.mono_ns)
            {
                self.event(Event::Tick);
            }
        }
    }

    pub(crate) fn send(&mut self, key: &[u8], op: Op<'_>, durability: Option<Durability>) -> u64 {
        self.send_in(b"default", key, op, durability)
    }

    pub(crate) fn send_in(
        &mut self,
        bucket: &[u8],
        key: &[u8],
        op: Op<'_>,
        durability: Option<Durability>,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let token = self.one_token.unwrap_or_else(|| hash::token(bucket, key));
        let request = Request {
            id: RequestId(id),
            deadline_ns: None,
            bucket,
            key,
            token,
            durability,
            quorum: Default::default(),
            wants_object: false,
            is_forwarded: false,
            op,
        };
        self.event(Event::Request(request));
        id
    }

    pub(crate) fn wait(&mut self, id: u64) -> (Outcome, Vec<u8>) {
        for _ in 0..100_000 {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            self.turns(1);
        }
        panic!("request {id} was never answered; {:?}", self.shard.status());
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], durability: Option<Durability>) -> u64 {
        let put = Put {
            context: ContextArg::Latest,
            value,
            expiry: Expiry::Never,
            condition: Condition::Always,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        self.send(key, Op::Put(put), durability)
    }

    pub(crate) fn delete(&mut self, key: &[u8], durability: Option<Durability>) -> u64 {
        let op = Op::Delete {
            context: ContextArg::Latest,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        self.send(key, op, durability)
    }

    /// Keeps a hint, as the coordinator does.
    pub(crate) fn keep_hint(&mut self, target: NodeId, bucket: &[u8], key: &[u8]) {
        let key = KeyName {
            bucket,
            key,
            token: hash::token(bucket, key),
        };
        let view = RingView::blank(self.config.node, self.config.slices);
        let mut effects = Effects::default();
        let mut turn = Turn {
            now: self.now,
            view: &view,
            replica: &mut self.shard,
            effects: &mut effects,
        };
        keep_hint(&mut turn, target, key);
        self.take(&effects);
    }

    /// The value, absence, or the failure.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let id = self.send(key, Op::Get, None);
        match self.wait(id) {
            (Outcome::Absent { .. }, _) => Ok(None),
            (Outcome::Object { object, .. }, bytes) => {
                let view = ObjectView::parse(object.of(&bytes)).expect("an object");
                match view.single().expect("one sibling").content {
                    Content::Value(value) => Ok(Some(value.to_vec())),
                    Content::Tombstone => panic!("a tombstone is absent"),
                }
            }
            (Outcome::Failed(failure), _) => Err(failure),
            (other, _) => panic!("{other:?} for a get"),
        }
    }
}

/// A key's name.
pub(crate) fn name(k: u64) -> Vec<u8> {
    format!("key-{k}").into_bytes()
}

/// How many seeds a test runs: `GRAMME_SEEDS`, else a few.
pub(crate) fn seeds(usual: u64) -> u64 {
    let asked = std::env::var("GRAMME_SEEDS").ok();
    asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}
