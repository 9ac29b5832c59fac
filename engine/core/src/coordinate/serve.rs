//! Questions of peers to this shard's replica.

use crate::base::durability::Durability;
use crate::base::ids::{NodeId, PartitionId};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::{Purpose, internal};
use crate::port::{
    CallId, Failure, Held, KeyName, Message, Op, Outcome, Peer, Quorum, Refusal, Request,
};
use crate::replica::hints::keep_hint;

use super::slot::{PendingHint, Served, ServedSlot, Slot};
use super::{Coordinator, Turn, me};

/// A repair that nobody waits for.
const NOBODY: CallId = CallId(u64::MAX);

impl Coordinator {
    pub(super) fn serve_apply(
        &mut self,
        turn: &mut Turn<'_>,
        (peer, call): (Peer, CallId),
        key: KeyName<&[u8]>,
        object: &[u8],
        is_durable: bool,
        hint_for: Option<NodeId>,
    ) {
        let partition = turn.view.slices.partition_of(key.token);
        if hint_for.is_none() && !is_kept_here(turn, partition) {
            return self.refuse_apply(turn, peer, call, Refusal::NotHere);
        }
        if mutant::is(Mutant::AppliedUnapplied) && self.queue() > 4 && call != NOBODY {
            let (result, queue) = (Ok(true), self.queue());
            return turn.answer_peer(
                peer,
                Message::Applied {
                    call,
                    result,
                    queue,
                },
            );
        }
        let id = self.serve(peer, call, Served::Apply);
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
        ask(turn, id, key, Some(durability), Op::Merge { object });
    }

    fn refuse_apply(&mut self, turn: &mut Turn<'_>, peer: Peer, call: CallId, why: Refusal) {
        if call == NOBODY {
            return;
        }
        let queue = self.queue();
        let message = Message::Applied {
            call,
            result: Err(why),
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
        let is_holder = me(turn.view).is_some_and(|number| {
            turn.view
                .partition(partition)
                .is_some_and(|row| row.read.contains(&number) || row.is_draining_here)
        });
        if !is_holder {
            let queue = self.queue();
            let message = Message::Fetched {
                call,
                result: Err(Refusal::NotHere),
                queue,
            };
            return turn.answer_peer(peer, message);
        }
        let id = self.serve(peer, call, Served::Fetch);
        ask(turn, id, key, None, Op::Fetch { wants_object });
    }

    /// Coordinates a forwarded request here.
    pub(super) fn serve_request(
        &mut self,
        turn: &mut Turn<'_>,
        (peer, call): (Peer, CallId),
        mut request: Request<'_>,
    ) {
        let id = self.serve(peer, call, Served::Request);
        request.id = internal(Purpose::Slot, id);
        request.deadline_ns = request
            .deadline_ns
            .map(|left_ns| turn.now.mono_ns.saturating_add(left_ns));
        request.is_forwarded = true;
        request.wants_object = false;
        self.request(turn, &request);
    }

    fn serve(&mut self, peer: Peer, call: CallId, kind: Served) -> SlotId {
        self.slots.insert(Slot::Served(ServedSlot {
            peer,
            call,
            kind,
            hint: None,
        }))
    }

    /// The replica (or this coordinator) has the answer for a peer.
    pub(super) fn served(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        let Some(Slot::Served(served)) = self.slots.remove(id) else {
            return;
        };
        let queue = self.queue();
        let (peer, call) = (served.peer, served.call);
        // Not before the object is there: what is delivered for a hint is what lies beside it.
        if let (Some(hint), Outcome::Written { .. }) = (&served.hint, &outcome)
            && !mutant::is(Mutant::StandInForgets)
        {
            let key = KeyName {
                bucket: hint.bucket.as_slice(),
                key: hint.key.as_slice(),
                token: hint.token,
            };
            keep_hint(turn.replica, turn.now, hint.target, key, turn.effects);
            self.stats.hints_kept += 1;
        }
        match served.kind {
            Served::Request => {
                let bytes = gather(turn, outcome);
                turn.answer_peer(
                    peer,
                    Message::Outcome {
                        call,
                        outcome: bytes.0,
                        bytes: bytes.1,
                    },
                );
            }
            Served::Apply if call == NOBODY => {}
            Served::Apply => {
                let result = match outcome {
                    Outcome::Written { receipt, .. } => Ok(receipt.on_stable_media > 0),
                    Outcome::Failed(failure) => Err(refusal(failure)),
                    _ => Err(Refusal::Unreadable),
                };
                let message = Message::Applied {
                    call,
                    result,
                    queue,
                };
                turn.answer_peer(peer, message);
            }
            Served::Fetch => {
                let result = match outcome {
                    Outcome::Held(Held {
                        fingerprint,
                        object,
                    }) => Ok(Held {
                        fingerprint,
                        object,
                    }),
                    Outcome::Failed(failure) => Err(refusal(failure)),
                    _ => Err(Refusal::Unreadable),
                };
                let message = Message::Fetched {
                    call,
                    result,
                    queue,
                };
                turn.answer_peer(peer, message);
            }
        }
    }

    fn queue(&self) -> u32 {
        self.slots.len() as u32
    }
}

/// Whether this node holds a partition, is to hold it, or drains it.
fn is_kept_here(turn: &Turn<'_>, partition: PartitionId) -> bool {
    let Some(number) = me(turn.view) else {
        return false;
    };
    turn.view
        .partition(partition)
        .is_some_and(|row| row.write.contains(&number) || row.is_draining_here)
}

fn ask(
    turn: &mut Turn<'_>,
    id: SlotId,
    key: KeyName<&[u8]>,
    durability: Option<Durability>,
    op: Op<'_>,
) {
    let request = Request {
        id: internal(Purpose::Slot, id),
        deadline_ns: None,
        bucket: key.bucket,
        key: key.key,
        token: key.token,
        durability,
        quorum: Quorum::default(),
        wants_object: false,
        is_forwarded: true,
        op,
    };
    turn.replica
        .step(turn.now, crate::port::Event::Request(request), turn.effects);
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
fn gather(turn: &mut Turn<'_>, outcome: Outcome) -> (Outcome, crate::port::ByteRange) {
    let mut bytes = Vec::new();
    let all = &turn.effects.bytes;
    let outcome = outcome.map(|range| {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(range.of(all));
        crate::port::ByteRange {
            start,
            end: bytes.len() as u32,
        }
    });
    (outcome, turn.effects.keep(&bytes))
}
