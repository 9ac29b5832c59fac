//! Nodes of some shards each, on disks in memory, with a network that a test can cut.
//!
//! # Layout
//! - `client`: requests to them; `seen`: what a test sees of them from outside.

mod client;
mod seen;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::durability::Durability;
use crate::base::ids::{NodeId, ShardIndex, Token};
use crate::base::time::Now;
use crate::port::{Event, FileId, Lane, Message, Note, Outcome, Peer, Send};
use crate::ring::{BucketView, NodeView, PartitionView, RingView};
use crate::shard::PaceConfig;
use crate::shard::bench_tests::{Core, DiskIs, Outside, config, slices};
use crate::version::{BlindPut, Conflict};

pub(crate) use client::put_op;

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
    /// Partitions of which it says something else; nobody lets go of them.
    pub(crate) rows: BTreeMap<usize, PartitionView>,
    /// Nodes that are to bring their copies up.
    pub(crate) pending: BTreeSet<usize>,
    /// Nodes that are to let go.
    pub(crate) draining: BTreeSet<usize>,
    /// Whether all who write have shown that they know of whoever gains or lets go.
    pub(crate) is_move_known: bool,
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
                .map(|shard| Core::new(config(id_of(node), shard, *shards), now))
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
            is_move_known: true,
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
        let row = |partition| {
            let own = self.rows.get(&partition);
            PartitionView {
                is_pending_here: self.pending.contains(&me),
                is_draining_here: self.draining.contains(&me) && own.is_none(),
                is_move_known: self.is_move_known,
                ..own.unwrap_or(&self.row).clone()
            }
        };
        RingView {
            epoch: self.epoch,
            cluster: 1,
            me: id_of(me),
            slices: slices(self.nodes[me].cores.len()),
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

    /// Gives one node a view in which it is the whole cluster.
    pub(crate) fn leave_alone(&mut self, node: usize) {
        let view = RingView {
            partitions: Arc::default(),
            ..self.view_of(node)
        };
        self.note(node, &Note::View(Arc::new(view)));
    }

    /// Gives one node a view of its own, with this row for every partition.
    pub(crate) fn tell(&mut self, node: usize, row: PartitionView) {
        let usual = core::mem::replace(&mut self.row, row);
        self.publish_to(node);
        self.row = usual;
    }

    /// A node's disk is so from now on.
    pub(crate) fn set_disk(&mut self, node: usize, disk_is: DiskIs) {
        for core in &mut self.nodes[node].cores {
            core.disk_is = disk_is;
        }
    }

    /// Sets the background's pace everywhere.
    pub(crate) fn set_pace(&mut self, config: PaceConfig) {
        for core in self.nodes.iter_mut().flat_map(|node| &mut node.cores) {
            core.shard.set_pace(config);
        }
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
        for core in &mut self.nodes[node].cores {
            core.restart(self.now);
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
        let mut outside = Outside::default();
        self.nodes[at.0].cores[at.1].step(self.now, event, &mut outside);
        self.take(at, outside);
    }

    fn take(&mut self, at: At, outside: Outside) {
        for (id, outcome, bytes) in outside.replies {
            let former = self.answers.insert(id.0, (outcome, bytes.to_vec()));
            assert!(former.is_none(), "one answer for {id:?}");
        }
        for (to, note) in outside.notes {
            assert_eq!(to, ShardIndex(0), "only the control shard is told");
            self.notes.push((at.0, note));
        }
        let reports = outside.reports.into_iter();
        self.reports.extend(reports.map(|report| (at.0, report)));
        for (send, bytes) in outside.sends {
            *self.sent.entry(kind_of(&send.message)).or_default() += 1;
            self.queue.push_back((at, send, bytes));
        }
    }

    fn is_lost(&mut self) -> bool {
        // xorshift64: the same net, the same losses.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < self.lost_of_1000
    }

    fn shard_of(&self, node: usize, token: Token) -> usize {
        let slices = slices(self.nodes[node].cores.len());
        usize::from(slices.shard_of(token).0)
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

    pub(crate) fn lose(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            for shard in 0..self.nodes[other].cores.len() {
                if other != node {
                    self.step((other, shard), Event::PeerLost(id_of(node)));
                }
            }
        }
    }

    /// Every `nth` key of a node is forgotten, as a fault would.
    pub(crate) fn lose_keys(&mut self, node: usize, nth: usize) -> usize {
        let cores = self.nodes[node].cores.iter_mut();
        cores.map(|core| core.shard.lose_keys(nth)).sum()
    }
}
