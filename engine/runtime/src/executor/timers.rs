//! Wake-ups at a time: timeouts on the shard's own ring, so that a sleeping loop waits for one thing only.
//!
//! Timeouts are not cancelled: one that is no longer wanted wakes the loop once, for nothing. A later deadline therefore
//! costs no system call, and deadlines mostly move to later.
#![expect(
    unsafe_code,
    reason = "a timeout's submission entry points to its time"
)]

use io_uring::types::Timespec;
use slab::Slab;

use crate::ring::Ring;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// The timeouts under way.
#[derive(Default)]
pub(crate) struct Timers {
    armed: Slab<Armed>,
}

struct Armed {
    at_ns: u64,
    /// In a box: the kernel reads it at submission, and the slab may move by then.
    at: Box<Timespec>,
}

impl Timers {
    /// Makes sure that the loop is woken at this time of `CLOCK_MONOTONIC` or before.
    pub(crate) fn wake_at(&mut self, at_ns: u64, ring: &mut Ring) {
        if self.armed.iter().any(|(_, armed)| armed.at_ns <= at_ns) {
            return;
        }
        let at = Timespec::new()
            .sec(at_ns / NS_PER_SECOND)
            .nsec((at_ns % NS_PER_SECOND) as u32);
        let vacant = self.armed.vacant_entry();
        let slot = vacant.key();
        let armed = vacant.insert(Armed {
            at_ns,
            at: Box::new(at),
        });
        // SAFETY: the box lives until the completion takes it out of the slab.
        unsafe { ring.push_timeout(&raw const *armed.at, slot as u64) };
    }

    /// One has fired.
    pub(crate) fn completion(&mut self, own: u64) {
        self.armed.try_remove(own as usize);
    }
}
