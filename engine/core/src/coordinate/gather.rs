//! What concerns all keys: how many there are, and the next of them. No one node may hold them all.
//!
//! Each partition's keys are counted by the first node of its read set that seems alive. A walk goes through the
//! partitions that this node reads, then asks for each other one a node that does; its cursor is a token in both parts.

use crate::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use crate::base::slots::SlotId;
use crate::port::ids::{Purpose, call, internal};
use crate::port::{Failure, KeyName, Lane, Message, Op, Outcome, Request};
use crate::ring::RingView;

use super::slot::{CountSlot, ScanSlot, Slot};
use super::{Coordinator, GIVE_UP_NS, Turn, fail};

impl Coordinator {
    /// How many keys the partitions have for which this node answers; on the control shard, those of all other nodes
    /// too.
    pub(super) fn begin_count(&mut self, turn: &mut Turn<'_>, request: &Request<'_>) {
        let own = count_here(turn);
        let shard = turn.replica.config().shard;
        let others: Vec<(NodeId, u16)> = turn
            .view
            .nodes
            .iter()
            .filter(|node| node.id != turn.view.me && node.is_alive)
            .flat_map(|node| (0..node.shards).map(|shard| (node.id, shard)))
            .collect();
        if request.is_forwarded || shard != Lane::CONTROL_SHARD || others.is_empty() {
            return turn.effects.reply(request.id, Outcome::Count(own));
        }
        let now_ns = turn.now.mono_ns;
        let slot = CountSlot {
            id: request.id,
            sum: own,
            waiting: others.iter().map(|(node, _)| Some(*node)).collect(),
        };
        let id = self.slots.insert(Slot::Count(slot));
        for (number, (node, shard)) in others.into_iter().enumerate() {
            let shape = Request {
                deadline_ns: Some(GIVE_UP_NS),
                is_forwarded: true,
                ..request.shape()
            };
            let nothing = turn.effects.keep(&[]);
            let message = Message::Request {
                call: call(id, number as u16),
                name: 0,
                shape,
                key: KeyName {
                    bucket: turn.effects.keep(request.bucket),
                    key: nothing,
                    token: request.token,
                },
                value: nothing,
                context: nothing,
            };
            turn.send(node, Lane::Shard(ShardIndex(shard)), message);
        }
        self.arm(now_ns.saturating_add(GIVE_UP_NS), id);
    }

    /// A node's part of a count. Nodes that do not answer are missing in the sum.
    pub(super) fn counted(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (id, number): (SlotId, usize),
        outcome: Outcome,
    ) {
        let Some(Slot::Count(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if slot.waiting.get(number) != Some(&Some(from)) {
            return;
        }
        slot.waiting[number] = None;
        if let Outcome::Count(count) = outcome {
            slot.sum += count;
        }
        self.finish_count(turn, id, false);
    }

    pub(super) fn count_peer_lost(&mut self, turn: &mut Turn<'_>, id: SlotId, node: NodeId) {
        if let Some(Slot::Count(slot)) = self.slots.get_mut(id) {
            for waiting in &mut slot.waiting {
                *waiting = waiting.filter(|waiting| *waiting != node);
            }
        }
        self.finish_count(turn, id, false);
    }

    pub(super) fn finish_count(&mut self, turn: &mut Turn<'_>, id: SlotId, is_due: bool) {
        let Some(Slot::Count(slot)) = self.slots.get_mut(id) else {
            return;
        };
        if is_due || slot.waiting.iter().all(Option::is_none) {
            let (client, sum) = (slot.id, slot.sum);
            self.slots.remove(id);
            turn.effects.reply(client, Outcome::Count(sum));
        }
    }

    /// The next keys after a cursor.
    pub(super) fn begin_scan(&mut self, turn: &mut Turn<'_>, request: &Request<'_>, cursor: u64) {
        let shard = turn.replica.config().shard;
        let first_elsewhere = next_elsewhere(turn.view, None);
        if request.is_forwarded || first_elsewhere.is_none() {
            return turn.ask_replica(*request);
        }
        let partition = turn.view.slices.partition_of(Token(cursor));
        if cursor != 0 && !is_read_here(turn.view, partition) {
            return self.scan_elsewhere(turn, request, partition, cursor);
        }
        let resume = first_elsewhere.map_or(0, |partition| first_of(turn.view, partition, shard));
        let slot = ScanSlot {
            id: request.id,
            resume,
        };
        let id = self.slots.insert(Slot::Scan(slot));
        let own = Request {
            id: internal(Purpose::Slot, id),
            ..*request
        };
        turn.ask_replica(own);
    }

    /// The own part of a walk has answered: at its end the partitions of other nodes begin.
    pub(super) fn scanned_here(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        let Some(Slot::Scan(slot)) = self.slots.remove(id) else {
            return;
        };
        turn.effects.reply(slot.id, resumed(outcome, slot.resume));
    }

    fn scan_elsewhere(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request<'_>,
        partition: PartitionId,
        cursor: u64,
    ) {
        let shard = turn.replica.config().shard;
        let (first, last) = turn.view.slices.slice(partition, shard);
        let token = Token(cursor.clamp(first.0, last.0));
        let Some(holder) = self.holders_by_cost(turn, token).first().copied() else {
            return fail(turn, request.id, Failure::NoHolder);
        };
        // The answering shard owns a slice of its own cut: the walk goes on where that ends, or with the next partition.
        let theirs = turn
            .view
            .number_of(holder)
            .and_then(|number| turn.view.slices.of_shards(turn.view.node(number).shards))
            .map_or(last, |slices| {
                slices.slice(partition, slices.shard_of(token)).1
            });
        let next = next_elsewhere(turn.view, Some(partition));
        let resume = if theirs < last {
            theirs.0
        } else {
            next.map_or(0, |partition| first_of(turn.view, partition, shard))
        };
        let moved = Request { token, ..*request };
        let named = match moved.op {
            // The first token of a slice stands for its beginning.
            Op::Scan { count, .. } if cursor <= first.0 => Request {
                op: Op::Scan {
                    cursor: first.0.saturating_sub(1),
                    count,
                },
                ..moved
            },
            _ => moved,
        };
        self.forward_scan(turn, &named, resume);
    }
}

/// A walk's answer, and where it goes on when this part is through.
pub(super) fn resumed(outcome: Outcome, resume: u64) -> Outcome {
    match outcome {
        Outcome::Keys {
            next_cursor: 0,
            keys,
        } => Outcome::Keys {
            next_cursor: resume,
            keys,
        },
        outcome => outcome,
    }
}

fn is_read_here(view: &RingView, partition: PartitionId) -> bool {
    let row = view.partition(partition);
    view.my_number()
        .is_some_and(|number| row.is_some_and(|row| row.read.contains(&number)))
}

/// The first partition behind `after` that this node does not read.
fn next_elsewhere(view: &RingView, after: Option<PartitionId>) -> Option<PartitionId> {
    let from = after.map_or(0, |partition| partition.0 + 1);
    (from..view.slices.partitions())
        .map(PartitionId)
        .find(|partition| !is_read_here(view, *partition))
}

/// The cursor that stands for the beginning of a shard's slice.
fn first_of(view: &RingView, partition: PartitionId, shard: ShardIndex) -> u64 {
    view.slices.slice(partition, shard).0.0.max(1)
}

/// The keys of the partitions whose first reader that seems alive is this node.
fn count_here(turn: &Turn<'_>) -> u64 {
    let view = turn.view;
    let Some(number) = view.my_number() else {
        return 0;
    };
    (0..view.slices.partitions())
        .map(PartitionId)
        .filter(|partition| {
            let readers = view.partition(*partition).map(|row| row.read.iter());
            readers
                .into_iter()
                .flatten()
                .find(|reader| view.node(**reader).is_alive)
                == Some(&number)
        })
        .map(|partition| turn.replica.values_of(partition))
        .sum()
}
