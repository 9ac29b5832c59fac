//! How much the background may move: bytes a second, fewer while clients wait.
//!
//! Never stops anything that was begun: a step spends what it needs, and the next waits until that is paid off.

/// Bytes a second, for one shard, unless configured otherwise.
pub(super) const BYTES_PER_S_DEFAULT: u64 = 64 << 20;
/// What may be spent at once after a pause.
const BURST_NS: u64 = 50_000_000;
/// While so many client requests wait at the shard, the background has a share only.
const WAITING_MAX: u32 = 16;
const SHARE_WHILE_WAITING: u64 = 8;

/// The budget of one shard.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_per_s: u64,
    /// The moment up to which everything spent is paid off.
    paid_upto_ns: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes_per_s: BYTES_PER_S_DEFAULT,
            paid_upto_ns: 0,
        }
    }
}

impl Budget {
    /// Whether something may be begun now.
    pub(super) const fn is_open(&self, now_ns: u64) -> bool {
        self.paid_upto_ns <= now_ns
    }

    /// Spends so many bytes while so many clients wait.
    pub(super) fn spend(&mut self, now_ns: u64, bytes: u64, clients_waiting: u32) {
        let share = if clients_waiting >= WAITING_MAX {
            SHARE_WHILE_WAITING
        } else {
            1
        };
        let cost_ns = bytes
            .saturating_mul(1_000_000_000 / 1024)
            .saturating_mul(share)
            / (self.bytes_per_s / 1024).max(1);
        self.paid_upto_ns = self
            .paid_upto_ns
            .max(now_ns.saturating_sub(BURST_NS))
            .saturating_add(cost_ns);
    }

    /// Sets the rate.
    pub(super) fn set_rate(&mut self, bytes_per_s: u64) {
        self.bytes_per_s = bytes_per_s.max(1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_keeps_to_the_rate_and_clients_who_wait_slow_it() {
        for (waiting, bytes_max) in [(0, 2 << 20), (100, 256 << 10)] {
            let mut budget = Budget::default();
            budget.set_rate(1 << 20);
            let (mut spent, step_ns) = (0u64, 1_000_000);
            for step in 0..2_000 {
                let now_ns = 10_000_000_000 + step * step_ns;
                if budget.is_open(now_ns) {
                    budget.spend(now_ns, 4096, waiting);
                    spent += 4096;
                }
            }
            assert!(spent <= bytes_max + bytes_max / 10, "{spent}");
            assert!(spent >= bytes_max * 9 / 10, "{spent}");
        }
    }
}
