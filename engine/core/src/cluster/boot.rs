//! A node's start: what its cluster part is told, and what it kept of the last run.

use crate::base::ids::NodeId;
use crate::base::limits::MEMBER_TEXT_BYTES_MAX;
use crate::ring::bytes::{Reader, RingBytesError, Writer};
use crate::ring::{BucketView, Facts, Ring, Slices};

use super::buckets::Buckets;

/// A node's start, as its cluster part needs to know it.
#[derive(Clone, Debug)]
pub struct Boot {
    /// This node.
    pub me: NodeId,
    /// What people call it.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// `HOST:PORT` of the native port, as others reach it.
    pub listen: String,
    /// `HOST:PORT` of the RESP port.
    pub resp: String,
    /// `HOST:PORT` of the admin port.
    pub admin: String,
    /// The data directory's cut of the token space; a cluster with another number of partitions is refused.
    pub slices: Slices,
    /// Its share of the data, relative to the others'.
    pub weight: u32,
    /// How often this data directory was started, this start included: persisted before it is told to anyone.
    pub start_count: u64,
    /// What `Effects::state` asked to keep, the newest; `None` in a new directory.
    pub state: Option<Vec<u8>>,
    /// `HOST:PORT` of nodes of the cluster to join. None, and no state: a cluster of one begins.
    pub seeds: Vec<String>,
    /// The buckets of the configuration; what `gramme cluster buckets` has set goes before.
    pub buckets: Vec<BucketView>,
    /// How far ahead of this node's wall clock another's may be.
    pub clock_drift_ms_max: u64,
    /// Any 64 bits, new with each start: the core has no randomness of its own.
    pub random_seed: u64,
}

impl Boot {
    pub(super) fn facts(&self) -> Facts {
        let text = |text: &str| text[..text.floor_char_boundary(MEMBER_TEXT_BYTES_MAX)].to_owned();
        Facts {
            listen: text(&self.listen),
            resp: text(&self.resp),
            admin: text(&self.admin),
            zone: text(&self.zone),
            name: text(&self.name),
            weight: self.weight,
            shards: self.slices.shards(),
        }
    }
}

/// A node does not start as what its directory says. State: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BootError {
    /// What was kept of the cluster does not verify. Operator: restore the file, or start with an empty directory and
    /// `--join`; the data of a directory without its place in the cluster is not evidence.
    State(RingBytesError),
    /// The kept ring is another node's, or has another number of partitions. Operator: files of two directories were
    /// mixed; restore the right one.
    OtherDirectory,
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::State(error) => write!(
                f,
                "what the directory keeps of its cluster does not verify ({error}); restore it, or start with an empty \
                 directory and --join"
            ),
            Self::OtherDirectory => write!(
                f,
                "what the directory keeps of its cluster is of another directory; restore the right one"
            ),
        }
    }
}

impl core::error::Error for BootError {}

/// Whether a node with this kept state knows of other members, so that its data alone is not the whole truth.
///
/// # Errors
/// [`BootError::State`]; it is not what was kept.
pub fn has_company(state: &[u8]) -> Result<bool, BootError> {
    let kept = Kept::from_bytes(state).map_err(BootError::State)?;
    let members = kept.ring.iter().flat_map(|ring| ring.members().iter());
    Ok(members.count() > 1)
}

/// What is kept from run to run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) me: NodeId,
    /// The greatest that was told to anyone.
    pub(super) start_count: u64,
    /// None while the node has not been let into a cluster.
    pub(super) ring: Option<Ring>,
    pub(super) buckets: Buckets,
}

/// `Kept`, format 1.
const KIND: u32 = 0x6b47_0001;

impl Kept {
    pub(super) fn to_bytes(
        me: NodeId,
        start_count: u64,
        ring: Option<&Ring>,
        buckets: &Buckets,
    ) -> Vec<u8> {
        let mut out = Writer::of_kind(KIND);
        out.u64(me.0);
        out.u64(start_count);
        out.u8(u8::from(ring.is_some()));
        if let Some(ring) = ring {
            out.bytes(&ring.to_bytes());
        }
        buckets.encode(&mut out);
        out.seal()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, RingBytesError> {
        let mut from = Reader::open(bytes, KIND)?;
        Ok(Self {
            me: NodeId(from.u64()?),
            start_count: from.u64()?,
            ring: match from.u8()? {
                0 => None,
                _ => Some(Ring::from_bytes(from.bytes()?)?),
            },
            buckets: Buckets::decode(&mut from)?,
        })
    }
}
