//! A context as a client holds it: opaque bytes.
//!
//! Owns what a reader gets beside the values, and its encoding. Never trusts the bytes that come back.
//!
//! ```text
//! offset  bytes
//!      0      1  version, 1
//!      1      1  vector entries, V <= 64
//!      2      1  exceptions, E
//!      3      8  floor
//!     11      8  greatest time that the client has met
//!     19      8  fingerprint that it read, 0: none
//!     27   24 V  vector: node, birth, hlc; sorted, one an actor
//!           9 E  exceptions: index of the actor in the vector, hlc; sorted
//!             4  crc32c of everything before
//! ```
//! Invariants:
//! - at most `CONTEXT_BYTES_MAX` bytes: the oldest vector entries go first, each with its exceptions, and never an
//!   exception alone, so what is left covers less, never more;
//! - what lost an entry names no fingerprint: its put reads, and the object keeps what the client's bytes forgot.

use core::fmt;

use super::context::Context;
use super::dot::Dot;
use super::fingerprint::Fingerprint;
use super::format::{Cursor, DOT_BYTES, ObjectError, dot_to_bytes};
use crate::base::limits::{CONTEXT_BYTES_MAX, CONTEXT_ENTRIES_MAX};
use crate::base::time::Hlc;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 3 + 8 + 8 + 8;
const EXCEPTION_BYTES: usize = 1 + 8;
const CHECKSUM_BYTES: usize = 4;
const EXCEPTIONS_MAX: usize = 255;

const _: () =
    assert!(HEADER_BYTES + CONTEXT_ENTRIES_MAX * DOT_BYTES + CHECKSUM_BYTES <= CONTEXT_BYTES_MAX);
const _: () = assert!(
    CONTEXT_ENTRIES_MAX <= 255,
    "the count and the index of an entry are one byte each"
);

/// What a client has seen of a key, to be handed back with its next put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientContext {
    /// The writes that it has seen.
    pub context: Context,
    /// The fingerprint of the object that it read, where its context covers that whole object.
    pub seen: Option<Fingerprint>,
    /// The greatest time that it has met, which the coordinator's clock absorbs.
    pub greatest: Hlc,
}

/// Bytes that are no context. State: nothing was read from them. What to do: the client reads the key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextError {
    /// Their length is not the one that their counts announce, or is over the limit.
    Length {
        /// How many there are.
        found: usize,
    },
    /// Their first byte names a format that this version does not know.
    Version {
        /// That byte.
        found: u8,
    },
    /// Their checksum is wrong.
    Checksum {
        /// What the bytes have.
        expected: u32,
        /// What they say.
        found: u32,
    },
    /// They break a rule of the one encoding that each context has.
    NotCanonical {
        /// Which rule.
        rule: &'static str,
    },
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a context: ")?;
        match self {
            Self::Length { found } => write!(f, "{found} bytes are not the length it announces")?,
            Self::Version { found } => write!(f, "format {found} is not known here")?,
            Self::Checksum { expected, found } => {
                write!(f, "checksum is {found:08x}, not {expected:08x}")?
            }
            Self::NotCanonical { rule } => write!(f, "{rule}")?,
        }
        write!(
            f,
            "; pass the bytes of a get unchanged, or read the key again"
        )
    }
}

impl core::error::Error for ContextError {}

impl From<ObjectError> for ContextError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NotCanonical { rule } => Self::NotCanonical { rule },
            ObjectError::Truncated { at } => Self::Length { found: at },
            ObjectError::Version { found } => Self::Version { found },
        }
    }
}

impl ClientContext {
    /// Of what was seen; its greatest time is that of the context.
    pub fn new(context: Context, seen: Option<Fingerprint>) -> Self {
        Self {
            greatest: context.max_hlc(),
            context,
            seen,
        }
    }

    /// Appends its bytes; returns how many vector entries were dropped to fit.
    pub fn encode_opaque(&self, out: &mut Vec<u8>) -> usize {
        let fitting = fitting(&self.context);
        let context = fitting.as_ref().unwrap_or(&self.context);
        let dropped = self.context.vector().len() - context.vector().len();
        let seen = if fitting.is_none() { self.seen } else { None };
        let greatest = self.greatest.max(self.context.max_hlc());
        write(
            out,
            context.floor(),
            greatest,
            seen,
            context.vector(),
            context.exceptions(),
        );
        dropped
    }

    /// Reads bytes from anywhere.
    ///
    /// # Errors
    /// [`ContextError`] says what is wrong with them.
    pub fn decode_opaque(bytes: &[u8]) -> Result<Self, ContextError> {
        let length = ContextError::Length { found: bytes.len() };
        if bytes.len() > CONTEXT_BYTES_MAX {
            return Err(length);
        }
        let version = *bytes.first().ok_or(length)?;
        if version != VERSION {
            return Err(ContextError::Version { found: version });
        }
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(length)?;
        let (expected, found) = (crc32c::crc32c(body), u32::from_le_bytes(*checksum));
        if expected != found {
            return Err(ContextError::Checksum { expected, found });
        }
        let mut cursor = Cursor::new(body);
        let _version = cursor.u8()?;
        let (vector_count, exceptions_count) = (cursor.u8()?, cursor.u8()?);
        let floor = Hlc(cursor.u64()?);
        let greatest = Hlc(cursor.u64()?);
        let seen = Fingerprint::from_bits(cursor.u64()?);
        if usize::from(vector_count) > CONTEXT_ENTRIES_MAX {
            return Err(ContextError::NotCanonical {
                rule: "more vector entries than any context has",
            });
        }
        let vector = cursor.dots(u32::from(vector_count))?;
        let mut exceptions = Vec::with_capacity(usize::from(exceptions_count) * DOT_BYTES);
        for _ in 0..exceptions_count {
            let entry = vector.get(usize::from(cursor.u8()?));
            let actor = entry
                .ok_or(ContextError::NotCanonical {
                    rule: "an exception of no actor",
                })?
                .actor;
            let hlc = Hlc(cursor.u64()?);
            exceptions.extend_from_slice(&dot_to_bytes(Dot { actor, hlc }));
        }
        if !cursor.is_at_end() {
            return Err(length);
        }
        let exceptions = Cursor::new(&exceptions).dots(u32::from(exceptions_count))?;
        let context = Context::from_raw(floor, vector, exceptions)?;
        if greatest < context.max_hlc() {
            return Err(ContextError::NotCanonical {
                rule: "its greatest time is not the greatest",
            });
        }
        Ok(Self {
            context,
            seen,
            greatest,
        })
    }
}

/// Appends what a reader gets of an object that one `latest` put wrote, and what that put returns: the very bytes of
/// [`ClientContext::encode_opaque`], without building the context. Allocates nothing but what `out` may need to grow.
pub fn write_latest_context(out: &mut Vec<u8>, key_hash: u64, dot: Dot) {
    write(
        out,
        dot.hlc.before(),
        dot.hlc,
        Some(Fingerprint::of_dot(key_hash, dot)),
        &[dot],
        &[],
    );
}

fn write(
    out: &mut Vec<u8>,
    floor: Hlc,
    greatest: Hlc,
    seen: Option<Fingerprint>,
    vector: &[Dot],
    exceptions: &[Dot],
) {
    let start = out.len();
    out.push(VERSION);
    out.push(one_byte(vector.len()));
    out.push(one_byte(exceptions.len()));
    for field in [floor.0, greatest.0, seen.map_or(0, Fingerprint::bits)] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    vector
        .iter()
        .for_each(|entry| out.extend_from_slice(&dot_to_bytes(*entry)));
    for exception in exceptions {
        out.push(one_byte(
            vector.partition_point(|entry| entry.actor < exception.actor),
        ));
        out.extend_from_slice(&exception.hlc.0.to_le_bytes());
    }
    let checksum = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// A smaller context that fits, where this one does not.
fn fitting(context: &Context) -> Option<Context> {
    let fits = |context: &Context| {
        let (entries, exceptions) = (context.vector().len(), context.exceptions().len());
        entries <= CONTEXT_ENTRIES_MAX
            && exceptions <= EXCEPTIONS_MAX
            && HEADER_BYTES + entries * DOT_BYTES + exceptions * EXCEPTION_BYTES + CHECKSUM_BYTES
                <= CONTEXT_BYTES_MAX
    };
    if fits(context) {
        return None;
    }
    let mut smaller = context.clone();
    while !fits(&smaller) {
        let oldest = smaller
            .vector()
            .iter()
            .copied()
            .min_by_key(|entry| entry.rank())?;
        smaller.retain_entries(|entry| entry != oldest);
    }
    Some(smaller)
}

fn one_byte(count: usize) -> u8 {
    u8::try_from(count).expect("a context that fits has byte-sized counts")
}
