//! Writes that ask for acknowledgements from several zones: whether as many had them when their clients were told so.

use std::collections::BTreeSet;

use super::World;
use crate::sim::client::{is_cart, key_name};
use crate::sim::history::WriteNumber;
use crate::sim::membership::zone_of;

impl World {
    /// A write to a cart was acknowledged just now: the nodes that have it, or what saw it, whoever they are, lie in as many zones
    /// as it asked for.
    pub(super) fn look_at_zones(&mut self, key: usize, number: WriteNumber) {
        let name = key_name(key);
        if !is_cart(key) {
            return;
        }
        let mut zones = BTreeSet::new();
        for node in 0..self.nodes.len() {
            let Some(shown) = self.shown_by(node, &name) else {
                continue;
            };
            if self.history.closure(shown).contains(&number) {
                zones.insert(zone_of(node));
            }
        }
        if zones.len() < usize::from(self.swarm.bent.zones) {
            self.zones_missed.push(format!(
                "key {key} at {:.3} ms: w{number} was acknowledged, and only {zones:?} have it",
                self.now_ns as f64 / 1e6
            ));
        }
    }
}
