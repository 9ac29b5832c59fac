//! The round of comparisons: each partition that is held with each other node that holds it, one after the other.

use super::Upkeep;
use super::session::Kind;
use crate::base::ids::{NodeId, PartitionId};
use crate::replica::turn::Turn;

/// Comparisons at once, and while a round is wanted soon.
const REPAIRS_MAX: u32 = 1;
const REPAIRS_SOON_MAX: u32 = 4;
/// A whole round of comparisons takes so long.
const ROUND_NS: u64 = 600_000_000_000;

/// The round of comparisons.
#[derive(Default)]
pub(super) struct Round {
    pub(super) partition: u32,
    pub(super) peer: usize,
    pub(super) next_ns: u64,
    pub(super) began_ns: u64,
    pub(super) is_soon: bool,
    /// Compare with every other node, not only those of greater number.
    pub(super) is_all: bool,
    pub(super) wants_all: bool,
    /// Another one follows at once: a node came back while this one was under way.
    pub(super) is_again: bool,
    pub(super) pairs: u64,
    /// Those of them that this node compares unless an operator wants them all.
    pub(super) own_pairs: u64,
    pub(super) started: u64,
    pub(super) running: u32,
    /// Records that had been repaired when it began.
    pub(super) repairs_before: u64,
}

impl Round {
    /// Between two comparisons.
    pub(super) const fn step_ns(&self) -> u64 {
        ROUND_NS / (self.pairs + 1)
    }
}

impl Upkeep {
    /// A round begins at once, or when the one ends that is under way.
    pub(super) fn compare_soon(&mut self, now_ns: u64, is_all: bool) {
        let round = &mut self.duties.round;
        let is_under_way = round.is_soon && round.started > 0;
        if is_under_way && !is_all {
            // Begun anew each time, it would never come to the last partitions while nodes come and go.
            round.is_again = true;
            return;
        }
        round.wants_all |= is_all;
        (round.is_soon, round.next_ns) = (true, now_ns);
        (round.partition, round.peer, round.began_ns) = (0, 0, now_ns);
        round.started = 0;
        round.is_all = core::mem::take(&mut round.wants_all) || round.is_all;
    }

    /// Compares the next pairs of partition and peer.
    pub(super) fn start_repairs(&mut self, turn: &mut Turn<'_>) {
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
                (round.is_soon, round.is_all) = (core::mem::take(&mut round.is_again), false);
                let pause_ns = if round.is_soon { 0 } else { round.step_ns() };
                round.next_ns = now_ns.saturating_add(pause_ns);
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
