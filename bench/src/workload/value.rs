//! Values that describe themselves: whoever reads one can tell whether it is right.
//!
//! Owns the layout of a value and the models of its size. Never allocates for each value: the filler is made once.
//!
//! ```text
//!   0      4          12        20     24            bytes
//!   │ mark │ key id   │ number  │ crc  │ filler …    │     crc32c over all but itself; integers little-endian
//! ```
//!
//! Invariants:
//! - a value shorter than the header carries filler only and is never judged;
//! - `judge` of a value written for the same id is `Right`; a flipped bit or another key's value is `Wrong`.

use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, LogNormal};

const MARK: [u8; 4] = *b"GbV1";
const HEADER_BYTES: usize = 24;
const CRC_AT: usize = 20;
const FILLER_BYTES: usize = 1 << 20;

/// The greatest value that a workload may ask for: gramme's own limit.
pub const VALUE_BYTES_MAX: u32 = 8 << 20;

/// How large values are.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "size", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ValueSize {
    /// All alike.
    Fixed {
        /// Bytes of every value.
        bytes: u32,
    },
    /// Anything from `min` to `max`, alike.
    Uniform {
        /// The least.
        min: u32,
        /// The greatest, included.
        max: u32,
    },
    /// The usual shape of real values: many small, few large.
    Lognormal {
        /// Half of the values are smaller.
        median: u32,
        /// The spread: 1 means a third of the values are beyond a factor of 2.7 from the median.
        sigma: f64,
        /// Larger ones are cut to this.
        max: u32,
    },
    /// One of the sizes listed in a file, drawn alike (repeat a size to weigh it).
    File {
        /// The file: one size in bytes a line.
        path: String,
        /// Its sizes, filled in by whoever reads files; this module does not.
        #[serde(skip)]
        sizes: Vec<u32>,
    },
}

impl ValueSize {
    /// Why this description cannot be used, if it cannot.
    pub fn problem(&self) -> Option<String> {
        let limit = |bytes: u32| {
            (bytes > VALUE_BYTES_MAX).then(|| {
                format!("values of {bytes} bytes are larger than the {VALUE_BYTES_MAX} allowed")
            })
        };
        match self {
            ValueSize::Fixed { bytes } => limit(*bytes),
            ValueSize::Uniform { min, max } if min > max => Some(format!(
                "the least value size {min} is above the greatest, {max}"
            )),
            ValueSize::Uniform { max, .. } => limit(*max),
            ValueSize::Lognormal { sigma, .. } if !(0.0..=10.0).contains(sigma) => {
                Some(format!("sigma must be between 0 and 10, not {sigma}"))
            }
            ValueSize::Lognormal { median: 0, .. } => {
                Some("the median size must be at least 1".to_owned())
            }
            ValueSize::Lognormal { max, .. } => limit(*max),
            ValueSize::File { path, sizes } if sizes.is_empty() => {
                Some(format!("the file of value sizes {path} lists no size"))
            }
            ValueSize::File { sizes, .. } => sizes.iter().copied().max().and_then(limit),
        }
    }

    /// The size of one value.
    pub fn draw<R: Rng>(&self, rng: &mut R) -> u32 {
        match self {
            ValueSize::Fixed { bytes } => *bytes,
            ValueSize::Uniform { min, max } => rng.random_range(*min..=*max),
            ValueSize::Lognormal { median, sigma, max } => {
                match LogNormal::new(f64::from(*median).ln(), *sigma) {
                    Ok(shape) => (shape.sample(rng) as u32).clamp(1, *max),
                    Err(_) => *median,
                }
            }
            ValueSize::File { sizes, .. } => sizes[rng.random_range(0..sizes.len())],
        }
    }

    /// The mean size, for estimates of a data set (the lognormal's without its cut).
    pub fn mean_bytes(&self) -> f64 {
        match self {
            ValueSize::Fixed { bytes } => f64::from(*bytes),
            ValueSize::Uniform { min, max } => (f64::from(*min) + f64::from(*max)) / 2.0,
            ValueSize::Lognormal { median, sigma, max } => {
                (f64::from(*median) * (sigma * sigma / 2.0).exp()).min(f64::from(*max))
            }
            ValueSize::File { sizes, .. } => {
                sizes.iter().copied().map(f64::from).sum::<f64>() / sizes.len().max(1) as f64
            }
        }
    }
}

/// What a read value turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueVerdict {
    /// Written by this harness for this key, intact.
    Right,
    /// Not written by this harness, or too short to tell.
    Foreign,
    /// Written by this harness, but damaged or for another key.
    Wrong,
}

/// Makes values.
#[derive(Debug, Clone)]
pub struct ValueMaker {
    filler: std::sync::Arc<[u8]>,
}

impl ValueMaker {
    /// A maker whose filler does not compress.
    pub fn new<R: Rng>(rng: &mut R) -> Self {
        let mut filler = vec![0; FILLER_BYTES];
        rng.fill_bytes(&mut filler);
        ValueMaker {
            filler: filler.into(),
        }
    }

    /// Puts a value of `bytes` bytes for key `id` into `value`, replacing what was there. `number` tells one write of
    /// a key from another.
    pub fn write(&self, id: u64, number: u64, bytes: u32, value: &mut Vec<u8>) {
        let bytes = bytes as usize;
        value.clear();
        if bytes >= HEADER_BYTES {
            value.extend_from_slice(&MARK);
            value.extend_from_slice(&id.to_le_bytes());
            value.extend_from_slice(&number.to_le_bytes());
            value.extend_from_slice(&[0; 4]);
        }
        // Begin anywhere in the filler, so that values differ and stores that deduplicate gain nothing.
        let mut at = (id
            .wrapping_mul(0x9e37_79b9)
            .wrapping_add(number.wrapping_mul(61)) as usize)
            % FILLER_BYTES;
        while value.len() < bytes {
            let take = (bytes - value.len()).min(FILLER_BYTES - at);
            value.extend_from_slice(&self.filler[at..at + take]);
            at = 0;
        }
        if bytes >= HEADER_BYTES {
            let crc = checksum(value);
            value[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// Whether `value` is what this harness would have written for `id`.
pub fn judge(id: u64, value: &[u8]) -> ValueVerdict {
    let Some(header) = value.first_chunk::<HEADER_BYTES>() else {
        return ValueVerdict::Foreign;
    };
    let (mark, rest) = header.split_at(MARK.len());
    if mark != MARK {
        return ValueVerdict::Foreign;
    }
    let of_this_key = rest.starts_with(&id.to_le_bytes());
    let intact = header[CRC_AT..] == checksum(value).to_le_bytes();
    if of_this_key && intact {
        ValueVerdict::Right
    } else {
        ValueVerdict::Wrong
    }
}

fn checksum(value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&value[..CRC_AT]), &value[HEADER_BYTES..])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn maker() -> (Xoshiro256PlusPlus, ValueMaker) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let maker = ValueMaker::new(&mut rng);
        (rng, maker)
    }

    #[test]
    fn a_value_is_right_for_its_key_and_wrong_for_any_other() {
        let (_, maker) = maker();
        let mut value = Vec::new();
        for bytes in [24, 25, 100, 1000, 3 << 20] {
            maker.write(7, 1, bytes, &mut value);
            assert_eq!(value.len(), bytes as usize);
            assert_eq!(judge(7, &value), ValueVerdict::Right);
            assert_eq!(judge(8, &value), ValueVerdict::Wrong);
        }
    }

    #[test]
    fn any_flipped_bit_beyond_the_mark_is_seen() {
        let (_, maker) = maker();
        let mut value = Vec::new();
        maker.write(7, 1, 64, &mut value);
        for at in 4..64 {
            let mut damaged = value.clone();
            damaged[at] ^= 1;
            assert_eq!(judge(7, &damaged), ValueVerdict::Wrong, "byte {at}");
        }
    }

    #[test]
    fn somebody_elses_value_is_foreign_not_wrong() {
        assert_eq!(judge(7, b"hello"), ValueVerdict::Foreign);
        assert_eq!(judge(7, &[0; 100]), ValueVerdict::Foreign);
    }

    #[test]
    fn sizes_have_the_asked_shape() {
        let (mut rng, _) = maker();
        let lognormal = ValueSize::Lognormal {
            median: 500,
            sigma: 1.0,
            max: 10_000,
        };
        let mut sizes: Vec<u32> = (0..10_000).map(|_| lognormal.draw(&mut rng)).collect();
        sizes.sort_unstable();
        assert!((450..550).contains(&sizes[5000]), "median {}", sizes[5000]);
        assert!(sizes[9999] <= 10_000);
        let uniform = ValueSize::Uniform { min: 10, max: 12 };
        assert!((0..100).all(|_| (10..=12).contains(&uniform.draw(&mut rng))));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(ValueSize::Uniform { min: 2, max: 1 }.problem().is_some());
        assert!(
            ValueSize::Fixed {
                bytes: VALUE_BYTES_MAX + 1
            }
            .problem()
            .is_some()
        );
        assert!(
            ValueSize::File {
                path: "x".into(),
                sizes: vec![]
            }
            .problem()
            .is_some()
        );
    }
}
