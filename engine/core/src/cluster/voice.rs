//! What this node says to others, to whom, and when: news at once, comparisons now and then, greetings at a start.

use super::detector::Life;
use super::machine::{Cluster, NEWS_NS, Out, Standing};
use super::word::{Sender, Word, encode};
use crate::base::ids::NodeId;
use crate::base::time::Now;
use crate::ring::Ring;

/// How often a node that is not let in asks its seeds.
const HAIL_NS: u64 = 300_000_000;
/// How often a node that hears nobody asks its seeds.
const LONELY_HAIL_NS: u64 = 2_000_000_000;
/// How often a node compares with another.
const EXCHANGE_NS: u64 = 200_000_000;
/// Every so many exchanges one goes to a node that seems to be away, so that splits heal.
const AWAY_EVERY: u64 = 5;
/// Members that a start asks for what they know.
const GREETED_MAX: usize = 3;

impl Cluster {
    /// Asks a few members for what they know, and tells all others that this node is there.
    pub(super) fn greet(&mut self, now: Now, out: &mut Out) {
        if self.is_refused() {
            return;
        }
        let mut others: Vec<NodeId> = self.others().collect();
        for at in (1..others.len()).rev() {
            let with = self.rng.below(at as u64 + 1);
            others.swap(at, usize::try_from(with).unwrap_or(0));
        }
        for (at, node) in others.into_iter().enumerate() {
            if at < GREETED_MAX {
                let hello = Word::Hello(self.facts.clone());
                self.say(now, node, &hello, out);
            } else {
                self.say(now, node, &Word::Ping, out);
            }
        }
    }

    /// The ring or the buckets have changed: to be kept, published, passed on.
    pub(super) fn has_news(&mut self, now: Now) {
        self.is_dirty = true;
        self.is_unkept = true;
        let (least_ns, most_ns) = NEWS_NS;
        let soon_ns = now.mono_ns + least_ns + self.rng.below(most_ns - least_ns);
        self.times.exchange_ns = self.times.exchange_ns.min(soon_ns);
        let members: Vec<NodeId> = self.others().collect();
        let me = self.me;
        self.vitals
            .retain(|node| node == me || members.binary_search(&node).is_ok());
        self.known
            .retain(|node| members.binary_search(&node).is_ok());
        for node in members {
            self.detector.know(node, now.mono_ns);
        }
    }

    // saying things

    pub(super) fn sender(&self, now: Now) -> Sender {
        Sender {
            cluster: self.ring.as_ref().map_or(0, Ring::cluster),
            life: Life {
                start: self.start_count,
                ..self.detector.life()
            },
            instance: self.instance,
            wall_ms: now.wall_ms,
            listen: self.facts.listen.clone(),
        }
    }

    /// To a node: over its connection where it is in the view, else to where it was seen or is said to be.
    pub(super) fn say(&mut self, now: Now, to: NodeId, word: &Word<'_>, out: &mut Out) {
        let bytes = encode(&self.sender(now), word);
        let seen = self.sightings.address_of(to);
        let known = self.published.address_of(to);
        match (known, seen) {
            (Some(known), Some(seen)) if known != seen => {
                out.hails.push((seen.to_owned(), bytes));
            }
            (Some(_), _) => out.sends.push((to, bytes)),
            (None, Some(seen)) => out.hails.push((seen.to_owned(), bytes)),
            (None, None) => {
                let member = self.ring.as_ref().and_then(|ring| ring.members().get(to));
                if let Some(member) = member {
                    out.hails.push((member.facts().listen.clone(), bytes));
                }
            }
        }
    }

    /// To whoever said something, also where two have its id.
    pub(super) fn answer(&self, now: Now, to: &Sender, word: &Word<'_>, out: &mut Out) {
        out.hails
            .push((to.listen.clone(), encode(&self.sender(now), word)));
    }

    pub(super) fn send_datagrams(&mut self, now: Now, out: &mut Out) {
        for datagram in self.detector.take_datagrams() {
            self.say(now, datagram.to, &Word::Datagram(&datagram.bytes), out);
        }
    }

    /// Asks the seeds, while this node is outside or hears nobody.
    pub(super) fn hail(&mut self, now: Now, out: &mut Out) {
        if self.seeds.is_empty() || now.mono_ns < self.times.hail_ns {
            return;
        }
        let is_outside = self.ring.is_none();
        let is_lonely = self.has_company()
            && !self
                .others()
                .any(|node| self.detector.is_alive(node, now.mono_ns));
        self.times.hail_ns = now.mono_ns + if is_outside { HAIL_NS } else { LONELY_HAIL_NS };
        if !is_outside && !is_lonely {
            return;
        }
        let bytes = encode(&self.sender(now), &Word::Hello(self.facts.clone()));
        for seed in self.seeds.iter().filter(|seed| **seed != self.facts.listen) {
            out.hails.push((seed.clone(), bytes.clone()));
        }
    }

    /// Tells one other what everything here hashes to.
    pub(super) fn exchange(&mut self, now: Now, out: &mut Out) {
        if now.mono_ns < self.times.exchange_ns || !self.has_company() {
            return;
        }
        self.times.exchange_ns =
            now.mono_ns + EXCHANGE_NS - EXCHANGE_NS / 8 + self.rng.below(EXCHANGE_NS / 4);
        self.exchanges += 1;
        let (alive, away): (Vec<NodeId>, Vec<NodeId>) = self
            .others()
            .partition(|node| self.detector.is_alive(*node, now.mono_ns));
        let is_for_away = alive.is_empty() || self.exchanges.is_multiple_of(AWAY_EVERY);
        let from = if is_for_away && !away.is_empty() {
            &away
        } else {
            &alive
        };
        let Some(peer) = self.rng.choose(from) else {
            return;
        };
        if let Standing::Vouching { .. } = self.standing {
            // The greeting of the start, until it is answered.
            let hello = Word::Hello(self.facts.clone());
            self.say(now, peer, &hello, out);
        } else if let Some(summary) = self.summary() {
            self.say(now, peer, &summary, out);
        }
    }

    /// Hashes of all that is known here.
    pub(super) fn summary(&mut self) -> Option<Word<'static>> {
        let (ring, buckets, epoch) = self.hashes()?;
        let vitals = self.vitals.sample(self.me, &mut self.rng);
        Some(Word::Summary {
            ring,
            buckets,
            epoch,
            vitals,
        })
    }

    /// Of the ring, of the buckets; and the epoch.
    pub(super) fn hashes(&mut self) -> Option<(u64, u64, u64)> {
        let ring = self.ring.as_ref()?;
        let epoch = ring.epoch();
        let fingerprint = match self.fingerprint {
            Some((of, fingerprint)) if of == epoch => fingerprint,
            Some(_) | None => ring.fingerprint(),
        };
        self.fingerprint = Some((epoch, fingerprint));
        Some((fingerprint, self.buckets.fingerprint(), epoch))
    }

    // what follows
}
