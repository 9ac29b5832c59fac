//! Clocks: whose is too far ahead, by what others say of it.
//!
//! A node refuses what comes from a clock too far ahead of its own, and tells its sender. Whose of the two is wrong, the
//! sender finds out by how many tell it the same. It then takes no part until nobody does any more: requests go on to
//! others, by whose clocks the writes are dated, and nothing that it says or keeps has a time from the future.
//!
//! A node to which more than half of the cluster seems ahead is behind itself, and takes no part either: it would refuse what
//! the others write, and what it dates would lose against what it follows. With as many ahead as behind, those ahead give way.
//!
//! Delay makes a clock look late, never early. So a node that was stopped for a while, and reads old words, is told nothing
//! and tells nobody anything. Only of a clock that was wrong a late word counts: it is right when most agree with it, else one
//! that leaps from behind to ahead would be taken for right until others say so.

use std::collections::BTreeMap;

use super::Out;
use super::machine::Cluster;
use super::word::{Refusal, Sender, Word};
use crate::base::ids::NodeId;
use crate::base::mutant::{self, Mutant};
use crate::base::time::{Hlc, HlcClock, Now};
use crate::port::Note;

/// How long counts what one node said of this node's clock. Each other is spoken with several times a second in a small
/// cluster, and some fifteen of many in this time.
const TOLD_NS: u64 = 3_000_000_000;
/// Shards are told of a difference anew when it has changed by so much.
const OFF_MS_STEP: u64 = 100;
/// So many that say it are enough, however many there are.
const ENOUGH: usize = 5;

/// What others say of this node's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnClock {
    /// How far it is ahead, and until when that counts.
    told: BTreeMap<NodeId, (u64, u64)>,
    ahead_ms: Option<u64>,
    /// How far each other node that was heard is ahead of this one, if too far (late, below zero; zero where they agree), and
    /// until when that counts.
    heard: BTreeMap<NodeId, (i64, u64)>,
    behind_ms: Option<u64>,
    /// When another one's agreed with it last.
    agreed: Option<Now>,
    /// What the shards were told last.
    told_off_ms: Option<i64>,
}

impl OwnClock {
    /// Whether it is too far ahead of most others', or behind.
    pub(super) const fn is_wrong(&self) -> bool {
        self.ahead_ms.is_some() || self.behind_ms.is_some()
    }

    /// Whether anybody finds it wrong: a start does not take part by its own word then, though most others may be silent.
    pub(super) fn is_doubted(&self) -> bool {
        self.is_wrong() || !self.told.is_empty()
    }

    /// What is wrong with it, in words.
    pub(super) fn trouble(&self) -> Option<String> {
        let (off_ms, how) = match (self.ahead_ms, self.behind_ms) {
            (Some(ahead_ms), _) => (ahead_ms, "ahead of"),
            (None, Some(behind_ms)) => (behind_ms, "behind"),
            (None, None) => return None,
        };
        let off_s = off_ms as f64 / 1000.0;
        Some(format!(
            "this node's clock is {off_s:.1} s {how} the others': requests are handed to them until it is right; check its \
             time synchronisation"
        ))
    }

    /// For the shards, when it has changed.
    pub(super) fn note(&mut self) -> Option<Note> {
        let off_ms = self.off_ms();
        let is_as_told = match (off_ms, self.told_off_ms) {
            (Some(off_ms), Some(told_ms)) => off_ms.abs_diff(told_ms) < OFF_MS_STEP,
            (off_ms, told_ms) => off_ms == told_ms,
        };
        if is_as_told {
            return None;
        }
        self.told_off_ms = off_ms;
        let agreed = self.agreed.filter(|_| !mutant::is(Mutant::LateAgrees));
        Some(Note::ClockWrong { off_ms, agreed })
    }

    /// How far it is ahead of the others', or behind.
    fn off_ms(&self) -> Option<i64> {
        let ahead = self.ahead_ms.map(|ms| 0i64.saturating_add_unsigned(ms));
        ahead.or_else(|| self.behind_ms.map(|ms| 0i64.saturating_sub_unsigned(ms)))
    }

    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        let is_wrong = self.is_wrong();
        let heard = self.heard.values().filter(|(ms, _)| is_wrong || *ms > 0);
        let heard = heard.map(|(_, until_ns)| *until_ns);
        let told = self.told.values().map(|(_, until_ns)| *until_ns);
        told.chain(heard).min()
    }

    /// Counts again; whether it has changed its mind. `others` are those that seem alive.
    fn count(&mut self, now_ns: u64, others: usize) -> bool {
        self.told.retain(|_, (_, until_ns)| *until_ns > now_ns);
        self.heard.retain(|_, (_, until_ns)| *until_ns > now_ns);
        let mut apart: Vec<i64> = self.heard.values().map(|(ms, _)| *ms).collect();
        apart.retain(|ms| *ms != 0);
        apart.sort_unstable();
        let ahead = &apart[apart.partition_point(|ms| *ms < 0)..];
        // More than half of those that are heard, this node among them.
        let is_most = |count: usize| 2 * count > self.heard.len() + 1;
        let is_behind = is_most(ahead.len());
        // Most of the others; where there are but two, the one that is ahead gives way.
        let needed = (others / 2 + 1).min(ENOUGH);
        let was_wrong = self.is_wrong();
        let mut all: Vec<u64> = self.told.values().map(|(ahead_ms, _)| *ahead_ms).collect();
        all.sort_unstable();
        let is_told = all.len() >= needed && !mutant::is(Mutant::AheadGoesOn);
        self.ahead_ms = is_told.then(|| all[all.len() / 2]);
        self.behind_ms = is_behind.then(|| ahead[ahead.len() / 2].unsigned_abs());
        let is_apart = was_wrong && is_most(apart.len()) && !mutant::is(Mutant::LateAgrees);
        if is_apart && !self.is_wrong() {
            let ms = apart[apart.len() / 2];
            let side = if ms < 0 {
                &mut self.ahead_ms
            } else {
                &mut self.behind_ms
            };
            *side = Some(ms.unsigned_abs());
        }
        was_wrong != self.is_wrong()
    }
}

impl Cluster {
    /// Whether the sender's clock is too far ahead: then nothing that it wrote is taken, and it is told, and reported.
    pub(super) fn is_clock_ahead(&mut self, now: Now, sender: &Sender, out: &mut Out) -> bool {
        let met = Hlc::from_ms(sender.wall_ms);
        // By the wall clock alone: what this node absorbed from a layout may be later.
        let compared = HlcClock::default().observe(met, now.wall_ms, self.clock_drift_ms_max);
        let ahead_ms = compared.err().map(|ahead| ahead.ahead_ms);
        let late_ms = now.wall_ms.saturating_sub(sender.wall_ms);
        let apart_ms = match ahead_ms {
            Some(ms) => 0i64.saturating_add_unsigned(ms),
            None if late_ms > self.clock_drift_ms_max => 0i64.saturating_sub_unsigned(late_ms),
            None => 0,
        };
        if apart_ms == 0 {
            self.own_clock.agreed = Some(now);
        }
        let until_ns = now.mono_ns + TOLD_NS;
        let heard = &mut self.own_clock.heard;
        heard.insert(sender.life.node, (apart_ms, until_ns));
        if apart_ms > 0 || self.own_clock.is_wrong() {
            self.look_at_clock(now);
        }
        if ahead_ms.is_some() && self.own_clock.is_wrong() {
            // Not taken, and not told: this node's word on clocks counts for nothing now.
            return true;
        }
        let Err(ahead) = compared else {
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
        let node = sender.life.node;
        self.say(now, node, &Word::Refused(refusal, Some(node)), out);
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
        if self.own_clock.next_deadline_ns().is_none() && !self.own_clock.is_wrong() {
            return;
        }
        let others = self
            .others()
            .filter(|node| self.is_alive(*node, now))
            .count();
        if self.own_clock.count(now.mono_ns, others) {
            let text = self.own_clock.trouble().unwrap_or_else(|| {
                "this node's clock is with the others' again; it takes its part".into()
            });
            self.report(now, text);
            self.serve_anew();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::network_tests::{EPOCH_MS, MS, Network};
    use super::*;

    #[test]
    fn one_that_more_than_half_are_ahead_of_is_behind() {
        for (others, ahead, is_behind) in [
            (1, 1, false),
            (2, 1, false),
            (2, 2, true),
            (3, 2, false),
            (3, 3, true),
            (4, 3, true),
        ] {
            let mut clock = OwnClock::default();
            for node in 0..others {
                let ahead_ms = if node < ahead { 1_000 } else { 0 };
                clock.heard.insert(NodeId(node), (ahead_ms, 10));
            }
            clock.count(0, 10);
            assert_eq!(clock.is_wrong(), is_behind, "{ahead} of {others}");
            clock.count(10, 10);
            assert!(!clock.is_wrong(), "nobody was heard since");
        }
    }

    #[test]
    fn a_clock_that_leaps_over_what_is_right_is_never_taken_for_right() {
        for seed in 0..20 {
            let mut network = Network::cluster(4, 64, seed);
            network.nodes[3].ahead_ms = -2_000_000;
            network.run_ms(2_000);
            assert!(matches!(network.nodes[3].clock_notes[..], [(Some(..0), _)]));
            network.nodes[3].ahead_ms = 3_000_000;
            network.run_ms(5_000);
            let notes = &network.nodes[3].clock_notes;
            assert!(
                notes.iter().all(|(off_ms, _)| off_ms.is_some()),
                "{notes:?}"
            );
            assert!(matches!(notes.last(), Some((Some(1..), _))), "{notes:?}");
            network.nodes[3].ahead_ms = 0;
            network.run_until("right", 5_000, |network| {
                matches!(network.nodes[3].clock_notes.last(), Some((None, Some(_))))
            });
        }
    }

    #[test]
    fn shards_are_told_when_another_clock_agreed_with_it_last() {
        let mut network = Network::cluster(4, 64, 31);
        network.nodes[3].ahead_ms = 3_600_000;
        network.run_ms(2_000);
        network.nodes[3].ahead_ms = 0;
        network.run_ms(2_000);
        // It leaps anew, and nobody can say so.
        network.side.insert(3, 1);
        network.nodes[3].ahead_ms = 3_600_000;
        network.run_ms(2_000);
        let Some((None, Some(agreed))) = network.nodes[3].clock_notes.last() else {
            panic!("{:?}", network.nodes[3].clock_notes);
        };
        assert_eq!(agreed.wall_ms, EPOCH_MS + agreed.mono_ns / MS);
    }

    #[test]
    fn one_that_was_wrong_is_right_when_most_agree() {
        let mut clock = OwnClock::default();
        let heard = |clock: &mut OwnClock, apart_ms: [i64; 4]| {
            for (node, ms) in (0..).map(NodeId).zip(apart_ms) {
                clock.heard.insert(node, (ms, 10));
            }
            clock.count(0, 4);
            clock.off_ms()
        };
        assert_eq!(heard(&mut clock, [-9_000; 4]), None, "late, as words are");
        assert_eq!(heard(&mut clock, [7_000, 7_000, 7_000, 0]), Some(-7_000));
        let off_ms = heard(&mut clock, [7_000, 7_000, -9_000, 0]);
        assert_eq!(off_ms, Some(-7_000), "it has leapt over what is right");
        assert_eq!(heard(&mut clock, [-9_000, -9_000, -9_000, 0]), Some(9_000));
        assert_eq!(heard(&mut clock, [-9_000, -9_000, 0, 0]), None);
        assert_eq!(heard(&mut clock, [-9_000; 4]), None);
        // One that others said to be ahead is not right because there are more of them.
        let told = (0..3).map(|node| (NodeId(node), (9_000, 10)));
        clock.told.extend(told);
        clock.count(0, 4);
        assert_eq!(clock.off_ms(), Some(9_000));
        clock.told.pop_first();
        clock.count(0, 4);
        assert_eq!(clock.off_ms(), Some(9_000));
        clock.count(10, 4);
        assert_eq!(clock.off_ms(), None, "nobody says anything");
    }

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
