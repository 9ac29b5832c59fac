//! What must hold of every view that a node works by, of what nodes say they hold, and of the ring at the end.

use std::collections::{BTreeMap, BTreeSet};

use gramme_core::base::ids::{NodeId, PartitionId, ShardIndex};
use gramme_core::ring::{Held, Ring, RingView};

/// What each node says it holds, and what its view says; and what was wrong.
#[derive(Default)]
pub struct RingWatch {
    /// By each node's own word, as it was when the node last did anything: what others hear is this, some time later, and
    /// its own view follows it by up to some hundred milliseconds, so neither of these is the truth.
    held: BTreeMap<NodeId, Held>,
    /// Which of a node's shards have said that a partition is handed over, since the node last gained it.
    handed_over: BTreeMap<(NodeId, PartitionId), BTreeSet<ShardIndex>>,
    /// By each node's own views: by these its shards drop data.
    viewed: BTreeMap<NodeId, BTreeSet<usize>>,
    /// Set when the cluster has formed: before, nobody holds anything.
    pub is_formed: bool,
    /// How many others hold a partition at least when a node lets it go.
    pub holders_min: usize,
    /// Whether nothing is let go but what was handed over: no machine crashes, nothing is lost, no directory is from the past.
    pub is_whole: bool,
    /// What should have held and did not.
    pub violations: Vec<String>,
    /// What operators did and what befell machines, in order of virtual time.
    pub story: Vec<(u64, String)>,
}

impl RingWatch {
    /// A shard of a node says that its slice of a partition is handed over.
    pub fn drained(&mut self, me: NodeId, partition: PartitionId, shard: ShardIndex) {
        let shards = self.handed_over.entry((me, partition)).or_default();
        shards.insert(shard);
    }

    /// What a node of so many shards knows has changed, perhaps: heeds what it says of itself.
    pub fn says(&mut self, at_ns: u64, (me, shards): (NodeId, usize), ring: &Ring) {
        let Some(held) = ring.held(me) else { return };
        // One that comes back may for a moment know less of itself than it has said: it serves nothing by that.
        let is_news = |known: &Held| held.version() > known.version();
        if !self.held.get(&me).is_none_or(is_news) {
            return;
        }
        let before = self.held.insert(me, held.clone());
        // What it had gained a moment before, and its disk not heard of, is forgotten then, and gained once more.
        let is_start = before
            .as_ref()
            .is_some_and(|before| held.version().start_count != before.version().start_count);
        let holds =
            |held: Option<&Held>, partition| held.is_some_and(|held| held.contains(partition));
        let partitions = || ring.partitions().iter();
        let is_gained = |partition: &PartitionId| {
            held.contains(*partition) && !holds(before.as_ref(), *partition)
        };
        let is_let_go = |partition: &PartitionId| {
            !held.contains(*partition) && holds(before.as_ref(), *partition)
        };
        let gained: Vec<u32> = partitions().filter(is_gained).map(|at| at.0).collect();
        let let_go: Vec<PartitionId> = partitions().filter(is_let_go).collect();
        if gained.is_empty() && let_go.is_empty() {
            return;
        }
        for partition in &gained {
            self.handed_over.remove(&(me, PartitionId(*partition)));
        }
        let numbers: Vec<u32> = let_go.iter().map(|at| at.0).collect();
        let what = format!("{me} has gained {gained:?} and let go of {numbers:?}");
        self.story.push((at_ns, what));
        for partition in let_go {
            let done = self
                .handed_over
                .remove(&(me, partition))
                .map_or(0, |done| done.len());
            if self.is_formed && self.is_whole && !is_start && done < shards {
                self.wrong(
                    at_ns,
                    (ring.epoch(), me),
                    &format!(
                        "it let go of partition {}, of which {done} of {shards} shards have handed over theirs",
                        partition.0
                    ),
                );
            }
            // A layout of fewer nodes has fewer places.
            let places = ring.layout().targets(partition).len();
            let others = self.holders(partition, me);
            if self.is_formed && others < self.holders_min.min(places.max(1)) {
                self.wrong(
                    at_ns,
                    (ring.epoch(), me),
                    &format!(
                        "it let go of partition {}, which {others} others hold",
                        partition.0
                    ),
                );
            }
        }
    }

    /// A node works by a new view. `former` is that of before, in the same life.
    pub fn saw(&mut self, at_ns: u64, former: Option<&RingView>, view: &RingView) {
        let me = view.me;
        let mut wrong: Vec<String> = table_violations(view);
        if former.is_some_and(|former| former.epoch > view.epoch) {
            wrong.push("its epoch went back".into());
        }
        if let Some(held) = held_by(view) {
            let before = self.viewed.insert(me, held.clone()).unwrap_or_default();
            for partition in before.difference(&held) {
                let others = self.holders(PartitionId(*partition as u32), me);
                // A layout that has come since it said so may have more places than are filled yet.
                let readers = view
                    .partitions
                    .get(*partition)
                    .map_or(0, |row| row.read.len());
                if self.is_formed && others < self.holders_min.min(readers.max(1)) {
                    wrong.push(format!(
                        "its shards drop partition {partition}, which {others} others hold"
                    ));
                }
            }
        }
        for what in wrong {
            self.wrong(at_ns, (view.epoch, me), &what);
        }
    }

    fn wrong(&mut self, at_ns: u64, (epoch, me): (u64, NodeId), what: &str) {
        let at_ms = at_ns / 1_000_000;
        self.violations
            .push(format!("{at_ms} ms, epoch {epoch} of {me}: {what}"));
    }

    /// A node is gone for good, with all that it held.
    pub fn lost(&mut self, node: NodeId) {
        self.held.remove(&node);
        self.viewed.remove(&node);
    }

    /// How many others hold a partition.
    fn holders(&self, partition: PartitionId, me: NodeId) -> usize {
        let others = self.held.iter().filter(|(node, _)| **node != me);
        others.filter(|(_, held)| held.contains(partition)).count()
    }
}

/// What a node holds by its own view; nothing where the view does not say: it waits to be let in, or to be vouched for.
fn held_by(view: &RingView) -> Option<BTreeSet<usize>> {
    let me = view.my_number()?;
    let mut held = BTreeSet::new();
    for (partition, row) in view.partitions.iter().enumerate() {
        let is_reader = row.read.contains(&me);
        let is_told = is_reader || row.is_pending_here || row.is_draining_here;
        if row.write.contains(&me) && !is_told {
            return None;
        }
        if is_reader || row.is_draining_here {
            held.insert(partition);
        }
    }
    let is_blank = view.partitions.iter().all(|row| row.read.is_empty());
    (!is_blank).then_some(held)
}

fn table_violations(view: &RingView) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_blank = view.partitions.iter().all(|row| row.read.is_empty());
    let is_vouched = held_by(view).is_some();
    for (partition, row) in view.partitions.iter().enumerate() {
        let distinct = |numbers: &[u16]| numbers.iter().collect::<BTreeSet<_>>().len();
        let all = [&row.read, &row.write, &row.stand_ins, &row.others];
        if all.iter().any(|numbers| distinct(numbers) != numbers.len()) {
            wrong.push(format!("partition {partition} names a node twice: {row:?}"));
        }
        let is_known = |number: &u16| usize::from(*number) < view.nodes.len();
        if !all.iter().all(|numbers| numbers.iter().all(is_known)) {
            wrong.push(format!(
                "partition {partition} names a node that there is not"
            ));
        }
        if !row.read.iter().all(|number| row.write.contains(number)) {
            wrong.push(format!("a reader of partition {partition} gets no writes"));
        }
        if row
            .stand_ins
            .iter()
            .any(|number| row.write.contains(number))
        {
            wrong.push(format!(
                "partition {partition} has a stand-in that is a replica"
            ));
        }
        let me = view.my_number();
        let is_reader = me.is_some_and(|me| row.read.contains(&me));
        if row.is_pending_here && (is_reader || row.is_draining_here) {
            wrong.push(format!(
                "partition {partition} is both held and to be gained here"
            ));
        }
        if row.read.is_empty() && !is_blank && is_vouched {
            wrong.push(format!("partition {partition} has no reader"));
        }
    }
    wrong
}

/// At the end: all nodes know the same ring of exactly these nodes, and each partition lies on its N, and on no others.
pub fn settled<'a>(
    views: impl Iterator<Item = (NodeId, Option<&'a RingView>)>,
    members: &BTreeSet<NodeId>,
    n: usize,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut first: Option<&RingView> = None;
    for (node, view) in views {
        let Some(view) = view else {
            wrong.push(format!("{node} has no view"));
            continue;
        };
        let known: BTreeSet<NodeId> = view.nodes.iter().map(|node| node.id).collect();
        if known != *members {
            wrong.push(format!("{node} knows of {known:?}, and not of {members:?}"));
        }
        let width = n.min(view.nodes.len());
        for (partition, row) in view.partitions.iter().enumerate() {
            if row.read.len() != width || row.read != row.write || !row.others.is_empty() {
                wrong.push(format!(
                    "partition {partition} by {node}'s view {}: read {:?}, written {:?}, others {:?}",
                    view.epoch, row.read, row.write, row.others
                ));
            }
        }
        if let Some(first) = first {
            let rows = view.partitions.iter().zip(first.partitions.iter());
            let is_alike = first.epoch == view.epoch
                && first.partitions.len() == view.partitions.len()
                && rows.clone().all(|(one, other)| one.read == other.read);
            if !is_alike {
                wrong.push(format!(
                    "{node} (epoch {}) and {} (epoch {}) know different rings",
                    view.epoch, first.me, first.epoch
                ));
            }
        }
        first = first.or(Some(view));
    }
    wrong
}
