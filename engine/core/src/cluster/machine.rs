//! The machine of the control role: what the cluster agrees on, who seems alive, and what follows for this node.
//!
//! Owns the ring, the buckets' rules and the detector of this node, and the view that all its shards work by. Never
//! reads a clock, never touches a socket or a file: time, messages and what was kept come in, an [`Out`] goes back.
//!
//! Invariants:
//! - the same calls give the same answers;
//! - a node that was not let in, was removed, or has a double serves nothing;
//! - what a node tells of its own data is raised, never taken from others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::boot::{Boot, BootError, Kept};
use super::buckets::Buckets;
use super::clock::OwnClock;
use super::detector::{Detector, Life};
use super::known::Known;
use super::progress::Progress;
use super::rng::Rng;
use super::sighting::Sightings;
use super::view::{self, Duties, Published};
use super::vitals::{AllVitals, Vitals};
use super::word::{Refusal, Sender, Word, encode};
use crate::base::ids::{NodeId, PartitionId, ShardIndex};
use crate::base::limits::REPLICAS_DEFAULT;
use crate::base::time::{HlcClock, Now};
use crate::port::{Note, RequestId};
use crate::ring::{
    Facts, Founding, HeldVersion, NodeView, PartitionMap, PartitionView, Plan, Ring, RingView,
};
use crate::ring::{Shape, Slices, Stamp};

/// How often a node compares with another.
const EXCHANGE_NS: u64 = 200_000_000;
/// How soon news are passed on, at least and at most.
const NEWS_NS: (u64, u64) = (5_000_000, 30_000_000);
/// How often a node that is not let in asks its seeds.
const HAIL_NS: u64 = 300_000_000;
/// How often a node that hears nobody asks its seeds.
const LONELY_HAIL_NS: u64 = 2_000_000_000;
/// How often opinions are looked at anew.
const LOOK_NS: u64 = 100_000_000;
/// For how long after a start others may remember more of this node than the first one that was asked.
const DOUBTFUL_NS: u64 = 3_000_000_000;
/// How long a start waits for what others know of this node before it serves by its own word.
const VOUCH_NS: u64 = 700_000_000;
/// The least time between two views.
const PUBLISH_NS: u64 = 10_000_000;
/// The same after one with a new table of partitions: while many partitions move, a table for each would take the time
/// of a data core.
const TABLE_NS: u64 = 40_000_000;
/// The least time between two states that are kept, but for what lets data go.
const KEEP_NS: u64 = 40_000_000;
/// How long a view waits that lets shards drop data: until it is kept, and known to others, that this node holds it no
/// more. A crash in between would have it say that it holds what it dropped.
const LET_GO_NS: u64 = 100_000_000;
/// Every so many exchanges one goes to a node that seems to be away, so that splits heal.
const AWAY_EVERY: u64 = 5;
/// Members that a start asks for what they know.
const GREETED_MAX: usize = 3;
/// Reports to operators that are kept.
pub(super) const REPORTS_MAX: usize = 32;
/// What goes on is reported anew after so long.
const REPORTED_MS: u64 = 60_000;

/// What the machine wants done.
#[derive(Debug, Default)]
pub struct Out {
    /// Gossip to members.
    pub sends: Vec<(NodeId, Vec<u8>)>,
    /// Gossip to addresses.
    pub hails: Vec<(String, Vec<u8>)>,
    /// A new view for all shards.
    pub view: Option<Arc<RingView>>,
    /// Notes for all shards beside the view.
    pub notes: Vec<Note>,
    /// What to keep until the next start.
    pub state: Option<Vec<u8>>,
    /// What operators should read in this node's log.
    pub reports: Vec<String>,
    /// Answers to operators' commands, JSON.
    pub answers: Vec<(RequestId, Vec<u8>)>,
}

/// What this node may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It waits to be let into a cluster.
    Outside,
    /// It has just started, and asks others what they know of it; it holds nothing meanwhile.
    Vouching { until_ns: u64 },
    /// It takes its part.
    Member,
    /// It serves nothing until an operator does something.
    Refused(Refusal),
    /// Its directory has another number of partitions than the cluster.
    WrongPartitions { clusters: u32 },
}

/// Something that operators are told until it is pushed out by newer things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) wall_ms: u64,
    pub(super) text: String,
}

/// When things are to happen next.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    exchange_ns: u64,
    hail_ns: u64,
    look_ns: u64,
    /// When the next view may come, at the earliest.
    publish_ns: u64,
    /// When the next state may be kept, at the earliest.
    keep_ns: u64,
}

/// The control role of one node.
pub struct Cluster {
    // fixed for this run
    pub(super) me: NodeId,
    pub(super) facts: Facts,
    pub(super) slices: Slices,
    pub(super) seeds: Vec<String>,
    pub(super) instance: u64,
    pub(super) clock_drift_ms_max: u64,
    // agreed on
    pub(super) ring: Option<Ring>,
    pub(super) buckets: Buckets,
    pub(super) start_count: u64,
    pub(super) clock: HlcClock,
    // opinions
    pub(super) detector: Detector,
    pub(super) sightings: Sightings,
    pub(super) own_clock: OwnClock,
    pub(super) standing: Standing,
    /// Whether another node has said, in this run, what it knows of this one.
    pub(super) is_compared: bool,
    /// Others remember more of this node than it does; it starts anew when it has heard what.
    pub(super) is_from_the_past: bool,
    /// Who says later starts before this moment remembers what this process does not; after it, another process runs.
    pub(super) doubtful_until_ns: u64,
    /// Others have a later word of this node on what it holds than it kept itself; it takes part when it has heard it.
    pub(super) told_held: Option<HeldVersion>,
    pub(super) rng: Rng,
    pub(super) vitals: AllVitals,
    // this node's shards
    pub(super) progress: Progress,
    pub(super) known: Known,
    /// How far each shard's background is.
    pub(super) background: BTreeMap<ShardIndex, crate::port::Progress>,
    // operators
    pub(super) plan: Option<Plan>,
    pub(super) reports: VecDeque<Report>,
    unsaid: Vec<String>,
    pub(super) garbage: u64,
    // edges
    pub(super) published: Published,
    pub(super) table: Option<(u64, Arc<Vec<PartitionView>>)>,
    fingerprint: Option<(u64, u64)>,
    times: Times,
    exchanges: u64,
    pub(super) is_dirty: bool,
    is_unkept: bool,
}

impl Cluster {
    /// A node starts. Publish what [`Self::begin`] says before any shard serves.
    ///
    /// # Errors
    /// [`BootError`]; nothing was changed.
    pub fn boot(boot: Boot, now: Now) -> Result<Self, BootError> {
        let kept = boot
            .state
            .as_deref()
            .map(Kept::from_bytes)
            .transpose()
            .map_err(BootError::State)?;
        let is_other = kept.as_ref().is_some_and(|kept| {
            let is_other_cut = kept
                .ring
                .as_ref()
                .is_some_and(|ring| ring.partitions().partitions() != boot.slices.partitions());
            kept.me != boot.me || is_other_cut
        });
        if is_other {
            return Err(BootError::OtherDirectory);
        }
        let configured = Buckets::of_configuration(&boot.buckets);
        let (ring, buckets, start_count) = match kept {
            Some(kept) => {
                let mut buckets = kept.buckets;
                buckets.merge(&configured);
                (
                    kept.ring,
                    buckets,
                    boot.start_count.max(kept.start_count + 1),
                )
            }
            None => (None, configured, boot.start_count),
        };
        let mut rng = Rng::new(boot.random_seed);
        let instance = rng.next();
        let life = Life {
            node: boot.me,
            start: start_count,
            renewal: 0,
        };
        let mut cluster = Self {
            me: boot.me,
            facts: boot.facts(),
            slices: boot.slices,
            seeds: boot.seeds,
            instance,
            clock_drift_ms_max: boot.clock_drift_ms_max,
            ring,
            buckets,
            start_count,
            clock: HlcClock::default(),
            detector: Detector::new(life, rng.next()),
            sightings: Sightings::default(),
            own_clock: OwnClock::default(),
            standing: Standing::Outside,
            is_compared: false,
            is_from_the_past: false,
            doubtful_until_ns: 0,
            told_held: None,
            rng,
            vitals: AllVitals::default(),
            progress: Progress::default(),
            known: Known::default(),
            background: BTreeMap::new(),
            plan: None,
            reports: VecDeque::new(),
            unsaid: Vec::new(),
            garbage: 0,
            published: Published::default(),
            table: None,
            fingerprint: None,
            times: Times::default(),
            exchanges: 0,
            is_dirty: true,
            is_unkept: true,
        };
        if cluster.ring.is_some() {
            cluster.come_back(now);
        } else if cluster.seeds.is_empty() {
            cluster.found(now);
        }
        Ok(cluster)
    }

    /// What follows from the start alone: the first view, what to keep, and greetings.
    pub fn begin(&mut self, now: Now, out: &mut Out) {
        self.greet(now, out);
        self.tick(now, out);
    }

    fn found(&mut self, now: Now) {
        let stamp = self.stamp(now);
        let Some(partitions) = PartitionMap::new(self.slices.partitions()) else {
            return;
        };
        let founding = Founding {
            cluster: self.rng.next().max(1),
            shape: Shape {
                partitions,
                n: self.buckets.n_max().max(REPLICAS_DEFAULT),
            },
            node: self.me,
            facts: self.facts.clone(),
            start_count: self.start_count,
            stamp,
        };
        match Ring::found(founding) {
            Ok(ring) => {
                self.ring = Some(ring);
                self.standing = Standing::Member;
                self.is_compared = true;
            }
            Err(error) => self.report(now, format!("no cluster could be begun: {error:?}")),
        }
    }

    fn come_back(&mut self, now: Now) {
        // Announced only then: what is kept may be a moment behind what this node told others in its last run, and a new
        // start would go before that.
        self.standing = Standing::Vouching {
            until_ns: now.mono_ns.saturating_add(VOUCH_NS),
        };
        self.doubtful_until_ns = now.mono_ns.saturating_add(DOUBTFUL_NS);
        let others: Vec<NodeId> = self.others().collect();
        if others.is_empty() {
            self.vouched(now);
        }
        for node in others {
            self.detector.know(node, now.mono_ns);
        }
    }

    /// This node says what it is, as of this start.
    pub(super) fn announce(&mut self, now: Now) {
        let stamp = self.stamp(now);
        let (me, facts, start_count) = (self.me, self.facts.clone(), self.start_count);
        let Some(ring) = &mut self.ring else { return };
        self.progress.kept_version = ring.held(me).map(|held| held.version());
        match ring.announce(me, facts, start_count, stamp) {
            Ok(_) => self.has_news(now),
            Err(_) => self.refuse(now, Refusal::Removed),
        }
    }

    /// Asks a few members for what they know, and tells all others that this node is there.
    fn greet(&mut self, now: Now, out: &mut Out) {
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

    /// When the next [`Self::tick`] is due, on the clock of `Now::mono_ns`.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let mut next: Option<u64> = None;
        let mut at = |at_ns: Option<u64>| {
            next = match (next, at_ns) {
                (Some(next), Some(at_ns)) => Some(next.min(at_ns)),
                (next, at_ns) => next.or(at_ns),
            };
        };
        if self.is_dirty {
            at(Some(self.times.publish_ns));
        }
        if self.is_unkept {
            at(Some(self.times.keep_ns));
        }
        if self.is_refused() {
            return next;
        }
        if let Standing::Vouching { until_ns } = self.standing
            && !self.is_waiting_to_hear()
        {
            at(Some(until_ns));
        }
        at(self.own_clock.next_deadline_ns());
        if self.has_company() {
            at(self.detector.next_deadline_ns());
            at(Some(self.times.exchange_ns));
            at(Some(self.times.look_ns));
            at(self.ask_deadline_ns());
        }
        if !self.seeds.is_empty() && (self.ring.is_none() || self.has_company()) {
            at(Some(self.times.hail_ns));
        }
        next
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, out: &mut Out) {
        if !self.is_refused() {
            self.detector.tick(now.mono_ns);
            self.look_at_clock(now);
            self.hail(now, out);
            self.exchange(now, out);
            if now.mono_ns >= self.times.look_ns {
                self.times.look_ns = now.mono_ns + LOOK_NS;
                self.look(now);
            }
            if let Standing::Vouching { until_ns } = self.standing
                && until_ns <= now.mono_ns
                && !self.is_waiting_to_hear()
            {
                self.take_part(now);
            }
            self.heed_known(now, out);
        }
        self.settle(now, out);
    }

    /// The connection to a node ended, or could not be made.
    pub fn peer_lost(&mut self, now: Now, node: NodeId, out: &mut Out) {
        if !self.is_refused() && self.detector.lost(node, now.mono_ns) {
            self.say(now, node, &Word::Ping, out);
            self.times.look_ns = self.times.look_ns.min(now.mono_ns + LOOK_NS);
        }
    }

    /// What this node's disk has; as often as is convenient.
    pub fn set_vitals(&mut self, vitals: Vitals) {
        self.vitals.set(self.me, self.start_count, vitals);
    }

    /// The node stops in order: others need not find out.
    pub fn stop(&mut self, now: Now, out: &mut Out) {
        self.detector.leave(now.mono_ns);
        self.send_datagrams(now, out);
    }

    /// What this node knows of the cluster; nothing before it was let in.
    pub fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// Whether it is clear what this node serves: a start should not be called ready before.
    pub fn is_settled(&self) -> bool {
        !matches!(self.standing, Standing::Vouching { .. }) || self.own_clock.is_wrong()
    }

    /// The members beside this node.
    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ring
            .iter()
            .flat_map(|ring| ring.members().iter())
            .map(|(node, _)| node)
            .filter(|node| *node != self.me)
    }

    fn has_company(&self) -> bool {
        self.others().next().is_some()
    }

    fn is_waiting_to_hear(&self) -> bool {
        self.is_from_the_past || self.told_held.is_some() || self.own_clock.is_doubted()
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(
            self.standing,
            Standing::Refused(_) | Standing::WrongPartitions { .. }
        )
    }

    /// Whether a node's disk has room, as far as it said.
    fn takes_values(&self, node: NodeId) -> bool {
        let vitals = self.vitals.get(node);
        vitals.is_none_or(|vitals| vitals.takes_writes)
    }

    pub(super) fn is_alive(&self, node: NodeId, now: Now) -> bool {
        if node == self.me {
            return !self.is_refused();
        }
        self.detector.is_alive(node, now.mono_ns)
    }

    /// What others know of this node does not contradict it.
    pub(super) fn vouched(&mut self, now: Now) {
        self.is_compared = true;
        self.take_part(now);
    }

    fn take_part(&mut self, now: Now) {
        // By its clock nothing may be said of it to others that goes before what is said later.
        if self.own_clock.is_doubted() {
            return;
        }
        if let Standing::Vouching { .. } = self.standing {
            self.standing = Standing::Member;
            self.told_held = None;
            self.table = None;
            self.is_dirty = true;
            self.announce(now);
        }
    }

    /// The table of partitions is made anew.
    pub(super) fn serve_anew(&mut self) {
        self.table = None;
        self.is_dirty = true;
    }

    /// It serves nothing from now on.
    pub(super) fn refuse(&mut self, now: Now, refusal: Refusal) {
        self.report(now, refusal.in_words());
        self.standing = Standing::Refused(refusal);
        self.serve_anew();
    }

    /// The next time of this node, for what it writes into the ring.
    pub(super) fn stamp(&mut self, now: Now) -> Stamp {
        Stamp {
            hlc: self.clock.tick(now.wall_ms),
            node: self.me,
        }
    }

    pub(super) fn report(&mut self, now: Now, text: String) {
        let is_known = |report: &Report| {
            report.text == text && now.wall_ms.abs_diff(report.wall_ms) < REPORTED_MS
        };
        if self.reports.iter().any(is_known) {
            return;
        }
        if self.reports.len() == REPORTS_MAX {
            self.reports.pop_front();
        }
        self.unsaid.push(text.clone());
        self.reports.push_back(Report {
            wall_ms: now.wall_ms,
            text,
        });
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

    fn send_datagrams(&mut self, now: Now, out: &mut Out) {
        for datagram in self.detector.take_datagrams() {
            self.say(now, datagram.to, &Word::Datagram(&datagram.bytes), out);
        }
    }

    /// Asks the seeds, while this node is outside or hears nobody.
    fn hail(&mut self, now: Now, out: &mut Out) {
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
    fn exchange(&mut self, now: Now, out: &mut Out) {
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
    fn summary(&mut self) -> Option<Word<'static>> {
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

    /// Looks whether opinions of who is alive, or takes values, have changed.
    fn look(&mut self, now: Now) {
        let has_changed = self.published.view().is_some_and(|view| {
            view.nodes.iter().any(|node| {
                node.is_alive != self.is_alive(node.id, now)
                    || node.takes_values != self.takes_values(node.id)
            })
        });
        self.is_dirty |= has_changed;
    }

    /// The next view lets shards drop data.
    pub(super) fn let_go_later(&mut self, now: Now) {
        self.times.publish_ns = self.times.publish_ns.max(now.mono_ns + LET_GO_NS);
        self.times.keep_ns = now.mono_ns;
    }

    /// What is known now is kept before the news of it are heard, as far as that depends on this node.
    pub(super) fn keep_soon(&mut self, now: Now) {
        let soon_ns = now.mono_ns + NEWS_NS.0;
        self.times.keep_ns = self.times.keep_ns.min(soon_ns);
    }

    /// Publishes and keeps what has changed, not more often than is useful.
    pub(super) fn settle(&mut self, now: Now, out: &mut Out) {
        self.send_datagrams(now, out);
        out.reports.append(&mut self.unsaid);
        out.notes.extend(self.own_clock.note());
        if self.is_unkept && now.mono_ns >= self.times.keep_ns {
            self.is_unkept = false;
            self.times.keep_ns = now.mono_ns + KEEP_NS;
            out.state = Some(Kept::to_bytes(
                self.me,
                self.start_count,
                self.ring.as_ref(),
                &self.buckets,
            ));
        }
        if !self.is_dirty || now.mono_ns < self.times.publish_ns {
            return;
        }
        self.is_dirty = false;
        let had_epoch = self.table.as_ref().map(|(epoch, _)| *epoch);
        let view = self.make_view(now);
        let gap_ns = if had_epoch == Some(view.epoch) {
            PUBLISH_NS
        } else {
            TABLE_NS
        };
        self.times.publish_ns = now.mono_ns + gap_ns;
        if let Some(view) = self.published.replace(view) {
            out.view = Some(view);
        }
    }

    fn make_view(&mut self, now: Now) -> RingView {
        let nodes = match &self.ring {
            Some(ring) => ring.node_views(
                |node| self.is_alive(node, now),
                |node| self.takes_values(node),
            ),
            None => Vec::new(),
        };
        let epoch = self.ring.as_ref().map_or(0, Ring::epoch);
        let partitions = match &self.table {
            Some((of, table)) if *of == epoch => Arc::clone(table),
            Some(_) | None => {
                let table = self.make_table(&nodes, (epoch, now.mono_ns));
                self.table = Some((epoch, Arc::clone(&table)));
                table
            }
        };
        RingView {
            epoch,
            cluster: self.ring.as_ref().map_or(0, Ring::cluster),
            me: self.me,
            slices: self.slices,
            nodes,
            partitions,
            buckets: view::buckets(&self.buckets, self.ring.as_ref().map(Ring::layout)),
        }
    }

    fn make_table(&mut self, nodes: &[NodeView], at: (u64, u64)) -> Arc<Vec<PartitionView>> {
        let blank = || Arc::new(view::blank(self.slices));
        let Some(ring) = &self.ring else {
            return blank();
        };
        match self.standing {
            Standing::Outside | Standing::Refused(_) | Standing::WrongPartitions { .. } => blank(),
            Standing::Member if !self.own_clock.is_wrong() => {
                let routes = ring.routes();
                let mut table = ring.partition_views(self.me, &routes);
                for (node, partition) in self.known.doubted(ring, &routes, self.me) {
                    let number = nodes.binary_search_by_key(&node, |node| node.id).ok();
                    let number = number.and_then(|at| u16::try_from(at).ok());
                    let rows = Arc::make_mut(&mut table);
                    let row = rows.get_mut(partition.0 as usize);
                    if let (Some(row), Some(number)) = (row, number) {
                        row.others = row.others.iter().copied().chain([number]).collect();
                    }
                }
                let layout = ring.layout().id();
                let duties = Duties::of(&table, nodes, self.me);
                let moves = !duties.pending.is_empty() || !duties.draining.is_empty();
                self.progress.duties(duties, layout, at);
                if moves {
                    let rows = Arc::make_mut(&mut table).iter_mut();
                    for (partition, row) in (0u32..).map(PartitionId).zip(rows) {
                        row.is_move_known = self.progress.is_known(partition);
                    }
                }
                table
            }
            Standing::Member | Standing::Vouching { .. } => {
                let mut table = ring.partition_views(self.me, &ring.routes());
                let number = nodes
                    .binary_search_by_key(&self.me, |node| node.id)
                    .ok()
                    .and_then(|at| u16::try_from(at).ok());
                for row in Arc::make_mut(&mut table) {
                    view::without(row, number);
                }
                table
            }
        }
    }
}
