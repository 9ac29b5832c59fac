//! Which key comes next: the distributions over a key space.
//!
//! Owns the arithmetic of choosing. Never reads a clock or a random source of its own: the generator is passed in,
//! so one seed gives one sequence on every machine.
//!
//! Invariants:
//! - a choice is always below the number of keys present;
//! - `Zipfian` has exactly the probabilities 1/(rank^theta · H) over the *real* key space, scattered one to one;
//! - `YcsbZipfian` has YCSB's: ranks over ten thousand million items, folded by a hash. It exists to compare with
//!   published YCSB figures and is a different load: its hottest key of a million gets 3.8 % where theta says 6.5 %.

use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, Zipf};

use super::permutation::{Permutation, mix64};

/// A description of a distribution, as a person writes it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "distribution", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeyDistribution {
    /// Every key alike.
    Uniform,
    /// Rank k with probability ∝ k^-theta, ranks scattered over the whole key space.
    Zipfian {
        /// The skew: 0 is uniform, YCSB's is 0.99.
        #[serde(default = "theta_default")]
        theta: f64,
    },
    /// YCSB's `ScrambledZipfian`, bit for bit in its folding.
    YcsbZipfian,
    /// The newest key most often, by a zipfian over age.
    Latest {
        /// The skew over age.
        #[serde(default = "theta_default")]
        theta: f64,
    },
    /// A share of the requests goes to a fraction of the keys, each part uniform.
    Hotspot {
        /// The part of the keys that is hot, 0 to 1.
        hot_fraction: f64,
        /// The part of the requests that goes there, 0 to 1.
        hot_share: f64,
    },
    /// Exponential over the rank: 95 % of the requests fall in the first `fraction` of the keys (YCSB's own figures
    /// are 0.8571).
    Exponential {
        /// The part of the keys that receives 95 % of the requests.
        fraction: f64,
    },
    /// 0, 1, 2 … and around; workers take turns.
    Sequential,
}

fn theta_default() -> f64 {
    0.99
}

impl KeyDistribution {
    /// Why this description cannot be used, if it cannot.
    pub fn problem(&self) -> Option<String> {
        let theta_ok = |theta: f64| (0.0..=10.0).contains(&theta);
        let part_ok = |part: f64| (0.0..=1.0).contains(&part);
        match *self {
            KeyDistribution::Uniform | KeyDistribution::YcsbZipfian | KeyDistribution::Sequential => None,
            KeyDistribution::Zipfian { theta } | KeyDistribution::Latest { theta } => {
                (!theta_ok(theta)).then(|| format!("theta must be between 0 and 10, not {theta}"))
            }
            KeyDistribution::Hotspot { hot_fraction, hot_share } => (!part_ok(hot_fraction) || !part_ok(hot_share))
                .then(|| format!("hot_fraction and hot_share must be between 0 and 1, not {hot_fraction} and {hot_share}")),
            KeyDistribution::Exponential { fraction } => {
                (!(fraction > 0.0 && fraction <= 1.0)).then(|| format!("fraction must be above 0 and at most 1, not {fraction}"))
            }
        }
    }
}

/// Chooses key ids below the number of keys.
#[derive(Debug, Clone)]
pub struct KeyChooser {
    keys: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Uniform,
    Zipfian {
        zipf: Zipf<f64>,
        scatter: Permutation,
    },
    Ycsb(YcsbZipfian),
    Latest {
        zipf: Zipf<f64>,
    },
    Hotspot {
        hot_keys: u64,
        hot_share: f64,
        scatter: Permutation,
    },
    Exponential {
        scale: f64,
        scatter: Permutation,
    },
    Sequential {
        next: u64,
        stride: u64,
    },
}

impl KeyChooser {
    /// A chooser over `keys` ids for worker `worker` of `workers` (only `Sequential` looks at those two).
    /// `seed` selects which ids are the hot ones and must be the same for all workers of a run.
    pub fn new(
        description: &KeyDistribution,
        keys: u64,
        seed: u64,
        worker: u64,
        workers: u64,
    ) -> Self {
        let keys = keys.max(1);
        let zipf = |theta: f64| {
            // n >= 1 and theta was checked when the workload was read; a bad theta is treated as no skew.
            Zipf::new(keys as f64, theta.max(0.0))
                .or_else(|_| Zipf::new(keys as f64, 0.0))
                .expect("n is at least 1")
        };
        let scatter = || Permutation::new(keys, seed);
        let kind = match *description {
            KeyDistribution::Uniform => Kind::Uniform,
            KeyDistribution::Zipfian { theta } => Kind::Zipfian {
                zipf: zipf(theta),
                scatter: scatter(),
            },
            KeyDistribution::YcsbZipfian => {
                Kind::Ycsb(YcsbZipfian::new(YCSB_ITEM_COUNT, YCSB_THETA))
            }
            KeyDistribution::Latest { theta } => Kind::Latest { zipf: zipf(theta) },
            KeyDistribution::Hotspot {
                hot_fraction,
                hot_share,
            } => Kind::Hotspot {
                hot_keys: ((keys as f64 * hot_fraction) as u64).clamp(1, keys),
                hot_share,
                scatter: scatter(),
            },
            KeyDistribution::Exponential { fraction } => Kind::Exponential {
                scale: keys as f64 * fraction / 20f64.ln(),
                scatter: scatter(),
            },
            KeyDistribution::Sequential => Kind::Sequential {
                next: worker % keys,
                stride: workers.max(1),
            },
        };
        KeyChooser { keys, kind }
    }

    /// The next key id. `present` is how many keys exist by now (inserts add some); only `Latest` follows it.
    pub fn choose<R: Rng>(&mut self, rng: &mut R, present: u64) -> u64 {
        let keys = self.keys;
        match &mut self.kind {
            Kind::Uniform => rng.random_range(0..keys),
            Kind::Zipfian { zipf, scatter } => scatter.scatter(zipf_rank(zipf, rng, keys)),
            Kind::Ycsb(ycsb) => fnv1a_64(ycsb.rank(rng.random())) % keys,
            Kind::Latest { zipf } => {
                let present = present.max(1);
                (present - 1).saturating_sub(zipf_rank(zipf, rng, keys))
            }
            Kind::Hotspot {
                hot_keys,
                hot_share,
                scatter,
            } => {
                let hot = rng.random::<f64>() < *hot_share || *hot_keys == keys;
                let rank = if hot {
                    rng.random_range(0..*hot_keys)
                } else {
                    rng.random_range(*hot_keys..keys)
                };
                scatter.scatter(rank)
            }
            Kind::Exponential { scale, scatter } => {
                let uniform: f64 = rng.random();
                let rank = -(1.0 - uniform).ln() * *scale;
                scatter.scatter((rank as u64).min(keys - 1))
            }
            Kind::Sequential { next, stride } => {
                let id = *next;
                *next = (*next + *stride) % keys;
                id
            }
        }
    }
}

/// A rank from 0; the crate's is from 1.
fn zipf_rank<R: Rng>(zipf: &Zipf<f64>, rng: &mut R, keys: u64) -> u64 {
    (zipf.sample(rng) as u64).saturating_sub(1).min(keys - 1)
}

const YCSB_ITEM_COUNT: u64 = 10_000_000_000;
const YCSB_THETA: f64 = 0.99;
/// YCSB's constant for ten thousand million items at 0.99.
const YCSB_ZETA: f64 = 26.469_028_201_783_02;

/// Gray's approximation, as YCSB's `ZipfianGenerator` computes it.
#[derive(Debug, Clone)]
struct YcsbZipfian {
    items: f64,
    theta: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl YcsbZipfian {
    fn new(items: u64, theta: f64) -> Self {
        let zeta_two = 1.0 + 0.5f64.powf(theta);
        let items = items as f64;
        let eta = (1.0 - (2.0 / items).powf(1.0 - theta)) / (1.0 - zeta_two / YCSB_ZETA);
        YcsbZipfian {
            items,
            theta,
            zeta: YCSB_ZETA,
            alpha: 1.0 / (1.0 - theta),
            eta,
        }
    }

    fn rank(&self, uniform: f64) -> u64 {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(self.theta) {
            return 1;
        }
        (self.items * (self.eta * uniform - self.eta + 1.0).powf(self.alpha)) as u64
    }
}

/// YCSB's `Utils.fnvhash64`: FNV-1a over the eight bytes, least significant first, made positive.
fn fnv1a_64(value: u64) -> u64 {
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    for octet in value.to_le_bytes() {
        hash ^= u64::from(octet);
        hash = hash.wrapping_mul(1_099_511_628_211);
    }
    (hash as i64).unsigned_abs()
}

/// A seed for stream `stream` of a run, far from its neighbours'.
pub(crate) fn stream_seed(seed: u64, stream: u64) -> u64 {
    mix64(seed ^ mix64(stream.wrapping_add(0x5851_f42d_4c95_7f2d)))
}

#[cfg(test)]
#[path = "distribution_tests.rs"]
mod tests;
