//! What this shard owes its partitions: those to be gained are transferred, those to be let go are handed over and then
//! dropped, those held are compared with the other nodes that hold them.
//!
//! A partition is gained when each of its readers that is alive was compared from end to end, nothing of what it listed is
//! missing here, and all of that is on stable media: of those that are away so many may be left out that one of the others
//! has every write that was acknowledged ([`readers_needed`]); so may one that fails again and again. Only sessions count
//! that began [`SETTLE_NS`] after all who write the partition were known to know of this node: what they write later they do
//! not acknowledge unless few miss it, this node counted. In the same way a partition is handed over, which is to be let go
//! and takes writes until it is: each of its targets must have got what was here at such a moment; of what comes later few
//! of them miss anything, as it is acknowledged. What is not kept here by the view (a stand-in's leftovers, a partition that was
//! let go) is dropped when every node of the read set has all of it, no hint of it is left, and nothing came meanwhile.
//!
//! Never drops what a view without readers calls strange: that is a node that knows nothing yet.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{NodeId, PartitionId};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::ids::{Purpose, internal};
use crate::port::{Lane, Note, Outcome};
use crate::replica::records::RangeSum;
use crate::replica::turn::Turn;
use crate::ring::{PartitionView, RingView};

use super::session::{Ended, Kind};
use super::{Job, Upkeep};

/// Transfers and handovers at once.
const MOVES_MAX: u32 = 4;
/// Comparisons at once, and while a round is wanted soon.
const REPAIRS_MAX: u32 = 1;
const REPAIRS_SOON_MAX: u32 = 4;
/// A whole round of comparisons takes so long.
const ROUND_NS: u64 = 600_000_000_000;
/// All shards of a node that has shown that it knows a layout work by it after so long.
const SETTLE_NS: u64 = 1_000_000_000;
/// What failed is tried again after this; doubled each time, up to the greatest.
const BACKOFF_NS_MIN: u64 = 250_000_000;
const BACKOFF_NS_MAX: u64 = 10_000_000_000;
/// A reader that others suffice without is left out when so long a pause would be next.
const PATIENCE_NS: u64 = 2_000_000_000;
/// How often leftovers are looked for.
const LEFTOVERS_NS: u64 = 2_000_000_000;

/// A partition to be gained.
#[derive(Default)]
struct Transfer {
    /// From when on all who write it have known that this node is to have it.
    known_ns: Option<u64>,
    /// Readers whose copy was compared since, and is here.
    compared: BTreeSet<NodeId>,
    holder: usize,
    not_before_ns: u64,
    backoff_ns: u64,
    is_running: bool,
    is_gained: bool,
    /// Nothing of it lies here from before.
    is_fresh: bool,
}

/// A partition to be handed over.
#[derive(Default)]
struct Handover {
    /// Of one that is to be let go: from when on all who write it have known that.
    known_ns: Option<u64>,
    /// Who had all of it, since when, and what all of it was then.
    covered: BTreeMap<NodeId, (u64, RangeSum)>,
    not_before_ns: u64,
    backoff_ns: u64,
    is_running: bool,
    /// The targets that had all of it when the control shard was told.
    told: Option<Vec<NodeId>>,
}

/// The round of comparisons.
#[derive(Default)]
struct Round {
    partition: u32,
    peer: usize,
    next_ns: u64,
    began_ns: u64,
    is_soon: bool,
    /// Compare with every other node, not only those of greater number.
    is_all: bool,
    wants_all: bool,
    pairs: u64,
    /// Those of them that this node compares unless an operator wants them all.
    own_pairs: u64,
    started: u64,
    running: u32,
    /// Records that had been repaired when it began.
    repairs_before: u64,
}

impl Round {
    /// Between two comparisons.
    const fn step_ns(&self) -> u64 {
        ROUND_NS / (self.pairs + 1)
    }
}

/// All of it.
#[derive(Default)]
pub(super) struct Duties {
    transfers: BTreeMap<PartitionId, Transfer>,
    handovers: BTreeMap<PartitionId, Handover>,
    round: Round,
    moving: u32,
    leftovers_ns: u64,
    /// Of which count of taints the control shard knows, and which partitions it was told of.
    taints_told: u64,
    lost_told: BTreeSet<PartitionId>,
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

/// Who is to have a partition that this node lets go.
fn targets(view: &RingView, row: &PartitionView) -> Vec<NodeId> {
    let nodes = row.read.iter().map(|number| view.node(*number));
    nodes.map(|node| node.id).collect()
}

fn partitions(view: &RingView) -> impl Iterator<Item = (PartitionId, &PartitionView)> {
    (0u32..).map(PartitionId).zip(view.partitions.iter())
}

/// The nodes of the read set but for this one that are alive.
fn readers(turn: &Turn<'_>, row: &PartitionView) -> Vec<NodeId> {
    row.read
        .iter()
        .map(|number| turn.view.node(*number))
        .filter(|node| node.is_alive && node.id != turn.view.me)
        .map(|node| node.id)
        .collect()
}

/// How many readers of a partition must be compared with before it is gained: of any so many one has a write that was
/// acknowledged, in each bucket that promises reads of what was written.
fn readers_needed(view: &RingView, row: &PartitionView) -> usize {
    let promising = view.buckets.iter().filter(|b| b.r + b.w > b.n);
    let needed = promising.map(|bucket| usize::from(bucket.n - bucket.w.min(bucket.n)) + 1);
    needed.max().unwrap_or(1).min(row.read.len()).max(1)
}

fn backed_off(backoff_ns: &mut u64, now_ns: u64) -> u64 {
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
        for (partition, row) in partitions(view) {
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

    /// A round begins at once.
    pub(super) fn compare_soon(&mut self, now_ns: u64, is_all: bool) {
        let round = &mut self.duties.round;
        round.wants_all |= is_all;
        (round.is_soon, round.next_ns) = (true, now_ns);
        (round.partition, round.peer, round.began_ns) = (0, 0, now_ns);
        round.started = 0;
        round.is_all = core::mem::take(&mut round.wants_all) || round.is_all;
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

    fn start_transfers(&mut self, turn: &mut Turn<'_>) {
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

    fn start_handovers(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
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
    fn start_handover(&mut self, turn: &mut Turn<'_>, partition: PartitionId) {
        let now_ns = turn.now.mono_ns;
        let view = turn.view;
        let (Some(row), Some(me)) = (view.partition(partition), view.my_number()) else {
            return;
        };
        let held = turn.replica.sum_of(turn.replica.slice(partition));
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

    fn move_failed(&mut self, turn: &mut Turn<'_>, kind: Kind, partition: PartitionId) {
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

    fn transfer_passed(&mut self, turn: &mut Turn<'_>, ended: Ended) {
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
        if let Some(transfer) = self.duties.transfers.get_mut(&partition) {
            transfer.is_running = true;
        }
        let id = self.jobs.insert(Job::Mark(partition));
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
        let Some(Job::Mark(partition)) = self.jobs.remove(id) else {
            return;
        };
        let now_ns = turn.now.mono_ns;
        let Some(transfer) = self.duties.transfers.get_mut(&partition) else {
            return;
        };
        transfer.is_running = false;
        if matches!(outcome, Outcome::Written { .. }) {
            self.duties.lost_told.remove(&partition);
            transfer.is_gained = true;
            tell_gained(turn, partition);
        } else {
            transfer.not_before_ns = backed_off(&mut transfer.backoff_ns, now_ns);
        }
    }

    /// Compares the next pairs of partition and peer.
    fn start_repairs(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let Some(me) = turn.view.my_number() else {
            return;
        };
        loop {
            let round = &mut self.duties.round;
            let running_max = if round.is_soon {
                REPAIRS_SOON_MAX
            } else {
                REPAIRS_MAX
            };
            let may_start = round.next_ns <= now_ns
                && round.running < running_max
                && turn.replica.background.is_open(now_ns);
            if !may_start {
                return;
            }
            let Some((partition, peer)) = next_pair(round, turn, me) else {
                // The round's end. One in which nobody was there to compare with says nothing of the replicas.
                if round.started > 0 {
                    self.stats.rounds += 1;
                    let has_found = self.stats.repairs > round.repairs_before;
                    self.stats.rounds_with_repairs += u64::from(has_found);
                    round.repairs_before = self.stats.repairs;
                    self.stats.round_ns = now_ns.saturating_sub(round.began_ns);
                }
                round.started = 0;
                (round.partition, round.peer, round.began_ns) = (0, 0, now_ns);
                (round.is_soon, round.is_all) = (false, false);
                round.next_ns = now_ns.saturating_add(round.step_ns());
                return;
            };
            if !round.is_soon {
                round.next_ns = now_ns.saturating_add(round.step_ns());
            }
            round.started += 1;
            round.running += 1;
            if !self.begin_session(turn, Kind::Repair, partition, peer) {
                self.duties.round.running -= 1;
            }
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

fn tell_gained(turn: &mut Turn<'_>, partition: PartitionId) {
    let note = Note::Gained {
        shard: turn.replica.config().shard,
        partition,
        epoch: turn.view.epoch,
    };
    turn.effects.notes.push((Lane::CONTROL_SHARD, note));
}

/// The next pair of a round: a partition of which this node is a reader, and another reader that is alive; of each two
/// the one with the smaller number compares, unless an operator wants it all.
fn next_pair(round: &mut Round, turn: &Turn<'_>, me: u16) -> Option<(PartitionId, NodeId)> {
    while let Some(row) = turn.view.partition(PartitionId(round.partition)) {
        let partition = PartitionId(round.partition);
        if !row.read.contains(&me) || row.is_pending_here {
            (round.partition, round.peer) = (round.partition + 1, 0);
            continue;
        }
        while let Some(number) = row.read.get(round.peer).copied() {
            round.peer += 1;
            let node = turn.view.node(number);
            if number != me && node.is_alive && (round.is_all || number > me) {
                return Some((partition, node.id));
            }
        }
        (round.partition, round.peer) = (round.partition + 1, 0);
    }
    None
}
