//! How the loop sleeps, and what wakes it.
//!
//! A loop that is alone on its executor sleeps in its own ring: one system call submits what is left, runs what the
//! kernel deferred, and waits for a completion, a doorbell (the event file, read by the same ring) or the next deadline.
//! Once there are futures of callers beside it, it has to sleep where they do: in glommio, which reads the event file
//! that the ring's completions ring too. That way passes two rings and costs a wake-up some 40 µs more, so while the disk
//! has something to do, which ends soon, it waits in its own ring all the same, for [`DISK_WAIT_MAX`] at a time.
//! Both may have a read of the event file under way then; whichever gets the ring, the other is late by that time at most.
//!
//! Invariant: whoever looks asleep has looked for work after saying so (see `doorbell.rs`).
#![expect(
    unsafe_code,
    reason = "glommio takes raw descriptors, and a read's entry points to its buffer"
)]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::BufferedFile;
use io_uring::{opcode, types};

use super::{Core, Stop};
use crate::clock;
use crate::ring::{Owner, Ring, user_data};

/// How long a wake-up that got lost between glommio's ring and ours may hold a shard up.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a loop sleeps in its own ring at most. Nothing is known to get lost there; if something ever does, a shard
/// is late and not gone.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How long callers' futures may have to wait for what is not the shard's (their own timers and files) while the shard
/// waits for its disk in its own ring: hardly longer than a read takes, and two wake-ups less for each.
const DISK_WAIT_MAX: Duration = Duration::from_micros(200);

/// The doorbell's read among the executor's operations; timers have slots from zero.
const BELL: u64 = 1 << 40;

/// The doorbell as the shard's own ring reads it.
pub(super) struct Bell {
    event: OwnedFd,
    /// In a box: the kernel writes to it while the read is under way.
    count: Box<u64>,
    is_armed: bool,
}

impl Bell {
    pub(super) fn new(event: OwnedFd) -> Self {
        Self {
            event,
            count: Box::new(0),
            is_armed: false,
        }
    }

    /// Has the ring listen to it.
    fn arm(&mut self, ring: &mut Ring) {
        if core::mem::replace(&mut self.is_armed, true) {
            return;
        }
        let into: *mut u64 = &raw mut *self.count;
        let entry = opcode::Read::new(types::Fd(self.event.as_raw_fd()), into.cast(), 8)
            .build()
            .user_data(user_data(Owner::Executor, BELL));
        // SAFETY: box and descriptor live until the completion: the core outlives its loop, and is leaked when that fails.
        unsafe { ring.push(entry) };
    }

    /// Whether a completion was the bell's: it was rung.
    pub(super) const fn completion(&mut self, own: u64) -> bool {
        let is_bell = own == BELL;
        if is_bell {
            self.is_armed = false;
        }
        is_bell
    }
}

/// The event file as glommio reads it; made inside the executor that reads it.
pub(crate) fn wake_file(event: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is given up here and owned by the file.
    unsafe { BufferedFile::from_raw_fd(event.into_raw_fd()) }
}

/// A read of the event file through glommio. It stays under way from one sleep to the next until it ends.
pub(super) type WakeRead<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

/// Has glommio look at its rings, also when nothing woke it. Seen once: a shard with a cold scan under way slept in
/// glommio for good, and went on as soon as a debugger interrupted its system call; a wake-up between the two rings was
/// lost. Until its cause is found, this bounds what such a loss can cost.
pub(super) async fn look_now_and_then() {
    loop {
        glommio::timer::sleep(LOOK_INTERVAL).await;
    }
}

/// Sleeps in glommio, until the event file or a local future has something for the loop.
pub(super) async fn sleep_beside_others<'a>(
    core: &Rc<RefCell<Core>>,
    wake: &'a BufferedFile,
    read: &mut Option<WakeRead<'a>>,
) -> io::Result<()> {
    let is_asleep = core.borrow_mut().fall_asleep()?;
    if is_asleep {
        wait(core, wake, read).await?;
    }
    core.borrow_mut().wake_up(is_asleep);
    Ok(())
}

async fn wait<'a>(
    core: &Rc<RefCell<Core>>,
    wake: &'a BufferedFile,
    read: &mut Option<WakeRead<'a>>,
) -> io::Result<()> {
    poll_fn(|context| {
        {
            let mut core = core.borrow_mut();
            if core.port.is_turn_open || core.port.has_effects() {
                return Poll::Ready(Ok(()));
            }
            core.sleeper = Some(context.waker().clone());
        }
        let reading = read.get_or_insert_with(|| {
            Box::pin(async move {
                wake.read_at(0, 8).await.map_err(io::Error::from)?;
                Ok(())
            })
        });
        let polled = reading.as_mut().poll(context);
        if polled.is_ready() {
            *read = None;
        }
        polled
    })
    .await
}

impl Core {
    /// How long the loop may sleep in its own ring, if it may.
    pub(super) fn sleep_alone_max(&self) -> Option<Duration> {
        if self.is_alone {
            Some(SLEEP_MAX)
        } else if self.disk.is_idle() {
            None
        } else {
            Some(DISK_WAIT_MAX)
        }
    }

    /// Sleeps in the shard's own ring, for `time_max` at most. Nothing else runs on this thread meanwhile.
    pub(super) fn sleep_alone(&mut self, time_max: Duration) -> io::Result<()> {
        self.bell.arm(&mut self.ring);
        self.ring.disable_wake();
        let deadline_ns = self.deadline_ns();
        self.doorbell.fall_asleep();
        // What is unsubmitted now is the bell's read, which goes with the wait.
        let may_sleep = self.inbox.is_empty() && !self.ring.has_pending() && !self.is_stopped();
        if may_sleep {
            self.port.now = clock::now();
            let now_ns = self.port.now.mono_ns;
            let wait = deadline_ns.map_or(time_max, |at_ns| {
                Duration::from_nanos(at_ns.saturating_sub(now_ns)).min(time_max)
            });
            if !wait.is_zero() {
                self.ring.submit_and_wait(wait)?;
            }
        }
        self.doorbell.wake_up();
        self.note_sleep(may_sleep);
        Ok(())
    }

    /// Makes everything ready that can wake the loop through glommio; returns whether it may sleep.
    fn fall_asleep(&mut self) -> io::Result<bool> {
        if let Some(at_ns) = self.deadline_ns() {
            self.timers.wake_at(at_ns, &mut self.ring);
            if self.ring.has_unsubmitted() {
                self.ring.submit()?;
            }
        }
        self.ring.enable_wake();
        self.doorbell.fall_asleep();
        let may_sleep = !self.has_work() && !self.is_stopped();
        if may_sleep {
            self.port.now = clock::now();
        }
        Ok(may_sleep)
    }

    fn wake_up(&mut self, was_asleep: bool) {
        self.ring.disable_wake();
        self.doorbell.wake_up();
        self.sleeper = None;
        self.note_sleep(was_asleep);
    }

    fn note_sleep(&mut self, was_asleep: bool) {
        if was_asleep {
            let slept_ns = clock::mono_ns().saturating_sub(self.port.now.mono_ns);
            self.spin.slept(slept_ns);
        }
    }

    /// When the loop has to be awake at the latest.
    fn deadline_ns(&self) -> Option<u64> {
        let edge_until_ns = match self.stop {
            Stop::Asked { edge_until_ns, .. } => Some(edge_until_ns),
            Stop::No | Stop::Done => None,
        };
        let deadlines_ns = [
            self.port.shard.next_deadline_ns(),
            self.port.wake_at_ns,
            edge_until_ns,
        ];
        deadlines_ns.into_iter().flatten().min()
    }
}
