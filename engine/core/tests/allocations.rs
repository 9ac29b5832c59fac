//! The hot paths do not allocate: a get from memory, and a small `latest` put, in a shard that is warm.
//!
//! Method: an allocator that counts. Warm means that every buffer has been round once; what the disk in memory
//! allocates is made beforehand.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

mod rig;

use rig::{Rig, key};

thread_local! {
    /// By this thread; the test harness has one of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe; it only counts and hands on"
)]
// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised us.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const KEYS: u64 = 10_000;

#[test]
fn a_get_from_memory_and_a_small_put_allocate_nothing() {
    let mut rig = Rig::new(16 << 20);
    // 25 MB: every buffer of the tail has been used and evicted, and the segment has room for what is measured.
    for k in 0..16 * KEYS {
        rig.put(&key(k % KEYS), &[7; 80]);
        if k % 32 == 31 {
            rig.turn();
        }
    }
    rig.turn();
    rig.get(&key(0));
    assert_eq!(rig.failed, 0);

    let gets = allocations_of(|| {
        for k in 0..KEYS {
            rig.get(&key(k));
        }
    });
    assert_eq!(
        (rig.failed, rig.disk_reads()),
        (0, 0),
        "all of them lie in memory"
    );
    assert_eq!(gets, 0, "allocations by {KEYS} gets from memory");

    // More than a buffer's worth, in commits of 32.
    let puts = allocations_of(|| {
        for k in 0..KEYS {
            rig.put(&key(k), &[8; 80]);
            if k % 32 == 31 {
                rig.turn();
            }
        }
    });
    assert_eq!(rig.failed, 0);
    assert_eq!(puts, 0, "allocations by {KEYS} puts and their commits");
}
