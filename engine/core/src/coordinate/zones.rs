//! Failure domains: in how many an answer is, and can be.
//!
//! A request may ask for answers from several distinct zones, beside its number of replicas. The zones are those of the
//! nodes that answer: a stand-in counts for its own, not for that of the node whose part it takes. Never decides who is a
//! replica.
//!
//! Zero and one ask for nothing, and cost nothing: every answer is in a zone.

use std::collections::BTreeSet;

use crate::base::ids::NodeId;
use crate::port::Failure;
use crate::ring::{PartitionView, RingView};

use super::slot::{Answer, ReadSlot, ReadState, WriteReplica, WriteSlot};

/// In how many zones these nodes are.
pub(super) fn zones_of(view: &RingView, nodes: impl Iterator<Item = NodeId>) -> u8 {
    zones(view, nodes.filter_map(|node| view.number_of(node))).len() as u8
}

fn zones(view: &RingView, numbers: impl Iterator<Item = u16>) -> BTreeSet<&str> {
    numbers.map(|number| zone_of(view, number)).collect()
}

fn zone_of(view: &RingView, number: u16) -> &str {
    view.node(number).zone.as_str()
}

/// What is said where there are too few zones.
pub(super) const fn no_zones(got: u8, needed: u8, is_in_doubt: bool) -> Failure {
    Failure::Zones {
        got,
        needed,
        is_in_doubt,
    }
}

/// In how many zones a write can be acknowledged at most: those of the replicas that seem alive, and for each that does not one
/// more by a stand-in, where these may be.
pub(super) fn within_reach(
    view: &RingView,
    row: &PartitionView,
    (me, others): (u16, &[u16]),
    is_strict: bool,
) -> u8 {
    let is_alive = |number: &&u16| view.node(**number).is_alive;
    let alive = others.iter().filter(is_alive).chain([&me]).copied();
    let own = zones(view, alive);
    let away = others.iter().filter(|other| !is_alive(other)).count();
    let stand_ins = row.stand_ins.iter().filter(is_alive).copied();
    let more = zones(view, stand_ins).difference(&own).count();
    let more = if is_strict { 0 } else { more.min(away) };
    (own.len() + more) as u8
}

impl WriteSlot {
    /// In how many zones it is acknowledged.
    pub(super) fn acknowledged_zones(&self, view: &RingView) -> u8 {
        let acknowledged = self.replicas.iter().filter(is_acknowledged);
        zones_of(view, acknowledged.map(|replica| replica.node))
    }

    /// Whether a node that takes a target's part would bring a zone that the write asks for and that none of those brings who
    /// have acknowledged, or may yet.
    pub(super) fn lacks_zone_of(&self, view: &RingView, number: u16, target: NodeId) -> bool {
        let is_with = |replica: &&WriteReplica| {
            let is_there = matches!(replica.state, Answer::Waiting | Answer::Done(_));
            let takes_its_part = replica.node == target || replica.hint_for == Some(target);
            replica.counts && is_there && !takes_its_part
        };
        let others = self.replicas.iter().filter(is_with);
        let numbers = others.filter_map(|replica| view.number_of(replica.node));
        let others = zones(view, numbers);
        others.len() < usize::from(self.zones_needed) && !others.contains(zone_of(view, number))
    }
}

fn is_acknowledged(replica: &&WriteReplica) -> bool {
    replica.counts && matches!(replica.state, Answer::Done(_))
}

impl ReadSlot {
    /// In how many zones it was answered.
    pub(super) fn answered_zones(&self, view: &RingView) -> u8 {
        let held = self.replicas.iter();
        let held = held.filter(|replica| matches!(replica.state, ReadState::Held(..)));
        zones_of(view, held.map(|replica| replica.node))
    }

    /// Whether as many replicas have answered as were asked for, in as many zones.
    pub(super) fn is_met(&self, view: &RingView) -> bool {
        self.answered() >= usize::from(self.needed)
            && (self.zones_needed <= 1 || self.answered_zones(view) >= self.zones_needed)
    }

    /// How many more must be asked, where of those that were none fails any more.
    pub(super) fn missing(&self, view: &RingView) -> usize {
        let replicas = usize::from(self.needed).saturating_sub(self.in_reach().count());
        if self.zones_needed <= 1 {
            return replicas;
        }
        let zones = zones_of(view, self.in_reach());
        replicas.max(usize::from(self.zones_needed.saturating_sub(zones)))
    }

    /// Of nodes that may be asked too, best first, the one to ask next: one in a new zone first, while some are missing.
    pub(super) fn next_of(&self, view: &RingView, nodes: &[NodeId]) -> Option<NodeId> {
        let first = nodes.first().copied();
        if self.zones_needed <= 1 {
            return first;
        }
        let asked = self.in_reach().filter_map(|node| view.number_of(node));
        let asked = zones(view, asked);
        let is_new = |node: &&NodeId| {
            let number = view.number_of(**node);
            number.is_some_and(|number| !asked.contains(zone_of(view, number)))
        };
        let lacks = asked.len() < usize::from(self.zones_needed);
        let new = nodes.iter().find(|node| lacks && is_new(node));
        new.copied().or(first)
    }

    /// The nodes that have answered, or may yet.
    fn in_reach(&self) -> impl Iterator<Item = NodeId> {
        let replicas = self.replicas.iter();
        let replicas = replicas.filter(|replica| !matches!(replica.state, ReadState::Failed));
        replicas.map(|replica| replica.node)
    }
}
