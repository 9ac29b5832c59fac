//! Crashes of a node with several shards: what each client wrote, in its order and through whatever shard, must be left
//! as a prefix.
//!
//! Method: clients write one after the other, each waiting for its answer, to keys of random shards; shards run, commit
//! and lose what is on its way each by itself. After a crash each client's keys must hold what they held after some
//! prefix of its writes. What the shards tell each other goes through [`Node::step`] as the runtime does it.

use std::collections::BTreeMap;

use crate::base::hash;
use crate::base::ids::{SegmentId, ShardIndex};
use crate::port::{Durability, Event, FileId, Outcome};
use crate::replica::bench_tests::{Bench, Random, config, seeds};
use crate::replica::{Replica, ShardConfig};
use crate::ring::Slices;
use crate::store::cut::{Tail, consistent};
use crate::store::format::{BATCH_HEADER_BYTES, BatchHeader};

/// What is on its way to the disk this long is not lost by a crash of this bench.
const LOST_MS_MAX: u64 = 1_000;

/// What a test breaks, to see that it would be found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// No log is cut.
    Cut,
    /// What others have begun is not told.
    Told,
}

struct Client {
    keys: u64,
    durability: Option<Durability>,
    /// What its keys held at the last start, and the writes since: (key, stamp, when it was answered).
    base: BTreeMap<u64, u64>,
    writes: Vec<(u64, u64, Option<u64>)>,
    waits: Option<(usize, u64)>,
}

struct Node {
    shards: Vec<Bench>,
    clients: Vec<Client>,
    random: Random,
    // what the shards share while they run
    tick: u64,
    begun: Vec<u64>,
    /// `None`: nothing is on its way.
    pending: Vec<Option<u64>>,
    seen: Vec<u64>,
    version: u64,
    stamp: u64,
    broken: Broken,
    cut_batches: u64,
}

fn shard_config(shard: usize, shards: usize) -> ShardConfig {
    ShardConfig {
        shard: ShardIndex(shard as u16),
        slices: Slices::new(16, shards as u16).expect("valid"),
        ..config(16, 64 << 10)
    }
}

impl Node {
    fn new(seed: u64, broken: Broken) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(3) as usize;
        let is_mixed = random.chance(30);
        let shards: Vec<Bench> = (0..count)
            .map(|shard| {
                let mut bench = Bench::new(seed * 8 + shard as u64, shard_config(shard, count));
                bench.now.mono_ns += 1_000_000_000;
                bench.turns(1);
                bench
            })
            .collect();
        let clients = (0..4).map(|client| Client {
            keys: 1 + random.below(60),
            durability: (is_mixed && client < 2).then_some(Durability::One),
            base: BTreeMap::new(),
            writes: Vec::new(),
            waits: None,
        });
        let clients = clients.collect();
        let mut node = Self {
            shards,
            clients,
            random,
            tick: 0,
            begun: vec![0; count],
            pending: vec![None; count],
            seen: vec![u64::MAX; count],
            version: 0,
            stamp: 0,
            broken,
            cut_batches: 0,
        };
        (0..count).for_each(|shard| node.publish(shard));
        node
    }

    /// Whether a durable write may keep what other clients wrote before it through the same shard.
    fn is_mixed(&self) -> bool {
        self.clients
            .iter()
            .any(|client| client.durability.is_some())
    }

    /// As the runtime: told before, asked after.
    fn tell(&mut self, shard: usize) {
        if self.seen[shard] != self.version && self.broken != Broken::Told {
            self.seen[shard] = self.version;
            let event = Event::Begun {
                tick: self.tick,
                batches: &self.begun,
            };
            self.shards[shard].event(event);
        }
    }

    fn publish(&mut self, shard: usize) {
        let bench = &self.shards[shard].shard;
        let (batch, tick) = bench.begun();
        self.pending[shard] = bench.pending_tick();
        if batch.0 != self.begun[shard] {
            self.tick = self.tick.max(tick);
            self.begun[shard] = batch.0;
            self.version += 1;
        }
    }

    fn turn(&mut self, shard: usize) {
        let (mono_ns, wall_ms) = self.latest();
        let bench = &mut self.shards[shard];
        // Clocks agree but for how long a turn has lasted.
        bench.now.mono_ns = bench.now.mono_ns.max(mono_ns.saturating_sub(15_000_000));
        bench.now.wall_ms = bench.now.wall_ms.max(wall_ms - 15);
        let tick = bench.shard.commit_tick(bench.now.mono_ns);
        if bench.shard.awaits_others() {
            self.tick = self.tick.max(tick);
            let settled = self.pending.iter().map(|p| p.unwrap_or(self.tick) - 1);
            let tick = settled.min().unwrap_or(0);
            self.tell(shard);
            self.shards[shard].event(Event::Settled { tick });
        }

        self.shards[shard].turns(1);
        self.publish(shard);
    }

    fn latest(&self) -> (u64, u64) {
        let mono_ns = self.shards.iter().map(|s| s.now.mono_ns).max().unwrap_or(0);
        let wall_ms = self.shards.iter().map(|s| s.now.wall_ms).max().unwrap_or(0);
        (mono_ns, wall_ms)
    }

    fn owner(&self, client: usize, key: u64) -> usize {
        let token = hash::token(b"default", &key_name(client, key));
        usize::from(self.shards[0].config.slices.shard_of(token).0)
    }

    fn write(&mut self, client: usize) {
        self.stamp += 1;
        let stamp = self.stamp;
        let length = if self.random.chance(5) {
            6_000
        } else {
            8 + self.random.below(200)
        };
        let mut value = stamp.to_le_bytes().to_vec();
        value.resize(length.max(8) as usize, 7);
        let key = self.random.below(self.clients[client].keys);
        let shard = self.owner(client, key);
        self.tell(shard);
        let durability = self.clients[client].durability;
        let id = self.shards[shard].put(&key_name(client, key), &value, durability);
        self.publish(shard);
        let client = &mut self.clients[client];
        client.writes.push((key, stamp, None));
        client.waits = Some((shard, id));
    }

    fn answers(&mut self, seed: u64) {
        let now_ms = self.latest().1;
        for client in &mut self.clients {
            let Some((shard, id)) = client.waits else {
                continue;
            };
            match self.shards[shard].answers.remove(&id) {
                None => {}
                Some((Outcome::Written { .. }, _)) => {
                    client.waits = None;
                    if let Some(write) = client.writes.last_mut() {
                        write.2 = Some(now_ms);
                    }
                }
                Some((outcome, _)) => panic!("seed {seed}: {outcome:?}"),
            }
        }
    }

    /// All shards lose what is on its way; they start as the runtime starts them.
    fn crash(&mut self, seed: u64) {
        for bench in &mut self.shards {
            bench.disk.crash(&mut self.random);
            bench.answers.clear();
        }
        self.start(seed);
    }

    fn start(&mut self, seed: u64) {
        let tails: Vec<Tail> = self.shards.iter_mut().map(survey).collect();
        let stay = consistent(&tails);
        if self.broken != Broken::Cut {
            for ((bench, tail), stay) in self.shards.iter_mut().zip(&tails).zip(stay) {
                for batch in tail.batches.iter().skip(stay).rev() {
                    self.cut_batches += 1;
                    mark(bench, batch.segment, batch.offset);
                }
            }
        }
        for shard in 0..self.shards.len() {
            self.begun[shard] = 0;
            self.pending[shard] = None;
            self.seen[shard] = u64::MAX;
        }
        self.tick = 0;
        for shard in 0..self.shards.len() {
            self.shards[shard].reopen();
            let report = &self.shards[shard].report;
            assert!(report.damage.is_empty(), "seed {seed}: no damage was made");
            self.publish(shard);
        }
        let now_ms = self.latest().1;
        for client in 0..self.clients.len() {
            self.settle(client, now_ms, seed);
        }
    }

    /// Which prefix the client's keys show; it goes on from there.
    fn settle(&mut self, client: usize, now_ms: u64, seed: u64) {
        let mut found = BTreeMap::new();
        for key in 0..self.clients[client].keys {
            let shard = self.owner(client, key);
            let value = self.shards[shard].get(&key_name(client, key));
            if let Some(value) = value.unwrap_or_else(|e| panic!("seed {seed}: {e}")) {
                let stamp = value
                    .first_chunk()
                    .map_or(0, |stamp| u64::from_le_bytes(*stamp));
                found.insert(key, stamp);
            }
        }
        let is_mixed = self.is_mixed();
        let client = &mut self.clients[client];
        let is_sure = |at: &Option<u64>| match (client.durability, at) {
            (Some(Durability::One), Some(_)) => true,
            (_, Some(at)) => at + LOST_MS_MAX < now_ms,
            (_, None) => false,
        };
        let sure = client
            .writes
            .iter()
            .rposition(|(.., at)| is_sure(at))
            .map_or(0, |at| at + 1);
        let mut state = client.base.clone();
        let mut fits = sure == 0 && state == found;
        for (at, (key, stamp, _)) in client.writes.iter().enumerate() {
            state.insert(*key, *stamp);
            fits |= at + 1 >= sure && state == found;
        }
        // A durable write keeps the buffered ones before it in its log, and not those of other shards.
        let is_exempt = is_mixed && client.durability.is_none();
        assert!(
            fits || is_exempt,
            "seed {seed}: what is left is no prefix of at least {sure} of {:?}: {found:?}",
            client.writes
        );
        client.base = found;
        client.writes.clear();
        client.waits = None;
    }

    fn stop(&mut self) {
        for shard in 0..self.shards.len() {
            self.shards[shard].event(Event::Stop);
            self.publish(shard);
        }
        for _ in 0..20_000 {
            (0..self.shards.len()).for_each(|shard| self.turn(shard));
            if self.shards.iter().all(|bench| bench.stopped) {
                return;
            }
        }
        panic!("a stop ends");
    }
}

fn key_name(client: usize, key: u64) -> Vec<u8> {
    format!("{client}:{key}").into_bytes()
}

fn survey(bench: &mut Bench) -> Tail {
    let opened = Replica::open(bench.config.clone(), bench.now, &mut bench.disk);
    opened.expect("opens").1.tail
}

fn mark(bench: &mut Bench, segment: SegmentId, offset: u32) {
    let file = bench
        .disk
        .files
        .get_mut(&FileId::Segment(segment))
        .expect("it was read");
    let at = offset as usize..offset as usize + BATCH_HEADER_BYTES;
    let header = BatchHeader::decode(&file[at.clone()]).expect("it was read");
    let cut = BatchHeader {
        is_cut: true,
        ..header
    };
    file[at].copy_from_slice(&cut.encode());
}

/// Returns how many batches were cut.
fn history_of(seed: u64, steps: u64, broken: Broken) -> u64 {
    let mut node = Node::new(seed, broken);
    for _ in 0..steps {
        let at = node.random.below(1000);
        let shard = node.random.below(node.shards.len() as u64) as usize;
        let client = node.random.below(node.clients.len() as u64) as usize;
        match at {
            0..500 if node.clients[client].waits.is_none() => node.write(client),
            0..995 => node.turn(shard),
            995..997 => {
                node.stop();
                node.answers(seed);
                node.start(seed);
            }
            _ => node.crash(seed),
        }
        node.answers(seed);
    }
    node.shards.iter().for_each(Bench::check_sums);
    node.cut_batches
}

#[test]
fn every_crash_of_a_node_leaves_a_prefix_of_what_each_client_wrote() {
    let cut: u64 = (0..seeds(20))
        .map(|seed| history_of(seed, 4_000, Broken::Nothing))
        .sum();
    assert!(
        cut > 0,
        "no crash came between two shards: this tests nothing"
    );
}

#[test]
fn a_node_that_cuts_nothing_or_is_told_nothing_is_found_out() {
    for broken in [Broken::Cut, Broken::Told] {
        let found = (0..30)
            .any(|seed| std::panic::catch_unwind(|| history_of(seed, 4_000, broken)).is_err());
        assert!(found, "30 seeds found no fault");
    }
}
