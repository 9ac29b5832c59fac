//! Receive buffers that the kernel picks from: one ring of them for all connections of a shard, so that an idle
//! connection holds none.
//!
//! Owns the memory of the buffers and of the ring that lends them.
//!
//! Invariants:
//! - a buffer is the kernel's from `give_back` until a completion names it, ours from then on;
//! - the memory is freed only after the ring was unregistered; if that never happened it is leaked, since the kernel
//!   may still write to it.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use gramme_engine::ring::Ring;
use io_uring::types::BufRingEntry;

/// The buffer group of the reactor; nothing else on the shard's ring has one.
pub(super) const GROUP: u16 = 1;

const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 16 << 10;
const PAGE_BYTES: usize = 4096;
/// The ring of entries comes first, then the buffers, from a page's begin on.
const ENTRIES_BYTES: usize =
    (BUFFERS as usize * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
const ALL_BYTES: usize = ENTRIES_BYTES + BUFFERS as usize * BUFFER_BYTES;

const _: () = assert!(BUFFERS.is_power_of_two());

pub(super) struct Buffers {
    base: NonNull<u8>,
    tail: u16,
    is_registered: bool,
}

impl Buffers {
    const LAYOUT: Layout = match Layout::from_size_align(ALL_BYTES, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("the size is a constant that fits"),
    };

    /// Allocates and registers them.
    pub(super) fn register(ring: &Ring) -> io::Result<Self> {
        // SAFETY: the layout is not empty.
        let Some(base) = NonNull::new(unsafe { alloc_zeroed(Self::LAYOUT) }) else {
            handle_alloc_error(Self::LAYOUT)
        };
        let mut buffers = Self {
            base,
            tail: 0,
            is_registered: false,
        };
        // SAFETY: the entries are page-aligned and stay until `unregister`, or for ever.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                base.as_ptr() as u64,
                BUFFERS,
                GROUP,
                0,
            )?;
        }
        buffers.is_registered = true;
        (0..BUFFERS).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// The first `bytes` of a buffer that a completion has named and that was not given back yet.
    pub(super) fn received(&self, id: u16, bytes: usize) -> &[u8] {
        assert!(id < BUFFERS && bytes <= BUFFER_BYTES);
        // SAFETY: within the allocation, zeroed at first, and the kernel does not write to a buffer that is ours.
        unsafe { std::slice::from_raw_parts(self.at(id), bytes) }
    }

    /// Lends a buffer to the kernel again.
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < BUFFERS);
        let entries = self.base.as_ptr().cast::<BufRingEntry>();
        let place = usize::from(self.tail & (BUFFERS - 1));
        let address = self.at(id) as u64;
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `place` is within the entries, the kernel reads only those before the published tail, and the tail
        // lies in the reserved field of the first entry, which the three setters leave alone.
        unsafe {
            let entry = &mut *entries.add(place);
            entry.set_addr(address);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Takes them all from the kernel: no receive may be under way.
    pub(super) fn unregister(&mut self, ring: &Ring) -> io::Result<()> {
        ring.submitter().unregister_buf_ring(GROUP)?;
        self.is_registered = false;
        Ok(())
    }

    fn at(&self, id: u16) -> *mut u8 {
        // SAFETY: callers have checked the id; the result is within the allocation.
        unsafe {
            self.base
                .as_ptr()
                .add(ENTRIES_BYTES + usize::from(id) * BUFFER_BYTES)
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.is_registered {
            // SAFETY: allocated with this layout, and the kernel has let go of it.
            unsafe { dealloc(self.base.as_ptr(), Self::LAYOUT) };
        }
    }
}
