//! The clients' side: which node they ask, how long they wait, when they try again.

use gramme_core::base::hash;
use gramme_core::port::{Event, Outcome, Quorum, Request, RequestId};

use super::{Action, World};
use crate::sim::client::{PATIENCE_NS, Wanted, Wants};

/// How long clients wait where one node crashes again and again.
const IMPATIENCE_NS: u64 = 150_000_000;
/// That node.
const VICTIM: usize = 0;
/// Between two bursts.
const BURST_NS: u64 = 300_000_000;
/// The same there: long enough for a node to fall silent in between.
const FAR_BURST_NS: u64 = 800_000_000;
/// How often that node crashes when a read shows a write that it has not acknowledged, in a million.
const CRASHES_BEHIND_READS: u64 = 300_000;

impl World {
    pub(super) fn client_begins(&mut self, client: usize) {
        if !self.is_safety {
            return;
        }
        let (swarm, mut random) = (self.swarm.clone(), self.random.clone());
        let wanted =
            self.clients[client].begin(self.now_ns, &swarm, &mut random, &mut self.history);
        self.random = random;
        self.submit(client, &wanted);
    }

    pub(super) fn submit(&mut self, client: usize, wanted: &Wanted) {
        let has_victim = self.swarm.bent.has_victim;
        let is_read = matches!(wanted.op, Wants::Get);
        // Whatever another node dates and tells the victim sets its clock right.
        let node = if has_victim && !is_read {
            VICTIM
        } else {
            self.any_node()
        };
        let patience_ns = if has_victim {
            IMPATIENCE_NS
        } else {
            PATIENCE_NS
        };
        self.after(
            patience_ns,
            Action::Patience {
                client,
                id: wanted.id,
            },
        );
        // In a life that is none where nobody hears it.
        self.asked[client] = (self.now_ns, node, 0);
        if !self.nodes[node].is_up || self.nodes[node].is_paused {
            return;
        }
        self.asked[client].2 = self.nodes[node].life;
        // A node that does not hold the key may hand the write to a second one when the first crashes, and one that holds
        // it when its disk fails.
        let is_forwarded = !self.holds(node, hash::token(b"default", &wanted.key));
        let may_end = self.swarm.crashes > 0 || self.swarm.has_moves() || self.swarm.flips > 0;
        let holder = (!is_forwarded).then_some(node);
        self.clients[client].note_holder(holder, self.nodes[node].life, &mut self.history);
        if is_forwarded && may_end || self.swarm.write_errors > 0 {
            self.clients[client].note_retried(&mut self.history);
        }
        let deadline_ns =
            self.nodes[node].now(self.now_ns).mono_ns + self.swarm.deadline_ms * 1_000_000;
        let quorum = Quorum {
            is_strict: !self.swarm.sloppy,
            zones: if is_read { 0 } else { self.swarm.bent.zones },
            ..Quorum::default()
        };
        let request = wanted.request(deadline_ns, quorum);
        self.request(node, request);
    }

    /// A connection of this node broke: what it had handed to another holder over it, since its own disk was full, say, it hands
    /// to the next at once.
    pub(super) fn note_handed_on(&mut self, node: usize) {
        for (client, asked) in self.clients.iter().zip(&self.asked) {
            if asked.1 == node {
                client.note_retried(&mut self.history);
            }
        }
    }

    /// A node to ask: of a live ring one that is there, whether it is a member yet or not.
    fn any_node(&mut self) -> usize {
        let present = self.nodes.iter().enumerate();
        let present = present.filter(|(_, node)| !node.membership.is_away);
        let present: Vec<usize> = present.map(|(number, _)| number).collect();
        present[self.random.index(present.len())]
    }

    pub(super) fn request(&mut self, node: usize, request: Request<'_>) {
        let shard = usize::from(self.nodes[node].slices().shard_of(request.token).0);
        self.step(node, shard, Event::Request(request));
    }

    pub(super) fn client_waits_no_more(&mut self, client: usize, id: RequestId) {
        if !self.clients[client].waits_for(id) {
            return;
        }
        self.watch_deadline(client);
        self.client_retries(client);
    }

    pub(super) fn client_retries(&mut self, client: usize) {
        if !self.is_safety {
            return self.clients[client].give_up();
        }
        let swarm = self.swarm.clone();
        match self.clients[client].timed_out(self.now_ns, &swarm, &mut self.history) {
            Some(wanted) => self.submit(client, &wanted),
            None => self.client_rests(client),
        }
    }

    pub(super) fn client_rests(&mut self, client: usize) {
        let after_ns = self.random.delay_ns(10_000_000);
        if self.swarm.has_bursts && self.random.below(8) == 0 {
            // Until the next of the moments at which all come.
            let has_victim = self.swarm.bent.has_victim;
            let burst_ns = if has_victim { FAR_BURST_NS } else { BURST_NS };
            let wait_ns = burst_ns - self.now_ns % burst_ns;
            return self.after(wait_ns, Action::Client(client));
        }
        let after_ns = if self.swarm.has_bursts {
            after_ns / 20
        } else {
            after_ns
        };
        self.after(after_ns, Action::Client(client));
    }

    pub(super) fn answer(&mut self, node: usize, id: RequestId, outcome: Outcome, bytes: &[u8]) {
        self.note_trace(3_000 + id.0);
        let client = (id.0 >> 32) as usize;
        if client >= self.clients.len() {
            self.answers.insert(id.0, (outcome, bytes.to_vec()));
            return;
        }
        if !self.clients[client].waits_for(id) {
            return;
        }
        self.watch_deadline(client);
        if let Outcome::Object { object, .. } = &outcome {
            self.watch_siblings(object.of(bytes).len());
        }
        let written = self.clients[client].writes();
        let written = written.filter(|_| matches!(outcome, Outcome::Written { .. }));
        let wall_ms = self.nodes[node].now(self.now_ns).wall_ms;
        let must_retry =
            self.clients[client].answer((self.now_ns, wall_ms), &outcome, bytes, &mut self.history);
        if let Some((key, number)) = written.filter(|_| self.swarm.bent.zones > 1) {
            self.in_zones.push((key, number));
        }
        if self.swarm.bent.has_victim && node != VICTIM {
            self.strike_victim();
        }
        if must_retry {
            self.client_retries(client);
        } else {
            self.client_rests(client);
        }
    }

    /// What the newest read shows may lie on all nodes but the one that wrote it: a good moment for that to crash.
    fn strike_victim(&mut self) {
        let Some(read) = self.history.reads.last() else {
            return;
        };
        let is_new = read.answered_ns == self.now_ns && self.is_safety;
        let writes = &self.history.writes;
        let is_open = |number| {
            writes
                .get(number)
                .is_some_and(|w| w.acknowledged_ns.is_none())
        };
        if is_new && read.shown.iter().any(is_open) && self.random.happens(CRASHES_BEHIND_READS) {
            self.crash(VICTIM);
        }
    }
}
