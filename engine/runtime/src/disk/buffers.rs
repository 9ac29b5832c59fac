//! Aligned memory for direct reads, in sizes of powers of two, kept for reuse up to a bound.
#![expect(
    unsafe_code,
    reason = "direct I/O needs memory of a given alignment, which Vec cannot give"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Every buffer starts at a multiple of this; the largest block that a device asks for.
pub(crate) const ALIGNMENT_BYTES: usize = 4096;

const SMALLEST_SHIFT: u32 = 12;
const CLASSES: usize = 12;
/// Of each size; more are given back to the allocator.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A buffer. Its bytes are whatever was there before: the kernel writes them before anyone reads them.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory alone, as a Vec does.
unsafe impl Send for Buffer {}

impl Buffer {
    /// At least `bytes` of it, zeroed, so that no old memory is ever read.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.next_power_of_two().max(1 << SMALLEST_SHIFT);
        let layout = Layout::from_size_align(bytes, ALIGNMENT_BYTES)
            .expect("a read is bounded far below the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        Self { start, layout }
    }

    pub(crate) const fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The first bytes of it.
    pub(crate) fn bytes(&self, count: usize) -> &[u8] {
        assert!(
            count <= self.layout.size(),
            "{count} bytes of a buffer of {}",
            self.layout.size()
        );
        // SAFETY: within the allocation, initialised by `new`, and no operation writes to it while it is borrowed: the
        // disk hands it out only after the operation's completion.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), count) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and owned.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Buffers that are free.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: [Vec<Buffer>; CLASSES],
}

impl Pool {
    /// A buffer of at least this size.
    pub(crate) fn take(&mut self, bytes: usize) -> Buffer {
        let size = bytes.next_power_of_two().max(1 << SMALLEST_SHIFT);
        self.free
            .get_mut(class(size))
            .and_then(Vec::pop)
            .unwrap_or_else(|| Buffer::new(size))
    }

    /// Takes one back.
    pub(crate) fn give(&mut self, buffer: Buffer) {
        let size = buffer.layout.size();
        let Some(free) = self.free.get_mut(class(size)) else {
            return;
        };
        if (free.len() + 1) * size <= KEPT_BYTES_MAX.max(size) {
            free.push(buffer);
        }
    }
}

const fn class(size: usize) -> usize {
    (size.trailing_zeros() - SMALLEST_SHIFT) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back() {
        let mut pool = Pool::default();
        let first = pool.take(5000);
        assert_eq!(first.as_mut_ptr() as usize % ALIGNMENT_BYTES, 0);
        assert_eq!(first.layout.size(), 8192);
        let address = first.as_mut_ptr();
        pool.give(first);
        assert_eq!(pool.take(8192).as_mut_ptr(), address);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pool = Pool::default();
        for _ in 0..1000 {
            pool.give(Buffer::new(4096));
        }
        assert_eq!(pool.free[0].len() * 4096, KEPT_BYTES_MAX);
        pool.give(Buffer::new(64 << 20));
    }
}
