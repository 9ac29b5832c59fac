//! What follows for this node when something has changed: the view that its shards work by, and what is kept for the next start.

use std::sync::Arc;

use super::boot::Kept;
use super::machine::{Cluster, NEWS_NS, Out, Standing};
use super::view::{self, Duties};
use crate::base::ids::PartitionId;
use crate::base::time::Now;
use crate::ring::{NodeView, PartitionView, Ring, RingView};

/// The least time between two views.
const PUBLISH_NS: u64 = 10_000_000;
/// The same after one with a new table of partitions: while many partitions move, a table for each would take the time
/// of a data core.
const TABLE_NS: u64 = 40_000_000;
/// The least time between two states that are kept, but for what lets data go.
const KEEP_NS: u64 = 40_000_000;
/// How long a view waits that lets shards drop data: until it is kept, and known to others, that this node holds it no
/// more. A crash in between would have it say that it holds what it dropped.
const LET_GO_NS: u64 = 100_000_000;

impl Cluster {
    /// The next view lets shards drop data.
    pub(super) fn let_go_later(&mut self, now: Now) {
        self.times.publish_ns = self.times.publish_ns.max(now.mono_ns + LET_GO_NS);
        self.times.keep_ns = now.mono_ns;
    }

    /// What is known now is kept before the news of it are heard, as far as that depends on this node.
    pub(super) fn keep_soon(&mut self, now: Now) {
        let soon_ns = now.mono_ns + NEWS_NS.0;
        self.times.keep_ns = self.times.keep_ns.min(soon_ns);
    }

    /// Publishes and keeps what has changed, not more often than is useful.
    pub(super) fn settle(&mut self, now: Now, out: &mut Out) {
        self.send_datagrams(now, out);
        out.reports.append(&mut self.unsaid);
        out.notes.extend(self.own_clock.note());
        if self.is_unkept && now.mono_ns >= self.times.keep_ns {
            self.is_unkept = false;
            self.times.keep_ns = now.mono_ns + KEEP_NS;
            out.state = Some(Kept::to_bytes(
                self.me,
                self.start_count,
                self.ring.as_ref(),
                &self.buckets,
            ));
        }
        if !self.is_dirty || now.mono_ns < self.times.publish_ns {
            return;
        }
        self.is_dirty = false;
        let had_epoch = self.table.as_ref().map(|(epoch, _)| *epoch);
        let view = self.make_view(now);
        let gap_ns = if had_epoch == Some(view.epoch) {
            PUBLISH_NS
        } else {
            TABLE_NS
        };
        self.times.publish_ns = now.mono_ns + gap_ns;
        if let Some(view) = self.published.replace(view) {
            out.view = Some(view);
        }
    }

    pub(super) fn make_view(&mut self, now: Now) -> RingView {
        let nodes = match &self.ring {
            Some(ring) => ring.node_views(
                |node| self.is_alive(node, now),
                |node| self.takes_values(node),
            ),
            None => Vec::new(),
        };
        let epoch = self.ring.as_ref().map_or(0, Ring::epoch);
        let partitions = match &self.table {
            Some((of, table)) if *of == epoch => Arc::clone(table),
            Some(_) | None => {
                let table = self.make_table(&nodes, (epoch, now.mono_ns));
                self.table = Some((epoch, Arc::clone(&table)));
                table
            }
        };
        RingView {
            epoch,
            cluster: self.ring.as_ref().map_or(0, Ring::cluster),
            me: self.me,
            slices: self.slices,
            nodes,
            partitions,
            buckets: view::buckets(&self.buckets, self.ring.as_ref().map(Ring::layout)),
        }
    }

    pub(super) fn make_table(
        &mut self,
        nodes: &[NodeView],
        at: (u64, u64),
    ) -> Arc<Vec<PartitionView>> {
        let blank = || Arc::new(view::blank(self.slices));
        let Some(ring) = &self.ring else {
            return blank();
        };
        match self.standing {
            Standing::Outside | Standing::Refused(_) | Standing::WrongPartitions { .. } => blank(),
            Standing::Member if !self.own_clock.is_wrong() => {
                let routes = ring.routes();
                let mut table = ring.partition_views(self.me, &routes);
                for (node, partition) in self.known.doubted(ring, &routes, self.me) {
                    let number = nodes.binary_search_by_key(&node, |node| node.id).ok();
                    let number = number.and_then(|at| u16::try_from(at).ok());
                    let rows = Arc::make_mut(&mut table);
                    let row = rows.get_mut(partition.0 as usize);
                    if let (Some(row), Some(number)) = (row, number) {
                        row.others = row.others.iter().copied().chain([number]).collect();
                    }
                }
                let layout = ring.layout().id();
                let duties = Duties::of(&table, nodes, self.me);
                let moves = !duties.pending.is_empty() || !duties.draining.is_empty();
                self.progress.duties(duties, layout, at);
                if moves {
                    let rows = Arc::make_mut(&mut table).iter_mut();
                    for (partition, row) in (0u32..).map(PartitionId).zip(rows) {
                        row.is_move_known = self.progress.is_known(partition);
                    }
                }
                table
            }
            Standing::Member | Standing::Vouching { .. } => {
                let mut table = ring.partition_views(self.me, &ring.routes());
                let number = nodes
                    .binary_search_by_key(&self.me, |node| node.id)
                    .ok()
                    .and_then(|at| u16::try_from(at).ok());
                for row in Arc::make_mut(&mut table) {
                    view::without(row, number);
                }
                table
            }
        }
    }
}
