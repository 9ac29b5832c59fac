//! The cache of records that were read from the disk: a fixed byte budget for each shard.
//!
//! Owns copies of whole records, by token and tag. An entry is only an answer when it is of the very place, and the very use of
//! that place, which the index names now: overwriting a key needs no invalidation here.
//!
//! Why quick_cache: its S3-FIFO keeps a scan from driving out what is hot. It is given a hasher without a random seed,
//! since a random one would break determinism.

use core::hash::{BuildHasher, Hasher};

use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use crate::base::ids::Token;
use crate::store::place::tag15;

/// Bytes that an entry costs beside its record.
const ENTRY_BYTES: u64 = 96;
/// What a record is taken to need when the cache is sized.
const RECORD_BYTES_USUAL: u64 = 256;

/// A record as it lies in the log.
#[derive(Clone, Debug)]
struct Cached {
    place: u64,
    generation: u64,
    record: Box<[u8]>,
}

/// A token and the bits of a place that are its key's own: keys of one token do not drive each other out.
type Key = (u64, u16);

const fn key(token: Token, place: u64) -> Key {
    (token.0, tag15(place))
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Cached> for ByBytes {
    fn weight(&self, _: &Key, cached: &Cached) -> u64 {
        cached.record.len() as u64 + ENTRY_BYTES
    }
}

/// Tokens are hashes already; one multiplication spreads them over the table.
#[derive(Clone, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(32) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Clone, Default)]
struct SpreadBuilder;

impl BuildHasher for SpreadBuilder {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread::default()
    }
}

/// Records that were read, within a budget.
pub struct RecordCache {
    cache: Cache<Key, Cached, ByBytes, SpreadBuilder, DefaultLifecycle<Key, Cached>>,
}

impl RecordCache {
    /// A cache of about this many bytes.
    pub fn new(bytes_max: u64) -> Self {
        let items = usize::try_from((bytes_max / (RECORD_BYTES_USUAL + ENTRY_BYTES)).max(16))
            .unwrap_or(usize::MAX);
        let cache = Cache::with(
            items,
            bytes_max,
            ByBytes,
            SpreadBuilder,
            DefaultLifecycle::default(),
        );
        Self { cache }
    }

    /// The record of a token, when it is of this place in this use.
    pub fn get(&self, token: Token, place: u64, generation: u64) -> Option<&[u8]> {
        let cached = self.cache.get(&key(token, place))?;
        (cached.place == place && cached.generation == generation).then_some(&*cached.record)
    }

    /// Keeps a verified record.
    pub fn insert(&mut self, token: Token, place: u64, generation: u64, record: &[u8]) {
        self.cache.insert(
            key(token, place),
            Cached {
                place,
                generation,
                record: record.into(),
            },
        );
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_former_place_or_use_is_no_answer() {
        let mut cache = RecordCache::new(1 << 20);
        cache.insert(Token(1), 10, 1, b"first");
        assert_eq!(cache.get(Token(1), 10, 1), Some(b"first".as_slice()));
        assert_eq!(cache.get(Token(1), 11, 1), None, "moved");
        assert_eq!(
            cache.get(Token(1), 10, 2),
            None,
            "the segment was used anew"
        );
    }

    #[test]
    fn the_budget_holds() {
        let mut cache = RecordCache::new(64 << 10);
        for token in 0..10_000 {
            cache.insert(Token(token), token, 1, &[0; 100]);
        }
        assert!(cache.bytes() <= 64 << 10, "{} bytes", cache.bytes());
    }
}
