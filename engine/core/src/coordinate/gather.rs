//! What concerns all keys: how many there are, and the next of them. No one node may hold them all.
//!
//! Each partition's keys are counted by the first node of its read set that seems alive. A walk goes through the partitions
//! in their order, whoever reads them: those in a row that this node reads in one go, each other one at a node that does. So
//! its cursor, a token, says what is behind it also where partitions move meanwhile.

use crate::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use crate::base::slots::SlotId;
use crate::port::ids::call;
use crate::port::{Failure, KeyName, Lane, Message, Op, Outcome, Request};
use crate::ring::RingView;

use super::slot::{CountSlot, Slot};
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
        let partition = turn.view.slices.partition_of(Token(cursor));
        if request.is_forwarded || turn.view.is_alone() || is_read_here(turn.view, partition) {
            return turn.ask_replica(*request);
        }
        let (slices, shard) = (turn.view.slices, turn.replica.config().shard);
        let (first, last) = slices.slice(partition, shard);
        let token = Token(cursor.clamp(first.0, last.0));
        let Some(holder) = self.holders_by_cost(turn, token).first().copied() else {
            return fail(turn, request.id, Failure::NoHolder);
        };
        // The answering shard owns a slice of its own cut: the walk goes on where that ends, or with the next partition.
        let theirs = turn
            .view
            .number_of(holder)
            .and_then(|number| slices.of_shards(turn.view.node(number).shards))
            .map_or(last, |cut| cut.slice(partition, cut.shard_of(token)).1);
        let next = if theirs < last {
            theirs.0 + 1
        } else {
            slices
                .partition_behind(partition)
                .map_or(0, |next| slices.beginning(next, shard).0)
        };
        let named = match request.op {
            Op::Scan { count, .. } if slices.is_beginning(Token(cursor), shard) => Request {
                op: Op::Scan {
                    cursor: first.0.saturating_sub(1),
                    count,
                },
                ..*request
            },
            _ => *request,
        };
        let resume = Resume { last, next };
        self.forward_scan(turn, &Request { token, ..named }, resume);
    }
}

/// Of a walk that another node goes on with: how far, and where it goes on behind that.
#[derive(Clone, Copy)]
pub(super) struct Resume {
    /// The last token of the slice here; theirs may be longer.
    last: Token,
    /// The cursor behind theirs; 0 where nothing is.
    next: u64,
}

impl Resume {
    /// A walk's answer, and where it goes on when this part is through.
    pub(super) fn after(self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Keys { next_cursor, keys }
                if next_cursor == 0 || next_cursor > self.last.0 =>
            {
                Outcome::Keys {
                    next_cursor: self.next,
                    keys,
                }
            }
            outcome => outcome,
        }
    }
}

fn is_read_here(view: &RingView, partition: PartitionId) -> bool {
    let row = view.partition(partition);
    view.my_number()
        .is_some_and(|number| row.is_some_and(|row| row.read.contains(&number)))
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
