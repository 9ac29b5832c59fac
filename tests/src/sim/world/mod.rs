//! Virtual time, the network between the nodes, and the faults: one queue of what is to happen, one source of chance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, PartitionId, Token};
use gramme_core::port::{Event, FileId, Note, Outcome, Peer, Quorum, Request, RequestId, Ticket};
use gramme_core::ring::{NodeView, PartitionView, RingView};

use super::checks::ring::RingWatch;
use super::client::Client;
use super::disk::Wrong;
use super::history::{History, WriteNumber};
use super::membership::{bucket, zone_of};
use super::node::{Node, PARTITIONS};
use super::random::Random;
use super::swarm::Swarm;

mod backup;
mod bounds;
mod clocks;
mod devices;
mod faults;
mod links;
mod network;
mod reads;
mod ring;
mod rot;
mod users;
mod zones;

pub(super) use clocks::SMALL_LEAP_MS;
use ring::Operation;

/// How long a detector takes to see that a node is down, or up.
const DETECTION_NS: u64 = 1_500_000_000;
/// How often faults are drawn.
const FAULT_STEP_NS: u64 = 10_000_000;

enum Action {
    Deliver {
        from: Peer,
        to: usize,
        frame: Frame,
    },
    PeerLost {
        to: usize,
        life: u32,
        node: NodeId,
    },
    Disk {
        at: (usize, usize, u32),
        ticket: Ticket,
        done: Done,
    },
    TurnEnd {
        at: (usize, usize, u32),
    },
    Tick {
        node: usize,
        life: u32,
    },
    View {
        node: usize,
    },
    Client(usize),
    Patience {
        client: usize,
        id: RequestId,
    },
    Faults,
    Restart(usize),
    Resume(usize),
    Heal(usize, usize),
    /// The ring's state is on the node's disk.
    Keep {
        node: usize,
        life: u32,
        state: Vec<u8>,
    },
    Operator,
    /// A node that was stopped and does not end.
    Kill {
        node: usize,
        life: u32,
    },
    /// A clock that leapt is set right.
    SetClock(usize),
    Unclog(usize, usize),
}

/// What goes over a connection.
#[derive(Clone)]
struct Frame {
    bytes: Arc<Vec<u8>>,
    /// The node that its connection was made to; none where only an address was known.
    wanted: Option<NodeId>,
    /// Whether a bit of it changed on the way.
    is_changed: bool,
}

enum Done {
    Written,
    WriteFailed,
    NoSpace,
    Read(FileId, u64, u32, Option<Wrong>),
    ReadFailed,
    Prepared(FileId, u64),
}

struct Due {
    at_ns: u64,
    sequence: u64,
    action: Action,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ns, self.sequence) == (other.at_ns, other.sequence)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.sequence).cmp(&(other.at_ns, other.sequence))
    }
}

/// Everything.
pub(in crate::sim) struct World {
    pub swarm: Swarm,
    pub random: Random,
    pub now_ns: u64,
    pub nodes: Vec<Node>,
    pub clients: Vec<Client>,
    pub history: History,
    /// Of everything that happened, in its order.
    pub trace: u64,
    pub steps: u64,
    pub is_safety: bool,
    queue: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    /// Pairs that do not hear each other; the first is not heard by the second.
    cut: BTreeSet<(usize, usize)>,
    /// Links that are clogged, with what is to go over them; the first is the sender.
    clogged: BTreeMap<(usize, usize), Vec<Action>>,
    /// Messages for nodes that are paused.
    held_back: BTreeMap<usize, Vec<Action>>,
    answers: BTreeMap<u64, (Outcome, Vec<u8>)>,
    rows: Arc<Vec<PartitionView>>,
    /// When clients and faults began.
    pub began_ns: u64,
    /// What is seen of a live ring.
    pub ring: RingWatch,
    operation: Option<Operation>,
    /// Machines of which data was destroyed.
    struck: BTreeSet<usize>,
    /// What each client asked last: when, whom, and in which life of that.
    asked: Vec<(u64, usize, u32)>,
    /// Partitions of a given ring of which a shard has said that it lost a part: nobody there hears it and has it made good.
    pub unheard: BTreeSet<PartitionId>,
    /// What was not answered in time, and what grew beyond its bounds.
    pub unmet: Vec<String>,
    /// Those of them whose disks did not do what they said, which shows at a start, if at all.
    forgetful: BTreeSet<usize>,
    /// Frames that were changed on the way and taken all the same.
    pub frames_taken: Vec<String>,
    /// Reads that might have missed a write.
    pub reads_missed: Vec<String>,
    /// Writes that were acknowledged just now, where zones are asked for; and those of them that were in too few.
    in_zones: Vec<(usize, WriteNumber)>,
    pub zones_missed: Vec<String>,
}

/// Machines of a live ring that run nothing at first.
const SPARES: usize = 2;

impl World {
    pub(in crate::sim) fn new(seed: u64, swarm: Swarm) -> Self {
        let mut random = Random::new(seed);
        let spares = if swarm.is_live { SPARES } else { 0 };
        let nodes = (0..swarm.nodes + spares)
            .map(|number| {
                let skew_ms = random.below(swarm.skew_ms + 1);
                let is_right = swarm.bent.has_victim && number > 0;
                let skew_ms = if is_right { 0 } else { skew_ms };
                Node::new(number, 1 + random.index(2), skew_ms)
            })
            .collect();
        let clients = (0..swarm.clients).map(Client::new).collect();
        let rows = Arc::new(rows(swarm.nodes, usize::from(swarm.n)));
        let mut world = Self {
            swarm,
            random,
            now_ns: 0,
            nodes,
            clients,
            history: History::default(),
            trace: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            is_safety: true,
            queue: BinaryHeap::new(),
            sequence: 0,
            cut: BTreeSet::new(),
            clogged: BTreeMap::new(),
            held_back: BTreeMap::new(),
            answers: BTreeMap::new(),
            rows,
            began_ns: 0,
            ring: RingWatch::default(),
            operation: None,
            struck: BTreeSet::new(),
            asked: Vec::new(),
            unheard: BTreeSet::new(),
            unmet: Vec::new(),
            forgetful: BTreeSet::new(),
            frames_taken: Vec::new(),
            reads_missed: Vec::new(),
            in_zones: Vec::new(),
            zones_missed: Vec::new(),
        };
        world.asked.resize(world.clients.len(), (0, 0, 0));
        if world.is_live() {
            world.form();
            world.mind_liars();
        } else {
            for node in 0..world.nodes.len() {
                world.start(node);
            }
        }
        for client in 0..world.clients.len() {
            let after_ns = 50_000_000 + world.random.below(50_000_000);
            world.after(after_ns, Action::Client(client));
        }
        world.after(100_000_000, Action::Faults);
        world
    }

    fn after(&mut self, ns: u64, action: Action) {
        self.sequence += 1;
        self.queue.push(Reverse(Due {
            at_ns: self.now_ns + ns,
            sequence: self.sequence,
            action,
        }));
    }

    fn note_trace(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3);
        self.trace = (self.trace ^ self.now_ns).wrapping_mul(0x0100_0000_01b3);
    }

    /// Runs until a virtual time.
    pub(in crate::sim) fn run_until(&mut self, until_ns: u64) {
        while let Some(Reverse(due)) = self.queue.peek() {
            if due.at_ns > until_ns {
                break;
            }
            let Some(Reverse(due)) = self.queue.pop() else {
                break;
            };
            self.now_ns = due.at_ns;
            self.steps += 1;
            self.act(due.action);
            while let Some((key, number)) = self.in_zones.pop() {
                self.look_at_zones(key, number);
            }
        }
        self.now_ns = until_ns;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Deliver { from, to, frame } => self.deliver(from, to, frame),
            Action::PeerLost { to, life, node } => {
                if self.nodes[to].is_up && self.nodes[to].life == life {
                    self.note_trace(1);
                    self.note_handed_on(to);
                    for shard in 0..self.nodes[to].shards.len() {
                        self.step(to, shard, Event::PeerLost(node));
                    }
                }
            }
            Action::Disk { at, ticket, done } => self.disk_done(at, ticket, done),
            Action::TurnEnd {
                at: (node, shard, life),
            } => {
                if self.nodes[node].is_up && self.nodes[node].life == life {
                    if self.nodes[node].is_paused {
                        return self.after(
                            1_000_000,
                            Action::TurnEnd {
                                at: (node, shard, life),
                            },
                        );
                    }
                    self.nodes[node].shards[shard].is_turn_scheduled = false;
                    self.step(node, shard, Event::TurnEnd);
                    self.schedule_tick(node);
                }
            }
            Action::Tick { node, life } => self.tick(node, life),
            Action::View { node } => self.publish(node),
            Action::Client(client) => self.client_begins(client),
            Action::Patience { client, id } => self.client_waits_no_more(client, id),
            Action::Faults => self.faults(),
            Action::Restart(node) => {
                let own = &self.nodes[node];
                if !own.is_up && !own.membership.is_away {
                    self.start(node);
                }
            }
            Action::Resume(node) => self.resume(node),
            Action::Heal(from, to) => {
                self.cut.remove(&(from, to));
            }
            Action::Keep { node, life, state } => {
                let own = &mut self.nodes[node];
                if own.is_up && own.life == life {
                    own.membership.state = Some(state);
                }
            }
            Action::Operator => self.operate(),
            Action::Kill { node, life } => {
                if self.nodes[node].life == life && self.nodes[node].stopping.is_some() {
                    self.crash(node);
                }
            }
            Action::SetClock(node) => self.set_clock(node),
            Action::Unclog(from, to) => self.unclog(from, to),
        }
    }

    /// An operator asks every node to compare what it holds.
    pub(crate) fn compare_all(&mut self) {
        for node in 0..self.nodes.len() {
            for shard in 0..self.nodes[node].shards.len() {
                self.step(node, shard, Event::Note(Note::CompareAll));
            }
        }
    }

    /// Gives a node its view of the ring; who is down is known to it by now.
    fn publish(&mut self, node: usize) {
        if !self.nodes[node].is_up || self.is_live() {
            return;
        }
        let nodes = self
            .nodes
            .iter()
            .enumerate()
            .map(|(number, other)| NodeView {
                id: other.id,
                address: String::new(),
                zone: zone_of(number),
                shards: other.shards.len() as u16,
                is_alive: other.is_up,
                takes_values: true,
            })
            .collect();
        let view = RingView {
            epoch: 1,
            cluster: 1,
            me: self.nodes[node].id,
            slices: self.nodes[node].slices(),
            nodes,
            partitions: Arc::clone(&self.rows),
            buckets: vec![bucket(&self.swarm)],
        };
        let view = Arc::new(view);
        for shard in 0..self.nodes[node].shards.len() {
            self.step(node, shard, Event::Note(Note::View(Arc::clone(&view))));
        }
    }

    fn tick(&mut self, node: usize, life: u32) {
        if self.nodes[node].tick_at_ns == Some(self.now_ns) {
            self.nodes[node].tick_at_ns = None;
        }
        if !self.nodes[node].is_up || self.nodes[node].life != life || self.nodes[node].is_paused {
            return;
        }
        let now = self.nodes[node].now(self.now_ns);
        for shard in 0..self.nodes[node].shards.len() {
            let due = self.nodes[node].shards[shard]
                .shard
                .as_ref()
                .and_then(gramme_core::shard::Shard::next_deadline_ns);
            if due.is_some_and(|at_ns| at_ns <= now.mono_ns) {
                self.step(node, shard, Event::Tick);
            }
        }
        self.schedule_tick(node);
    }

    fn schedule_tick(&mut self, node: usize) {
        let Some(at_ns) = self.nodes[node].next_tick_ns() else {
            return;
        };
        let life = self.nodes[node].life;
        // A node's own clock is one ahead of the world's.
        let after_ns = at_ns.saturating_sub(self.now_ns).max(100_000);
        let due_ns = self.now_ns + after_ns;
        if self.nodes[node]
            .tick_at_ns
            .is_some_and(|at_ns| at_ns <= due_ns)
        {
            return;
        }
        self.nodes[node].tick_at_ns = Some(due_ns);
        self.after(after_ns, Action::Tick { node, life });
    }

    /// Asks a node for something, outside of the clients; the answer, if there is one in time.
    pub(in crate::sim) fn ask(
        &mut self,
        node: usize,
        key: &[u8],
        quorum: Quorum,
        op: gramme_core::port::Op<'_>,
    ) -> Option<(Outcome, Vec<u8>)> {
        self.sequence += 1;
        let id = RequestId((1 << 55) | self.sequence);
        let deadline_ns = self.nodes[node].now(self.now_ns).mono_ns + 10_000_000_000;
        let request = Request {
            id,
            deadline_ns: Some(deadline_ns),
            bucket: b"default",
            key,
            token: hash::token(b"default", key),
            durability: None,
            quorum,
            wants_object: false,
            is_forwarded: false,
            op,
        };
        self.request(node, request);
        for _ in 0..1_200 {
            if let Some(answer) = self.answers.remove(&id.0) {
                return Some(answer);
            }
            let until_ns = self.now_ns + 10_000_000;
            self.run_until(until_ns);
        }
        None
    }

    /// Whether a node is to hold a key.
    pub(in crate::sim) fn holds(&self, node: usize, token: Token) -> bool {
        if self.is_live() {
            let own = &self.nodes[node].membership;
            let Some(view) = own.view.as_ref().filter(|_| !own.is_away) else {
                return false;
            };
            let (row, me) = (view.of_token(token), view.my_number());
            return row.is_some_and(|row| me.is_some_and(|me| row.read.contains(&me)));
        }
        let partition: PartitionId = self.nodes[node].slices().partition_of(token);
        self.rows[partition.0 as usize]
            .read
            .contains(&(node as u16))
    }
}

/// Each partition at the first N nodes of an order of its own.
fn rows(nodes: usize, n: usize) -> Vec<PartitionView> {
    (0..PARTITIONS as usize)
        .map(|partition| {
            let order: Vec<u16> = (0..nodes)
                .map(|step| ((partition + step) % nodes) as u16)
                .collect();
            let (read, rest) = order.split_at(n.min(nodes));
            PartitionView {
                read: read.into(),
                write: read.into(),
                stand_ins: rest.into(),
                ..PartitionView::default()
            }
        })
        .collect()
}
