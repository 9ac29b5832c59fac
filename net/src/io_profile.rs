//! `io.toml`: what `gramme tune calibrate` measured of the data directory's disk, and what a node makes of it.
//!
//! Owns the part of the file that a node reads (`[recommend]` and `[device]`), and how it becomes settings of the
//! engine. Never overrides what the configuration says, and never keeps a node from starting: a file that cannot be
//! read is told, and the defaults hold.
//!
//! The figures are of the whole disk; each shard gets its part.

use std::fmt;
use std::io;
use std::path::Path;

use gramme_engine::EngineConfig;
use serde::Deserialize;

use crate::config::File;
use crate::host::Disk;

/// The file's name in the data directory.
pub const NAME: &str = "io.toml";

const FORMAT: u32 = 1;
/// What the engine takes for each shard.
const COMMITS_MAX: u64 = 16;
/// One is on its way while the next one gathers.
const COMMITS_MIN: u64 = 2;
/// A shard that may have fewer reads under way than this cannot hide one behind the other.
const READS_MIN: u64 = 4;
/// Requests of so much of the disk's time may wait; what came later would wait longer than any client does.
const WAIT_S: u64 = 1;
const REQUESTS_MIN: u64 = 1024;
/// A cleaner that is slower than this cannot keep up with any load.
const CLEAN_BYTES_PER_S_MIN: u64 = 4 << 20;

/// What a node reads of the file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct IoProfile {
    format: u32,
    recommend: Recommend,
    #[serde(default)]
    device: Device,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Recommend {
    read_depth_max: u64,
    commit_depth: u64,
    block_bytes: u32,
    background_bytes_per_s: u64,
    reads_per_s: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
struct Device {
    #[serde(default)]
    name: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    size_bytes: u64,
    #[serde(default)]
    fs_type: String,
}

/// What was taken from the file, for each shard; for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Reads under way at once.
    pub reads: u32,
    /// Commits under way at once.
    pub commits: u32,
    /// Requests that may wait.
    pub requests: u32,
    /// Rate of all cleaners.
    pub clean_bytes_per_s: u64,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a shard may have {} reads and {} commits under way and {} requests waiting; cleaning at {} MB/s",
            self.reads,
            self.commits,
            self.requests,
            self.clean_bytes_per_s / 1_000_000
        )
    }
}

impl IoProfile {
    /// Reads the file of a data directory; none where there is none.
    ///
    /// # Errors
    /// In words: it cannot be read, or is not what the tuner writes.
    pub fn read(data: &Path) -> Result<Option<Self>, String> {
        let path = data.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Self::parse(&text)
            .map(Some)
            .map_err(|what| format!("{}: {what}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if profile.format == FORMAT {
            Ok(profile)
        } else {
            Err(format!(
                "format {}, this node knows {FORMAT}",
                profile.format
            ))
        }
    }

    /// Sets the engine's knobs, but for those that the configuration names.
    pub fn set(&self, engine: &mut EngineConfig, file: &File, shards: u16) -> Taken {
        let shards = u64::from(shards.max(1));
        let own = |all: u64| all.div_ceil(shards);
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let said = &self.recommend;
        engine.reads_in_flight_max = narrow(own(said.read_depth_max).max(READS_MIN));
        engine.commits_in_flight_max =
            narrow(own(said.commit_depth).clamp(COMMITS_MIN, COMMITS_MAX));
        let clean_bytes_per_s = said
            .background_bytes_per_s
            .max(CLEAN_BYTES_PER_S_MIN * shards);
        engine.clean_bytes_per_s = Some(clean_bytes_per_s);
        // Only a new directory takes it.
        engine.block_bytes = Some(said.block_bytes);
        if file.requests_max.is_none() {
            let waiting = own(said.reads_per_s.saturating_mul(WAIT_S)).max(REQUESTS_MIN);
            engine.requests_max = engine.requests_max.min(narrow(waiting));
        }
        Taken {
            reads: engine.reads_in_flight_max,
            commits: engine.commits_in_flight_max,
            requests: engine.requests_max,
            clean_bytes_per_s,
        }
    }

    /// In what the disk that is there now is not the one that was measured; nothing where neither says anything.
    pub fn differences(&self, disk: &Disk) -> Vec<String> {
        let measured = &self.device;
        let (size_then, size_now) = (measured.size_bytes.to_string(), disk.size_bytes.to_string());
        let mut pairs = vec![
            ("the model", &measured.model, &disk.model),
            ("the serial number", &measured.serial, &disk.serial),
            ("the size", &size_then, &size_now),
            ("the file system", &measured.fs_type, &disk.fs_type),
        ];
        // Names may change between two starts of the machine; without a serial number there is nothing better.
        if measured.serial.is_empty() && disk.serial.is_empty() {
            pairs.push(("the name", &measured.name, &disk.name));
        }
        pairs
            .into_iter()
            .filter(|(_, then, now)| then != now)
            .map(|(what, then, now)| format!("{what} was {then:?} and is {now:?}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the tuner writes it; its own test keeps the file true.
    const SAMPLE: &str = include_str!("../../tuning/tests/io.sample.toml");

    #[test]
    fn what_the_tuner_writes_becomes_settings_of_each_shard() {
        let profile = IoProfile::parse(SAMPLE).expect("the tuner's own");
        let mut engine = EngineConfig::new("x");
        let taken = profile.set(&mut engine, &File::default(), 4);
        assert_eq!(
            taken,
            Taken {
                reads: 8,
                commits: 8,
                requests: 16_000,
                clean_bytes_per_s: 100_000_000
            }
        );
        assert_eq!(engine.reads_in_flight_max, 8);
        assert_eq!(engine.commits_in_flight_max, 8);
        assert_eq!(engine.clean_bytes_per_s, Some(100_000_000));
        assert_eq!(engine.block_bytes, Some(4096));
        let said = File {
            requests_max: Some(77),
            ..File::default()
        };
        engine.requests_max = 77;
        assert_eq!(profile.set(&mut engine, &said, 1).requests, 77);
    }

    #[test]
    fn a_weak_disk_leaves_a_shard_enough_to_work_with() {
        let mut profile = IoProfile::parse(SAMPLE).expect("the tuner's own");
        profile.recommend.read_depth_max = 1;
        profile.recommend.commit_depth = 0;
        profile.recommend.reads_per_s = 0;
        profile.recommend.background_bytes_per_s = 0;
        let mut engine = EngineConfig::new("x");
        let taken = profile.set(&mut engine, &File::default(), 2);
        assert_eq!(
            (taken.reads, taken.commits, taken.requests),
            (4, 2, 1024),
            "{taken}"
        );
        assert_eq!(taken.clean_bytes_per_s, 8 << 20);
    }

    #[test]
    fn another_disk_is_told_and_another_name_alone_is_not() {
        let profile = IoProfile::parse(SAMPLE).expect("the tuner's own");
        let mut disk = Disk {
            name: "nvme7n1".into(),
            model: "Fast Disk".into(),
            serial: "S1".into(),
            size_bytes: 1 << 40,
            fs_type: "xfs".into(),
            is_rotational: false,
        };
        assert!(profile.differences(&disk).is_empty());
        disk.serial = "S2".into();
        disk.fs_type = "ext4".into();
        let found = profile.differences(&disk);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("\"S1\"") && found[0].contains("\"S2\""));
    }

    #[test]
    fn a_file_that_is_not_the_tuners_is_told_and_none_is_fine() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(IoProfile::read(dir.path()), Ok(None));
        for text in ["format = 1\n", "format = 9\n", "\u{1}"] {
            std::fs::write(dir.path().join(NAME), text).expect("written");
            let error = IoProfile::read(dir.path()).expect_err("not the tuner's");
            assert!(error.contains("io.toml"), "{error}");
        }
        std::fs::write(
            dir.path().join(NAME),
            SAMPLE.replace("format = 1", "format = 2"),
        )
        .expect("written");
        let error = IoProfile::read(dir.path()).expect_err("newer");
        assert!(error.contains("format 2"), "{error}");
    }
}
