//! Clocks: whose is too far ahead, by what others say of it.
//!
//! A node refuses what comes from a clock too far ahead of its own, and tells its sender. Whose of the two is wrong, the
//! sender finds out by how many tell it the same. It then takes no part until nobody does any more: requests go on to
//! others, by whose clocks the writes are dated, and nothing that it says or keeps has a time from the future.
//!
//! Delay makes a clock look late, never early. So a node that was stopped for a while, and reads old words, is told nothing
//! and tells nobody anything.

use std::collections::BTreeMap;

use super::Out;
use super::machine::Cluster;
use super::word::{Refusal, Sender, Word};
use crate::base::ids::NodeId;
use crate::base::time::{Hlc, HlcClock, Now};
use crate::port::Note;

/// How long counts what one node said of this node's clock. Each other is spoken with several times a second in a small
/// cluster, and some fifteen of many in this time.
const TOLD_NS: u64 = 3_000_000_000;
/// So many that say it are enough, however many there are.
const ENOUGH: usize = 5;

/// What others say of this node's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnClock {
    /// How far it is ahead, and until when that counts.
    told: BTreeMap<NodeId, (u64, u64)>,
    ahead_ms: Option<u64>,
    /// What the shards were told last.
    was_wrong: bool,
}

impl OwnClock {
    /// Whether it is too far ahead of most others'.
    pub(super) const fn is_wrong(&self) -> bool {
        self.ahead_ms.is_some()
    }

    /// The same in words.
    pub(super) fn trouble(&self) -> Option<String> {
        self.ahead_ms.map(|ahead_ms| {
            let ahead_s = ahead_ms as f64 / 1000.0;
            format!(
                "this node's clock is {ahead_s:.1} s ahead of the others': requests are handed to them until it is right; \
                 check its time synchronisation"
            )
        })
    }

    /// For the shards, when it has changed.
    pub(super) fn note(&mut self) -> Option<Note> {
        let has_changed = self.was_wrong != self.is_wrong();
        self.was_wrong = self.is_wrong();
        has_changed.then_some(Note::ClockWrong(self.was_wrong))
    }

    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        self.told.values().map(|(_, until_ns)| *until_ns).min()
    }

    /// Counts again; whether it has changed its mind. `others` are those that seem alive.
    fn count(&mut self, now_ns: u64, others: usize) -> bool {
        self.told.retain(|_, (_, until_ns)| *until_ns > now_ns);
        // Most of the others; where there are but two, the one that is ahead gives way.
        let needed = (others / 2 + 1).min(ENOUGH);
        let was_wrong = self.is_wrong();
        let mut all: Vec<u64> = self.told.values().map(|(ahead_ms, _)| *ahead_ms).collect();
        all.sort_unstable();
        self.ahead_ms = (all.len() >= needed).then(|| all[all.len() / 2]);
        was_wrong != self.is_wrong()
    }
}

impl Cluster {
    /// Whether the sender's clock is too far ahead: then nothing that it wrote is taken, and it is told, and reported.
    pub(super) fn is_clock_ahead(&mut self, now: Now, sender: &Sender, out: &mut Out) -> bool {
        let met = Hlc::from_ms(sender.wall_ms);
        // By the wall clock alone: what this node absorbed from a layout may be later.
        let Err(ahead) = HlcClock::default().observe(met, now.wall_ms, self.clock_drift_ms_max)
        else {
            let _ = self
                .clock
                .observe(met, now.wall_ms, self.clock_drift_ms_max);
            return false;
        };
        self.report(
            now,
            format!(
                "the clock of {} at {} is more than {} ms ahead of this node's; what it says of the cluster is not taken; \
                 check the time synchronisation of both",
                sender.life.node, sender.listen, ahead.ahead_ms_max
            ),
        );
        let refusal = Refusal::ClockAhead {
            ahead_ms: ahead.ahead_ms,
        };
        self.say(now, sender.life.node, &Word::Refused(refusal), out);
        true
    }

    /// Another node refuses what this one says, for its clock.
    pub(super) fn told_clock_ahead(
        &mut self,
        now: Now,
        sender: &Sender,
        ahead_ms: u64,
        out: &mut Out,
    ) {
        if self.ring.is_none() {
            let text = format!(
                "this node is not let in: its clock is {ahead_ms} ms ahead of that of {} at {}; check the time \
                 synchronisation of both",
                sender.life.node, sender.listen
            );
            return self.report(now, text);
        }
        let is_other = self.others().any(|node| node == sender.life.node);
        if !is_other || ahead_ms <= self.clock_drift_ms_max {
            return;
        }
        let until_ns = now.mono_ns + TOLD_NS;
        let told = &mut self.own_clock.told;
        let is_first = told.is_empty();
        told.insert(sender.life.node, (ahead_ms, until_ns));
        self.look_at_clock(now);
        // What the others find, too.
        if is_first {
            let others: Vec<NodeId> = self
                .others()
                .filter(|node| *node != sender.life.node)
                .collect();
            for node in others.into_iter().take(ENOUGH) {
                let hello = Word::Hello(self.facts.clone());
                self.say(now, node, &hello, out);
            }
        }
    }

    /// Whether this node's clock is right, as of now.
    pub(super) fn look_at_clock(&mut self, now: Now) {
        if self.own_clock.told.is_empty() {
            return;
        }
        let others = self
            .others()
            .filter(|node| self.is_alive(*node, now))
            .count();
        if self.own_clock.count(now.mono_ns, others) {
            let text = self.own_clock.trouble().unwrap_or_else(|| {
                "this node's clock is no more ahead of the others'; it takes its part again".into()
            });
            self.report(now, text);
            self.serve_anew();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_must_say_it_and_go_on_saying_it() {
        for (others, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (40, 5)] {
            let mut clock = OwnClock::default();
            for node in 0..needed {
                assert!(!clock.is_wrong(), "{node} of {others} is not enough");
                clock.told.insert(NodeId(node), (1_000 + node, 10));
                clock.count(0, others);
            }
            assert!(clock.is_wrong(), "{needed} of {others} are enough");
            assert!(clock.count(10, others), "nobody says it any more");
            assert!(!clock.is_wrong());
        }
    }
}
