//! What a test sees of the nodes from outside, where a client could not look.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::hash;
use crate::coordinate::CoordinateStats;
use crate::port::{Note, Send};
use crate::shard::ShardStatus;
use crate::upkeep::UpkeepStats;

use super::{At, Net, kind_of};

impl Net {
    /// How many nodes there are.
    pub(crate) const fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many shards a node has.
    pub(crate) fn shards(&self, node: usize) -> usize {
        self.nodes[node].cores.len()
    }

    /// Which of a node's shards a request about a key goes to.
    pub(crate) fn shard_of_key(&self, node: usize, key: &[u8]) -> usize {
        self.shard_of(node, hash::token(b"default", key))
    }

    /// What the first shard of a node says of itself.
    pub(crate) fn status(&self, node: usize) -> ShardStatus {
        self.nodes[node].cores[0].shard.status()
    }

    /// Counters of the first shard's coordinator.
    pub(crate) fn stats(&self, node: usize) -> CoordinateStats {
        self.nodes[node].cores[0].shard.coordinate_stats()
    }

    /// Timers that a node's coordinator has set.
    pub(crate) fn timers(&self, node: usize) -> usize {
        self.nodes[node].cores[0].shard.coordinate_timers()
    }

    /// How much of its background a node's first shard has under way.
    pub(crate) fn upkeep_jobs(&self, node: usize) -> usize {
        self.nodes[node].cores[0].shard.upkeep_jobs()
    }

    /// The background's counters of a node's shards.
    pub(crate) fn upkeep(&self, node: usize) -> Vec<UpkeepStats> {
        let cores = self.nodes[node].cores.iter();
        cores.map(|core| core.shard.upkeep_stats()).collect()
    }

    /// Sum of fingerprints and number of keys of a node, tombstones among them.
    pub(crate) fn root(&self, node: usize) -> (u64, u64) {
        let cores = self.nodes[node].cores.iter();
        cores.fold((0, 0), |(sum, count): (u64, u64), core| {
            let (more, keys) = core.shard.root();
            (sum.wrapping_add(more), count + keys)
        })
    }

    /// Keys with a value and tombstones on a node.
    pub(crate) fn keys(&self, node: usize) -> (u64, u64) {
        let cores = self.nodes[node].cores.iter();
        cores.fold((0, 0), |(keys, tombstones), core| {
            let status = core.shard.status();
            (keys + status.keys, tombstones + status.tombstones)
        })
    }

    /// The notes of a node so far, without the views.
    pub(crate) fn take_notes(&mut self, node: usize) -> Vec<Note> {
        let (its, rest) = core::mem::take(&mut self.notes)
            .into_iter()
            .partition(|(from, _)| *from == node);
        self.notes = rest;
        let its: Vec<(usize, Note)> = its;
        its.into_iter().map(|(_, note)| note).collect()
    }

    /// To whom messages of a kind are on their way, each node once.
    pub(crate) fn under_way(&self, kind: &str) -> Vec<usize> {
        let is_it = |(_, send, _): &&(At, Send, Arc<Vec<u8>>)| kind_of(&send.message) == kind;
        let to: BTreeSet<usize> = (self.queue.iter().filter(is_it))
            .map(|(_, send, _)| (send.to.0 - 1) as usize)
            .collect();
        to.into_iter().collect()
    }
}
