//! What becomes of data: bits that rot, writes and reads that go wrong in silence, disks that are lost whole.
//!
//! At most W − 1 machines of a world are ever struck, so that of what W replicas acknowledged one copy at least is never
//! touched: what must hold is then that nobody is told anything wrong, and that nothing is lost. None is struck while a
//! partition has fewer holders than W: W is bounded by them.

use gramme_core::port::{FileId, Ticket};

use super::World;
use crate::sim::client::key_name;
use crate::sim::disk::{Misdone, Wrong};
use crate::sim::membership::{Membership, next_id};

/// How far from a key's name a bit may rot: its record's header lies before it, the object behind.
const BEFORE_BYTES: usize = 60;
const BEHIND_BYTES: u64 = 100;

impl World {
    /// Whether this machine's data may be destroyed.
    pub(super) fn may_strike(&mut self, node: usize) -> bool {
        let others = self.struck.iter().filter(|struck| **struck != node).count();
        let is_within = others + 1 < usize::from(self.swarm.w) && self.has_holders();
        if is_within {
            self.struck.insert(node);
        }
        is_within
    }

    /// Whether each partition has W holders, as those that are there see it. Of fewer, which others are yet to be made anew from,
    /// fewer acknowledge a write, and the next loss may take it: nobody promises more.
    fn has_holders(&self) -> bool {
        let up = self.nodes.iter().filter(|node| node.is_up);
        let views = up.filter_map(|node| node.membership.view.as_deref());
        let mut known = views.filter(|view| view.my_number().is_some());
        let w = usize::from(self.swarm.w);
        !self.ring.is_formed
            || known.all(|view| view.partitions.iter().all(|row| row.read.len() >= w))
    }

    /// A bit in or near some record of some key rots on one disk.
    pub(super) fn rot(&mut self) {
        let node = self.random.index(self.nodes.len());
        let name = key_name(self.random.index(self.swarm.keys));
        let mut found = Vec::new();
        for (shard, host) in self.nodes[node].shards.iter().enumerate() {
            for (file, bytes) in &host.disk.files {
                if matches!(file, FileId::Segment(_)) {
                    let places = bytes.windows(name.len()).enumerate();
                    let places = places.filter(|(_, window)| *window == name.as_slice());
                    found.extend(places.map(|(at, _)| (shard, *file, at)));
                }
            }
        }
        if found.is_empty() || !self.may_strike(node) {
            return;
        }
        let (shard, file, at) = found[self.random.index(found.len())];
        let at = (at + self.random.below(BEHIND_BYTES) as usize).saturating_sub(BEFORE_BYTES);
        let bit = self.random.below(8);
        let disk = &mut self.nodes[node].shards[shard].disk;
        if let Some(byte) = disk.files.get_mut(&file).and_then(|file| file.get_mut(at)) {
            *byte ^= 1 << bit;
        }
        self.note_trace(6_000 + at as u64);
        self.tell(format!("byte {at} of {file:?} of node {node} rots"));
        // What is still in memory is not read from the disk again before the next start.
        if self.swarm.crashes > 0 && self.random.coin() {
            self.crash(node);
        }
    }

    /// Of a world in which data is destroyed: no more is promised than that somebody has each partition, and disks know what
    /// they had before.
    pub(super) fn mind_liars(&mut self) {
        if self.swarm.has_liars() {
            self.ring.holders_min = self.ring.holders_min.min(1);
        }
        if self.swarm.wrong_reads > 0 {
            let hosts = self.nodes.iter_mut().flat_map(|node| &mut node.shards);
            hosts.for_each(|host| host.disk.remember());
        }
    }

    /// A write that has just begun may be lost, or go elsewhere.
    pub(super) fn may_misdo(&mut self, node: usize, shard: usize, ticket: Ticket) {
        if !self.is_safety {
            return;
        }
        let how = if self.random.happens_if(self.swarm.lost_writes) {
            Misdone::Lost
        } else if self.random.happens_if(self.swarm.misdirected_writes) {
            Misdone::Elsewhere(self.random.index(64))
        } else {
            return;
        };
        if self.may_strike(node) {
            self.forgetful.insert(node);
            let disk = &mut self.nodes[node].shards[shard].disk;
            disk.misdo(ticket, how);
            self.note_trace(9_000 + node as u64);
            self.tell(format!("a write of node {node} is {how:?}"));
        }
    }

    /// How a read that is about to begin goes wrong, where it does.
    pub(super) fn may_misread(&mut self, node: usize) -> Option<Wrong> {
        if !self.is_safety || !self.random.happens_if(self.swarm.wrong_reads) {
            return None;
        }
        let how = if self.random.coin() {
            Wrong::Stale
        } else {
            Wrong::Elsewhere(1 + self.random.index(63))
        };
        self.may_strike(node).then_some(how)
    }

    /// A machine loses its disk, and comes back with an empty directory, which is a node of its own. Returns its former
    /// identity.
    pub(super) fn wipe(&mut self, node: usize) -> Option<gramme_core::base::ids::NodeId> {
        if !self.may_strike(node) {
            return None;
        }
        self.crash(node);
        self.note_trace(7_000 + node as u64);
        Some(self.empty(node))
    }

    /// An empty directory in a machine that does not run.
    pub(super) fn empty(&mut self, node: usize) -> gramme_core::base::ids::NodeId {
        let own = &mut self.nodes[node];
        let former = own.id;
        own.id = next_id(former);
        own.membership = Membership::default();
        for host in &mut own.shards {
            host.disk = Default::default();
        }
        former
    }
}
