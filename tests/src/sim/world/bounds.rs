//! What is watched while the world goes on: that each client hears in its time, and that nothing grows without bounds.

use super::World;
use crate::sim::checks::bounded;

/// How much later than its deadline an answer may come: a loop that has much to do.
const LATE_NS: u64 = 20_000_000;
/// So many of these are told.
const TOLD_MAX: usize = 5;

impl World {
    /// A client has its answer, or has it not and waits no more: was it in its time? One whose node was paused, stopped or
    /// killed meanwhile cannot be.
    pub(super) fn watch_deadline(&mut self, client: usize) {
        let (asked_ns, node, life) = self.asked[client];
        let own = &self.nodes[node];
        let is_undisturbed = own.is_up
            && own.life == life
            && !own.is_paused
            && own.stopping.is_none()
            && own.undisturbed_since_ns <= asked_ns;
        let took_ns = self.now_ns - asked_ns;
        if is_undisturbed && took_ns > self.swarm.deadline_ms * 1_000_000 + LATE_NS {
            let what = format!(
                "client {client}: node {node}, whom nothing befell, did not answer within the deadline what it was asked \
                 at {:.3} ms; {:.3} ms have passed",
                asked_ns as f64 / 1e6,
                took_ns as f64 / 1e6
            );
            self.note_unmet(what);
        }
    }

    /// What a client gets of one key: each node takes siblings from clients up to an eighth of a segment, and what they took
    /// apart they merge.
    pub(super) fn watch_siblings(&mut self, bytes: usize) {
        let of_one = u64::from(self.swarm.segment_bytes / 8) + self.swarm.value_bytes;
        let most = self.swarm.nodes as u64 * of_one;
        if bytes as u64 > most {
            self.note_unmet(format!(
                "siblings of {bytes} bytes, and {most} are the most"
            ));
        }
    }

    /// Looks whether every shard keeps within its bounds.
    pub(super) fn watch_bounds(&mut self) {
        let mut found = Vec::new();
        for (node, own) in self.nodes.iter().enumerate() {
            for (number, host) in own.shards.iter().enumerate() {
                let Some(shard) = &host.shard else { continue };
                let beyond = bounded::check(shard, &self.swarm).into_iter();
                found.extend(beyond.map(|what| {
                    let at_ms = self.now_ns as f64 / 1e6;
                    format!("node {node}, shard {number} at {at_ms:.3} ms: {what}")
                }));
            }
        }
        found.into_iter().for_each(|what| self.note_unmet(what));
    }

    /// Looks whether every shard has come to rest.
    pub(in crate::sim) fn watch_rest(&mut self) {
        let mut found = Vec::new();
        for (node, own) in self.nodes.iter().enumerate() {
            for (number, host) in own.shards.iter().enumerate() {
                let left = host.shard.iter();
                let left = left.flat_map(|shard| bounded::at_rest(shard, &self.swarm));
                found.extend(left.map(|what| format!("node {node}, shard {number}: {what}")));
            }
        }
        found.into_iter().for_each(|what| self.note_unmet(what));
    }

    fn note_unmet(&mut self, what: String) {
        if self.unmet.len() < TOLD_MAX {
            self.unmet.push(what);
        }
    }
}
