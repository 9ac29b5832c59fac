//! Partitions to be handed over: compared with those who are to have them until each has had all of it, and then let go.
//!
//! One that is to be let go takes writes until it is: each of its targets must have got what was here at a moment from which
//! all who write it knew of that ([`SETTLE_NS`]); of what comes later few of them miss anything, as it is acknowledged. What is
//! not kept here by the view (a stand-in's leftovers, a partition that was let go) is dropped when every node of the read set
//! has all of it, no hint of it is left, and nothing came meanwhile.
//!
//! A node that has no places any more is removed for good when it has let all go. So it keeps its last ones until what it
//! keeps as a stand-in for others, of other partitions, is delivered: that may be one of the W copies of a write.

use std::collections::BTreeMap;

use super::Upkeep;
use super::duties::{LEFTOVERS_NS, MOVES_MAX, SETTLE_NS, backed_off, is_kept, partitions};
use super::session::Kind;
use crate::base::ids::{NodeId, PartitionId};
use crate::base::mutant::{self, Mutant};
use crate::port::{Lane, Note};
use crate::replica::records::RangeSum;
use crate::replica::turn::Turn;
use crate::ring::{PartitionView, RingView};

/// How soon is looked again whether what is kept for others is delivered.
const HINTS_NS: u64 = 100_000_000;

/// A partition to be handed over.
#[derive(Default)]
pub(super) struct Handover {
    /// Of one that is to be let go: from when on all who write it have known that.
    pub(super) known_ns: Option<u64>,
    /// Who had all of it, since when, and what all of it was then.
    pub(super) covered: BTreeMap<NodeId, (u64, RangeSum)>,
    pub(super) not_before_ns: u64,
    pub(super) backoff_ns: u64,
    pub(super) is_running: bool,
    /// The targets that had all of it when the control shard was told.
    pub(super) told: Option<Vec<NodeId>>,
}

impl Upkeep {
    pub(super) fn start_handovers(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let mut all = partitions(turn.view);
        // What lies in a partition that is handed over is handed over with it.
        self.duties.awaits_hints = self.duties.is_leaving
            && turn.replica.hints() > 0
            && all.any(|(at, row)| !row.is_draining_here && turn.replica.hints_of(at) > 0);
        let due: Vec<PartitionId> = self
            .duties
            .handovers
            .iter()
            .filter(|(_, handover)| !handover.is_running && handover.not_before_ns <= now_ns)
            .map(|(partition, _)| *partition)
            .collect();
        for partition in due {
            if self.duties.moving >= MOVES_MAX {
                return;
            }
            self.start_handover(turn, partition);
        }
    }

    /// Hands a partition over to the next node of the read set that may lack some of it; drops it when all have it.
    pub(super) fn start_handover(&mut self, turn: &mut Turn<'_>, partition: PartitionId) {
        let now_ns = turn.now.mono_ns;
        let view = turn.view;
        let (Some(row), Some(me)) = (view.partition(partition), view.my_number()) else {
            return;
        };
        let held = turn.replica.sum_of(turn.replica.slice(partition));
        let awaits_hints = self.duties.awaits_hints;
        let Some(handover) = self.duties.handovers.get_mut(&partition) else {
            return;
        };
        let is_left = !is_kept(row, me);
        if is_left && (held.count == 0 || turn.replica.hints_of(partition) > 0) {
            self.duties.handovers.remove(&partition);
            return;
        }
        if !is_left && !row.is_draining_here || row.read.is_empty() {
            self.duties.handovers.remove(&partition);
            return;
        }
        // What is to be let go still takes writes. Those that come after this moment are with the targets as well.
        let counts_from_ns = handover
            .known_ns
            .map(|known_ns| known_ns.saturating_add(SETTLE_NS));
        let is_settled = counts_from_ns.is_some_and(|from_ns| from_ns <= now_ns);
        let is_covered = |node: NodeId| match handover.covered.get(&node) {
            Some((since_ns, _)) if !is_left => {
                !is_settled || counts_from_ns.is_some_and(|from_ns| from_ns <= *since_ns)
            }
            Some((_, all)) => *all == held,
            None => false,
        };
        let others = row.read.iter().map(|number| view.node(*number));
        let is_untold = mutant::is(Mutant::DrainedUnshared);
        let lacking: Vec<(NodeId, bool)> = others
            .filter(|node| !is_untold && node.id != view.me)
            .filter(|node| !is_covered(node.id))
            .map(|node| (node.id, node.is_alive))
            .collect();
        if lacking.is_empty() && !is_left && !is_settled {
            // The bulk is there.
            handover.not_before_ns = counts_from_ns.unwrap_or(now_ns.saturating_add(LEFTOVERS_NS));
            return;
        }
        if lacking.is_empty() {
            handover.not_before_ns = now_ns.saturating_add(LEFTOVERS_NS);
            if is_left {
                if turn
                    .replica
                    .drop_partition(turn.now, partition, turn.effects)
                {
                    self.stats.partitions_dropped += 1;
                    self.stats.handovers_done += 1;
                    self.duties.handovers.remove(&partition);
                }
            } else if awaits_hints {
                handover.not_before_ns = now_ns.saturating_add(HINTS_NS);
            } else if handover.told.is_none() {
                handover.told = Some(targets(view, row));
                self.stats.handovers_done += 1;
                let note = Note::Drained {
                    shard: turn.replica.config().shard,
                    partition,
                    epoch: view.epoch,
                };
                turn.effects.notes.push((Lane::CONTROL_SHARD, note));
            }
            return;
        }
        let Some((target, _)) = lacking.iter().find(|(_, is_alive)| *is_alive).copied() else {
            handover.not_before_ns = backed_off(&mut handover.backoff_ns, now_ns);
            return;
        };
        handover.is_running = true;
        self.duties.moving += 1;
        if !self.begin_session(turn, Kind::Handover, partition, target) {
            self.move_failed(turn, Kind::Handover, partition);
        }
    }
}

/// Who is to have a partition that this node lets go.
pub(super) fn targets(view: &RingView, row: &PartitionView) -> Vec<NodeId> {
    let nodes = row.read.iter().map(|number| view.node(*number));
    nodes.map(|node| node.id).collect()
}
