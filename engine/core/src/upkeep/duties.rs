//! What this shard owes its partitions: those to be gained are transferred, those to be let go are handed over and then
//! dropped, those held are compared with the other nodes that hold them. Owns what is known of each, and decides what is due.
//!
//! Never drops what a view without readers calls strange: that is a node that knows nothing yet.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{NodeId, PartitionId};
use crate::base::mutant::{self, Mutant};
use crate::port::{Lane, Note};
use crate::replica::turn::Turn;
use crate::ring::{PartitionView, RingView};

use super::Upkeep;
use super::handovers::{Handover, targets};
use super::rounds::Round;
use super::session::{Ended, Kind};
use super::transfers::{Transfer, tell_gained};

/// Transfers and handovers at once.
pub(super) const MOVES_MAX: u32 = 4;
/// All shards of a node that has shown that it knows a layout work by it after so long.
pub(super) const SETTLE_NS: u64 = 1_000_000_000;
/// What failed is tried again after this; doubled each time, up to the greatest.
const BACKOFF_NS_MIN: u64 = 250_000_000;
const BACKOFF_NS_MAX: u64 = 10_000_000_000;
/// How often leftovers are looked for.
pub(super) const LEFTOVERS_NS: u64 = 2_000_000_000;

/// All of it.
#[derive(Default)]
pub(super) struct Duties {
    pub(super) transfers: BTreeMap<PartitionId, Transfer>,
    pub(super) handovers: BTreeMap<PartitionId, Handover>,
    pub(super) round: Round,
    pub(super) moving: u32,
    pub(super) leftovers_ns: u64,
    /// Of which count of taints the control shard knows, and which partitions it was told of.
    pub(super) taints_told: u64,
    pub(super) lost_told: BTreeSet<PartitionId>,
    /// Whether this node has no places any more: it is to be removed when it has let all go.
    pub(super) is_leaving: bool,
    /// Whether such a one still keeps what may be one of the W copies of a write.
    pub(super) awaits_hints: bool,
}

impl Duties {
    /// How many partitions are to be gained, and how many are.
    pub(super) fn transfers(&self) -> (u64, u64) {
        let gained = self
            .transfers
            .values()
            .filter(|transfer| transfer.is_gained);
        (self.transfers.len() as u64, gained.count() as u64)
    }

    /// How many are to be handed over.
    pub(super) fn handovers(&self) -> u64 {
        self.handovers.len() as u64
    }

    /// How many of them are not told to be done.
    pub(super) fn handovers_left(&self) -> u64 {
        let left = self
            .handovers
            .values()
            .filter(|handover| handover.told.is_none());
        left.count() as u64
    }

    /// Pairs that the round has yet to compare.
    pub(super) const fn comparisons_left(&self) -> u64 {
        let round = &self.round;
        let pairs = if round.is_all {
            round.pairs
        } else {
            round.own_pairs
        };
        pairs.saturating_sub(round.started)
    }

    /// How long these take, in a round that has time.
    pub(super) const fn comparisons_left_ns(&self) -> Option<u64> {
        if self.round.is_soon {
            return None;
        }
        Some(self.comparisons_left().saturating_mul(self.round.step_ns()))
    }

    /// Whether it has something to do soon.
    pub(super) fn is_busy(&self) -> bool {
        self.round.is_soon
            || self.round.running > 0
            || self.transfers.values().any(|transfer| !transfer.is_gained)
            || !self.handovers.is_empty()
    }

    /// When the next comparison is due.
    pub(super) const fn next_ns(&self) -> u64 {
        self.round.next_ns
    }
}

/// Whether a row names this node in any role.
pub(super) fn is_kept(row: &PartitionView, me: u16) -> bool {
    let is_named = [&row.read, &row.write, &row.others]
        .iter()
        .any(|nodes| nodes.contains(&me));
    is_named || row.is_pending_here || row.is_draining_here
}

pub(super) fn partitions(view: &RingView) -> impl Iterator<Item = (PartitionId, &PartitionView)> {
    (0u32..).map(PartitionId).zip(view.partitions.iter())
}

/// The nodes of the read set but for this one that are alive.
pub(super) fn readers(turn: &Turn<'_>, row: &PartitionView) -> Vec<NodeId> {
    row.read
        .iter()
        .map(|number| turn.view.node(*number))
        .filter(|node| node.is_alive && node.id != turn.view.me)
        .map(|node| node.id)
        .collect()
}

pub(super) fn backed_off(backoff_ns: &mut u64, now_ns: u64) -> u64 {
    *backoff_ns = (*backoff_ns * 2).clamp(BACKOFF_NS_MIN, BACKOFF_NS_MAX);
    now_ns.saturating_add(*backoff_ns)
}

impl Upkeep {
    /// Finds the duties of a new view.
    pub(super) fn find_duties(&mut self, former: Option<&RingView>, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let view = turn.view;
        let Some(me) = view.my_number() else {
            return;
        };
        let (mut pending, mut draining) = (BTreeSet::new(), BTreeSet::new());
        let (mut pairs, mut own_pairs) = (0, 0);
        let mut has_places = false;
        for (partition, row) in partitions(view) {
            has_places |= row.write.contains(&me) && !row.is_draining_here;
            if row.is_pending_here {
                pending.insert(partition);
            }
            if row.is_draining_here {
                draining.insert(partition);
            }
            if row.read.contains(&me) {
                pairs += row.read.len() as u64 - 1;
                let is_own = |number: &&u16| **number > me;
                own_pairs += row.read.iter().filter(is_own).count() as u64;
            }
        }
        let duties = &mut self.duties;
        duties.is_leaving = !has_places;
        duties.transfers.retain(|partition, transfer| {
            if !pending.contains(partition) {
                self.stats.partitions_gained += u64::from(transfer.is_gained);
                return false;
            }
            let is_known = view
                .partition(*partition)
                .is_some_and(|row| row.is_move_known);
            if !is_known && transfer.known_ns.take().is_some() {
                // By another layout than before: what was compared says nothing of those who write by it.
                transfer.is_gained = false;
                transfer.compared.clear();
            } else if is_known && transfer.known_ns.is_none() {
                (transfer.known_ns, transfer.not_before_ns) = (Some(now_ns), now_ns);
            }
            if transfer.is_gained {
                tell_gained(turn, *partition);
            }
            true
        });
        for partition in pending {
            duties.transfers.entry(partition).or_insert_with(|| {
                turn.replica.raise_since(partition);
                let row = view.partition(partition);
                let is_known = row.is_some_and(|row| row.is_move_known);
                Transfer {
                    known_ns: is_known.then_some(now_ns),
                    ..Transfer::default()
                }
            });
        }
        duties.handovers.retain(|partition, handover| {
            let row = view.partition(*partition);
            handover.is_running
                || draining.contains(partition)
                || row.is_some_and(|row| !is_kept(row, me))
        });
        for partition in &draining {
            duties.handovers.entry(*partition).or_default();
        }
        for (partition, handover) in &mut duties.handovers {
            let row = view.partition(*partition);
            let row = row.filter(|_| draining.contains(partition));
            let is_known = row.is_some_and(|row| row.is_move_known);
            let targets = row.map(|row| targets(view, row));
            if handover.told != targets || !is_known {
                handover.told = None;
            }
            if !is_known {
                // By another layout than before: those who write by it may count on this node's copy.
                handover.known_ns = None;
            } else if handover.known_ns.is_none() {
                (handover.known_ns, handover.not_before_ns) = (Some(now_ns), now_ns);
            }
        }
        duties.leftovers_ns = now_ns;
        (duties.round.pairs, duties.round.own_pairs) = (pairs, own_pairs);
        let was_alive = |id| {
            former.is_some_and(|former| {
                former
                    .number_of(id)
                    .is_some_and(|number| former.node(number).is_alive)
            })
        };
        let is_back = view
            .nodes
            .iter()
            .any(|node| node.is_alive && node.id != view.me && !was_alive(node.id));
        if is_back {
            self.compare_soon(now_ns, false);
        }
    }

    /// Starts what is due.
    pub(super) fn duties_due(&mut self, turn: &mut Turn<'_>) {
        self.tell_lost(turn);
        self.find_leftovers(turn);
        self.start_transfers(turn);
        self.start_handovers(turn);
        self.start_repairs(turn);
    }

    /// The control shard hears which partitions this shard cannot vouch for any more.
    fn tell_lost(&mut self, turn: &mut Turn<'_>) {
        let taints = turn.replica.taints();
        let is_member = turn.view.my_number().is_some();
        if !is_member || taints == self.duties.taints_told || mutant::is(Mutant::LossUntold) {
            return;
        }
        self.duties.taints_told = taints;
        let tainted: BTreeSet<PartitionId> = turn.replica.tainted().collect();
        let told = core::mem::replace(&mut self.duties.lost_told, tainted.clone());
        let lost: Vec<PartitionId> = tainted.difference(&told).copied().collect();
        for partition in &tainted {
            if let Some(transfer) = self.duties.transfers.get_mut(partition) {
                transfer.is_gained = false;
                transfer.compared.clear();
            }
        }
        if !lost.is_empty() {
            turn.effects
                .notes
                .push((Lane::CONTROL_SHARD, Note::Lost(lost)));
        }
    }

    fn find_leftovers(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let Some(me) = turn.view.my_number() else {
            return;
        };
        if self.duties.leftovers_ns > now_ns {
            return;
        }
        self.duties.leftovers_ns = now_ns.saturating_add(LEFTOVERS_NS);
        for (partition, row) in partitions(turn.view) {
            let is_left =
                !is_kept(row, me) && !row.read.is_empty() && turn.replica.hints_of(partition) == 0;
            if !is_left {
                continue;
            }
            let is_lossy = turn.replica.is_lossy(turn.replica.slice(partition).first);
            if turn.replica.keys_of(partition) > 0 {
                self.duties.handovers.entry(partition).or_default();
            } else if is_lossy && (turn.replica).drop_partition(turn.now, partition, turn.effects) {
                // What was lost of it nobody expects here any more.
                self.stats.partitions_dropped += 1;
            }
        }
    }

    pub(super) fn move_failed(&mut self, turn: &mut Turn<'_>, kind: Kind, partition: PartitionId) {
        self.duties.moving = self.duties.moving.saturating_sub(1);
        let now_ns = turn.now.mono_ns;
        if kind == Kind::Transfer {
            if let Some(transfer) = self.duties.transfers.get_mut(&partition) {
                transfer.is_running = false;
                transfer.holder += 1;
                transfer.not_before_ns = backed_off(&mut transfer.backoff_ns, now_ns);
            }
        } else if let Some(handover) = self.duties.handovers.get_mut(&partition) {
            handover.is_running = false;
            handover.not_before_ns = backed_off(&mut handover.backoff_ns, now_ns);
        }
    }

    /// A session ended.
    pub(super) fn session_ended(&mut self, turn: &mut Turn<'_>, ended: Ended) {
        match ended.kind {
            Kind::Repair => {
                self.stats.comparisons += u64::from(ended.is_complete);
                self.duties.round.running = self.duties.round.running.saturating_sub(1);
            }
            Kind::Transfer | Kind::Handover if !ended.is_complete => {
                self.move_failed(turn, ended.kind, ended.partition);
            }
            Kind::Transfer => self.transfer_passed(turn, ended),
            Kind::Handover => {
                self.duties.moving = self.duties.moving.saturating_sub(1);
                if let Some(handover) = self.duties.handovers.get_mut(&ended.partition) {
                    handover.is_running = false;
                    handover.backoff_ns = 0;
                    let since = (ended.started_ns, ended.started_with);
                    handover.covered.insert(ended.peer, since);
                }
                self.start_handover(turn, ended.partition);
            }
        }
        self.step_ns = turn.now.mono_ns;
    }
}
