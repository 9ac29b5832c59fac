//! Writes: the own replica first, which gives the write its dot; its whole object to the others at the same time; the
//! answer at W acknowledgements.
//!
//! While a partition moves, coordinators and readers may go by different views. So a write also goes to all who hold the
//! partition, are to hold it, or are to let go of it, and of all these at most N − W may be missing when it is acknowledged:
//! then any R > N − W of them show it, whichever N of them a reader takes for the replicas. One that has let go says so and is
//! not missed; until then it takes writes, since by the next layout it may be read again. Acknowledgements count by the view of the moment in which the client is
//! answered. With stand-ins allowed, those that are away are not waited for: a hint is kept, as for any replica.

use crate::base::durability::Durability;
use crate::port::ids::{Purpose, internal};
use crate::port::{Condition, Expiry, Failure, Op, OwnedRequest, Request};
use crate::ring::{BucketView, PartitionView, RingView};

use super::replicas::replicas_of;
use super::slot::{Answer, Past, Slot, Then, WriteReplica, WriteSlot};
use super::zones::{no_zones, within_reach};
use super::{Coordinator, STAND_IN_AFTER_NS, Turn, deadline_ns, doubted, fail, no_quorum};

/// Whether a write must know the newest object before it decides: what it writes or answers is made from what is there,
/// and an older copy would undo what this node missed.
pub(super) fn needs_newest(op: &Op<'_>) -> bool {
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
        self.coordinate_write(turn, request, Past::default());
    }

    /// Coordinates a write here; as a stand-in where this node does not hold the key, and none that does can be reached.
    pub(super) fn coordinate_write(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request<'_>,
        past: Past,
    ) {
        let refuse = |turn: &mut Turn<'_>, failure| {
            fail(turn, request.id, doubted(failure, past.may_have_happened));
        };
        let view = turn.view;
        let (Some(row), Some(number)) = (view.of_token(request.token), view.my_number()) else {
            return refuse(turn, Failure::NoHolder);
        };
        let Some(bucket) = view.bucket(request.bucket) else {
            return refuse(turn, Failure::NoBucket);
        };
        let asked = match Asked::attainable(view, (row, bucket), number, request) {
            Ok(asked) => asked,
            Err(failure) => return refuse(turn, failure),
        };
        let durability = request.durability.unwrap_or(bucket.durability);
        let now_ns = turn.now.mono_ns;
        let is_stand_in = !row.read.contains(&number);
        let missed = row.read.first().filter(|_| is_stand_in);
        let mut replicas = vec![WriteReplica {
            node: view.me,
            hint_for: missed.map(|other| view.node(*other).id),
            counts: true,
            is_draining: false,
            state: Answer::Waiting,
            asked_ns: now_ns,
        }];
        replicas.extend(replicas_of(view, row, asked.n, now_ns));
        let deadline_ns = deadline_ns(turn, request);
        let slot = WriteSlot {
            id: request.id,
            due_ns: u64::MAX,
            request: OwnedRequest::new(request),
            started_ns: now_ns,
            deadline_ns,
            epoch: view.epoch,
            n: asked.n,
            wanted: asked.w,
            needed: asked.needed,
            stable_needed: match durability {
                Durability::Buffered => 0,
                Durability::One => 1,
                Durability::All => asked.needed,
            },
            zones_needed: request.quorum.zones,
            is_strict: request.quorum.is_strict,
            is_durable: durability == Durability::All,
            object: None,
            local: None,
            replicas,
            is_answered: false,
            past,
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
}

/// What a write asks for, and how many acknowledgements there can be of it.
struct Asked {
    n: u8,
    w: u8,
    needed: u8,
}

impl Asked {
    /// Refuses what the nodes that seem alive cannot give, so that it is not begun.
    fn attainable(
        view: &RingView,
        (row, bucket): (&PartitionView, &BucketView),
        me: u16,
        request: &Request<'_>,
    ) -> Result<Self, Failure> {
        let quorum = request.quorum;
        let (n, w) = (pick(quorum.n, bucket.n), pick(quorum.w, bucket.w));
        let is_holder = row.read.contains(&me);
        let others: Vec<u16> = row
            .read
            .iter()
            .copied()
            .filter(|other| *other != me)
            .take(usize::from(n).saturating_sub(usize::from(is_holder)))
            .collect();
        let is_place = is_holder || row.is_aside(me);
        let counted = others.len() as u8 + u8::from(is_place);
        // What is asked for by the request is not bounded by what there is, as the bucket's number is.
        if w > n || quorum.w > counted {
            return Err(no_quorum(counted, w));
        }
        let needed = w.min(counted).max(1);
        let is_alive = |number: &&u16| view.node(**number).is_alive;
        let stand_ins = row.stand_ins.iter().filter(|number| **number != me);
        let stand_ins = if quorum.is_strict {
            0
        } else {
            stand_ins.filter(is_alive).count()
        };
        let reachable = 1 + others.iter().filter(is_alive).count() + stand_ins;
        if reachable < usize::from(needed) || quorum.is_strict && !is_holder {
            return Err(no_quorum(reachable as u8, needed));
        }
        if quorum.zones > 1 {
            let zones = within_reach(view, row, (me, &others), quorum.is_strict);
            if zones < quorum.zones {
                return Err(no_zones(zones, quorum.zones, false));
            }
        }
        Ok(Self { n, w, needed })
    }
}

/// A request's number, or the bucket's.
pub(super) const fn pick(asked: u8, bucket: u8) -> u8 {
    if asked == 0 { bucket } else { asked }
}
