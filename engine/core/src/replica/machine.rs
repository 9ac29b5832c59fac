//! The machine: an event in, effects out.
//!
//! Owns every part of one shard and joins them; the parts know nothing of each other's turn. What a request does lies in
//! `get`, `write` and `scan`; what happens behind the requests in `clean` and `checkpoints`.
//!
//! A request that needs the disk is kept whole and run again from its start when the record is there: a request has no
//! half-done state, so a late or failed read can spoil nothing.
//!
//! Invariants:
//! - an acknowledgement leaves only when its batch is as durable as was asked;
//! - no time of the hybrid clock leaves before a ceiling at or above it is on stable media;
//! - a key whose record does not verify is unknown, never absent.
//!
//! # Layout
//! - `reads`: records from memory or the disk, and who waits for them;
//! - `commits`: group commit, and who waits for it; `mend`: writes to the log that failed;
//! - `live`: index, digest and live bytes together.

mod commits;
mod live;
mod mend;
mod reads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use commits::CommitWaiter;
use reads::PendingRead;

pub(super) use reads::READ_TRIES_MAX;

use crate::base::hash;
use crate::base::ids::{BatchNumber, PartitionId, SegmentId, Token};
use crate::base::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::time::{Hlc, HlcClock, Now, WallClock};
use crate::port::ids::purpose_of;
use crate::port::{
    Effect, Effects, Event, Failure, Foreseen, IoError, LogRange, Op, Outcome, OwnedRequest,
    Progress, Receipt, Request, RequestId, ShardDisk, Ticket,
};
use crate::replica::checkpoints::Checkpoints;
use crate::replica::clean::Cleaner;
use crate::replica::config::{Bucket, ShardConfig};
use crate::replica::hints::HINT_BUCKET;
use crate::replica::hints::RefusedHints;
use crate::replica::pace::{BackgroundPace, PaceConfig};
use crate::replica::records::{ReadEnd, ReadResult};
use crate::replica::scrub::Scrubber;
use crate::replica::status::{Damage, ShardStatus, WriteState};
use crate::store::cache::RecordCache;
use crate::store::digest::Digest;
use crate::store::format::{FLAG_DROP, Record, RecordError, Spot};
use crate::store::index::Index;
use crate::store::log::{Appended, Log};
use crate::store::place::{Place, PlaceLayout};
use crate::store::segment::SegmentState;

/// How far ahead of use the clock's ceiling is put on stable media. Less than the drift that peers allow, so that a
/// start after a crash, which goes on at the ceiling, is not refused by them.
pub(super) const CEILING_AHEAD_MS: u64 = 200;
/// Failed writes in a row after which the shard turns read-only.
pub(super) const WRITE_FAULTS_MAX: u32 = 3;
/// How often it is asked at least whether other shards have what this one depends on.
const OTHERS_STEP_NS: u64 = 1_000_000;
/// How often waiting requests are looked at for their deadlines.
const DEADLINE_STEP_NS: u64 = 5_000_000;

/// What the processor fetches at once.
const CACHE_LINE_BYTES: usize = 64;

/// A record that was read for the requests that wait for it.
#[derive(Clone, Copy)]
pub(super) struct Fetched<'a> {
    pub(super) place: Place,
    pub(super) record: &'a [u8],
}

/// A key's identity within the shard.
#[derive(Clone, Copy)]
pub(super) struct KeyId {
    pub(super) token: Token,
    pub(super) tag15: u16,
}

/// An object that is told to the coordinator when its batch is on stable media.
pub(super) struct AppliedAhead {
    pub(super) batch: BatchNumber,
    pub(super) id: RequestId,
    pub(super) object: Box<[u8]>,
}

/// Whether puts are taken now; found anew at the end of each turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    Go,
    /// The cleaner will make room.
    Wait,
    Full,
}

/// One shard.
pub struct Replica {
    // fixed
    pub(super) config: ShardConfig,
    pub(super) layout: PlaceLayout,
    // what is kept
    pub(super) index: Index,
    pub(super) digest: Digest,
    pub(super) log: Log,
    pub(super) cache: RecordCache,
    pub(super) clock: HlcClock,
    pub(super) wall_clock: WallClock,
    // who waits
    reads: BTreeMap<Ticket, PendingRead>,
    reading: BTreeMap<u64, Ticket>,
    commit_waiters: VecDeque<CommitWaiter>,
    /// Objects for the other replicas whose times are not on stable media as possibly used.
    pub(super) applied_ahead: VecDeque<AppliedAhead>,
    stalled: VecDeque<OwnedRequest>,
    /// Hints that there was no room for.
    pub(super) refused_hints: RefusedHints,
    pub(super) waiting: u32,
    /// Reads for the background that have ended.
    pub(super) upkeep_reads: Vec<ReadEnd>,
    /// Places of records that walks have yet to pass over, since they cannot be read.
    pub(super) unreadable: BTreeSet<u64>,
    is_commit_urgent: bool,
    last_turn_ns: u64,
    is_awaiting_others: bool,
    // background
    /// How fast it may go.
    pub(crate) background: BackgroundPace,
    pub(super) cleaner: Cleaner,
    pub(super) scrubber: Scrubber,
    pub(super) checkpoints: Checkpoints,
    // state
    pub(super) admission: Admission,
    pub(super) is_read_only: bool,
    pub(super) write_faults_in_row: u32,
    /// Partitions of which something is lost: what the index does not have is unknown there, not absent.
    pub(super) tainted: BTreeSet<PartitionId>,
    pub(super) taints: u64,
    /// Where records that do not verify lay, by key: one that the index still names is unknown.
    pub(super) lost: BTreeSet<(Token, u64)>,
    /// The fingerprints of those among them that hints are for, by token and tag.
    pub(super) lost_prints: BTreeMap<(Token, u16), u64>,
    /// By place, how often a read of it failed.
    pub(super) failed_reads: BTreeMap<u64, u8>,
    /// From when on a partition was held without loss, where it was gained or dropped: births before are not continued.
    pub(super) since_of: BTreeMap<PartitionId, Hlc>,
    /// The same for all: the last start after a crash.
    pub(super) whole_since: Hlc,
    /// Whether that is the last word: not before the first write of a run that began with a crash.
    pub(super) is_whole_known: bool,
    pub(super) is_stopping: bool,
    pub(super) has_stopped: bool,
    pub(super) live_bytes: u64,
    pub(super) stats: ShardStatus,
    /// Other nodes hold copies: a delete leaves its tombstone, and tombstones are forgotten by agreement only.
    pub(super) is_replicated: bool,
    /// With the records of files that go before; no client is there yet.
    pub(super) is_being_filled: bool,
    /// By partition, whether this node answers for it; empty: for all.
    pub(super) answered: Vec<bool>,
    hint_bucket: Bucket,
    // scratch, reused
    pub(super) old_object: Vec<u8>,
    pub(super) new_object: Vec<u8>,
}

/// The parts that `open` has built.
pub(super) struct Parts {
    pub(super) config: ShardConfig,
    pub(super) now: Now,
    pub(super) layout: PlaceLayout,
    pub(super) index: Index,
    pub(super) digest: Digest,
    pub(super) log: Log,
    pub(super) cache: RecordCache,
    pub(super) hlc: Hlc,
    pub(super) whole_since: Hlc,
    /// Whether that is the last word: not before the first write of a run that began with a crash.
    pub(super) is_whole_known: bool,
    pub(super) checkpoints: Checkpoints,
    pub(super) damage: Vec<Damage>,
    pub(super) lost: BTreeSet<(Token, u64)>,
    pub(super) tainted: BTreeSet<PartitionId>,
    pub(super) live_bytes: u64,
}

impl Replica {
    pub(super) fn from_parts(parts: Parts) -> Self {
        let mut replica = Self {
            config: parts.config,
            layout: parts.layout,
            index: parts.index,
            digest: parts.digest,
            log: parts.log,
            cache: parts.cache,
            clock: HlcClock::after(parts.hlc),
            wall_clock: WallClock::starting(parts.now),
            reads: BTreeMap::new(),
            reading: BTreeMap::new(),
            commit_waiters: VecDeque::with_capacity(1024),
            applied_ahead: VecDeque::new(),
            stalled: VecDeque::new(),
            refused_hints: RefusedHints::default(),
            waiting: 0,
            upkeep_reads: Vec::new(),
            unreadable: BTreeSet::new(),
            is_commit_urgent: false,
            last_turn_ns: 0,
            is_awaiting_others: false,
            background: BackgroundPace::default(),
            cleaner: Cleaner::default(),
            scrubber: Scrubber::default(),
            checkpoints: parts.checkpoints,
            admission: Admission::Go,
            is_read_only: false,
            write_faults_in_row: 0,
            taints: parts.tainted.len() as u64,
            tainted: parts.tainted,
            lost: parts.lost,
            lost_prints: BTreeMap::new(),
            failed_reads: BTreeMap::new(),
            since_of: BTreeMap::new(),
            whole_since: parts.whole_since,
            is_whole_known: parts.is_whole_known,
            is_stopping: false,
            has_stopped: false,
            live_bytes: parts.live_bytes,
            is_replicated: false,
            is_being_filled: false,
            answered: Vec::new(),
            hint_bucket: Bucket::new(HINT_BUCKET),
            stats: ShardStatus {
                damage: parts.damage,
                ..ShardStatus::default()
            },
            old_object: Vec::with_capacity(4096),
            new_object: Vec::with_capacity(4096),
        };
        let damaged: Vec<SegmentId> = replica.stats.damage.iter().map(|d| d.segment).collect();
        for id in damaged {
            replica.hold_damaged(id);
        }
        replica.read_marks();
        replica.trust_marks();
        let tainted: Vec<PartitionId> = replica.tainted.iter().copied().collect();
        for partition in tainted {
            replica.raise_since(partition);
        }
        replica
    }

    /// Takes one event; appends effects.
    pub fn step(&mut self, now: Now, event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Request(request) => self.request(now, &request, None, effects),
            Event::WriteDone { ticket, result } => self.write_done(now, ticket, result, effects),
            Event::ReadDone { ticket, result } => self.read_done(now, ticket, result, effects),
            Event::PrepareDone { ticket, result } => {
                if !self.log.prepare_done(ticket, result, now.mono_ns, effects) {
                    self.checkpoint_prepared(now, ticket, result);
                }
            }
            Event::Message { .. } | Event::PeerLost(_) | Event::Note(_) => {
                unreachable!("the shard keeps these to itself")
            }
            Event::Begun { tick, batches } => self.log.frontier.see(tick, batches),
            Event::Settled { tick } => {
                self.log.settle(tick);
                self.release_durable(now, effects);
            }
            Event::TurnEnd => self.turn_end(now, effects),
            Event::Tick => {
                self.drop_expired(now, effects);
                self.turn_end(now, effects);
            }
            Event::Stop => {
                self.is_stopping = true;
                self.fail_stalled(Failure::Stopping, effects);
                self.turn_end(now, effects);
            }
        }
    }

    /// When it wants an `Event::Tick`, on the clock of `Now::mono_ns`.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let interval_ns = self.config.commit_interval_ns.max(1);
        // While enough commits are on their way, nothing can be done before one of them ends. A loop that looked on would
        // keep its core from the kernel's worker that is to end it.
        let commit = self.log.open_tick().filter(|_| self.is_commit_free());
        let commit = commit.map(|tick| tick.saturating_add(1).saturating_mul(interval_ns));
        let others = self.is_awaiting_others;
        let others = others.then(|| {
            self.last_turn_ns
                .saturating_add(interval_ns.max(OTHERS_STEP_NS))
        });
        let waiting = self
            .oldest_wait_ns()
            .map(|since| since.saturating_add(DEADLINE_STEP_NS));
        [
            commit,
            waiting,
            others,
            self.log.prepare_retry_ns(),
            self.clean_next_ns(),
            self.scrub_next_ns(),
            self.checkpoint_next_ns(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn oldest_wait_ns(&self) -> Option<u64> {
        let is_any = self.waiting > 0 || !self.stalled.is_empty();
        is_any.then_some(self.last_turn_ns)
    }

    /// Requests for these keys are about to come: loads what they will look at first, the slots of all, the digest's leaves
    /// of those that are written, then the beginning of each wanted record that lies in the log's memory, so that the
    /// misses of all are waited for at once.
    pub fn foresee(&self, keys: impl Iterator<Item = Foreseen> + Clone) {
        for key in keys.clone() {
            self.index.foresee(key.token);
            if !key.is_of_record {
                self.digest.foresee(key.token);
            }
        }
        for key in keys.filter(|key| key.is_of_record) {
            let token = key.token;
            let record = self.index.guess(token).and_then(|place| {
                let (segment, offset) = (self.layout.segment(place), self.layout.offset(place));
                self.log.in_memory(segment, offset)
            });
            let line = |at: usize| record.and_then(|bytes| bytes.get(at)).copied();
            core::hint::black_box((line(0), line(CACHE_LINE_BYTES)));
        }
    }

    /// The bytes of a `Write` effect.
    pub fn log_bytes(&self, range: LogRange) -> &[u8] {
        self.log.bytes(range)
    }

    /// Whether it can take writes at once: the first segments are there. A runtime waits for it before it serves.
    pub fn is_ready(&self) -> bool {
        self.log.end().is_some()
            || self.log.free_segments() > 0
                && self
                    .log
                    .segments
                    .first(crate::store::segment::SegmentState::Ready)
                    .is_some()
    }

    /// Says whether other nodes find that this node's clock is too far from theirs, and when one agreed with it last.
    pub fn set_clock_wrong(&mut self, agreed: Now, is_wrong: bool) {
        self.wall_clock.set_wrong(agreed, is_wrong);
    }

    /// Says whether other nodes hold copies.
    pub fn set_replicated(&mut self, is_replicated: bool) {
        let is_new = is_replicated && !self.is_replicated;
        self.is_replicated = is_replicated;
        if is_new {
            self.lose_damaged();
        }
    }

    /// How many keys of a partition have a value here.
    pub fn values_of(&self, partition: PartitionId) -> u64 {
        self.index.values_of(partition)
    }

    /// Says which partitions this node answers for: a walk over all keys leaves out what else lies here.
    pub fn set_answered(&mut self, answered: Vec<bool>) {
        self.answered = answered;
    }

    /// Sets how fast the background may go, and what it must leave to clients. Before the first event.
    pub fn set_pace(&mut self, config: PaceConfig) {
        self.background = BackgroundPace::new(config);
    }

    /// Tombstones reaped, and those that wait to be.
    pub(crate) fn tombstones(&self) -> (u64, u64) {
        (self.stats.tombstones_reaped, self.index.tombstones() as u64)
    }

    /// Tells how fast the background may go.
    pub(crate) fn tell_pace(&self, progress: &mut Progress) {
        let pace = self.background.status();
        progress.bytes_per_s = pace.bytes_per_s;
        progress.p999_us = pace.p999_ns / 1000;
        progress.cuts = pace.cuts;
    }

    /// Sets the rules of a bucket, which may be new.
    pub fn set_bucket(&mut self, rules: Bucket) {
        let buckets = &mut self.config.buckets;
        match buckets.iter_mut().find(|bucket| bucket.name == rules.name) {
            Some(bucket) => *bucket = rules,
            None => buckets.push(rules),
        }
    }

    /// The greatest time of the hybrid clock that this shard has issued or absorbed.
    pub const fn clock_last(&self) -> Hlc {
        self.clock.last()
    }

    /// Its newest batch, and the tick of that, for `Event::Begun` of the other shards: to be told before any answer leaves.
    pub fn begun(&self) -> (BatchNumber, u64) {
        (self.log.newest(), self.log.frontier.tick)
    }

    /// The oldest tick of which this shard has something that is not on stable media.
    pub fn pending_tick(&self) -> Option<u64> {
        self.log.pending_tick()
    }

    /// Whether it waits for what other shards must have on stable media: then it wants an `Event::Settled`.
    pub const fn awaits_others(&self) -> bool {
        self.is_awaiting_others
    }

    /// The configuration.
    pub const fn config(&self) -> &ShardConfig {
        &self.config
    }

    /// Counters and gauges.
    pub fn status(&self) -> ShardStatus {
        let segment_bytes = u64::from(self.config.segment_bytes);
        let pace = self.background.status();
        ShardStatus {
            background_bytes_per_s: pace.bytes_per_s,
            background_share_permille: pace.share_permille,
            background_cuts: pace.cuts,
            background_excuses: pace.excuses,
            foreground_p999_us: pace.p999_ns / 1000,
            stages: self.background.foreground.stages.clone(),
            writes: self.write_state(),
            keys: self.index.values() as u64,
            tombstones: self.index.tombstones() as u64,
            index_bytes: self.index.memory_bytes() as u64,
            tail_bytes: self.log.tail_bytes() as u64,
            cache_bytes: self.cache.bytes(),
            live_bytes: self.live_bytes,
            used_bytes: u64::from(self.log.segments.files()) * segment_bytes,
            capacity_bytes: self.config.capacity_bytes,
            requests_waiting: u64::from(self.waiting) + self.stalled.len() as u64,
            checkpoint_lag_bytes: self.log.submitted_bytes - self.checkpoints.submitted_at,
            commits: self.log.commits,
            damage_unrepaired: self.damage_unrepaired(),
            segments_quarantined: u64::from(self.log.segments.count(SegmentState::Quarantined)),
            ..self.stats.clone()
        }
    }

    /// What it has of the disk, for other nodes.
    pub(crate) fn disk(&self) -> ShardDisk {
        ShardDisk {
            live_bytes: self.live_bytes,
            capacity_bytes: self.config.capacity_bytes,
            takes_writes: self.write_state() == WriteState::Open,
        }
    }

    pub(super) fn write_state(&self) -> WriteState {
        if self.is_read_only {
            WriteState::ReadOnly
        } else if self.admission == Admission::Full {
            WriteState::DiskFull
        } else {
            WriteState::Open
        }
    }

    /// Runs a request from its start; `fetched` is the record that it waited for.
    pub(super) fn request(
        &mut self,
        now: Now,
        request: &Request<'_>,
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        if request
            .deadline_ns
            .is_some_and(|deadline| deadline <= now.mono_ns)
        {
            self.stats.deadlines_missed += 1;
            return effects.reply(request.id, Outcome::Failed(Failure::DeadlineNotApplied));
        }
        if self.is_stopping {
            return effects.reply(request.id, Outcome::Failed(Failure::Stopping));
        }
        // Checked at the client's edge only: what was once accepted always replicates.
        let is_clients = purpose_of(request.id).is_none() && !self.is_being_filled;
        if is_clients
            && (request.key.len() > KEY_BYTES_MAX || request.bucket.len() > BUCKET_BYTES_MAX)
        {
            let bytes = request.key.len().max(request.bucket.len()) as u64;
            let too_large = Failure::TooLarge {
                bytes,
                bytes_max: KEY_BYTES_MAX as u64,
            };
            return effects.reply(request.id, Outcome::Failed(too_large));
        }
        if is_clients && request.bucket.first() == Some(&0) {
            return effects.reply(request.id, Outcome::Failed(Failure::NoBucket));
        }
        // A name that was mistyped must not look like a bucket without keys.
        let is_read = matches!(request.op, Op::Get | Op::Exists | Op::Scan { .. });
        if is_read && self.bucket(request.bucket).is_none() {
            return effects.reply(request.id, Outcome::Failed(Failure::NoBucket));
        }
        match &request.op {
            Op::Get => self.get(now, request, fetched, effects),
            Op::Exists => self.exists(now, request, fetched, effects),
            Op::Fetch { wants_object } => {
                self.fetch(request, *wants_object, fetched, effects);
            }
            Op::Scan { cursor, count } | Op::Records { cursor, count } => {
                self.scan(now, request, (*cursor, *count), fetched, effects)
            }
            Op::Cluster { .. } => unreachable!("the shard keeps these to itself"),
            Op::Count => effects.reply(request.id, Outcome::Count(self.index.values() as u64)),
            Op::Put(_) | Op::Delete { .. } | Op::SetExpiry { .. } | Op::Merge { .. } => {
                self.write(now, request, fetched, effects);
            }
        }
    }

    pub(super) fn key_id(&self, request: &Request<'_>) -> KeyId {
        let tag = hash::tag(self.config.tag_seed, request.bucket, request.key);
        KeyId {
            token: request.token,
            tag15: crate::store::place::tag15(tag),
        }
    }

    pub(super) fn bucket(&self, name: &[u8]) -> Option<&Bucket> {
        if name == HINT_BUCKET {
            return Some(&self.hint_bucket);
        }
        self.config
            .buckets
            .iter()
            .find(|bucket| bucket.name == name)
    }

    pub(super) const fn receipt(on_stable_media: u8, disk_ns: u64) -> Receipt {
        Receipt {
            replicas: 1,
            zones: 1,
            on_stable_media,
            stand_ins: 0,
            disk_ns,
        }
    }

    /// Keeps a request until there is room for writes.
    pub(super) fn stall(&mut self, request: &Request<'_>, effects: &mut Effects) {
        if self.has_all_that_may_wait() {
            return self.shed(request, effects);
        }
        self.stalled.push_back(OwnedRequest::new(request));
    }

    /// Whether no more requests may wait.
    pub(super) fn has_all_that_may_wait(&self) -> bool {
        self.waiting + self.stalled.len() as u32 >= self.config.requests_max
    }

    /// Refuses a write, since too many wait.
    pub(super) fn shed(&mut self, request: &Request<'_>, effects: &mut Effects) {
        self.stats.shed += 1;
        if self.refused_hints.keep(request) {
            return;
        }
        let failure = Failure::Overloaded { retry_after_ms: 50 };
        effects.reply(request.id, Outcome::Failed(failure));
    }

    fn fail_stalled(&mut self, failure: Failure, effects: &mut Effects) {
        for request in core::mem::take(&mut self.stalled) {
            effects.reply(request.request().id, Outcome::Failed(failure));
        }
    }
}

/// What a write's answer will say.
#[derive(Clone, Copy, Default)]
pub(super) struct Answer {
    pub(super) existed: bool,
    pub(super) context: Option<crate::port::ByteRange>,
    pub(super) previous: Option<crate::port::ByteRange>,
}
