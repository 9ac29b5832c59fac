//! The slow work on files: creating, allocating, filling and deleting, on a helper thread of each shard.
//!
//! A single `fallocate`, or the unlink of a file with many extents, may take many milliseconds; the shard's thread never
//! does either. One thread, in order, so that a file that is removed and made again ends up there.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use gramme_core::port::{FileId, IoError, IoKind, Ticket};
use rustix::fs::{FallocateFlags, Mode, OFlags};

use super::buffers::{ALIGNMENT_BYTES, Buffer};
use crate::mailbox::{Address, Message};

/// Zeros are written in pieces of this size.
const FILL_BYTES: usize = 1 << 20;

/// A long fill leaves room for commits: a pause after each piece, but for the first bytes, which a start waits for.
const FILL_PAUSE: Duration = Duration::from_millis(4);
const FILL_BYTES_AT_ONCE: u64 = 32 << 20;

/// A file that is ready.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: FileId,
    pub(crate) descriptor: OwnedFd,
}

/// What the helper thread does.
pub(super) enum Job {
    Prepare {
        ticket: Ticket,
        file: FileId,
        bytes: u64,
        fill_bytes: u64,
    },
    Remove {
        file: FileId,
        /// The last handle on the file: closing it is what frees its space, and takes long.
        open: Option<Arc<OwnedFd>>,
    },
}

/// The name of a file in its shard's directory.
pub(crate) fn file_name(file: FileId) -> String {
    match file {
        FileId::Segment(segment) => format!("segment-{:08x}.log", segment.0),
        FileId::Checkpoint(slot) => format!("checkpoint-{slot}"),
    }
}

/// Starts the helper thread. It ends when the sender is dropped and everything queued is done.
pub(super) fn start(
    directory: PathBuf,
    name: String,
    answers: Address,
) -> io::Result<(Sender<Job>, JoinHandle<()>)> {
    // As many jobs as the shard has files under way, which its capacity bounds.
    let (sender, receiver) = unbounded();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        for job in receiver {
            match job {
                Job::Prepare {
                    ticket,
                    file,
                    bytes,
                    fill_bytes,
                } => {
                    let result = prepare(&directory, file, bytes, fill_bytes)
                        .map(|descriptor| Prepared { file, descriptor })
                        .map_err(|error| {
                            let path = directory.join(file_name(file));
                            tracing::warn!(path = %path.display(), %error, "cannot make a file ready");
                            io_error(&error)
                        });
                    answers.post_waiting(Message::Prepared { ticket, result });
                }
                Job::Remove { file, open } => {
                    let path = directory.join(file_name(file));
                    if let Err(error) = std::fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "cannot remove a file");
                    }
                    drop(open);
                }
            }
        }
    })?;
    Ok((sender, thread))
}

/// Opens a file of the log for the data path.
pub(super) fn open(path: &Path, create: bool) -> io::Result<OwnedFd> {
    let create = if create {
        OFlags::CREATE
    } else {
        OFlags::empty()
    };
    open_direct(path, OFlags::RDWR | OFlags::DSYNC | create)
}

/// Opens with `O_DIRECT`; without it on a file system that refuses it, which is said once.
fn open_direct(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    static SAID: AtomicBool = AtomicBool::new(false);
    let flags = flags | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o640);
    match rustix::fs::open(path, flags | OFlags::DIRECT, mode) {
        Ok(descriptor) => Ok(descriptor),
        Err(rustix::io::Errno::INVAL) => {
            let descriptor = rustix::fs::open(path, flags, mode)?;
            if !SAID.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    path = %path.display(),
                    "this file system refuses direct I/O; going on through the page cache, which takes memory and time"
                );
            }
            Ok(descriptor)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn prepare(directory: &Path, file: FileId, bytes: u64, fill_bytes: u64) -> io::Result<OwnedFd> {
    let path = directory.join(file_name(file));
    let descriptor = open(&path, true)?;
    let length = rustix::fs::fstat(&descriptor)?.st_size;
    let length = u64::try_from(length).unwrap_or(0);
    if length < fill_bytes {
        // The space first, so that a full disk is noticed before the long write; the length grows with the zeros, so
        // that an interrupted fill goes on where it was.
        allocate(&descriptor, bytes, FallocateFlags::KEEP_SIZE)?;
        write_zeros(&path, length, fill_bytes)?;
    }
    if fill_bytes < bytes {
        allocate(&descriptor, bytes, FallocateFlags::empty())?;
    }
    rustix::fs::fsync(&descriptor)?;
    // The name must be durable before a durable write into the file is acknowledged.
    rustix::fs::fsync(File::open(directory)?)?;
    Ok(descriptor)
}

fn allocate(descriptor: &OwnedFd, bytes: u64, flags: FallocateFlags) -> io::Result<()> {
    match rustix::fs::fallocate(descriptor, flags, 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) if flags.is_empty() => {
            let length = u64::try_from(rustix::fs::fstat(descriptor)?.st_size).unwrap_or(0);
            Ok(rustix::fs::ftruncate(descriptor, length.max(bytes))?)
        }
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn write_zeros(path: &Path, from: u64, upto: u64) -> io::Result<()> {
    // A handle of its own, without `O_DSYNC`: the caller syncs once at the end.
    let file = File::from(open_direct(path, OFlags::WRONLY)?);
    let zeros = Buffer::new(FILL_BYTES);
    let mut offset = from.next_multiple_of(ALIGNMENT_BYTES as u64);
    while offset < upto {
        let rest = usize::try_from(upto - offset).unwrap_or(FILL_BYTES);
        file.write_all_at(zeros.bytes(rest.min(FILL_BYTES)), offset)?;
        offset += FILL_BYTES as u64;
        if (FILL_BYTES_AT_ONCE..upto).contains(&offset) {
            std::thread::sleep(FILL_PAUSE);
        }
    }
    Ok(())
}

/// An error as the shard knows it.
pub(crate) fn io_error(error: &io::Error) -> IoError {
    io_error_of(error.raw_os_error().unwrap_or(libc::EIO))
}

/// An error number as the shard knows it.
pub(super) const fn io_error_of(errno: i32) -> IoError {
    let kind = match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => IoKind::Full,
        _ => IoKind::Failed,
    };
    IoError { kind, errno }
}
