//! A shard's step, and what its disk makes of what it asks.

use gramme_core::base::ids::ShardIndex;
use gramme_core::port::{Effect, Effects, Event, IoError, IoKind, Note, Peer, Ticket};

use super::{Action, Done, World};
use crate::sim::node::Node;

impl World {
    pub(super) fn disk_done(&mut self, at: (usize, usize, u32), ticket: Ticket, done: Done) {
        let (node, shard, life) = at;
        if !self.nodes[node].is_up || self.nodes[node].life != life {
            return;
        }
        if self.nodes[node].is_paused {
            self.held_back
                .entry(node)
                .or_default()
                .push(Action::Disk { at, ticket, done });
            return;
        }
        self.note_trace(2_000 + ticket.0);
        let disk = &mut self.nodes[node].shards[shard].disk;
        match done {
            Done::Written => {
                disk.end_write(ticket);
                self.step(
                    node,
                    shard,
                    Event::WriteDone {
                        ticket,
                        result: Ok(()),
                    },
                );
            }
            Done::Read(file, offset, bytes, wrong) => {
                let bytes = match wrong {
                    None => disk.read_some(file, offset, bytes),
                    Some(how) => disk.read_wrong(file, offset, bytes, how),
                };
                self.step(
                    node,
                    shard,
                    Event::ReadDone {
                        ticket,
                        result: Ok(&bytes),
                    },
                );
            }
            Done::ReadFailed => self.step(
                node,
                shard,
                Event::ReadDone {
                    ticket,
                    result: Err(IoError {
                        kind: IoKind::Failed,
                        errno: 5,
                    }),
                },
            ),
            Done::WriteFailed => {
                // What an error leaves on the medium nobody knows.
                disk.fail_write(ticket, &mut self.random);
                let result = Err(IoError {
                    kind: IoKind::Failed,
                    errno: 5,
                });
                self.step(node, shard, Event::WriteDone { ticket, result });
            }
            Done::NoSpace => {
                let result = Err(IoError {
                    kind: IoKind::Full,
                    errno: 28,
                });
                self.step(node, shard, Event::PrepareDone { ticket, result });
            }
            Done::Prepared(file, bytes) => {
                disk.prepare(file, bytes);
                self.step(
                    node,
                    shard,
                    Event::PrepareDone {
                        ticket,
                        result: Ok(()),
                    },
                );
            }
        }
    }

    /// Gives a shard an event, and carries out what it asks.
    pub(super) fn step(&mut self, node: usize, shard: usize, event: Event<'_>) {
        let now = self.nodes[node].now(self.now_ns);
        // What a shard has of the disk is looked at when the node's word is due: no turn is wanted for it.
        let has_turn = Node::ends_turn(&event) || matches!(event, Event::Note(Note::Disk { .. }));
        let Node {
            shards, frontiers, ..
        } = &mut self.nodes[node];
        let host = &mut shards[shard];
        let Some(machine) = &mut host.shard else {
            return;
        };
        let mut effects = Effects::default();
        frontiers.step((shard, machine), now, event, &mut effects);
        if !has_turn && !host.is_turn_scheduled {
            host.is_turn_scheduled = true;
            let life = self.nodes[node].life;
            let after_ns = 1_000 + self.random.below(30_000);
            self.after(
                after_ns,
                Action::TurnEnd {
                    at: (node, shard, life),
                },
            );
        }
        self.carry_out(node, shard, effects);
    }

    pub(super) fn carry_out(&mut self, node: usize, shard: usize, mut effects: Effects) {
        let at = (node, shard, self.nodes[node].life);
        if shard == 0 && self.is_live() {
            self.heed_word(node);
        }
        for effect in effects.list.drain(..) {
            if let Some(left) = &mut self.nodes[node].crash_in {
                if *left == 0 {
                    return self.crash(node);
                }
                *left -= 1;
            }
            let delay_ns = self.random.delay_ns(self.swarm.disk_delay_ns);
            match effect {
                Effect::Reply { id, outcome } => self.answer(node, id, outcome, &effects.bytes),
                Effect::Write {
                    ticket,
                    file,
                    offset,
                    data,
                } => {
                    let fails = self.is_safety && self.random.happens_if(self.swarm.write_errors);
                    let host = &mut self.nodes[node].shards[shard];
                    let Some(machine) = &host.shard else { return };
                    let bytes = machine.log_bytes(data).to_vec();
                    host.disk.begin_write(ticket, file, offset, bytes);
                    self.may_misdo(node, shard, ticket);
                    let done = if fails {
                        Done::WriteFailed
                    } else {
                        Done::Written
                    };
                    self.after(delay_ns, Action::Disk { at, ticket, done });
                }
                Effect::Read {
                    ticket,
                    file,
                    offset,
                    bytes,
                    ..
                } => {
                    let fails = self.is_safety && self.random.happens(self.swarm.read_errors);
                    let done = if fails {
                        Done::ReadFailed
                    } else {
                        Done::Read(file, offset, bytes, self.may_misread(node))
                    };
                    self.after(delay_ns, Action::Disk { at, ticket, done });
                }
                Effect::Prepare {
                    ticket,
                    file,
                    bytes,
                    ..
                } => {
                    let done = if self.now_ns < self.nodes[node].full_until_ns {
                        Done::NoSpace
                    } else {
                        Done::Prepared(file, bytes)
                    };
                    self.after(delay_ns, Action::Disk { at, ticket, done });
                }
                Effect::Remove { file } => self.nodes[node].shards[shard].disk.remove(file),
                Effect::Applied { .. } => unreachable!("the shard keeps these to itself"),
                Effect::Stopped => {
                    if let Some(left) = &mut self.nodes[node].stopping {
                        *left = left.saturating_sub(1);
                    }
                }
            }
        }
        let from = Peer {
            node: self.nodes[node].id,
            shard: ShardIndex(shard as u16),
        };
        for send in effects.sends.drain(..) {
            self.send(from, &send, &effects.bytes);
        }
        self.carry_out_of_ring(node, &mut effects);
        for (to, note) in effects.notes.drain(..) {
            // For people; nothing follows from it, so the traces of known seeds need not have it.
            if matches!(note, Note::Progress { .. }) {
                continue;
            }
            if let (Note::View(view), 0) = (&note, to.0) {
                self.saw_view(node, view);
            }
            if let Note::Lost(partitions) = &note
                && !self.is_live()
            {
                self.unheard.extend(partitions);
                self.tell(format!("node {node} has lost a part of {partitions:?}"));
            }
            if let Note::Drained {
                shard, partition, ..
            } = &note
            {
                self.ring.drained(self.nodes[node].id, *partition, *shard);
            }
            self.step(node, usize::from(to.0), Event::Note(note));
        }
        if self.nodes[node].stopping == Some(0) {
            self.has_stopped(node);
        }
    }
}
