//! Links that clog one by one and let go in an order of their own: what was sent arrives, late and in a heap.

use super::{Action, World};

/// The mean time that a link is clogged.
const CLOGGED_NS: u64 = 500_000_000;

impl World {
    /// One link clogs.
    pub(super) fn clog(&mut self) {
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
