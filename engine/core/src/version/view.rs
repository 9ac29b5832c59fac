//! An object read in place: the bytes of a record, a frame or a cache entry, without a copy.
//!
//! Owns the checking and the reading of the layout in `format`. Never allocates but where it returns something owned.
//!
//! Invariants:
//! - [`ObjectView::parse`] is total: any bytes give a view or an error;
//! - what it accepts is canonical: `view.to_owned()` encodes to the very same bytes;
//! - every sibling of a view is covered by its context, and is after the floor.

use super::context::Context;
use super::dot::{Actor, Dot, WriteId};
use super::fingerprint::{DotSum, Fingerprint};
use super::format::{
    Cursor, GENERAL, ObjectError, RawDots, SIBLING_FLAGS, TOMBSTONE, VERSION, VERSION_MASK,
};
use super::object::{Object, Sibling};
use super::opaque::{ClientContext, write_latest_context};
use crate::base::ids::NodeId;
use crate::base::mutant::{self, Mutant};
use crate::base::time::Hlc;

/// What a write put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content<'a> {
    /// Nothing: the key was deleted, or expired and its value let go.
    Tombstone,
    /// These bytes.
    Value(&'a [u8]),
}

impl<'a> Content<'a> {
    /// The value, none of a tombstone.
    pub const fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Tombstone => None,
        }
    }
}

/// One of a key's concurrent values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiblingView<'a> {
    /// The write that it is.
    pub dot: Dot,
    /// What it holds.
    pub content: Content<'a>,
    /// From this Unix time on it counts as a tombstone with the same dot.
    pub expires_at_ms: Option<u64>,
    /// The client's own name of the write.
    pub write_id: Option<WriteId>,
}

impl<'a> SiblingView<'a> {
    /// The value that a reader is shown at this time: none of a tombstone or of what has expired.
    pub fn live_value(self, now_ms: u64) -> Option<&'a [u8]> {
        self.content.value().filter(|_| {
            let is_before = |expires_at_ms| now_ms < expires_at_ms;
            mutant::is(Mutant::ExpiredShown) || self.expires_at_ms.is_none_or(is_before)
        })
    }

    /// Whether a reader is shown nothing of it at this time.
    pub fn is_dead(self, now_ms: u64) -> bool {
        self.live_value(now_ms).is_none()
    }

    /// Whether both are one write that was retried through two coordinators, or the very same write.
    pub fn is_same_write(self, other: Self) -> bool {
        self.dot == other.dot || (self.write_id.is_some() && self.write_id == other.write_id)
    }

    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ObjectError> {
        let flags = cursor.u8()?;
        if flags & !SIBLING_FLAGS != 0 {
            return Err(ObjectError::NotCanonical {
                rule: "unknown sibling flag",
            });
        }
        let dot = cursor.dot()?;
        let value_bytes = if flags & TOMBSTONE == 0 {
            Some(cursor.u32()?)
        } else {
            None
        };
        let (expires_at_ms, write_id) = cursor.options(flags)?;
        let content = match value_bytes {
            // A length that the address space cannot hold is one that the bytes cannot have.
            Some(value_bytes) => {
                Content::Value(cursor.bytes(usize::try_from(value_bytes).unwrap_or(usize::MAX))?)
            }
            None => Content::Tombstone,
        };
        Ok(Self {
            dot,
            content,
            expires_at_ms,
            write_id,
        })
    }
}

/// An object in its encoded form, checked.
#[derive(Clone, Copy)]
pub struct ObjectView<'a> {
    bytes: &'a [u8],
    shape: Shape<'a>,
}

#[derive(Clone, Copy)]
enum Shape<'a> {
    Latest(SiblingView<'a>),
    General {
        floor: Hlc,
        vector: RawDots<'a>,
        exceptions: RawDots<'a>,
        siblings: Cursor<'a>,
    },
}

impl<'a> ObjectView<'a> {
    /// Checks bytes from anywhere. They must be the object and nothing after it.
    ///
    /// # Errors
    /// [`ObjectError`] says what is wrong with them.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ObjectError> {
        let mut cursor = Cursor::new(bytes);
        let flags = cursor.u8()?;
        if flags & VERSION_MASK != VERSION {
            return Err(ObjectError::Version { found: flags });
        }
        let shape = match flags & !VERSION_MASK {
            GENERAL => Self::parse_general(cursor)?,
            flags if flags & !SIBLING_FLAGS == 0 => {
                Shape::Latest(Self::parse_latest(cursor, flags)?)
            }
            _ => {
                return Err(ObjectError::NotCanonical {
                    rule: "unknown object flag",
                });
            }
        };
        Ok(Self { bytes, shape })
    }

    fn parse_latest(mut cursor: Cursor<'a>, flags: u8) -> Result<SiblingView<'a>, ObjectError> {
        let (node, hlc) = (NodeId(cursor.u64()?), Hlc(cursor.u64()?));
        let (expires_at_ms, write_id) = cursor.options(flags)?;
        if hlc == Hlc(0) {
            return Err(ObjectError::NotCanonical {
                rule: "a write at time zero",
            });
        }
        let value = cursor.rest();
        let content = if flags & TOMBSTONE == 0 {
            Content::Value(value)
        } else {
            Content::Tombstone
        };
        if content == Content::Tombstone && !value.is_empty() {
            return Err(ObjectError::NotCanonical {
                rule: "a tombstone with a value",
            });
        }
        Ok(SiblingView {
            dot: Dot::newborn(node, hlc),
            content,
            expires_at_ms,
            write_id,
        })
    }

    fn parse_general(mut cursor: Cursor<'a>) -> Result<Shape<'a>, ObjectError> {
        let (vector_count, exceptions_count) = (cursor.u32()?, cursor.u32()?);
        let floor = Hlc(cursor.u64()?);
        let vector = cursor.dots(vector_count)?;
        let exceptions = cursor.dots(exceptions_count)?;
        vector.check_normal(floor, exceptions)?;
        let siblings = cursor;
        let (mut first, mut last, mut count) = (None, None, 0_usize);
        while !cursor.is_at_end() {
            let sibling = SiblingView::read(&mut cursor)?;
            if last.is_some_and(|last| last >= sibling.dot) {
                return Err(ObjectError::NotCanonical {
                    rule: "siblings are not sorted",
                });
            }
            let is_held = sibling.dot.is_possible() && sibling.dot.hlc > floor;
            if !is_held || !covers(floor, vector, exceptions, sibling.dot) {
                return Err(ObjectError::NotCanonical {
                    rule: "a sibling before the floor, or not under the vector",
                });
            }
            first = first.or(Some(sibling));
            last = Some(sibling.dot);
            count += 1;
        }
        let shape = Shape::General {
            floor,
            vector,
            exceptions,
            siblings,
        };
        let is_short = count == 1
            && vector.len() == 1
            && exceptions.len() == 0
            && first.is_some_and(|sibling| fits_short_form(sibling.dot, floor, vector.get(0)));
        if is_short {
            return Err(ObjectError::NotCanonical {
                rule: "the long form of a `latest` object",
            });
        }
        Ok(shape)
    }

    /// The bytes that it was parsed from.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The siblings, sorted by dot.
    pub fn siblings(&self) -> Siblings<'a> {
        match self.shape {
            Shape::Latest(sibling) => Siblings {
                short: Some(sibling),
                rest: Cursor::new(&[]),
            },
            Shape::General { siblings, .. } => Siblings {
                short: None,
                rest: siblings,
            },
        }
    }

    /// The sibling, where there is exactly one.
    pub fn single(&self) -> Option<SiblingView<'a>> {
        let mut siblings = self.siblings();
        let single = siblings.next()?;
        siblings.next().is_none().then_some(single)
    }

    /// The last writer's sibling.
    pub fn latest(&self) -> Option<SiblingView<'a>> {
        self.siblings().max_by_key(|sibling| sibling.dot.rank())
    }

    /// The siblings as a reader counts them: of those with one write id only the last.
    pub fn distinct_by_write_id(&self) -> impl Iterator<Item = SiblingView<'a>> + use<'a> {
        let view = *self;
        self.siblings().filter(move |sibling| {
            !view
                .siblings()
                .any(|other| other.is_same_write(*sibling) && other.dot.rank() > sibling.dot.rank())
        })
    }

    /// What a reader is shown at this time: values that have not expired, each write once.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = SiblingView<'a>> + use<'a> {
        self.distinct_by_write_id()
            .filter(move |sibling| !sibling.is_dead(now_ms))
    }

    /// Whether a reader is shown nothing at this time: every sibling is a tombstone or has expired.
    pub fn is_tombstone_only(&self, now_ms: u64) -> bool {
        self.siblings().all(|sibling| sibling.is_dead(now_ms))
    }

    /// Whether its context covers this write, without building the context.
    pub fn covers(&self, dot: Dot) -> bool {
        match self.shape {
            Shape::Latest(sibling) => dot == sibling.dot || dot.hlc < sibling.dot.hlc,
            Shape::General {
                floor,
                vector,
                exceptions,
                ..
            } => covers(floor, vector, exceptions, dot),
        }
    }

    /// Its context.
    pub fn context(&self) -> Context {
        match self.shape {
            Shape::Latest(sibling) => Context::of_latest(sibling.dot),
            Shape::General {
                floor,
                vector,
                exceptions,
                ..
            } => Context::from_raw(floor, vector, exceptions)
                .expect("parse has checked the normal form"),
        }
    }

    /// What a reader of it gets: its context, what it is called in an index, and its time.
    pub fn client_context(&self, key_hash: u64) -> ClientContext {
        ClientContext::new(self.context(), Some(self.fingerprint(key_hash)))
    }

    /// Appends the opaque bytes of [`Self::client_context`]; returns how many vector entries were dropped to fit.
    /// Allocates nothing for an object that one `latest` put wrote.
    pub fn encode_client_context(&self, key_hash: u64, out: &mut Vec<u8>) -> usize {
        match self.shape {
            Shape::Latest(sibling) => {
                write_latest_context(out, key_hash, sibling.dot);
                0
            }
            Shape::General { .. } => self.client_context(key_hash).encode_opaque(out),
        }
    }

    /// The greatest time in it, which a clock that meets it has to absorb.
    pub fn max_hlc(&self) -> Hlc {
        match self.shape {
            Shape::Latest(sibling) => sibling.dot.hlc,
            Shape::General { floor, vector, .. } => {
                vector.iter().map(|entry| entry.hlc).fold(floor, Hlc::max)
            }
        }
    }

    /// The 64 bits that identify this key's exact set of dots.
    pub fn fingerprint(&self, key_hash: u64) -> Fingerprint {
        let mut sum = DotSum::new(key_hash);
        self.siblings().for_each(|sibling| sum.add(sibling.dot));
        sum.finish()
    }

    /// A copy that owns its siblings.
    pub fn to_owned(&self) -> Object {
        let siblings = self.siblings().map(Sibling::from).collect();
        Object::from_parts(siblings, self.context())
            .expect("parse has checked that the context covers the siblings")
    }
}

impl core::fmt::Debug for ObjectView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ObjectView")
            .field("bytes", &self.bytes.len())
            .field("latest", &self.latest())
            .finish()
    }
}

/// The siblings of an [`ObjectView`], sorted by dot.
#[derive(Clone)]
pub struct Siblings<'a> {
    short: Option<SiblingView<'a>>,
    rest: Cursor<'a>,
}

impl<'a> Iterator for Siblings<'a> {
    type Item = SiblingView<'a>;

    fn next(&mut self) -> Option<SiblingView<'a>> {
        self.short
            .take()
            .or_else(|| SiblingView::read(&mut self.rest).ok())
    }
}

/// Whether an object of this one sibling has the context that the short form implies.
pub(crate) fn fits_short_form(sibling: Dot, floor: Hlc, entry: Option<Dot>) -> bool {
    sibling.actor.birth == sibling.hlc && entry == Some(sibling) && floor == sibling.hlc.before()
}

fn covers(floor: Hlc, vector: RawDots<'_>, exceptions: RawDots<'_>, dot: Dot) -> bool {
    let under = |actor: Actor| vector.entry(actor).is_some_and(|entry| dot.hlc <= entry);
    dot.hlc <= floor || (under(dot.actor) && !exceptions.contains(dot))
}
