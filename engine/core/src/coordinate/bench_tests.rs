//! Several shards of one each, on disks in memory, with a network that a test can cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::durability::Durability;
use crate::base::hash;
use crate::base::ids::{NodeId, ShardIndex, Token};
use crate::base::time::Now;
use crate::port::{
    Condition, ContextArg, Effect, Effects, Event, Expiry, FileId, IoError, IoKind, Lane, Message,
    Note, Op, Outcome, Peer, Put, Quorum, Request, RequestId, Send,
};
use crate::replica::bench_tests::Disk;
use crate::replica::{Bucket, ShardConfig};
use crate::ring::{BucketView, NodeView, PartitionView, RingView, Slices};
use crate::shard::{PaceConfig, Shard, ShardStatus};
use crate::version::{BlindPut, Conflict, ObjectView};

/// One shard and its disk.
struct Core {
    shard: Shard,
    disk: Disk,
}

struct Node {
    cores: Vec<Core>,
}

/// Where a shard is: its node and its number there.
type At = (usize, usize);

pub(crate) struct Net {
    nodes: Vec<Node>,
    pub(crate) now: Now,
    queue: VecDeque<(At, Send, Arc<Vec<u8>>)>,
    answers: BTreeMap<u64, (Outcome, Vec<u8>)>,
    next_id: u64,
    /// Nodes that neither send nor receive.
    pub(crate) cut: BTreeSet<usize>,
    /// Nodes at which nothing listens: whoever sends to one hears a moment later that its connection is no more.
    pub(crate) down: BTreeSet<usize>,
    refused: Vec<(At, NodeId)>,
    /// Nodes whose disk gives no more space.
    pub(crate) without_room: BTreeSet<usize>,
    /// Nodes whose disk answers no read.
    pub(crate) stuck: BTreeSet<usize>,
    /// Nodes whose messages are late: they stay on their way.
    pub(crate) late: BTreeSet<usize>,
    /// Nodes that every view calls dead.
    pub(crate) dead: BTreeSet<usize>,
    /// Nodes that every view says take no values.
    pub(crate) full: BTreeSet<usize>,
    /// Zones of nodes that have none of their own.
    pub(crate) zones: BTreeMap<usize, usize>,
    /// Nodes that no view names any more.
    pub(crate) removed: BTreeSet<usize>,
    /// What every view says of every partition.
    pub(crate) row: PartitionView,
    /// Partitions of which it says something else.
    pub(crate) rows: BTreeMap<usize, PartitionView>,
    /// Nodes that are to bring their copies up.
    pub(crate) pending: BTreeSet<usize>,
    /// Nodes that are to let go.
    pub(crate) draining: BTreeSet<usize>,
    /// Messages that are on their way stay there.
    pub(crate) is_slow: bool,
    /// How long a turn takes, as the shards are told.
    pub(crate) turn_ns: u64,
    /// Of a thousand messages, so many are lost.
    pub(crate) lost_of_1000: u64,
    random: u64,
    pub(crate) epoch: u64,
    /// What shards told the control shard.
    pub(crate) notes: Vec<(usize, Note)>,
    /// What nodes said in their logs.
    pub(crate) reports: Vec<(usize, String)>,
    /// How many messages were sent, by their kind.
    pub(crate) sent: BTreeMap<&'static str, u64>,
}

fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn config_of(node: usize, shard: usize, shards: usize) -> ShardConfig {
    ShardConfig {
        node: id_of(node),
        shard: ShardIndex(shard as u16),
        slices: Slices::new(16, shards as u16).expect("a power of two"),
        tag_seed: node as u64,
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
    }
}

fn kind_of<B>(message: &Message<B>) -> &'static str {
    match message {
        Message::Apply { .. } => "apply",
        Message::Applied { .. } => "applied",
        Message::Fetch { .. } => "fetch",
        Message::Fetched { .. } => "fetched",
        Message::Request { .. } => "request",
        Message::Outcome { .. } => "outcome",
        Message::Compare { .. } => "compare",
        Message::Compared { .. } => "compared",
        Message::Pull { .. } => "pull",
        Message::Records { .. } => "records",
        Message::Reap { .. } => "reap",
        Message::Reaped { .. } => "reaped",
        Message::Gossip { .. } => "gossip",
    }
}

impl Net {
    /// So many nodes, of which the first `targets` hold everything.
    pub(crate) fn new(count: usize, targets: usize) -> Self {
        Self::with_shards(&vec![1; count], targets)
    }

    /// A node for each number of shards.
    pub(crate) fn with_shards(shards: &[usize], targets: usize) -> Self {
        let now = Now {
            mono_ns: 1,
            wall_ms: 1_700_000_000_000,
        };
        let open = |(node, shards): (usize, &usize)| Node {
            cores: (0..*shards)
                .map(|shard| {
                    let mut disk = Disk::default();
                    let config = config_of(node, shard, *shards);
                    let (shard, _) = Shard::open(config, now, &mut disk).expect("it opens");
                    Core { shard, disk }
                })
                .collect(),
        };
        let count = shards.len() as u16;
        let mut net = Self {
            nodes: shards.iter().enumerate().map(open).collect(),
            now,
            queue: VecDeque::new(),
            answers: BTreeMap::new(),
            next_id: 0,
            cut: BTreeSet::new(),
            down: BTreeSet::new(),
            refused: Vec::new(),
            without_room: BTreeSet::new(),
            stuck: BTreeSet::new(),
            late: BTreeSet::new(),
            dead: BTreeSet::new(),
            full: BTreeSet::new(),
            zones: BTreeMap::new(),
            removed: BTreeSet::new(),
            row: PartitionView {
                read: (0..targets as u16).collect(),
                write: (0..targets as u16).collect(),
                stand_ins: (targets as u16..count).collect(),
                ..PartitionView::default()
            },
            rows: BTreeMap::new(),
            pending: BTreeSet::new(),
            draining: BTreeSet::new(),
            is_slow: false,
            turn_ns: 0,
            lost_of_1000: 0,
            random: 1,
            epoch: 0,
            notes: Vec::new(),
            reports: Vec::new(),
            sent: BTreeMap::new(),
        };
        net.publish();
        net.run(20);
        net
    }

    /// What `me` knows of the cluster. Removed nodes must be the last ones, so that numbers stay.
    fn view_of(&self, me: usize) -> RingView {
        let row = |partition| PartitionView {
            is_pending_here: self.pending.contains(&me),
            is_draining_here: self.draining.contains(&me),
            is_move_known: true,
            ..self.rows.get(&partition).unwrap_or(&self.row).clone()
        };
        RingView {
            epoch: self.epoch,
            cluster: 1,
            me: id_of(me),
            slices: Slices::new(16, self.nodes[me].cores.len() as u16).expect("a power of two"),
            nodes: (0..self.nodes.len())
                .filter(|node| !self.removed.contains(node))
                .map(|node| NodeView {
                    id: id_of(node),
                    address: String::new(),
                    zone: format!("z{}", self.zones.get(&node).unwrap_or(&node)),
                    shards: self.nodes[node].cores.len() as u16,
                    is_alive: !self.dead.contains(&node),
                    takes_values: !self.full.contains(&node),
                })
                .collect(),
            partitions: Arc::new((0..16).map(row).collect()),
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
        }
    }

    /// Gives every node its view.
    pub(crate) fn publish(&mut self) {
        self.epoch += 1;
        for me in 0..self.nodes.len() {
            self.publish_to(me);
        }
    }

    fn publish_to(&mut self, me: usize) {
        let view = Arc::new(self.view_of(me));
        self.note(me, &Note::View(view));
    }

    /// Gives one node a view of its own, with this row for every partition.
    pub(crate) fn tell(&mut self, node: usize, row: PartitionView) {
        let usual = core::mem::replace(&mut self.row, row);
        self.publish_to(node);
        self.row = usual;
    }

    /// Sets the background's pace everywhere.
    pub(crate) fn set_pace(&mut self, config: PaceConfig) {
        for core in self.nodes.iter_mut().flat_map(|node| &mut node.cores) {
            core.shard.set_pace(config);
        }
    }

    /// What the first shard of a node says of itself.
    pub(crate) fn status(&self, node: usize) -> ShardStatus {
        self.nodes[node].cores[0].shard.status()
    }

    /// A note to all shards of a node.
    pub(crate) fn note(&mut self, node: usize, note: &Note) {
        for shard in 0..self.nodes[node].cores.len() {
            self.step((node, shard), Event::Note(note.clone()));
        }
    }

    /// The node is killed and starts again from its disks: what was not written by then is gone.
    pub(crate) fn restart(&mut self, node: usize) {
        self.queue
            .retain(|(from, send, _)| from.0 != node && send.to != id_of(node));
        let shards = self.nodes[node].cores.len();
        for shard in 0..shards {
            let core = &mut self.nodes[node].cores[shard];
            let config = config_of(node, shard, shards);
            let (opened, _) = Shard::open(config, self.now, &mut core.disk).expect("it opens");
            core.shard = opened;
        }
        self.publish_to(node);
        self.lose(node);
        self.run(20);
    }

    /// Flips a byte of every record with a value on a node's disk, and takes the node's memory away by a restart.
    pub(crate) fn rot(&mut self, node: usize, value: &[u8]) {
        for core in &mut self.nodes[node].cores {
            for (file, bytes) in &mut core.disk.files {
                if !matches!(file, FileId::Segment(_)) {
                    continue;
                }
                let at: Vec<usize> = bytes
                    .windows(value.len())
                    .enumerate()
                    .filter(|(_, window)| *window == value)
                    .map(|(at, _)| at)
                    .collect();
                for at in at {
                    bytes[at] ^= 0x55;
                }
            }
        }
        self.restart(node);
    }

    fn step(&mut self, at: At, event: Event<'_>) {
        let mut effects = Effects::default();
        self.nodes[at.0].cores[at.1]
            .shard
            .step(self.now, event, &mut effects);
        self.carry_out(at, effects);
    }

    fn carry_out(&mut self, at: At, mut effects: Effects) {
        let mut done: Vec<(u8, crate::port::Ticket, Vec<u8>)> = Vec::new();
        for effect in effects.list.drain(..) {
            let node = &mut self.nodes[at.0].cores[at.1];
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
                    let held = node.disk.files.entry(file).or_default();
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
                    let held = node.disk.files.entry(file).or_default();
                    let end = held.len().min((offset + u64::from(bytes)) as usize);
                    if self.stuck.contains(&at.0) {
                        continue;
                    }
                    done.push((1, ticket, held[(offset as usize).min(end)..end].to_vec()));
                }
                Effect::Prepare {
                    ticket,
                    file,
                    bytes,
                    ..
                } => {
                    if self.without_room.contains(&at.0) {
                        done.push((3, ticket, Vec::new()));
                        continue;
                    }
                    let held = node.disk.files.entry(file).or_default();
                    held.resize(bytes as usize, 0);
                    done.push((2, ticket, Vec::new()));
                }
                Effect::Remove { file } => {
                    node.disk.files.remove(&file);
                }
                Effect::Applied { .. } => unreachable!("the shard keeps these"),
                Effect::Stopped => {}
            }
        }
        for (to, note) in effects.notes.drain(..) {
            assert_eq!(to, ShardIndex(0), "only the control shard is told");
            self.notes.push((at.0, note));
        }
        let reports = effects.reports.drain(..);
        self.reports.extend(reports.map(|report| (at.0, report)));
        let bytes = Arc::new(core::mem::take(&mut effects.bytes));
        for send in effects.sends.drain(..) {
            *self.sent.entry(kind_of(&send.message)).or_default() += 1;
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
                2 => Event::PrepareDone {
                    ticket,
                    result: Ok(()),
                },
                _ => Event::PrepareDone {
                    ticket,
                    result: Err(IoError {
                        kind: IoKind::Full,
                        errno: 28,
                    }),
                },
            };
            self.step(at, event);
        }
    }

    /// To whom messages of a kind are on their way, each node once.
    pub(crate) fn under_way(&self, kind: &str) -> Vec<usize> {
        let is_it = |(_, send, _): &&(At, Send, Arc<Vec<u8>>)| kind_of(&send.message) == kind;
        let to: BTreeSet<usize> = (self.queue.iter().filter(is_it))
            .map(|(_, send, _)| (send.to.0 - 1) as usize)
            .collect();
        to.into_iter().collect()
    }

    fn is_lost(&mut self) -> bool {
        // xorshift64: the same net, the same losses.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < self.lost_of_1000
    }

    fn shard_of(&self, node: usize, token: Token) -> usize {
        let shards = self.nodes[node].cores.len() as u16;
        let slices = Slices::new(16, shards).expect("a power of two");
        usize::from(slices.shard_of(token).0)
    }

    /// How many nodes there are.
    pub(crate) const fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many shards a node has.
    pub(crate) fn shards(&self, node: usize) -> usize {
        self.nodes[node].cores.len()
    }

    /// Which of a node's shards a request about a key goes to.
    pub(crate) fn shard_of_key(&self, node: usize, key: &[u8]) -> usize {
        self.shard_of(node, hash::token(b"default", key))
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn run(&mut self, ms: u64) {
        self.run_by(ms, 1);
    }

    /// The same in longer steps.
    pub(crate) fn run_by(&mut self, ms: u64, step_ms: u64) {
        for _ in 0..ms / step_ms {
            self.now.mono_ns += step_ms * 1_000_000;
            self.now.wall_ms += step_ms;
            for node in 0..self.nodes.len() {
                for shard in 0..self.nodes[node].cores.len() {
                    let due = self.nodes[node].cores[shard].shard.next_deadline_ns();
                    if due.is_some_and(|at_ns| at_ns <= self.now.mono_ns) {
                        self.step((node, shard), Event::Tick);
                    }
                    self.step((node, shard), Event::TurnEnd);
                    let (now_ns, shard) =
                        (self.now.mono_ns, &mut self.nodes[node].cores[shard].shard);
                    shard.turn_took(now_ns, now_ns + self.turn_ns);
                }
            }
            for (at, node) in core::mem::take(&mut self.refused) {
                self.step(at, Event::PeerLost(node));
            }
            let mut late = VecDeque::new();
            while !self.is_slow
                && let Some((from, send, bytes)) = self.queue.pop_front()
            {
                if self.late.contains(&from.0) {
                    late.push_back((from, send, bytes));
                    continue;
                }
                let to = (send.to.0 - 1) as usize;
                if self.down.contains(&to) {
                    self.refused.push((from, send.to));
                    continue;
                }
                if self.cut.contains(&from.0) || self.cut.contains(&to) || self.is_lost() {
                    continue;
                }
                let shard = match send.lane {
                    Lane::Token(token) => self.shard_of(to, token),
                    Lane::Shard(shard) => usize::from(shard.0),
                    Lane::Control => 0,
                };
                let message = send.message.map(&|range| range.of(&bytes));
                let peer = Peer {
                    node: id_of(from.0),
                    shard: ShardIndex(from.1 as u16),
                };
                if shard < self.nodes[to].cores.len() {
                    let event = Event::Message {
                        from: peer,
                        message,
                    };
                    self.step((to, shard), event);
                }
            }
            late.append(&mut self.queue);
            self.queue = late;
        }
    }

    /// Sends a request to a node; the id of its answer.
    pub(crate) fn send(&mut self, node: usize, key: &[u8], quorum: Quorum, op: Op<'_>) -> u64 {
        let deadline_ns = self.now.mono_ns + 3_000_000_000;
        self.send_until(node, key, (quorum, Some(deadline_ns)), op)
    }

    /// The same with a deadline, or without one.
    pub(crate) fn send_until(
        &mut self,
        node: usize,
        key: &[u8],
        (quorum, deadline_ns): (Quorum, Option<u64>),
        op: Op<'_>,
    ) -> u64 {
        self.next_id += 1;
        let token = hash::token(b"default", key);
        let request = Request {
            id: RequestId(self.next_id),
            deadline_ns,
            bucket: b"default",
            key,
            token,
            durability: None,
            quorum,
            wants_object: false,
            is_forwarded: false,
            op,
        };
        let shard = self.shard_of(node, token);
        self.step((node, shard), Event::Request(request));
        self.next_id
    }

    pub(crate) fn answer(&mut self, id: u64) -> Option<(Outcome, Vec<u8>)> {
        self.answers.remove(&id)
    }

    /// A request and its answer.
    pub(crate) fn ask(&mut self, node: usize, key: &[u8], op: Op<'_>) -> (Outcome, Vec<u8>) {
        let id = self.send(node, key, Quorum::default(), op);
        for _ in 0..1000 {
            if let Some(answer) = self.answer(id) {
                return answer;
            }
            self.run(5);
        }
        panic!("no answer in five seconds");
    }

    /// A put with a context (empty: blind); the context it returned.
    pub(crate) fn put(&mut self, node: usize, key: &[u8], context: &[u8], value: &[u8]) -> Vec<u8> {
        let (outcome, bytes) = self.ask(node, key, put_op(context, value));
        match outcome {
            Outcome::Written { context, .. } => context.expect("asked for").of(&bytes).to_vec(),
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The values that a read through this node shows, sorted.
    pub(crate) fn get(&mut self, node: usize, key: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
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
    pub(crate) fn held(&mut self, node: usize, key: &[u8]) -> u64 {
        let op = Op::Fetch {
            wants_object: false,
        };
        match self.ask(node, key, op).0 {
            Outcome::Held(held) => held.fingerprint,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(crate) fn lose(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            for shard in 0..self.nodes[other].cores.len() {
                if other != node {
                    self.step((other, shard), Event::PeerLost(id_of(node)));
                }
            }
        }
    }

    pub(crate) fn stats(&self, node: usize) -> crate::coordinate::CoordinateStats {
        self.nodes[node].cores[0].shard.coordinate_stats()
    }

    /// Timers that a node's coordinator has set.
    pub(crate) fn timers(&self, node: usize) -> usize {
        self.nodes[node].cores[0].shard.coordinate_timers()
    }

    /// The background's counters of a node's shards.
    pub(crate) fn upkeep(&self, node: usize) -> Vec<crate::upkeep::UpkeepStats> {
        let cores = self.nodes[node].cores.iter();
        cores.map(|core| core.shard.upkeep_stats()).collect()
    }

    /// Sum of fingerprints and number of keys of a node, tombstones among them.
    pub(crate) fn root(&self, node: usize) -> (u64, u64) {
        let cores = self.nodes[node].cores.iter();
        cores.fold((0, 0), |(sum, count): (u64, u64), core| {
            let (more, keys) = core.shard.root();
            (sum.wrapping_add(more), count + keys)
        })
    }

    /// Every `nth` key of a node is forgotten, as a fault would.
    pub(crate) fn lose_keys(&mut self, node: usize, nth: usize) -> usize {
        let cores = self.nodes[node].cores.iter_mut();
        cores.map(|core| core.shard.lose_keys(nth)).sum()
    }

    /// The notes of a node so far, without the views.
    pub(crate) fn take_notes(&mut self, node: usize) -> Vec<Note> {
        let (its, rest) = core::mem::take(&mut self.notes)
            .into_iter()
            .partition(|(from, _)| *from == node);
        self.notes = rest;
        let its: Vec<(usize, Note)> = its;
        its.into_iter().map(|(_, note)| note).collect()
    }

    /// Keys with a value and tombstones on a node.
    pub(crate) fn keys(&self, node: usize) -> (u64, u64) {
        let cores = self.nodes[node].cores.iter();
        cores.fold((0, 0), |(keys, tombstones), core| {
            let status = core.shard.status();
            (keys + status.keys, tombstones + status.tombstones)
        })
    }
}

pub(crate) fn put_op<'a>(context: &'a [u8], value: &'a [u8]) -> Op<'a> {
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
