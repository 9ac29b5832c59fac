//! A shard on a disk in memory that does everything at once, as the port of a session, or alone.

use std::sync::Arc;

use gramme::wire::peer::{PeerFrame, PeerParse, encode_peer, parse_peer};
use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::port::{Effect, Effects, Event, Message, Note, Outcome, Peer, Request, RequestId};
use gramme_core::ring::Slices;
use gramme_core::shard::{Bucket, OpenError, RecoveryReport, Shard, ShardConfig, ShardStatus};
use gramme_engine::edge::{EdgeMessage, Port};

use crate::sim::disk::Disk;

/// This node.
pub(super) const ME: NodeId = NodeId(1);
/// The block of the disk: the smallest one, so that corpora are small.
pub(super) const BLOCK: usize = 512;
/// A segment.
pub(super) const SEGMENT_BYTES: u32 = 32 << 10;

/// The shard's configuration.
pub(super) fn config() -> ShardConfig {
    ShardConfig {
        node: ME,
        shard: ShardIndex(0),
        slices: slices(),
        tag_seed: 5,
        buckets: vec![Bucket::new(b"default"), Bucket::new(b"carts")],
        segment_bytes: SEGMENT_BYTES,
        block_bytes: BLOCK as u32,
        read_align_bytes: BLOCK as u32,
        capacity_bytes: 64 * u64::from(SEGMENT_BYTES),
        memory_bytes: 1 << 20,
        commit_interval_ns: 1_000_000,
        commits_in_flight_max: 2,
        clean_bytes_per_s: 128 << 20,
        scrub_ns: 0,
        checkpoint_bytes: 48 << 10,
        requests_max: 1_000,
        value_bytes_max: 1 << 14,
        clock_drift_ms_max: 500,
    }
}

/// How its partitions are cut.
pub(super) fn slices() -> Slices {
    Slices::new(16, 1).expect("a power of two")
}

/// The shard, its disk, and what came out of it.
pub(super) struct Host {
    pub(super) shard: Shard,
    pub(super) disk: Disk,
    pub(super) now: Now,
    /// Answers, with what their ranges refer to.
    pub(super) answers: Vec<(RequestId, Outcome, Vec<u8>)>,
    /// Frames for other nodes.
    pub(super) frames: Vec<Vec<u8>>,
    /// Gossip for nodes, by address or by name.
    pub(super) gossip: Vec<Vec<u8>>,
    pub(super) is_stopped: bool,
    effects: Effects,
    asked: Vec<Effect>,
}

impl Host {
    /// A new one that is the whole cluster.
    pub(super) fn new() -> Self {
        Self::open(Disk::default())
            .expect("an empty directory opens")
            .0
    }

    /// Of what a disk holds.
    pub(super) fn open(disk: Disk) -> Result<(Self, RecoveryReport), OpenError> {
        let (mut host, report) = Self::opened(disk)?;
        host.turn();
        host.turn();
        Ok((host, report))
    }

    /// Before its first event.
    pub(super) fn opened(mut disk: Disk) -> Result<(Self, RecoveryReport), OpenError> {
        let now = Now {
            mono_ns: 1_000_000,
            wall_ms: 1_700_000_000_000,
        };
        let (shard, report) = Shard::open(config(), now, &mut disk)?;
        let host = Self {
            shard,
            disk,
            now,
            answers: Vec::new(),
            frames: Vec::new(),
            gossip: Vec::new(),
            is_stopped: false,
            effects: Effects::default(),
            asked: Vec::new(),
        };
        Ok((host, report))
    }

    pub(super) fn step(&mut self, event: Event<'_>) {
        self.shard.step(self.now, event, &mut self.effects);
        self.take_effects();
    }

    /// Before the first event: it takes part in a cluster.
    pub(super) fn take_control(&mut self, boot: gramme_core::cluster::Boot) {
        self.shard.await_view();
        self.shard
            .take_control(boot, self.now, &mut self.effects)
            .expect("a new directory has no state that is wrong");
        self.take_effects();
    }

    fn take_effects(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for send in effects.sends.drain(..) {
            let message = send.message.map(&|range| range.of(&effects.bytes));
            if let Message::Gossip { bytes } = message {
                self.gossip.push(bytes.to_vec());
            }
            let mut frame = Vec::new();
            let content = PeerFrame {
                lane: send.lane,
                sent_ms: self.now.wall_ms,
                message,
            };
            if encode_peer(&mut frame, true, &content) {
                let read = parse_peer(&frame);
                assert!(
                    matches!(read, PeerParse::Done { .. }),
                    "what a shard sends can be read: {read:?}"
                );
                self.frames.push(frame);
            }
        }
        for (_, range) in effects.gossip_by_address.drain(..) {
            self.gossip.push(range.of(&effects.bytes).to_vec());
        }
        for effect in effects.list.drain(..) {
            match effect {
                Effect::Reply { id, outcome } => {
                    self.answers.push((id, outcome, effects.bytes.clone()));
                }
                Effect::Applied { .. } => {}
                Effect::Stopped => self.is_stopped = true,
                Effect::Write { .. }
                | Effect::Read { .. }
                | Effect::Prepare { .. }
                | Effect::Remove { .. } => self.asked.push(effect),
            }
        }
        let notes: Vec<(ShardIndex, Note)> = effects.notes.drain(..).collect();
        effects.clear();
        self.effects = effects;
        for (to, note) in notes {
            if to == ShardIndex(0) {
                self.step(Event::Note(note));
            }
        }
    }

    /// Time passes, a turn ends, and the disk does what it was told.
    pub(super) fn turn(&mut self) {
        self.now.mono_ns += 2_000_000;
        self.now.wall_ms += 2;
        if self
            .shard
            .next_deadline_ns()
            .is_some_and(|at_ns| at_ns <= self.now.mono_ns)
        {
            self.step(Event::Tick);
        }
        self.step(Event::TurnEnd);
        for _ in 0..1_000 {
            let asked = std::mem::take(&mut self.asked);
            if asked.is_empty() {
                return;
            }
            for effect in asked {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Write {
                ticket,
                file,
                offset,
                data,
            } => {
                let bytes = self.shard.log_bytes(data);
                self.disk.put(file, offset as usize, bytes);
                let result = Ok(());
                self.step(Event::WriteDone { ticket, result });
            }
            Effect::Read {
                ticket,
                file,
                offset,
                bytes,
                ..
            } => {
                let bytes = self.disk.read_some(file, offset, bytes);
                let result = Ok(bytes.as_slice());
                self.step(Event::ReadDone { ticket, result });
            }
            Effect::Prepare {
                ticket,
                file,
                bytes,
                ..
            } => {
                self.disk.prepare(file, bytes);
                let result = Ok(());
                self.step(Event::PrepareDone { ticket, result });
            }
            Effect::Remove { file } => self.disk.remove(file),
            Effect::Reply { .. } | Effect::Applied { .. } | Effect::Stopped => {}
        }
    }

    /// A message of another node.
    pub(super) fn message(&mut self, from: NodeId, message: Message<&[u8]>) {
        let from = Peer {
            node: from,
            shard: ShardIndex(0),
        };
        self.step(Event::Message { from, message });
    }

    /// Gives it a view of its cluster.
    pub(super) fn view(&mut self, view: gramme_core::ring::RingView) {
        self.step(Event::Note(Note::View(Arc::new(view))));
        self.turn();
    }
}

impl Port for Host {
    fn now(&self) -> Now {
        self.now
    }
    fn node(&self) -> NodeId {
        ME
    }
    fn shard(&self) -> ShardIndex {
        ShardIndex(0)
    }
    fn slices(&self) -> Slices {
        slices()
    }
    fn submit(&mut self, request: Request<'_>) {
        self.step(Event::Request(request));
    }
    fn submit_to(&mut self, _: ShardIndex, request: Request<'_>) {
        self.step(Event::Request(request));
    }
    fn send(&mut self, _: ShardIndex, _: EdgeMessage) {}
    fn peer_message(&mut self, _: ShardIndex, from: Peer, message: Message<&[u8]>) {
        self.step(Event::Message { from, message });
    }
    fn peer_lost(&mut self, node: NodeId) {
        self.step(Event::PeerLost(node));
    }
    fn status(&self) -> ShardStatus {
        self.shard.status()
    }
    fn wake_at(&mut self, _: u64) {}
}
