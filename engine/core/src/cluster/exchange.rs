//! Exchange: what a node makes of what others say, until all know the same.
//!
//! Every node tells one other, a few times a second, what everything it knows hashes to. Where that differs, digests say
//! how new each part is, and deltas carry what the other lacks, both ways. News make the next round come sooner. With
//! nothing new a round is one small message, however many nodes there are.

use super::Out;
use super::buckets::Buckets;
use super::detector::{Detector, Life};
use super::machine::{Cluster, Standing};
use super::sighting::Sighted;
use super::word::{Refusal, Sender, Word, decode};
use crate::base::ids::NodeId;
use crate::base::mutant::{self, Mutant};
use crate::base::time::Now;
use crate::ring::{MemberVersion, Ring, RingDigest, RingError, RingPart};

impl Cluster {
    /// Gossip of another node.
    pub fn message(&mut self, now: Now, from: NodeId, bytes: &[u8], out: &mut Out) {
        match decode(bytes) {
            Ok((sender, word)) if sender.life.node == from => {
                self.word(now, &sender, word, out);
                self.heed_known(now, out);
            }
            Ok(_) | Err(_) => self.garbage += 1,
        }
        self.settle(now, out);
    }

    fn word(&mut self, now: Now, sender: &Sender, word: Word<'_>, out: &mut Out) {
        let from = sender.life.node;
        if from == self.me {
            if sender.instance != self.instance && !self.is_refused() {
                let refusal = Refusal::Duplicate {
                    address: self.facts.listen.clone(),
                };
                self.refuse_sender(now, sender, refusal, out);
                self.refuse(
                    now,
                    Refusal::Duplicate {
                        address: sender.listen.clone(),
                    },
                );
            }
            return;
        }
        if let Word::Refused(refusal, node) = word {
            if node.is_some_and(|node| node != self.me) {
                // Whoever was at this address before is meant.
                return;
            }
            self.refused_by(now, sender, refusal, out);
            return;
        }
        let Some(word) = self.admitted(now, sender, word, out) else {
            return;
        };
        self.detector.heard(sender.life, now.mono_ns);
        if let Word::Digest { ring, .. }
        | Word::Delta {
            digest: Some(ring), ..
        } = &word
            && self
                .ring
                .as_ref()
                .is_some_and(|own| own.cluster() == ring.cluster)
        {
            self.known.digest(&sender.life, ring);
        }
        match word {
            Word::Datagram(bytes) => self.detector.datagram(bytes, now.mono_ns),
            Word::Ping => self.say(now, from, &Word::Pong, out),
            Word::Pong | Word::Refused(..) | Word::Newer => {}
            word if self.is_clock_ahead(now, sender, out) => drop(word),
            Word::Hello(_) => self.hello(now, sender, out),
            Word::Summary {
                ring,
                buckets,
                epoch,
                vitals,
            } => {
                self.vitals.merge(&vitals);
                self.compared(now, &sender.life, (ring, buckets, epoch), out);
            }
            Word::Digest { ring, buckets } => self.digest(now, from, &ring, buckets, out),
            Word::Delta {
                part,
                buckets,
                digest,
            } => self.delta(now, from, (part, buckets, digest), out),
        }
    }

    /// The word, if this node speaks with its sender.
    fn admitted<'a>(
        &mut self,
        now: Now,
        sender: &Sender,
        word: Word<'a>,
        out: &mut Out,
    ) -> Option<Word<'a>> {
        if self.is_refused() {
            return None;
        }
        if let Some(ring) = &self.ring {
            if sender.cluster != 0 && sender.cluster != ring.cluster() {
                let cluster = ring.cluster();
                self.refuse_sender(now, sender, Refusal::OtherCluster { cluster }, out);
                return None;
            }
            if ring.members().is_removed(sender.life.node) {
                self.refuse_sender(now, sender, Refusal::Removed, out);
                return None;
            }
        }
        match self.sightings.saw(sender, now.mono_ns) {
            Sighted::Fine => Some(word),
            Sighted::Late => {
                // Late, or a directory from the past that starts: told what others know of it, it starts anew.
                if let (Word::Hello(_), Some(ring)) = (&word, &self.ring) {
                    let whole = Word::Delta {
                        part: ring.whole(),
                        buckets: None,
                        digest: Some(ring.digest()),
                    };
                    self.answer(now, sender, &whole, out);
                }
                None
            }
            Sighted::Double { address } => {
                self.report(
                    now,
                    format!(
                        "two processes have the id {}: at {} and at {address}; both are refused until one stops and the other is \
                         started again",
                        sender.life.node, sender.listen
                    ),
                );
                self.refuse_sender(now, sender, Refusal::Duplicate { address }, out);
                None
            }
        }
    }

    fn refuse_sender(&self, now: Now, sender: &Sender, refusal: Refusal, out: &mut Out) {
        let word = Word::Refused(refusal, Some(sender.life.node));
        self.answer(now, sender, &word, out);
    }

    fn refused_by(&mut self, now: Now, sender: &Sender, refusal: Refusal, out: &mut Out) {
        if self.is_refused() {
            return;
        }
        match refusal {
            // Only of the cluster that this node is in, or wants to be in.
            Refusal::Removed => {
                let own = self.ring.as_ref().map_or(0, Ring::cluster);
                if own == 0 || own == sender.cluster {
                    self.refuse(now, Refusal::Removed);
                }
            }
            Refusal::Duplicate { .. } => self.refuse(now, refusal),
            Refusal::ClockAhead { ahead_ms } => self.told_clock_ahead(now, sender, ahead_ms, out),
            Refusal::OtherCluster { cluster } => self.report(
                now,
                format!(
                    "{} at {} is of another cluster ({cluster:016x}); one of both nodes has the wrong --join or data \
                     directory",
                    sender.life.node, sender.listen
                ),
            ),
        }
    }

    /// A node has started, or wants to be let in.
    fn hello(&mut self, now: Now, sender: &Sender, out: &mut Out) {
        let Some(ring) = &self.ring else { return };
        let word = if sender.cluster == 0 {
            Word::Delta {
                part: ring.whole(),
                buckets: Some(self.buckets.clone()),
                digest: Some(ring.digest()),
            }
        } else {
            Word::Digest {
                ring: ring.digest(),
                buckets: self.buckets.fingerprint(),
            }
        };
        self.say(now, sender.life.node, &word, out);
    }

    fn compared(&mut self, now: Now, life: &Life, theirs: (u64, u64, u64), out: &mut Out) {
        let from = life.node;
        let Some((ring, buckets, epoch)) = self.hashes() else {
            let hello = Word::Hello(self.facts.clone());
            self.say(now, from, &hello, out);
            return;
        };
        if let Some(own) = self.ring.as_ref().filter(|_| ring == theirs.0) {
            self.known.same(life, own);
        }
        if (ring, buckets, epoch) == theirs {
            if self.is_from_the_past {
                // What they remember of it is known here, and no delta will come.
                self.forget_held(now);
            } else {
                self.vouched(now);
            }
            return;
        }
        let Some(ring) = &self.ring else { return };
        let digest = Word::Digest {
            ring: ring.digest(),
            buckets,
        };
        self.say(now, from, &digest, out);
    }

    fn digest(
        &mut self,
        now: Now,
        from: NodeId,
        theirs: &RingDigest,
        their_buckets: u64,
        out: &mut Out,
    ) {
        self.compare_with_the_past(now, theirs);
        let Some(ring) = &self.ring else { return };
        let part = ring.newer_than(theirs);
        let own = ring.digest();
        let wants = has_newer(theirs, &own);
        let are_buckets_equal = self.buckets.fingerprint() == their_buckets;
        if part.is_empty() && own.epoch <= theirs.epoch && !wants && are_buckets_equal {
            return;
        }
        let delta = Word::Delta {
            part,
            buckets: (!are_buckets_equal).then(|| self.buckets.clone()),
            digest: (wants || !are_buckets_equal).then_some(own),
        };
        self.say(now, from, &delta, out);
    }

    fn delta(
        &mut self,
        now: Now,
        from: NodeId,
        (part, buckets, digest): (RingPart, Option<Buckets>, Option<RingDigest>),
        out: &mut Out,
    ) {
        if let Some(digest) = &digest {
            self.compare_with_the_past(now, digest);
        }
        if self.ring.is_none() {
            self.adopt(now, part);
        } else {
            self.merge(now, from, &part);
        }
        let mut answers_buckets = false;
        if let Some(theirs) = buckets {
            if self.buckets.merge(&theirs) {
                self.has_news(now);
            }
            answers_buckets = self.buckets.fingerprint() != theirs.fingerprint();
        }
        let (Some(digest), Some(ring)) = (digest, &self.ring) else {
            return;
        };
        let part = ring.newer_than(&digest);
        if part.is_empty() && !answers_buckets && ring.epoch() <= digest.epoch {
            return;
        }
        let delta = Word::Delta {
            part,
            buckets: answers_buckets.then(|| self.buckets.clone()),
            digest: None,
        };
        self.say(now, from, &delta, out);
    }

    /// A node without a cluster takes the ring of the one that it was started to join.
    fn adopt(&mut self, now: Now, part: RingPart) {
        if self.seeds.is_empty() || self.standing != Standing::Outside {
            return;
        }
        let Some(mut ring) = part.into_ring() else {
            return;
        };
        let clusters = ring.partitions().partitions();
        if clusters != self.slices.partitions() {
            self.report(
                now,
                format!(
                    "this node's directory has {} partitions, the cluster has {clusters}: start it with an empty \
                     directory and `partitions = {clusters}`",
                    self.slices.partitions()
                ),
            );
            self.standing = Standing::WrongPartitions { clusters };
            self.has_news(now);
            return;
        }
        if ring.members().is_removed(self.me) {
            self.refuse(now, Refusal::Removed);
            return;
        }
        // A directory from before it was let in, or without what it kept of the cluster: what it has is not evidence.
        let was_known = ring.members().get(self.me).is_some();
        let stamp = self.stamp(now);
        if let Err(error) = ring.announce(self.me, self.facts.clone(), self.start_count, stamp) {
            self.report(now, format!("the cluster cannot take this node: {error:?}"));
            return;
        }
        // Staged once, at the first contact: after that it is the operators' to decide.
        let is_new = !ring.layout().contains(self.me)
            && ring
                .members()
                .get(self.me)
                .is_some_and(|member| member.wish().is_none());
        if is_new && let Err(error) = ring.stage_join(self.me, stamp) {
            self.report(now, format!("this node's joining is not staged: {error:?}"));
        }
        self.ring = Some(ring);
        self.standing = Standing::Member;
        if was_known {
            self.forget_held(now);
        }
        self.is_compared = true;
        self.has_news(now);
    }

    fn merge(&mut self, now: Now, from: NodeId, part: &RingPart) {
        let Some(ring) = &mut self.ring else { return };
        let epoch_before = ring.epoch();
        // While this process speaks for its id, nobody has a later word than its own on what it holds.
        let own_held = ring.held(self.me).map(|held| held.version());
        let is_other_word =
            self.standing == Standing::Member && part.held_version(self.me) > own_held;
        match ring.merge(part) {
            Ok(merged) => {
                let has_news = merged.changed || ring.epoch() != epoch_before;
                if let Some(lost) = &merged.lost {
                    let text = format!(
                        "two layouts were committed on two sides of a split: version {} of {} holds, that of {} does \
                         not; {} changes are staged again, see `gramme cluster status`",
                        lost.winner.version,
                        lost.winner.stamp.node,
                        lost.lost.stamp.node,
                        lost.returned.len()
                    );
                    self.report(now, text);
                }
                if has_news {
                    self.let_go_of_lost();
                    self.has_news(now);
                }
            }
            Err(RingError::OtherCluster { other, .. }) => self.report(
                now,
                format!("{from} sent the ring of another cluster ({other:016x})"),
            ),
            Err(error) => self.report(
                now,
                format!("the ring of {from} cannot be merged: {error:?}"),
            ),
        }
        self.mind_oneself(now, is_other_word);
    }

    /// What the ring says of this node itself; whether another process has spoken for it.
    fn mind_oneself(&mut self, now: Now, is_other_word: bool) {
        let Some(ring) = &self.ring else { return };
        if ring.members().is_removed(self.me) {
            if !self.is_refused() {
                self.refuse(now, Refusal::Removed);
            }
            return;
        }
        let own_held = ring.held(self.me).map(|held| held.version());
        if self.told_held.is_some() && own_held >= self.told_held {
            self.vouched(now);
            return;
        }
        let is_later_start = ring.is_from_the_past(self.me, self.start_count);
        let is_news = is_later_start || is_other_word || self.is_from_the_past;
        if !is_news || mutant::is(Mutant::PastIgnored) {
            return;
        }
        // The first that was asked may have been from the past itself.
        if !self.is_compared || now.mono_ns < self.doubtful_until_ns {
            self.forget_held(now);
        } else if self.standing == Standing::Member {
            let address = ring
                .members()
                .get(self.me)
                .map_or_else(String::new, |member| member.facts().listen.clone());
            self.refuse(now, Refusal::Duplicate { address });
        }
    }

    /// Whether others remember more of this node than it does itself: then what it has is not evidence.
    fn compare_with_the_past(&mut self, now: Now, theirs: &RingDigest) {
        if self.is_compared || self.is_refused() {
            return;
        }
        let own_cluster = self.ring.as_ref().map_or(0, Ring::cluster);
        if theirs.cluster != own_cluster {
            return;
        }
        let is_later_start = match theirs.members.get(&self.me) {
            Some(MemberVersion::Present { start_count, .. }) => *start_count >= self.start_count,
            Some(MemberVersion::Removed) => {
                self.refuse(now, Refusal::Removed);
                return;
            }
            None => false,
        };
        let own_held = self.ring.as_ref().and_then(|ring| ring.held(self.me));
        let own_held = own_held.map(|held| held.version());
        let told_held = theirs.held.get(&self.me).copied();
        let is_announced = self.standing == Standing::Member;
        let is_later_held = match self.progress.kept_version {
            // It took part by its own word meanwhile, since nobody answered.
            Some(kept) if is_announced => {
                told_held.is_some_and(|told| told > kept && told.start_count < self.start_count)
            }
            Some(_) | None => false,
        };
        if mutant::is(Mutant::PastIgnored) {
            self.vouched(now);
        } else if is_later_start || is_later_held {
            // What they remember comes with their delta; the new start is later than that.
            self.is_from_the_past = true;
        } else if !is_announced && told_held > own_held {
            self.told_held = told_held;
        } else {
            self.vouched(now);
        }
    }

    /// This node comes from the past: it holds nothing, and others bring it up.
    fn forget_held(&mut self, now: Now) {
        let stamp = self.stamp(now);
        let me = self.me;
        let Some(ring) = &mut self.ring else { return };
        self.is_from_the_past = false;
        self.progress.lost.clear();
        // Once: what is later than that is another process.
        self.doubtful_until_ns = 0;
        match ring.forget_held(me, self.start_count, stamp) {
            Ok(start_count) => {
                self.start_count = start_count;
                let life = Life {
                    node: me,
                    start: start_count,
                    renewal: 0,
                };
                self.detector = Detector::new(life, self.rng.next());
                self.report(
                    now,
                    "others remember more of this node than its directory does (an old backup, a copied disk, a crash \
                     in the middle of a move): its own copy is not evidence, and is brought up from the others"
                        .into(),
                );
                self.has_news(now);
            }
            Err(error) => self.report(now, format!("this node cannot start anew: {error:?}")),
        }
        self.vouched(now);
    }
}

/// Whether a digest has anything that another lacks.
fn has_newer(theirs: &RingDigest, own: &RingDigest) -> bool {
    theirs.epoch > own.epoch
        || theirs.layout > own.layout
        || theirs.members.iter().any(|(node, version)| {
            own.members
                .get(node)
                .is_none_or(|known| version.adds_to(known))
        })
        || theirs.held.iter().any(|(node, version)| {
            own.members.get(node) != Some(&MemberVersion::Removed)
                && own.held.get(node).is_none_or(|known| version > known)
        })
}
