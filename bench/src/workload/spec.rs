//! A whole workload, and its TOML form.
//!
//! Owns the description and its checks. Never reads the file: the caller hands in its text.
//!
//! Invariants: a `Workload` that came out of here has no problem: sizes are possible, shares add up, keys fit.
//!
//! ```toml
//! name = "profiles"
//! records = 1000000
//! mix = { read = 0.9, write = 0.1 }
//! keys = { distribution = "zipfian", theta = 0.9 }
//! key = { prefix = "user", bytes = 24, order = "hashed" }
//! values = { size = "lognormal", median = 400, sigma = 1.0, max = 65536 }
//! scan_keys_max = 100
//! ttl_s = 3600
//! durability = "default"            # or "durable": each write is on stable media before it counts
//! arrivals = { process = "poisson", shape = "constant" }
//! ```

use serde::{Deserialize, Serialize};

use super::arrival::{Process, Shape};
use super::distribution::KeyDistribution;
use super::key::{KeyFormat, KeyOrder};
use super::mix::Mix;
use super::value::ValueSize;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// As the target does it when nobody asks for more.
    #[default]
    Default,
    /// On stable media.
    Durable,
}

/// A workload, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name in reports.
    #[serde(default = "name_default")]
    pub name: String,
    /// Keys in the store before the run.
    #[serde(default = "records_default")]
    pub records: u64,
    /// The verbs' shares.
    pub mix: Mix,
    /// Which keys.
    #[serde(default = "keys_default")]
    pub keys: KeyDistribution,
    /// The bytes of a key.
    #[serde(default)]
    pub key: KeyShape,
    /// The bytes of a value.
    #[serde(default = "values_default")]
    pub values: ValueSize,
    /// A scan reads from 1 to this many keys.
    #[serde(default = "scan_default")]
    pub scan_keys_max: u32,
    /// Writes expire after so many seconds, where the target can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
    /// When a write counts as done.
    #[serde(default)]
    pub durability: Durability,
    /// When requests arrive (open loop).
    #[serde(default)]
    pub arrivals: ArrivalShape,
}

/// The `key` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyShape {
    /// First bytes of every key.
    #[serde(default = "prefix_default")]
    pub prefix: String,
    /// Bytes of every key.
    #[serde(default = "key_bytes_default")]
    pub bytes: usize,
    /// Whether neighbouring ids are neighbours in key order.
    #[serde(default = "order_default")]
    pub order: KeyOrder,
}

/// The `arrivals` table.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArrivalShape {
    /// How arrivals scatter around the rate.
    pub process: Process,
    /// How the rate moves.
    #[serde(flatten)]
    pub shape: Shape,
}

impl Default for KeyShape {
    fn default() -> Self {
        KeyShape {
            prefix: prefix_default(),
            bytes: key_bytes_default(),
            order: order_default(),
        }
    }
}

fn name_default() -> String {
    "custom".to_owned()
}
fn records_default() -> u64 {
    10_000
}
fn keys_default() -> KeyDistribution {
    KeyDistribution::Zipfian { theta: 0.99 }
}
fn values_default() -> ValueSize {
    ValueSize::Fixed { bytes: 1000 }
}
fn scan_default() -> u32 {
    100
}
fn prefix_default() -> String {
    "key".to_owned()
}
fn key_bytes_default() -> usize {
    16
}
fn order_default() -> KeyOrder {
    KeyOrder::Hashed
}

impl Workload {
    /// Reads the TOML form. Sizes from a file are still to be filled in; call `problem` after that.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Why this workload cannot be run, if it cannot.
    pub fn problem(&self) -> Option<String> {
        if self.records == 0 {
            return Some("records must be at least 1".to_owned());
        }
        if self.scan_keys_max == 0 {
            return Some("scan_keys_max must be at least 1".to_owned());
        }
        if self.ttl_s == Some(0) {
            return Some("ttl_s must be at least 1".to_owned());
        }
        (self.mix.problem())
            .or_else(|| self.keys.problem())
            .or_else(|| self.values.problem())
            .or_else(|| self.arrivals.shape.problem())
            .or_else(|| self.key_format().err())
    }

    /// The key's format.
    pub fn key_format(&self) -> Result<KeyFormat, String> {
        KeyFormat::new(&self.key.prefix, self.key.bytes, self.key.order)
    }

    /// About how many bytes of keys and values the loaded data set holds.
    pub fn data_bytes(&self) -> u64 {
        (self.records as f64 * (self.key.bytes as f64 + self.values.mean_bytes())) as u64
    }

    /// Whether the run needs the data set to be there first.
    pub fn reads_anything(&self) -> bool {
        self.mix.read + self.mix.update + self.mix.scan + self.mix.delete > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_is_read() {
        let text: String = include_str!("spec.rs")
            .lines()
            .skip_while(|line| !line.contains("```toml"))
            .skip(1)
            .take_while(|line| !line.contains("```"))
            .map(|line| line.trim_start_matches("//! ").to_owned() + "\n")
            .collect();
        let workload = Workload::from_toml(&text).expect("the example in the header is valid");
        assert_eq!(workload.problem(), None);
        assert_eq!(workload.records, 1_000_000);
        assert_eq!(workload.ttl_s, Some(3600));
        assert_eq!(
            workload.values,
            ValueSize::Lognormal {
                median: 400,
                sigma: 1.0,
                max: 65536
            }
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error =
            Workload::from_toml("mix = { read = 1 }\nrecord = 5").expect_err("a typing error");
        assert!(error.contains("record"), "{error}");
    }

    #[test]
    fn what_cannot_run_is_refused() {
        for text in [
            "mix = {}",
            "mix = { read = 1 }\nrecords = 0",
            "mix = { read = 1 }\nkey = { bytes = 4 }",
        ] {
            let workload = Workload::from_toml(text).expect("well-formed");
            assert!(workload.problem().is_some(), "{text}");
        }
    }

    #[test]
    fn a_workload_survives_its_own_toml() {
        let workload = crate::workload::preset::find("cart").expect("built in");
        let text = toml::to_string(&workload).expect("a plain structure");
        assert_eq!(Workload::from_toml(&text).expect("own output"), workload);
    }
}
