//! What the file system below a directory says of itself.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// The block where the system does not say: what every device takes.
const BLOCK_BYTES_USUAL: u32 = 4096;

/// Bytes that the file system has free for this process.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The block for direct I/O: at least 4 KiB, since a device that takes less writes whole pages all the same, and more
/// where the file system says so (`statx`, `STATX_DIOALIGN`).
pub(super) fn block_bytes(path: &Path) -> u32 {
    // Only a file tells: the directory's own answer is empty on some file systems.
    let probe = path.join("LOCK");
    let asked = rustix::fs::statx(CWD, &probe, AtFlags::empty(), StatxFlags::DIOALIGN);
    let said = asked.ok().map_or(0, |statx| {
        statx.stx_dio_offset_align.max(statx.stx_dio_mem_align)
    });
    if said.is_power_of_two() && said <= 65_536 {
        said.max(BLOCK_BYTES_USUAL)
    } else {
        BLOCK_BYTES_USUAL
    }
}
