//! Clocks that leap while their nodes run.

use super::{Action, World};

/// How far a clock may be off without being wrong.
pub(in crate::sim) const SMALL_LEAP_MS: u64 = 350;
/// How long one is wrong: shorter than a leap that nobody objects to is doubted.
const WRONG_NS: u64 = 4_000_000_000;
/// Longer than that: only the others' objection keeps the node from following it.
const LONG_WRONG_NS: u64 = 12_000_000_000;
const HOUR_MS: u64 = 3_600_000;

impl World {
    /// A clock leaps: a little, or far ahead or back until somebody sets it right. One at a time, since which is wrong the
    /// others tell by their number.
    pub(super) fn leap(&mut self) {
        let node = self.random.index(self.nodes.len());
        if self.nodes.iter().any(|node| node.leapt_ms != 0) {
            return;
        }
        let most_ms = if self.random.coin() { 5_000 } else { HOUR_MS };
        let far_ms = 1_000 + self.random.below(most_ms);
        let wrong_ns = if self.swarm.bent.stays_wrong {
            LONG_WRONG_NS
        } else {
            WRONG_NS
        };
        let for_ns = self.random.below(wrong_ns);
        match self.random.below(3) {
            0 => self.nodes[node].skew_ms = self.random.below(SMALL_LEAP_MS),
            kind => {
                let sign = if kind == 1 { 1 } else { -1 };
                self.nodes[node].leapt_ms = sign * far_ms.cast_signed();
                self.after(for_ns, Action::SetClock(node));
            }
        }
        let own = &self.nodes[node];
        let what = format!(
            "the clock of node {node} leaps to {} + {} ms",
            own.leapt_ms, own.skew_ms
        );
        self.note_trace(12_000 + node as u64);
        self.tell(what);
    }

    /// It is right again.
    pub(super) fn set_clock(&mut self, node: usize) {
        if core::mem::take(&mut self.nodes[node].leapt_ms) != 0 {
            self.tell(format!("the clock of node {node} is right again"));
        }
    }
}
