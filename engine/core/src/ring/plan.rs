//! Plan: what the staged changes would do, for an operator to look at and commit.
//!
//! Pure: the same ring gives the same plan at every node, so a plan that was shown at one can be committed at another;
//! its [`Plan::token`] says whether both mean the same.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{Layout, LayoutId};
use super::members::{Change, Stamp};
use super::report::Report;
use super::solve::{Heir, NodeSpec, Shape, solve};
use super::state::{Ring, RingError, Staged};
use crate::base::ids::{NodeId, PartitionId};
use crate::base::limits::REPLICAS_MAX;

/// A node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All that its data may take.
    pub capacity_bytes: u64,
    /// What its data takes now.
    pub used_bytes: u64,
}

/// What the planner is told beside the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Nodes that seem to be down.
    pub suspected: BTreeSet<NodeId>,
    /// The disks of those nodes that said so.
    pub space: BTreeMap<NodeId, Space>,
    /// Replicas of each partition from now on; `None`: as before.
    pub n: Option<u8>,
}

/// Something that an operator should know before the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Partitions will have fewer than N replicas.
    FewerNodesThanReplicas {
        /// Nodes with a weight.
        nodes: usize,
        /// N.
        n: usize,
    },
    /// Partitions will have two replicas in one zone.
    FewerZonesThanReplicas {
        /// Zones with such a node.
        zones: usize,
        /// N.
        n: usize,
    },
    /// The node will have more than its weight says, since its zone has too few others.
    ZoneTooSmall {
        /// The node.
        node: NodeId,
        /// Replicas by its weight alone.
        by_weight: usize,
        /// Replicas it will have.
        replicas: usize,
    },
    /// The node seems to be down, and has to fetch data: its new partitions stay pending until it is back.
    SuspectedGains {
        /// The node.
        node: NodeId,
        /// Replicas that it has to fetch.
        replicas: usize,
    },
    /// These partitions have no holder that does not seem to be down: they can be copied from nobody now.
    NoHolderAlive {
        /// How many.
        partitions: usize,
    },
    /// An earlier change is not finished: so many replicas are not at their target yet.
    Unfinished {
        /// How many.
        replicas: usize,
    },
    /// The layout names a node that was removed; its replicas are made anew.
    RemovedTarget {
        /// The node.
        node: NodeId,
    },
    /// The node's disk is too small, as far as one can tell from the mean size of a partition.
    TooLittleSpace {
        /// The node.
        node: NodeId,
        /// What it will need.
        needed_bytes: u64,
        /// What its data may take.
        capacity_bytes: u64,
    },
}

/// What moves into and out of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneMoves {
    /// The zone.
    pub zone: String,
    /// Replicas that its nodes fetch.
    pub gained: usize,
    /// Replicas that its nodes let go.
    pub lost: usize,
}

/// A layout that is not committed yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    base: LayoutId,
    staged: Vec<Staged>,
    layout: Layout,
    report: Report,
    zones: Vec<ZoneMoves>,
    warnings: Vec<Warning>,
    partition_bytes: Option<u64>,
}

impl Plan {
    /// The changes that it carries out.
    pub fn staged(&self) -> &[Staged] {
        &self.staged
    }

    /// The layout as it would be.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Balance and moves, by node.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Moves by zone.
    pub fn zones(&self) -> &[ZoneMoves] {
        &self.zones
    }

    /// What to know before the commit.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The mean size of one replica of a partition, if disks are known: to show moves as bytes.
    pub fn partition_bytes(&self) -> Option<u64> {
        self.partition_bytes
    }

    /// Equal for equal plans from the same layout, at any node.
    pub fn token(&self) -> u64 {
        let mut bytes = self.layout.to_bytes();
        bytes.extend_from_slice(&self.base.version.to_le_bytes());
        bytes.extend_from_slice(&self.base.stamp.hlc.0.to_le_bytes());
        bytes.extend_from_slice(&self.base.stamp.node.0.to_le_bytes());
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}

impl Ring {
    /// What the staged changes would do.
    ///
    /// # Errors
    /// [`RingError::NobodyLeft`], [`RingError::ReplicasOutOfRange`].
    pub fn plan(&self, circumstances: &Circumstances) -> Result<Plan, RingError> {
        let specs = self.next_members();
        if specs.iter().all(|spec| spec.weight == 0) {
            return Err(RingError::NobodyLeft);
        }
        let shape = Shape {
            partitions: self.partitions(),
            n: circumstances.n.unwrap_or(self.layout.n()),
        };
        if shape.n == 0 || shape.n > REPLICAS_MAX {
            return Err(RingError::ReplicasOutOfRange);
        }
        let (layout, report) = solve(Some(&self.layout), &specs, &self.heirs(), shape);
        let partition_bytes = self.partition_bytes(circumstances);
        let mut plan = Plan {
            base: self.layout.id(),
            staged: self.staged(),
            zones: self.zone_moves(&report),
            layout,
            report,
            warnings: Vec::new(),
            partition_bytes,
        };
        plan.warnings = self.warnings(&plan, &specs, circumstances);
        Ok(plan)
    }

    /// The plan becomes the layout.
    ///
    /// # Errors
    /// [`RingError::PlanIsStale`], [`RingError::NothingPlanned`].
    pub fn commit(&mut self, plan: &Plan, stamp: Stamp) -> Result<LayoutId, RingError> {
        let is_current = plan.base == self.layout.id()
            && plan.staged == self.staged()
            && self
                .plan(&Circumstances {
                    n: Some(plan.layout.n()),
                    ..Circumstances::default()
                })?
                .layout
                == plan.layout;
        if !is_current {
            return Err(RingError::PlanIsStale);
        }
        let changes_nothing = plan.report.moves == 0
            && plan.layout.n() == self.layout.n()
            && plan.layout.nodes() == self.layout.nodes()
            && plan.report.nodes.iter().all(|node| node.lost == 0);
        if changes_nothing {
            return Err(RingError::NothingPlanned);
        }
        self.layout = plan.layout.clone().committed(plan.base, stamp);
        self.touched(true);
        Ok(self.layout.id())
    }

    /// The members of the next layout.
    fn next_members(&self) -> Vec<NodeSpec> {
        self.members
            .iter()
            .filter(|(node, member)| match member.wish() {
                Some(Change::Leave) => false,
                Some(Change::Join | Change::Replace { .. }) => true,
                None => self.layout.contains(*node),
            })
            .map(|(node, member)| NodeSpec {
                node,
                zone: member.facts().zone.clone(),
                weight: member.facts().weight,
            })
            .collect()
    }

    /// Who takes whose places. Where two want the same node's, the one with the lesser id does.
    fn heirs(&self) -> Vec<Heir> {
        let mut heirs: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        for Staged { node, change } in self.staged() {
            if let Change::Replace { old } = change {
                let leaves = self.layout.contains(old)
                    && self
                        .members
                        .get(old)
                        .is_none_or(|member| member.wish() == Some(Change::Leave));
                if leaves {
                    heirs.entry(old).or_insert(node);
                }
            }
        }
        heirs
            .into_iter()
            .map(|(old, new)| Heir { old, new })
            .collect()
    }

    fn zone_moves(&self, report: &Report) -> Vec<ZoneMoves> {
        let mut zones: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for node in &report.nodes {
            let zone = self
                .members
                .get(node.node)
                .map_or("", |member| member.facts().zone.as_str());
            let moves = zones.entry(zone).or_default();
            moves.0 += node.gained;
            moves.1 += node.lost;
        }
        zones
            .into_iter()
            .map(|(zone, (gained, lost))| ZoneMoves {
                zone: zone.to_owned(),
                gained,
                lost,
            })
            .collect()
    }

    /// The mean over the disks that are known of nodes that hold something.
    fn partition_bytes(&self, circumstances: &Circumstances) -> Option<u64> {
        let (mut bytes, mut partitions) = (0u64, 0u64);
        for (node, space) in &circumstances.space {
            let held = self.held.get(node).map_or(0, |held| held.count());
            if held > 0 {
                bytes = bytes.saturating_add(space.used_bytes);
                partitions += u64::from(held);
            }
        }
        bytes.checked_div(partitions)
    }

    fn warnings(
        &self,
        plan: &Plan,
        specs: &[NodeSpec],
        circumstances: &Circumstances,
    ) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let owners: Vec<&NodeSpec> = specs.iter().filter(|spec| spec.weight > 0).collect();
        let zones: BTreeSet<&str> = owners.iter().map(|spec| spec.zone.as_str()).collect();
        let n = usize::from(plan.layout.n());
        if owners.len() < n {
            warnings.push(Warning::FewerNodesThanReplicas {
                nodes: owners.len(),
                n,
            });
        }
        // A cluster without zones never asked for any.
        if zones.len() < n && zones.len() > 1 {
            warnings.push(Warning::FewerZonesThanReplicas {
                zones: zones.len(),
                n,
            });
        }
        warnings.extend(self.zones_too_small(plan, &owners));
        for node in &plan.report.nodes {
            if node.gained > 0 && circumstances.suspected.contains(&node.node) {
                warnings.push(Warning::SuspectedGains {
                    node: node.node,
                    replicas: node.gained,
                });
            }
        }
        warnings.extend(self.unsafe_partitions(plan, circumstances));
        for node in self.layout.nodes() {
            if self.members.is_removed(*node) {
                warnings.push(Warning::RemovedTarget { node: *node });
            }
        }
        if let Some(partition_bytes) = plan.partition_bytes {
            warnings.extend(too_little_space(plan, partition_bytes, circumstances));
        }
        warnings
    }

    fn zones_too_small(&self, plan: &Plan, owners: &[&NodeSpec]) -> Vec<Warning> {
        let width = plan.layout.width();
        let partitions = self.partitions().count();
        let weights: u64 = owners.iter().map(|spec| u64::from(spec.weight)).sum();
        let mut warnings = Vec::new();
        for spec in owners {
            let all = (partitions * width) as u64;
            let by_weight = u64::from(spec.weight).saturating_mul(all) / weights.max(1);
            let by_weight = usize::try_from(by_weight)
                .unwrap_or(partitions)
                .min(partitions);
            let replicas = plan.report.of(spec.node).map_or(0, |node| node.after);
            // Half as much again is more than rounding and heavy nodes that hit their limit explain.
            if owners.len() > width && replicas > by_weight + by_weight / 2 + 1 {
                warnings.push(Warning::ZoneTooSmall {
                    node: spec.node,
                    by_weight,
                    replicas,
                });
            }
        }
        warnings
    }

    fn unsafe_partitions(&self, plan: &Plan, circumstances: &Circumstances) -> Vec<Warning> {
        let routes = self.routes();
        let (mut nobody, mut unfinished) = (0, 0);
        for partition in self.partitions().iter() {
            let route = routes.of(partition);
            unfinished += route.pending().len();
            let gains = plan
                .layout
                .targets(partition)
                .any(|target| !self.holds(target, partition));
            let alive = route
                .concerned()
                .filter(|node| self.holds(*node, partition))
                .any(|node| !circumstances.suspected.contains(&node));
            nobody += usize::from(gains && !alive);
        }
        let mut warnings = Vec::new();
        if nobody > 0 {
            warnings.push(Warning::NoHolderAlive { partitions: nobody });
        }
        if unfinished > 0 {
            warnings.push(Warning::Unfinished {
                replicas: unfinished,
            });
        }
        warnings
    }

    fn holds(&self, node: NodeId, partition: PartitionId) -> bool {
        self.held
            .get(&node)
            .is_some_and(|held| held.contains(partition))
    }
}

fn too_little_space(
    plan: &Plan,
    partition_bytes: u64,
    circumstances: &Circumstances,
) -> Vec<Warning> {
    circumstances
        .space
        .iter()
        .filter_map(|(node, space)| {
            let report = plan.report.of(*node)?;
            // What it lets go stays until the others have it.
            let fetched = partition_bytes.saturating_mul(report.gained as u64);
            let needed_bytes = space.used_bytes.saturating_add(fetched);
            let is_short = report.gained > 0 && needed_bytes > space.capacity_bytes;
            is_short.then_some(Warning::TooLittleSpace {
                node: *node,
                needed_bytes,
                capacity_bytes: space.capacity_bytes,
            })
        })
        .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
