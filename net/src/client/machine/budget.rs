//! How many retries a client may make: a share of its requests, so that many clients do not feed an overload.

/// Retries that a client starts with, and the most that it saves up.
const RETRIES_SAVED_MAX: u32 = 20;

/// Tokens in hundredths of a retry.
#[derive(Debug)]
pub(super) struct Budget {
    hundredths: u32,
    percent: u32,
}

impl Budget {
    pub(super) const fn new(percent: u32) -> Self {
        Self {
            hundredths: RETRIES_SAVED_MAX * 100,
            percent,
        }
    }

    /// A request earns its share.
    pub(super) fn request(&mut self) {
        self.hundredths = self
            .hundredths
            .saturating_add(self.percent)
            .min(RETRIES_SAVED_MAX * 100);
    }

    /// Whether a retry may be made; it costs one.
    pub(super) fn take_retry(&mut self) -> bool {
        match self.hundredths.checked_sub(100) {
            Some(left) => {
                self.hundredths = left;
                true
            }
            None => false,
        }
    }
}
