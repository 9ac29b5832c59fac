//! The superblock: what is fixed when a directory is made.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::device;
use super::{DirectoryError, DirectoryOptions, io};

/// The newest format that this version reads and writes.
pub(super) const FORMAT: u32 = 1;
const NAME: &str = "node.toml";
/// A segment's length where the file system is large.
const SEGMENT_BYTES: u64 = 256 << 20;
/// The least length of a segment.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The least number of segments that a shard's share of the file system is cut into.
const SEGMENTS_A_SHARD: u64 = 32;

/// What a directory's superblock says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Superblock {
    pub(super) format: u32,
    #[serde(with = "hex")]
    pub(super) node_id: u64,
    #[serde(with = "hex")]
    pub(super) tag_seed: u64,
    pub(super) partitions: u32,
    pub(super) shards: u16,
    /// How often the files were dealt anew to another number of shards.
    pub(super) dealing: u32,
    pub(super) segment_bytes: u32,
    pub(super) block_bytes: u32,
    pub(super) starts: u64,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

/// 64 random bits as text: TOML's integers have a sign.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

/// 64 bits from the system.
pub(crate) fn random() -> Result<u64, DirectoryError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    io(
        "cannot read",
        path,
        File::open(path).and_then(|mut file| file.read_exact(&mut bytes)),
    )?;
    Ok(u64::from_le_bytes(bytes))
}

impl Superblock {
    /// Of a new directory.
    pub(super) fn new(path: &Path, options: &DirectoryOptions) -> Result<Self, DirectoryError> {
        let free = io(
            "cannot ask the file system of",
            path,
            device::free_bytes(path),
        )?;
        let share = free / SEGMENTS_A_SHARD / u64::from(options.shards.max(1));
        let fitting = share.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
        let power = 1_u64 << (63 - fitting.leading_zeros());
        Ok(Self {
            format: FORMAT,
            node_id: random()?,
            tag_seed: random()?,
            partitions: options.partitions,
            shards: options.shards,
            dealing: 0,
            segment_bytes: options
                .segment_bytes
                .unwrap_or_else(|| u32::try_from(power).unwrap_or(1 << 20)),
            block_bytes: device::block_bytes(path, options.block_bytes),
            starts: 0,
        })
    }

    /// The superblock of a directory; none where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, DirectoryError> {
        let file = path.join(NAME);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return io("cannot read", &file, Err(error)),
        };
        let wrong = |why: String| DirectoryError::Superblock {
            path: file.clone(),
            why,
        };
        let format: OnlyFormat = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if format.format > FORMAT {
            return Err(DirectoryError::Newer {
                path: path.to_path_buf(),
                found: format.format,
            });
        }
        toml::from_str(&text)
            .map(Some)
            .map_err(|error| wrong(error.to_string()))
    }

    /// Replaces the superblock, whole.
    pub(super) fn write(&self, path: &Path) -> Result<(), DirectoryError> {
        let (file, beside) = (path.join(NAME), path.join("node.toml.new"));
        let text = toml::to_string(self).map_err(|error| DirectoryError::Superblock {
            path: file.clone(),
            why: error.to_string(),
        })?;
        let written = File::create(&beside).and_then(|mut out| {
            out.write_all(text.as_bytes())?;
            out.sync_all()
        });
        io("cannot write", &beside, written)?;
        io("cannot replace", &file, fs::rename(&beside, &file))?;
        io(
            "cannot sync",
            path,
            File::open(path).and_then(|dir| dir.sync_all()),
        )
    }
}
