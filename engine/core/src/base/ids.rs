//! The ids of the field, a type each, so that none is taken for another.
//!
//! `Debug` prints them short (`n3f2a…`, `s1`, `p204`), since they fill traces and logs.

use core::fmt;

/// A node: 64 random bits, new whenever its data directory is new.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u64);

/// One core of a node, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardIndex(pub u16);

/// A key's 64-bit hash; its top bits name the partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token(pub u64);

/// One of Q equal token ranges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionId(pub u32);

/// The number of a segment's file within its shard; reused after the segment was freed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SegmentId(pub u32);

/// One group commit of a shard, counted from 1 for the life of the shard's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchNumber(pub u64);

/// The last bits of the tokens that only hints have.
pub const HINT_BITS: u64 = 0xffff;

impl Token {
    /// The token as a client's key may have it: never one of a hint.
    #[must_use]
    pub const fn of_key(self) -> Self {
        if self.is_hint() {
            Self(self.0 ^ 1)
        } else {
            self
        }
    }

    /// The token of the hints for keys of this token: in the same partition and slice.
    #[must_use]
    pub const fn of_hint(self) -> Self {
        Self(self.0 | HINT_BITS)
    }

    /// Whether it is a hint's.
    pub const fn is_hint(self) -> bool {
        self.0 & HINT_BITS == HINT_BITS
    }
}

macro_rules! short_debug {
    ($($name:ident $prefix:literal $format:literal;)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, $format), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    )*};
}

short_debug! {
    NodeId "n" "{:016x}";
    ShardIndex "s" "{}";
    Token "t" "{:016x}";
    PartitionId "p" "{}";
    SegmentId "seg" "{}";
    BatchNumber "b" "{}";
}
