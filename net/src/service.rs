//! The service manager: what a node tells systemd, where systemd started it.
//!
//! Owns the protocol of `sd_notify` and the time between two signs of life.
//! Never says that all is well unless somebody has just looked: a node whose shard hangs is started anew.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Tells the service manager, where there is one (`NOTIFY_SOCKET`).
///
/// # Errors
/// There is one, and it cannot be told.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    let bytes = path.as_encoded_bytes();
    match bytes.strip_prefix(b"@") {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(state.as_bytes(), &address)?;
        }
        None => {
            socket.send_to(state.as_bytes(), &path)?;
        }
    }
    Ok(())
}

/// When the next sign of life is due.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    interval: Duration,
    due: Instant,
}

impl Watchdog {
    /// The watchdog that systemd set for this process (`WATCHDOG_USEC`, `WATCHDOG_PID`); none when it set none.
    pub fn from_environment() -> Option<Self> {
        let text = |name| std::env::var(name).ok();
        let interval = interval(
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
            std::process::id(),
        )?;
        Some(Self {
            interval,
            due: Instant::now(),
        })
    }

    /// How long a look at the shards may take, and how long to wait between two of them.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether a sign of life is due; the next one is due an interval later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.due;
        if is_due {
            self.due = now + self.interval;
        }
        is_due
    }
}

/// A quarter of the time that systemd waits: a look that takes as long as it may still leaves room for another one.
fn interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    let usec: u64 = usec?.parse().ok()?;
    (is_ours && usec > 0).then(|| Duration::from_micros(usec) / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_watchdog_of_this_process_counts() {
        let second = Some("1000000");
        let quarter = Some(Duration::from_millis(250));
        assert_eq!(interval(second, Some("7"), 7), quarter);
        assert_eq!(interval(second, None, 7), quarter);
        assert_eq!(interval(second, Some("8"), 7), None);
        assert_eq!(interval(second, Some("x"), 7), None);
        assert_eq!(interval(None, None, 7), None);
        for nonsense in ["0", "", "soon"] {
            assert_eq!(interval(Some(nonsense), None, 7), None);
        }
    }

    #[test]
    fn a_sign_is_due_at_once_and_then_each_interval() {
        let begun = Instant::now();
        let interval = Duration::from_secs(2);
        let mut watchdog = Watchdog {
            interval,
            due: begun,
        };
        assert!(watchdog.is_due(begun));
        assert!(!watchdog.is_due(begun + interval / 2));
        assert!(watchdog.is_due(begun + interval));
        assert!(!watchdog.is_due(begun + interval));
    }
}
