//! The bytes of an object: what lies in the log, goes to replicas, and is read in place.
//!
//! Owns the layout and the writing of it; `view` reads it. Little-endian, no alignment, no padding, no checksum: the
//! record and the frame around it have one.
//!
//! An object that one `latest` put wrote (the commonest by far) needs neither birth nor context, since both follow
//! from its time: the birth is the time itself, and the context is everything before it:
//! ```text
//! offset  bytes
//!      0      1  flags: 0x10 | TOMBSTONE | EXPIRY | WRITE_ID
//!      1      8  node
//!      9      8  hlc
//!     17    (8)  expiry, Unix ms              only with EXPIRY
//!          (16)  write id: client, sequence   only with WRITE_ID
//!           ...  value, to the end            empty with TOMBSTONE
//! ```
//! Any other object:
//! ```text
//! offset  bytes
//!      0      1  flags: 0x10 | GENERAL
//!      1      4  vector entries, V
//!      5      4  exceptions, E
//!      9      8  floor
//!     17   24 V  vector: node, birth, hlc; sorted, one an actor
//!          24 E  exceptions: node, birth, hlc; sorted
//!           ...  siblings to the end, sorted by dot, each:
//!                     1  flags: TOMBSTONE | EXPIRY | WRITE_ID
//!                    24  node, birth, hlc
//!                   (4)  value bytes, L               not with TOMBSTONE
//!                   (8)  expiry, Unix ms              only with EXPIRY
//!                  (16)  write id: client, sequence   only with WRITE_ID
//!                     L  value
//! ```
//! Invariants:
//! - one object, one encoding: what fits the short form is never written in the long one, contexts are in normal form;
//! - every bit that is not named is zero.

use core::fmt;

use super::dot::{Actor, Dot, WriteId};
use super::view::{Content, SiblingView};
use crate::base::ids::NodeId;
use crate::base::time::Hlc;

/// The high four bits of the first byte.
pub(crate) const VERSION: u8 = 0x10;
pub(crate) const VERSION_MASK: u8 = 0xf0;
pub(crate) const GENERAL: u8 = 0x01;
pub(crate) const TOMBSTONE: u8 = 0x02;
pub(crate) const EXPIRY: u8 = 0x04;
pub(crate) const WRITE_ID: u8 = 0x08;
pub(crate) const SIBLING_FLAGS: u8 = TOMBSTONE | EXPIRY | WRITE_ID;

/// Bytes of a dot, and of a vector entry.
pub(crate) const DOT_BYTES: usize = 24;
pub(crate) const FLAGS_BYTES: usize = 1;
pub(crate) const EXPIRY_BYTES: usize = 8;
pub(crate) const WRITE_ID_BYTES: usize = 16;
pub(crate) const VALUE_LENGTH_BYTES: usize = 4;

/// The short form up to its optional fields.
pub(crate) const LATEST_HEADER_BYTES: usize = FLAGS_BYTES + 8 + 8;
/// The long form up to its vector.
pub(crate) const GENERAL_HEADER_BYTES: usize = FLAGS_BYTES + 4 + 4 + 8;

/// Bytes that are no object. State: nothing was read from them. Operator: repair brings the object from a replica;
/// bytes that passed their checksum and still are none point to a defect or a newer version of gramme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectError {
    /// They end before what their header announces, `at` bytes in.
    Truncated {
        /// Where something was missing.
        at: usize,
    },
    /// Their first byte names a format that this version does not know.
    Version {
        /// That byte.
        found: u8,
    },
    /// They break a rule of the one encoding that each object has.
    NotCanonical {
        /// Which rule.
        rule: &'static str,
    },
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at } => write!(
                f,
                "object is cut off after {at} bytes; fetch it from another replica"
            ),
            Self::Version { found } => {
                write!(
                    f,
                    "object has format {found:#04x}, which this version of gramme does not know; is it older than its data?"
                )
            }
            Self::NotCanonical { rule } => write!(
                f,
                "object is malformed ({rule}); fetch it from another replica"
            ),
        }
    }
}

impl core::error::Error for ObjectError {}

/// The exact length of what [`write_latest`] appends.
pub fn latest_encoded_len(
    write_id: Option<WriteId>,
    content: Content<'_>,
    expires_at_ms: Option<u64>,
) -> usize {
    LATEST_HEADER_BYTES
        + options_len(write_id, expires_at_ms)
        + content.value().map_or(0, <[u8]>::len)
}

/// Appends the object of a `latest` put: one sibling that covers everything before it. Allocates nothing but what
/// `out` may need to grow.
///
/// # Panics
/// When the dot is not a newborn one ([`Dot::newborn`]) with a time after zero.
pub fn write_latest(
    out: &mut Vec<u8>,
    dot: Dot,
    write_id: Option<WriteId>,
    content: Content<'_>,
    expires_at_ms: Option<u64>,
) {
    assert!(
        dot.actor.birth == dot.hlc,
        "a latest put begins a new history, but {dot:?} goes on with one"
    );
    assert!(dot.hlc > Hlc(0), "a write has a time after zero");
    out.push(VERSION | sibling_flags(write_id, content, expires_at_ms));
    out.extend_from_slice(&dot.actor.node.0.to_le_bytes());
    out.extend_from_slice(&dot.hlc.0.to_le_bytes());
    write_options(out, write_id, expires_at_ms);
    out.extend_from_slice(content.value().unwrap_or_default());
}

/// The length of a sibling in the long form.
pub(crate) fn sibling_len(sibling: SiblingView<'_>) -> usize {
    FLAGS_BYTES
        + DOT_BYTES
        + options_len(sibling.write_id, sibling.expires_at_ms)
        + sibling
            .content
            .value()
            .map_or(0, |value| VALUE_LENGTH_BYTES + value.len())
}

/// Appends a sibling in the long form.
pub(crate) fn write_sibling(out: &mut Vec<u8>, sibling: SiblingView<'_>) {
    out.push(sibling_flags(
        sibling.write_id,
        sibling.content,
        sibling.expires_at_ms,
    ));
    out.extend_from_slice(&dot_to_bytes(sibling.dot));
    if let Some(value) = sibling.content.value() {
        let value_bytes =
            u32::try_from(value.len()).expect("a value has at most VALUE_BYTES_MAX bytes");
        out.extend_from_slice(&value_bytes.to_le_bytes());
    }
    write_options(out, sibling.write_id, sibling.expires_at_ms);
    out.extend_from_slice(sibling.content.value().unwrap_or_default());
}

/// Appends the header of the long form with its context.
pub(crate) fn write_general_header(
    out: &mut Vec<u8>,
    floor: Hlc,
    vector: &[Dot],
    exceptions: &[Dot],
) {
    out.push(VERSION | GENERAL);
    for count in [vector.len(), exceptions.len()] {
        let count = u32::try_from(count).expect("a context has fewer than 2^32 entries");
        out.extend_from_slice(&count.to_le_bytes());
    }
    out.extend_from_slice(&floor.0.to_le_bytes());
    for dot in vector.iter().chain(exceptions) {
        out.extend_from_slice(&dot_to_bytes(*dot));
    }
}

/// A dot's 24 bytes: node, birth, hlc.
pub(crate) fn dot_to_bytes(dot: Dot) -> [u8; DOT_BYTES] {
    let mut bytes = [0; DOT_BYTES];
    for (field, value) in
        bytes
            .chunks_exact_mut(8)
            .zip([dot.actor.node.0, dot.actor.birth.0, dot.hlc.0])
    {
        field.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn sibling_flags(
    write_id: Option<WriteId>,
    content: Content<'_>,
    expires_at_ms: Option<u64>,
) -> u8 {
    let mut flags = 0;
    if content.value().is_none() {
        flags |= TOMBSTONE;
    }
    if expires_at_ms.is_some() {
        flags |= EXPIRY;
    }
    if write_id.is_some() {
        flags |= WRITE_ID;
    }
    flags
}

fn options_len(write_id: Option<WriteId>, expires_at_ms: Option<u64>) -> usize {
    expires_at_ms.map_or(0, |_| EXPIRY_BYTES) + write_id.map_or(0, |_| WRITE_ID_BYTES)
}

fn write_options(out: &mut Vec<u8>, write_id: Option<WriteId>, expires_at_ms: Option<u64>) {
    if let Some(expires_at_ms) = expires_at_ms {
        out.extend_from_slice(&expires_at_ms.to_le_bytes());
    }
    if let Some(write_id) = write_id {
        out.extend_from_slice(&write_id.client.to_le_bytes());
        out.extend_from_slice(&write_id.sequence.to_le_bytes());
    }
}

/// Bytes being read from the front; every step may find them too short.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
        }
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], ObjectError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.truncated())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ObjectError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ObjectError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ObjectError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn dot(&mut self) -> Result<Dot, ObjectError> {
        let (node, birth, hlc) = (self.u64()?, self.u64()?, self.u64()?);
        Ok(Dot {
            actor: Actor {
                node: NodeId(node),
                birth: Hlc(birth),
            },
            hlc: Hlc(hlc),
        })
    }

    /// A table of dots whose count stands elsewhere.
    pub(crate) fn dots(&mut self, count: u32) -> Result<RawDots<'a>, ObjectError> {
        let table_bytes = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(DOT_BYTES));
        Ok(RawDots(self.bytes(table_bytes.ok_or(self.truncated())?)?))
    }

    pub(crate) fn options(
        &mut self,
        flags: u8,
    ) -> Result<(Option<u64>, Option<WriteId>), ObjectError> {
        let expires_at_ms = if flags & EXPIRY != 0 {
            Some(self.u64()?)
        } else {
            None
        };
        let write_id = if flags & WRITE_ID != 0 {
            Some(WriteId {
                client: self.u64()?,
                sequence: self.u64()?,
            })
        } else {
            None
        };
        Ok((expires_at_ms, write_id))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ObjectError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.truncated())?;
        self.rest = rest;
        Ok(*taken)
    }

    const fn truncated(&self) -> ObjectError {
        ObjectError::Truncated {
            at: self.length - self.rest.len(),
        }
    }
}

/// A sorted table of dots as it lies in the bytes of an object.
#[derive(Clone, Copy)]
pub(crate) struct RawDots<'a>(&'a [u8]);

impl<'a> RawDots<'a> {
    pub(crate) const fn len(self) -> usize {
        self.0.len() / DOT_BYTES
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Dot> + 'a {
        self.0
            .chunks_exact(DOT_BYTES)
            .filter_map(|bytes| Cursor::new(bytes).dot().ok())
    }

    pub(crate) fn get(self, index: usize) -> Option<Dot> {
        let start = index.checked_mul(DOT_BYTES)?;
        Cursor::new(self.0.get(start..)?).dot().ok()
    }

    pub(crate) fn contains(self, dot: Dot) -> bool {
        self.last_at_or_before(dot) == Some(dot)
    }

    /// The vector entry of an actor.
    pub(crate) fn entry(self, actor: Actor) -> Option<Hlc> {
        let last = self.last_at_or_before(Dot {
            actor,
            hlc: Hlc(u64::MAX),
        })?;
        (last.actor == actor).then_some(last.hlc)
    }

    fn last_at_or_before(self, dot: Dot) -> Option<Dot> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)? <= dot {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.get(low.checked_sub(1)?)
    }

    /// Whether this vector with this floor and these exceptions is a context's normal form.
    pub(crate) fn check_normal(
        self,
        floor: Hlc,
        exceptions: RawDots<'_>,
    ) -> Result<(), ObjectError> {
        let broken = |rule| Err(ObjectError::NotCanonical { rule });
        let mut last_actor = None;
        for entry in self.iter() {
            if last_actor.is_some_and(|last| last >= entry.actor) {
                return broken("vector is not sorted by actor");
            }
            if entry.hlc <= floor || !entry.is_possible() {
                return broken("vector entry at or before the floor or its birth");
            }
            if exceptions.contains(entry) {
                return broken("vector entry is itself an exception");
            }
            last_actor = Some(entry.actor);
        }
        let mut last = None;
        for exception in exceptions.iter() {
            if last.is_some_and(|last| last >= exception) {
                return broken("exceptions are not sorted");
            }
            if exception.hlc <= floor || !exception.is_possible() {
                return broken("exception at or before the floor or its birth");
            }
            if self
                .entry(exception.actor)
                .is_none_or(|entry| exception.hlc >= entry)
            {
                return broken("exception is not under the vector");
            }
            last = Some(exception);
        }
        Ok(())
    }
}
