//! The machine that joins the parts: an event in, effects out.
//!
//! Owns the order in which the parts see an event, and the shard's own requests to its replica: their answers are taken
//! out of the effects before the outside sees them. A node that is the whole cluster goes straight to its replica.

#[cfg(test)]
pub(crate) mod bench_tests;
mod control;
#[cfg(test)]
mod control_tests;
mod meters;

use std::sync::Arc;

use crate::base::ids::BatchNumber;
use crate::base::time::{Hlc, Now};
use crate::cluster::{Boot, BootError};
use crate::coordinate::{CoordinateStats, Coordinator, Turn};
use crate::port::ids::{Purpose, of_upkeep_call, purpose_of};
use crate::port::{
    Effect, Effects, Event, Failure, Foreseen, Lane, LogRange, Message, Note, Op, Outcome, Quorum,
    ShardDisk, Source,
};
use crate::replica::Replica;
use crate::ring::{BucketView, Ring, RingView};
use crate::upkeep::{Upkeep, UpkeepStats};
use control::Control;
use meters::{Counts, Meters};

pub use crate::replica::{
    BACKGROUND_BYTES_PER_S_DEFAULT, Bucket, Damage, OpenError, PaceConfig, RecoveryReport,
    SLA_P999_NS_DEFAULT, ShardConfig, ShardStatus, Stage, StageTimes, Stages, WriteState,
    record_request,
};

/// One shard.
pub struct Shard {
    replica: Replica,
    coordinator: Coordinator,
    upkeep: Upkeep,
    /// Without one, or where it says so, this node is alone.
    view: Option<Arc<RingView>>,
    /// Of shard 0, where the node takes part in a cluster.
    control: Option<Box<Control>>,
    /// Its node has a cluster, of which it has heard nothing yet.
    awaits_view: bool,
    /// By how much its node's clock is ahead of the others', where it is wrong.
    clock_off_ms: Option<i64>,
    meters: Meters,
    /// What the control shard was last told of this one's part of the disk.
    disk_told: Option<ShardDisk>,
}

impl Shard {
    /// Reads what the directory holds and makes a shard of it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed.
    pub fn open(
        config: ShardConfig,
        now: Now,
        source: &mut dyn Source,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let (replica, report) = Replica::open(config, now, source)?;
        let shard = Self {
            replica,
            coordinator: Coordinator::default(),
            upkeep: Upkeep::default(),
            view: None,
            control: None,
            awaits_view: false,
            clock_off_ms: None,
            meters: Meters::default(),
            disk_told: None,
        };
        Ok((shard, report))
    }

    /// The wall clock by which clients' times are reckoned: the cluster's where others say that this node's is wrong.
    pub fn clients_ms(&self, now: Now) -> u64 {
        let off_ms = self.clock_off_ms.unwrap_or(0);
        now.wall_ms.saturating_add_signed(off_ms.saturating_neg())
    }

    /// Its node takes part in a cluster: this shard serves nothing until it hears how. Before the first event.
    pub fn await_view(&mut self) {
        self.awaits_view = true;
        self.view = Some(Arc::new(RingView::blank(
            self.config().node,
            self.config().slices,
        )));
    }

    /// Its files are dealt to another number of shards: what other nodes need of them stays, without that any view says so.
    /// Before the first event.
    pub fn keep_for_others(&mut self) {
        self.replica.set_replicated(true);
    }

    /// These files are filled with the records of former ones: no time that those promised (`RecoveryReport::promised`) is
    /// given again, and no birth from before goes on. Until its end it serves nobody else. Before the first event.
    pub fn begin_after(&mut self, promised: Hlc) {
        self.replica.begin_after(promised);
    }

    /// This shard gets the control role, after [`Self::await_view`]. Before the first event; shard 0 only.
    ///
    /// # Errors
    /// [`BootError`]; the node must not serve then.
    pub fn take_control(
        &mut self,
        boot: Boot,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), BootError> {
        self.control = Some(Box::new(Control::new(boot, now, effects)?));
        Ok(())
    }

    /// Takes one event; appends effects.
    pub fn step(&mut self, now: Now, event: Event<'_>, effects: &mut Effects) {
        let event = match (&mut self.control, event) {
            (Some(control), event) => {
                if control.wants_vitals(now) {
                    control.vitals(now, self.replica.disk());
                }
                control.step(now, event, effects)
            }
            (None, Event::Request(request)) if matches!(request.op, Op::Cluster { .. }) => {
                effects.reply(request.id, Outcome::Failed(Failure::NoHolder));
                None
            }
            (None, event) => Some(event),
        };
        let Some(event) = event else { return };
        if is_foreground(&event) {
            self.replica.background.foreground.begun();
        }
        if matches!(event, Event::TurnEnd) && self.meters.is_due(now.mono_ns) {
            self.measure(now, effects);
        }
        let is_alone = self.view.as_ref().is_none_or(|view| view.is_alone());
        if is_alone
            && let Event::Request(request) = &event
            && let Some(failure) = beyond_one(request.quorum)
        {
            return effects.reply(request.id, Outcome::Failed(failure));
        }
        if is_alone && self.coordinator.len() == 0 && self.upkeep.is_idle() {
            return match event {
                Event::Note(note) => self.note(now, note, effects),
                Event::Message { .. } | Event::PeerLost(_) => {}
                event => self.replica.step(now, event, effects),
            };
        }
        let Some(view) = self.view.clone() else {
            return;
        };
        let first = effects.list.len();
        let mut turn = Turn {
            now,
            view: &view,
            replica: &mut self.replica,
            effects,
        };
        match event {
            Event::Request(request) => self.coordinator.request(&mut turn, &request),
            Event::Message { from, message } => {
                if !self.upkeep.message(&mut turn, from, &message) {
                    self.coordinator.message(&mut turn, from, message);
                }
            }
            Event::PeerLost(node) => {
                self.coordinator.peer_lost(&mut turn, node);
                self.upkeep.peer_lost(&mut turn, node);
            }
            Event::Note(note) => self.note(now, note, effects),
            Event::Tick => {
                self.coordinator.tick(&mut turn);
                self.upkeep.tick(&mut turn);
                self.replica.step(now, Event::Tick, effects);
            }
            event @ Event::ReadDone { .. } => {
                turn.replica.step(now, event, turn.effects);
                self.upkeep.reads_done(&mut turn);
            }
            event => self.replica.step(now, event, effects),
        }
        self.settle(now, &view, first, effects);
    }

    /// Hands the answers to the shard's own requests to who asked, until none is left.
    fn settle(&mut self, now: Now, view: &RingView, first: usize, effects: &mut Effects) {
        let mut at = first;
        while at < effects.list.len() {
            let owner = match &effects.list[at] {
                Effect::Reply { id, .. } | Effect::Applied { id, .. } => purpose_of(*id),
                _ => None,
            };
            let Some((purpose, slot)) = owner else {
                at += 1;
                continue;
            };
            let effect = effects.list.remove(at);
            let mut turn = Turn {
                now,
                view,
                replica: &mut self.replica,
                effects,
            };
            match (purpose, effect) {
                (Purpose::Slot, Effect::Reply { outcome, .. }) => {
                    self.coordinator.local_reply(&mut turn, slot, outcome);
                }
                (Purpose::Slot, Effect::Applied { object, .. }) => {
                    self.coordinator.local_applied(&mut turn, slot, object);
                }
                (Purpose::Upkeep, Effect::Reply { outcome, .. }) => {
                    self.upkeep.local_reply(&mut turn, slot, outcome);
                }
                (Purpose::Slot | Purpose::Nobody | Purpose::Upkeep, _) => {}
            }
        }
    }

    fn note(&mut self, now: Now, note: Note, effects: &mut Effects) {
        match note {
            Note::View(view) => {
                self.replica.set_replicated(!view.is_alone());
                self.replica.set_answered(answered_here(&view));
                for bucket in &view.buckets {
                    self.replica.set_bucket(rules_of(bucket));
                }
                self.awaits_view = false;
                let former = self.view.replace(Arc::clone(&view));
                let mut turn = Turn {
                    now,
                    view: &view,
                    replica: &mut self.replica,
                    effects,
                };
                self.upkeep.view_changed(former.as_deref(), &mut turn);
            }
            Note::CompareAll => self.upkeep.compare_all(now.mono_ns),
            Note::ClockWrong { off_ms, agreed } => {
                self.clock_off_ms = off_ms;
                let agreed = agreed.unwrap_or(now);
                self.replica.set_clock_wrong(agreed, off_ms.is_some());
            }
            Note::Gained { .. }
            | Note::Drained { .. }
            | Note::Lost(_)
            | Note::Progress { .. }
            | Note::Disk { .. } => {}
        }
    }

    /// Measures how far the background is, and tells the control shard.
    fn measure(&mut self, now: Now, effects: &mut Effects) {
        let upkeep = self.upkeep_stats();
        let (reaped, tombstones) = self.replica.tombstones();
        let counts = Counts {
            hints: (upkeep.hints_delivered, upkeep.hints_pending),
            transfers: (
                upkeep.partitions_gained + upkeep.transfers_done,
                upkeep.transfers - upkeep.transfers_done,
            ),
            handovers: (upkeep.handovers_done, upkeep.handovers_left),
            comparisons: (upkeep.comparisons, upkeep.comparisons_left),
            tombstones: (reaped, tombstones),
        };
        self.meters.measure(now.mono_ns, counts);
        let progress = &mut self.meters.progress;
        if let Some(left_ns) = upkeep.comparisons_left_ns {
            progress.comparisons.seconds_left = Some(left_ns / 1_000_000_000);
        }
        self.replica.tell_pace(progress);
        progress.bytes_moved = upkeep.bytes_pulled + upkeep.bytes_pushed;
        if self.view.is_some() {
            let note = Note::Progress {
                shard: self.config().shard,
                progress: Box::new(self.meters.progress),
            };
            effects.notes.push((Lane::CONTROL_SHARD, note));
            self.tell_disk(effects);
        }
    }

    /// Tells the control shard what this one has of the disk, where that is news.
    fn tell_disk(&mut self, effects: &mut Effects) {
        let disk = self.replica.disk();
        let had = self.disk_told.unwrap_or_default();
        let is_alike = disk.takes_writes == had.takes_writes
            && disk.live_bytes.abs_diff(had.live_bytes) <= had.live_bytes / 128;
        let shard = self.config().shard;
        if shard == Lane::CONTROL_SHARD || self.disk_told.is_some() && is_alike {
            return;
        }
        self.disk_told = Some(disk);
        let note = Note::Disk { shard, disk };
        effects.notes.push((Lane::CONTROL_SHARD, note));
    }

    /// When it wants an `Event::Tick`, on the clock of `Now::mono_ns`.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        [
            self.replica.next_deadline_ns(),
            self.coordinator.next_deadline_ns(),
            self.control
                .as_ref()
                .and_then(|control| control.next_deadline_ns()),
            self.upkeep_deadline_ns(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn upkeep_deadline_ns(&self) -> Option<u64> {
        let is_alone = self.view.as_ref().is_none_or(|view| view.is_alone());
        let is_needed = !is_alone || !self.upkeep.is_idle();
        is_needed.then(|| self.upkeep.next_deadline_ns()).flatten()
    }

    /// Requests for these keys are about to come: loads what they will look at first.
    pub fn foresee(&self, keys: impl Iterator<Item = Foreseen> + Clone) {
        self.replica.foresee(keys);
    }

    /// The bytes of a `Write` effect.
    pub fn log_bytes(&self, range: LogRange) -> &[u8] {
        self.replica.log_bytes(range)
    }

    /// Whether it can take writes at once: the first segments are there, and it is clear what it serves. A runtime waits
    /// for it before it calls itself ready.
    pub fn is_ready(&self) -> bool {
        let is_settled = self
            .control
            .as_ref()
            .is_none_or(|control| control.is_settled());
        self.replica.is_ready() && !self.awaits_view && is_settled
    }

    /// Its newest batch, and a tick no earlier than that one's, for `Event::Begun` of the other shards: to be told before
    /// any answer leaves.
    pub fn begun(&self) -> (BatchNumber, u64) {
        self.replica.begun()
    }

    /// The oldest tick of which this shard has something that is not on stable media.
    pub fn pending_tick(&self) -> Option<u64> {
        self.replica.pending_tick()
    }

    /// Whether it waits for what other shards must have on stable media: then it wants an `Event::Settled`.
    pub const fn awaits_others(&self) -> bool {
        self.replica.awaits_others()
    }

    /// The commit interval that a time falls into; all shards of a node count them alike.
    pub const fn commit_tick(&self, mono_ns: u64) -> u64 {
        self.replica.commit_tick(mono_ns)
    }

    /// What its node knows of the cluster, where this shard has the control role.
    pub fn ring(&self) -> Option<&Ring> {
        self.control.as_ref()?.ring()
    }

    /// The configuration.
    pub const fn config(&self) -> &ShardConfig {
        self.replica.config()
    }

    /// Counters and gauges.
    pub fn status(&self) -> ShardStatus {
        let (coordinate, upkeep) = (self.coordinator.stats, self.upkeep_stats());
        ShardStatus {
            coordinated_writes: coordinate.writes,
            coordinated_reads: coordinate.reads,
            forwarded: coordinate.forwards,
            writes_in_doubt: coordinate.writes_in_doubt,
            reads_failed: coordinate.reads_failed,
            stand_ins: coordinate.stand_ins,
            hedges: coordinate.hedges,
            digests_differed: coordinate.digests_differed,
            read_repairs: coordinate.read_repairs,
            hints_kept: coordinate.hints_kept,
            hints_pending: upkeep.hints_pending,
            hints_delivered: upkeep.hints_delivered,
            hints_failed: upkeep.hints_failed,
            hints_lost: upkeep.hints_lost,
            transfers: upkeep.transfers,
            transfers_done: upkeep.transfers_done,
            handovers: upkeep.handovers,
            upkeep_pulled_bytes: upkeep.bytes_pulled,
            upkeep_pushed_bytes: upkeep.bytes_pushed,
            repairs: upkeep.repairs,
            comparisons: upkeep.comparisons,
            repair_rounds: upkeep.rounds,
            repair_rounds_with_repairs: upkeep.rounds_with_repairs,
            trouble: self.control.as_ref().and_then(|control| control.trouble()),
            repair_round_ms: upkeep.round_ns / 1_000_000,
            progress: self.meters.progress,
            ..self.replica.status()
        }
    }

    /// The sum of all fingerprints and the number of keys, tombstones among them.
    #[cfg(test)]
    pub(crate) fn root(&self) -> (u64, u64) {
        self.replica.root()
    }

    /// Sets how fast the background may go, and what it must leave to clients. Before the first event.
    pub fn set_pace(&mut self, config: PaceConfig) {
        self.replica.set_pace(config);
    }

    /// A turn of the loop is over, its answers sent: from when to when. Whoever asked meanwhile has waited for it.
    pub fn turn_took(&mut self, began_ns: u64, ended_ns: u64) {
        self.replica
            .background
            .foreground
            .turn_took(began_ns, ended_ns);
    }

    /// Forgets every `nth` key, as a fault would.
    #[cfg(test)]
    pub(crate) fn lose_keys(&mut self, nth: usize) -> usize {
        self.replica.lose_keys(nth)
    }

    /// Timers of the coordinator.
    #[cfg(test)]
    pub(crate) fn coordinate_timers(&self) -> usize {
        self.coordinator.timers()
    }

    /// What of the background waits for an answer.
    #[cfg(test)]
    pub(crate) fn upkeep_jobs(&self) -> usize {
        self.upkeep.jobs()
    }

    /// Counters of the background.
    pub fn upkeep_stats(&self) -> UpkeepStats {
        let pending = self.replica.hints() + self.replica.hints_without_room();
        self.upkeep.stats(pending)
    }

    /// Requests, of clients and of peers, about which this shard still has something to do or to hear.
    pub const fn requests_under_way(&self) -> usize {
        self.coordinator.len()
    }

    /// Counters of the coordinator.
    pub const fn coordinate_stats(&self) -> CoordinateStats {
        self.coordinator.stats
    }
}

/// Whether a client waits for it, here or at another node, and not for a walk over many keys.
fn is_foreground(event: &Event<'_>) -> bool {
    match event {
        Event::Request(request) => is_of_one_key(&request.op),
        Event::Message { message, .. } => match message {
            Message::Apply { call, .. } => of_upkeep_call(*call).is_none(),
            Message::Fetch { .. } => true,
            Message::Request { shape, .. } => is_of_one_key(&shape.op),
            Message::Applied { .. }
            | Message::Fetched { .. }
            | Message::Outcome { .. }
            | Message::Compare { .. }
            | Message::Compared { .. }
            | Message::Pull { .. }
            | Message::Records { .. }
            | Message::Reap { .. }
            | Message::Reaped { .. }
            | Message::Gossip { .. } => false,
        },
        Event::WriteDone { .. }
        | Event::ReadDone { .. }
        | Event::PrepareDone { .. }
        | Event::PeerLost(_)
        | Event::Note(_)
        | Event::Begun { .. }
        | Event::Settled { .. }
        | Event::TurnEnd
        | Event::Tick
        | Event::Stop => false,
    }
}

/// Why a node that is the whole cluster cannot do what a request asks for: it has one replica, in one zone.
fn beyond_one(quorum: Quorum) -> Option<Failure> {
    let replicas = quorum.r.max(quorum.w);
    if replicas > 1 {
        return Some(Failure::Quorum {
            got: 1,
            needed: replicas,
            is_in_doubt: false,
        });
    }
    (quorum.zones > 1).then_some(Failure::Zones {
        got: 1,
        needed: quorum.zones,
        is_in_doubt: false,
    })
}

const fn is_of_one_key(op: &Op<'_>) -> bool {
    !matches!(
        op,
        Op::Scan { .. } | Op::Records { .. } | Op::Count | Op::Cluster { .. }
    )
}

fn rules_of(bucket: &BucketView) -> Bucket {
    Bucket {
        name: bucket.name.clone(),
        durability: bucket.durability,
        conflict: bucket.conflict,
        blind_put: bucket.blind_put,
        ttl_ms: bucket.ttl_ms,
    }
}

/// By partition, whether this node answers reads of it; empty where it is alone.
fn answered_here(view: &RingView) -> Vec<bool> {
    let number = view.my_number();
    let is_answered =
        |row: &crate::ring::PartitionView| number.is_some_and(|number| row.read.contains(&number));
    view.partitions.iter().map(is_answered).collect()
}
