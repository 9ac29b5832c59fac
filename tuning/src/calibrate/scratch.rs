//! The scratch file: written once in full, measured, removed.
//!
//! Owns its name, its content and its end.
//! Never opens a file that exists: somebody else's data cannot be overwritten.

use super::CalibrateError;
use crate::sys::{self, Op, Ring};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILL_BYTES: u32 = 1 << 20;
const FILL_DEPTH: usize = 4;
/// Room that must stay for others.
const SPARE_BYTES: u64 = 64 << 20;

pub(super) struct Scratch {
    path: PathBuf,
    size_bytes: u64,
    alignment_bytes: u32,
}

impl Scratch {
    /// Makes and fills the file. Blocks that were never written would be answered from the map, without the disk.
    pub(super) fn make(dir: &Path, size_bytes: u64) -> Result<Self, CalibrateError> {
        let size_bytes = size_bytes.next_multiple_of(u64::from(FILL_BYTES));
        let path = dir.join(format!(".gramme-calibrate-{}", std::process::id()));
        let failed = |cause| CalibrateError::Scratch {
            path: path.clone(),
            cause,
        };
        let needed_bytes = size_bytes + SPARE_BYTES;
        let free_bytes = sys::free_bytes(&dir.to_string_lossy()).map_err(failed)?;
        if free_bytes < needed_bytes {
            return Err(CalibrateError::Space {
                path: dir.to_owned(),
                free_bytes,
                needed_bytes,
            });
        }
        let direct = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path);
        let file = direct.map_err(|cause| {
            // With O_DIRECT the kernel may make the file and only then refuse it.
            if cause.raw_os_error() == Some(libc::EINVAL) {
                let _ = fs::remove_file(&path);
            }
            failed(cause)
        })?;
        // From here on `Drop` removes the file.
        let mut scratch = Self {
            path: path.clone(),
            size_bytes,
            alignment_bytes: 512,
        };
        let said = sys::direct_alignment(&path.to_string_lossy())
            .ok()
            .flatten();
        scratch.alignment_bytes = said.unwrap_or(4096).clamp(512, 4096);
        scratch.fill(file).map_err(|cause| CalibrateError::Disk {
            point: "filling the scratch file".into(),
            cause,
        })?;
        Ok(scratch)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn alignment_bytes(&self) -> u32 {
        self.alignment_bytes
    }

    /// Opens the file for a load, with `O_DSYNC` where each write is to be durable by itself.
    pub(super) fn open(&self, durable: bool) -> io::Result<File> {
        let flags = libc::O_DIRECT | if durable { libc::O_DSYNC } else { 0 };
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&self.path)
    }

    fn fill(&self, file: File) -> io::Result<()> {
        let mut ring = Ring::new(file.try_clone()?, FILL_DEPTH, FILL_BYTES as usize)?;
        let mut free: Vec<usize> = (0..FILL_DEPTH).collect();
        let mut offset = 0;
        while offset < self.size_bytes || !ring.is_idle() {
            while offset < self.size_bytes
                && let Some(slot) = free.pop()
            {
                ring.start(
                    slot,
                    Op::Write {
                        offset,
                        bytes: FILL_BYTES,
                    },
                )?;
                offset += u64::from(FILL_BYTES);
            }
            let mut failure = None;
            ring.wait(&mut |slot, result| {
                free.push(slot);
                match result {
                    Ok(FILL_BYTES) => {}
                    Ok(bytes) => {
                        failure = Some(io::Error::other(format!("short write of {bytes} bytes")))
                    }
                    Err(error) => failure = Some(error),
                }
            })?;
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        file.sync_all()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the name says whose file it is.
        let _ = fs::remove_file(&self.path);
    }
}
