//! Questions of peers to this shard's replica.

use crate::base::durability::Durability;
use crate::base::ids::{NodeId, PartitionId};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::{Purpose, internal, of_upkeep_call};
use crate::port::{
    ByteRange, CallId, Failure, Held, KeyName, Message, Op, Outcome, Peer, Refusal, Request,
};
use crate::replica::hints::keep_hint;

use super::slot::{PendingHint, Served, ServedSlot, Slot};
use super::{Coordinator, Turn, client_waited};

impl Coordinator {
    pub(super) fn serve_apply(
        &mut self,
        turn: &mut Turn<'_>,
        (peer, call): (Peer, CallId),
        key: KeyName<&[u8]>,
        object: &[u8],
        (is_durable, is_background): (bool, bool),
        hint_for: Option<NodeId>,
    ) {
        let partition = turn.view.slices.partition_of(key.token);
        if hint_for.is_none() && !takes_writes(turn, partition, is_background) {
            return self.answer_apply(turn, peer, call, Err(Refusal::NotHere));
        }
        if mutant::is(Mutant::AppliedUnapplied) && self.queue() > 4 && call != CallId::NOBODY {
            return self.answer_apply(turn, peer, call, Ok(true));
        }
        let id = self.serve(turn, peer, call, Served::Apply);
        if of_upkeep_call(call).is_some() {
            let now_ns = turn.now.mono_ns;
            turn.replica.background.spend(now_ns, object.len() as u64);
        }
        let durability = if is_durable {
            Durability::One
        } else {
            Durability::Buffered
        };
        if let (Some(target), Some(Slot::Served(served))) = (hint_for, self.slots.get_mut(id)) {
            served.hint = Some(Box::new(PendingHint {
                target,
                bucket: key.bucket.to_vec(),
                key: key.key.to_vec(),
                token: key.token,
            }));
        }
        let id = internal(Purpose::Slot, id);
        turn.ask_own(id, key, durability, Op::Merge { object });
    }

    fn answer_apply(
        &self,
        turn: &mut Turn<'_>,
        peer: Peer,
        call: CallId,
        result: Result<bool, Refusal>,
    ) {
        if call == CallId::NOBODY {
            return;
        }
        let queue = self.queue();
        let message = Message::Applied {
            call,
            result,
            queue,
        };
        turn.answer_peer(peer, message);
    }

    fn answer_fetch(
        &self,
        turn: &mut Turn<'_>,
        peer: Peer,
        call: CallId,
        result: Result<Held<ByteRange>, Refusal>,
    ) {
        let queue = self.queue();
        let message = Message::Fetched {
            call,
            result,
            queue,
        };
        turn.answer_peer(peer, message);
    }

    pub(super) fn serve_fetch(
        &mut self,
        turn: &mut Turn<'_>,
        (peer, call): (Peer, CallId),
        key: KeyName<&[u8]>,
        wants_object: bool,
    ) {
        let partition = turn.view.slices.partition_of(key.token);
        let is_holder = turn.view.my_number().is_some_and(|number| {
            let row = turn.view.partition(partition);
            row.is_some_and(|row| row.read.contains(&number))
        });
        if !is_holder {
            return self.answer_fetch(turn, peer, call, Err(Refusal::NotHere));
        }
        let id = self.serve(turn, peer, call, Served::Fetch);
        let id = internal(Purpose::Slot, id);
        turn.ask_own(id, key, Durability::Buffered, Op::Fetch { wants_object });
    }

    /// Whether a forwarded write comes for the first time; a repetition is dropped.
    pub(super) fn is_first(&mut self, turn: &Turn<'_>, from: Peer, name: u64) -> bool {
        let drift_ms = turn.replica.config().clock_drift_ms_max;
        let is_first = self.once.is_first(turn.now.mono_ns, drift_ms, from, name);
        if is_first {
            return true;
        }
        mark::reach(Mark::ForwardedTwice);
        mutant::is(Mutant::RepetitionServed)
    }

    /// Coordinates a forwarded request here.
    pub(super) fn serve_request(
        &mut self,
        turn: &mut Turn<'_>,
        (peer, call): (Peer, CallId),
        mut request: Request<'_>,
    ) {
        let id = self.serve(turn, peer, call, Served::Request);
        request.id = internal(Purpose::Slot, id);
        request.deadline_ns = request
            .deadline_ns
            .map(|left_ns| turn.now.mono_ns.saturating_add(left_ns));
        request.is_forwarded = true;
        request.wants_object = false;
        self.request(turn, &request);
    }

    fn serve(&mut self, turn: &Turn<'_>, peer: Peer, call: CallId, kind: Served) -> SlotId {
        self.slots.insert(Slot::Served(ServedSlot {
            peer,
            call,
            kind,
            since_ns: turn.now.mono_ns,
            due_ns: u64::MAX,
            result: None,
            hint: None,
        }))
    }

    /// The replica (or this coordinator) has the answer for a peer.
    pub(super) fn served(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        let Some(Slot::Served(mut served)) = self.slots.remove(id) else {
            return;
        };
        let (peer, call) = (served.peer, served.call);
        let is_background = of_upkeep_call(call).is_some();
        // A request has slots of its own, which count it.
        if !is_background && served.kind != Served::Request {
            client_waited(turn, served.since_ns);
        }
        // Not before the object is there: what is delivered for a hint is what lies beside it.
        if let (Some(hint), Outcome::Written { .. }) = (&served.hint, &outcome)
            && !mutant::is(Mutant::StandInForgets)
        {
            let key = KeyName {
                bucket: hint.bucket.as_slice(),
                key: hint.key.as_slice(),
                token: hint.token,
            };
            keep_hint(turn, hint.target, key);
            self.stats.hints_kept += 1;
        }
        match served.kind {
            Served::Request => {
                let (outcome, bytes) = gather(turn, outcome);
                let message = Message::Outcome {
                    call,
                    outcome,
                    bytes,
                };
                turn.answer_peer(peer, message);
            }
            Served::Apply => {
                let result = match outcome {
                    Outcome::Written { receipt, .. } => Ok(receipt.on_stable_media > 0),
                    Outcome::Failed(failure) => Err(refusal(failure)),
                    _ => Err(Refusal::Unreadable),
                };
                let now_ns = turn.now.mono_ns;
                let at_ns = turn.replica.background.answer_at_ns(now_ns);
                if is_background && result.is_ok() && at_ns > now_ns {
                    served.result = Some(result);
                    let id = self.slots.insert(Slot::Served(served));
                    return self.arm(at_ns, id);
                }
                self.answer_apply(turn, peer, call, result);
            }
            Served::Fetch => {
                let result = match outcome {
                    Outcome::Held(held) => Ok(held),
                    Outcome::Failed(failure) => Err(refusal(failure)),
                    _ => Err(Refusal::Unreadable),
                };
                self.answer_fetch(turn, peer, call, result);
            }
        }
    }

    /// A peer's background has waited long enough for the answer to what it sent.
    pub(super) fn served_late(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        if let Some(Slot::Served(served)) = self.slots.remove(id)
            && let Some(result) = served.result
        {
            self.answer_apply(turn, served.peer, served.call, result);
        }
    }

    fn queue(&self) -> u32 {
        self.slots.len() as u32
    }
}

/// Whether this node takes writes of a partition: it holds it, or is to hold it. One that is to let go holds it until it has
/// let go, and takes what clients write, since by the next layout it may be read again at once. What others bring it (hints,
/// what a comparison found) it refuses: that is for those that are to keep the partition, and would come after it had handed
/// over what it had.
fn takes_writes(turn: &Turn<'_>, partition: PartitionId, is_background: bool) -> bool {
    let Some(number) = turn.view.my_number() else {
        return false;
    };
    turn.view.partition(partition).is_some_and(|row| {
        let is_draining = row.is_draining_here && !mutant::is(Mutant::DrainingRefuses);
        row.write.contains(&number) || is_draining && !is_background
    })
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Overloaded { .. } => Refusal::Overloaded,
        Failure::DiskFull => Refusal::DiskFull,
        Failure::ReadOnly | Failure::InDoubt => Refusal::ReadOnly,
        Failure::Stopping => Refusal::Stopping,
        Failure::BadObject => Refusal::BadObject,
        _ => Refusal::Unreadable,
    }
}

/// The outcome's bytes in one range, and the outcome that refers to them there.
fn gather(turn: &mut Turn<'_>, outcome: Outcome) -> (Outcome, ByteRange) {
    let mut bytes = Vec::new();
    let all = &turn.effects.bytes;
    let outcome = outcome.map(|range| {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(range.of(all));
        ByteRange {
            start,
            end: bytes.len() as u32,
        }
    });
    (outcome, turn.effects.keep(&bytes))
}
