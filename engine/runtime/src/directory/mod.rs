//! A node's data directory: who may use it, what is fixed in it, where its shards' files lie.
//!
//! ```text
//! LOCK                    locked while a process uses the directory; holds its pid
//! node.toml               the superblock: format, node id, secret, shape
//! shard-0/ shard-1/ …     segment-%08x.log, checkpoint-0, checkpoint-1
//! ```
//! Owns the lock and the superblock. Never touches a record.
//!
//! Invariants:
//! - the superblock is replaced whole (written beside, synced, renamed), so it is always one or the other;
//! - what it fixes (node id, secret, partitions, segment length, block) never changes afterwards.

mod device;
mod source;
mod superblock;

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::limits::PARTITIONS_DEFAULT;

pub use source::FileSource;
pub(crate) use superblock::random;
use superblock::{FORMAT, Superblock};

/// What a new directory is made with; an existing one keeps what it has, but for the shards.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryOptions {
    /// Shards to open with.
    pub shards: u16,
    /// Partitions of a new cluster.
    pub partitions: u32,
    /// A segment's length; none: by the size of the file system.
    pub segment_bytes: Option<u32>,
    /// The block, where it is to be larger than what the file system says.
    pub block_bytes: Option<u32>,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            shards: 1,
            partitions: PARTITIONS_DEFAULT,
            segment_bytes: None,
            block_bytes: None,
        }
    }
}

/// Why a directory cannot be used. State: nothing in it was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process has it.
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process, as the lock file has it.
        pid: String,
    },
    /// It is of a format that this version does not know.
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The superblock cannot be understood.
    Superblock {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It holds files that are not gramme's, and no superblock.
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path, pid } => {
                write!(
                    f,
                    "{} is in use by process {pid}; stop it, or use another directory",
                    path.display()
                )
            }
            Self::Newer { path, found } => write!(
                f,
                "{} has format {found}, this version knows up to {FORMAT}; use the gramme that wrote it, or a newer one",
                path.display()
            ),
            Self::Superblock { path, why } => {
                write!(
                    f,
                    "{} cannot be understood: {why}; restore it from a backup of the directory",
                    path.display()
                )
            }
            Self::Foreign { path } => {
                write!(
                    f,
                    "{} holds files but no gramme node; use an empty directory, or a node's own",
                    path.display()
                )
            }
            Self::Io { doing, path, error } => write!(f, "{doing} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DirectoryError {}

fn io<T>(
    doing: &'static str,
    path: &Path,
    result: std::io::Result<T>,
) -> Result<T, DirectoryError> {
    result.map_err(|error| DirectoryError::Io {
        doing,
        path: path.to_path_buf(),
        error,
    })
}

/// A data directory that this process has locked.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    superblock: Superblock,
    /// Shards that the files are dealt to, where that differs from what was asked for.
    dealt_to: u16,
    asked: u16,
    _lock: Lock,
}

impl Directory {
    /// Opens a directory, or makes it where it is missing or empty.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(path: &Path, options: &DirectoryOptions) -> Result<Self, DirectoryError> {
        io("cannot make", path, fs::create_dir_all(path))?;
        let lock = lock(path)?;
        let superblock = match Superblock::read(path)? {
            Some(superblock) => superblock,
            None => {
                let mut entries = io("cannot list", path, fs::read_dir(path))?;
                // `io.toml` is what the disk was measured with before its first use.
                let is_foreign = entries.any(|entry| {
                    entry.is_ok_and(|e| {
                        !["LOCK", "lost+found", "io.toml"]
                            .iter()
                            .any(|own| e.file_name() == *own)
                    })
                });
                if is_foreign {
                    return Err(DirectoryError::Foreign {
                        path: path.to_path_buf(),
                    });
                }
                let superblock = Superblock::new(path, options)?;
                superblock.write(path)?;
                superblock
            }
        };
        let mut superblock = superblock;
        superblock.starts += 1;
        superblock.write(path)?;
        let directory = Self {
            path: path.to_path_buf(),
            dealt_to: superblock.shards,
            asked: options.shards,
            superblock,
            _lock: lock,
        };
        for shard in 0..directory.dealt_to {
            let shard_dir = directory.shard_dir(ShardIndex(shard));
            io("cannot make", &shard_dir, fs::create_dir_all(&shard_dir))?;
        }
        Ok(directory)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node whose directory it is.
    pub const fn node_id(&self) -> NodeId {
        NodeId(self.superblock.node_id)
    }

    /// The secret that key tags are seeded with.
    pub const fn tag_seed(&self) -> u64 {
        self.superblock.tag_seed
    }

    /// A segment's length.
    pub const fn segment_bytes(&self) -> u32 {
        self.superblock.segment_bytes
    }

    /// The block that everything written is a multiple of.
    pub const fn block_bytes(&self) -> u32 {
        self.superblock.block_bytes
    }

    /// What a read of one record is a multiple of: as little as the device takes.
    pub fn read_align_bytes(&self) -> u32 {
        device::align_bytes(&self.path).map_or(self.superblock.block_bytes, |bytes| {
            bytes.min(self.superblock.block_bytes)
        })
    }

    /// The cluster's partitions.
    pub const fn partitions(&self) -> u32 {
        self.superblock.partitions
    }

    /// The shards that its files are dealt to.
    pub const fn shards(&self) -> u16 {
        self.dealt_to
    }

    /// The shards that it was opened for.
    pub const fn shards_asked(&self) -> u16 {
        self.asked
    }

    /// How often it was opened.
    pub const fn starts(&self) -> u64 {
        self.superblock.starts
    }

    /// Where a shard's files lie.
    pub fn shard_dir(&self, shard: ShardIndex) -> PathBuf {
        self.generation_dir(self.superblock.dealing, shard)
    }

    fn generation_dir(&self, dealing: u32, shard: ShardIndex) -> PathBuf {
        match dealing {
            0 => self.path.join(format!("shard-{}", shard.0)),
            dealing => self.path.join(format!("shard-{}.{dealing}", shard.0)),
        }
    }

    /// Where a shard's files lie once they are dealt anew, to `shards_asked` shards.
    pub fn next_shard_dir(&self, shard: ShardIndex) -> PathBuf {
        self.generation_dir(self.superblock.dealing + 1, shard)
    }

    /// The files were dealt anew: they count from now on, the former ones are removed.
    ///
    /// # Errors
    /// [`DirectoryError`]; then the former ones count still.
    pub fn adopt_next(&mut self) -> Result<(), DirectoryError> {
        let former: Vec<PathBuf> = (0..self.dealt_to)
            .map(|shard| self.shard_dir(ShardIndex(shard)))
            .collect();
        let next = Superblock {
            shards: self.asked,
            dealing: self.superblock.dealing + 1,
            ..self.superblock.clone()
        };
        next.write(&self.path)?;
        self.superblock = next;
        self.dealt_to = self.asked;
        for dir in former {
            io("cannot remove", &dir, fs::remove_dir_all(&dir))?;
        }
        Ok(())
    }

    /// The files of a shard, to recover from.
    pub fn source(&self, shard: ShardIndex) -> FileSource {
        FileSource::new(self.shard_dir(shard))
    }

    /// What each of so many shards may take: nine tenths of what the file system has for them.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn capacity_bytes_default(&self, shards: u16) -> Result<u64, DirectoryError> {
        let free = io(
            "cannot ask the file system of",
            &self.path,
            device::free_bytes(&self.path),
        )?;
        let held: u64 = (0..self.dealt_to)
            .map(|shard| held_bytes(&self.shard_dir(ShardIndex(shard))))
            .sum();
        Ok((free + held) / 10 * 9 / u64::from(shards.max(1)))
    }
}

fn held_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// The locked file. A child of this process that was forked in the meantime shares the lock until it executes its
/// program, so closing alone would leave the directory in use for as long.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn lock(path: &Path) -> Result<Lock, DirectoryError> {
    let lock_path = path.join("LOCK");
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path);
    let mut lock = io("cannot open", &lock_path, opened)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            return Err(DirectoryError::InUse {
                path: path.to_path_buf(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(fs::TryLockError::Error(error)) => {
            return Err(DirectoryError::Io {
                doing: "cannot lock",
                path: lock_path,
                error,
            });
        }
    }
    let mut lock = Lock(lock);
    let written = lock
        .0
        .set_len(0)
        .and_then(|()| lock.0.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(lock.0, "{}", std::process::id()));
    io("cannot write", &lock_path, written)?;
    Ok(lock)
}

#[cfg(test)]
mod directory_tests;
