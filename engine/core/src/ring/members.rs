//! Members: who belongs to the cluster, as a CRDT.
//!
//! Owns one entry for each node id. It has two halves, because two parties write it: the *facts* (addresses, zone,
//! weight, shards), written by the node itself, and the *wish* (join, leave, replace), written by an operator at any
//! node. Each half has a stamp of its own and a merge takes the newer of each; with one stamp for both, a restart on one
//! side of a split would undo what an operator staged on the other. Never says who owns what: that is the layout.
//!
//! Invariants:
//! - merge is commutative, associative and idempotent;
//! - a removed id stays removed, whatever arrives later, and has no other content;
//! - a start count never falls;
//! - what a later version adds to an entry, and a wish that this one does not know, are handed on as they came. Until this
//!   node is brought up to date such a wish is none to it.
//!
//! A wish is never taken back by being fulfilled: `Join` of a node that is in the layout is simply done. So when a
//! layout loses against a concurrent one, what it had fulfilled is staged again without anyone writing anything.

use std::collections::BTreeMap;

use super::bytes::{Reader, RingBytesError, Writer};
use crate::base::ids::NodeId;
use crate::base::limits::{MEMBER_TEXT_BYTES_MAX, MEMBERS_MAX};
use crate::base::time::Hlc;

/// When and where a half of an entry, or a layout, was written. The greater is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp {
    /// The writer's hybrid time.
    pub hlc: Hlc,
    /// The writer.
    pub node: NodeId,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Facts {
    /// `HOST:PORT` of the native port; shard *s* also listens on that port + 1 + *s*.
    pub listen: String,
    /// `HOST:PORT` of the RESP port.
    pub resp: String,
    /// `HOST:PORT` of the admin port.
    pub admin: String,
    /// The failure domain.
    pub zone: String,
    /// What people call it.
    pub name: String,
    /// Its share of the data, relative to the others'. Zero: it owns nothing.
    pub weight: u32,
    /// Its number of shards.
    pub shards: u16,
}

/// What an operator wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is to own a share.
    Join,
    /// It is to own nothing.
    Leave,
    /// It is to take the places of another node, which has [`Change::Leave`].
    Replace {
        /// That other node.
        old: NodeId,
    },
}

/// The entry of a node that was not removed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    facts: Facts,
    /// What a later version says of itself beyond them.
    facts_rest: Box<[u8]>,
    facts_stamp: Stamp,
    start_count: u64,
    wish: Wish,
    wish_stamp: Stamp,
}

/// A wish as it is written: also one that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Wish {
    word: u8,
    node: NodeId,
}

impl From<Option<Change>> for Wish {
    fn from(change: Option<Change>) -> Self {
        let (word, node) = match change {
            None => (WISH_NONE, NodeId(0)),
            Some(Change::Join) => (WISH_JOIN, NodeId(0)),
            Some(Change::Leave) => (WISH_LEAVE, NodeId(0)),
            Some(Change::Replace { old }) => (WISH_REPLACE, old),
        };
        Self { word, node }
    }
}

impl Wish {
    fn change(self) -> Option<Change> {
        match self.word {
            WISH_JOIN => Some(Change::Join),
            WISH_LEAVE => Some(Change::Leave),
            WISH_REPLACE => Some(Change::Replace { old: self.node }),
            _ => None,
        }
    }
}

impl Member {
    /// What it says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How often it has started, the most that anyone saw.
    pub fn start_count(&self) -> u64 {
        self.start_count
    }

    /// What an operator wants of it, fulfilled or not.
    pub fn wish(&self) -> Option<Change> {
        self.wish.change()
    }

    fn version(&self) -> MemberVersion {
        MemberVersion::Present {
            facts: self.facts_stamp,
            wish: self.wish_stamp,
            start_count: self.start_count,
        }
    }

    fn merge(&mut self, other: &Self) -> bool {
        let mut changed = false;
        // The content decides between equal stamps only, so that even then both sides agree.
        let theirs = (other.facts_stamp, &other.facts, &other.facts_rest);
        if theirs > (self.facts_stamp, &self.facts, &self.facts_rest) {
            self.facts_stamp = other.facts_stamp;
            self.facts.clone_from(&other.facts);
            self.facts_rest.clone_from(&other.facts_rest);
            changed = true;
        }
        if (other.wish_stamp, other.wish) > (self.wish_stamp, self.wish) {
            self.wish_stamp = other.wish_stamp;
            self.wish = other.wish;
            changed = true;
        }
        if other.start_count > self.start_count {
            self.start_count = other.start_count;
            changed = true;
        }
        changed
    }
}

/// How new an entry is; what a digest says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberVersion {
    /// Its halves' stamps and its start count.
    Present {
        /// Of the facts.
        facts: Stamp,
        /// Of the wish.
        wish: Stamp,
        /// The greatest known.
        start_count: u64,
    },
    /// Removed: newer than anything.
    Removed,
}

impl MemberVersion {
    /// Whether this has something that `other` lacks.
    pub fn adds_to(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Removed) => false,
            (Self::Removed, Self::Present { .. }) => true,
            (
                Self::Present {
                    facts,
                    wish,
                    start_count,
                },
                Self::Present {
                    facts: other_facts,
                    wish: other_wish,
                    start_count: other_count,
                },
            ) => facts > other_facts || wish > other_wish || start_count > other_count,
        }
    }
}

/// An entry: a node, or the mark that its id is gone for good.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Present(Member),
    Removed,
}

/// A change of the members was refused. State: unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberError {
    /// No node has this id. Operator: name a node that `gramme cluster status` shows.
    Unknown(NodeId),
    /// The id was removed for good. Operator: start that node with an empty data directory; it gets a new id.
    Removed(NodeId),
    /// There are as many ids as a cluster may ever have.
    TooMany,
}

/// Every node that the cluster knows, and every id that it removed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Members {
    entries: BTreeMap<NodeId, Entry>,
}

impl Members {
    /// The nodes that were not removed, by id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.entries.iter().filter_map(|(node, entry)| match entry {
            Entry::Present(member) => Some((*node, member)),
            Entry::Removed => None,
        })
    }

    /// The ids that were removed.
    pub fn removed(&self) -> impl Iterator<Item = NodeId> {
        self.entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Removed))
            .map(|(node, _)| *node)
    }

    /// The entry of a node that was not removed.
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        match self.entries.get(&node)? {
            Entry::Present(member) => Some(member),
            Entry::Removed => None,
        }
    }

    /// Whether this id is gone for good.
    pub fn is_removed(&self, node: NodeId) -> bool {
        matches!(self.entries.get(&node), Some(Entry::Removed))
    }

    /// Entries, removed ids among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A node says what it is; unknown until now or not. Returns whether anything changed.
    ///
    /// # Errors
    /// [`MemberError::Removed`], [`MemberError::TooMany`].
    pub fn announce(
        &mut self,
        node: NodeId,
        facts: Facts,
        start_count: u64,
        stamp: Stamp,
    ) -> Result<bool, MemberError> {
        let room = self.entries.len() < MEMBERS_MAX || self.entries.contains_key(&node);
        if !room {
            return Err(MemberError::TooMany);
        }
        let entry = self
            .entries
            .entry(node)
            .or_insert_with(|| Entry::Present(Member::default()));
        let Entry::Present(member) = entry else {
            return Err(MemberError::Removed(node));
        };
        let mut changed = start_count > member.start_count;
        member.start_count = member.start_count.max(start_count);
        // A rest is what it said when it was of a later version than now.
        let is_same = member.facts == facts && member.facts_rest.is_empty();
        if !is_same || member.facts_stamp == Stamp::default() {
            member.facts = facts;
            member.facts_rest = Box::default();
            member.facts_stamp = later(stamp, member.facts_stamp);
            changed = true;
        }
        Ok(changed)
    }

    /// An operator wants something of a node, or nothing any more. Returns whether that is new.
    ///
    /// # Errors
    /// [`MemberError::Unknown`], [`MemberError::Removed`].
    pub fn wish(
        &mut self,
        node: NodeId,
        wish: Option<Change>,
        stamp: Stamp,
    ) -> Result<bool, MemberError> {
        match self.entries.get_mut(&node) {
            None => Err(MemberError::Unknown(node)),
            Some(Entry::Removed) => Err(MemberError::Removed(node)),
            Some(Entry::Present(member)) if member.wish == wish.into() => Ok(false),
            Some(Entry::Present(member)) => {
                member.wish = wish.into();
                member.wish_stamp = later(stamp, member.wish_stamp);
                Ok(true)
            }
        }
    }

    /// The id is gone for good. Returns whether that is new.
    pub fn remove(&mut self, node: NodeId) -> bool {
        self.entries.insert(node, Entry::Removed) != Some(Entry::Removed)
    }

    /// Takes the newer of each entry's halves. Returns whether anything changed. Ids beyond [`MEMBERS_MAX`] are left out.
    pub fn merge(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (node, entry) in &other.entries {
            let is_full = self.entries.len() >= MEMBERS_MAX;
            match (self.entries.get_mut(node), entry) {
                (None, _) if is_full => {}
                (None, entry) => {
                    self.entries.insert(*node, entry.clone());
                    changed = true;
                }
                (Some(Entry::Removed), _) => {}
                (Some(own), Entry::Removed) => {
                    *own = Entry::Removed;
                    changed = true;
                }
                (Some(Entry::Present(own)), Entry::Present(member)) => {
                    changed |= own.merge(member);
                }
            }
        }
        changed
    }

    /// How new each entry is.
    pub fn versions(&self) -> impl Iterator<Item = (NodeId, MemberVersion)> {
        self.entries.iter().map(|(node, entry)| match entry {
            Entry::Present(member) => (*node, member.version()),
            Entry::Removed => (*node, MemberVersion::Removed),
        })
    }

    /// The entries that are newer here than a peer's `versions` say, or unknown to it.
    pub fn newer_than(&self, versions: &BTreeMap<NodeId, MemberVersion>) -> Self {
        let is_news = |node: &NodeId, version: &MemberVersion| {
            versions
                .get(node)
                .is_none_or(|known| version.adds_to(known))
        };
        let entries = self
            .versions()
            .filter(|(node, version)| is_news(node, version))
            .filter_map(|(node, _)| Some((node, self.entries.get(&node)?.clone())))
            .collect();
        Self { entries }
    }

    /// A hash of the whole content: equal content, equal digest.
    pub fn digest(&self) -> u64 {
        let mut out = Writer::default();
        self.encode(&mut out);
        xxhash_rust::xxh3::xxh3_64(&out.finish())
    }

    /// The members alone as bytes, with a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::of_kind(KIND);
        self.encode(&mut out);
        out.seal()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`RingBytesError`], for any bytes that are not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RingBytesError> {
        Self::decode(&mut Reader::open(bytes, KIND)?)
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.count(self.entries.len());
        for (node, entry) in &self.entries {
            out.record(|record| encode_entry(record, *node, entry));
        }
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, RingBytesError> {
        let count = from.count("members", MEMBERS_MAX, 4 + 8 + 1)?;
        let mut members = Self::default();
        for _ in 0..count {
            let (node, entry) = decode_entry(&mut from.record()?)?;
            members.entries.insert(node, entry);
        }
        Ok(members)
    }
}

/// `Members` by themselves, format 1.
const KIND: u32 = 0x6d47_0001;

/// What a later version may add to an entry.
const FACTS_REST_BYTES_MAX: usize = 1_024;

const ENTRY_PRESENT: u8 = 0;
const ENTRY_REMOVED: u8 = 1;
const WISH_NONE: u8 = 0;
const WISH_JOIN: u8 = 1;
const WISH_LEAVE: u8 = 2;
const WISH_REPLACE: u8 = 3;

/// `stamp`, or just after `last` where the writer's clock is behind it: a local change always counts.
fn later(stamp: Stamp, last: Stamp) -> Stamp {
    if stamp > last {
        return stamp;
    }
    Stamp {
        hlc: last.hlc.after(),
        node: stamp.node,
    }
}

pub(super) fn encode_stamp(out: &mut Writer, stamp: Stamp) {
    out.u64(stamp.hlc.0);
    out.u64(stamp.node.0);
}

pub(super) fn decode_stamp(from: &mut Reader<'_>) -> Result<Stamp, RingBytesError> {
    Ok(Stamp {
        hlc: Hlc(from.u64()?),
        node: NodeId(from.u64()?),
    })
}

fn encode_entry(out: &mut Writer, node: NodeId, entry: &Entry) {
    out.u64(node.0);
    let Entry::Present(member) = entry else {
        out.u8(ENTRY_REMOVED);
        return;
    };
    out.u8(ENTRY_PRESENT);
    out.u64(member.start_count);
    encode_stamp(out, member.wish_stamp);
    out.u8(member.wish.word);
    out.u64(member.wish.node.0);
    encode_stamp(out, member.facts_stamp);
    out.u32(member.facts.weight);
    out.u16(member.facts.shards);
    for text in [
        &member.facts.listen,
        &member.facts.resp,
        &member.facts.admin,
        &member.facts.zone,
        &member.facts.name,
    ] {
        out.string(&text[..text.floor_char_boundary(MEMBER_TEXT_BYTES_MAX)]);
    }
    out.raw(&member.facts_rest);
}

fn decode_entry(from: &mut Reader<'_>) -> Result<(NodeId, Entry), RingBytesError> {
    let node = NodeId(from.u64()?);
    match from.u8()? {
        ENTRY_REMOVED => return Ok((node, Entry::Removed)),
        ENTRY_PRESENT => {}
        _ => return Err(RingBytesError::Field { name: "entry" }),
    }
    let start_count = from.u64()?;
    let wish_stamp = decode_stamp(from)?;
    let wish = Wish {
        word: from.u8()?,
        node: NodeId(from.u64()?),
    };
    let facts_stamp = decode_stamp(from)?;
    let (weight, shards) = (from.u32()?, from.u16()?);
    let mut text = |name| from.string(name, MEMBER_TEXT_BYTES_MAX);
    let facts = Facts {
        listen: text("listen")?,
        resp: text("resp")?,
        admin: text("admin")?,
        zone: text("zone")?,
        name: text("name")?,
        weight,
        shards,
    };
    if from.rest() > FACTS_REST_BYTES_MAX {
        return Err(RingBytesError::TooMany { name: "facts" });
    }
    let member = Member {
        facts,
        facts_rest: from.all().into(),
        facts_stamp,
        start_count,
        wish,
        wish_stamp,
    };
    Ok((node, Entry::Present(member)))
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
