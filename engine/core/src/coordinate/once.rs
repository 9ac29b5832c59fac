//! Once: the forwarded writes that this shard has taken, so that one whose frame comes a second time is not carried out
//! again.
//!
//! Owns the names of those that came lately. Never knows what became of them: a repetition is dropped as if it had been
//! lost, whatever the first one came to, since its answer went or goes to whoever waits.
//!
//! Invariants:
//! - a name is remembered for as long as a frame of it may still be taken (`MESSAGE_AGE_MS_MAX`, and what clocks may differ);
//! - at most [`FORWARDED_MAX`] names are remembered; then the oldest of the sender that has most are forgotten, and a frame
//!   of one that came a second time after that would be carried out again.
//!
//! Why names of their own, and not write ids or calls: a write whose writer saw nothing has no write id, and a sender that
//! starts again counts its calls from the beginning. Why beside the write ids: those are known only while the write is
//! current, and they hold for a client's retry through other nodes, where this does not.

use std::collections::{BTreeMap, VecDeque};

use crate::base::limits::{FORWARDED_MAX, MESSAGE_AGE_MS_MAX};
use crate::port::Peer;

/// One that came: its sender's name for it, and when it is forgotten.
#[derive(Clone, Copy)]
struct Taken {
    name: u64,
    until_ns: u64,
}

/// Those that came lately.
#[derive(Default)]
pub(super) struct Once {
    /// Of each sender's shard, by name. Names grow, so what comes is nearly always the last.
    by_sender: BTreeMap<(u64, u16), VecDeque<Taken>>,
    len: usize,
}

impl Once {
    /// Whether this is the first time that the frame comes. One of an older release has no name (0), and counts as new.
    pub(super) fn is_first(&mut self, now_ns: u64, drift_ms: u64, from: Peer, name: u64) -> bool {
        if name == 0 {
            return true;
        }
        let own = self
            .by_sender
            .entry((from.node.0, from.shard.0))
            .or_default();
        let before = own.len();
        while own.front().is_some_and(|first| first.until_ns <= now_ns) {
            own.pop_front();
        }
        self.len -= before - own.len();
        let at = if own.back().is_none_or(|last| last.name < name) {
            own.len()
        } else {
            match own.binary_search_by_key(&name, |taken| taken.name) {
                Ok(_) => return false,
                Err(at) => at,
            }
        };
        let kept_ms = MESSAGE_AGE_MS_MAX.saturating_add(drift_ms.saturating_mul(2));
        let until_ns = now_ns.saturating_add(kept_ms.saturating_mul(1_000_000));
        own.insert(at, Taken { name, until_ns });
        self.len += 1;
        if self.len > FORWARDED_MAX {
            self.make_room(now_ns);
        }
        true
    }

    /// Forgets what no frame can repeat any more, of senders that say no more too; then an eighth of the fullest one's.
    fn make_room(&mut self, now_ns: u64) {
        self.by_sender.retain(|_, taken| {
            while taken.front().is_some_and(|first| first.until_ns <= now_ns) {
                taken.pop_front();
            }
            !taken.is_empty()
        });
        self.len = self.by_sender.values().map(VecDeque::len).sum();
        if self.len <= FORWARDED_MAX {
            return;
        }
        if let Some(fullest) = self.by_sender.values_mut().max_by_key(|taken| taken.len()) {
            let gone = fullest.len().div_ceil(8);
            fullest.drain(..gone);
            self.len -= gone;
        }
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
    fn names_may_come_in_any_order() {
        let mut once = Once::default();
        let mut is_first = |name| once.is_first(1, 500, peer(1, 0), name);
        assert!([5, 9, 7, 1, 8].into_iter().all(&mut is_first));
        assert!(![1, 5, 7, 8, 9].into_iter().any(&mut is_first));
        assert!([2, 6, 10].into_iter().all(&mut is_first));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_of_whoever_has_most_go_first() {
        let mut once = Once::default();
        assert!(once.is_first(1, 500, peer(2, 0), 1));
        let last = FORWARDED_MAX as u64 + 10;
        for name in 1..=last {
            assert!(once.is_first(name, 500, peer(1, 0), name));
            assert!(once.len <= FORWARDED_MAX);
        }
        let len: usize = once.by_sender.values().map(VecDeque::len).sum();
        assert_eq!(once.len, len);
        assert!(len > FORWARDED_MAX * 3 / 4);
        assert!(
            !once.is_first(last, 500, peer(2, 0), 1),
            "another sender's is kept"
        );
        assert!(!once.is_first(last, 500, peer(1, 0), last));
        assert!(once.is_first(last, 500, peer(1, 0), 1));
        // All are forgotten in time, and nothing is left of them.
        let later = last + AGE_NS;
        for name in 1..=FORWARDED_MAX as u64 + 1 {
            assert!(once.is_first(later, 500, peer(3, 0), name));
        }
        assert_eq!(
            once.by_sender.len(),
            1,
            "senders that say no more are forgotten"
        );
    }
}
