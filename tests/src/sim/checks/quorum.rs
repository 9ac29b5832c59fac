//! With R + W > N and no stand-ins in the count, a read shows every write to a cart that was acknowledged before it
//! began, or what saw it; or it was overwritten while the read was under way. The last is the price of small contexts:
//! a put's context covers the writes that siblings unseen by its client had overwritten, without the siblings. A read
//! that asked one replica before such a sibling came, and another after the next write with that context, shows neither.
//! The sibling is held, since the replicas that acknowledged the put have it, so the next read shows it.

use std::collections::BTreeMap;

use crate::sim::history::{History, WriteNumber};
use crate::sim::swarm::Swarm;

/// A set of one key's writes, a bit each.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn add(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}

/// Reads that miss a write.
pub fn check(history: &History, swarm: &Swarm, is_cart: impl Fn(usize) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    if swarm.sloppy || swarm.r + swarm.w <= swarm.n {
        return found;
    }
    for key in (0..swarm.keys).filter(|key| is_cart(*key)) {
        let writes: Vec<_> = history
            .writes
            .iter()
            .filter(|(_, write)| write.key == key)
            .collect();
        let places: BTreeMap<WriteNumber, usize> = writes
            .iter()
            .enumerate()
            .map(|(at, (number, _))| (**number, at))
            .collect();
        let nothing = Bits(vec![0; writes.len() / 64 + 1]);
        // A write saw earlier ones only.
        let mut reach: Vec<Bits> = Vec::with_capacity(writes.len());
        for (at, (_, write)) in writes.iter().enumerate() {
            let mut bits = nothing.clone();
            bits.add(at);
            for seen in write.seen.iter().filter_map(|number| places.get(number)) {
                bits.join(&reach[*seen]);
            }
            reach.push(bits);
        }
        for read in history.reads.iter().filter(|read| read.key == key) {
            let mut accounted = nothing.clone();
            for place in read.shown.iter().filter_map(|number| places.get(number)) {
                accounted.join(&reach[*place]);
            }
            let deletes = writes
                .iter()
                .enumerate()
                .filter(|(_, (_, write))| write.is_delete && write.begun_ns <= read.answered_ns);
            for (at, _) in deletes {
                accounted.join(&reach[at]);
            }
            let missed = writes.iter().enumerate().find(|(at, (_, write))| {
                let is_before = |at_ns: u64| at_ns < read.begun_ns;
                let is_overwritten_meanwhile = || {
                    let mut later = writes.iter().zip(&reach).skip(at + 1);
                    later.any(|((_, other), reach)| {
                        reach.has(*at)
                            && other.begun_ns <= read.answered_ns
                            && !other.acknowledged_ns.is_some_and(is_before)
                    })
                };
                write.acknowledged_ns.is_some_and(is_before)
                    && !accounted.has(*at)
                    && !is_overwritten_meanwhile()
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
