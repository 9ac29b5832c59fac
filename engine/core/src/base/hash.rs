//! Hashes of keys: the token that places a key on the ring, and the tag that tells two keys of one token apart.
//!
//! A token is `seahash(bucket ‖ 0 ‖ key)`, the same on every node and in every client; the tokens that end in
//! [`HINT_BITS`](crate::base::ids::HINT_BITS) are kept for hints (one key in 65,536 has its last bit changed for it). A tag is seeded with a secret of
//! the data directory, so that keys chosen to share a token do not share their tags too.

use core::hash::Hasher;

use crate::base::ids::Token;

/// Bytes that fit on the stack when bucket and key are joined; longer ones take the streaming path.
const JOINED_BYTES_MAX: usize = 256;

/// The token of `key` in `bucket`.
pub fn token(bucket: &[u8], key: &[u8]) -> Token {
    let joined_bytes = bucket.len() + 1 + key.len();
    if joined_bytes <= JOINED_BYTES_MAX {
        let mut joined = [0; JOINED_BYTES_MAX];
        joined[..bucket.len()].copy_from_slice(bucket);
        joined[bucket.len() + 1..joined_bytes].copy_from_slice(key);
        return Token(seahash::hash(&joined[..joined_bytes])).of_key();
    }
    let mut hasher = seahash::SeaHasher::new();
    hasher.write(bucket);
    hasher.write(&[0]);
    hasher.write(key);
    Token(hasher.finish()).of_key()
}

/// The seeded hash of a key, of which the index keeps a few bits beside the token.
pub fn tag(seed: u64, bucket: &[u8], key: &[u8]) -> u64 {
    let bucket_seed = bucket.iter().fold(seed, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    xxhash_rust::xxh3::xxh3_64_with_seed(key, bucket_seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_seahash_of_bucket_zero_key_however_long() {
        for key_bytes in [0, 1, 7, 8, 31, 32, 33, 240, 255, 256, 257, 1000, 4096] {
            let key: Vec<u8> = (0..key_bytes)
                .map(|i| u8::try_from(i % 251).unwrap_or(0))
                .collect();
            let joined = [b"default".as_slice(), &[0], &key].concat();
            assert_eq!(
                token(b"default", &key),
                Token(seahash::hash(&joined)).of_key(),
                "key of {key_bytes} bytes"
            );
        }
    }

    #[test]
    fn bucket_and_key_do_not_run_into_each_other() {
        assert_ne!(token(b"a", b"bc"), token(b"ab", b"c"));
        assert_ne!(tag(1, b"a", b"k"), tag(1, b"b", b"k"));
        assert_ne!(tag(1, b"a", b"k"), tag(2, b"a", b"k"));
    }
}
