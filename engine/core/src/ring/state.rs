//! The ring: members, layout and held together, with what an operator does to them.
//!
//! Owns what gossip spreads and the data directory keeps. Never knows who is alive, never moves data: it says who is to
//! have what, and `routes` follow from it.
//!
//! Invariants:
//! - merging two rings of one cluster (`exchange`) is a join: in any order, any number of times, the same ring;
//! - the epoch rises with every change of the content, so of two tables from one node the greater is the newer;
//! - a removed node holds nothing.
//!
//! A change is *staged* while a node's wish is not what the layout says. Nothing else is recorded, so it is staged
//! again by itself when the layout that had fulfilled it loses against one from the other side of a split.
//!
//! Why the epoch is a counter and not the layout's version: a partition that became held changes the routes too. It is
//! raised by one with each change and to the peer's where that is greater, so it never falls and a table that differs
//! from the one before it has another number. Two sides of a split may count alike; the first merge ends that.

use std::collections::BTreeMap;

use super::held::Held;
use super::layout::{Layout, LayoutId};
use super::members::{Change, Facts, Member, MemberError, Members, Stamp};
use super::partition::PartitionMap;
use super::routes::Routes;
use super::solve::{Heir, NodeSpec, Shape, solve};
use crate::base::ids::{NodeId, PartitionId};
use crate::base::limits::REPLICAS_MAX;
use crate::base::mutant::{self, Mutant};

/// What a node is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// Known, owns nothing; a wish to join may be staged.
    Known,
    /// In the layout, holds nothing yet.
    Joining,
    /// In the layout.
    Up,
    /// Out of the layout again; what it still holds it brings to the targets.
    Leaving,
    /// Gone for good.
    Removed,
}

/// A wish that the layout does not fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Staged {
    /// Of which node.
    pub node: NodeId,
    /// What is to become of it.
    pub change: Change,
}

/// An operator's or a node's act was refused. State: unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// The node is unknown, removed, or one too many.
    Member(MemberError),
    /// It is in the layout already. Operator: nothing to do.
    AlreadyJoined(NodeId),
    /// It is not in the layout. Operator: a node that never joined is removed, it cannot leave or be replaced.
    NotJoined(NodeId),
    /// It still has a place in the layout. Operator: stage its leaving, plan and commit first.
    StillMember(NodeId),
    /// It has not yet handed over everything that it holds. Operator: wait for the transfer; if the node is lost for
    /// good, remove it by force.
    StillHolds {
        /// The node.
        node: NodeId,
        /// Partitions that it still holds.
        partitions: u32,
    },
    /// No node with a weight would be left.
    NobodyLeft,
    /// N is zero or more than `REPLICAS_MAX`.
    ReplicasOutOfRange,
    /// The layout or the staged changes are others than those that were planned. Operator: plan again.
    PlanIsStale,
    /// The plan changes nothing.
    NothingPlanned,
    /// The other ring is of another cluster, or has another number of partitions. Operator: one of both nodes has the
    /// wrong `--join` or data directory.
    OtherCluster {
        /// The id of this ring's cluster.
        own: u64,
        /// The id of the other's.
        other: u64,
    },
}

impl From<MemberError> for RingError {
    fn from(error: MemberError) -> Self {
        Self::Member(error)
    }
}

/// How a cluster begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// Any 64 bits; rings of different clusters never merge.
    pub cluster: u64,
    /// The size of its table, for ever.
    pub shape: Shape,
    /// The first node.
    pub node: NodeId,
    /// What it says of itself.
    pub facts: Facts,
    /// How often it has started.
    pub start_count: u64,
    /// When and where.
    pub stamp: Stamp,
}

/// What the cluster knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    pub(super) cluster: u64,
    pub(super) members: Members,
    pub(super) layout: Layout,
    pub(super) held: BTreeMap<NodeId, Held>,
    pub(super) epoch: u64,
}

impl Ring {
    /// A cluster of one node that holds everything.
    ///
    /// # Errors
    /// [`RingError::NobodyLeft`] if its weight is zero, [`RingError::ReplicasOutOfRange`].
    pub fn found(founding: Founding) -> Result<Self, RingError> {
        let Founding {
            cluster,
            shape,
            node,
            facts,
            start_count,
            stamp,
        } = founding;
        let spec = NodeSpec {
            node,
            zone: facts.zone.clone(),
            weight: facts.weight,
        };
        if facts.weight == 0 {
            return Err(RingError::NobodyLeft);
        }
        if shape.n == 0 || shape.n > REPLICAS_MAX {
            return Err(RingError::ReplicasOutOfRange);
        }
        let mut members = Members::default();
        members.announce(node, facts, start_count, stamp)?;
        members.wish(node, Some(Change::Join), stamp)?;
        let (layout, _) = solve(None, &[spec], &[], shape);
        Ok(Self {
            cluster,
            members,
            layout: layout.committed(LayoutId::default(), stamp),
            held: BTreeMap::from([(node, Held::everything(shape.partitions, start_count))]),
            epoch: 1,
        })
    }

    /// The cluster's id.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Everyone it knows.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Who is to have what.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The cut of the token space.
    pub fn partitions(&self) -> PartitionMap {
        self.layout.partitions()
    }

    /// What a node says it holds.
    pub fn held(&self, node: NodeId) -> Option<&Held> {
        self.held.get(&node)
    }

    /// Rises with every change; see the module's text.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The routes that follow from it: compute them when the epoch has changed, keep them until it does again.
    pub fn routes(&self) -> Routes {
        Routes::new(&self.members, &self.layout, &self.held, self.epoch)
    }

    /// What a node is; `None` for one that nobody has heard of.
    pub fn state_of(&self, node: NodeId) -> Option<MemberState> {
        if self.members.is_removed(node) {
            return Some(MemberState::Removed);
        }
        let wish = self.members.get(node)?.wish();
        let holds_something = self.held.get(&node).is_some_and(|held| !held.is_empty());
        Some(match (self.layout.contains(node), holds_something) {
            (true, true) => MemberState::Up,
            (true, false) => MemberState::Joining,
            (false, _) if wish == Some(Change::Leave) => MemberState::Leaving,
            (false, true) => MemberState::Leaving,
            (false, false) => MemberState::Known,
        })
    }

    /// The wishes that the layout does not fulfil, by node.
    pub fn staged(&self) -> Vec<Staged> {
        self.members
            .iter()
            .filter_map(|(node, member)| {
                let change = member.wish()?;
                let is_open = match change {
                    Change::Join | Change::Replace { .. } => !self.layout.contains(node),
                    Change::Leave => self.layout.contains(node),
                };
                is_open.then_some(Staged { node, change })
            })
            .collect()
    }

    // what a node does

    /// A node says what it is: at its start, and when that changes. Returns whether anything did.
    ///
    /// # Errors
    /// [`MemberError::Removed`] (it must not serve), [`MemberError::TooMany`].
    pub fn announce(
        &mut self,
        node: NodeId,
        facts: Facts,
        start_count: u64,
        stamp: Stamp,
    ) -> Result<bool, RingError> {
        let mut changed = self.members.announce(node, facts, start_count, stamp)?;
        match self.held.get_mut(&node) {
            Some(held) if held.version().start_count < start_count => {
                held.restart(start_count);
                changed = true;
            }
            Some(_) => {}
            None => {
                let held = Held::nothing(self.partitions(), start_count);
                self.held.insert(node, held);
                changed = true;
            }
        }
        self.touched(changed);
        Ok(changed)
    }

    /// Whether peers saw a later start of this node than its own directory knows: an old backup or a copied disk.
    /// Ask after the first exchange with a peer and before anything is served; then [`Self::forget_held`].
    pub fn is_from_the_past(&self, node: NodeId, start_count: u64) -> bool {
        self.members
            .get(node)
            .is_some_and(|member| member.start_count() > start_count)
    }

    /// A node that is from the past, or whose data was lost, holds nothing any more. Returns its new start count, later
    /// than `known` and any that is known here: to be persisted by the node.
    ///
    /// # Errors
    /// [`MemberError::Unknown`], [`MemberError::Removed`].
    pub fn forget_held(
        &mut self,
        node: NodeId,
        known: u64,
        stamp: Stamp,
    ) -> Result<u64, RingError> {
        if self.members.is_removed(node) {
            return Err(MemberError::Removed(node).into());
        }
        let member = self.members.get(node).ok_or(MemberError::Unknown(node))?;
        let seen = self
            .held
            .get(&node)
            .map_or(0, |held| held.version().start_count);
        let start_count = member.start_count().max(seen).max(known) + 1;
        let facts = member.facts().clone();
        self.members.announce(node, facts, start_count, stamp)?;
        self.held
            .insert(node, Held::nothing(self.partitions(), start_count));
        self.touched(true);
        Ok(start_count)
    }

    /// A node has complete data of a partition from now on. Only the node itself may say so.
    pub fn set_held(&mut self, node: NodeId, partition: PartitionId) -> bool {
        self.change_held(node, |held| held.set(partition))
    }

    /// A node has complete data of a partition no longer. Only the node itself may say so.
    pub fn clear_held(&mut self, node: NodeId, partition: PartitionId) -> bool {
        self.change_held(node, |held| held.clear(partition))
    }

    fn change_held(&mut self, node: NodeId, change: impl FnOnce(&mut Held) -> bool) -> bool {
        let changed = self.held.get_mut(&node).is_some_and(change);
        self.touched(changed);
        changed
    }

    // what an operator does

    /// A node is to get a share at the next commit.
    ///
    /// # Errors
    /// [`RingError::Member`], [`RingError::AlreadyJoined`].
    pub fn stage_join(&mut self, node: NodeId, stamp: Stamp) -> Result<(), RingError> {
        let member = self.known(node)?;
        if self.layout.contains(node) && member.wish() != Some(Change::Leave) {
            return Err(RingError::AlreadyJoined(node));
        }
        self.stage(node, Some(Change::Join), stamp)
    }

    /// A node is to give up its share at the next commit.
    ///
    /// # Errors
    /// [`RingError::Member`], [`RingError::NotJoined`].
    pub fn stage_leave(&mut self, node: NodeId, stamp: Stamp) -> Result<(), RingError> {
        self.known(node)?;
        if !self.layout.contains(node) {
            return Err(RingError::NotJoined(node));
        }
        self.stage(node, Some(Change::Leave), stamp)
    }

    /// A new node is to take the places of an old one at the next commit, and nothing else is to move for it.
    ///
    /// # Errors
    /// [`RingError::Member`], [`RingError::NotJoined`] of the old, [`RingError::AlreadyJoined`] of the new.
    pub fn stage_replace(&mut self, heir: Heir, stamp: Stamp) -> Result<(), RingError> {
        self.known(heir.old)?;
        self.known(heir.new)?;
        if !self.layout.contains(heir.old) {
            return Err(RingError::NotJoined(heir.old));
        }
        if self.layout.contains(heir.new) {
            return Err(RingError::AlreadyJoined(heir.new));
        }
        self.stage(heir.old, Some(Change::Leave), stamp)?;
        self.stage(heir.new, Some(Change::Replace { old: heir.old }), stamp)
    }

    /// Nothing that is staged here is so any more. Returns what was.
    ///
    /// Each wish is taken back at a time just after its own, not at that of the command: what an operator on the other side of
    /// a split has staged of the same node meanwhile is newer, and stays.
    ///
    /// # Errors
    /// None at present; a staged node is a known one.
    pub fn abort(&mut self, writer: NodeId) -> Result<Vec<Staged>, RingError> {
        let staged = self.staged();
        let stamp = Stamp {
            node: writer,
            ..Stamp::default()
        };
        for Staged { node, change } in &staged {
            // One that was to leave stays: it wants to be in, also should another layout leave it out.
            let wish = (*change == Change::Leave).then_some(Change::Join);
            self.stage(*node, wish, stamp)?;
        }
        Ok(staged)
    }

    /// A node that left, and has handed over all that it held, is gone for good. So is one that never joined. That every
    /// target has its copy is not enough: one that drains still brings them what only it acknowledged.
    ///
    /// # Errors
    /// [`RingError::Member`], [`RingError::StillMember`], [`RingError::StillHolds`].
    pub fn remove(&mut self, node: NodeId) -> Result<(), RingError> {
        self.known(node)?;
        if self.layout.contains(node) {
            return Err(RingError::StillMember(node));
        }
        let held = self.held.get(&node).map_or(0, |held| held.iter().count());
        if held > 0 && !mutant::is(Mutant::RemovedHolding) {
            let partitions = u32::try_from(held).unwrap_or(u32::MAX);
            return Err(RingError::StillHolds { node, partitions });
        }
        self.remove_lost(node)
    }

    /// A node that will never come back is gone for good, whatever only it had.
    ///
    /// # Errors
    /// [`RingError::Member`], [`RingError::StillMember`].
    pub fn remove_lost(&mut self, node: NodeId) -> Result<(), RingError> {
        self.known(node)?;
        if self.layout.contains(node) {
            return Err(RingError::StillMember(node));
        }
        self.members.remove(node);
        self.held.remove(&node);
        self.touched(true);
        Ok(())
    }

    fn known(&self, node: NodeId) -> Result<&Member, RingError> {
        if self.members.is_removed(node) {
            return Err(MemberError::Removed(node).into());
        }
        Ok(self.members.get(node).ok_or(MemberError::Unknown(node))?)
    }

    fn stage(&mut self, node: NodeId, wish: Option<Change>, stamp: Stamp) -> Result<(), RingError> {
        let changed = self.members.wish(node, wish, stamp)?;
        self.touched(changed);
        Ok(())
    }

    pub(super) fn touched(&mut self, changed: bool) {
        self.epoch += u64::from(changed);
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
