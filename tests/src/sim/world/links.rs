//! Links that clog one by one and let go in an order of their own: what was sent arrives, late and in a heap.

use std::collections::btree_map::Entry;

use super::{Action, World};

/// The mean time that a link is clogged.
const CLOGGED_NS: u64 = 500_000_000;
/// The mean time that a node is not heard, or not told.
const ISOLATED_NS: u64 = 2_000_000_000;

impl World {
    /// One node is not heard for a while, by nobody; or it hears no gossip, which comes over connections of its own, and
    /// works by what it knew.
    pub(super) fn isolate(&mut self) {
        let one = self.random.index(self.nodes.len());
        let for_ns = self.random.delay_ns(ISOLATED_NS);
        if self.random.coin() {
            self.nodes[one].uninformed_until_ns = self.now_ns + for_ns;
            return self.tell(format!("node {one} hears no gossip"));
        }
        self.tell(format!("node {one} is not heard"));
        for to in (0..self.nodes.len()).filter(|to| *to != one) {
            if let Entry::Vacant(link) = self.clogged.entry((one, to)) {
                link.insert(Vec::new());
                self.after(for_ns, Action::Unclog(one, to));
            }
        }
    }

    /// One link clogs.
    pub(super) fn clog(&mut self) {
        if self.swarm.bent.watches_reads {
            return self.isolate();
        }
        let (from, to) = (
            self.random.index(self.nodes.len()),
            self.random.index(self.nodes.len()),
        );
        let for_ns = self.random.delay_ns(CLOGGED_NS);
        if from != to && !self.clogged.contains_key(&(from, to)) {
            self.clogged.insert((from, to), Vec::new());
            self.after(for_ns, Action::Unclog(from, to));
        }
    }

    /// It lets go.
    pub(super) fn unclog(&mut self, from: usize, to: usize) {
        for action in self.clogged.remove(&(from, to)).unwrap_or_default() {
            self.act(action);
        }
    }

    pub(super) fn unclog_all(&mut self) {
        let links: Vec<(usize, usize)> = self.clogged.keys().copied().collect();
        for (from, to) in links {
            self.unclog(from, to);
        }
    }
}
