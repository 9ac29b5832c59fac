//! The slots of the coordinator: one for each client request among the replicas, and for each question of a peer that
//! waits for this shard's replica.

use super::STAND_IN_AFTER_NS;
use super::gather::Resume;
use crate::base::ids::{NodeId, Token};
use crate::base::mutant::{self, Mutant};
use crate::port::{CallId, OwnedRequest, Peer, Receipt, Refusal, Request, RequestId};

/// One replica of a write.
#[derive(Clone, Debug)]
pub(super) struct WriteReplica {
    /// The node.
    pub(super) node: NodeId,
    /// For whom it stands in.
    pub(super) hint_for: Option<NodeId>,
    /// Whether its acknowledgement counts: not that of a node that does not hold the partition yet, or lets go of it.
    pub(super) counts: bool,
    /// Whether it is to let go of the partition: it takes the write, or says that it answers no more reads.
    pub(super) is_draining: bool,
    pub(super) state: Answer,
    pub(super) asked_ns: u64,
}

/// How far a replica's part of a write is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Waiting,
    /// Done; whether it is on stable media.
    Done(bool),
    Failed,
    /// It has let go of the partition, and answers no more reads of it.
    LetGo,
}

/// What came of a request on its way among the nodes so far.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Past {
    /// Whether another node may have begun it, and did not answer: whatever becomes of it here, it is not "not applied".
    pub(super) may_have_happened: bool,
    /// How often all that hold the key were asked, and this node's turn came.
    pub(super) rounds: u8,
}

/// What this shard's own replica said of a write.
#[derive(Clone, Debug)]
pub(super) struct LocalWritten {
    pub(super) existed: bool,
    pub(super) context: Option<Box<[u8]>>,
    pub(super) previous: Option<Box<[u8]>>,
}

/// A write.
pub(super) struct WriteSlot {
    pub(super) id: RequestId,
    /// When its timer is set to; `u64::MAX` without one.
    pub(super) due_ns: u64,
    pub(super) request: OwnedRequest,
    pub(super) started_ns: u64,
    /// When the client stops waiting.
    pub(super) deadline_ns: u64,
    /// Of which view the replicas are.
    pub(super) epoch: u64,
    /// Replicas that the client wants, and acknowledgements.
    pub(super) n: u8,
    pub(super) wanted: u8,
    /// Those that there can be of them.
    pub(super) needed: u8,
    pub(super) stable_needed: u8,
    pub(super) zones_needed: u8,
    pub(super) is_strict: bool,
    pub(super) is_durable: bool,
    /// The object, from when the own replica has it.
    pub(super) object: Option<Box<[u8]>>,
    pub(super) local: Option<LocalWritten>,
    /// The first is this shard's own.
    pub(super) replicas: Vec<WriteReplica>,
    pub(super) is_answered: bool,
    pub(super) past: Past,
    /// For whom a hint is kept here.
    pub(super) hinted: Vec<NodeId>,
    /// Stand-ins that were tried already.
    pub(super) stand_ins_tried: usize,
}

/// One replica of a read.
#[derive(Clone, Debug)]
pub(super) struct ReadReplica {
    pub(super) node: NodeId,
    pub(super) asked_ns: u64,
    pub(super) state: ReadState,
}

/// What a replica said of the key.
#[derive(Clone, Debug)]
pub(super) enum ReadState {
    /// Asked for the fingerprint, or for the object.
    Waiting,
    /// What it holds; the object where it was asked for and there is one.
    Held(u64, Option<Box<[u8]>>),
    /// It did not answer, or could not read.
    Failed,
}

/// What comes after a read.
pub(super) enum Then {
    /// The client's answer.
    Answer,
    /// The write that had to know the newest first; its own slot begins when the own replica has it.
    Write,
}

/// A read.
pub(super) struct ReadSlot {
    pub(super) id: RequestId,
    /// When its timer is set to; `u64::MAX` without one.
    pub(super) due_ns: u64,
    pub(super) request: OwnedRequest,
    pub(super) started_ns: u64,
    pub(super) deadline_ns: u64,
    pub(super) needed: u8,
    pub(super) zones_needed: u8,
    pub(super) then: Then,
    pub(super) replicas: Vec<ReadReplica>,
    pub(super) is_hedged: bool,
    /// Whether the own replica is being brought up for `Then::Write`.
    pub(super) is_mending: bool,
    /// Why the own replica could not answer.
    pub(super) local_failure: Option<crate::port::Failure>,
}

/// A request that another node coordinates.
pub(super) struct ForwardSlot {
    pub(super) id: RequestId,
    /// When its timer is set to; `u64::MAX` without one.
    pub(super) due_ns: u64,
    pub(super) request: OwnedRequest,
    pub(super) deadline_ns: u64,
    pub(super) asked_ns: u64,
    pub(super) to: NodeId,
    pub(super) tried: Vec<NodeId>,
    /// Counts the tries, so that a late answer to a former one is recognised.
    pub(super) attempt: u8,
    pub(super) past: Past,
    /// Whether it waits for its next round, and no node is asked.
    pub(super) is_paused: bool,
    /// Of a walk: where it goes on behind what that node has.
    pub(super) resume: Option<Resume>,
}

/// A count of all nodes' keys.
pub(super) struct CountSlot {
    pub(super) id: RequestId,
    pub(super) sum: u64,
    /// One for each shard of each other node that has not answered.
    pub(super) waiting: Vec<Option<NodeId>>,
}

/// A peer's question that waits for this shard's replica.
pub(super) struct ServedSlot {
    pub(super) peer: Peer,
    pub(super) call: CallId,
    pub(super) kind: Served,
    pub(super) since_ns: u64,
    /// When its timer is set to; `u64::MAX` without one.
    pub(super) due_ns: u64,
    /// What a peer's background is to be told when the timer is due.
    pub(super) result: Option<Result<bool, Refusal>>,
    /// For whom it is kept; the hint is made when the object is there.
    pub(super) hint: Option<Box<PendingHint>>,
}

/// A hint to be.
pub(super) struct PendingHint {
    pub(super) target: NodeId,
    pub(super) bucket: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) token: Token,
}

/// What the peer asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Served {
    Apply,
    Fetch,
    /// A forwarded client request, which this shard coordinates.
    Request,
}

/// Any of them.
pub(super) enum Slot {
    Write(Box<WriteSlot>),
    Read(Box<ReadSlot>),
    Forward(Box<ForwardSlot>),
    Served(ServedSlot),
    Count(CountSlot),
}

impl Slot {
    /// When the timer of one that sets it again and again is due.
    pub(super) fn due_ns(&mut self) -> Option<&mut u64> {
        match self {
            Self::Write(slot) => Some(&mut slot.due_ns),
            Self::Read(slot) => Some(&mut slot.due_ns),
            Self::Forward(slot) => Some(&mut slot.due_ns),
            Self::Served(slot) => Some(&mut slot.due_ns),
            Self::Count(_) => None,
        }
    }
}

/// The replicas of a write that acknowledged and count.
pub(super) struct Tally {
    pub(super) acknowledged: u8,
    pub(super) stable: u8,
    pub(super) stand_ins: u8,
    pub(super) waiting: u8,
    /// Nodes that hold the partition, are to hold it or let go of it, and have not acknowledged.
    pub(super) missing: u8,
}

impl WriteSlot {
    /// The request, with the time that its client has left.
    pub(super) fn request(&self) -> Request<'_> {
        until(self.deadline_ns, &self.request)
    }

    /// Counts the answers.
    pub(super) fn tally(&self, now_ns: u64) -> Tally {
        let mut tally = Tally {
            acknowledged: 0,
            stable: 0,
            stand_ins: 0,
            waiting: 0,
            missing: 0,
        };
        for replica in self.replicas.iter().filter(|r| r.hint_for.is_none()) {
            let is_silent = now_ns.saturating_sub(replica.asked_ns) >= STAND_IN_AFTER_NS;
            let is_missing = match replica.state {
                Answer::Done(_) | Answer::LetGo => false,
                // Others take its part, as hints.
                Answer::Failed => self.is_strict,
                Answer::Waiting => self.is_strict || !is_silent,
            };
            tally.missing += u8::from(is_missing);
            tally.waiting +=
                u8::from(!replica.counts && is_missing && replica.state == Answer::Waiting);
        }
        let counted = self.replicas.iter().filter(|replica| {
            let is_ruled_out = self.is_strict && replica.hint_for.is_some();
            replica.counts && (!is_ruled_out || mutant::is(Mutant::StandInCounts))
        });
        for replica in counted {
            match replica.state {
                Answer::Done(is_stable) => {
                    tally.acknowledged += 1;
                    tally.stable += u8::from(is_stable);
                    tally.stand_ins += u8::from(replica.hint_for.is_some());
                }
                Answer::Waiting => tally.waiting += 1,
                Answer::Failed | Answer::LetGo => {}
            }
        }
        tally
    }

    /// Whether every replica's part has ended.
    pub(super) fn is_settled(&self) -> bool {
        self.replicas
            .iter()
            .all(|replica| replica.state != Answer::Waiting)
    }
}

impl ForwardSlot {
    /// The request, with the time that its client has left.
    pub(super) fn request(&self) -> Request<'_> {
        until(self.deadline_ns, &self.request)
    }
}

/// A request that goes another way from here does not get more time by that, also where its client named none.
fn until(deadline_ns: u64, request: &OwnedRequest) -> Request<'_> {
    Request {
        deadline_ns: Some(deadline_ns),
        ..request.request()
    }
}

impl ReadSlot {
    /// The request, with the time that its client has left.
    pub(super) fn request(&self) -> Request<'_> {
        until(self.deadline_ns, &self.request)
    }

    /// How many replicas have said what they hold.
    pub(super) fn answered(&self) -> usize {
        self.replicas
            .iter()
            .filter(|replica| matches!(replica.state, ReadState::Held(..)))
            .count()
    }

    /// Whether some have yet to say.
    pub(super) fn is_waiting(&self) -> bool {
        self.replicas
            .iter()
            .any(|replica| matches!(replica.state, ReadState::Waiting))
    }
}

/// A receipt of so many replicas.
pub(super) const fn receipt(replicas: u8, zones: u8, stable: u8, stand_ins: u8) -> Receipt {
    Receipt {
        replicas,
        zones,
        on_stable_media: stable,
        stand_ins,
        disk_ns: 0,
    }
}
