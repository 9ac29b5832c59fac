//! The answers to a write: what each replica says of it, and when its client is told.
//!
//! Owns the way of a write's slot from the first answer to its end. Never decides who is a replica, or who stands in.
//!
//! Invariants:
//! - a client is answered once;
//! - a slot stays until each replica's part has ended, also behind the client's answer (for this shard's own, 30 s at most): what
//!   was missed is hinted by then.

use crate::base::ids::NodeId;
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::{CallId, Failure, Outcome, Refusal};
use crate::ring::RingView;

use super::forward::is_one_nodes;
use super::slot::{Answer, LocalWritten, Slot, Tally, WriteReplica, WriteSlot, receipt};
use super::zones::no_zones;
use super::{
    Coordinator, GIVE_UP_NS, RETRY_FOR_NS, RETRY_STEP_NS, STAND_IN_AFTER_NS, Turn, client_waited,
    doubted, fail, slot_of,
};

impl Coordinator {
    pub(super) fn local_written(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        match outcome {
            Outcome::Written {
                context,
                existed,
                previous,
                receipt,
            } => {
                let bytes = |range: crate::port::ByteRange| range.of(&turn.effects.bytes).into();
                slot.local = Some(LocalWritten {
                    existed,
                    context: context.map(bytes),
                    previous: previous.map(bytes),
                });
                slot.replicas[0].state = Answer::Done(receipt.on_stable_media > 0);
                let stands_in_for = slot.replicas[0].hint_for;
                if slot.object.is_none() {
                    self.replicate_without_object(turn, id);
                }
                // The others that hold the key were replaced, or hinted, each by itself.
                if let Some(target) = stands_in_for {
                    self.keep_hint(turn, id, target);
                }
                self.settle_write(turn, id);
            }
            Outcome::Failed(_) if slot.object.is_some() => {
                slot.replicas[0].state = Answer::Failed;
                slot.local = Some(LocalWritten {
                    existed: true,
                    context: None,
                    previous: None,
                });
                self.settle_write(turn, id);
            }
            // Nothing was begun here, and its client was told at the deadline that it is in doubt.
            _ if slot.is_answered => {
                self.slots.remove(id);
            }
            Outcome::Failed(failure) => self.local_refused(turn, id, failure),
            outcome => {
                let client = slot.id;
                self.slots.remove(id);
                turn.effects.reply(client, outcome);
            }
        }
    }

    /// The own replica did nothing: another node that holds the key may.
    fn local_refused(&mut self, turn: &mut Turn<'_>, id: SlotId, failure: Failure) {
        let Some(Slot::Write(slot)) = self.slots.remove(id) else {
            return;
        };
        let request = slot.request();
        if is_one_nodes(failure) && !request.is_forwarded {
            return self.forward_elsewhere(turn, &request, failure, slot.past);
        }
        fail(turn, slot.id, doubted(failure, slot.past.may_have_happened));
    }

    /// A peer's answer to an `Apply`.
    pub(super) fn applied(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        call: CallId,
        result: Result<bool, Refusal>,
        queue: u32,
    ) {
        let (id, replica) = slot_of(call);
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let Some(asked) = slot.replicas.get_mut(replica) else {
            return;
        };
        if asked.node != from || asked.state != Answer::Waiting {
            return;
        }
        let took_ns = turn.now.mono_ns.saturating_sub(asked.asked_ns);
        match result {
            Ok(is_stable) => {
                asked.state = Answer::Done(is_stable);
                self.peers.answered(from, took_ns, queue);
            }
            Err(_) if mutant::is(Mutant::RefusalCounts) => asked.state = Answer::Done(true),
            Err(Refusal::NotHere) if asked.is_draining => {
                mark::reach(Mark::HolderLetGo);
                asked.state = Answer::LetGo;
            }
            Err(_) => self.replica_failed(turn, id, replica),
        }
        self.settle_write(turn, id);
    }

    pub(super) fn write_peer_lost(&mut self, turn: &mut Turn<'_>, id: SlotId, node: NodeId) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.object.is_none() {
            return;
        }
        let lost: Vec<usize> = (1..slot.replicas.len())
            .filter(|at| {
                slot.replicas[*at].node == node && slot.replicas[*at].state == Answer::Waiting
            })
            .collect();
        for replica in &lost {
            if mutant::is(Mutant::LostCounts)
                && let Some(Slot::Write(slot)) = self.slots.get_mut(id)
            {
                slot.replicas[*replica].state = Answer::Done(true);
            }
            self.replica_failed(turn, id, *replica);
        }
        if !lost.is_empty() {
            self.settle_write(turn, id);
        }
    }

    /// Answers the client when it may be, and forgets what is over.
    fn settle_write(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if !slot.is_answered && slot.epoch != turn.view.epoch {
            self.renew(turn, id);
        }
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let tally = slot.tally(turn.now.mono_ns);
        if !slot.is_answered {
            let zones = slot.acknowledged_zones(turn.view);
            let short = u8::from(mutant::is(Mutant::AckOneShort));
            let is_met = tally.acknowledged + short >= slot.needed
                && tally.stable + short >= slot.stable_needed
                && (zones >= slot.zones_needed || mutant::is(Mutant::ZonesIgnored))
                && (tally.missing <= slot.n - slot.wanted + short
                    || mutant::is(Mutant::PendingIgnored)
                    || mutant::is(Mutant::StandInCounts));
            if is_met && let Some(local) = &slot.local {
                let receipt = receipt(tally.acknowledged, zones, tally.stable, tally.stand_ins);
                let outcome = Outcome::Written {
                    context: local.context.as_ref().map(|bytes| turn.effects.keep(bytes)),
                    existed: local.existed,
                    previous: local
                        .previous
                        .as_ref()
                        .map(|bytes| turn.effects.keep(bytes)),
                    receipt,
                };
                slot.is_answered = true;
                if tally.stand_ins > 0 {
                    mark::reach(Mark::StandInUsed);
                }
                client_waited(turn, slot.started_ns);
                turn.effects.reply(slot.id, outcome);
            } else if tally.waiting == 0 && slot.local.is_some() {
                // Those that seem alive are asked again in a moment: see `write_failed_again`.
                let now_ns = turn.now.mono_ns;
                let until_ns = slot.deadline_ns.min(slot.started_ns + RETRY_FOR_NS);
                let may_answer = has_failed_alive(turn.view, slot);
                if may_answer && slot.object.is_some() && now_ns + RETRY_STEP_NS < until_ns {
                    return self.arm(now_ns + RETRY_STEP_NS, id);
                }
                slot.is_answered = true;
                self.stats.writes_in_doubt += 1;
                mark::reach(Mark::WriteInDoubt);
                let failure = in_doubt(turn.view, slot, &tally);
                turn.effects.reply(slot.id, Outcome::Failed(failure));
            }
        }
        if slot.is_answered && slot.is_settled() && !mutant::is(Mutant::SlotKept) {
            self.slots.remove(id);
        }
    }

    /// Stand-ins for the silent, the client's deadline, and the end of waiting.
    pub(super) fn write_due(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let now_ns = turn.now.mono_ns;
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let is_late = slot.deadline_ns <= now_ns && !mutant::is(Mutant::DeadlineIgnored);
        if !slot.is_answered && is_late {
            slot.is_answered = true;
            self.stats.writes_in_doubt += 1;
            let failure = in_doubt(turn.view, slot, &slot.tally(now_ns));
            client_waited(turn, slot.started_ns);
            turn.effects.reply(slot.id, Outcome::Failed(failure));
        }
        self.write_failed_again(turn, id);
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let waiting: Vec<(usize, u64, bool)> = slot
            .replicas
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, replica)| replica.state == Answer::Waiting)
            .map(|(at, r)| (at, now_ns.saturating_sub(r.asked_ns), r.counts))
            .collect();
        let (is_answered, has_object) = (slot.is_answered, slot.object.is_some());
        for (replica, silent_ns, counts) in waiting {
            let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
                return;
            };
            let node = slot.replicas[replica].node;
            let target = slot.replicas[replica].hint_for.unwrap_or(node);
            if silent_ns >= GIVE_UP_NS {
                self.peers.failed(node, now_ns);
                self.replica_failed(turn, id, replica);
            } else if silent_ns >= STAND_IN_AFTER_NS
                && !is_answered
                && has_object
                && counts
                && !slot.is_strict
            {
                let has_stand_in = slot
                    .replicas
                    .iter()
                    .any(|other| other.hint_for == Some(target));
                if !has_stand_in {
                    self.peers.failed(node, now_ns);
                    self.add_stand_in(turn, id, target);
                }
            }
        }
        self.settle_write(turn, id);
        if let Some(Slot::Write(slot)) = self.slots.get_mut(id) {
            let next_ns = if slot.is_answered {
                now_ns.saturating_add(STAND_IN_AFTER_NS)
            } else {
                slot.deadline_ns
                    .min(now_ns.saturating_add(STAND_IN_AFTER_NS))
                    .max(now_ns + 1)
            };
            // A replica's own part may wait for its disk for long; the client has its answer by then.
            let is_long = now_ns.saturating_sub(slot.started_ns) > 30_000_000_000;
            if slot.is_answered && is_long && !mutant::is(Mutant::SlotKept) {
                self.slots.remove(id);
                return;
            }
            self.arm(next_ns, id);
        }
    }

    /// Too few acknowledged and nobody is left to wait for: replicas that failed and seem alive are asked once more.
    fn write_failed_again(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Write(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let waiting = slot.tally(turn.now.mono_ns).waiting;
        let is_stuck = !slot.is_answered && slot.object.is_some() && waiting == 0;
        if !is_stuck || slot.local.is_none() {
            return;
        }
        let again: Vec<usize> = (1..slot.replicas.len())
            .filter(|at| is_failed_alive(turn.view, slot, &slot.replicas[*at]))
            .collect();
        for at in again {
            if let Some(Slot::Write(slot)) = self.slots.get_mut(id) {
                slot.replicas[at].state = Answer::Waiting;
            }
            mark::reach(Mark::WriteAskedAgain);
            self.ask(turn, id, at);
        }
    }
}

fn is_failed_alive(view: &RingView, slot: &WriteSlot, replica: &WriteReplica) -> bool {
    let number = view.number_of(replica.node);
    replica.state == Answer::Failed
        && (replica.counts || slot.is_strict)
        && number.is_some_and(|number| view.node(number).is_alive)
}

fn has_failed_alive(view: &RingView, slot: &WriteSlot) -> bool {
    slot.replicas[1..]
        .iter()
        .any(|replica| is_failed_alive(view, slot, replica))
}

/// What a write lacks that was begun: acknowledgements, or only some in other zones.
fn in_doubt(view: &RingView, slot: &WriteSlot, tally: &Tally) -> Failure {
    let zones = slot.acknowledged_zones(view);
    if tally.acknowledged >= slot.needed && zones < slot.zones_needed {
        return no_zones(zones, slot.zones_needed, true);
    }
    Failure::Quorum {
        got: tally.acknowledged,
        needed: slot.needed,
        is_in_doubt: true,
    }
}
