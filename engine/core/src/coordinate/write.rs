//! Writes: the own replica first, which gives the write its dot; its whole object to the others at the same time; the
//! answer at W acknowledgements.
//!
//! While a partition moves, coordinators and readers may go by different views. So a write also goes to all who hold the
//! partition, are to hold it, or are to let go of it, and of all these at most N − W may be missing when it is acknowledged:
//! then any R > N − W of them show it, whichever N of them a reader takes for the replicas. One that has let go says so and is
//! not missed; until then it takes writes, since by the next layout it may be read again. Acknowledgements count by the view of the moment in which the client is
//! answered. With stand-ins allowed, those that are away are not waited for: a hint is kept, as for any replica.

use crate::base::durability::Durability;
use crate::base::ids::NodeId;
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::{Purpose, internal};
use crate::port::{
    CallId, Condition, Expiry, Failure, Op, Outcome, OwnedRequest, Refusal, Request,
};
use crate::ring::{PartitionView, RingView};

use super::replicas::replicas_of;
use super::slot::{Answer, LocalWritten, Slot, Tally, Then, WriteReplica, WriteSlot, receipt};
use super::zones::{no_zones, within_reach};
use super::{
    Coordinator, GIVE_UP_NS, RETRY_FOR_NS, RETRY_STEP_NS, STAND_IN_AFTER_NS, Turn, client_waited,
    deadline_ns, doubted, fail, no_quorum, slot_of,
};

/// Whether a write must know the newest object before it decides: what it writes or answers is made from what is there,
/// and an older copy would undo what this node missed.
fn needs_newest(op: &Op<'_>) -> bool {
    match op {
        Op::SetExpiry { .. } => true,
        Op::Put(put) => {
            put.want_previous || put.condition != Condition::Always || put.expiry == Expiry::Keep
        }
        Op::Delete { want_previous, .. } => *want_previous,
        Op::Get
        | Op::Exists
        | Op::Fetch { .. }
        | Op::Merge { .. }
        | Op::Scan { .. }
        | Op::Records { .. }
        | Op::Count
        | Op::Cluster { .. } => false,
    }
}

impl Coordinator {
    pub(super) fn begin_write(&mut self, turn: &mut Turn<'_>, request: &Request<'_>) {
        let Some(row) = turn.view.of_token(request.token) else {
            return turn.ask_replica(*request);
        };
        let number = turn.view.my_number();
        if number.is_none_or(|number| !row.read.contains(&number)) {
            return self.begin_forward(turn, request);
        }
        if needs_newest(&request.op) && row.read.len() > 1 {
            return self.begin_read(turn, request, Then::Write);
        }
        self.coordinate_write(turn, request, false, false);
    }

    /// Coordinates a write here; as a stand-in where no node that holds the key can be reached, of which one may have begun
    /// it before.
    pub(super) fn coordinate_write(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request<'_>,
        is_stand_in: bool,
        may_have_happened: bool,
    ) {
        let refuse = |turn: &mut Turn<'_>, failure| {
            fail(turn, request.id, doubted(failure, may_have_happened));
        };
        let view = turn.view;
        let (Some(row), Some(number)) = (view.of_token(request.token), view.my_number()) else {
            return refuse(turn, Failure::NoHolder);
        };
        let Some(bucket) = view.bucket(request.bucket) else {
            return refuse(turn, Failure::NoBucket);
        };
        let quorum = request.quorum;
        let n = pick(quorum.n, bucket.n);
        let others: Vec<u16> = row
            .read
            .iter()
            .copied()
            .filter(|other| *other != number)
            .take(usize::from(n).saturating_sub(usize::from(!is_stand_in)))
            .collect();
        let counted = others.len() as u8 + u8::from(!is_stand_in);
        let wanted = pick(quorum.w, bucket.w);
        // What is asked for by the request is not bounded by what there is, as the bucket's number is.
        if wanted > n || quorum.w > counted {
            return refuse(turn, no_quorum(counted, wanted));
        }
        let needed = wanted.min(counted).max(1);
        let reachable = 1
            + others
                .iter()
                .filter(|other| view.node(**other).is_alive)
                .count()
            + if quorum.is_strict {
                0
            } else {
                stand_ins_alive(turn, row)
            };
        if reachable < usize::from(needed) || quorum.is_strict && is_stand_in {
            return refuse(turn, no_quorum(reachable as u8, needed));
        }
        if quorum.zones > 1 {
            let zones = within_reach(view, row, (number, &others), quorum.is_strict);
            if zones < quorum.zones {
                return refuse(turn, no_zones(zones, quorum.zones, false));
            }
        }
        let durability = request.durability.unwrap_or(bucket.durability);
        let now_ns = turn.now.mono_ns;
        let mut replicas = vec![WriteReplica {
            node: view.me,
            hint_for: None,
            counts: true,
            is_draining: false,
            state: Answer::Waiting,
            asked_ns: now_ns,
        }];
        if is_stand_in {
            replicas[0].hint_for = others.first().map(|other| view.node(*other).id);
        }
        replicas.extend(replicas_of(view, row, n, now_ns));
        let deadline_ns = deadline_ns(turn, request);
        let slot = WriteSlot {
            id: request.id,
            due_ns: u64::MAX,
            request: OwnedRequest::new(request),
            started_ns: now_ns,
            deadline_ns,
            epoch: view.epoch,
            n,
            wanted,
            needed,
            stable_needed: match durability {
                Durability::Buffered => 0,
                Durability::One => 1,
                Durability::All => needed,
            },
            zones_needed: quorum.zones,
            is_strict: quorum.is_strict,
            is_durable: durability == Durability::All,
            object: None,
            local: None,
            replicas,
            is_answered: false,
            may_have_happened,
            hinted: Vec::new(),
            stand_ins_tried: 0,
        };
        self.stats.writes += 1;
        let id = self.slots.insert(Slot::Write(Box::new(slot)));
        self.arm(
            deadline_ns.min(now_ns.saturating_add(STAND_IN_AFTER_NS)),
            id,
        );
        let own = Request {
            id: internal(Purpose::Slot, id),
            durability: Some(match durability {
                Durability::Buffered => Durability::Buffered,
                Durability::One | Durability::All => Durability::One,
            }),
            wants_object: true,
            ..*request
        };
        turn.ask_replica(own);
    }

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
        let is_this_nodes = matches!(
            failure,
            Failure::DiskFull
                | Failure::ReadOnly
                | Failure::Corrupt { .. }
                | Failure::Unknown
                | Failure::ReadFailed(_)
                | Failure::Stopping
        );
        let mut request = slot.request.request();
        request.id = slot.id;
        if is_this_nodes && !request.is_forwarded {
            return self.forward_elsewhere(turn, &request, failure, slot.may_have_happened);
        }
        fail(turn, slot.id, doubted(failure, slot.may_have_happened));
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

/// A request's number, or the bucket's.
pub(super) const fn pick(asked: u8, bucket: u8) -> u8 {
    if asked == 0 { bucket } else { asked }
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

fn stand_ins_alive(turn: &Turn<'_>, row: &PartitionView) -> usize {
    row.stand_ins
        .iter()
        .filter(|number| turn.view.node(**number).is_alive)
        .count()
}
