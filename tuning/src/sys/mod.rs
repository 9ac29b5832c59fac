//! System calls: the only unsafe code of this package.
//!
//! Owns the ring that measures a disk, pinning, the thread's clocks, and the questions that no file answers.
//! Never decides anything; each function wraps one call and is safe for every argument.
#![expect(
    unsafe_code,
    reason = "io_uring submissions and libc calls have no safe form in std; each block says why it is sound"
)]

mod ring;

pub(crate) use ring::{Op, Ring};

use std::ffi::CString;
use std::io;
use std::time::Duration;

/// Opens and closes a ring.
pub(crate) fn ring_opens() -> io::Result<()> {
    io_uring::IoUring::new(2).map(drop)
}

/// Whether the kernel's clock is disciplined by somebody.
pub(crate) fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: all zeros is a valid `timex`; with `modes` 0 the call only fills it in.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&mut timex), timex.status)
    };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status & libc::STA_UNSYNC == 0)
}

/// Blocks free for an ordinary user, in percent.
pub(crate) fn free_percent(path: &str) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat
        .f_bavail
        .saturating_mul(100)
        .checked_div(stat.f_blocks)
        .unwrap_or(0))
}

/// Bytes free for an ordinary user.
pub(crate) fn free_bytes(path: &str) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn statvfs(path: &str) -> io::Result<libc::statvfs> {
    let path = CString::new(path)?;
    // SAFETY: all zeros is a valid `statvfs`; `path` ends in a zero and lives through the call.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat)
    }
}

/// Pins the calling thread to one CPU.
pub(crate) fn pin_to(cpu: u32) -> io::Result<()> {
    let cpu = usize::try_from(cpu).map_err(io::Error::other)?;
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a CPU number beyond the kernel's fixed set",
        ));
    }
    // SAFETY: all zeros is the empty set; `cpu` is within it (checked above); pid 0 is the calling thread.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the calling thread's sleeps end on time: by default the kernel may add 50 µs to bundle wake-ups.
pub(crate) fn set_least_timer_slack() -> io::Result<()> {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches no memory of this process.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The monotonic clock on which [`sleep_until`] wakes.
pub(crate) fn monotonic() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid place for the answer; the call cannot fail for these clocks.
    unsafe { libc::clock_gettime(id, &mut now) };
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Sleeps until that time of the monotonic clock.
pub(crate) fn sleep_until(time: Duration) {
    let until = libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    // SAFETY: `until` is valid; the remaining time is not asked for with an absolute sleep. A signal ends the sleep
    // early, which the caller sees as a wake-up before its time.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &until,
            std::ptr::null_mut(),
        )
    };
}

/// The alignment that O_DIRECT wants of offsets in this file, when the file system says (`STATX_DIOALIGN`, Linux 6.1).
pub(crate) fn direct_alignment(path: &str) -> io::Result<Option<u32>> {
    let path = CString::new(path)?;
    // SAFETY: all zeros is a valid `statx`; `path` ends in a zero and lives through the call.
    unsafe {
        let mut stat: libc::statx = std::mem::zeroed();
        if libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            0,
            libc::STATX_DIOALIGN,
            &mut stat,
        ) != 0
        {
            return Err(io::Error::last_os_error());
        }
        let known = stat.stx_mask & libc::STATX_DIOALIGN != 0 && stat.stx_dio_offset_align != 0;
        Ok(known.then_some(stat.stx_dio_offset_align))
    }
}
