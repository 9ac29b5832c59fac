//! What goes wrong with nodes and between them, and its end.

use super::{Action, DETECTION_NS, FAULT_STEP_NS, World};
use gramme_core::port::Event;

impl World {
    pub(super) fn start(&mut self, node: usize) {
        let swarm = self.swarm.clone();
        self.nodes[node].tick_at_ns = None;
        self.may_redeal(node);
        if self.forgetful.contains(&node) {
            let now_ns = self.now_ns;
            self.history.rolled_back_ns.get_or_insert(now_ns);
        }
        let role = self.is_live().then(|| self.role(node));
        let effects = self.nodes[node].start(self.now_ns, &swarm, role);
        self.note_trace(2 + node as u64);
        self.tell(format!("node {node} starts as {}", self.nodes[node].id));
        if self.is_live() {
            self.carry_out(node, 0, effects);
        }
        self.publish(node);
        for shard in 0..self.nodes[node].shards.len() {
            self.step(node, shard, Event::TurnEnd);
        }
        self.schedule_tick(node);
        if self.is_live() {
            return;
        }
        // The others see it after a while.
        for other in 0..self.nodes.len() {
            let after_ns = self.random.delay_ns(DETECTION_NS / 2);
            self.after(after_ns, Action::View { node: other });
        }
    }

    /// It may be started with another number of shards than it had.
    fn may_redeal(&mut self, node: usize) {
        let was_up = self.nodes[node].life > 0;
        if !was_up || !self.random.happens_if(10_000 * self.swarm.redeals) {
            return;
        }
        let shards = 1 + self.random.index(3);
        if shards == self.nodes[node].shards.len() {
            return;
        }
        let swarm = self.swarm.clone();
        let fails_after = (self.random.below(4) == 0).then(|| self.random.below(40));
        let dealt = self.nodes[node].redeal(self.now_ns, &swarm, (shards, fails_after));
        self.note_trace(13_000 + shards as u64);
        match dealt {
            Ok(Some(moved)) => self.tell(format!(
                "node {node} has {shards} shards from now on, {moved} records are dealt"
            )),
            Ok(None) => self.tell(format!("node {node} keeps its number of shards")),
            Err(what) => self
                .unmet
                .push(format!("node {node} to {shards} shards: {what}")),
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up {
            return;
        }
        self.note_trace(100 + node as u64);
        // Whoever had handed a write to it hands it to another: also a holder that had refused it (a read that failed, a full
        // disk), which may be at once.
        for client in &self.clients {
            client.note_retried(&mut self.history);
        }
        self.tell(format!("node {node} crashes"));
        self.nodes[node].is_up = false;
        self.nodes[node].crash_in = None;
        self.nodes[node].stopping = None;
        self.held_back.remove(&node);
        let mut random = self.random.clone();
        for host in &mut self.nodes[node].shards {
            host.shard = None;
            host.disk.crash(&mut random);
        }
        self.random = random;
        let lost = self.nodes[node].id;
        for other in 0..self.nodes.len() {
            let (after_ns, life) = (
                self.random.delay_ns(self.swarm.net_delay_ns),
                self.nodes[other].life,
            );
            self.after(
                after_ns,
                Action::PeerLost {
                    to: other,
                    life,
                    node: lost,
                },
            );
            if self.is_live() {
                continue;
            }
            let after_ns = self.random.delay_ns(DETECTION_NS);
            self.after(after_ns, Action::View { node: other });
        }
        // Back at once, or when all have seen it; with a clock that was set anew.
        let mut down_ns = [20_000_000, 1_000_000_000][self.random.index(2)];
        if self.swarm.bent.has_victim {
            // The clock is to be set back by more than that.
            down_ns = 20_000_000;
        }
        let down_ns = self.random.delay_ns(down_ns);
        self.nodes[node].skew_ms = self.random.below(self.swarm.skew_ms + 1);
        self.after(down_ns, Action::Restart(node));
    }

    /// The faults stop: everything that was cut, paused or down comes back.
    pub(in crate::sim) fn heal(&mut self) {
        self.is_safety = false;
        self.cut.clear();
        self.unclog_all();
        // A disk that failed too often is read only until somebody starts the node again.
        let must_start_all = self.swarm.ends_in_blackout || self.swarm.write_errors > 0;
        if must_start_all {
            self.ring.holders_min = self.ring.holders_min.min(1);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].full_until_ns = 0;
            self.nodes[node].uninformed_until_ns = 0;
            self.set_clock(node);
            if must_start_all {
                self.crash(node);
            }
        }
        for node in 0..self.nodes.len() {
            self.resume(node);
            self.nodes[node].crash_in = None;
            let own = &self.nodes[node];
            if !own.is_up && !own.membership.is_away {
                self.start(node);
            }
        }
    }

    fn is_near_end(&self) -> bool {
        self.now_ns > self.began_ns + self.swarm.safety_ms * 800_000
    }

    pub(super) fn resume(&mut self, node: usize) {
        self.nodes[node].is_paused = false;
        self.nodes[node].undisturbed_since_ns = self.now_ns;
        self.nodes[node].tick_at_ns = None;
        for action in self.held_back.remove(&node).unwrap_or_default() {
            self.act(action);
        }
        if self.nodes[node].is_up {
            self.schedule_tick(node);
        }
    }

    pub(super) fn faults(&mut self) {
        if !self.is_safety {
            return;
        }
        if self.now_ns.is_multiple_of(10 * FAULT_STEP_NS) {
            self.watch_bounds();
        }
        let count = self.nodes.len();
        let times = if self.swarm.is_worse_at_end && self.is_near_end() {
            4
        } else {
            1
        };
        if self.random.happens_if(times * self.swarm.full_disks) {
            let node = self.random.index(count);
            let for_ns = self.random.delay_ns(500_000_000);
            self.nodes[node].full_until_ns = self.now_ns + for_ns;
        }
        if self.random.happens(times * self.swarm.crashes) {
            let victims = if self.swarm.bent.has_victim { 1 } else { count };
            let node = self.random.index(victims);
            if self.random.coin() {
                self.crash(node);
            } else {
                self.nodes[node].crash_in = Some(self.random.below(20) as u32);
            }
        }
        if self.random.happens(times * self.swarm.pauses) {
            let node = self.random.index(count);
            if self.nodes[node].is_up && !self.nodes[node].is_paused {
                self.nodes[node].is_paused = true;
                self.tell(format!("node {node} is paused"));
                let for_ns = self.random.delay_ns(500_000_000);
                self.after(for_ns, Action::Resume(node));
            }
        }
        if self.random.happens(times * self.swarm.partitions) {
            self.cut_some();
        }
        if self.random.happens_if(self.swarm.changes) {
            self.begin_change();
        }
        if self.random.happens_if(self.swarm.wipes) {
            self.begin_wipe();
        }
        if self.random.happens_if(times * self.swarm.rot) {
            self.rot();
        }
        if self.random.happens_if(self.swarm.stops) {
            let node = self.random.index(count);
            self.stop(node);
        }
        if self.random.happens_if(times * self.swarm.backups) {
            self.back_up_or_restore();
        }
        if self.random.happens_if(times * self.swarm.leaps) {
            self.leap();
        }
        if self.random.happens_if(self.swarm.clogs) {
            self.clog();
        }
        if self.swarm.bent.watches_reads {
            self.look_at_reads();
        }
        self.after(FAULT_STEP_NS, Action::Faults);
    }

    /// A partition: one node from all, two sides, or one way only.
    pub(super) fn cut_some(&mut self) {
        let count = self.nodes.len();
        let for_ns = self.random.delay_ns(800_000_000);
        let kind = self.random.below(3);
        let split = 1 + self.random.index(count - 1);
        let one = self.random.index(count);
        for from in 0..count {
            for to in 0..count {
                let is_cut = match kind {
                    0 => from != to && (from == one || to == one),
                    1 => (from < split) != (to < split),
                    _ => from == one && to != one,
                };
                if is_cut && self.cut.insert((from, to)) {
                    self.after(for_ns, Action::Heal(from, to));
                }
            }
        }
    }
}
