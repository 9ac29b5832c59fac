//! A network of clusters' machines in memory, on virtual time: what the tests of this module stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::rng::Rng;
use super::{Boot, Cluster, Out};
use crate::base::ids::{NodeId, PartitionId, ShardIndex};
use crate::base::time::Now;
use crate::port::{Note, RequestId};
use crate::ring::{RingView, Slices};

pub(super) const MS: u64 = 1_000_000;
/// The wall clock at virtual time zero.
pub(super) const EPOCH_MS: u64 = 1_700_000_000_000;

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) address: String,
    pub(super) zone: String,
    pub(super) machine: Option<Cluster>,
    pub(super) view: Option<Arc<RingView>>,
    pub(super) state: Option<Vec<u8>>,
    pub(super) start_count: u64,
    /// How far its wall clock is ahead.
    pub(super) ahead_ms: i64,
    /// What its shards were told of its clock.
    pub(super) clock_notes: Vec<(Option<i64>, Option<Now>)>,
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
}

pub(super) struct Network {
    pub(super) now_ns: u64,
    pub(super) nodes: Vec<Node>,
    partitions: u32,
    queue: BTreeMap<(u64, u64), (usize, NodeId, Vec<u8>)>,
    made: u64,
    rng: Rng,
    /// Pairs of groups do not hear each other; empty: all hear all.
    pub(super) side: BTreeMap<usize, u8>,
    pub(super) answers: BTreeMap<u64, Value>,
    /// Whether shards gain and drain what they are to, at once.
    pub(super) moves_data: bool,
}

impl Network {
    pub(super) fn new(partitions: u32, seed: u64) -> Self {
        Self {
            now_ns: 1_000 * MS,
            nodes: Vec::new(),
            partitions,
            queue: BTreeMap::new(),
            made: 0,
            rng: Rng::new(seed),
            side: BTreeMap::new(),
            answers: BTreeMap::new(),
            moves_data: true,
        }
    }

    /// A cluster of so many nodes in three zones, joined and committed.
    pub(super) fn cluster(nodes: usize, partitions: u32, seed: u64) -> Self {
        let mut network = Self::new(partitions, seed);
        for node in 0..nodes {
            network.add(node);
            network.start(node);
        }
        network.run_until("all are known", 10_000, |network| {
            network.views().all(|view| view.nodes.len() == nodes)
        });
        network.command(0, json!({ "command": "plan" }));
        network.command(0, json!({ "command": "commit" }));
        network.run_until("all have what they should", 10_000, |network| {
            network.is_settled()
        });
        network
    }

    pub(super) fn add(&mut self, node: usize) {
        self.nodes.push(Node {
            id: NodeId(0x1000 + node as u64 * 7),
            address: format!("10.0.0.{node}:7400"),
            zone: format!("z{}", node % 3),
            machine: None,
            view: None,
            state: None,
            start_count: 0,
            ahead_ms: 0,
            clock_notes: Vec::new(),
            sent: 0,
            sent_bytes: 0,
        });
    }

    pub(super) fn start(&mut self, node: usize) {
        let seeds = if node == 0 {
            Vec::new()
        } else {
            vec![self.nodes[0].address.clone()]
        };
        self.start_with(node, seeds);
    }

    pub(super) fn start_with(&mut self, node: usize, seeds: Vec<String>) {
        let random_seed = self.rng.next();
        let partitions = self.partitions;
        let now = self.now(node);
        let own = &mut self.nodes[node];
        own.start_count += 1;
        let boot = Boot {
            me: own.id,
            name: format!("node-{node}"),
            zone: own.zone.clone(),
            listen: own.address.clone(),
            resp: String::new(),
            admin: String::new(),
            slices: Slices::new(partitions, 2).expect("valid"),
            weight: 1,
            start_count: own.start_count,
            state: own.state.clone(),
            seeds,
            buckets: Vec::new(),
            clock_drift_ms_max: 500,
            random_seed,
        };
        own.view = None;
        own.machine = Some(Cluster::boot(boot, now).expect("boots"));
        self.with(node, |machine, now, out| machine.begin(now, out));
    }

    /// The process is gone; with the connections, as kill -9 does.
    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].machine = None;
        let id = self.nodes[node].id;
        for other in 0..self.nodes.len() {
            self.with(other, |machine, now, out| machine.peer_lost(now, id, out));
        }
    }

    /// The process is gone, and nobody is told: as a pulled plug does.
    pub(super) fn unplug(&mut self, node: usize) {
        self.nodes[node].machine = None;
    }

    fn now(&self, node: usize) -> Now {
        Now {
            mono_ns: self.now_ns,
            wall_ms: (EPOCH_MS + self.now_ns / MS).saturating_add_signed(self.nodes[node].ahead_ms),
        }
    }

    pub(super) fn with(&mut self, node: usize, step: impl FnOnce(&mut Cluster, Now, &mut Out)) {
        let now = self.now(node);
        let Some(machine) = &mut self.nodes[node].machine else {
            return;
        };
        let mut out = Out::default();
        step(machine, now, &mut out);
        self.carry_out(node, out);
    }

    fn carry_out(&mut self, node: usize, out: Out) {
        let from = self.nodes[node].id;
        let by_id = out.sends.into_iter().filter_map(|(to, bytes)| {
            let at = self.nodes.iter().position(|node| node.id == to)?;
            Some((at, bytes))
        });
        let by_address = out.hails.into_iter().filter_map(|(to, bytes)| {
            let at = self.nodes.iter().position(|node| node.address == to)?;
            Some((at, bytes))
        });
        let messages: Vec<(usize, Vec<u8>)> = by_id.chain(by_address).collect();
        for (to, bytes) in messages {
            self.nodes[node].sent += 1;
            self.nodes[node].sent_bytes += bytes.len() as u64;
            let delay_ns = 200_000 + self.rng.below(800_000);
            self.made += 1;
            let side = |node: usize| self.side.get(&node).copied().unwrap_or(0);
            if side(node) == side(to) {
                self.queue
                    .insert((self.now_ns + delay_ns, self.made), (to, from, bytes));
            }
        }
        for note in &out.notes {
            if let Note::ClockWrong { off_ms, agreed } = *note {
                self.nodes[node].clock_notes.push((off_ms, agreed));
            }
        }
        if out.state.is_some() {
            self.nodes[node].state = out.state;
        }
        for (id, answer) in out.answers {
            let answer = serde_json::from_slice(&answer).expect("JSON");
            self.answers.insert(id.0, answer);
        }
        if let Some(view) = out.view {
            self.nodes[node].view = Some(Arc::clone(&view));
            if self.moves_data {
                self.move_data(node, &view);
            }
        }
    }

    pub(super) fn move_data(&mut self, node: usize, view: &RingView) {
        let epoch = view.epoch;
        let mut notes = Vec::new();
        for (partition, row) in (0u32..).map(PartitionId).zip(view.partitions.iter()) {
            for shard in [ShardIndex(0), ShardIndex(1)] {
                if row.is_pending_here && !row.read.is_empty() {
                    notes.push(Note::Gained {
                        shard,
                        partition,
                        epoch,
                    });
                }
                if row.is_draining_here {
                    notes.push(Note::Drained {
                        shard,
                        partition,
                        epoch,
                    });
                }
            }
        }
        for note in notes {
            self.with(node, |machine, now, out| machine.note(now, &note, out));
        }
    }

    /// Runs for so long.
    pub(super) fn run_ms(&mut self, span_ms: u64) {
        let until_ns = self.now_ns + span_ms * MS;
        while self.step(until_ns) {}
        self.now_ns = until_ns;
    }

    /// Runs until something holds; returns after how many milliseconds.
    pub(super) fn run_until(
        &mut self,
        what: &str,
        within_ms: u64,
        holds: impl Fn(&Self) -> bool,
    ) -> u64 {
        let begun_ns = self.now_ns;
        // What was just done is not published yet.
        self.run_ms(60);
        while !holds(self) {
            let waited_ms = (self.now_ns - begun_ns) / MS;
            assert!(waited_ms < within_ms, "{what}: not within {within_ms} ms");
            self.run_ms(20);
        }
        (self.now_ns - begun_ns) / MS
    }

    fn step(&mut self, until_ns: u64) -> bool {
        let message_ns = self.queue.first_key_value().map(|((at_ns, _), _)| *at_ns);
        let due = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| Some((node.machine.as_ref()?.next_deadline_ns()?, at)))
            .min();
        let tick_ns = due.map(|(at_ns, _)| at_ns);
        let next_ns = match (message_ns, tick_ns) {
            (Some(message), Some(tick)) => message.min(tick),
            (message, tick) => match message.or(tick) {
                Some(next) => next,
                None => return false,
            },
        };
        if next_ns > until_ns {
            return false;
        }
        self.now_ns = self.now_ns.max(next_ns);
        if message_ns.is_some_and(|at_ns| at_ns <= next_ns) {
            if let Some((_, (to, from, bytes))) = self.queue.pop_first() {
                self.with(to, |machine, now, out| {
                    machine.message(now, from, &bytes, out)
                });
            }
        } else if let Some((_, node)) = due {
            self.with(node, |machine, now, out| machine.tick(now, out));
        }
        true
    }

    pub(super) fn command(&mut self, node: usize, command: Value) -> Value {
        self.made += 1;
        let id = self.made;
        let text = command.to_string();
        self.with(node, |machine, now, out| {
            machine.command(now, RequestId(id), text.as_bytes(), out);
        });
        // A node that does not run says nothing.
        self.answers.remove(&id).unwrap_or_default()
    }

    pub(super) fn views(&self) -> impl Iterator<Item = &RingView> {
        self.nodes
            .iter()
            .filter(|node| node.machine.is_some())
            .filter_map(|node| node.view.as_deref())
    }

    pub(super) fn view(&self, node: usize) -> &RingView {
        self.nodes[node].view.as_deref().expect("has a view")
    }

    /// Whether a node holds all that it is to hold, by its own view.
    pub(super) fn has_all_of_its_own(&self, node: usize) -> bool {
        let mut rows = self.view(node).partitions.iter();
        rows.all(|row| !row.is_pending_here)
    }

    /// Whether all that run know the same.
    pub(super) fn is_agreed(&self) -> bool {
        let running = self.nodes.iter().filter(|node| node.machine.is_some());
        let views: Vec<&RingView> = self.views().collect();
        let mut tables = BTreeSet::new();
        for view in &views {
            let table: Vec<_> = view
                .partitions
                .iter()
                .map(|row| (row.read.clone(), row.write.clone()))
                .collect();
            let nodes: Vec<NodeId> = view.nodes.iter().map(|node| node.id).collect();
            tables.insert((view.epoch, nodes, table));
        }
        views.len() == running.count() && tables.len() == 1
    }

    /// Whether all agree, and every target has what it should.
    pub(super) fn is_settled(&self) -> bool {
        let is_whole = |view: &RingView| {
            !view.partitions.is_empty()
                && view.partitions.iter().all(|row| {
                    !row.read.is_empty() && row.read == row.write && row.others.is_empty()
                })
        };
        self.is_agreed() && self.views().all(is_whole)
    }

    /// Whether all that run think so of a node.
    pub(super) fn all_think(&self, node: usize, is_alive: bool) -> bool {
        let id = self.nodes[node].id;
        self.nodes
            .iter()
            .enumerate()
            .filter(|(at, other)| *at != node && other.machine.is_some())
            .all(|(_, other)| {
                other.view.as_ref().is_some_and(|view| {
                    view.nodes
                        .iter()
                        .any(|seen| seen.id == id && seen.is_alive == is_alive)
                })
            })
    }
}

pub(super) fn serves_nothing(view: &RingView) -> bool {
    !view.partitions.is_empty() && view.partitions.iter().all(|row| row.read.is_empty())
}
