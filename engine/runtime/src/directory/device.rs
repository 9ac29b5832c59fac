//! What the file system below a directory says of itself.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// The block where the system does not say: what every device takes.
const BLOCK_BYTES_USUAL: u32 = 4096;

/// No device takes less.
const SECTOR_BYTES: u32 = 512;

/// Whoever says more is not believed.
const BLOCK_BYTES_MAX: u32 = 65_536;

/// Bytes that the file system has free for this process.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The block for direct I/O: at least 4 KiB, since a device that takes less writes whole pages all the same, and more
/// where the file system or whoever measured the device says so.
pub(super) fn block_bytes(path: &Path, measured: Option<u32>) -> u32 {
    [align_bytes(path), measured.filter(is_block)]
        .into_iter()
        .flatten()
        .fold(BLOCK_BYTES_USUAL, u32::max)
}

/// What direct I/O must be a multiple of, where the file system says so (`statx`, `STATX_DIOALIGN`). A read costs the device
/// what it asks for, so one of a record asks for no more than that.
pub(super) fn align_bytes(path: &Path) -> Option<u32> {
    // Only a file tells: the directory's own answer is empty on some file systems.
    let probe = path.join("LOCK");
    let statx = rustix::fs::statx(CWD, &probe, AtFlags::empty(), StatxFlags::DIOALIGN).ok()?;
    Some(statx.stx_dio_offset_align.max(statx.stx_dio_mem_align)).filter(is_block)
}

fn is_block(bytes: &u32) -> bool {
    bytes.is_power_of_two() && (SECTOR_BYTES..=BLOCK_BYTES_MAX).contains(bytes)
}
