//! With R + W > N and no stand-ins in the count, a read shows every write to a cart that was acknowledged before it
//! began, or what saw it; or it was overwritten while the read was under way (`Graph::is_overwritten_meanwhile`).
//! Nothing is promised from the moment on at which a machine came back that had forgotten what it acknowledged.

use super::graph::Graph;
use super::is_strict;
use crate::sim::history::History;
use crate::sim::swarm::Swarm;

/// Reads that miss a write.
pub fn check(history: &History, swarm: &Swarm, is_cart: impl Fn(usize) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    if !is_strict(swarm) {
        return found;
    }
    for key in (0..swarm.keys).filter(|key| is_cart(*key)) {
        let graph = Graph::of(history, key, swarm.skew_ms);
        let reads = history.reads.iter().filter(|read| read.key == key);
        for read in reads.filter(|read| history.is_promised(read)) {
            let accounted = graph.accounted(read);
            let missed = graph.writes.iter().enumerate().find(|(at, (_, write))| {
                write.is_acknowledged_by(read.begun_ns)
                    && !accounted.has(*at)
                    && !graph.is_overwritten_meanwhile(*at, read)
            });
            if let Some((_, (number, _))) = missed {
                found.push(format!(
                    "key {key} at {:.3} ms: a read that began after w{number} was acknowledged showed {:?}",
                    read.begun_ns as f64 / 1e6,
                    read.shown
                ));
            }
        }
    }
    found
}
