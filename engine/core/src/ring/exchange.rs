//! Exchange: how two rings of one cluster become one, whole or in parts.
//!
//! A node sends a [`RingDigest`]; its peer answers with the [`RingPart`] that is newer there, and both merge what they
//! get. A part is also what a data directory keeps and what a client or a joining node is given: the whole ring.
//!
//! Invariant: merging parts is a join, per member, per bitmap and for the layout (the greater id wins).

use std::collections::BTreeMap;

use super::bytes::{Reader, RingBytesError, Writer};
use super::held::{Held, HeldVersion};
use super::layout::{Layout, LayoutId};
use super::members::{MemberVersion, Members, decode_stamp, encode_stamp};
use super::partition::PartitionMap;
use super::state::{Ring, RingError, Staged};
use crate::base::ids::NodeId;
use crate::base::limits::MEMBERS_MAX;

/// How new everything in a ring is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RingDigest {
    /// Of which cluster.
    pub cluster: u64,
    /// The ring's epoch.
    pub epoch: u64,
    /// The layout.
    pub layout: LayoutId,
    /// Each member's entry.
    pub members: BTreeMap<NodeId, MemberVersion>,
    /// Each node's bitmap.
    pub held: BTreeMap<NodeId, HeldVersion>,
}

/// Some or all of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingPart {
    cluster: u64,
    partitions: PartitionMap,
    epoch: u64,
    members: Members,
    layout: Option<Layout>,
    held: BTreeMap<NodeId, Held>,
}

/// What a merge did.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Merged {
    /// Whether this ring has changed: store it, compute the routes anew.
    pub changed: bool,
    /// A layout of this side lost against one that did not know it.
    pub lost: Option<LostLayout>,
}

/// Two layouts were committed on two sides of a split: to be reported to operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostLayout {
    /// The one that is gone.
    pub lost: LayoutId,
    /// The one that holds.
    pub winner: LayoutId,
    /// The changes that are staged again.
    pub returned: Vec<Staged>,
}

impl RingPart {
    /// Of which cluster it is.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// How new a node's bitmap in it is.
    pub fn held_version(&self, node: NodeId) -> Option<HeldVersion> {
        self.held.get(&node).map(Held::version)
    }

    /// Whether there is nothing in it but the epoch.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.layout.is_none() && self.held.is_empty()
    }

    /// As bytes, with a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::of_kind(PART);
        out.u64(self.cluster);
        out.u32(self.partitions.partitions());
        out.u64(self.epoch);
        self.members.encode(&mut out);
        out.u8(u8::from(self.layout.is_some()));
        if let Some(layout) = &self.layout {
            layout.encode(&mut out);
        }
        out.count(self.held.len());
        for (node, held) in &self.held {
            out.u64(node.0);
            held.encode(&mut out);
        }
        out.seal()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`RingBytesError`], for any bytes that are not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RingBytesError> {
        let mut from = Reader::open(bytes, PART)?;
        let cluster = from.u64()?;
        let wrong_partitions = RingBytesError::Field { name: "partitions" };
        let partitions = PartitionMap::new(from.u32()?).ok_or(wrong_partitions)?;
        let epoch = from.u64()?;
        let members = Members::decode(&mut from)?;
        let layout = match from.u8()? {
            0 => None,
            1 => Some(Layout::decode(&mut from)?),
            _ => return Err(RingBytesError::Field { name: "layout" }),
        };
        if layout
            .as_ref()
            .is_some_and(|layout| layout.partitions() != partitions)
        {
            return Err(wrong_partitions);
        }
        let count = from.count("held", MEMBERS_MAX, 8 + Held::ENCODED_BYTES_MIN)?;
        let mut held = BTreeMap::new();
        for _ in 0..count {
            let node = NodeId(from.u64()?);
            held.insert(node, Held::decode(&mut from, partitions)?);
        }
        Ok(Self {
            cluster,
            partitions,
            epoch,
            members,
            layout,
            held,
        })
    }

    /// The whole ring, if this is one.
    pub fn into_ring(self) -> Option<Ring> {
        let Self {
            cluster,
            epoch,
            members,
            layout,
            mut held,
            ..
        } = self;
        held.retain(|node, _| members.get(*node).is_some());
        Some(Ring {
            cluster,
            members,
            layout: layout?,
            held,
            epoch,
        })
    }
}

impl RingDigest {
    /// As bytes, with a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::of_kind(DIGEST);
        out.u64(self.cluster);
        out.u64(self.epoch);
        out.u64(self.layout.version);
        encode_stamp(&mut out, self.layout.stamp);
        out.count(self.members.len());
        for (node, version) in &self.members {
            out.u64(node.0);
            match version {
                MemberVersion::Removed => out.u8(1),
                MemberVersion::Present {
                    facts,
                    wish,
                    start_count,
                } => {
                    out.u8(0);
                    encode_stamp(&mut out, *facts);
                    encode_stamp(&mut out, *wish);
                    out.u64(*start_count);
                }
            }
        }
        out.count(self.held.len());
        for (node, version) in &self.held {
            out.u64(node.0);
            out.u64(version.start_count);
            out.u64(version.sequence);
        }
        out.seal()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`RingBytesError`], for any bytes that are not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RingBytesError> {
        let mut from = Reader::open(bytes, DIGEST)?;
        let (cluster, epoch) = (from.u64()?, from.u64()?);
        let layout = LayoutId {
            version: from.u64()?,
            stamp: decode_stamp(&mut from)?,
        };
        let mut members = BTreeMap::new();
        for _ in 0..from.count("members", MEMBERS_MAX, 9)? {
            let node = NodeId(from.u64()?);
            let version = match from.u8()? {
                1 => MemberVersion::Removed,
                0 => MemberVersion::Present {
                    facts: decode_stamp(&mut from)?,
                    wish: decode_stamp(&mut from)?,
                    start_count: from.u64()?,
                },
                _ => return Err(RingBytesError::Field { name: "entry" }),
            };
            members.insert(node, version);
        }
        let mut held = BTreeMap::new();
        for _ in 0..from.count("held", MEMBERS_MAX, 24)? {
            let node = NodeId(from.u64()?);
            let version = HeldVersion {
                start_count: from.u64()?,
                sequence: from.u64()?,
            };
            held.insert(node, version);
        }
        Ok(Self {
            cluster,
            epoch,
            layout,
            members,
            held,
        })
    }
}

impl Ring {
    /// How new everything here is.
    pub fn digest(&self) -> RingDigest {
        let held = self.held.iter().map(|(node, held)| (*node, held.version()));
        RingDigest {
            cluster: self.cluster,
            epoch: self.epoch,
            layout: self.layout.id(),
            members: self.members.versions().collect(),
            held: held.collect(),
        }
    }

    /// A hash of the content without the epoch: equal content, equal fingerprint.
    pub fn fingerprint(&self) -> u64 {
        let whole = RingPart {
            epoch: 0,
            ..self.whole()
        };
        xxhash_rust::xxh3::xxh3_64(&whole.to_bytes())
    }

    /// All of it: what the data directory keeps, and what a joining node and a client are given.
    pub fn whole(&self) -> RingPart {
        RingPart {
            cluster: self.cluster,
            partitions: self.partitions(),
            epoch: self.epoch,
            members: self.members.clone(),
            layout: Some(self.layout.clone()),
            held: self.held.clone(),
        }
    }

    /// The whole ring as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.whole().to_bytes()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`RingBytesError`], for any bytes that are not a whole ring.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RingBytesError> {
        RingPart::from_bytes(bytes)?
            .into_ring()
            .ok_or(RingBytesError::Field { name: "layout" })
    }

    /// What a peer with this digest lacks.
    pub fn newer_than(&self, peer: &RingDigest) -> RingPart {
        let is_news = |node: &NodeId, held: &Held| {
            peer.held
                .get(node)
                .is_none_or(|known| held.version() > *known)
                && peer.members.get(node) != Some(&MemberVersion::Removed)
        };
        RingPart {
            cluster: self.cluster,
            partitions: self.partitions(),
            epoch: self.epoch,
            members: self.members.newer_than(&peer.members),
            layout: (self.layout.id() > peer.layout).then(|| self.layout.clone()),
            held: self
                .held
                .iter()
                .filter(|(node, held)| is_news(node, held))
                .map(|(node, held)| (*node, held.clone()))
                .collect(),
        }
    }

    /// Takes what is newer in the part.
    ///
    /// # Errors
    /// [`RingError::OtherCluster`]; this ring is unchanged then.
    pub fn merge(&mut self, part: &RingPart) -> Result<Merged, RingError> {
        if part.cluster != self.cluster || part.partitions != self.partitions() {
            return Err(RingError::OtherCluster {
                own: self.cluster,
                other: part.cluster,
            });
        }
        let mut changed = self.members.merge(&part.members);
        for (node, held) in &part.held {
            changed |= match self.held.get_mut(node) {
                Some(own) => own.merge(held),
                None if self.members.get(*node).is_none() => false,
                None => {
                    self.held.insert(*node, held.clone());
                    true
                }
            };
        }
        let members = &self.members;
        self.held.retain(|node, _| members.get(*node).is_some());
        let mut lost = None;
        if let Some(layout) = part.layout.as_ref().filter(|layout| **layout > self.layout) {
            lost = self.adopt(layout);
            changed = true;
        }
        self.epoch = if changed {
            part.epoch.max(self.epoch + 1)
        } else {
            part.epoch.max(self.epoch)
        };
        Ok(Merged { changed, lost })
    }

    /// Takes a greater layout; says so if the own one was not before it but beside it.
    fn adopt(&mut self, layout: &Layout) -> Option<LostLayout> {
        let own = self.layout.id();
        let staged_before = self.staged();
        self.layout = layout.clone();
        let mut returned = self.staged();
        returned.retain(|staged| !staged_before.contains(staged));
        // From a base of a later version it may well descend from ours through layouts that were never seen here; then
        // whether anything came back tells. From one of our version or before it cannot, unless it is ours.
        let is_beside = layout.base() != own && layout.base().version <= own.version;
        (is_beside || !returned.is_empty()).then_some(LostLayout {
            lost: own,
            winner: layout.id(),
            returned,
        })
    }
}

/// A `RingPart`, format 1.
const PART: u32 = 0x7047_0001;
/// A `RingDigest`, format 1.
const DIGEST: u32 = 0x6447_0001;

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
