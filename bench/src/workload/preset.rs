//! The built-in workloads.
//!
//! Owns their definitions, one function each, so that a reader sees what a name stands for.

use super::arrival::{Process, Shape};
use super::distribution::KeyDistribution;
use super::mix::Mix;
use super::spec::{ArrivalShape, Durability, KeyShape, Workload};
use super::value::ValueSize;

/// Every preset: its name and what it stands for.
pub const PRESETS: [(&str, &str); 11] = [
    (
        "ycsb-a",
        "half reads, half writes, zipfian (a session store)",
    ),
    ("ycsb-b", "95 % reads, 5 % writes, zipfian (photo tags)"),
    ("ycsb-c", "reads only, zipfian (a cache of profiles)"),
    (
        "ycsb-d",
        "95 % reads of the newest, 5 % inserts (status updates)",
    ),
    (
        "ycsb-e",
        "95 % short scans, 5 % inserts (threads of a forum)",
    ),
    (
        "ycsb-f",
        "half reads, half read-modify-writes, zipfian (user records)",
    ),
    (
        "cart",
        "Dynamo's shopping cart: reads and read-modify-writes of small, varied values",
    ),
    ("session", "reads and expiring writes of sessions"),
    (
        "cache",
        "95 % reads, 5 % expiring writes of 300-byte values, hotter than YCSB",
    ),
    (
        "durable-put",
        "writes of 100 bytes, each on stable media before it counts",
    ),
    (
        "read-uniform",
        "reads spread evenly: what a cold cache or an index feels",
    ),
];

/// The preset called `name`.
pub fn find(name: &str) -> Option<Workload> {
    let zipfian = KeyDistribution::Zipfian { theta: 0.99 };
    let ycsb =
        |mix: Mix, keys: KeyDistribution| base(name, mix, keys, ValueSize::Fixed { bytes: 1000 });
    let workload = match name {
        "ycsb-a" => ycsb(Mix::read_write(0.5, 0.5), zipfian),
        "ycsb-b" => ycsb(Mix::read_write(0.95, 0.05), zipfian),
        "ycsb-c" => ycsb(Mix::read_write(1.0, 0.0), zipfian),
        "ycsb-d" => ycsb(
            Mix {
                read: 0.95,
                insert: 0.05,
                ..Mix::default()
            },
            KeyDistribution::Latest { theta: 0.99 },
        ),
        "ycsb-e" => ycsb(
            Mix {
                scan: 0.95,
                insert: 0.05,
                ..Mix::default()
            },
            zipfian,
        ),
        "ycsb-f" => ycsb(
            Mix {
                read: 0.5,
                update: 0.5,
                ..Mix::default()
            },
            zipfian,
        ),
        "cart" => base(
            name,
            Mix {
                read: 0.6,
                update: 0.38,
                delete: 0.02,
                ..Mix::default()
            },
            KeyDistribution::Zipfian { theta: 0.8 },
            ValueSize::Lognormal {
                median: 600,
                sigma: 1.0,
                max: 64 << 10,
            },
        ),
        "session" => Workload {
            ttl_s: Some(1800),
            ..base(
                name,
                Mix {
                    read: 0.85,
                    write: 0.14,
                    delete: 0.01,
                    ..Mix::default()
                },
                KeyDistribution::Zipfian { theta: 0.9 },
                ValueSize::Lognormal {
                    median: 400,
                    sigma: 0.8,
                    max: 16 << 10,
                },
            )
        },
        "cache" => Workload {
            ttl_s: Some(3600),
            ..base(
                name,
                Mix::read_write(0.95, 0.05),
                KeyDistribution::Zipfian { theta: 1.1 },
                ValueSize::Fixed { bytes: 300 },
            )
        },
        "durable-put" => Workload {
            durability: Durability::Durable,
            ..base(
                name,
                Mix::read_write(0.0, 1.0),
                KeyDistribution::Uniform,
                ValueSize::Fixed { bytes: 100 },
            )
        },
        "read-uniform" => base(
            name,
            Mix::read_write(1.0, 0.0),
            KeyDistribution::Uniform,
            ValueSize::Fixed { bytes: 1000 },
        ),
        _ => return None,
    };
    Some(workload)
}

fn base(name: &str, mix: Mix, keys: KeyDistribution, values: ValueSize) -> Workload {
    Workload {
        name: name.to_owned(),
        records: 10_000,
        mix,
        keys,
        key: KeyShape::default(),
        values,
        scan_keys_max: 100,
        ttl_s: None,
        durability: Durability::Default,
        arrivals: ArrivalShape {
            process: Process::Poisson,
            shape: Shape::Constant,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_preset_exists_and_can_run() {
        for (name, _) in PRESETS {
            let workload = find(name).unwrap_or_else(|| panic!("{name} is listed but not built"));
            assert_eq!(workload.problem(), None, "{name}");
            assert_eq!(workload.name, name);
        }
        assert_eq!(find("no-such"), None);
    }
}
