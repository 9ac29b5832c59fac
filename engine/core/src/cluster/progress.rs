//! Progress: what this node's shards say of partitions that they gain, drain or have lost.
//!
//! A node has a partition when all of its shards have their slices of it; it has handed one over when all of them are done,
//! and may let it go then (`known`). Words of a shard from before the node's duty began do not count; nor do those of before
//! other nodes became its targets.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::{Cluster, Standing};
use super::view::{Concerned, Duties};
use crate::base::ids::{NodeId, PartitionId, ShardIndex};
use crate::base::mutant::{self, Mutant};
use crate::base::time::Now;
use crate::port::{self, Note};
use crate::ring::{HeldVersion, LayoutId};

/// One partition's shards that are done, and the view since which that counts.
#[derive(Clone, Debug, Default)]
struct Done {
    since_epoch: u64,
    shards: BTreeSet<ShardIndex>,
    /// Whether all are.
    is_whole: bool,
    concerned: Concerned,
    since_ns: u64,
    /// Whether those that write it have shown that they know of it.
    is_known: bool,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    gaining: BTreeMap<PartitionId, Done>,
    draining: BTreeMap<PartitionId, Done>,
    /// The layout from which the duties follow.
    pub(super) layout: LayoutId,
    /// Lost here, and held by nobody else: what is left is the best there is.
    pub(super) lost: BTreeSet<PartitionId>,
    /// How new this node's own bitmap was when it was kept, before this start.
    pub(super) kept_version: Option<HeldVersion>,
}

impl Progress {
    /// This node's duties from a view on.
    pub(super) fn duties(&mut self, duties: Duties, layout: LayoutId, (epoch, now_ns): (u64, u64)) {
        let is_other_layout = layout != self.layout;
        self.layout = layout;
        for (list, wanted) in [
            (&mut self.gaining, duties.pending),
            (&mut self.draining, duties.draining),
        ] {
            // Who else writes it may change meanwhile, its targets not while it is let go.
            list.retain(|partition, done| {
                let concerned = wanted.get(partition);
                concerned.is_some_and(|nodes| nodes.targets == done.concerned.targets)
            });
            for (partition, concerned) in wanted {
                let new = || Done {
                    since_epoch: epoch,
                    since_ns: now_ns,
                    ..Done::default()
                };
                let done = list.entry(partition).or_insert_with(new);
                if is_other_layout {
                    // Between the two may be one that others know and by which it is not to be gained here, or not let go.
                    *done = new();
                }
                done.concerned = concerned;
            }
        }
    }

    /// What all shards have handed over and this node still says it holds, with the targets.
    pub(super) fn handed_over(&self) -> impl Iterator<Item = (PartitionId, &[NodeId])> {
        let is_over = |done: &Done| done.is_whole && done.is_known;
        let whole = self.draining.iter().filter(move |(_, done)| is_over(done));
        whole.map(|(partition, done)| (*partition, done.concerned.targets.as_slice()))
    }

    /// What is to be gained or let go while not all who write it are known to know that; with them, and since when.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (PartitionId, &[NodeId], u64)> {
        let all = self.gaining.iter().chain(&self.draining);
        let unknown = all.filter(|(_, done)| !done.is_known);
        unknown.map(|(partition, done)| {
            let writers = done.concerned.writers.as_slice();
            (*partition, writers, done.since_ns)
        })
    }

    /// All who write it know that it is to be gained here, or let go.
    pub(super) fn set_known(&mut self, partition: PartitionId) {
        for list in [&mut self.gaining, &mut self.draining] {
            if let Some(done) = list.get_mut(&partition) {
                done.is_known = true;
            }
        }
    }

    /// Whether they do.
    pub(super) fn is_known(&self, partition: PartitionId) -> bool {
        let done = self.gaining.get(&partition);
        let done = done.or_else(|| self.draining.get(&partition));
        done.is_some_and(|done| done.is_known)
    }

    /// It is said to be held no longer.
    pub(super) fn let_go(&mut self, partition: PartitionId) {
        self.draining.remove(&partition);
    }

    /// Partitions that are to be gained, and to be let go.
    pub(super) fn open(&self) -> (usize, usize) {
        (self.gaining.len(), self.draining.len())
    }
}

/// Marks one shard; returns whether all are done.
fn is_done(
    list: &mut BTreeMap<PartitionId, Done>,
    partition: PartitionId,
    shard: ShardIndex,
    epoch: u64,
    shards: u16,
) -> bool {
    match list.get_mut(&partition) {
        Some(done) if epoch >= done.since_epoch && shard.0 < shards => {
            done.shards.insert(shard);
            done.is_whole =
                done.shards.len() == usize::from(shards) || mutant::is(Mutant::DrainedByOne);
            done.is_whole
        }
        Some(_) | None => false,
    }
}

impl Cluster {
    /// A note of one of this node's shards.
    pub fn note(&mut self, now: Now, note: &Note, out: &mut super::Out) {
        let shards = self.slices.shards();
        let me = self.me;
        let is_newest = self.is_table_newest();
        let is_vouching = matches!(self.standing, Standing::Vouching { .. });
        let Some(ring) = &mut self.ring else { return };
        let changed = match note {
            Note::Gained {
                shard,
                partition,
                epoch,
            } => {
                // By a newer layout the shards begin to compare anew.
                let gaining = &mut self.progress.gaining;
                is_newest
                    && is_done(gaining, *partition, *shard, *epoch, shards)
                    && ring.set_held(me, *partition)
            }
            Note::Drained {
                shard,
                partition,
                epoch,
            } => {
                let draining = &mut self.progress.draining;
                if is_done(draining, *partition, *shard, *epoch, shards) {
                    self.heed_known(now, out);
                }
                false
            }
            Note::Lost(partitions) => {
                for partition in partitions {
                    self.progress.gaining.remove(partition);
                    // A start may yet hear from others that it holds more than it kept.
                    if is_vouching || ring.held(me).is_some_and(|held| held.contains(*partition)) {
                        self.progress.lost.insert(*partition);
                    }
                }
                let text = format!(
                    "parts of {} partitions are lost on this node's disk; they are brought up from others where others \
                     hold them",
                    partitions.len()
                );
                self.report(now, text);
                self.let_go_of_lost()
            }
            Note::View(_)
            | Note::CompareAll
            | Note::ClockWrong { .. }
            | Note::Progress { .. }
            | Note::Disk { .. } => false,
        };
        if changed {
            self.has_news(now);
            // Others let go for what this says, and writes count here.
            self.keep_soon(now);
        }
        self.settle(now, out);
    }

    /// How far a shard's background is.
    pub fn set_progress(&mut self, shard: ShardIndex, progress: &port::Progress) {
        self.background.insert(shard, *progress);
    }

    /// How far this node's background is, all shards together.
    pub(super) fn background(&self) -> Option<port::Progress> {
        let shards = self.background.values().copied();
        shards.reduce(port::Progress::beside)
    }

    /// What was lost here is no longer said to be held as soon as anyone else holds it, and not before the start's own word on
    /// what it holds: until then it takes others' for its own. Returns whether anything changed.
    pub(super) fn let_go_of_lost(&mut self) -> bool {
        let me = self.me;
        let Some(ring) = self
            .ring
            .as_mut()
            .filter(|_| self.standing == Standing::Member)
        else {
            return false;
        };
        let held = ring.held(me);
        let lost = &mut self.progress.lost;
        lost.retain(|partition| held.is_some_and(|held| held.contains(*partition)));
        let others: Vec<_> = ring
            .members()
            .iter()
            .map(|(node, _)| node)
            .filter(|node| *node != me)
            .collect();
        let is_held_elsewhere = |ring: &crate::ring::Ring, partition: PartitionId| {
            others.iter().any(|node| {
                ring.held(*node)
                    .is_some_and(|held| held.contains(partition))
            })
        };
        let covered: Vec<PartitionId> = self
            .progress
            .lost
            .iter()
            .copied()
            .filter(|partition| is_held_elsewhere(ring, *partition))
            .collect();
        let mut changed = false;
        for partition in covered {
            self.progress.lost.remove(&partition);
            changed |= ring.clear_held(me, partition);
        }
        changed
    }
}
