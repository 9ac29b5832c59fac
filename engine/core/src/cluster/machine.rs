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
use super::view::Published;
use super::vitals::{AllVitals, Vitals};
use super::word::{Refusal, Word};
use crate::base::ids::{NodeId, ShardIndex};
use crate::base::limits::REPLICAS_DEFAULT;
use crate::base::time::{HlcClock, Now};
use crate::port::{Note, RequestId};
use crate::ring::{
    Facts, Founding, HeldVersion, PartitionMap, PartitionView, Plan, Ring, RingView,
};
use crate::ring::{Shape, Slices, Stamp};

/// How soon news are passed on, at least and at most.
pub(super) const NEWS_NS: (u64, u64) = (5_000_000, 30_000_000);
/// How often opinions are looked at anew.
const LOOK_NS: u64 = 100_000_000;
/// For how long after a start others may remember more of this node than the first one that was asked.
const DOUBTFUL_NS: u64 = 3_000_000_000;
/// How long a start waits for what others know of this node before it serves by its own word.
const VOUCH_NS: u64 = 700_000_000;
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
pub(super) struct Times {
    pub(super) exchange_ns: u64,
    pub(super) hail_ns: u64,
    pub(super) look_ns: u64,
    /// When the next view may come, at the earliest.
    pub(super) publish_ns: u64,
    /// When the next state may be kept, at the earliest.
    pub(super) keep_ns: u64,
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
    pub(super) unsaid: Vec<String>,
    pub(super) garbage: u64,
    // edges
    pub(super) published: Published,
    pub(super) table: Option<(u64, Arc<Vec<PartitionView>>)>,
    pub(super) fingerprint: Option<(u64, u64)>,
    pub(super) times: Times,
    pub(super) exchanges: u64,
    pub(super) is_dirty: bool,
    pub(super) is_unkept: bool,
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
            Ok(_) => {
                self.let_go_of_lost();
                self.has_news(now);
            }
            Err(_) => self.refuse(now, Refusal::Removed),
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

    pub(super) fn has_company(&self) -> bool {
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
    pub(super) fn takes_values(&self, node: NodeId) -> bool {
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
}
