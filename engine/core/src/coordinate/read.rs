//! Reads: the value from this shard's own replica, fingerprints from R − 1 others; where they differ, every distinct
//! object, merged, answered, and written back to those that lack it.

use crate::base::ids::NodeId;
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::{NOBODY, Purpose, call, internal};
use crate::port::{
    CallId, Durability, Failure, Held, KeyName, Lane, Message, Op, Outcome, OwnedRequest, Refusal,
    Request, RequestId,
};
use crate::version::{Object, ObjectView};

use super::slot::{Past, ReadReplica, ReadSlot, ReadState, Slot, Then, receipt};
use super::write::pick;
use super::zones::{no_zones, zones_of};
use super::{
    Coordinator, GIVE_UP_NS, HEDGE_AFTER_NS, RETRY_FOR_NS, RETRY_STEP_NS, Turn, client_waited,
    deadline_ns, fail, no_quorum, slot_of,
};

impl Coordinator {
    pub(super) fn begin_read(&mut self, turn: &mut Turn<'_>, request: &Request<'_>, then: Then) {
        let view = turn.view;
        let Some(row) = view.of_token(request.token) else {
            return turn.ask_replica(*request);
        };
        let number = view.my_number();
        let Some(number) = number.filter(|number| row.read.contains(number)) else {
            return self.begin_forward(turn, request);
        };
        let Some(bucket) = view.bucket(request.bucket) else {
            return fail(turn, request.id, Failure::NoBucket);
        };
        let n = pick(request.quorum.n, bucket.n);
        let wanted = pick(request.quorum.r, bucket.r);
        if wanted > n || usize::from(request.quorum.r) > row.read.len() {
            let got = row.read.len().min(usize::from(n)) as u8;
            return fail(turn, request.id, no_quorum(got, wanted));
        }
        let short = usize::from(mutant::is(Mutant::ReadOneShort));
        let needed = usize::from(wanted).min(row.read.len());
        let needed = needed.saturating_sub(short).max(1);
        let zones_needed = match then {
            Then::Answer => request.quorum.zones,
            Then::Write => 0,
        };
        if zones_needed > 1 {
            let zones = zones_of(view, row.read.iter().map(|number| view.node(*number).id));
            if zones < zones_needed {
                return fail(turn, request.id, no_zones(zones, zones_needed, false));
            }
        }
        let now_ns = turn.now.mono_ns;
        let asked = |node| ReadReplica {
            node,
            asked_ns: now_ns,
            state: ReadState::Waiting,
        };
        let deadline_ns = deadline_ns(turn, request);
        let mut slot = ReadSlot {
            id: request.id,
            due_ns: u64::MAX,
            request: OwnedRequest::new(request),
            started_ns: now_ns,
            deadline_ns,
            needed: needed as u8,
            zones_needed,
            then,
            replicas: vec![asked(view.me)],
            is_hedged: false,
            is_mending: false,
            local_failure: None,
        };
        let mut others = self.best_of(turn, &row.read, number);
        while slot.missing(view) > 0
            && let Some(node) = slot.next_of(view, &others)
        {
            others.retain(|other| *other != node);
            slot.replicas.push(asked(node));
        }
        let asked = slot.replicas.len();
        self.stats.reads += 1;
        let id = self.slots.insert(Slot::Read(Box::new(slot)));
        self.arm(deadline_ns.min(now_ns.saturating_add(HEDGE_AFTER_NS)), id);
        for replica in 1..asked {
            self.ask_replica(turn, id, replica, false);
        }
        self.read_here(turn, id);
    }

    /// The nodes of a read set but this one, best first.
    fn best_of(&self, turn: &Turn<'_>, read: &[u16], number: u16) -> Vec<NodeId> {
        let others = read.iter().copied().filter(|other| *other != number);
        self.by_cost(turn, others)
    }

    fn read_here(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let request = slot.request.request();
        let own = Request {
            id: internal(Purpose::Slot, id),
            op: Op::Fetch { wants_object: true },
            ..request
        };
        turn.ask_replica(own);
    }

    fn ask_replica(&mut self, turn: &mut Turn<'_>, id: SlotId, replica: usize, wants_object: bool) {
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let request = slot.request.request();
        let key = turn.effects.keep_key(request.key_name());
        slot.replicas[replica].asked_ns = turn.now.mono_ns;
        let to = slot.replicas[replica].node;
        let message = Message::Fetch {
            call: call(id, replica as u16),
            key,
            wants_object,
        };
        turn.send(to, Lane::Token(key.token), message);
    }

    pub(super) fn local_read(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.is_mending {
            return self.mended(turn, id, outcome);
        }
        slot.replicas[0].state = match outcome {
            Outcome::Held(held) => ReadState::Held(
                held.fingerprint,
                held.object
                    .map(|range| range.of(&turn.effects.bytes).into()),
            ),
            Outcome::Failed(failure) => {
                slot.local_failure = Some(failure);
                ReadState::Failed
            }
            _ => ReadState::Failed,
        };
        self.advance_read(turn, id);
    }

    /// A peer's answer to a `Fetch`.
    pub(super) fn fetched(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        call: CallId,
        result: Result<Held<&[u8]>, Refusal>,
        queue: u32,
    ) {
        let (id, replica) = slot_of(call);
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let Some(asked) = slot.replicas.get_mut(replica) else {
            return;
        };
        if asked.node != from || !matches!(asked.state, ReadState::Waiting) {
            return;
        }
        let took_ns = turn.now.mono_ns.saturating_sub(asked.asked_ns);
        asked.state = match result {
            Ok(held) => ReadState::Held(held.fingerprint, held.object.map(Into::into)),
            Err(_) => ReadState::Failed,
        };
        if result.is_ok() {
            self.peers.answered(from, took_ns, queue);
        }
        self.advance_read(turn, id);
    }

    pub(super) fn read_peer_lost(&mut self, turn: &mut Turn<'_>, id: SlotId, node: NodeId) {
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let mut is_any = false;
        for replica in &mut slot.replicas[1..] {
            if replica.node == node && matches!(replica.state, ReadState::Waiting) {
                replica.state = ReadState::Failed;
                is_any = true;
            }
        }
        if is_any {
            self.advance_read(turn, id);
        }
    }

    /// Asks one more replica of the read set; false when all were asked.
    fn ask_another(&mut self, turn: &mut Turn<'_>, id: SlotId) -> bool {
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return false;
        };
        let token = slot.request.request().token;
        let asked: Vec<NodeId> = slot.replicas.iter().map(|replica| replica.node).collect();
        let (Some(row), Some(number)) = (turn.view.of_token(token), turn.view.my_number()) else {
            return false;
        };
        let mut others = self.best_of(turn, &row.read, number);
        others.retain(|node| !asked.contains(node));
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return false;
        };
        let Some(node) = slot.next_of(turn.view, &others) else {
            return false;
        };
        slot.replicas.push(ReadReplica {
            node,
            asked_ns: turn.now.mono_ns,
            state: ReadState::Waiting,
        });
        let replica = slot.replicas.len() - 1;
        self.ask_replica(turn, id, replica, false);
        true
    }

    /// Goes on with a read as far as its answers allow.
    fn advance_read(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.is_mending {
            return;
        }
        if !slot.is_met(turn.view) {
            // One more for each that failed, while there are any.
            let mut missing = slot.missing(turn.view);
            while missing > 0 && self.ask_another(turn, id) {
                missing -= 1;
            }
            let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
                return;
            };
            if !slot.is_waiting() {
                self.retry_read(turn, id);
            }
            return;
        }
        // The objects of all distinct fingerprints must be at hand.
        let mut wanted = Vec::new();
        let mut at_hand: Vec<u64> = Vec::new();
        for replica in &slot.replicas {
            if let ReadState::Held(fingerprint, Some(_)) = replica.state {
                at_hand.push(fingerprint);
            }
        }
        for (at, replica) in slot.replicas.iter().enumerate() {
            if let ReadState::Held(fingerprint, None) = replica.state
                && fingerprint != 0
                && !at_hand.contains(&fingerprint)
            {
                at_hand.push(fingerprint);
                wanted.push(at);
            }
        }
        if !wanted.is_empty() && !mutant::is(Mutant::DigestsIgnored) {
            mark::reach(Mark::DigestFetched);
            for at in wanted {
                if let Some(Slot::Read(slot)) = self.slots.get_mut(id) {
                    slot.replicas[at].state = ReadState::Waiting;
                }
                self.ask_replica(turn, id, at, true);
            }
            return;
        }
        // Those that wait are hedges, which are not needed any more.
        self.conclude_read(turn, id);
    }

    /// All is known: merge, answer, write back.
    fn conclude_read(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Read(mut slot)) = self.slots.remove(id) else {
            return;
        };
        if is_hedge_used(&slot) {
            mark::reach(Mark::HedgeUsed);
        }
        let token = slot.request.request().token;
        let fingerprints: Vec<u64> = slot.replicas.iter().filter_map(held).collect();
        let is_equal = fingerprints.windows(2).all(|pair| pair[0] == pair[1]);
        let replicas = fingerprints.len() as u8;
        let merged = match merge(&slot.replicas) {
            Ok(merged) => merged,
            Err(()) => return fail(turn, slot.id, Failure::BadObject),
        };
        self.stats.digests_differed += u64::from(!is_equal);
        let mut encoded = Vec::new();
        let mut fingerprint = 0;
        if let Some(object) = &merged {
            object.encode(&mut encoded);
            fingerprint = object.fingerprint(token.0).bits();
        }
        let is_behind =
            |replica: &ReadReplica| held(replica).is_some_and(|held| held != fingerprint);
        let request = slot.request.request();
        let key = request.key_name();
        for replica in slot.replicas[1..]
            .iter()
            .filter(|replica| is_behind(replica))
        {
            self.repair_peer(turn, replica.node, key, &encoded);
        }
        let is_mended = is_behind(&slot.replicas[0])
            || matches!(slot.replicas[0].state, ReadState::Failed) && merged.is_some();
        if matches!(slot.then, Then::Write) {
            if !is_mended {
                return self.coordinate_write(turn, &slot.request(), Past::default());
            }
            let kept = slot.request.clone();
            slot.is_mending = true;
            slot.due_ns = u64::MAX;
            let id = self.slots.insert(Slot::Read(slot));
            let key = kept.request().key_name();
            return mend(turn, internal(Purpose::Slot, id), key, &encoded);
        }
        if is_mended {
            self.stats.read_repairs += 1;
            mark::reach(Mark::OwnReplicaMended);
            mend(turn, NOBODY, key, &encoded);
        }
        let receipt = receipt(replicas, slot.answered_zones(turn.view), 0, 0);
        let is_there =
            ObjectView::parse(&encoded).is_ok_and(|view| !view.is_tombstone_only(turn.now.wall_ms));
        let outcome = match request.op {
            Op::Exists => Outcome::Exists(is_there),
            _ if is_there => Outcome::Object {
                object: turn.effects.keep(&encoded),
                key_hash: token.0,
                receipt,
            },
            _ => Outcome::Absent { receipt },
        };
        client_waited(turn, slot.started_ns);
        turn.effects.reply(slot.id, outcome);
    }

    /// The own replica has the newest: the write that waited for it begins.
    fn mended(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        let Some(Slot::Read(slot)) = self.slots.remove(id) else {
            return;
        };
        if let Outcome::Failed(failure) = outcome {
            return fail(turn, slot.id, failure);
        }
        self.coordinate_write(turn, &slot.request(), Past::default());
    }

    /// Everybody was asked, and too few answered: those that seem alive are asked again in a moment.
    fn retry_read(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let now_ns = turn.now.mono_ns;
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let until_ns = slot.deadline_ns.min(slot.started_ns + RETRY_FOR_NS);
        let may_answer = slot.replicas[1..].iter().any(|replica| {
            let number = turn.view.number_of(replica.node);
            number.is_some_and(|number| turn.view.node(number).is_alive)
        });
        if !may_answer || now_ns + RETRY_STEP_NS >= until_ns {
            return self.read_failed(turn, id);
        }
        self.arm(now_ns + RETRY_STEP_NS, id);
    }

    /// Asks those again that failed, when nobody is left to wait for.
    fn read_failed_again(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.is_mending || slot.is_waiting() || slot.is_met(turn.view) {
            return;
        }
        let again: Vec<usize> = (1..slot.replicas.len())
            .filter(|at| matches!(slot.replicas[*at].state, ReadState::Failed))
            .collect();
        for at in again {
            mark::reach(Mark::ReadAskedAgain);
            if let Some(Slot::Read(slot)) = self.slots.get_mut(id) {
                slot.replicas[at].state = ReadState::Waiting;
            }
            self.ask_replica(turn, id, at, false);
        }
    }

    fn read_failed(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Read(slot)) = self.slots.remove(id) else {
            return;
        };
        self.stats.reads_failed += 1;
        client_waited(turn, slot.started_ns);
        let got = slot.answered() as u8;
        let failure = match slot.local_failure {
            // Alone with a damaged record: that is what there is to say.
            Some(failure) if slot.needed == 1 && slot.replicas.len() == 1 => failure,
            _ if got >= slot.needed => {
                let zones = slot.answered_zones(turn.view);
                no_zones(zones, slot.zones_needed, false)
            }
            _ => no_quorum(got, slot.needed),
        };
        fail(turn, slot.id, failure);
    }

    /// A hedge for the slow, an end for the silent, and the client's deadline.
    pub(super) fn read_due(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let now_ns = turn.now.mono_ns;
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.deadline_ns <= now_ns {
            return self.read_failed(turn, id);
        }
        self.read_failed_again(turn, id);
        let Some(Slot::Read(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let mut silent = Vec::new();
        for replica in &mut slot.replicas[1..] {
            let is_silent = now_ns.saturating_sub(replica.asked_ns) >= GIVE_UP_NS;
            if is_silent && matches!(replica.state, ReadState::Waiting) {
                replica.state = ReadState::Failed;
                silent.push(replica.node);
            }
        }
        let must_hedge = !slot.is_hedged && !slot.is_mending && slot.is_waiting();
        slot.is_hedged |= must_hedge;
        for node in silent {
            self.peers.failed(node, now_ns);
        }
        if must_hedge && self.ask_another(turn, id) {
            self.stats.hedges += 1;
        }
        self.advance_read(turn, id);
        if let Some(Slot::Read(slot)) = self.slots.get_mut(id) {
            let at_ns = slot
                .deadline_ns
                .min(now_ns.saturating_add(HEDGE_AFTER_NS * 5))
                .max(now_ns + 1);
            self.arm(at_ns, id);
        }
    }
}

/// Whether a replica that was asked later answered, and one that was asked first did not.
fn is_hedge_used(slot: &ReadSlot) -> bool {
    let first = slot.replicas.iter().take(usize::from(slot.needed));
    slot.is_hedged
        && first
            .filter(|replica| matches!(replica.state, ReadState::Waiting))
            .count()
            > 0
}

fn held(replica: &ReadReplica) -> Option<u64> {
    match replica.state {
        ReadState::Held(fingerprint, _) => Some(fingerprint),
        ReadState::Waiting | ReadState::Failed => None,
    }
}

/// The join of all objects that are at hand.
fn merge(replicas: &[ReadReplica]) -> Result<Option<Object>, ()> {
    let mut merged: Option<Object> = None;
    for replica in replicas {
        let ReadState::Held(_, Some(bytes)) = &replica.state else {
            continue;
        };
        let object = ObjectView::parse(bytes).map_err(drop)?.to_owned();
        merged = Some(match merged {
            Some(merged) if mutant::is(Mutant::ReadUnmerged) => merged,
            Some(merged) => merged.merge(&object),
            None => object,
        });
    }
    Ok(merged)
}

/// Brings the own replica up.
fn mend(turn: &mut Turn<'_>, id: RequestId, key: KeyName<&[u8]>, object: &[u8]) {
    turn.ask_own(id, key, Durability::Buffered, Op::Merge { object });
}
