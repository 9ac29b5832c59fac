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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::hash;
use crate::base::ids::{BatchNumber, PartitionId, SegmentId, Token};
use crate::base::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX};
use crate::base::mutant::{self, Mutant};
use crate::base::time::{Hlc, HlcClock, Now};
use crate::port::ids::purpose_of;
use crate::port::{
    Effect, Effects, Event, Failure, IoError, LogRange, Op, Outcome, OwnedRequest, Receipt,
    Request, RequestId, Ticket,
};
use crate::replica::checkpoints::Checkpoints;
use crate::replica::clean::Cleaner;
use crate::replica::config::{Bucket, ShardConfig};
use crate::replica::hints::HINT_BUCKET;
use crate::replica::records::{ReadEnd, ReadResult};
use crate::replica::status::{Damage, ShardStatus, WriteState};
use crate::store::cache::RecordCache;
use crate::store::digest::Digest;
use crate::store::format::{FLAG_DROP, Record, RecordError, Spot};
use crate::store::index::Index;
use crate::store::log::{Appended, Log};
use crate::store::place::{Place, PlaceLayout};

/// How far ahead of use the clock's ceiling is put on stable media. Less than the drift that peers allow, so that a
/// start after a crash, which goes on at the ceiling, is not refused by them.
pub(super) const CEILING_AHEAD_MS: u64 = 200;
/// Failed writes in a row after which the shard turns read-only.
pub(super) const WRITE_FAULTS_MAX: u32 = 3;
/// How often it is asked at least whether other shards have what this one depends on.
const OTHERS_STEP_NS: u64 = 1_000_000;
/// How often waiting requests are looked at for their deadlines.
const DEADLINE_STEP_NS: u64 = 5_000_000;

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

struct PendingRead {
    /// The background waits for it too.
    is_for_upkeep: bool,
    /// A walk will come to it.
    is_for_scan: bool,
    place: Place,
    token: Token,
    generation: u64,
    skip: usize,
    waiters: Vec<OwnedRequest>,
}

struct CommitWaiter {
    batch: BatchNumber,
    id: RequestId,
    deadline_ns: Option<u64>,
    since_ns: u64,
    /// The answer says that it is durable, not only that its time is.
    is_promise: bool,
    existed: bool,
    context: Option<Box<[u8]>>,
    previous: Option<Box<[u8]>>,
}

/// An object that is told to the coordinator when its batch is on stable media.
pub(super) struct AppliedAhead {
    pub(super) batch: BatchNumber,
    pub(super) id: RequestId,
    pub(super) object: Box<[u8]>,
}

/// A record whose write failed.
struct FailedRecord {
    segment: SegmentId,
    offset: u32,
    header: crate::store::format::RecordHeader,
    body: Box<[u8]>,
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
    // who waits
    reads: BTreeMap<Ticket, PendingRead>,
    reading: BTreeMap<u64, Ticket>,
    commit_waiters: VecDeque<CommitWaiter>,
    /// Objects for the other replicas whose times are not on stable media as possibly used.
    pub(super) applied_ahead: VecDeque<AppliedAhead>,
    stalled: VecDeque<OwnedRequest>,
    pub(super) waiting: u32,
    /// Reads for the background that have ended.
    pub(super) upkeep_reads: Vec<ReadEnd>,
    /// Places of records that walks have yet to pass over, since they cannot be read.
    pub(super) unreadable: BTreeSet<u64>,
    is_commit_urgent: bool,
    last_turn_ns: u64,
    is_awaiting_others: bool,
    // background
    pub(super) cleaner: Cleaner,
    pub(super) checkpoints: Checkpoints,
    // state
    pub(super) admission: Admission,
    pub(super) is_read_only: bool,
    pub(super) write_faults_in_row: u32,
    /// Partitions of which something is lost: what the index does not have is unknown there, not absent.
    pub(super) tainted: BTreeSet<PartitionId>,
    pub(super) taints: u64,
    /// From when on a partition was held without loss, where it was gained or dropped: births before are not continued.
    pub(super) since_of: BTreeMap<PartitionId, Hlc>,
    /// The same for all: the last start after a crash.
    pub(super) whole_since: Hlc,
    pub(super) is_stopping: bool,
    pub(super) has_stopped: bool,
    pub(super) live_bytes: u64,
    pub(super) stats: ShardStatus,
    /// Other nodes hold copies: a delete leaves its tombstone, and tombstones are forgotten by agreement only.
    pub(super) is_replicated: bool,
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
    pub(super) layout: PlaceLayout,
    pub(super) index: Index,
    pub(super) digest: Digest,
    pub(super) log: Log,
    pub(super) cache: RecordCache,
    pub(super) hlc: Hlc,
    pub(super) whole_since: Hlc,
    pub(super) checkpoints: Checkpoints,
    pub(super) damage: Vec<Damage>,
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
            reads: BTreeMap::new(),
            reading: BTreeMap::new(),
            commit_waiters: VecDeque::with_capacity(1024),
            applied_ahead: VecDeque::new(),
            stalled: VecDeque::new(),
            waiting: 0,
            upkeep_reads: Vec::new(),
            unreadable: BTreeSet::new(),
            is_commit_urgent: false,
            last_turn_ns: 0,
            is_awaiting_others: false,
            cleaner: Cleaner::default(),
            checkpoints: parts.checkpoints,
            admission: Admission::Go,
            is_read_only: false,
            write_faults_in_row: 0,
            taints: parts.tainted.len() as u64,
            tainted: parts.tainted,
            since_of: BTreeMap::new(),
            whole_since: parts.whole_since,
            is_stopping: false,
            has_stopped: false,
            live_bytes: parts.live_bytes,
            is_replicated: false,
            answered: Vec::new(),
            hint_bucket: Bucket::new(HINT_BUCKET),
            stats: ShardStatus {
                damage: parts.damage,
                ..ShardStatus::default()
            },
            old_object: Vec::with_capacity(4096),
            new_object: Vec::with_capacity(4096),
        };
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
            self.cleaner.next_ns(),
            self.checkpoints
                .retry_ns()
                .filter(|_| !self.is_stopping && !self.is_read_only),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn oldest_wait_ns(&self) -> Option<u64> {
        (self.waiting > 0).then_some(self.last_turn_ns)
    }

    /// A request for the key is about to come.
    pub fn foresee(&self, token: Token) {
        self.index.foresee(token);
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
        ShardStatus {
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
            ..self.stats.clone()
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
        let is_clients = purpose_of(request.id).is_none();
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

    /// The record at a place, when it is in memory.
    pub(super) fn find<'a>(
        &'a self,
        place: Place,
        token: Token,
        fetched: Option<Fetched<'a>>,
    ) -> Option<Record<'a>> {
        let (segment, offset) = (self.layout.segment(place), self.layout.offset(place));
        if let Some(bytes) = self.log.in_memory(segment, offset) {
            return Record::trusted(bytes);
        }
        if let Some(fetched) = fetched.filter(|fetched| fetched.place == place) {
            return Record::trusted(fetched.record);
        }
        let generation = self.log.segments.get(segment)?.generation;
        self.cache
            .get(token, place.0, generation)
            .and_then(Record::trusted)
    }

    /// Keeps a request until the record at `place` was read.
    pub(super) fn wait_for_read(
        &mut self,
        place: Place,
        request: &Request<'_>,
        effects: &mut Effects,
    ) {
        self.wait_for_read_of((place, request.token), request, effects);
    }

    /// The same for the record of another token than the request's.
    pub(super) fn wait_for_read_of(
        &mut self,
        (place, token): (Place, Token),
        request: &Request<'_>,
        effects: &mut Effects,
    ) {
        if self.waiting >= self.config.requests_max {
            self.stats.shed += 1;
            return effects.reply(
                request.id,
                Outcome::Failed(Failure::Overloaded { retry_after_ms: 10 }),
            );
        }
        self.waiting += 1;
        let ticket = self.start_read(place, token, effects);
        if let Some(read) = self.reads.get_mut(&ticket) {
            read.waiters.push(OwnedRequest::new(request));
        }
    }

    /// Reads the record at `place` for the background.
    pub(super) fn start_upkeep_read(&mut self, place: Place, token: Token, effects: &mut Effects) {
        let ticket = self.start_read_as(place, token, true, effects);
        if let Some(read) = self.reads.get_mut(&ticket) {
            read.is_for_upkeep = true;
        }
    }

    /// Reads the record at `place`, which a walk will come to.
    pub(super) fn start_scan_read(&mut self, place: Place, token: Token, effects: &mut Effects) {
        let ticket = self.start_read(place, token, effects);
        if let Some(read) = self.reads.get_mut(&ticket) {
            read.is_for_scan = true;
        }
    }

    /// Reads the record at `place`; readers of one record share one read.
    pub(super) fn start_read(
        &mut self,
        place: Place,
        token: Token,
        effects: &mut Effects,
    ) -> Ticket {
        self.start_read_as(place, token, false, effects)
    }

    fn start_read_as(
        &mut self,
        place: Place,
        token: Token,
        background: bool,
        effects: &mut Effects,
    ) -> Ticket {
        if let Some(ticket) = self.reading.get(&place.0) {
            return *ticket;
        }
        let block = u64::from(self.config.block_bytes);
        let (segment, offset) = (
            self.layout.segment(place),
            u64::from(self.layout.offset(place)),
        );
        let from = offset - offset % block;
        let to = (offset + u64::from(place.bytes_upper()))
            .next_multiple_of(block)
            .min(u64::from(self.config.segment_bytes));
        let ticket = self.log.ticket();
        let generation = self.log.segments.get(segment).map_or(0, |s| s.generation);
        let skip = (offset - from) as usize;
        self.reads.insert(
            ticket,
            PendingRead {
                is_for_upkeep: false,
                is_for_scan: false,
                place,
                token,
                generation,
                skip,
                waiters: Vec::new(),
            },
        );
        self.reading.insert(place.0, ticket);
        self.stats.disk_reads += 1;
        let file = crate::port::FileId::Segment(segment);
        effects.list.push(Effect::Read {
            ticket,
            file,
            offset: from,
            bytes: (to - from) as u32,
            background,
        });
        ticket
    }

    fn read_done(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<&[u8], IoError>,
        effects: &mut Effects,
    ) {
        let Some(read) = self.reads.remove(&ticket) else {
            self.cleaner_read_done(now, ticket, result, effects);
            return;
        };
        self.reading.remove(&read.place.0);
        self.waiting -= read.waiters.len() as u32;
        let (segment, offset) = (
            self.layout.segment(read.place),
            self.layout.offset(read.place),
        );
        let is_same_use = self
            .log
            .segments
            .get(segment)
            .is_some_and(|s| s.generation == read.generation);
        let verified = result.map_err(Failure::ReadFailed).and_then(|bytes| {
            let record = bytes.get(read.skip..).ok_or(RecordError::Short);
            record
                .and_then(|bytes| {
                    Record::verify(
                        bytes,
                        Spot {
                            generation: read.generation,
                            offset,
                        },
                    )
                    .map(|r| (bytes, r))
                })
                .map_err(|_| Failure::Corrupt {
                    segment,
                    offset: u64::from(offset),
                })
        });
        match verified {
            Ok((bytes, record)) => {
                let whole = &bytes[..crate::store::format::RECORD_HEADER_BYTES
                    + record.header.body_bytes as usize];
                if is_same_use {
                    self.cache
                        .insert(read.token, read.place.0, read.generation, whole);
                }
                let fetched = is_same_use.then_some(Fetched {
                    place: read.place,
                    record: whole,
                });
                if read.is_for_upkeep {
                    let result = ReadResult::Record(whole.into());
                    let place = read.place;
                    self.upkeep_reads.push(ReadEnd { place, result });
                }
                for waiter in &read.waiters {
                    self.request(now, &waiter.request(), fetched, effects);
                }
            }
            Err(_) if !is_same_use => {
                // The cleaner moved the record and its segment was used anew: look it up where it is now.
                if read.is_for_upkeep {
                    let (place, result) = (read.place, ReadResult::Moved);
                    self.upkeep_reads.push(ReadEnd { place, result });
                }
                for waiter in &read.waiters {
                    self.request(now, &waiter.request(), None, effects);
                }
            }
            Err(_) if mutant::is(Mutant::ReadErrorAbsent) => {
                let nothing = crate::port::Held {
                    fingerprint: 0,
                    object: None,
                };
                for waiter in &read.waiters {
                    effects.reply(waiter.request().id, Outcome::Held(nothing));
                }
            }
            Err(failure) => {
                self.stats.read_faults += 1;
                self.note_damage(segment, u64::from(offset));
                self.lose_entry(read.token, read.place);
                if read.is_for_upkeep {
                    let (place, result) = (read.place, ReadResult::Failed);
                    self.upkeep_reads.push(ReadEnd { place, result });
                }
                let is_scan =
                    |waiter: &OwnedRequest| matches!(waiter.request().op, Op::Scan { .. });
                if read.is_for_scan || read.waiters.iter().any(is_scan) {
                    self.note_unreadable(read.token, read.place);
                }
                for waiter in &read.waiters {
                    if is_scan(waiter) {
                        self.request(now, &waiter.request(), None, effects);
                    } else {
                        effects.reply(waiter.request().id, Outcome::Failed(failure));
                    }
                }
            }
        }
    }

    pub(super) fn note_damage(&mut self, segment: SegmentId, offset: u64) {
        let damage = Damage { segment, offset };
        if !self.stats.damage.contains(&damage) && self.stats.damage.len() < 1024 {
            self.stats.damage.push(damage);
        }
    }

    /// Notes a record that was appended: index, digest, live bytes.
    pub(super) fn note_appended(
        &mut self,
        key: KeyId,
        fingerprint: u64,
        flags: u8,
        appended: Appended,
    ) {
        let place = self.layout.pack(
            appended.segment,
            appended.offset,
            appended.bytes,
            flags,
            key.tag15,
        );
        let entry = crate::store::index::Entry { fingerprint, place };
        let former = self.index.put(key.token, key.tag15, entry);
        self.digest
            .replace(key.token, former.map_or(0, |f| f.fingerprint), fingerprint);
        self.add_live(place);
        if let Some(former) = former {
            self.subtract_live(former.place);
        }
    }

    pub(super) fn add_live(&mut self, place: Place) {
        let bytes = u64::from(place.bytes_upper());
        self.live_bytes += bytes;
        if let Some(segment) = self.log.segments.get_mut(self.layout.segment(place)) {
            segment.live_bytes += bytes;
        }
    }

    /// Forgets what the index knows of a key; false when it knows nothing.
    pub(super) fn forget_entry(&mut self, token: Token, tag15: u16) -> bool {
        let Some(former) = self.index.remove(token, tag15) else {
            return false;
        };
        self.digest.replace(token, former.fingerprint, 0);
        self.subtract_live(former.place);
        true
    }

    pub(super) fn subtract_live(&mut self, place: Place) {
        let bytes = u64::from(place.bytes_upper());
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        if let Some(segment) = self.log.segments.get_mut(self.layout.segment(place)) {
            segment.live_bytes = segment.live_bytes.saturating_sub(bytes);
        }
    }

    /// Keeps a request until there is room for writes.
    pub(super) fn stall(&mut self, request: &Request<'_>, effects: &mut Effects) {
        if self.waiting + self.stalled.len() as u32 >= self.config.requests_max {
            self.stats.shed += 1;
            return effects.reply(
                request.id,
                Outcome::Failed(Failure::Overloaded { retry_after_ms: 50 }),
            );
        }
        self.stalled.push_back(OwnedRequest::new(request));
    }

    fn fail_stalled(&mut self, failure: Failure, effects: &mut Effects) {
        for request in core::mem::take(&mut self.stalled) {
            effects.reply(request.request().id, Outcome::Failed(failure));
        }
    }

    /// Answers a write when `batch` is on stable media.
    pub(super) fn answer_when_durable(
        &mut self,
        now: Now,
        request: &Request<'_>,
        (batch, is_promise): (BatchNumber, bool),
        answer: Answer,
        effects: &Effects,
    ) {
        if is_promise {
            // One that is closed already is waited for until the other shards have what it depends on.
            self.log.promise(batch);
        }
        self.is_commit_urgent = true;
        self.waiting += 1;
        self.commit_waiters.push_back(CommitWaiter {
            batch,
            id: request.id,
            deadline_ns: request.deadline_ns,
            since_ns: now.mono_ns,
            is_promise,
            existed: answer.existed,
            context: answer.context.map(|range| range.of(&effects.bytes).into()),
            previous: answer.previous.map(|range| range.of(&effects.bytes).into()),
        });
    }

    fn write_done(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<(), IoError>,
        effects: &mut Effects,
    ) {
        match result {
            Ok(()) => {
                if self.log.write_done(ticket) {
                    self.write_faults_in_row = 0;
                    self.release_durable(now, effects);
                } else {
                    self.checkpoint_written(now, ticket, Ok(()), effects);
                }
            }
            Err(error) => match self.log.write_failed(ticket, effects) {
                Some(commits) => self.mend_failed_write(now, &commits, effects),
                None => self.checkpoint_written(now, ticket, Err(error), effects),
            },
        }
    }

    fn release_durable(&mut self, now: Now, effects: &mut Effects) {
        let (durable, firm) = (self.log.durable(), self.log.firm());
        while let Some(applied) = self
            .applied_ahead
            .pop_front_if(|applied| applied.batch <= durable)
        {
            let object = effects.keep(&applied.object);
            let id = applied.id;
            effects.list.push(Effect::Applied { id, object });
        }
        let is_over = |waiter: &mut CommitWaiter| {
            waiter.batch <= firm || waiter.batch <= durable && !waiter.is_promise
        };
        while let Some(waiter) = self.commit_waiters.pop_front_if(is_over) {
            self.waiting -= 1;
            let context = waiter.context.map(|bytes| effects.keep(&bytes));
            let previous = waiter.previous.map(|bytes| effects.keep(&bytes));
            let receipt = Self::receipt(1, now.mono_ns.saturating_sub(waiter.since_ns));
            effects.reply(
                waiter.id,
                Outcome::Written {
                    context,
                    existed: waiter.existed,
                    previous,
                    receipt,
                },
            );
        }
    }

    /// After a failed write: what was not durable goes to another segment, whole; after several, the shard turns
    /// read-only. A failed write is never tried again as if nothing had happened (Rebello et al., ATC 2020).
    fn mend_failed_write(
        &mut self,
        now: Now,
        commits: &[crate::store::log::Commit],
        effects: &mut Effects,
    ) {
        self.stats.write_faults += 1;
        self.write_faults_in_row += 1;
        let mut is_lost = self.write_faults_in_row >= WRITE_FAULTS_MAX;
        if !is_lost {
            // All of them first: appending may take the memory of what was written.
            let records: Vec<FailedRecord> = commits
                .iter()
                .flat_map(|commit| self.failed_records(commit))
                .collect();
            is_lost = !self.append_anew(now, &records, effects);
        }
        if is_lost {
            self.is_read_only = true;
            self.applied_ahead.clear();
            for waiter in core::mem::take(&mut self.commit_waiters) {
                self.waiting -= 1;
                effects.reply(waiter.id, Outcome::Failed(Failure::InDoubt));
            }
            return self.fail_stalled(Failure::ReadOnly, effects);
        }
        let batch = self.log.newest();
        let durable = self.log.durable();
        for waiter in self
            .commit_waiters
            .iter_mut()
            .filter(|waiter| waiter.batch > durable)
        {
            waiter.batch = batch;
        }
        for applied in &mut self.applied_ahead {
            applied.batch = batch;
        }
        if self.commit_waiters.iter().any(|waiter| waiter.is_promise) {
            self.log.promise(batch);
        }
        self.is_commit_urgent = true;
    }

    fn failed_records(&self, commit: &crate::store::log::Commit) -> Vec<FailedRecord> {
        let (bytes, segment) = self.log.commit_bytes(commit);
        let mut records = Vec::new();
        let Some(header) = crate::store::format::BatchHeader::decode(bytes) else {
            return records;
        };
        crate::store::format::walk_batch(&header, bytes, |offset, record| {
            if let Ok(record) = record {
                records.push(FailedRecord {
                    segment,
                    offset,
                    header: record.header,
                    body: record.body.into(),
                });
            }
        });
        records
    }

    fn append_anew(&mut self, now: Now, records: &[FailedRecord], effects: &mut Effects) -> bool {
        for record in records {
            let header = &record.header;
            let is_live = self.is_live_at(header, record.segment, record.offset);
            // A partition that was dropped stays dropped, though it was gained again since.
            if !is_live && header.flags & FLAG_DROP == 0 {
                continue;
            }
            let appended = self
                .log
                .append_copy(header, &record.body, now.mono_ns, effects);
            let Ok(appended) = appended else {
                return false;
            };
            if !is_live {
                self.note_grave(appended.segment);
                continue;
            }
            let key = KeyId {
                token: header.token,
                tag15: header.tag15,
            };
            self.note_appended(key, header.fingerprint, header.flags, appended);
        }
        true
    }

    /// Whether the index names this very place for the record.
    pub(super) fn is_live_at(
        &self,
        record: &crate::store::format::RecordHeader,
        segment: SegmentId,
        offset: u32,
    ) -> bool {
        self.index
            .get(record.token, record.tag15)
            .is_some_and(|entry| {
                self.layout.segment(entry.place) == segment
                    && self.layout.offset(entry.place) == offset
            })
    }

    fn drop_expired(&mut self, now: Now, effects: &mut Effects) {
        let is_late =
            |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now.mono_ns);
        if self
            .commit_waiters
            .iter()
            .any(|waiter| is_late(waiter.deadline_ns))
        {
            let (late, rest): (VecDeque<_>, VecDeque<_>) =
                core::mem::take(&mut self.commit_waiters)
                    .into_iter()
                    .partition(|waiter| is_late(waiter.deadline_ns));
            self.commit_waiters = rest;
            for waiter in late {
                self.waiting -= 1;
                self.stats.deadlines_missed += 1;
                effects.reply(waiter.id, Outcome::Failed(Failure::InDoubt));
            }
        }
        for read in self.reads.values_mut() {
            let waiters = core::mem::take(&mut read.waiters);
            for waiter in waiters {
                if is_late(waiter.request().deadline_ns) {
                    self.waiting -= 1;
                    self.stats.deadlines_missed += 1;
                    effects.reply(
                        waiter.request().id,
                        Outcome::Failed(Failure::DeadlineNotApplied),
                    );
                } else {
                    read.waiters.push(waiter);
                }
            }
        }
    }

    /// The end of a turn: group commit, spares, background work, and the writes that wait for room.
    fn turn_end(&mut self, now: Now, effects: &mut Effects) {
        self.last_turn_ns = now.mono_ns;
        self.log.frontier.tick = self.log.frontier.tick.max(self.commit_tick(now.mono_ns));
        self.close_due_batch(now, effects);
        if self.has_stopped {
            self.is_awaiting_others = false;
            return;
        }
        self.log.keep_spares(now.mono_ns, effects);
        self.admission = self.find_admission();
        self.checkpoint_step(now, effects);
        self.clean_step(now, effects);
        match self.admission {
            Admission::Go => {
                for _ in 0..self.stalled.len() {
                    let Some(request) = self.stalled.pop_front() else {
                        break;
                    };
                    self.request(now, &request.request(), None, effects);
                }
            }
            // Each finds its own answer: puts wait or are refused, deletes go on.
            Admission::Full | Admission::Wait => {
                let is_waiting = self.admission == Admission::Wait;
                for request in core::mem::take(&mut self.stalled) {
                    if is_waiting && !matches!(request.request().op, Op::Delete { .. }) {
                        self.stalled.push_back(request);
                    } else {
                        self.request(now, &request.request(), None, effects);
                    }
                }
            }
        }
        self.close_due_batch(now, effects);
        let durable = self.log.durable();
        let has_waiter = self
            .commit_waiters
            .front()
            .is_some_and(|waiter| waiter.batch <= durable);
        self.is_awaiting_others = self.log.firm() < durable
            && (has_waiter || self.is_checkpoint_awaiting() || self.cleaner.is_awaiting_others);
    }

    /// The commit interval that a time falls into. All shards of a node count them alike, and a batch never holds
    /// writes of two: shards commit together, and what a crash undoes on one shard undoes no more than that interval on
    /// the others (`store::frontier`).
    pub const fn commit_tick(&self, mono_ns: u64) -> u64 {
        match mono_ns.checked_div(self.config.commit_interval_ns) {
            Some(tick) => tick,
            None => mono_ns,
        }
    }

    /// Closes the batch of an earlier interval before something of this one is appended.
    pub(super) fn begin_tick(&mut self, now: Now, effects: &mut Effects) {
        let tick = self.log.frontier.tick.max(self.commit_tick(now.mono_ns));
        self.log.frontier.tick = tick;
        if self.log.open_tick().is_some_and(|open| open < tick) {
            self.log.close_batch(effects);
        }
        self.log.frontier.accept();
    }

    /// Whether another commit may be sent on its way.
    fn is_commit_free(&self) -> bool {
        self.log.in_flight() < self.config.commits_in_flight_max as usize
    }

    fn close_due_batch(&mut self, now: Now, effects: &mut Effects) {
        let Some(tick) = self.log.open_tick() else {
            return;
        };
        let is_old = self.commit_tick(now.mono_ns) > tick;
        if self.is_stopping || self.is_commit_free() && (self.is_commit_urgent || is_old) {
            self.log.close_batch(effects);
            self.is_commit_urgent = false;
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
