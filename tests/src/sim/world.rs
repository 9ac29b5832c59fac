//! Virtual time, the network between the nodes, and the faults: one queue of what is to happen, one source of chance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use gramme_core::base::durability::Durability;
use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use gramme_core::port::{
    Effect, Effects, Event, FileId, IoError, IoKind, Lane, Note, Outcome, Peer, Quorum, Request,
    RequestId, Send, Ticket,
};
use gramme_core::ring::{BucketView, NodeView, PartitionView, RingView};
use gramme_core::version::{BlindPut, Conflict};

use super::client::{Client, PATIENCE_NS, Wanted};
use super::history::History;
use super::node::{Node, PARTITIONS};
use super::random::Random;
use super::swarm::Swarm;

/// How long a detector takes to see that a node is down, or up.
const DETECTION_NS: u64 = 1_500_000_000;
/// How often faults are drawn.
const FAULT_STEP_NS: u64 = 10_000_000;

enum Action {
    Deliver {
        from: Peer,
        to: usize,
        send: Box<Send>,
        bytes: Arc<Vec<u8>>,
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
}

enum Done {
    Written,
    Read(FileId, u64, u32),
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
pub(super) struct World {
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
    /// Messages for nodes that are paused.
    held_back: BTreeMap<usize, Vec<Action>>,
    answers: BTreeMap<u64, (Outcome, Vec<u8>)>,
    rows: Arc<Vec<PartitionView>>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let swarm = Swarm::of(seed);
        let mut random = Random::new(seed);
        let nodes = (0..swarm.nodes)
            .map(|number| {
                let skew_ms = random.below(swarm.skew_ms + 1);
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
            held_back: BTreeMap::new(),
            answers: BTreeMap::new(),
            rows,
        };
        for node in 0..world.nodes.len() {
            world.start(node);
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
    pub(super) fn run_until(&mut self, until_ns: u64) {
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
        }
        self.now_ns = until_ns;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Deliver {
                from,
                to,
                send,
                bytes,
            } => self.deliver(from, to, send, bytes),
            Action::PeerLost { to, life, node } => {
                if self.nodes[to].is_up && self.nodes[to].life == life {
                    self.note_trace(1);
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
                if !self.nodes[node].is_up {
                    self.start(node);
                }
            }
            Action::Resume(node) => self.resume(node),
            Action::Heal(from, to) => {
                self.cut.remove(&(from, to));
            }
        }
    }

    fn start(&mut self, node: usize) {
        let swarm = self.swarm.clone();
        self.nodes[node].tick_at_ns = None;
        self.nodes[node].start(self.now_ns, &swarm);
        self.note_trace(2 + node as u64);
        self.publish(node);
        for shard in 0..self.nodes[node].shards.len() {
            self.step(node, shard, Event::TurnEnd);
        }
        self.schedule_tick(node);
        // The others see it after a while.
        for other in 0..self.nodes.len() {
            let after_ns = self.random.delay_ns(DETECTION_NS / 2);
            self.after(after_ns, Action::View { node: other });
        }
    }

    fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up {
            return;
        }
        self.note_trace(100 + node as u64);
        self.nodes[node].is_up = false;
        self.nodes[node].crash_in = None;
        self.held_back.remove(&node);
        let mut random = self.random.clone();
        for host in &mut self.nodes[node].shards {
            host.shard = None;
            host.disk.crash(&mut random);
        }
        self.random = random;
        let lost = self.nodes[node].id;
        for other in 0..self.nodes.len() {
            let (after_ns, life) = (
                self.random.delay_ns(self.swarm.net_delay_ns),
                self.nodes[other].life,
            );
            self.after(
                after_ns,
                Action::PeerLost {
                    to: other,
                    life,
                    node: lost,
                },
            );
            let after_ns = self.random.delay_ns(DETECTION_NS);
            self.after(after_ns, Action::View { node: other });
        }
        // Back at once, or when all have seen it; with a clock that was set anew.
        let down_ns = [20_000_000, 1_000_000_000][self.random.index(2)];
        let down_ns = self.random.delay_ns(down_ns);
        self.nodes[node].skew_ms = self.random.below(self.swarm.skew_ms + 1);
        self.after(down_ns, Action::Restart(node));
    }

    /// The faults stop: everything that was cut, paused or down comes back.
    pub(super) fn heal(&mut self) {
        self.is_safety = false;
        self.cut.clear();
        for node in 0..self.nodes.len() {
            self.resume(node);
            self.nodes[node].crash_in = None;
            if !self.nodes[node].is_up {
                self.start(node);
            }
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

    fn resume(&mut self, node: usize) {
        self.nodes[node].is_paused = false;
        self.nodes[node].tick_at_ns = None;
        for action in self.held_back.remove(&node).unwrap_or_default() {
            self.act(action);
        }
        if self.nodes[node].is_up {
            self.schedule_tick(node);
        }
    }

    fn faults(&mut self) {
        if !self.is_safety {
            return;
        }
        let count = self.nodes.len();
        if self.random.happens(self.swarm.crashes) {
            let node = self.random.index(count);
            if self.random.coin() {
                self.crash(node);
            } else {
                self.nodes[node].crash_in = Some(self.random.below(20) as u32);
            }
        }
        if self.random.happens(self.swarm.pauses) {
            let node = self.random.index(count);
            if self.nodes[node].is_up && !self.nodes[node].is_paused {
                self.nodes[node].is_paused = true;
                let for_ns = self.random.delay_ns(500_000_000);
                self.after(for_ns, Action::Resume(node));
            }
        }
        if self.random.happens(self.swarm.partitions) {
            self.cut_some();
        }
        self.after(FAULT_STEP_NS, Action::Faults);
    }

    /// A partition: one node from all, two sides, or one way only.
    fn cut_some(&mut self) {
        let count = self.nodes.len();
        let for_ns = self.random.delay_ns(800_000_000);
        let kind = self.random.below(3);
        let split = 1 + self.random.index(count - 1);
        let one = self.random.index(count);
        for from in 0..count {
            for to in 0..count {
                let is_cut = match kind {
                    0 => from != to && (from == one || to == one),
                    1 => (from < split) != (to < split),
                    _ => from == one && to != one,
                };
                if is_cut && self.cut.insert((from, to)) {
                    self.after(for_ns, Action::Heal(from, to));
                }
            }
        }
    }

    /// Gives a node its view of the ring; who is down is known to it by now.
    fn publish(&mut self, node: usize) {
        if !self.nodes[node].is_up {
            return;
        }
        let nodes = self
            .nodes
            .iter()
            .enumerate()
            .map(|(number, other)| NodeView {
                id: other.id,
                address: String::new(),
                zone: format!("z{}", number % 3),
                shards: other.shards.len() as u16,
                is_alive: other.is_up,
            })
            .collect();
        let view = RingView {
            epoch: 1,
            cluster: 1,
            me: self.nodes[node].id,
            slices: self.nodes[node].slices(),
            nodes,
            partitions: Arc::clone(&self.rows),
            buckets: vec![BucketView {
                name: b"default".to_vec(),
                n: self.swarm.n,
                r: self.swarm.r,
                w: self.swarm.w,
                durability: Durability::Buffered,
                conflict: Conflict::Siblings,
                blind_put: BlindPut::Sibling,
                ttl_ms: None,
            }],
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

    fn deliver(&mut self, from: Peer, to: usize, send: Box<Send>, bytes: Arc<Vec<u8>>) {
        let sender = (from.node.0 - 1) as usize;
        if self.cut.contains(&(sender, to)) {
            return;
        }
        let node = &self.nodes[to];
        if !node.is_up {
            // Refused: the sender hears of it.
            let life = self.nodes[sender].life;
            let lost = node.id;
            let after_ns = self.random.delay_ns(self.swarm.net_delay_ns);
            return self.after(
                after_ns,
                Action::PeerLost {
                    to: sender,
                    life,
                    node: lost,
                },
            );
        }
        if node.is_paused {
            return self.held_back.entry(to).or_default().push(Action::Deliver {
                from,
                to,
                send,
                bytes,
            });
        }
        let shard = match send.lane {
            Lane::Token(token) => usize::from(node.slices().shard_of(token).0),
            Lane::Shard(shard) => usize::from(shard.0),
            Lane::Control => 0,
        };
        if shard >= node.shards.len() {
            return;
        }
        self.note_trace(1_000 + to as u64);
        let message = send.message.map(&|range| range.of(&bytes));
        self.step(to, shard, Event::Message { from, message });
    }

    fn disk_done(&mut self, at: (usize, usize, u32), ticket: Ticket, done: Done) {
        let (node, shard, life) = at;
        if !self.nodes[node].is_up || self.nodes[node].life != life {
            return;
        }
        if self.nodes[node].is_paused {
            self.held_back
                .entry(node)
                .or_default()
                .push(Action::Disk { at, ticket, done });
            return;
        }
        self.note_trace(2_000 + ticket.0);
        let disk = &mut self.nodes[node].shards[shard].disk;
        match done {
            Done::Written => {
                disk.end_write(ticket);
                self.step(
                    node,
                    shard,
                    Event::WriteDone {
                        ticket,
                        result: Ok(()),
                    },
                );
            }
            Done::Read(file, offset, bytes) => {
                let bytes = disk.read_some(file, offset, bytes);
                self.step(
                    node,
                    shard,
                    Event::ReadDone {
                        ticket,
                        result: Ok(&bytes),
                    },
                );
            }
            Done::ReadFailed => self.step(
                node,
                shard,
                Event::ReadDone {
                    ticket,
                    result: Err(IoError {
                        kind: IoKind::Failed,
                        errno: 5,
                    }),
                },
            ),
            Done::Prepared(file, bytes) => {
                disk.prepare(file, bytes);
                self.step(
                    node,
                    shard,
                    Event::PrepareDone {
                        ticket,
                        result: Ok(()),
                    },
                );
            }
        }
    }

    /// Gives a shard an event, and carries out what it asks.
    fn step(&mut self, node: usize, shard: usize, event: Event<'_>) {
        let now = self.nodes[node].now(self.now_ns);
        let is_turn_end = Node::ends_turn(&event);
        let Node {
            shards, frontiers, ..
        } = &mut self.nodes[node];
        let host = &mut shards[shard];
        let Some(machine) = &mut host.shard else {
            return;
        };
        let mut effects = Effects::default();
        frontiers.step((shard, machine), now, event, &mut effects);
        if !is_turn_end && !host.is_turn_scheduled {
            host.is_turn_scheduled = true;
            let life = self.nodes[node].life;
            let after_ns = 1_000 + self.random.below(30_000);
            self.after(
                after_ns,
                Action::TurnEnd {
                    at: (node, shard, life),
                },
            );
        }
        self.carry_out(node, shard, effects);
    }

    fn carry_out(&mut self, node: usize, shard: usize, mut effects: Effects) {
        let at = (node, shard, self.nodes[node].life);
        for effect in effects.list.drain(..) {
            if let Some(left) = &mut self.nodes[node].crash_in {
                if *left == 0 {
                    return self.crash(node);
                }
                *left -= 1;
            }
            let delay_ns = self.random.delay_ns(self.swarm.disk_delay_ns);
            match effect {
                Effect::Reply { id, outcome } => self.answer(node, id, outcome, &effects.bytes),
                Effect::Write {
                    ticket,
                    file,
                    offset,
                    data,
                } => {
                    let host = &mut self.nodes[node].shards[shard];
                    let Some(machine) = &host.shard else { return };
                    let bytes = machine.log_bytes(data).to_vec();
                    host.disk.begin_write(ticket, file, offset, bytes);
                    self.after(
                        delay_ns,
                        Action::Disk {
                            at,
                            ticket,
                            done: Done::Written,
                        },
                    );
                }
                Effect::Read {
                    ticket,
                    file,
                    offset,
                    bytes,
                    ..
                } => {
                    let fails = self.is_safety && self.random.happens(self.swarm.read_errors);
                    let done = if fails {
                        Done::ReadFailed
                    } else {
                        Done::Read(file, offset, bytes)
                    };
                    self.after(delay_ns, Action::Disk { at, ticket, done });
                }
                Effect::Prepare {
                    ticket,
                    file,
                    bytes,
                    ..
                } => self.after(
                    delay_ns,
                    Action::Disk {
                        at,
                        ticket,
                        done: Done::Prepared(file, bytes),
                    },
                ),
                Effect::Remove { file } => self.nodes[node].shards[shard].disk.remove(file),
                Effect::Applied { .. } => unreachable!("the shard keeps these to itself"),
                Effect::Stopped => {}
            }
        }
        let bytes = Arc::new(core::mem::take(&mut effects.bytes));
        let from = Peer {
            node: self.nodes[node].id,
            shard: ShardIndex(shard as u16),
        };
        for send in effects.sends.drain(..) {
            self.send(from, send, &bytes);
        }
        for (to, note) in effects.notes.drain(..) {
            self.step(node, usize::from(to.0), Event::Note(note));
        }
    }

    fn send(&mut self, from: Peer, send: Send, bytes: &Arc<Vec<u8>>) {
        let to = (send.to.0 - 1) as usize;
        if to >= self.nodes.len() {
            return;
        }
        if self.is_safety && self.random.happens(self.swarm.loss) {
            return;
        }
        let copies = if self.is_safety && self.random.happens(self.swarm.doubled) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let after_ns = self.random.delay_ns(self.swarm.net_delay_ns);
            let action = Action::Deliver {
                from,
                to,
                send: Box::new(send),
                bytes: Arc::clone(bytes),
            };
            self.after(after_ns, action);
        }
    }

    fn client_begins(&mut self, client: usize) {
        if !self.is_safety {
            return;
        }
        let (swarm, mut random) = (self.swarm.clone(), self.random.clone());
        let wanted =
            self.clients[client].begin(self.now_ns, &swarm, &mut random, &mut self.history);
        self.random = random;
        self.submit(client, &wanted);
    }

    fn submit(&mut self, client: usize, wanted: &Wanted) {
        let node = self.random.index(self.nodes.len());
        self.after(
            PATIENCE_NS,
            Action::Patience {
                client,
                id: wanted.id,
            },
        );
        if !self.nodes[node].is_up || self.nodes[node].is_paused {
            return;
        }
        // A node that does not hold the key may hand the write to a second one when the first crashes.
        let is_forwarded = !self.holds(node, hash::token(b"default", &wanted.key));
        if is_forwarded && self.swarm.crashes > 0 {
            self.clients[client].note_retried(&mut self.history);
        }
        let deadline_ns = self.nodes[node].now(self.now_ns).mono_ns + 1_500_000_000;
        let quorum = Quorum {
            is_strict: !self.swarm.sloppy,
            ..Quorum::default()
        };
        let request = wanted.request(deadline_ns, quorum);
        self.request(node, request);
    }

    fn request(&mut self, node: usize, request: Request<'_>) {
        let shard = usize::from(self.nodes[node].slices().shard_of(request.token).0);
        self.step(node, shard, Event::Request(request));
    }

    fn client_waits_no_more(&mut self, client: usize, id: RequestId) {
        if !self.clients[client].waits_for(id) {
            return;
        }
        self.client_retries(client);
    }

    fn client_retries(&mut self, client: usize) {
        if !self.is_safety {
            return self.clients[client].give_up();
        }
        let swarm = self.swarm.clone();
        match self.clients[client].timed_out(self.now_ns, &swarm, &mut self.history) {
            Some(wanted) => self.submit(client, &wanted),
            None => self.client_rests(client),
        }
    }

    fn client_rests(&mut self, client: usize) {
        let after_ns = self.random.delay_ns(10_000_000);
        self.after(after_ns, Action::Client(client));
    }

    fn answer(&mut self, node: usize, id: RequestId, outcome: Outcome, bytes: &[u8]) {
        self.note_trace(3_000 + id.0);
        let client = (id.0 >> 32) as usize;
        if client >= self.clients.len() {
            self.answers.insert(id.0, (outcome, bytes.to_vec()));
            return;
        }
        if !self.clients[client].waits_for(id) {
            return;
        }
        let wall_ms = self.nodes[node].now(self.now_ns).wall_ms;
        let must_retry =
            self.clients[client].answer((self.now_ns, wall_ms), &outcome, bytes, &mut self.history);
        if must_retry {
            self.client_retries(client);
        } else {
            self.client_rests(client);
        }
    }

    /// Asks a node for something, outside of the clients; the answer, if there is one in time.
    pub(super) fn ask(
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
    pub(super) fn holds(&self, node: usize, token: Token) -> bool {
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
