//! Once: the forwarded writes that this shard has taken, so that one whose frame comes a second time is not carried out
//! again.
//!
//! Owns the names of those that came lately. Never knows what became of them: a repetition is dropped as if it had been
//! lost, whatever the first one came to, since its answer went or goes to whoever waits.
//!
//! Invariants:
//! - a name is remembered for as long as a frame of it may still be taken (`MESSAGE_AGE_MS_MAX`, and what clocks may differ);
//! - at most [`FORWARDED_MAX`] names are remembered; then the oldest is forgotten, and a frame of it that came a second
//!   time after that would be carried out again.
//!
//! Why names of their own, and not write ids or calls: a write whose writer saw nothing has no write id, and a sender that
//! starts again counts its calls from the beginning. Why beside the write ids: those are known only while the write is
//! current, and they hold for a client's retry through other nodes, where this does not.

use std::collections::{BTreeSet, VecDeque};

use crate::base::limits::{FORWARDED_MAX, MESSAGE_AGE_MS_MAX};
use crate::port::Peer;

/// A forwarded write: who sent it, and what it calls it.
type Name = (u64, u16, u64);

/// Those that came lately.
#[derive(Default)]
pub(super) struct Once {
    taken: BTreeSet<Name>,
    /// In the order in which they came, with when they are forgotten.
    by_age: VecDeque<(u64, Name)>,
}

impl Once {
    /// Whether this is the first time that the frame comes. One of an older release has no name (0), and counts as new.
    pub(super) fn is_first(&mut self, now_ns: u64, drift_ms: u64, from: Peer, name: u64) -> bool {
        if name == 0 {
            return true;
        }
        while let Some((until_ns, oldest)) = self.by_age.front().copied() {
            if until_ns > now_ns && self.by_age.len() < FORWARDED_MAX {
                break;
            }
            self.by_age.pop_front();
            self.taken.remove(&oldest);
        }
        let name = (from.node.0, from.shard.0, name);
        let is_first = self.taken.insert(name);
        if is_first {
            let kept_ms = MESSAGE_AGE_MS_MAX.saturating_add(drift_ms.saturating_mul(2));
            let until_ns = now_ns.saturating_add(kept_ms.saturating_mul(1_000_000));
            self.by_age.push_back((until_ns, name));
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{NodeId, ShardIndex};

    const AGE_NS: u64 = (MESSAGE_AGE_MS_MAX + 1_000) * 1_000_000;

    const fn peer(node: u64, shard: u16) -> Peer {
        Peer {
            node: NodeId(node),
            shard: ShardIndex(shard),
        }
    }

    #[test]
    fn a_name_is_new_once_for_each_sender_until_no_frame_of_it_can_come() {
        let mut once = Once::default();
        let mut is_first = |now_ns, from, name| once.is_first(now_ns, 500, from, name);
        assert!(is_first(5, peer(1, 0), 7));
        assert!(!is_first(6, peer(1, 0), 7));
        assert!(is_first(6, peer(1, 1), 7), "of another shard");
        assert!(is_first(6, peer(2, 0), 7), "of another node");
        assert!(is_first(6, peer(1, 0), 8));
        assert!(!is_first(5 + AGE_NS - 1, peer(1, 0), 7));
        assert!(
            is_first(5 + AGE_NS, peer(1, 0), 7),
            "no frame lives so long"
        );
        assert!(
            is_first(9, peer(1, 0), 0) && is_first(9, peer(1, 0), 0),
            "an older release"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut once = Once::default();
        for name in 1..=FORWARDED_MAX as u64 + 10 {
            assert!(once.is_first(name, 500, peer(1, 0), name));
            assert!(once.taken.len() <= FORWARDED_MAX);
            assert_eq!(once.taken.len(), once.by_age.len());
        }
        let last = FORWARDED_MAX as u64 + 10;
        assert!(!once.is_first(last, 500, peer(1, 0), last));
        assert!(!once.is_first(last, 500, peer(1, 0), 20));
        assert!(once.is_first(last, 500, peer(1, 0), 1));
        // All are forgotten in time, and nothing is left of them.
        assert!(once.is_first(last + AGE_NS, 500, peer(1, 0), 1));
        assert_eq!((once.taken.len(), once.by_age.len()), (1, 1));
    }
}
