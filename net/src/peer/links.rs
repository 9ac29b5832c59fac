//! Which connection leads where, and when the next try is due.
//!
//! Owns the table of targets. Never touches a socket or a message.
//!
//! Invariants:
//! - a target has at most one connection of this side's and one of the other's;
//! - a target whose connection failed rests: at first for about [`REST_NS_MIN`], up to about [`REST_NS_MAX`] when it goes
//!   on failing, never for exactly as long as others do.

use std::collections::BTreeMap;

use gramme_core::base::ids::{NodeId, ShardIndex};

use crate::reactor::session::ConnectionId;

/// The first rest after a failure.
const REST_NS_MIN: u64 = 100_000_000;

/// The longest.
const REST_NS_MAX: u64 = 5_000_000_000;

/// The rest after a connection that had worked.
const REST_NS_LOST: u64 = 20_000_000;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A shard of a node.
    Shard(NodeId, ShardIndex),
    /// The control shard of a node, for gossip only.
    Control(NodeId),
    /// The control shard of whichever node is at this address.
    Address(String),
}

impl Target {
    /// The node, where it is known.
    pub(super) const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Shard(node, _) | Self::Control(node) => Some(*node),
            Self::Address(_) => None,
        }
    }
}

/// What there is for a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The connection that this side opened.
    pub(super) outgoing: Option<Outgoing>,
    /// The one that the other side opened, and whether its bytes cross machines.
    pub(super) incoming: Option<(ConnectionId, bool)>,
    failures: u32,
    rests_until_ns: u64,
}

/// A connection that this side opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) id: ConnectionId,
    pub(super) opened_at_ns: u64,
    /// Whether the other side has said who it is.
    pub(super) is_answered: bool,
    /// Whether its bytes cross machines.
    pub(super) checksum: bool,
}

impl Link {
    /// The connection to send on, if there is one: rather one that is known to work.
    pub(super) fn way(&self) -> Option<(ConnectionId, bool)> {
        let outgoing = self
            .outgoing
            .map(|outgoing| (outgoing.id, outgoing.checksum));
        let is_answered = self.outgoing.is_some_and(|outgoing| outgoing.is_answered);
        if is_answered {
            outgoing
        } else {
            self.incoming.or(outgoing)
        }
    }

    /// Whether a try is not due yet.
    pub(super) const fn is_resting(&self, now_ns: u64) -> bool {
        now_ns < self.rests_until_ns
    }

    /// A try has failed.
    pub(super) fn failed(&mut self, now_ns: u64) {
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(16);
        let rest_ns = (REST_NS_MIN << doublings).min(REST_NS_MAX);
        self.rests_until_ns = now_ns + jittered(rest_ns);
    }

    /// The next try may be made at once.
    pub(super) const fn encouraged(&mut self) {
        self.failures = 0;
        self.rests_until_ns = 0;
    }

    const fn is_needless(&self) -> bool {
        self.outgoing.is_none() && self.incoming.is_none() && self.failures == 0
    }
}

/// From half of it to one and a half.
fn jittered(rest_ns: u64) -> u64 {
    rest_ns / 2 + fastrand::u64(0..=rest_ns)
}

/// All targets of one shard.
#[derive(Default)]
pub(super) struct Links {
    links: BTreeMap<Target, Link>,
}

impl Links {
    /// What there is for a target.
    pub(super) fn get(&self, target: &Target) -> Link {
        self.links.get(target).copied().unwrap_or_default()
    }

    /// The target's own place.
    pub(super) fn entry(&mut self, target: Target) -> &mut Link {
        self.links.entry(target).or_default()
    }

    /// Where a connection of this side leads.
    pub(super) fn target_of(&self, id: ConnectionId) -> Option<Target> {
        let mut links = self.links.iter();
        links
            .find(|(_, link)| link.outgoing.is_some_and(|outgoing| outgoing.id == id))
            .map(|(target, _)| target.clone())
    }

    /// A connection of this side was answered.
    pub(super) fn answered(&mut self, target: &Target) {
        if let Some(link) = self.links.get_mut(target) {
            link.encouraged();
            if let Some(outgoing) = &mut link.outgoing {
                outgoing.is_answered = true;
            }
        }
    }

    /// A connection is over: takes it out, and returns the targets that it led to. One that failed before it was
    /// answered makes its target rest.
    pub(super) fn over(&mut self, id: ConnectionId, now_ns: u64) -> Vec<(Target, Over)> {
        let mut ended = Vec::new();
        for (target, link) in &mut self.links {
            if let Some(outgoing) = link.outgoing.take_if(|outgoing| outgoing.id == id) {
                if outgoing.is_answered {
                    link.rests_until_ns = now_ns + jittered(REST_NS_LOST);
                    ended.push((target.clone(), Over::Lost));
                } else {
                    link.failed(now_ns);
                    ended.push((target.clone(), Over::Failed));
                }
            }
            if link
                .incoming
                .take_if(|(incoming, _)| *incoming == id)
                .is_some()
            {
                ended.push((target.clone(), Over::Lost));
            }
        }
        self.links.retain(|_, link| !link.is_needless());
        ended
    }

    /// The connections to nodes of which this holds.
    pub(super) fn of_nodes(&self, which: impl Fn(NodeId) -> bool) -> Vec<ConnectionId> {
        let links = self.links.iter();
        links
            .filter(|(target, _)| target.node().is_some_and(&which))
            .flat_map(|(_, link)| {
                let outgoing = link.outgoing.map(|outgoing| outgoing.id);
                outgoing.into_iter().chain(link.incoming.map(|(id, _)| id))
            })
            .collect()
    }

    /// Lets the targets in nodes of which this holds be tried at once.
    pub(super) fn encourage(&mut self, which: impl Fn(NodeId) -> bool) {
        for (target, link) in &mut self.links {
            if target.node().is_some_and(&which) {
                link.encouraged();
            }
        }
    }

    /// The connections of this side that were not answered yet.
    pub(super) fn unanswered(&self) -> Vec<Outgoing> {
        let outgoing = self.links.values().filter_map(|link| link.outgoing);
        outgoing.filter(|outgoing| !outgoing.is_answered).collect()
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It had worked.
    Lost,
    /// It never was.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(slot: u32) -> ConnectionId {
        ConnectionId {
            slot,
            generation: 0,
        }
    }

    fn outgoing(slot: u32) -> Option<Outgoing> {
        Some(Outgoing {
            id: id(slot),
            opened_at_ns: 0,
            is_answered: false,
            checksum: true,
        })
    }

    #[test]
    fn a_connection_that_works_is_preferred_and_the_others_serve_meanwhile() {
        let mut links = Links::default();
        let target = Target::Shard(NodeId(7), ShardIndex(1));
        assert_eq!(links.get(&target).way(), None);
        links.entry(target.clone()).outgoing = outgoing(1);
        assert_eq!(links.get(&target).way(), Some((id(1), true)));
        links.entry(target.clone()).incoming = Some((id(2), false));
        assert_eq!(links.get(&target).way(), Some((id(2), false)));
        links.answered(&target);
        assert_eq!(links.get(&target).way(), Some((id(1), true)));
        assert_eq!(links.target_of(id(1)), Some(target.clone()));
        assert_eq!(links.over(id(1), 0), [(target.clone(), Over::Lost)]);
        assert_eq!(links.get(&target).way(), Some((id(2), false)));
        assert_eq!(links.of_nodes(|node| node == NodeId(7)), [id(2)]);
        assert_eq!(links.over(id(2), 0), [(target.clone(), Over::Lost)]);
        assert_eq!(links.get(&target), Link::default(), "nothing is left of it");
    }

    #[test]
    fn failures_make_it_rest_longer_and_longer_up_to_a_bound_and_never_all_alike() {
        let mut rests = Vec::new();
        for _ in 0..50 {
            let mut links = Links::default();
            let target = Target::Control(NodeId(7));
            let mut greatest_ns = 0;
            for tries in 1..40 {
                links.entry(target.clone()).outgoing = outgoing(1);
                assert_eq!(links.over(id(1), 0), [(target.clone(), Over::Failed)]);
                let link = links.get(&target);
                assert!(link.is_resting(REST_NS_MIN / 2 - 1));
                assert!(!link.is_resting(REST_NS_MAX * 3 / 2 + 1));
                if tries > 10 {
                    assert!(link.is_resting(REST_NS_MAX / 2 - 1));
                }
                greatest_ns = link.rests_until_ns.max(greatest_ns);
            }
            rests.push(greatest_ns);
            links.encourage(|node| node == NodeId(7));
            assert!(!links.get(&target).is_resting(0));
        }
        rests.dedup();
        assert!(rests.len() > 10);
    }
}
