//! One io_uring for each shard: its disk, its wake-ups and its network share it, so that a turn of the loop costs one
//! system call.
//!
//! Owns the ring and the meaning of `user_data`: the top byte names who submitted, the rest is the submitter's own.
//! Waits only in [`submit_and_wait`](Ring::submit_and_wait); an executor with other tasks sleeps on the event file that is
//! registered here instead.
#![expect(
    unsafe_code,
    reason = "submission entries carry raw pointers that the kernel reads and writes"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Who submitted an operation: the top byte of its `user_data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Owner {
    /// The shard's disk.
    Disk = 1,
    /// The executor itself: wake-ups and timeouts.
    Executor = 2,
    /// The edge that is plugged in (the network).
    Edge = 3,
}

const OWNER_SHIFT: u32 = 56;
const OWN_MASK: u64 = (1 << OWNER_SHIFT) - 1;

/// The `user_data` of an operation; `own` has 56 bits.
pub const fn user_data(owner: Owner, own: u64) -> u64 {
    ((owner as u64) << OWNER_SHIFT) | (own & OWN_MASK)
}

/// One finished operation.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// Who submitted it (the byte of [`Owner`]).
    pub owner: u8,
    /// The submitter's own 56 bits.
    pub own: u64,
    /// As of the system call: a count, or a negative error number.
    pub result: i32,
    /// The completion's flags (`IORING_CQE_F_…`).
    pub flags: u32,
}

/// A shard's ring.
pub struct Ring {
    uring: IoUring,
    wake: OwnedFd,
    unsubmitted: u32,
    /// Operations that did not fit into the submission queue, in order; they go first.
    overflow: std::collections::VecDeque<squeue::Entry>,
}

impl Ring {
    /// A ring with `entries` submission slots. It must be made and used on one thread.
    ///
    /// # Errors
    /// What the kernel said: io_uring may be forbidden here (`kernel.io_uring_disabled`, seccomp) or locked memory short.
    pub fn new(entries: u32) -> io::Result<Self> {
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        Self::with_wake(entries, wake)
    }

    /// As [`new`](Self::new), with an event file that others ring too. It must be a blocking one: glommio's read of a
    /// non-blocking one would not wait.
    ///
    /// # Errors
    /// As for `new`.
    pub fn with_wake(entries: u32, wake: OwnedFd) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(entries.saturating_mul(4))
            .build(entries)?;
        uring.submitter().register_eventfd(wake.as_raw_fd())?;
        Ok(Self {
            uring,
            wake,
            unsubmitted: 0,
            overflow: std::collections::VecDeque::new(),
        })
    }

    /// Becomes readable when an operation finishes while the executor sleeps.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Lets completions ring the event file: before a sleep, and followed by a look at
    /// [`has_pending`](Self::has_pending).
    pub fn enable_wake(&mut self) {
        self.uring.completion().enable_eventfd();
    }

    /// Spares the kernel the ringing while the loop is awake and looks for itself.
    pub fn disable_wake(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Queues one operation; it is submitted at the end of the turn.
    ///
    /// # Safety
    /// What the entry points to must stay valid, and unchanged as the operation needs it, until its completion.
    pub unsafe fn push(&mut self, entry: squeue::Entry) {
        self.unsubmitted += 1;
        if !self.overflow.is_empty() {
            self.overflow.push_back(entry);
            return;
        }
        // SAFETY: passed on to our caller.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        if pushed.is_err() {
            self.overflow.push_back(entry);
        }
    }

    /// Submits what is queued and runs the kernel's deferred work, without waiting.
    ///
    /// # Errors
    /// What `io_uring_enter` said; `EBUSY` and `EINTR` are not errors here.
    pub fn submit(&mut self) -> io::Result<()> {
        loop {
            self.refill();
            // With deferred task work, completions appear only inside `enter` with GETEVENTS; wait for none.
            // SAFETY: no argument structure is passed.
            let entered = unsafe {
                let queued = self.uring.submission().len() as u32;
                self.uring
                    .submitter()
                    .enter::<libc::sigset_t>(queued, 0, 1, None)
            };
            if !is_entered(entered)? {
                return Ok(());
            }
            if self.overflow.is_empty() {
                self.unsubmitted = 0;
                return Ok(());
            }
        }
    }

    /// Submits what is queued and sleeps until something has finished, or the time is over.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn submit_and_wait(&mut self, time: Duration) -> io::Result<()> {
        self.refill();
        // What does not fit must not wait for what does.
        let wanted = usize::from(self.overflow.is_empty());
        let time = types::Timespec::from(time);
        let until = types::SubmitArgs::new().timespec(&time);
        let entered = self.uring.submitter().submit_with_args(wanted, &until);
        if is_entered(entered)? && self.overflow.is_empty() {
            self.unsubmitted = 0;
        }
        Ok(())
    }

    fn refill(&mut self) {
        while let Some(entry) = self.overflow.pop_front() {
            // SAFETY: promised to `push`.
            if unsafe { self.uring.submission().push(&entry) }.is_err() {
                self.overflow.push_front(entry);
                break;
            }
        }
    }

    /// Moves what has finished into `into`; returns how many.
    pub fn completions(&mut self, into: &mut Vec<Completion>) -> usize {
        let before = into.len();
        into.extend(
            self.uring
                .completion()
                .map(|entry: cqueue::Entry| Completion {
                    owner: (entry.user_data() >> OWNER_SHIFT) as u8,
                    own: entry.user_data() & OWN_MASK,
                    result: entry.result(),
                    flags: entry.flags(),
                }),
        );
        into.len() - before
    }

    /// How many operations are queued and not yet submitted.
    pub const fn unsubmitted(&self) -> u32 {
        self.unsubmitted
    }

    /// Whether operations are queued and not yet submitted.
    pub const fn has_unsubmitted(&self) -> bool {
        self.unsubmitted > 0
    }

    /// Whether the kernel has completions at hand, or work that would make some, so that sleeping would be wrong.
    pub fn has_pending(&mut self) -> bool {
        !self.uring.completion().is_empty() || self.uring.submission().taskrun()
    }

    /// The raw submitter, for registrations (provided buffers, files).
    pub fn submitter(&self) -> io_uring::Submitter<'_> {
        self.uring.submitter()
    }

    /// Queues a wake-up at a time of `CLOCK_MONOTONIC`; `at` must stay valid until its completion.
    ///
    /// # Safety
    /// As for [`push`](Self::push).
    pub unsafe fn push_timeout(&mut self, at: *const types::Timespec, own: u64) {
        let entry = opcode::Timeout::new(at)
            .flags(types::TimeoutFlags::ABS)
            .build()
            .user_data(user_data(Owner::Executor, own));
        // SAFETY: promised by the caller.
        unsafe { self.push(entry) };
    }
}

/// Whether the kernel took everything; it may say that it is busy, was interrupted, or that the time is over.
fn is_entered(entered: io::Result<usize>) -> io::Result<bool> {
    match entered {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EBUSY | libc::EINTR | libc::EAGAIN | libc::ETIME) => Ok(false),
            _ => Err(error),
        },
    }
}
