//! The view that all shards of a node work by, made from the ring and from who seems alive.
//!
//! Owns the last one. Its table of partitions is computed when the ring has changed and shared while only the opinion of
//! who is alive changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::buckets::Buckets;
use crate::base::ids::{NodeId, PartitionId};
use crate::ring::{BucketView, Layout, NodeView, PartitionView, RingView, Slices};

/// Whom a partition concerns that this node gains or lets go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Concerned {
    /// Who writes it.
    pub(super) writers: Vec<NodeId>,
    /// Where it is let go: who is to have it.
    pub(super) targets: Vec<NodeId>,
}

/// What this node has to do with partitions beside serving them, with the others whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Duties {
    pub(super) pending: BTreeMap<PartitionId, Concerned>,
    pub(super) draining: BTreeMap<PartitionId, Concerned>,
}

impl Duties {
    /// Those that follow from a table.
    pub(super) fn of(table: &[PartitionView], nodes: &[NodeView], me: NodeId) -> Self {
        let mut duties = Self::default();
        let ids = |numbers: &[u16]| -> Vec<NodeId> {
            let nodes = numbers.iter().filter_map(|at| nodes.get(usize::from(*at)));
            nodes.map(|node| node.id).filter(|id| *id != me).collect()
        };
        for (partition, row) in (0u32..).map(PartitionId).zip(table) {
            if !row.is_pending_here && !row.is_draining_here {
                continue;
            }
            let mut concerned = Concerned {
                writers: ids(&row.write),
                targets: Vec::new(),
            };
            concerned.writers.extend(ids(&row.others));
            if row.is_draining_here {
                concerned.targets = ids(&row.read);
                duties.draining.insert(partition, concerned);
            } else {
                duties.pending.insert(partition, concerned);
            }
        }
        duties
    }
}

/// The table of a node that serves nothing: not let in yet, or refused.
pub(super) fn blank(slices: Slices) -> Vec<PartitionView> {
    vec![PartitionView::default(); slices.partitions() as usize]
}

/// The rules as coordinators use them: no more replicas than the layout gives.
pub(super) fn buckets(buckets: &Buckets, layout: Option<&Layout>) -> Vec<BucketView> {
    let width = layout.map_or(1, |layout| u8::try_from(layout.width()).unwrap_or(u8::MAX));
    let bounded = |rules: &BucketView| {
        let n = rules.n.min(width).max(1);
        BucketView {
            n,
            r: rules.r.min(n),
            w: rules.w.min(n),
            ..rules.clone()
        }
    };
    buckets.iter().map(bounded).collect()
}

/// The last view, and what it was made of.
#[derive(Default)]
pub(super) struct Published {
    view: Option<Arc<RingView>>,
}

impl Published {
    /// The address by which this node's connections know a node.
    pub(super) fn address_of(&self, node: NodeId) -> Option<&str> {
        let view = self.view.as_ref()?;
        let number = view.number_of(node)?;
        Some(&view.node(number).address)
    }

    pub(super) fn view(&self) -> Option<&Arc<RingView>> {
        self.view.as_ref()
    }

    /// Keeps the view and returns it, if it differs from the last.
    pub(super) fn replace(&mut self, view: RingView) -> Option<Arc<RingView>> {
        if self.view.as_deref() == Some(&view) {
            return None;
        }
        let view = Arc::new(view);
        self.view = Some(Arc::clone(&view));
        Some(view)
    }
}

/// The row as it is while this node's own word does not count yet: it takes writes, others serve.
pub(super) fn without(row: &mut PartitionView, number: Option<u16>) {
    let Some(number) = number else { return };
    row.is_pending_here = false;
    row.is_draining_here = false;
    if row.read.contains(&number) {
        row.read = row
            .read
            .iter()
            .copied()
            .filter(|at| *at != number)
            .collect();
        let mut write: Vec<u16> = row
            .write
            .iter()
            .copied()
            .filter(|at| *at != number)
            .collect();
        write.push(number);
        row.write = write.into_boxed_slice();
    }
}
