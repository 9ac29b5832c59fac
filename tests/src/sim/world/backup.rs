//! Nodes that are stopped in order, and directories that are put aside and put back later.

use gramme_core::port::Event;

use super::{Action, World};
use crate::sim::node::Backup;

/// How long a stop may take before somebody kills the node.
const STOP_NS: u64 = 3_000_000_000;

impl World {
    /// Stops a node as an operator does; it is started again soon.
    pub(super) fn stop(&mut self, node: usize) {
        let own = &mut self.nodes[node];
        if !own.is_up || own.is_paused || own.stopping.is_some() {
            return;
        }
        let (life, shards) = (own.life, own.shards.len());
        own.stopping = Some(shards);
        self.note_trace(10_000 + node as u64);
        self.tell(format!("node {node} is to stop"));
        self.after(STOP_NS, Action::Kill { node, life });
        for shard in 0..shards {
            self.step(node, shard, Event::Stop);
        }
    }

    /// All its shards have stopped.
    pub(super) fn has_stopped(&mut self, node: usize) {
        self.tell(format!("node {node} has stopped"));
        self.crash(node);
        if core::mem::take(&mut self.nodes[node].is_to_be_kept) {
            self.back_up(node);
        }
    }

    /// A directory is put aside, of a node that runs or that is stopped for it; or put back.
    pub(super) fn back_up_or_restore(&mut self) {
        let node = self.random.index(self.nodes.len());
        let own = &self.nodes[node];
        if own.membership.is_away {
            return;
        }
        let has_one = own.backup.as_ref().is_some_and(|kept| kept.id == own.id);
        if has_one && self.random.coin() {
            return self.restore(node);
        }
        if self.random.coin() {
            self.back_up(node);
        } else {
            self.nodes[node].is_to_be_kept = true;
            self.stop(node);
        }
    }

    /// What a snapshot of the volume has: what was under way is there or not.
    fn back_up(&mut self, node: usize) {
        let mut random = self.random.clone();
        let own = &self.nodes[node];
        let disks = own.shards.iter().map(|host| {
            let mut disk = host.disk.clone();
            disk.crash(&mut random);
            disk
        });
        let backup = Backup {
            id: own.id,
            at_ns: self.now_ns,
            state: own.membership.state.clone(),
            starts: own.membership.starts,
            disks: disks.collect(),
        };
        self.random = random;
        let how = if own.is_up { "runs" } else { "is stopped" };
        self.tell(format!("node {node}, which {how}, is backed up"));
        self.nodes[node].backup = Some(backup);
    }

    fn restore(&mut self, node: usize) {
        let Some(backup) = self.nodes[node].backup.clone() else {
            return;
        };
        if !self.may_strike(node) {
            return;
        }
        self.crash(node);
        self.ring.lost(backup.id);
        self.forgetful.insert(node);
        self.note_trace(11_000 + node as u64);
        self.tell(format!(
            "node {node} gets its directory of {} ms",
            backup.at_ns / 1_000_000
        ));
        let own = &mut self.nodes[node];
        own.membership.state = backup.state;
        own.membership.starts = backup.starts;
        for (host, disk) in own.shards.iter_mut().zip(backup.disks) {
            host.disk = disk;
        }
    }
}
