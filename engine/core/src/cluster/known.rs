//! Known: what others have shown that they know, and what may follow from that alone.
//!
//! Everything else of a ring merges without any agreement. Two steps may not, since each takes something away for good:
//!
//! **Letting go.** A node says that it holds a partition no longer only when each target of the newest layout that it
//! knows has shown, after all was handed over, that it works by that very layout, and holds the partition by a bitmap no
//! older than what it showed. Without it two layouts that follow each other within a moment had two nodes let go, each
//! since the other still seemed to hold it.
//!
//! Why that is enough: let `L` be the greatest layout under which anybody has let the partition go. Each target of `L` held
//! it at a moment at which it knew `L`. From then on it is no target only by a layout greater than `L`, and only who is no
//! target lets go: that would be under a layout greater than `L`, of which there is none. So all targets of `L` hold it, at
//! any moment, however many others let go at the same time. What destroys data is another matter, and so is a node that a
//! crash makes forget the newest layout: it asks others before it takes part again, and what it showed before that start
//! counts no more.
//!
//! **Removal.** A node that left is removed for good only when it has shown that it works by the newest layout known here, has
//! no place in that, and holds nothing. That nothing is known of what it holds is not enough: it may have gained partitions
//! under a layout that others still work by, and told those, who then let go.
//!
//! **Gaining.** A node that is to gain a partition brings its copy up for good only when all who may coordinate writes of it
//! have shown a layout no older than its own: from then on their writes count it among those of whom at most N − W may
//! miss them (`coordinate::write`), and what was acknowledged before lies on enough of the holders that it compares with
//! (`upkeep::transfers`). In the same way a node that lets go hands over for good only what it had then: later writes lie on
//! enough of the targets without it. One that does not seem alive is left out after [`LEFT_OUT_NS`]: who is in touch with anybody that knows the
//! layout hears of it well before that, so what it coordinates is acknowledged only among nodes that know it no more than
//! it does. That is a bound in time, not a proof.
//!
//! **Who was to gain by an older layout** may have gained before it heard of the newer one, and others that heard of that
//! read from it. So it stays among those that get each write and may be missed, until it has shown by the newest layout
//! what it holds: a node gains by no other layout than the newest that it knows.
//!
//! Nothing new is said for it: a greeting is answered by a digest, and all that is needed is in there. Who has shown enough
//! by the usual exchange is not asked.

use std::collections::{BTreeMap, BTreeSet};

use super::detector::Life;
use super::machine::Cluster;
use super::word::Word;
use crate::base::ids::{NodeId, PartitionId};
use crate::base::mutant::{self, Mutant};
use crate::base::time::Now;
use crate::ring::{HeldVersion, LayoutId, Ring, RingDigest, Role, Routes};

/// How often one that has not shown enough is asked.
const ASK_NS: u64 = 100_000_000;
/// How long one that may coordinate writes, and does not seem alive, keeps a partition from being gained.
const LEFT_OUT_NS: u64 = 5_000_000_000;
/// How many are asked at once.
const ASKED_MAX: usize = 16;

/// What one node has shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// In which of its starts.
    start: u64,
    /// The layout that it knew.
    layout: LayoutId,
    /// How new its own bitmap was then.
    held: HeldVersion,
}

/// What others have shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    shown: BTreeMap<NodeId, Shown>,
    /// What each node was to gain by the last table.
    pending: BTreeMap<NodeId, BTreeSet<PartitionId>>,
    /// What each node was to gain by an older layout, and may have gained.
    doubted: BTreeMap<NodeId, BTreeSet<PartitionId>>,
    ask_ns: u64,
}

impl Known {
    /// A node's digest.
    pub(super) fn digest(&mut self, from: &Life, digest: &RingDigest) {
        let held = digest.held.get(&from.node).copied().unwrap_or_default();
        self.show(from, digest.layout, held);
    }

    /// A node knows what is known here.
    pub(super) fn same(&mut self, from: &Life, ring: &Ring) {
        let held = ring.held(from.node).map(|held| held.version());
        self.show(from, ring.layout().id(), held.unwrap_or_default());
    }

    fn show(&mut self, from: &Life, layout: LayoutId, held: HeldVersion) {
        let shown = Shown {
            start: from.start,
            layout,
            held,
        };
        let known = self.shown.entry(from.node).or_insert(shown);
        // Words overtake each other.
        if shown.start > known.start
            || shown.start == known.start && (layout, held) >= (known.layout, known.held)
        {
            *known = shown;
        }
    }

    /// Keeps those nodes only.
    pub(super) fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.shown.retain(|node, _| is_member(*node));
    }

    /// What a node has shown in the newest of its starts that the ring knows.
    fn of(&self, node: NodeId, ring: &Ring) -> Option<&Shown> {
        let member = ring.members().get(node)?;
        let shown = self.shown.get(&node)?;
        (shown.start >= member.start_count()).then_some(shown)
    }

    /// Whether a node has shown that it knows the newest layout known here, or one after it.
    fn follows(&self, node: NodeId, ring: &Ring) -> bool {
        self.of(node, ring)
            .is_some_and(|shown| shown.layout >= ring.layout().id())
    }

    /// Whether a node has shown that it works by the newest layout known here, and that what is known here is all that it
    /// holds.
    fn is_whole(&self, node: NodeId, ring: &Ring) -> bool {
        let held = ring.held(node).map(|held| held.version());
        self.of(node, ring).is_some_and(|shown| {
            shown.layout == ring.layout().id() && shown.held <= held.unwrap_or_default()
        })
    }

    /// Who may hold which partition, though by the routes it has nothing to do with it.
    pub(super) fn doubted(
        &mut self,
        ring: &Ring,
        routes: &Routes,
        me: NodeId,
    ) -> impl Iterator<Item = (NodeId, PartitionId)> {
        let mut pending: BTreeMap<NodeId, BTreeSet<PartitionId>> = BTreeMap::new();
        for partition in ring.partitions().iter() {
            let others = routes.of(partition).pending().iter();
            for node in others.filter(|node| **node != me) {
                pending.entry(*node).or_default().insert(partition);
            }
        }
        for (node, mut partitions) in std::mem::replace(&mut self.pending, pending) {
            self.doubted
                .entry(node)
                .or_default()
                .append(&mut partitions);
        }
        let mut doubted = std::mem::take(&mut self.doubted);
        doubted.retain(|node, partitions| {
            partitions.retain(|partition| routes.role(*node, *partition) == Role::Stranger);
            let is_member = ring.members().get(*node).is_some();
            let is_forgotten = self.is_whole(*node, ring) || mutant::is(Mutant::GainerForgotten);
            !partitions.is_empty() && is_member && !is_forgotten
        });
        self.doubted = doubted;
        let all = self.doubted.iter();
        all.flat_map(|(node, partitions)| partitions.iter().map(|partition| (*node, *partition)))
    }

    /// Whether a node has shown that it works by the newest layout known here, and holds a partition.
    fn keeps(&self, node: NodeId, partition: PartitionId, ring: &Ring) -> bool {
        let Some(held) = ring.held(node).filter(|held| held.contains(partition)) else {
            return false;
        };
        self.of(node, ring)
            .is_some_and(|shown| shown.layout == ring.layout().id() && shown.held <= held.version())
    }
}

impl Cluster {
    /// Whether a node has shown that it works by the newest layout known here, and that what is known here is all that it
    /// holds; it is asked otherwise.
    pub(super) fn has_shown_all(&mut self, now: Now, node: NodeId, out: &mut super::Out) -> bool {
        if mutant::is(Mutant::RemovedUnasked) || mutant::is(Mutant::RemovedHolding) {
            return true;
        }
        let Some(ring) = self.ring.as_ref().filter(|_| node != self.me) else {
            return true;
        };
        let has_shown = self.known.is_whole(node, ring);
        if !has_shown {
            self.say(now, node, &Word::Hello(self.facts.clone()), out);
        }
        has_shown
    }

    /// Does what others have shown enough for, and asks those of whom more is needed.
    pub(super) fn heed_known(&mut self, now: Now, out: &mut super::Out) {
        // What follows from a layout that is not the newest any more waits for the next table.
        let Some(ring) = self.ring.as_ref().filter(|_| self.is_table_newest()) else {
            return;
        };
        let mut lacking: BTreeSet<NodeId> = BTreeSet::new();
        let mut known: Vec<PartitionId> = Vec::new();
        for (partition, nodes, since_ns) in self.progress.unknown() {
            let is_late = now.mono_ns.saturating_sub(since_ns) >= LEFT_OUT_NS;
            let is_short = |node: &&NodeId| {
                let is_left_out = is_late && !self.detector.is_alive(**node, now.mono_ns);
                !self.known.follows(**node, ring) && !is_left_out
            };
            let short: Vec<NodeId> = nodes.iter().filter(is_short).copied().collect();
            if short.is_empty() || mutant::is(Mutant::GainedUnknown) {
                known.push(partition);
            }
            lacking.extend(short);
        }
        let mut kept: Vec<PartitionId> = Vec::new();
        for (partition, targets) in self.progress.handed_over() {
            let keeps = |node: &&NodeId| self.known.keeps(**node, partition, ring);
            let short: Vec<NodeId> = targets
                .iter()
                .filter(|node| !keeps(node))
                .copied()
                .collect();
            if short.is_empty() || mutant::is(Mutant::LetGoUnasked) {
                kept.push(partition);
            }
            lacking.extend(short);
        }
        let mut is_cleared = false;
        for node in self.known.doubted.keys() {
            if self.known.is_whole(*node, ring) {
                is_cleared = true;
            } else {
                lacking.insert(*node);
            }
        }
        if !known.is_empty() || is_cleared {
            // The table says so from now on.
            self.table = None;
            self.is_dirty = true;
        }
        for partition in known {
            self.progress.set_known(partition);
        }
        self.let_go(now, &kept);
        if lacking.is_empty() || now.mono_ns < self.known.ask_ns {
            return;
        }
        self.known.ask_ns = now.mono_ns + ASK_NS;
        let mut lacking: Vec<NodeId> = lacking.into_iter().collect();
        while lacking.len() > ASKED_MAX {
            let at = self.rng.below(lacking.len() as u64);
            lacking.swap_remove(usize::try_from(at).unwrap_or(0));
        }
        for node in lacking {
            let hello = Word::Hello(self.facts.clone());
            self.say(now, node, &hello, out);
        }
    }

    /// When [`Self::heed_known`] wants to ask.
    pub(super) fn ask_deadline_ns(&self) -> Option<u64> {
        let is_waiting = self.progress.handed_over().next().is_some()
            || self.progress.unknown().next().is_some()
            || !self.known.doubted.is_empty();
        (is_waiting && self.is_table_newest()).then_some(self.known.ask_ns)
    }

    /// Whether the duties follow from the newest layout known here.
    pub(super) fn is_table_newest(&self) -> bool {
        let ring = self.ring.as_ref();
        ring.is_some_and(|ring| ring.layout().id() == self.progress.layout)
    }

    fn let_go(&mut self, now: Now, partitions: &[PartitionId]) {
        let me = self.me;
        let Some(ring) = &mut self.ring else { return };
        let mut changed = false;
        for partition in partitions {
            self.progress.let_go(*partition);
            changed |= ring.clear_held(me, *partition);
        }
        if changed {
            self.let_go_later(now);
            self.has_news(now);
        }
    }
}
