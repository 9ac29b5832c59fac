//! Being asked to end: SIGINT and SIGTERM, and how often.

use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Signals this close are one asking: `timeout` and others send theirs to the process and to its group as well, and the
/// second would end at once what was to end in order.
const SAME_ASKING: Duration = Duration::from_secs(1);

/// One asking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The signal.
    pub(crate) signal: i32,
    /// Whether it was asked before.
    pub(crate) is_again: bool,
}

impl Asked {
    /// How a shell would say that this ended a process.
    pub(crate) fn exit_code(self) -> u8 {
        u8::try_from(self.signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
    }
}

/// What was asked before; pure, so that a test needs no clock.
#[derive(Debug, Default)]
struct Askings {
    last: Option<Instant>,
}

impl Askings {
    /// A signal has come; none where it belongs to the asking before.
    fn hear(&mut self, signal: i32, now: Instant) -> Option<Asked> {
        let is_same = |last: Instant| now.saturating_duration_since(last) < SAME_ASKING;
        if self.last.is_some_and(is_same) {
            return None;
        }
        let is_again = self.last.replace(now).is_some();
        Some(Asked { signal, is_again })
    }
}

/// Calls this each time that the process is asked to end, on a thread of its own.
pub(crate) fn on_asked(mut told: impl FnMut(Asked) + Send + 'static) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut askings = Askings::default();
            for signal in signals.forever() {
                if let Some(asked) = askings.hear(signal, Instant::now()) {
                    told(asked);
                }
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_within_a_second_of_the_first_are_one_asking_and_a_later_one_is_another() {
        let start = Instant::now();
        let mut askings = Askings::default();
        let mut heard = |after_ms, signal| {
            let asked = askings.hear(signal, start + Duration::from_millis(after_ms));
            asked.map(|asked| (asked.signal, asked.is_again))
        };
        assert_eq!(heard(5_000, SIGINT), Some((SIGINT, false)));
        assert_eq!(heard(5_000, SIGINT), None);
        assert_eq!(heard(5_500, SIGTERM), None);
        // Counted from the first: those in between do not put it off.
        assert_eq!(heard(5_999, SIGINT), None);
        assert_eq!(heard(6_000, SIGTERM), Some((SIGTERM, true)));
        assert_eq!(heard(6_999, SIGTERM), None);
        assert_eq!(heard(60_000, SIGINT), Some((SIGINT, true)));
    }

    #[test]
    fn the_exit_code_is_that_of_a_shell() {
        let asked = |signal| Asked {
            signal,
            is_again: true,
        };
        assert_eq!(asked(SIGINT).exit_code(), 130);
        assert_eq!(asked(SIGTERM).exit_code(), 143);
    }
}
