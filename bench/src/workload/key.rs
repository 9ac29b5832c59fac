//! How a key id becomes the bytes of a key.
//!
//! Owns the format only. Never allocates: keys are written into the caller's buffer.
//!
//! Invariants:
//! - two ids never give the same bytes (`hashed` is a bijection of 64 bits, written in 13 digits of base 36);
//! - every key has exactly `bytes` bytes, printable.

use super::permutation::mix64;

/// Digits that hold any 64-bit number in base 36.
const HASHED_DIGITS: usize = 13;

/// In which order ids lie among the stored keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyOrder {
    /// Neighbouring ids are far apart in key order, as YCSB's default.
    Hashed,
    /// Ids in key order: scans and sequential loads meet their neighbours.
    Ordered,
}

/// The format of keys.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeyFormat {
    prefix: String,
    bytes: usize,
    order: KeyOrder,
}

impl KeyFormat {
    /// Keys of `bytes` bytes beginning with `prefix`; an error says what would fit.
    pub fn new(prefix: &str, bytes: usize, order: KeyOrder) -> Result<Self, String> {
        let digits_min = HASHED_DIGITS;
        if bytes < prefix.len() + digits_min {
            return Err(format!(
                "keys of {bytes} bytes cannot hold the prefix '{prefix}' and {digits_min} digits of identity: use a shorter prefix or at least {} bytes",
                prefix.len() + digits_min
            ));
        }
        if bytes > 4096 {
            return Err(format!(
                "keys of {bytes} bytes are longer than the 4096 that gramme takes"
            ));
        }
        Ok(KeyFormat {
            prefix: prefix.to_owned(),
            bytes,
            order,
        })
    }

    /// Bytes of every key.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts the key of `id` into `key`, replacing what was there.
    pub fn write(&self, id: u64, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix.as_bytes());
        key.resize(self.bytes, b'0');
        let mut rest = match self.order {
            KeyOrder::Hashed => mix64(id.wrapping_add(1)),
            KeyOrder::Ordered => id,
        };
        for digit in key.iter_mut().rev().take(HASHED_DIGITS) {
            *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
            rest /= 36;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(format: &KeyFormat, id: u64) -> Vec<u8> {
        let mut key = Vec::new();
        format.write(id, &mut key);
        key
    }

    #[test]
    fn keys_are_distinct_printable_and_of_the_asked_length() {
        for order in [KeyOrder::Hashed, KeyOrder::Ordered] {
            let format = KeyFormat::new("key", 16, order).expect("fits");
            let mut all: Vec<_> = (0..10_000).map(|id| key(&format, id)).collect();
            assert!(all.iter().all(|key| key.len() == 16 && key.is_ascii()));
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 10_000);
        }
    }

    #[test]
    fn ordered_keys_sort_as_their_ids() {
        let format = KeyFormat::new("k", 20, KeyOrder::Ordered).expect("fits");
        assert!(key(&format, 35) < key(&format, 36));
        assert!(key(&format, 1_000_000) < key(&format, u64::MAX));
    }

    #[test]
    fn a_key_too_short_for_its_identity_is_refused() {
        assert!(
            KeyFormat::new("user", 16, KeyOrder::Hashed)
                .expect_err("too short")
                .contains("17 bytes")
        );
    }
}
