//! The way to a node that holds the key: a request that came to another one is coordinated there, with one hop.

use crate::base::ids::{NodeId, Token};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::call;
use crate::port::{
    ByteRange, CallId, Condition, ContextArg, Failure, Lane, Message, Op, Outcome, OwnedRequest,
    Request,
};
use crate::version::WriteId;

use super::gather::Resume;
use super::slot::{ForwardSlot, Past, Slot};
use super::write::needs_newest;
use super::{
    Coordinator, GIVE_UP_NS, RETRY_STEP_NS, Turn, client_waited, deadline_ns, doubted, fail,
    slot_of,
};

/// The first pause between two rounds among those that hold a key is [`RETRY_STEP_NS`]; so often it is doubled, to 320 ms.
const PAUSE_DOUBLINGS_MAX: u8 = 5;
/// How many nodes are asked in one round.
const TRIES_MAX: u8 = 8;

impl Coordinator {
    /// This node does not hold the key: the request is coordinated at one that does.
    pub(super) fn begin_forward(&mut self, turn: &mut Turn<'_>, request: &Request<'_>) {
        if request.is_forwarded {
            // The sender's ring is another one: it is told, and looks again.
            return fail(turn, request.id, Failure::NoHolder);
        }
        self.forward_elsewhere(turn, request, Failure::NoHolder, Past::default());
    }

    /// Hands a request to the best other node that holds its key; without one it fails so. At once the first time: see
    /// [`Self::pause`].
    pub(super) fn forward_elsewhere(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request<'_>,
        failure: Failure,
        past: Past,
    ) {
        let named = self.named(turn, request);
        let id = self.insert_forward(turn, &named, None, past);
        if past.rounds > 0 {
            return self.pause(turn, id, failure);
        }
        self.stats.forwards += 1;
        self.forward_next(turn, id, failure);
    }

    /// All that hold the key were asked, and this node could not take the write either: the next round comes after a pause,
    /// while there is anybody to ask. A refused connection costs no time, so rounds without a pause would follow each other as
    /// fast as this core runs, until the deadline.
    fn pause(&mut self, turn: &mut Turn<'_>, id: SlotId, failure: Failure) {
        let Some(Slot::Forward(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let (token, past, deadline_ns) = (slot.request().token, slot.past, slot.deadline_ns);
        let at_ns = turn.now.mono_ns.saturating_add(pause_ns(past.rounds));
        let me = turn.view.me;
        let holders = self.holders_by_cost(turn, token);
        let Some(Slot::Forward(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if at_ns >= deadline_ns || holders.iter().all(|node| *node == me) {
            let client = slot.id;
            self.slots.remove(id);
            return fail(turn, client, doubted(failure, past.may_have_happened));
        }
        slot.is_paused = true;
        mark::reach(Mark::RoundPaused);
        self.arm(at_ns, id);
    }

    /// Hands a walk to a node that holds its partition; at the end of that, it goes on at `resume`.
    pub(super) fn forward_scan(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request<'_>,
        resume: Resume,
    ) {
        let id = self.insert_forward(turn, request, Some(resume), Past::default());
        self.forward_next(turn, id, Failure::NoHolder);
    }

    fn insert_forward(
        &mut self,
        turn: &Turn<'_>,
        request: &Request<'_>,
        resume: Option<Resume>,
        past: Past,
    ) -> SlotId {
        let slot = ForwardSlot {
            id: request.id,
            due_ns: u64::MAX,
            request: OwnedRequest::new(request),
            deadline_ns: deadline_ns(turn, request),
            asked_ns: turn.now.mono_ns,
            to: turn.view.me,
            tried: vec![turn.view.me],
            attempt: 0,
            past,
            is_paused: false,
            resume,
        };
        self.slots.insert(Slot::Forward(Box::new(slot)))
    }

    /// A causal write gets a write id, so that it may be tried through two coordinators and stay one write.
    fn named<'a>(&mut self, turn: &Turn<'_>, request: &Request<'a>) -> Request<'a> {
        let mut named = *request;
        let is_causal = |context: &ContextArg<'_>| !matches!(context, ContextArg::Latest);
        let write_id = match &mut named.op {
            Op::Put(put) if is_causal(&put.context) => &mut put.write_id,
            Op::Delete {
                context, write_id, ..
            } if is_causal(context) => write_id,
            _ => return named,
        };
        if write_id.is_none() {
            self.sequence += 1;
            *write_id = Some(WriteId {
                client: turn.view.me.0 ^ turn.replica.config().shard.0 as u64,
                sequence: turn.now.wall_ms << 20 | self.sequence & 0xf_ffff,
            });
        }
        named
    }

    /// A name that no other forwarded write of this shard ever has, also after a restart; reads need none.
    fn name(&mut self, turn: &Turn<'_>, is_write: bool) -> u64 {
        if !is_write {
            return 0;
        }
        self.forwarded += 1;
        turn.now.wall_ms << 20 | self.forwarded & 0xf_ffff
    }

    /// Hands it to the best holder that was not asked in this round.
    fn forward_next(&mut self, turn: &mut Turn<'_>, id: SlotId, failure: Failure) {
        let Some(Slot::Forward(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let request = slot.request.request();
        let (token, is_write) = (request.token, request.op.is_write());
        let (tried, is_enough) = (slot.tried.clone(), slot.attempt >= TRIES_MAX);
        let mut holders = self.holders_by_cost(turn, token);
        if is_write {
            // One that takes no values would only say so.
            holders.sort_by_key(|node| {
                let number = turn.view.number_of(*node);
                number.is_some_and(|number| !turn.view.node(number).takes_values)
            });
        }
        let next = holders.into_iter().find(|node| !tried.contains(node));
        let Some(to) = next.filter(|_| !is_enough) else {
            return self.forward_exhausted(turn, id, failure);
        };
        let name = self.name(turn, is_write);
        self.hand_on(turn, id, to, name);
    }

    fn hand_on(&mut self, turn: &mut Turn<'_>, id: SlotId, to: NodeId, name: u64) {
        let Some(Slot::Forward(slot)) = self.slots.get_mut(id) else {
            return;
        };
        slot.to = to;
        slot.tried.push(to);
        slot.attempt += 1;
        if slot.attempt == 2 {
            mark::reach(Mark::ForwardedAgain);
        }
        slot.asked_ns = turn.now.mono_ns;
        let silent_ns = slot.asked_ns.saturating_add(GIVE_UP_NS);
        let at_ns = slot.deadline_ns.min(silent_ns);
        let request = slot.request.request();
        let (value, context) = request.op.parts();
        let left_ns = slot.deadline_ns.saturating_sub(turn.now.mono_ns);
        let shape = Request {
            deadline_ns: Some(left_ns),
            is_forwarded: true,
            ..request.shape()
        };
        let message = Message::Request {
            call: call(id, u16::from(slot.attempt)),
            name,
            shape,
            key: turn.effects.keep_key(request.key_name()),
            value: turn.effects.keep(value),
            context: turn.effects.keep(context),
        };
        let lane = Lane::Token(request.token);
        turn.send(to, lane, message);
        self.arm(at_ns, id);
    }

    /// No node that holds the key can be reached: a write is taken here, with hints for all of them. Not one that is made from
    /// what is there, of which this node may know nothing.
    fn forward_exhausted(&mut self, turn: &mut Turn<'_>, id: SlotId, failure: Failure) {
        let Some(Slot::Forward(slot)) = self.slots.remove(id) else {
            return;
        };
        let request = slot.request();
        // A node that knows of no holder at all is in no cluster, or was refused by it: nobody would ever get the write.
        let has_holders = turn
            .view
            .of_token(request.token)
            .is_some_and(|row| !row.read.is_empty());
        let is_sloppy = failure == Failure::NoHolder
            && has_holders
            && request.op.is_write()
            && !request.quorum.is_strict
            && !needs_newest(&request.op)
            && !matches!(request.op, Op::Merge { .. });
        if is_sloppy {
            mark::reach(Mark::WrittenAsStandIn);
            let past = Past {
                rounds: slot.past.rounds.saturating_add(1),
                ..slot.past
            };
            return self.coordinate_write(turn, &request, past);
        }
        fail(turn, slot.id, doubted(failure, slot.past.may_have_happened));
    }

    /// The nodes that hold a token's keys and seem alive, best first. Those that were slow lately come last: they hold the
    /// key, and a stand-in does not.
    pub(super) fn holders_by_cost(&self, turn: &Turn<'_>, token: Token) -> Vec<NodeId> {
        let row = turn.view.of_token(token);
        let readers = row.map_or(&[][..], |row| &row.read).iter().copied();
        self.by_cost(
            turn,
            readers.filter(|number| turn.view.node(*number).is_alive),
        )
    }

    /// A peer's answer to a forwarded request.
    pub(super) fn forward_answered(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        call: CallId,
        outcome: Outcome,
        bytes: &[u8],
    ) {
        let (id, attempt) = slot_of(call);
        if let Some(Slot::Count(_)) = self.slots.get_mut(id) {
            return self.counted(turn, from, (id, attempt), outcome);
        }
        let Some(Slot::Forward(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.to != from || usize::from(slot.attempt) != attempt {
            return;
        }
        let took_ns = turn.now.mono_ns.saturating_sub(slot.asked_ns);
        if let Outcome::Failed(failure) = outcome
            && is_elsewhere(failure)
        {
            return self.forward_next(turn, id, failure);
        }
        let (client, resume, past) = (slot.id, slot.resume, slot.past);
        let asked_ns = slot.asked_ns;
        self.slots.remove(id);
        if resume.is_none() {
            client_waited(turn, asked_ns);
        }
        self.peers.answered(from, took_ns, 0);
        let outcome = match outcome {
            Outcome::Failed(failure) => Outcome::Failed(doubted(failure, past.may_have_happened)),
            outcome => outcome,
        };
        let mut outcome = keep_outcome(turn, outcome, bytes);
        if let Some(resume) = resume {
            outcome = resume.after(outcome);
        }
        turn.effects.reply(client, outcome);
    }

    /// The node that was asked is away. What may have begun there is only asked again where the answer is as true after that:
    /// not what depends on what is there, or answers with it.
    pub(super) fn forward_failed(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Slot::Forward(slot)) = self.slots.get_mut(id) else {
            return;
        };
        let request = slot.request.request();
        let is_repeatable = match request.op {
            Op::Put(put) => put.condition == Condition::Always && !put.want_previous,
            Op::Delete { want_previous, .. } => !want_previous,
            Op::SetExpiry { .. } => false,
            Op::Get
            | Op::Exists
            | Op::Fetch { .. }
            | Op::Merge { .. }
            | Op::Scan { .. }
            | Op::Records { .. }
            | Op::Count
            | Op::Cluster { .. } => true,
        };
        slot.past.may_have_happened |= request.op.is_write() && !mutant::is(Mutant::DoubtDenied);
        if is_repeatable {
            return self.forward_next(turn, id, Failure::NoHolder);
        }
        let client = slot.id;
        self.slots.remove(id);
        fail(turn, client, Failure::InDoubt);
    }

    pub(super) fn forward_due(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let now_ns = turn.now.mono_ns;
        let Some(Slot::Forward(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.deadline_ns <= now_ns {
            let may_have_begun = slot.request.request().op.is_write() && !slot.is_paused;
            let (client, past) = (slot.id, slot.past);
            self.slots.remove(id);
            let failure = if may_have_begun {
                Failure::InDoubt
            } else {
                Failure::DeadlineNotApplied
            };
            return fail(turn, client, doubted(failure, past.may_have_happened));
        }
        if slot.is_paused {
            slot.is_paused = false;
            return self.forward_next(turn, id, Failure::NoHolder);
        }
        if now_ns.saturating_sub(slot.asked_ns) >= GIVE_UP_NS {
            let node = slot.to;
            self.peers.failed(node, now_ns);
            return self.forward_failed(turn, id);
        }
        let at_ns = slot
            .deadline_ns
            .min(slot.asked_ns.saturating_add(GIVE_UP_NS));
        self.arm(at_ns.max(now_ns + 1), id);
    }
}

/// How long a request rests before its next round.
fn pause_ns(rounds: u8) -> u64 {
    RETRY_STEP_NS << rounds.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX)
}

/// Whether another node may do better.
fn is_elsewhere(failure: Failure) -> bool {
    let is_wrong_or_busy = matches!(failure, Failure::NoHolder | Failure::Overloaded { .. });
    is_wrong_or_busy || is_one_nodes(failure)
}

/// Whether it is a matter of the node that says so alone, whose replica did nothing: another that holds the key may.
pub(super) const fn is_one_nodes(failure: Failure) -> bool {
    matches!(
        failure,
        Failure::DiskFull
            | Failure::ReadOnly
            | Failure::Corrupt { .. }
            | Failure::Unknown
            | Failure::ReadFailed(_)
            | Failure::Stopping
    )
}

/// Bytes of an outcome that came with a message, kept for the client.
fn keep_outcome(turn: &mut Turn<'_>, outcome: Outcome, bytes: &[u8]) -> Outcome {
    outcome.map(|range: ByteRange| {
        let part = bytes
            .get(range.start as usize..range.end as usize)
            .unwrap_or(&[]);
        turn.effects.keep(part)
    })
}
