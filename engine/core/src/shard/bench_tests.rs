//! One shard on a disk in memory, for tests of several together: what it asks of the disk is done before its step ends,
//! and what it asks of others is left to the test.

use std::sync::Arc;

use crate::base::ids::{NodeId, ShardIndex};
use crate::base::time::Now;
use crate::port::{
    Effect, Effects, Event, IoError, IoKind, Note, Outcome, RequestId, Send, Source, Ticket,
};
use crate::replica::bench_tests::Disk;
use crate::replica::{Bucket, ShardConfig};
use crate::ring::Slices;
use crate::shard::Shard;

/// How a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum DiskIs {
    #[default]
    Well,
    /// It gives no more space.
    Full,
    /// It answers no read.
    Silent,
    /// Every write fails.
    Broken,
    /// Every write stays on its way.
    Stuck,
}

/// One shard and its disk.
pub(crate) struct Core {
    pub(crate) shard: Shard,
    pub(crate) disk: Disk,
    pub(crate) disk_is: DiskIs,
    /// Writes that stay on their way.
    stuck: Vec<Effect>,
    config: ShardConfig,
}

/// What a step asks of others, in order, each with the bytes that it refers to.
#[derive(Default)]
pub(crate) struct Outside {
    pub(crate) replies: Vec<(RequestId, Outcome, Arc<Vec<u8>>)>,
    pub(crate) sends: Vec<(Send, Arc<Vec<u8>>)>,
    pub(crate) notes: Vec<(ShardIndex, Note)>,
    pub(crate) reports: Vec<String>,
}

/// What a disk says of an operation that is over.
enum Done {
    Write(Result<(), IoError>),
    Read(Vec<u8>),
    Prepare(Result<(), IoError>),
}

/// One of a node's shards; all have 16 partitions.
pub(crate) fn config(node: NodeId, shard: usize, shards: usize) -> ShardConfig {
    ShardConfig {
        node,
        shard: ShardIndex(shard as u16),
        slices: slices(shards),
        tag_seed: node.0,
        buckets: vec![Bucket::new(b"default")],
        segment_bytes: 1 << 20,
        block_bytes: 4096,
        read_align_bytes: 512,
        capacity_bytes: 64 << 20,
        memory_bytes: 8 << 20,
        commit_interval_ns: 1_000_000,
        commits_in_flight_max: 4,
        checkpoint_bytes: 1 << 40,
        requests_max: 10_000,
        value_bytes_max: 1 << 16,
        clock_drift_ms_max: 500,
        clean_bytes_per_s: 128 << 20,
        scrub_ns: 0,
    }
}

/// How a node's shards share its partitions.
pub(crate) fn slices(shards: usize) -> Slices {
    Slices::new(16, shards as u16).expect("a power of two")
}

impl Core {
    /// On an empty disk.
    pub(crate) fn new(config: ShardConfig, now: Now) -> Self {
        let mut disk = Disk::default();
        Self {
            shard: open(&config, now, &mut disk),
            disk,
            disk_is: DiskIs::Well,
            stuck: Vec::new(),
            config,
        }
    }

    /// It is killed and starts again from its disk: what was not written by then is gone.
    pub(crate) fn restart(&mut self, now: Now) {
        self.stuck.clear();
        self.shard = open(&self.config, now, &mut self.disk);
    }

    pub(crate) fn step(&mut self, now: Now, event: Event<'_>, outside: &mut Outside) {
        if self.disk_is != DiskIs::Stuck {
            let list = core::mem::take(&mut self.stuck);
            let stuck = Effects {
                list,
                ..Effects::default()
            };
            self.carry_out(now, stuck, outside);
        }
        let mut effects = Effects::default();
        self.shard.step(now, event, &mut effects);
        self.carry_out(now, effects, outside);
    }

    /// Does what effects ask of the disk, steps the shard with each end, and gathers the rest.
    pub(crate) fn carry_out(&mut self, now: Now, mut effects: Effects, outside: &mut Outside) {
        let bytes = Arc::new(core::mem::take(&mut effects.bytes));
        let mut done = Vec::new();
        for effect in effects.list.drain(..) {
            if let Effect::Reply { id, outcome } = effect {
                outside.replies.push((id, outcome, Arc::clone(&bytes)));
            } else {
                done.extend(self.ended(effect));
            }
        }
        let sends = effects.sends.drain(..);
        outside
            .sends
            .extend(sends.map(|send| (send, Arc::clone(&bytes))));
        outside.notes.append(&mut effects.notes);
        outside.reports.append(&mut effects.reports);
        for (ticket, done) in done {
            match done {
                Done::Write(result) => {
                    self.step(now, Event::WriteDone { ticket, result }, outside);
                }
                Done::Read(bytes) => {
                    let result = Ok(bytes.as_slice());
                    self.step(now, Event::ReadDone { ticket, result }, outside);
                }
                Done::Prepare(result) => {
                    self.step(now, Event::PrepareDone { ticket, result }, outside);
                }
            }
        }
    }

    /// Does an operation of the disk; what it says at the end, if it comes to one.
    fn ended(&mut self, effect: Effect) -> Option<(Ticket, Done)> {
        let failed = |kind, errno| Err(IoError { kind, errno });
        match effect {
            Effect::Write { .. } if self.disk_is == DiskIs::Stuck => {
                self.stuck.push(effect);
                None
            }
            Effect::Write { ticket, .. } if self.disk_is == DiskIs::Broken => {
                Some((ticket, Done::Write(failed(IoKind::Failed, 5))))
            }
            Effect::Write {
                ticket,
                file,
                offset,
                data,
            } => {
                let bytes = self.shard.log_bytes(data);
                self.disk.write(file, offset as usize, bytes);
                Some((ticket, Done::Write(Ok(()))))
            }
            Effect::Read { .. } if self.disk_is == DiskIs::Silent => None,
            Effect::Read {
                ticket,
                file,
                offset,
                bytes,
                ..
            } => {
                let mut read = vec![0; bytes as usize];
                let count = self.disk.read(file, offset, &mut read);
                read.truncate(count.expect("it fails no read"));
                Some((ticket, Done::Read(read)))
            }
            Effect::Prepare { ticket, .. } if self.disk_is == DiskIs::Full => {
                Some((ticket, Done::Prepare(failed(IoKind::Full, 28))))
            }
            Effect::Prepare {
                ticket,
                file,
                bytes,
                ..
            } => {
                let held = self.disk.files.entry(file).or_default();
                held.resize(bytes as usize, 0);
                Some((ticket, Done::Prepare(Ok(()))))
            }
            Effect::Remove { file } => {
                self.disk.files.remove(&file);
                None
            }
            Effect::Applied { .. } => unreachable!("the shard keeps these"),
            Effect::Stopped | Effect::Reply { .. } => None,
        }
    }
}

fn open(config: &ShardConfig, now: Now, disk: &mut Disk) -> Shard {
    let opened = Shard::open(config.clone(), now, disk);
    opened.expect("it opens").0
}
