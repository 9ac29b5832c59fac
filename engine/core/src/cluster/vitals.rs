//! Vitals: how full each node's disk is, and whether it takes writes, as it says itself.
//!
//! Soft: spread by samples that go along with what is said anyway, kept by nobody, a while behind. Plans are drawn and
//! warnings given by it; nothing that must be right rests on it.

use std::collections::BTreeMap;

use super::rng::Rng;
use crate::base::ids::NodeId;
use crate::base::limits::MEMBERS_MAX;
use crate::port::ShardDisk;
use crate::ring::Space;
use crate::ring::bytes::{Reader, RingBytesError, Writer};

/// Entries that go along with one word.
pub(super) const SAMPLE_MAX: usize = 8;

/// What a node says of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes that its data may take.
    pub capacity_bytes: u64,
    /// Whether all of it takes writes.
    pub takes_writes: bool,
}

impl Vitals {
    /// Of the disks of so many shards, as far as they are known: the slices of all are alike, so are their parts of the
    /// disk, and the fullest is full first. One that takes no writes speaks for all, since whoever writes to the node does
    /// not know to which of its shards.
    pub fn worst(disks: impl Iterator<Item = ShardDisk> + Clone, shards: u16) -> Self {
        let fullest = disks.clone().max_by(|one, other| {
            let of = |disk: &ShardDisk, by: &ShardDisk| {
                u128::from(disk.live_bytes) * u128::from(by.capacity_bytes)
            };
            of(one, other).cmp(&of(other, one))
        });
        let fullest = fullest.unwrap_or_default();
        Self {
            live_bytes: fullest.live_bytes.saturating_mul(u64::from(shards)),
            capacity_bytes: fullest.capacity_bytes.saturating_mul(u64::from(shards)),
            takes_writes: disks.clone().all(|disk| disk.takes_writes),
        }
    }
}

/// The same with its age: later starts and higher numbers are newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    node: NodeId,
    version: (u64, u64),
    vitals: Vitals,
}

/// Of all nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct AllVitals {
    by_node: BTreeMap<NodeId, Entry>,
}

impl AllVitals {
    /// This node's own; a change below a hundredth is no news.
    pub(super) fn set(&mut self, node: NodeId, start: u64, vitals: Vitals) {
        let sequence = match self.by_node.get(&node) {
            Some(entry) if entry.version.0 == start && is_alike(&entry.vitals, &vitals) => return,
            Some(entry) if entry.version.0 == start => entry.version.1 + 1,
            Some(_) | None => 1,
        };
        let version = (start, sequence);
        self.by_node.insert(
            node,
            Entry {
                node,
                version,
                vitals,
            },
        );
    }

    pub(super) fn merge(&mut self, entries: &[Entry]) {
        for entry in entries {
            let is_newer = self
                .by_node
                .get(&entry.node)
                .is_none_or(|known| entry.version > known.version);
            if is_newer {
                self.by_node.insert(entry.node, *entry);
            }
        }
    }

    /// This node's own, and some others'.
    pub(super) fn sample(&self, me: NodeId, rng: &mut Rng) -> Vec<Entry> {
        let mut sample: Vec<Entry> = self.by_node.get(&me).copied().into_iter().collect();
        let others: Vec<Entry> = self
            .by_node
            .values()
            .filter(|entry| entry.node != me)
            .copied()
            .collect();
        let first = rng.below(others.len() as u64);
        let from = usize::try_from(first).unwrap_or(0);
        let room = SAMPLE_MAX.saturating_sub(sample.len());
        sample.extend(
            others
                .iter()
                .cycle()
                .skip(from)
                .take(room.min(others.len())),
        );
        sample
    }

    /// Only members are remembered.
    pub(super) fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.by_node.retain(|node, _| is_member(*node));
    }

    pub(super) fn get(&self, node: NodeId) -> Option<Vitals> {
        Some(self.by_node.get(&node)?.vitals)
    }

    /// Disks, for the planner.
    pub(super) fn space(&self) -> BTreeMap<NodeId, Space> {
        self.by_node
            .values()
            .map(|entry| {
                let space = Space {
                    capacity_bytes: entry.vitals.capacity_bytes,
                    used_bytes: entry.vitals.live_bytes,
                };
                (entry.node, space)
            })
            .collect()
    }
}

fn is_alike(had: &Vitals, has: &Vitals) -> bool {
    let moved_bytes = had.live_bytes.abs_diff(has.live_bytes);
    had.takes_writes == has.takes_writes
        && had.capacity_bytes == has.capacity_bytes
        && moved_bytes <= had.live_bytes / 128
}

pub(super) fn encode(out: &mut Writer, entries: &[Entry]) {
    out.count(entries.len());
    for entry in entries {
        out.u64(entry.node.0);
        out.u64(entry.version.0);
        out.u64(entry.version.1);
        out.u64(entry.vitals.live_bytes);
        out.u64(entry.vitals.capacity_bytes);
        out.u8(u8::from(entry.vitals.takes_writes));
    }
}

pub(super) fn decode(from: &mut Reader<'_>) -> Result<Vec<Entry>, RingBytesError> {
    // A later version may send a larger sample.
    let count = from.count("vitals", MEMBERS_MAX, 41)?;
    (0..count)
        .map(|_| {
            Ok(Entry {
                node: NodeId(from.u64()?),
                version: (from.u64()?, from.u64()?),
                vitals: Vitals {
                    live_bytes: from.u64()?,
                    capacity_bytes: from.u64()?,
                    takes_writes: from.u8()? != 0,
                },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(live_bytes: u64) -> Vitals {
        Vitals {
            live_bytes,
            capacity_bytes: 1 << 30,
            takes_writes: true,
        }
    }

    #[test]
    fn the_newer_wins_whatever_the_order_and_small_changes_are_no_news() {
        let mut own = AllVitals::default();
        own.set(NodeId(1), 1, some(1_000));
        own.set(NodeId(1), 1, some(1_001));
        assert_eq!(own.get(NodeId(1)), Some(some(1_000)));
        let before = own.sample(NodeId(1), &mut Rng::new(1));
        own.set(NodeId(1), 1, some(2_000));
        let after = own.sample(NodeId(1), &mut Rng::new(1));
        let mut other = AllVitals::default();
        other.merge(&after);
        other.merge(&before);
        assert_eq!(other.get(NodeId(1)), Some(some(2_000)));
    }

    #[test]
    fn a_sample_is_bounded_has_the_own_and_each_once() {
        let mut all = AllVitals::default();
        for node in 0..50 {
            all.set(NodeId(node), 1, some(node));
        }
        let mut rng = Rng::new(3);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let sample = all.sample(NodeId(7), &mut rng);
            let nodes: std::collections::BTreeSet<_> =
                sample.iter().map(|entry| entry.node).collect();
            assert_eq!((sample.len(), nodes.len()), (SAMPLE_MAX, SAMPLE_MAX));
            assert!(nodes.contains(&NodeId(7)));
            seen.extend(nodes);
        }
        assert_eq!(seen.len(), 50, "all come along in time");
    }
}
