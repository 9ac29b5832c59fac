//! The replicas of a write: who they are, what is sent to them, and who stands in for one that is away.
//!
//! Owns the list of a write's replicas from its first to its last. Never counts what they answer, and never answers a client.
//!
//! Invariants:
//! - a replica keeps its place in the list, by which its answer is known; others come behind it;
//! - a stand-in's `hint_for` is a node that the write should have gone to, never another stand-in.

use crate::base::ids::NodeId;
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::call;
use crate::port::{CallId, KeyName, Lane, Message, Op};
use crate::replica::hints::keep_hint;
use crate::ring::{PartitionView, RingView};
use crate::version::{Object, ObjectView};

use super::slot::{Answer, Slot, WriteReplica};
use super::{Coordinator, Turn};

impl Coordinator {
    /// The own replica has the object in its log: the others get it.
    pub(crate) fn local_applied(
        &mut self,
        turn: &mut Turn<'_>,
        id: SlotId,
        object: crate::port::ByteRange,
    ) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        slot.object = Some(object.of(&turn.effects.bytes).into());
        if mutant::is(Mutant::LoneEvent) {
            slot.object = slot.object.take().map(|object| lone_event(&object));
        }
        self.replicate(turn, id);
    }

    pub(super) fn replicate(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let count = slot.replicas.len();
        for replica in 1..count {
            self.ask_or_replace(turn, id, replica);
        }
    }

    /// Sends the object to a replica of the slot, or to another one where it is away.
    fn ask_or_replace(&mut self, turn: &mut Turn<'_>, id: SlotId, replica: usize) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let node = slot.replicas[replica].node;
        let number = turn.view.number_of(node);
        if !number.is_some_and(|number| self.is_usable(turn, number)) {
            return self.replica_failed(turn, id, replica);
        }
        if number.is_some_and(|number| !turn.view.node(number).takes_values)
            && self.spare(turn, id, replica)
        {
            return;
        }
        self.ask(turn, id, replica);
    }

    /// A replica said that it takes no values: a stand-in is asked at once, where one is there and may be. Without one it is
    /// asked all the same: what it said may be of before.
    fn spare(&mut self, turn: &mut Turn<'_>, id: SlotId, replica: usize) -> bool {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return false;
        };
        let spared = &slot.replicas[replica];
        let target = spared.node;
        let is_one = spared.counts && spared.hint_for.is_none();
        // A tombstone has room where a value has none.
        let is_delete = matches!(slot.request.request().op, Op::Delete { .. });
        // It may be the only one in its zone.
        let is_wanted = slot.is_strict || slot.zones_needed > 1;
        if !is_one || is_delete || slot.is_answered || is_wanted {
            return false;
        }
        if !self.add_stand_in(turn, id, target) {
            return false;
        }
        mark::reach(Mark::FullSpared);
        if let Some(Slot::Write(slot)) = self.slots.get_mut(id) {
            slot.replicas[replica].state = Answer::Failed;
        }
        true
    }

    pub(super) fn ask(&mut self, turn: &mut Turn<'_>, id: SlotId, replica: usize) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let request = slot.request.request();
        let Some(object) = &slot.object else { return };
        let message = Message::Apply {
            call: call(id, replica as u16),
            key: turn.effects.keep_key(request.key_name()),
            object: turn.effects.keep(object),
            is_durable: slot.is_durable,
            hint_for: slot.replicas[replica].hint_for,
            is_background: false,
        };
        let token = request.token;
        slot.replicas[replica].asked_ns = turn.now.mono_ns;
        let to = slot.replicas[replica].node;
        turn.send(to, Lane::Token(token), message);
    }

    /// A replica is away: a stand-in takes its part while the quorum needs one, else this node keeps the hint.
    pub(super) fn replica_failed(&mut self, turn: &mut Turn<'_>, id: SlotId, replica: usize) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let failed = &mut slot.replicas[replica];
        if failed.state != Answer::Waiting {
            return;
        }
        failed.state = Answer::Failed;
        if failed.is_draining {
            return;
        }
        if !failed.counts {
            // It may have been transferred this key before: its copy would not be whole.
            let target = failed.node;
            return self.keep_hint(turn, id, target);
        }
        let target = failed.hint_for.unwrap_or(failed.node);
        let is_needed = !slot.is_answered && (!slot.is_strict || mutant::is(Mutant::StandInCounts));
        if is_needed && self.add_stand_in(turn, id, target) {
            return;
        }
        self.keep_hint(turn, id, target);
    }

    /// Asks another node to take a target's part: one in a zone that the write asks for and would lack, else the next in the
    /// partition's order; false when there is none.
    pub(super) fn add_stand_in(&mut self, turn: &mut Turn<'_>, id: SlotId, target: NodeId) -> bool {
        let (view, now_ns) = (turn.view, turn.now.mono_ns);
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return false;
        };
        let Some(row) = view.of_token(slot.request.request().token) else {
            return false;
        };
        let replicas = &slot.replicas;
        let may_be = |number: &&u16| {
            let node = view.node(**number);
            let is_taken = node.id == view.me || replicas.iter().any(|other| other.node == node.id);
            !is_taken && self.peers.is_usable(node, now_ns) && node.takes_values
        };
        let mut all = row.stand_ins.iter();
        let elsewhere = all
            .clone()
            .filter(may_be)
            .find(|number| slot.zones_needed > 1 && slot.lacks_zone_of(view, **number, target));
        let number = elsewhere.or_else(|| {
            let next = all.by_ref().skip(slot.stand_ins_tried).find(may_be);
            slot.stand_ins_tried = slot.stand_ins_tried.max(row.stand_ins.len() - all.len());
            next
        });
        let Some(number) = number else { return false };
        slot.replicas.push(WriteReplica {
            node: view.node(*number).id,
            hint_for: Some(target),
            counts: true,
            is_draining: false,
            state: Answer::Waiting,
            asked_ns: now_ns,
        });
        let replica = slot.replicas.len() - 1;
        self.stats.stand_ins += 1;
        self.ask(turn, id, replica);
        true
    }

    pub(super) fn keep_hint(&mut self, turn: &mut Turn<'_>, id: SlotId, target: NodeId) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if target == turn.view.me || slot.object.is_none() || slot.hinted.contains(&target) {
            return;
        }
        slot.hinted.push(target);
        keep_hint(turn, target, slot.request.request().key_name());
        self.stats.hints_kept += 1;
        mark::reach(Mark::HintKept);
    }

    /// The replica had nothing to append: an object that was handed in and is there goes to the others as it came; of
    /// anything else there is nothing to tell.
    pub(super) fn replicate_without_object(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if let Op::Merge { object } = slot.request.request().op {
            slot.object = Some(object.into());
            return self.replicate(turn, id);
        }
        for replica in &mut slot.replicas[1..] {
            replica.state = Answer::Done(false);
        }
    }

    /// The view has changed: who counts, and who must be asked, follows from the new one.
    pub(super) fn renew(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        slot.epoch = turn.view.epoch;
        let Some(row) = turn.view.of_token(slot.request.request().token) else {
            return;
        };
        let me = turn.view.my_number();
        let mut now = replicas_of(turn.view, row, slot.n, turn.now.mono_ns);
        for (at, replica) in slot.replicas.iter_mut().enumerate() {
            if replica.hint_for.is_some() {
                continue;
            }
            if at == 0 {
                replica.counts = me.is_some_and(|me| row.read.contains(&me));
                continue;
            }
            let Some(same) = now.iter().position(|other| other.node == replica.node) else {
                // It has let go: what it acknowledged is with those that it handed over to.
                (replica.counts, replica.state) = (false, Answer::LetGo);
                continue;
            };
            let same = now.remove(same);
            (replica.counts, replica.is_draining) = (same.counts, same.is_draining);
            if replica.state == Answer::LetGo && !same.is_draining {
                // It is to keep the partition after all: it is missed again, and asked again.
                replica.state = Answer::Failed;
            }
        }
        let first = slot.replicas.len();
        slot.replicas.extend(now);
        let counted = slot
            .replicas
            .iter()
            .filter(|replica| replica.counts && replica.hint_for.is_none());
        let is_aside = slot.replicas[0].hint_for.is_some() && me.is_some_and(|me| row.is_aside(me));
        let counted = counted.count() as u8 + u8::from(is_aside);
        slot.needed = slot.wanted.min(counted).max(1);
        let (end, has_object) = (slot.replicas.len(), slot.object.is_some());
        for replica in first..end {
            if has_object {
                mark::reach(Mark::WriteRenewed);
                self.ask_or_replace(turn, id, replica);
            }
        }
    }

    /// Sends an object that a read put together to a replica that lacks it; nothing waits for the answer.
    pub(super) fn repair_peer(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        key: KeyName<&[u8]>,
        object: &[u8],
    ) {
        self.stats.read_repairs += 1;
        mark::reach(Mark::ReadRepairSent);
        let message = Message::Apply {
            call: CallId::NOBODY,
            key: turn.effects.keep_key(key),
            object: turn.effects.keep(object),
            is_durable: false,
            hint_for: None,
            is_background: true,
        };
        turn.send(to, Lane::Token(key.token), message);
    }
}

/// The other nodes that a write by a view goes to: `n` readers with this one, whose acknowledgements count; and all others
/// that hold the partition, are to hold it, or are to let go of it.
pub(super) fn replicas_of(
    view: &RingView,
    row: &PartitionView,
    n: u8,
    now_ns: u64,
) -> Vec<WriteReplica> {
    let me = view.my_number();
    let is_reader = me.is_some_and(|me| row.read.contains(&me));
    let replica = |number: &u16, counts, is_draining| WriteReplica {
        node: view.node(*number).id,
        hint_for: None,
        counts,
        is_draining,
        state: Answer::Waiting,
        asked_ns: now_ns,
    };
    let is_other = |number: &&u16| Some(**number) != me;
    let readers = row.read.iter().filter(is_other);
    let readers = readers.take(usize::from(n).saturating_sub(usize::from(is_reader)));
    let beside = row.write.iter().filter(|other| !row.read.contains(other));
    let pending_counts = mutant::is(Mutant::PendingCounts);
    let mut replicas: Vec<WriteReplica> = readers.map(|node| replica(node, true, false)).collect();
    replicas.extend(
        beside
            .filter(is_other)
            .map(|node| replica(node, pending_counts, false)),
    );
    let draining = row.others.iter().filter(is_other);
    replicas.extend(draining.map(|node| replica(node, false, true)));
    replicas
}

/// Of [`Mutant::LoneEvent`]: the newest sibling alone, under the context of all.
fn lone_event(object: &[u8]) -> Box<[u8]> {
    let lone = ObjectView::parse(object).ok().and_then(|view| {
        let whole = view.to_owned();
        let newest = whole.latest().cloned().into_iter().collect();
        Object::from_parts(newest, whole.context().clone()).ok()
    });
    let mut bytes = Vec::new();
    lone.unwrap_or_default().encode(&mut bytes);
    bytes.into()
}
