//! A live ring: nodes that find each other by gossip, and an operator who has them join, leave and replace each other while
//! clients work and faults go on.
//!
//! The operator does one thing at a time, as a careful one does, and says it to any node that answers: what was committed on
//! one side of a partition may lose against the other side, and is then planned and committed again.

use std::collections::BTreeSet;
use std::sync::Arc;

use gramme_core::base::ids::{NodeId, Token};
use gramme_core::port::{Effects, Event, Op, Outcome, Quorum, Request, RequestId};
use gramme_core::ring::RingView;
use serde_json::{Value, json};

use super::{Action, World};
use crate::sim::checks::ring::settled;
use crate::sim::membership::{address_of, place_of};
use crate::sim::node::Role;

/// How often the operator looks.
const LOOK_NS: u64 = 100_000_000;
/// How long a cluster may take to form, or to come to rest when all faults have stopped.
const REST_NS: u64 = 120_000_000_000;

/// What the operator is about.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// Who goes.
    old: Option<NodeId>,
    /// Who comes.
    new: Option<NodeId>,
    /// Whether what the old one held is gone for good.
    is_lost: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To be said to some node.
    Unsaid,
    /// Said, and to be planned and committed.
    Staged,
    /// Committed: data moves.
    Moving,
}

impl World {
    pub(super) fn is_live(&self) -> bool {
        self.swarm.is_live
    }

    /// What a node is told of its cluster at a start.
    pub(super) fn role(&mut self, node: usize) -> Role {
        let own = &mut self.nodes[node].membership;
        own.starts += 1;
        // The very first node begins the cluster; every other start is one that joins, or comes back.
        let is_first = node == 0 && !self.ring.is_formed && own.starts == 1;
        let others = (0..self.nodes.len()).filter(|other| *other != node && !is_first);
        Role {
            seeds: others.map(address_of).collect(),
            random_seed: self.random.bits(),
        }
    }

    /// A node's control shard has a new view.
    pub(super) fn saw_view(&mut self, node: usize, view: &Arc<RingView>) {
        let former = self.nodes[node].membership.view.replace(Arc::clone(view));
        self.ring.saw(self.now_ns, former.as_deref(), view);
    }

    /// What a node's control shard says that it holds, whoever knows it yet.
    pub(super) fn heed_word(&mut self, node: usize) {
        let own = &self.nodes[node];
        let control = own.shards.first().and_then(|host| host.shard.as_ref());
        if let Some(ring) = control.and_then(|control| control.ring()) {
            self.ring
                .says(self.now_ns, (own.id, own.shards.len()), ring);
        }
    }

    /// Starts the cluster, without faults: all nodes but the spare ones are joined and hold their partitions.
    pub(super) fn form(&mut self) {
        self.is_safety = false;
        for node in self.swarm.nodes..self.nodes.len() {
            self.nodes[node].membership.is_away = true;
        }
        for node in 0..self.swarm.nodes {
            self.start(node);
        }
        let count = self.swarm.nodes;
        let are_known =
            |view: &Option<Arc<RingView>>| view.as_ref().is_some_and(|v| v.nodes.len() == count);
        while self.now_ns < REST_NS {
            self.run_for(LOOK_NS);
            let mut present = self.nodes[..count].iter();
            if present.all(|node| are_known(&node.membership.view)) {
                break;
            }
        }
        self.command(0, &json!({ "command": "plan" }));
        self.command(0, &json!({ "command": "commit" }));
        while self.now_ns < REST_NS && !self.unsettled().is_empty() {
            self.run_for(LOOK_NS);
        }
        let unsettled = self.unsettled();
        assert!(unsettled.is_empty(), "no cluster formed: {unsettled:?}");
        let swarm = &self.swarm;
        self.ring.is_formed = true;
        let is_whole = swarm.wipes == 0 && !swarm.has_liars() && !swarm.has_crashes();
        self.ring.is_whole = is_whole;
        self.ring.holders_min = usize::from(if is_whole { swarm.n } else { 1 });
        self.began_ns = self.now_ns;
        self.is_safety = true;
        self.after(LOOK_NS, Action::Operator);
    }

    fn run_for(&mut self, ns: u64) {
        let until_ns = self.now_ns + ns;
        self.run_until(until_ns);
    }

    /// What is not yet as it must be at the end.
    fn unsettled(&self) -> Vec<String> {
        let present = self.nodes.iter().filter(|node| !node.membership.is_away);
        let members: BTreeSet<NodeId> = present.clone().map(|node| node.id).collect();
        let views = present.map(|node| (node.id, node.membership.view.as_deref()));
        settled(views, &members, usize::from(self.swarm.n))
    }

    /// Lets the operator end what he is about, and the ring come to rest.
    pub(in crate::sim) fn come_to_rest(&mut self) {
        if !self.is_live() {
            return;
        }
        let until_ns = self.now_ns + REST_NS;
        while self.now_ns < until_ns && (self.operation.is_some() || !self.unsettled().is_empty()) {
            self.run_for(LOOK_NS);
        }
        if let Some(operation) = &self.operation {
            let what = format!("the operator waits for ever: {operation:?}");
            self.ring.violations.push(what);
        }
        let unsettled = self.unsettled();
        if !unsettled.is_empty() {
            self.tell_reports();
        }
        self.ring.violations.extend(unsettled);
    }

    /// What the nodes themselves say of why not all is well.
    pub(in crate::sim) fn tell_reports(&mut self) {
        if !self.is_live() {
            return;
        }
        for node in 0..self.nodes.len() {
            let status = self.command(node, &json!({ "command": "status" }));
            let Some(status) = status else { continue };
            for field in ["reports", "warnings"] {
                let said = status.get(field).map(Value::to_string);
                self.tell(format!(
                    "{field} of node {node}: {}",
                    said.unwrap_or_default()
                ));
            }
        }
    }

    /// Begins a change of the membership, where none is under way.
    pub(super) fn begin_change(&mut self) {
        if self.operation.is_some() {
            return;
        }
        let (away, present): (Vec<usize>, Vec<usize>) =
            (0..self.nodes.len()).partition(|node| self.nodes[*node].membership.is_away);
        let may_go = present.len() > usize::from(self.swarm.n);
        let wants_new = self.random.coin() || !may_go;
        let wants_old = self.random.coin() || !wants_new;
        let new = (wants_new && !away.is_empty()).then(|| away[self.random.index(away.len())]);
        let old = wants_old.then(|| present[self.random.index(present.len())]);
        if old.is_some() && new.is_none() && !may_go || old.is_none() && new.is_none() {
            return;
        }
        let old = old.map(|node| self.nodes[node].id);
        if let Some(node) = new {
            self.empty(node);
            self.nodes[node].membership.is_away = false;
            self.start(node);
        }
        self.operation = Some(Operation {
            old,
            new: new.map(|node| self.nodes[node].id),
            is_lost: false,
            stage: Stage::Unsaid,
        });
    }

    /// A machine loses its disk; the operator has it take its own former places.
    pub(super) fn begin_wipe(&mut self) {
        if self.operation.is_some() {
            return;
        }
        let node = self.random.index(self.nodes.len());
        if self.nodes[node].membership.is_away {
            return;
        }
        let Some(old) = self.wipe(node) else { return };
        self.ring.lost(old);
        self.operation = Some(Operation {
            old: Some(old),
            new: Some(self.nodes[node].id),
            is_lost: true,
            stage: Stage::Unsaid,
        });
    }

    /// The operator goes on with what he is about.
    pub(super) fn operate(&mut self) {
        self.after(LOOK_NS, Action::Operator);
        let operation = self.operation.clone().or_else(|| self.left_over());
        let (old, new) = match &operation {
            Some(operation) => (operation.old, operation.new),
            None => (None, None),
        };
        let is_other = |id: NodeId| Some(id) != old && Some(id) != new;
        let able: Vec<usize> = (0..self.nodes.len())
            .filter(|node| {
                let node = &self.nodes[*node];
                node.is_up && !node.is_paused && is_other(node.id)
            })
            .collect();
        if able.is_empty() {
            return;
        }
        let via = able[self.random.index(able.len())];
        let Some(operation) = operation else {
            return self.heed_warnings(via);
        };
        let stage = match operation.stage {
            Stage::Unsaid => self.say(via, &operation),
            Stage::Staged => self.commit(via),
            Stage::Moving => self.finish(via, &operation),
        };
        self.operation = match stage {
            Some(stage) => Some(Operation { stage, ..operation }),
            None => self.still_outside(via, &operation),
        };
    }

    /// Who took the places of one that had none comes all the same, as one that joins.
    fn still_outside(&self, via: usize, operation: &Operation) -> Option<Operation> {
        let new = operation.new?;
        (!self.is_placed(via, new)).then_some(Operation {
            old: None,
            new: Some(new),
            is_lost: false,
            stage: Stage::Unsaid,
        })
    }

    /// Whether a node reads any partition, as another one knows.
    fn is_placed(&self, via: usize, node: NodeId) -> bool {
        let Some(view) = self.nodes[via].membership.view.as_ref() else {
            return false;
        };
        let number = view.number_of(node);
        number.is_some_and(|number| view.partitions.iter().any(|row| row.read.contains(&number)))
    }

    /// Does what the status of a node tells operators to do.
    fn heed_warnings(&mut self, via: usize) {
        let status = self.command(via, &json!({ "command": "status" }));
        let warnings = status.and_then(|status| Some(status.get("warnings")?.as_array()?.clone()));
        let asks = |warning: &Value| {
            let warning = warning.as_str();
            warning.is_some_and(|warning| warning.contains("gramme cluster plan, then commit"))
        };
        if warnings.is_some_and(|warnings| warnings.iter().any(asks)) {
            self.commit(via);
        }
    }

    /// A node that is no more and still known: who had heard of its removal was lost before it could tell.
    fn left_over(&self) -> Option<Operation> {
        let is_gone = |id: NodeId| {
            let own = &self.nodes[place_of(id)];
            own.id != id || own.membership.is_away
        };
        let views = self.nodes.iter().filter(|node| !node.membership.is_away);
        let mut known = views.flat_map(|node| node.membership.view.iter().flat_map(|v| &v.nodes));
        let old = known.find(|node| is_gone(node.id))?.id;
        Some(Operation {
            old: Some(old),
            new: None,
            is_lost: true,
            stage: Stage::Moving,
        })
    }

    fn say(&mut self, via: usize, operation: &Operation) -> Option<Stage> {
        let id = |node: NodeId| format!("{:016x}", node.0);
        let command = match (operation.old, operation.new) {
            (Some(old), Some(new)) => {
                json!({ "command": "replace", "old": id(old), "new": id(new) })
            }
            (Some(old), None) => json!({ "command": "leave", "node": id(old) }),
            (None, Some(new)) => json!({ "command": "join", "node": id(new) }),
            (None, None) => return None,
        };
        let answer = self.tell_node(via, &command);
        let error = answer.as_ref().map(|answer| answer.get("error"));
        if let Some(None) = error {
            return self.commit(via);
        }
        // A node without a place has none to give, be it lost, be it not let in yet; the new one joins by itself.
        let error = error.flatten().and_then(Value::as_str);
        let has_no_place = error.is_some_and(|error| error.contains("is not in the layout"));
        if let (true, Some(new)) = (operation.is_lost || has_no_place, operation.new) {
            self.command(via, &json!({ "command": "join", "node": id(new) }));
            return self.commit(via);
        }
        Some(Stage::Unsaid)
    }

    /// Where there is nothing to commit, somebody did it before; `finish` finds what is still staged.
    fn commit(&mut self, via: usize) -> Option<Stage> {
        if self.command(via, &json!({ "command": "plan" })).is_some() {
            self.command(via, &json!({ "command": "commit" }));
        }
        Some(Stage::Moving)
    }

    /// Ends a change when it has come about: who goes is removed for good, and only then stopped.
    fn finish(&mut self, via: usize, operation: &Operation) -> Option<Stage> {
        let status = self.command(via, &json!({ "command": "status" }));
        let staged = status.and_then(|status| Some(status.get("staged")?.as_array()?.len()));
        match staged {
            Some(0) => {}
            // It lost against another layout.
            Some(_) => return Some(Stage::Staged),
            None => return Some(Stage::Moving),
        }
        let Some(old) = operation.old else {
            let is_done = operation.new.is_some_and(|new| self.is_placed(via, new));
            // What was staged at a node that crashed at once is not known to anybody.
            return (!is_done).then_some(Stage::Unsaid);
        };
        let how = if operation.is_lost { "lost" } else { "remove" };
        let command = json!({ "command": "leave", "node": format!("{:016x}", old.0), how: true });
        let answer = self.command(via, &command);
        let view = self.nodes[via].membership.view.as_ref();
        let is_known = view.is_some_and(|view| view.number_of(old).is_some());
        let is_removed = answer.is_some_and(|answer| {
            let done = answer.get("done").and_then(Value::as_str);
            done.is_some_and(|done| done.ends_with("removed for good"))
        });
        if !is_removed && is_known {
            // A leave that was not committed is staged by this very command, and a layout that lost may have left places of
            // nodes that are gone.
            return Some(Stage::Staged);
        }
        self.ring.lost(old);
        let place = place_of(old);
        if self.nodes[place].id == old {
            self.crash(place);
            self.nodes[place].is_up = false;
            self.nodes[place].membership.is_away = true;
        }
        None
    }

    /// An operator's command; its answer unless it was refused, or the node crashed over it.
    fn command(&mut self, node: usize, command: &Value) -> Option<Value> {
        let answer = self.tell_node(node, command)?;
        answer.get("error").is_none().then_some(answer)
    }

    /// An operator's command; its answer, be it a refusal, unless the node crashed over it.
    fn tell_node(&mut self, node: usize, command: &Value) -> Option<Value> {
        self.sequence += 1;
        let id = RequestId((1 << 55) | self.sequence);
        let command = command.to_string();
        let request = Request {
            id,
            deadline_ns: None,
            bucket: b"",
            key: b"",
            token: Token(0),
            durability: None,
            quorum: Quorum::default(),
            wants_object: false,
            is_forwarded: false,
            op: Op::Cluster {
                command: command.as_bytes(),
            },
        };
        self.step(node, 0, Event::Request(request));
        let (outcome, bytes) = self.answers.remove(&id.0)?;
        let Outcome::Cluster(answer) = outcome else {
            return None;
        };
        let answer: Value = serde_json::from_slice(answer.of(&bytes)).ok()?;
        if !command.contains("status") {
            let said = ["error", "done"].iter().find_map(|field| answer.get(field));
            let said = said.map_or_else(String::new, Value::to_string);
            let what = format!("{command} at node {node}: {said}");
            if self.ring.story.last().is_none_or(|(_, last)| *last != what) {
                self.tell(what);
            }
        }
        self.note_trace(8_000 + node as u64);
        Some(answer)
    }

    /// Notes what befell the ring.
    pub(super) fn tell(&mut self, what: String) {
        self.ring.story.push((self.now_ns, what));
    }

    /// What a node's control shard wants kept is on its disk after a while, and gossip goes where an address leads.
    pub(super) fn carry_out_of_ring(&mut self, node: usize, effects: &mut Effects) {
        if let Some(state) = effects.state.take() {
            let after_ns = 2 * self.random.delay_ns(self.swarm.disk_delay_ns);
            let life = self.nodes[node].life;
            self.after(after_ns, Action::Keep { node, life, state });
        }
        for (address, bytes) in core::mem::take(&mut effects.gossip_by_address) {
            let place = (0..self.nodes.len()).find(|place| address_of(*place) == address);
            if let Some(place) = place {
                self.hail(node, place, bytes.of(&effects.bytes));
            }
        }
    }
}
