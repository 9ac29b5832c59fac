//! The control role of shard 0: the cluster's machine, and its words as effects.

use std::collections::BTreeMap;

use crate::base::ids::ShardIndex;
use crate::base::time::Now;
use crate::cluster::{Boot, BootError, Cluster, Out, Vitals};
use crate::port::{Effects, Event, Lane, Message, Note, Op, Outcome, Send, ShardDisk};
use crate::ring::Ring;

/// The role.
pub(super) struct Control {
    cluster: Cluster,
    shards: u16,
    vitals_ns: u64,
    /// What each shard has said of its part of the disk.
    disks: BTreeMap<ShardIndex, ShardDisk>,
}

/// How often this node says how full its disk is.
const VITALS_NS: u64 = 1_000_000_000;

impl Control {
    pub(super) fn new(boot: Boot, now: Now, effects: &mut Effects) -> Result<Self, BootError> {
        let shards = boot.slices.shards();
        let mut cluster = Cluster::boot(boot, now)?;
        let mut out = Out::default();
        cluster.begin(now, &mut out);
        let mut control = Self {
            cluster,
            shards,
            vitals_ns: 0,
            disks: BTreeMap::new(),
        };
        control.carry_out(out, effects);
        Ok(control)
    }

    /// Takes what is for it, and gives back what others are to see.
    pub(super) fn step<'a>(
        &mut self,
        now: Now,
        event: Event<'a>,
        effects: &mut Effects,
    ) -> Option<Event<'a>> {
        let mut out = Out::default();
        let rest = match event {
            Event::Message {
                from,
                message: Message::Gossip { bytes },
            } => {
                self.cluster.message(now, from.node, bytes, &mut out);
                None
            }
            Event::Request(request) => match request.op {
                Op::Cluster { command } => {
                    self.cluster.command(now, request.id, command, &mut out);
                    None
                }
                _ => return Some(Event::Request(request)),
            },
            Event::PeerLost(node) => {
                self.cluster.peer_lost(now, node, &mut out);
                Some(Event::PeerLost(node))
            }
            Event::Note(Note::Progress { shard, progress }) => {
                self.cluster.set_progress(shard, &progress);
                None
            }
            Event::Note(Note::Disk { shard, disk }) => {
                self.disks.insert(shard, disk);
                None
            }
            Event::Note(note @ (Note::Gained { .. } | Note::Drained { .. } | Note::Lost(_))) => {
                self.cluster.note(now, &note, &mut out);
                None
            }
            Event::Tick => {
                if self
                    .next_deadline_ns()
                    .is_some_and(|at_ns| at_ns <= now.mono_ns)
                {
                    self.cluster.tick(now, &mut out);
                }
                Some(Event::Tick)
            }
            Event::Stop => {
                self.cluster.stop(now, &mut out);
                Some(Event::Stop)
            }
            event => return Some(event),
        };
        self.carry_out(out, effects);
        rest
    }

    /// Whether it wants to know how this shard's disk is.
    pub(super) fn wants_vitals(&self, now: Now) -> bool {
        now.mono_ns >= self.vitals_ns
    }

    /// This shard's part of the disk, and the node's word on all of it.
    pub(super) fn vitals(&mut self, now: Now, own: ShardDisk) {
        self.vitals_ns = now.mono_ns + VITALS_NS;
        self.disks.insert(Lane::CONTROL_SHARD, own);
        let disks = self.disks.values().copied();
        self.cluster.set_vitals(Vitals::worst(disks, self.shards));
    }

    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        self.cluster.next_deadline_ns()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.cluster.is_settled()
    }

    pub(super) fn ring(&self) -> Option<&Ring> {
        self.cluster.ring()
    }

    /// Why this node takes no part in its cluster.
    pub(super) fn trouble(&self) -> Option<String> {
        self.cluster.trouble()
    }

    fn carry_out(&mut self, out: Out, effects: &mut Effects) {
        let to_all = out.view.map(Note::View).into_iter().chain(out.notes);
        for note in to_all {
            for shard in 0..self.shards {
                effects.notes.push((ShardIndex(shard), note.clone()));
            }
        }
        for (to, bytes) in out.sends {
            let bytes = effects.keep(&bytes);
            effects.sends.push(Send {
                to,
                lane: Lane::Control,
                message: Message::Gossip { bytes },
            });
        }
        for (address, bytes) in out.hails {
            let bytes = effects.keep(&bytes);
            effects.gossip_by_address.push((address, bytes));
        }
        effects.reports.extend(out.reports);
        if out.state.is_some() {
            effects.state = out.state;
        }
        for (id, answer) in out.answers {
            let answer = effects.keep(&answer);
            effects.reply(id, Outcome::Cluster(answer));
        }
    }
}
