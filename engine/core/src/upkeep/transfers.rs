//! Partitions to be gained: compared with their readers until all that is missing here has come, and then said to be held.
//!
//! One is gained when each of its readers that is alive was compared from end to end, nothing of what it listed is missing
//! here, and all of that is on stable media: of those that are away so many may be left out that one of the others has every
//! write that was acknowledged ([`readers_needed`]); so may one that fails again and again. Only sessions count that began
//! [`SETTLE_NS`] after all who write the partition were known to know of this node: what they write later they do not
//! acknowledge unless few miss it, this node counted.

use std::collections::BTreeSet;

use super::duties::{MOVES_MAX, SETTLE_NS, backed_off, readers};
use super::session::{Ended, Kind};
use super::{Job, Upkeep};
use crate::base::ids::{NodeId, PartitionId};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::{Purpose, internal};
use crate::port::{Lane, Note, Outcome};
use crate::replica::turn::Turn;
use crate::ring::{PartitionView, RingView};

/// A reader that others suffice without is left out when so long a pause would be next.
const PATIENCE_NS: u64 = 2_000_000_000;

/// A partition to be gained.
#[derive(Default)]
pub(super) struct Transfer {
    /// From when on all who write it have known that this node is to have it.
    pub(super) known_ns: Option<u64>,
    /// Readers whose copy was compared since, and is here.
    pub(super) compared: BTreeSet<NodeId>,
    pub(super) holder: usize,
    pub(super) not_before_ns: u64,
    pub(super) backoff_ns: u64,
    pub(super) is_running: bool,
    pub(super) is_gained: bool,
    /// Nothing of it lies here from before.
    pub(super) is_fresh: bool,
}

/// The mark of a whole partition that is on its way to stable media, and what it rests on.
pub(super) struct Marking {
    partition: PartitionId,
    known_ns: Option<u64>,
    /// `Replica::taints` when it was made.
    taints: u64,
}

impl Upkeep {
    pub(super) fn start_transfers(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let due: Vec<PartitionId> = self
            .duties
            .transfers
            .iter()
            .filter(|(_, transfer)| {
                !transfer.is_running && !transfer.is_gained && transfer.not_before_ns <= now_ns
            })
            .map(|(partition, _)| *partition)
            .take(MOVES_MAX as usize)
            .collect();
        for partition in due {
            if self.duties.moving >= MOVES_MAX {
                return;
            }
            let Some(row) = turn.view.partition(partition) else {
                continue;
            };
            let holders = readers(turn, row);
            let Some(transfer) = self.duties.transfers.get_mut(&partition) else {
                continue;
            };
            let of_row = |number: &u16| transfer.compared.contains(&turn.view.node(*number).id);
            let compared = row.read.iter().filter(|number| of_row(number)).count();
            let needed = match mutant::is(Mutant::GainedFromOne) {
                true => 1,
                false => readers_needed(turn.view, row),
            };
            let left: Vec<NodeId> = holders
                .into_iter()
                .filter(|node| !transfer.compared.contains(node))
                .collect();
            let is_last = left.is_empty()
                || transfer.backoff_ns >= PATIENCE_NS
                || mutant::is(Mutant::GainedFromOne);
            if compared >= needed && is_last {
                self.mark_gained(turn, partition);
                continue;
            }
            let Some(holder) = left.get(transfer.holder % left.len().max(1)).copied() else {
                transfer.not_before_ns = backed_off(&mut transfer.backoff_ns, now_ns);
                continue;
            };
            if mutant::is(Mutant::GainedUnfetched) {
                transfer.is_gained = true;
                tell_gained(turn, partition);
                continue;
            }
            if !transfer.is_fresh {
                if !forget_former_copy(turn, partition) {
                    transfer.not_before_ns = backed_off(&mut transfer.backoff_ns, now_ns);
                    continue;
                }
                transfer.is_fresh = true;
            }
            transfer.is_running = true;
            self.duties.moving += 1;
            if !self.begin_session(turn, Kind::Transfer, partition, holder) {
                self.move_failed(turn, Kind::Transfer, partition);
            }
        }
    }

    pub(super) fn transfer_passed(&mut self, turn: &mut Turn<'_>, ended: Ended) {
        self.duties.moving = self.duties.moving.saturating_sub(1);
        let partition = ended.partition;
        let Some(transfer) = self.duties.transfers.get_mut(&partition) else {
            return;
        };
        transfer.is_running = false;
        transfer.backoff_ns = 0;
        let now_ns = turn.now.mono_ns;
        let settled_ns = transfer
            .known_ns
            .unwrap_or(now_ns)
            .saturating_add(SETTLE_NS);
        if ended.started_ns < settled_ns {
            // The bulk is here; what counts is compared then.
            transfer.not_before_ns = settled_ns;
            return;
        }
        if ended.taints != turn.replica.taints() {
            // Something was lost meanwhile, which may be of this partition.
            transfer.compared.clear();
            return;
        }
        transfer.compared.insert(ended.peer);
        transfer.holder = 0;
    }

    /// All that must be compared was: says so on stable media, behind all that came.
    fn mark_gained(&mut self, turn: &mut Turn<'_>, partition: PartitionId) {
        let Some(transfer) = self.duties.transfers.get_mut(&partition) else {
            return;
        };
        transfer.is_running = true;
        let marking = Marking {
            partition,
            known_ns: transfer.known_ns,
            taints: turn.replica.taints(),
        };
        let id = self.jobs.insert(Job::Mark(marking));
        let request = internal(Purpose::Upkeep, id);
        if !turn
            .replica
            .mark_whole(turn.now, partition, request, turn.effects)
        {
            self.marked(turn, id, &Outcome::Exists(false));
        }
    }

    /// The mark of a whole partition, and with it all of it, is on stable media, or is not.
    pub(super) fn marked(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: &Outcome) {
        let Some(Job::Mark(marking)) = self.jobs.remove(id) else {
            return;
        };
        let partition = marking.partition;
        let now_ns = turn.now.mono_ns;
        let Some(transfer) = self.duties.transfers.get_mut(&partition) else {
            return;
        };
        transfer.is_running = false;
        // By another layout than before, or with a loss meanwhile, what was compared says nothing: it is compared anew.
        let is_still =
            transfer.known_ns == marking.known_ns && turn.replica.taints() == marking.taints;
        if matches!(outcome, Outcome::Written { .. }) && is_still {
            self.duties.lost_told.remove(&partition);
            transfer.is_gained = true;
            tell_gained(turn, partition);
        } else if is_still {
            transfer.not_before_ns = backed_off(&mut transfer.backoff_ns, now_ns);
        }
    }
}

/// Drops what lies here of a partition that is to be gained; false where there is no room to say so in the log. Nothing
/// that was acknowledged goes: what a node takes before it holds a partition does not count, but for what it keeps for
/// others.
fn forget_former_copy(turn: &mut Turn<'_>, partition: PartitionId) -> bool {
    let is_kept = turn.replica.keys_of(partition) == 0
        || turn.replica.hints_of(partition) > 0
        || turn.replica.tainted().any(|tainted| tainted == partition);
    is_kept
        || turn
            .replica
            .drop_partition(turn.now, partition, turn.effects)
}

pub(super) fn tell_gained(turn: &mut Turn<'_>, partition: PartitionId) {
    let note = Note::Gained {
        shard: turn.replica.config().shard,
        partition,
        epoch: turn.view.epoch,
    };
    turn.effects.notes.push((Lane::CONTROL_SHARD, note));
}

/// How many readers of a partition must be compared with before it is gained: of any so many one has a write that was
/// acknowledged, in each bucket that promises reads of what was written.
fn readers_needed(view: &RingView, row: &PartitionView) -> usize {
    let promising = view.buckets.iter().filter(|b| b.r + b.w > b.n);
    let needed = promising.map(|bucket| usize::from(bucket.n - bucket.w.min(bucket.n)) + 1);
    needed.max().unwrap_or(1).min(row.read.len()).max(1)
}
