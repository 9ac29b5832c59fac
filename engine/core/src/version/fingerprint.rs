//! Fingerprints: 64 bits that identify a key's exact set of dots.
//!
//! Owns the mixing. Never looks at values or contexts: two objects with the same dots have the same fingerprint.
//!
//! Invariants:
//! - the order of the dots does not matter;
//! - never zero, so that an index can write "none" as zero.
//!
//! Why a sum of xxh3 and not a hash of the sorted dots: the dots of an object need not be gathered first, and the
//! value is a public specification that every node and client can compute. The key hash is the seed, so that equal
//! dots of two keys do not cancel out in a Merkle leaf.

use core::num::NonZeroU64;

use super::dot::Dot;
use super::format::{DOT_BYTES, dot_to_bytes};

/// 64 bits for a key's exact version set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(NonZeroU64);

impl Fingerprint {
    /// From its bits; zero is none.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// Its bits, never zero.
    pub const fn bits(self) -> u64 {
        self.0.get()
    }

    /// Of a key with exactly one dot.
    pub fn of_dot(key_hash: u64, dot: Dot) -> Self {
        Self::of_dots(key_hash, [dot])
    }

    /// Of a key with exactly these dots, in any order, each once.
    pub fn of_dots(key_hash: u64, dots: impl IntoIterator<Item = Dot>) -> Self {
        let mut sum = DotSum::new(key_hash);
        dots.into_iter().for_each(|dot| sum.add(dot));
        sum.finish()
    }
}

/// A fingerprint in the making: add each dot once, in any order.
#[derive(Clone, Copy, Debug)]
pub struct DotSum {
    key_hash: u64,
    sum: u64,
}

impl DotSum {
    /// Of no dots yet.
    pub const fn new(key_hash: u64) -> Self {
        Self { key_hash, sum: 0 }
    }

    /// Adds one dot.
    pub fn add(&mut self, dot: Dot) {
        let bytes: [u8; DOT_BYTES] = dot_to_bytes(dot);
        self.sum = self
            .sum
            .wrapping_add(xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, self.key_hash));
    }

    /// The fingerprint of what was added.
    pub fn finish(self) -> Fingerprint {
        Fingerprint(NonZeroU64::new(self.sum).unwrap_or(NonZeroU64::MIN))
    }
}
