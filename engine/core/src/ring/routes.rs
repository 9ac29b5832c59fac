//! Routes: for each partition, who reads, who writes, who stands in. Derived, never agreed upon.
//!
//! Owns a table that is computed once, when members, layout or held change; a look-up is an index and allocates nothing.
//! Knows nothing of liveness: who is away is each caller's own opinion, and it skips.
//!
//! Of a partition:
//! - *readers*: the targets that hold it, in the layout's order, filled up to N with other holders in the partition's
//!   hash order. Only their acknowledgements count towards W, only their answers towards R.
//! - *pending*: the targets that do not hold it yet. They get every write, which does not count.
//! - *surplus*: other holders while a target still lacks it. They get every write too, so that what they say they hold
//!   stays complete: a target that loses its copy makes them readers again.
//! - *draining*: other holders once every target holds it. They are not read, get every write, and let go.
//!
//! Invariants: the writers are readers, pending, surplus, in this order and each once; no removed node is among them.

use std::collections::BTreeMap;

use super::assign::mix;
use super::held::Held;
use super::layout::Layout;
use super::members::Members;
use super::partition::PartitionMap;
use crate::base::ids::{NodeId, PartitionId, Token};
use crate::base::limits::REPLICAS_MAX;

/// What a node is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves reads and writes; what it acknowledges counts.
    Reader,
    /// A target that does not hold the partition yet: takes writes, which do not count, and serves no reads.
    Pending,
    /// Holds it, is no target, is not needed to read: takes writes, which do not count.
    Surplus,
    /// Holds it, but every target does too: takes writes, which do not count, brings the targets what it has, lets go.
    Draining,
    /// Has nothing to do with it: refuses with its ring.
    Stranger,
}

impl Role {
    /// Whether a node in this role may answer and acknowledge for the partition.
    pub fn serves(self) -> bool {
        self == Self::Reader
    }

    /// Whether a node in this role takes writes as its own, not as a stand-in.
    pub fn takes_writes(self) -> bool {
        matches!(
            self,
            Self::Reader | Self::Pending | Self::Surplus | Self::Draining
        )
    }
}

/// A partition's nodes: all that a coordinator needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    writers: &'a [NodeId],
    readers: usize,
    pending: usize,
    draining: &'a [NodeId],
}

impl<'a> Route<'a> {
    /// Who answers reads and whose acknowledgements count, best first. The first is the preferred coordinator.
    pub fn readers(&self) -> &'a [NodeId] {
        &self.writers[..self.readers]
    }

    /// Who gets every write: the readers, then those that do not count.
    pub fn writers(&self) -> &'a [NodeId] {
        self.writers
    }

    /// Targets that do not hold the partition yet.
    pub fn pending(&self) -> &'a [NodeId] {
        &self.writers[self.readers..self.readers + self.pending]
    }

    /// Other holders that keep their copy complete until the targets hold it.
    pub fn surplus(&self) -> &'a [NodeId] {
        &self.writers[self.readers + self.pending..]
    }

    /// Other holders that are to let go.
    pub fn draining(&self) -> &'a [NodeId] {
        self.draining
    }

    /// Everyone who has or is to have data of the partition: whom a tombstone must have reached before it is reaped.
    pub fn concerned(&self) -> impl Iterator<Item = NodeId> + 'a {
        self.writers.iter().chain(self.draining).copied()
    }

    /// What a node is to this partition.
    pub fn role(&self, node: NodeId) -> Role {
        if self.readers().contains(&node) {
            Role::Reader
        } else if self.pending().contains(&node) {
            Role::Pending
        } else if self.surplus().contains(&node) {
            Role::Surplus
        } else if self.draining.contains(&node) {
            Role::Draining
        } else {
            Role::Stranger
        }
    }
}

/// Where one partition's nodes lie in the common list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Span {
    from: u32,
    readers: u8,
    pending: u8,
    surplus: u8,
    draining: u8,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    epoch: u64,
    partitions: PartitionMap,
    spans: Vec<Span>,
    nodes: Vec<NodeId>,
    /// Who may stand in, sorted: the members of the layout. With the index of each one's zone.
    eligible: Vec<(NodeId, u16)>,
}

impl Routes {
    /// The routes that follow. `epoch` is the ring's, and stays on the table.
    pub fn new(
        members: &Members,
        layout: &Layout,
        held: &BTreeMap<NodeId, Held>,
        epoch: u64,
    ) -> Self {
        let partitions = layout.partitions();
        let mut holders: Vec<Vec<NodeId>> = vec![Vec::new(); partitions.count()];
        for (node, held) in held {
            if members.get(*node).is_some() && held.partitions() == partitions {
                for partition in held.iter() {
                    holders[partition.0 as usize].push(*node);
                }
            }
        }
        let mut routes = Self {
            epoch,
            partitions,
            spans: Vec::with_capacity(partitions.count()),
            nodes: Vec::new(),
            eligible: eligible(members, layout),
        };
        for (partition, holders) in partitions.iter().zip(holders) {
            let span = routes.place(members, layout, partition, holders);
            routes.spans.push(span);
        }
        routes
    }

    fn place(
        &mut self,
        members: &Members,
        layout: &Layout,
        partition: PartitionId,
        holders: Vec<NodeId>,
    ) -> Span {
        let from = self.nodes.len();
        let is_target = |node: &NodeId| layout.is_target(*node, partition);
        let holds = |node: &NodeId| holders.binary_search(node).is_ok();
        let mut others: Vec<NodeId> = holders
            .iter()
            .copied()
            .filter(|node| !is_target(node))
            .collect();
        others.sort_unstable_by_key(|node| (mix(partition.0 as usize, node.0), *node));
        let targets = layout.targets(partition);
        // A removed target can never hold the partition: until the next layout the other holders keep theirs.
        let all_hold = targets.clone().all(|target| holds(&target));
        self.nodes.extend(targets.clone().filter(holds));
        let mut others = others.into_iter().take(PLACES_MAX);
        if !all_hold {
            let there = self.nodes.len() - from;
            let missing = usize::from(layout.n()).saturating_sub(there);
            self.nodes.extend(others.by_ref().take(missing));
        }
        let readers = self.nodes.len() - from;
        let waiting = |target: &NodeId| !holds(target) && members.get(*target).is_some();
        self.nodes.extend(targets.filter(waiting));
        let pending = self.nodes.len() - from - readers;
        self.nodes.extend(others);
        let rest = self.nodes.len() - from - readers - pending;
        let (surplus, draining) = if all_hold { (0, rest) } else { (rest, 0) };
        let small = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        Span {
            from: u32::try_from(from).unwrap_or(u32::MAX),
            readers: small(readers),
            pending: small(pending),
            surplus: small(surplus),
            draining: small(draining),
        }
    }

    /// The ring's epoch when this was computed. A greater one is newer.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The cut of the token space.
    pub fn partitions(&self) -> PartitionMap {
        self.partitions
    }

    /// The route of a token.
    pub fn of_token(&self, token: Token) -> Route<'_> {
        self.of(self.partitions.partition_of(token))
    }

    /// The route of a partition; nobody for one that does not exist.
    pub fn of(&self, partition: PartitionId) -> Route<'_> {
        let span = self
            .spans
            .get(partition.0 as usize)
            .copied()
            .unwrap_or_default();
        let (readers, pending) = (usize::from(span.readers), usize::from(span.pending));
        let writers = readers + pending + usize::from(span.surplus);
        let from = span.from as usize;
        let nodes = self
            .nodes
            .get(from..from + writers + usize::from(span.draining))
            .unwrap_or_default();
        let (writers, draining) = nodes.split_at(writers.min(nodes.len()));
        Route {
            writers,
            readers,
            pending,
            draining,
        }
    }

    /// What a node is to a partition.
    pub fn role(&self, node: NodeId, partition: PartitionId) -> Role {
        self.of(partition).role(node)
    }

    /// Who takes a write for a writer that is away, in the order in which they are asked: all members of the layout
    /// that are not writers themselves, in the partition's hash order, those in none of the readers' zones first. Each
    /// step costs a look at every member, which is paid only while someone is away.
    pub fn stand_ins(&self, partition: PartitionId) -> StandIns<'_> {
        let route = self.of(partition);
        let mut zones = [None; READERS_MAX];
        for (zone, reader) in zones.iter_mut().zip(route.readers()) {
            *zone = self.zone_of(*reader);
        }
        StandIns {
            routes: self,
            route,
            partition,
            zones,
            last: None,
        }
    }

    /// The first `count` of [`Self::stand_ins`], in one pass: for a table of all partitions.
    pub(super) fn first_stand_ins(&self, partition: PartitionId, count: usize) -> Vec<NodeId> {
        let all = self.stand_ins(partition);
        let mut keys: Vec<StandInKey> = all.keys().collect();
        if keys.len() > count && count > 0 {
            keys.select_nth_unstable(count - 1);
        }
        keys.truncate(count);
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, node)| node).collect()
    }

    fn zone_of(&self, node: NodeId) -> Option<u16> {
        let at = self
            .eligible
            .binary_search_by_key(&node, |(node, _)| *node)
            .ok()?;
        Some(self.eligible.get(at)?.1)
    }
}

/// Readers of a partition at most: a layout has no more targets, and no more holders are added to them.
const READERS_MAX: usize = REPLICAS_MAX as usize;

/// More holders of one partition than this are not looked at; a span counts in bytes.
const PLACES_MAX: usize = 128;

fn eligible(members: &Members, layout: &Layout) -> Vec<(NodeId, u16)> {
    let zones: BTreeMap<&str, u16> = {
        let mut zones: BTreeMap<&str, u16> = members
            .iter()
            .map(|(_, member)| (member.facts().zone.as_str(), 0))
            .collect();
        for (index, zone) in (0u16..).zip(zones.values_mut()) {
            *zone = index;
        }
        zones
    };
    layout
        .nodes()
        .iter()
        .filter_map(|node| {
            let zone = members.get(*node)?.facts().zone.as_str();
            Some((*node, *zones.get(zone)?))
        })
        .collect()
}

/// The order in which stand-ins are asked; see [`Routes::stand_ins`].
#[derive(Clone, Debug)]
pub struct StandIns<'a> {
    routes: &'a Routes,
    route: Route<'a>,
    partition: PartitionId,
    /// Of the readers.
    zones: [Option<u16>; READERS_MAX],
    last: Option<StandInKey>,
}

/// Whether the zone has a reader, the hash, the node: the order of stand-ins.
type StandInKey = (bool, u64, NodeId);

impl StandIns<'_> {
    fn keys(&self) -> impl Iterator<Item = StandInKey> + '_ {
        self.routes
            .eligible
            .iter()
            .filter(|(node, _)| !self.route.writers().contains(node))
            .map(|(node, zone)| {
                let hash = mix(self.partition.0 as usize, node.0);
                (self.zones.contains(&Some(*zone)), hash, *node)
            })
    }
}

impl Iterator for StandIns<'_> {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        let next = self
            .keys()
            .filter(|key| self.last.is_none_or(|last| *key > last))
            .min()?;
        self.last = Some(next);
        Some(next.2)
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
