//! The shard against a reference map, on a disk in memory that crashes, tears, reorders, rots, fails and fills up.
//!
//! Method: one client writes in a known order, so the state after each write is known. At any moment the shard must
//! answer from the present state (or say why not); after a crash its state must be that after some prefix of the writes
//! which holds every write that was acknowledged as durable.

use std::collections::BTreeMap;

use crate::base::hash;
use crate::base::ids::{NodeId, SegmentId, ShardIndex};
use crate::base::time::Now;
use crate::port::*;
use crate::ring::Slices;
use crate::shard::{Bucket, Shard, ShardConfig};
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

const BLOCK: usize = 512;

enum Pending {
    Write {
        ticket: Ticket,
        file: FileId,
        offset: usize,
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
    files: BTreeMap<FileId, Vec<u8>>,
    pending: Vec<Pending>,
    segments_max: usize,
    fail_writes: u32,
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
    fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        let held = self.files.entry(file).or_default();
        if held.len() < offset + bytes.len() {
            held.resize(offset + bytes.len(), 0);
        }
        held[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Power is lost: each write on its way is whole, torn at blocks, or lost.
    fn crash(&mut self, random: &mut Random) {
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
    pub(crate) shard: Shard,
    pub(crate) disk: Disk,
    pub(crate) random: Random,
    now: Now,
    config: ShardConfig,
    answers: BTreeMap<u64, (Outcome, Vec<u8>)>,
    next_id: u64,
    stopped: bool,
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
        capacity_bytes: segments * u64::from(segment_bytes),
        memory_bytes: 64 << 10,
        commit_interval_ns: 10_000_000,
        commits_in_flight_max: 3,
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
        let (shard, _) = Shard::open(config.clone(), now, &mut disk).expect("opens");
        let random = Random::new(seed);
        let mut bench = Self {
            shard,
            disk,
            random,
            now,
            config,
            answers: BTreeMap::new(),
            next_id: 1,
            stopped: false,
        };
        bench.turns(3);
        bench
    }

    fn reopen(&mut self) {
        self.now.wall_ms += 1;
        self.stopped = false;
        let (shard, _) = Shard::open(self.config.clone(), self.now, &mut self.disk).expect("opens");
        self.shard = shard;
        self.turns(3);
    }

    pub(crate) fn crash(&mut self) {
        self.disk.crash(&mut self.random);
        self.reopen();
    }

    pub(crate) fn stop_and_start(&mut self) {
        self.event(Event::Stop);
        for _ in 0..10_000 {
            if self.stopped {
                break;
            }
            self.turns(1);
        }
        assert!(self.stopped, "a stop ends");
        self.disk.crash(&mut self.random);
        self.reopen();
    }

    fn event(&mut self, event: Event<'_>) {
        let mut effects = Effects::default();
        self.shard.step(self.now, event, &mut effects);
        self.take(&effects);
    }

    fn take(&mut self, effects: &Effects) {
        for effect in &effects.list {
            match effect {
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
    fn complete_one(&mut self) -> bool {
        if self.disk.pending.is_empty() {
            return false;
        }
        let at = self.random.below(self.disk.pending.len() as u64) as usize;
        match self.disk.pending.swap_remove(at) {
            Pending::Write {
                ticket,
                file,
                offset,
                bytes,
            } => {
                let is_log = matches!(file, FileId::Segment(_));
                if is_log && self.disk.fail_writes > 0 {
                    self.disk.fail_writes -= 1;
                    let error = IoError {
                        kind: IoKind::Failed,
                        errno: 5,
                    };
                    self.event(Event::WriteDone {
                        ticket,
                        result: Err(error),
                    });
                } else {
                    self.disk.write(file, offset, &bytes);
                    self.event(Event::WriteDone {
                        ticket,
                        result: Ok(()),
                    });
                }
            }
            Pending::Read {
                ticket,
                file,
                offset,
                bytes,
            } => {
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
                if is_new
                    && matches!(file, FileId::Segment(_))
                    && self.disk.files.len() >= self.disk.segments_max
                {
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
        let id = self.next_id;
        self.next_id += 1;
        let token = hash::token(b"default", key);
        let request = Request {
            id: RequestId(id),
            deadline_ns: None,
            bucket: b"default",
            key,
            token,
            durability,
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

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// The writes in their order, and how many of them are certain.
#[derive(Default)]
struct History {
    base: State,
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    durable: usize,
}

fn apply(state: &mut State, write: &(Vec<u8>, Option<Vec<u8>>)) {
    match &write.1 {
        Some(value) => state.insert(write.0.clone(), value.clone()),
        None => state.remove(&write.0),
    };
}

impl History {
    fn present(&self) -> State {
        let mut state = self.base.clone();
        self.writes
            .iter()
            .for_each(|write| apply(&mut state, write));
        state
    }

    /// Which prefix the shard shows; goes on from it.
    fn settle(&mut self, bench: &mut Bench, keys: u64, seed: u64) {
        let found: State = (0..keys)
            .filter_map(|k| {
                let key = name(k);
                bench
                    .get(&key)
                    .unwrap_or_else(|e| panic!("seed {seed}: {e}"))
                    .map(|value| (key, value))
            })
            .collect();
        let mut state = self.base.clone();
        let mut fits = (self.durable == 0 && state == found).then_some(0);
        for (at, write) in self.writes.iter().enumerate() {
            apply(&mut state, write);
            if at + 1 >= self.durable && state == found {
                fits = Some(at + 1);
            }
        }
        let total = self.writes.len();
        assert!(
            fits.is_some(),
            "seed {seed}: the state is that of no prefix of at least {} of {total} writes",
            self.durable
        );
        *self = Self {
            base: found,
            writes: Vec::new(),
            durable: 0,
        };
    }
}

fn name(k: u64) -> Vec<u8> {
    format!("key-{k}").into_bytes()
}

fn value(random: &mut Random, stamp: u64) -> Vec<u8> {
    let length = if random.chance(3) {
        random.below(12_000)
    } else {
        random.below(300)
    };
    let mut value = stamp.to_le_bytes().to_vec();
    value.resize(8 + length as usize, stamp as u8);
    value
}

fn history_of(seed: u64, steps: u64) {
    let mut bench = Bench::new(seed, config(24, 64 << 10));
    let mut history = History::default();
    let keys = 20 + bench.random.below(400);
    let mut unanswered: Vec<(u64, usize, bool)> = Vec::new();
    for step in 0..steps {
        match bench.random.below(1000) {
            0..560 => {
                let key = name(bench.random.below(keys));
                let value = value(&mut bench.random, step);
                let is_durable = bench.random.chance(30);
                let id = bench.put(&key, &value, is_durable.then_some(Durability::One));
                history.writes.push((key, Some(value)));
                unanswered.push((id, history.writes.len(), is_durable));
            }
            560..640 => {
                let key = name(bench.random.below(keys));
                let is_durable = bench.random.chance(30);
                let id = bench.delete(&key, is_durable.then_some(Durability::One));
                history.writes.push((key, None));
                unanswered.push((id, history.writes.len(), is_durable));
            }
            640..860 => {
                let key = name(bench.random.below(keys));
                // A write that waits for room may be carried out after this get began: only settled keys are compared.
                let is_settled = unanswered
                    .iter()
                    .all(|(_, at, _)| history.writes[at - 1].0 != key);
                let found = bench
                    .get(&key)
                    .unwrap_or_else(|e| panic!("seed {seed} step {step}: {e}"));
                if is_settled {
                    assert_eq!(
                        found,
                        history.present().get(&key).cloned(),
                        "seed {seed} step {step}"
                    );
                }
            }
            860..990 => bench.turns(2),
            990..996 => {
                for (id, ..) in unanswered.drain(..) {
                    let (outcome, _) = bench.wait(id);
                    assert!(
                        matches!(outcome, Outcome::Written { .. }),
                        "seed {seed} step {step}: {outcome:?}"
                    );
                }
                bench.stop_and_start();
                history.durable = history.writes.len();
                history.settle(&mut bench, keys, seed);
            }
            _ => {
                bench.answers.clear();
                unanswered.clear();
                bench.crash();
                history.settle(&mut bench, keys, seed);
            }
        }
        unanswered.retain(|(id, at, is_durable)| match bench.answers.remove(id) {
            None => true,
            Some((Outcome::Written { .. }, _)) => {
                if *is_durable {
                    history.durable = history.durable.max(*at);
                }
                false
            }
            Some((outcome, _)) => panic!("seed {seed} step {step}: {outcome:?}"),
        });
        // Writes are handed in one after the other: one that waits holds up the next, so that the order is known.
        while let Some((id, at, is_durable)) = unanswered
            .first()
            .copied()
            .filter(|_| bench.shard.status().requests_waiting > 0)
        {
            let (outcome, _) = bench.wait(id);
            assert!(
                matches!(outcome, Outcome::Written { .. }),
                "seed {seed} step {step}: {outcome:?}"
            );
            if is_durable {
                history.durable = history.durable.max(at);
            }
            unanswered.remove(0);
        }
    }
    let status = bench.shard.status();
    assert_eq!(status.damage, [], "seed {seed}: no damage was made");
}

#[test]
fn every_crash_leaves_a_prefix_that_holds_what_was_acknowledged_as_durable() {
    let seeds = std::env::var("GRAMME_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(30);
    for seed in 0..seeds {
        history_of(seed, 4_000);
    }
}
