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

/// Calls this each time that the process is asked to end, on a thread of its own.
pub(crate) fn on_asked(mut told: impl FnMut(Asked) + Send + 'static) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut last: Option<Instant> = None;
            for signal in signals.forever() {
                if last.is_some_and(|last| last.elapsed() < SAME_ASKING) {
                    continue;
                }
                let is_again = last.is_some();
                last = Some(Instant::now());
                told(Asked { signal, is_again });
            }
        })?;
    Ok(())
}
