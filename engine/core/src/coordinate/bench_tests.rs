//! Several shards of one each, on disks in memory, with a network that a test can cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::durability::Durability;
use crate::base::hash;
use crate::base::ids::{NodeId, SegmentId, ShardIndex};
use crate::base::time::Now;
use crate::port::{
    Condition, ContextArg, Effect, Effects, Event, Expiry, FileId, IoError, Note, Op, Outcome,
    Peer, Put, Quorum, Request, RequestId, Send, Source,
};
use crate::replica::{Bucket, ShardConfig};
use crate::ring::{BucketView, NodeView, PartitionView, RingView, Slices};
use crate::shard::Shard;
use crate::version::{BlindPut, Conflict, ObjectView};

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

struct Node {
    shard: Shard,
    disk: Disk,
}

pub(super) struct Net {
    nodes: Vec<Node>,
    pub(super) now: Now,
    queue: VecDeque<(usize, Send, Arc<Vec<u8>>)>,
    answers: BTreeMap<u64, (Outcome, Vec<u8>)>,
    next_id: u64,
    /// Nodes that neither send nor receive.
    pub(super) cut: BTreeSet<usize>,
    /// Nodes that every view calls dead.
    pub(super) dead: BTreeSet<usize>,
    targets: usize,
}

fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

impl Net {
    /// So many nodes, of which the first `targets` hold everything.
    pub(super) fn new(count: usize, targets: usize) -> Self {
        let now = Now {
            mono_ns: 1,
            wall_ms: 1_700_000_000_000,
        };
        let nodes = (0..count)
            .map(|node| {
                let config = ShardConfig {
                    node: id_of(node),
                    shard: ShardIndex(0),
                    slices: Slices::new(16, 1).expect("a power of two"),
                    tag_seed: node as u64,
                    buckets: vec![Bucket::new(b"default")],
                    segment_bytes: 1 << 20,
                    block_bytes: 4096,
                    capacity_bytes: 64 << 20,
                    memory_bytes: 8 << 20,
                    commit_interval_ns: 1_000_000,
                    commits_in_flight_max: 4,
                    checkpoint_bytes: 1 << 40,
                    requests_max: 10_000,
                    value_bytes_max: 1 << 16,
                    clock_drift_ms_max: 500,
                    clean_bytes_per_s: 128 << 20,
                };
                let mut disk = Disk::default();
                let (shard, _) = Shard::open(config, now, &mut disk).expect("it opens");
                Node { shard, disk }
            })
            .collect();
        let mut net = Self {
            nodes,
            now,
            queue: VecDeque::new(),
            answers: BTreeMap::new(),
            next_id: 0,
            cut: BTreeSet::new(),
            dead: BTreeSet::new(),
            targets,
        };
        net.publish();
        net.run(20);
        net
    }

    /// Gives every node its view.
    pub(super) fn publish(&mut self) {
        let count = self.nodes.len() as u16;
        let targets = self.targets as u16;
        let row = PartitionView {
            read: (0..targets).collect(),
            write: (0..targets).collect(),
            stand_ins: (targets..count).collect(),
            ..PartitionView::default()
        };
        let partitions = Arc::new(vec![row; 16]);
        for me in 0..self.nodes.len() {
            let view = RingView {
                epoch: 1,
                cluster: 1,
                me: id_of(me),
                slices: Slices::new(16, 1).expect("a power of two"),
                nodes: (0..self.nodes.len())
                    .map(|node| NodeView {
                        id: id_of(node),
                        address: String::new(),
                        zone: format!("z{node}"),
                        shards: 1,
                        is_alive: !self.dead.contains(&node),
                    })
                    .collect(),
                partitions: Arc::clone(&partitions),
                buckets: vec![BucketView {
                    name: b"default".to_vec(),
                    n: 3,
                    r: 2,
                    w: 2,
                    durability: Durability::Buffered,
                    conflict: Conflict::Siblings,
                    blind_put: BlindPut::Latest,
                    ttl_ms: None,
                }],
            };
            self.step(me, Event::Note(Note::View(Arc::new(view))));
        }
    }

    fn step(&mut self, node: usize, event: Event<'_>) {
        let mut effects = Effects::default();
        self.nodes[node].shard.step(self.now, event, &mut effects);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, at: usize, mut effects: Effects) {
        let mut done: Vec<(u8, crate::port::Ticket, Vec<u8>)> = Vec::new();
        for effect in effects.list.drain(..) {
            let node = &mut self.nodes[at];
            match effect {
                Effect::Reply { id, outcome } => {
                    let former = self.answers.insert(id.0, (outcome, effects.bytes.clone()));
                    assert!(former.is_none(), "one answer for {id:?}");
                }
                Effect::Write {
                    ticket,
                    file,
                    offset,
                    data,
                } => {
                    let bytes = node.shard.log_bytes(data).to_vec();
                    let held = node.disk.0.entry(file).or_default();
                    let end = offset as usize + bytes.len();
                    if held.len() < end {
                        held.resize(end, 0);
                    }
                    held[offset as usize..end].copy_from_slice(&bytes);
                    done.push((0, ticket, Vec::new()));
                }
                Effect::Read {
                    ticket,
                    file,
                    offset,
                    bytes,
                    ..
                } => {
                    let held = node.disk.0.entry(file).or_default();
                    let end = held.len().min((offset + u64::from(bytes)) as usize);
                    done.push((1, ticket, held[(offset as usize).min(end)..end].to_vec()));
                }
                Effect::Prepare {
                    ticket,
                    file,
                    bytes,
                    ..
                } => {
                    let held = node.disk.0.entry(file).or_default();
                    held.resize(bytes as usize, 0);
                    done.push((2, ticket, Vec::new()));
                }
                Effect::Remove { file } => {
                    node.disk.0.remove(&file);
                }
                Effect::Applied { .. } => unreachable!("the shard keeps these"),
                Effect::Stopped => {}
            }
        }
        let bytes = Arc::new(core::mem::take(&mut effects.bytes));
        for send in effects.sends.drain(..) {
            self.queue.push_back((at, send, Arc::clone(&bytes)));
        }
        for (kind, ticket, bytes) in done {
            let event = match kind {
                0 => Event::WriteDone {
                    ticket,
                    result: Ok(()),
                },
                1 => Event::ReadDone {
                    ticket,
                    result: Ok(&bytes),
                },
                _ => Event::PrepareDone {
                    ticket,
                    result: Ok(()),
                },
            };
            self.step(at, event);
        }
    }

    /// Lets so many milliseconds pass.
    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now.mono_ns += 1_000_000;
            self.now.wall_ms += 1;
            for node in 0..self.nodes.len() {
                let due = self.nodes[node].shard.next_deadline_ns();
                if due.is_some_and(|at_ns| at_ns <= self.now.mono_ns) {
                    self.step(node, Event::Tick);
                }
                self.step(node, Event::TurnEnd);
            }
            while let Some((from, send, bytes)) = self.queue.pop_front() {
                let to = (send.to.0 - 1) as usize;
                if self.cut.contains(&from) || self.cut.contains(&to) {
                    continue;
                }
                let message = send.message.map(&|range| range.of(&bytes));
                let peer = Peer {
                    node: id_of(from),
                    shard: ShardIndex(0),
                };
                self.step(
                    to,
                    Event::Message {
                        from: peer,
                        message,
                    },
                );
            }
        }
    }

    /// Sends a request to a node; the id of its answer.
    pub(super) fn send(&mut self, node: usize, key: &[u8], quorum: Quorum, op: Op<'_>) -> u64 {
        self.next_id += 1;
        let request = Request {
            id: RequestId(self.next_id),
            deadline_ns: Some(self.now.mono_ns + 3_000_000_000),
            bucket: b"default",
            key,
            token: hash::token(b"default", key),
            durability: None,
            quorum,
            wants_object: false,
            is_forwarded: false,
            op,
        };
        self.step(node, Event::Request(request));
        self.next_id
    }

    pub(super) fn answer(&mut self, id: u64) -> Option<(Outcome, Vec<u8>)> {
        self.answers.remove(&id)
    }

    /// A request and its answer.
    pub(super) fn ask(&mut self, node: usize, key: &[u8], op: Op<'_>) -> (Outcome, Vec<u8>) {
        let id = self.send(node, key, Quorum::default(), op);
        for _ in 0..100 {
            if let Some(answer) = self.answer(id) {
                return answer;
            }
            self.run(50);
        }
        panic!("no answer in five seconds");
    }

    /// A put with a context (empty: blind); the context it returned.
    pub(super) fn put(&mut self, node: usize, key: &[u8], context: &[u8], value: &[u8]) -> Vec<u8> {
        let (outcome, bytes) = self.ask(node, key, put_op(context, value));
        match outcome {
            Outcome::Written { context, .. } => context.expect("asked for").of(&bytes).to_vec(),
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The values that a read through this node shows, sorted.
    pub(super) fn get(&mut self, node: usize, key: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (outcome, bytes) = self.ask(node, key, Op::Get);
        match outcome {
            Outcome::Absent { .. } => (Vec::new(), Vec::new()),
            Outcome::Object {
                object, key_hash, ..
            } => {
                let view = ObjectView::parse(object.of(&bytes)).expect("an object");
                let mut context = Vec::new();
                view.encode_client_context(key_hash, &mut context);
                let mut values: Vec<Vec<u8>> = view
                    .live(self.now.wall_ms)
                    .filter_map(|sibling| sibling.content.value().map(<[u8]>::to_vec))
                    .collect();
                values.sort();
                (context, values)
            }
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The fingerprint that a node's own replica holds.
    pub(super) fn held(&mut self, node: usize, key: &[u8]) -> u64 {
        let op = Op::Fetch {
            wants_object: false,
        };
        match self.ask(node, key, op).0 {
            Outcome::Held(held) => held.fingerprint,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(super) fn lose(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if other != node {
                self.step(other, Event::PeerLost(id_of(node)));
            }
        }
    }

    pub(super) fn stats(&self, node: usize) -> crate::coordinate::CoordinateStats {
        self.nodes[node].shard.coordinate_stats()
    }
}

pub(super) fn put_op<'a>(context: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op::Put(Put {
        context: if context.is_empty() {
            ContextArg::Blind
        } else {
            ContextArg::Opaque(context)
        },
        value,
        expiry: Expiry::Default,
        condition: Condition::Always,
        want_previous: false,
        want_context: true,
        write_id: None,
    })
}
