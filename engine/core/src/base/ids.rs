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
