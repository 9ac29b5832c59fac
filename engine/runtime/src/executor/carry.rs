//! Carrying out what the machine asked for: answers, disk operations, messages to other nodes and shards.
//!
//! Owns the order: the effects of a turn in the machine's own order, then what goes elsewhere, then what was refused
//! without the machine; and again, as long as that makes new ones.
#![expect(
    unsafe_code,
    reason = "writes point into the machine's log buffers, which it keeps until they end"
)]

use std::sync::Arc;

use gramme_core::port::{Effect, Effects, Event, Note, Outcome, RequestId};

use super::port::{Origin, ShardPort};
use super::{Core, EFFECT_BYTES_A_TURN_MAX, Stop};
use crate::edge::Edge;
use crate::mailbox::Message;

impl Core {
    pub(super) fn carry_out_if_much(&mut self) {
        if self.port.effects.bytes.len() > EFFECT_BYTES_A_TURN_MAX {
            self.carry_out();
        }
    }

    /// Carries out what the machine has asked for, and what it asks for meanwhile.
    pub(crate) fn carry_out(&mut self) {
        while self.port.has_effects() {
            let mut effects = core::mem::take(&mut self.carried_out);
            core::mem::swap(&mut effects, &mut self.port.effects);
            for effect in effects.list.drain(..) {
                self.carry_out_one(effect, &effects.bytes);
            }
            self.carry_out_of(&mut effects);
            effects.clear();
            self.carried_out = effects;
            for (id, outcome) in core::mem::take(&mut self.port.refused) {
                answer(&mut self.edge, &mut self.port, id, &outcome, &[]);
            }
            let mut ended = core::mem::take(&mut self.ended_at_once);
            for done in ended.drain(..) {
                self.disk_done(done);
            }
            self.ended_at_once = ended;
        }
    }

    fn carry_out_one(&mut self, effect: Effect, bytes: &[u8]) {
        match effect {
            Effect::Reply { id, outcome } => {
                answer(&mut self.edge, &mut self.port, id, &outcome, bytes);
            }
            Effect::Write {
                ticket,
                file,
                offset,
                data,
            } => {
                let data = self.port.shard.log_bytes(data);
                // SAFETY: log bytes stay where they are, unchanged, until the write's `WriteDone`; a loop that ends
                // early keeps the machine alive (`engine::thread`).
                let ended = unsafe {
                    self.disk
                        .write(&mut self.ring, ticket, (file, offset), data)
                };
                self.ended_at_once.extend(ended);
            }
            Effect::Read {
                ticket,
                file,
                offset,
                bytes,
                background: _,
            } => {
                let ended = self
                    .disk
                    .read(&mut self.ring, ticket, (file, offset), bytes);
                self.ended_at_once.extend(ended);
            }
            Effect::Prepare {
                ticket,
                file,
                bytes,
                fill_bytes,
            } => self.disk.prepare(ticket, file, bytes, fill_bytes),
            Effect::Remove { file } => self.disk.remove(file),
            Effect::Applied { .. } => unreachable!("the shard's coordinator takes it"),
            Effect::Stopped => {
                if let Stop::Asked {
                    is_shard_stopped, ..
                } = &mut self.stop
                {
                    *is_shard_stopped = true;
                }
            }
        }
    }

    /// Steps the machine for a local future; its answer, if it is at hand, goes to `read` without a copy, and everything
    /// else that the machine asks for is carried out.
    pub(crate) fn step_local<R>(
        &mut self,
        id: RequestId,
        step: impl FnOnce(&mut ShardPort),
        read: impl FnOnce(&Outcome, &[u8]) -> R,
    ) -> Option<R> {
        step(&mut self.port);
        self.wake_loop();
        let mut read = Some(read);
        let mut result = None;
        let mut effects = core::mem::take(&mut self.carried_out);
        core::mem::swap(&mut effects, &mut self.port.effects);
        for effect in effects.list.drain(..) {
            match (effect, read.take()) {
                (Effect::Reply { id: of, outcome }, Some(read)) if of == id => {
                    result = Some(read(&outcome, &effects.bytes));
                }
                (effect, unread) => {
                    read = unread;
                    self.carry_out_one(effect, &effects.bytes);
                }
            }
        }
        self.carry_out_of(&mut effects);
        effects.clear();
        self.carried_out = effects;
        result
    }

    /// What goes to other nodes, to other shards, and into the file of the cluster's state.
    fn carry_out_of(&mut self, effects: &mut Effects) {
        if let Some(edge) = &mut self.edge {
            for send in &effects.sends {
                edge.peer_send(send, &effects.bytes, &mut self.port);
            }
            for (address, range) in &effects.gossip_by_address {
                edge.gossip_send(address, range.of(&effects.bytes), &mut self.port);
            }
        }
        for (shard, note) in effects.notes.drain(..) {
            if shard == self.port.index {
                self.take_note(note);
            } else {
                self.port.outboxes.push(shard, Message::Note(note));
            }
        }
        if let (Some(bytes), Some(state)) = (effects.state.take(), &self.state) {
            state.keep(bytes);
        }
        for report in effects.reports.drain(..) {
            tracing::warn!(target: "gramme::cluster", "{report}");
        }
    }

    pub(super) fn take_note(&mut self, note: Note) {
        if let Note::View(view) = &note
            && self.view.as_ref().is_none_or(|had| !Arc::ptr_eq(had, view))
        {
            self.view = Some(Arc::clone(view));
            if let Some(edge) = &mut self.edge {
                edge.view(view, &mut self.port);
            }
        }
        self.port.step(Event::Note(note));
    }
}

/// Takes an answer to whoever asked.
pub(super) fn answer(
    edge: &mut Option<Box<dyn Edge>>,
    port: &mut ShardPort,
    id: RequestId,
    outcome: &Outcome,
    bytes: &[u8],
) {
    match Origin::of(id) {
        Origin::Edge(own) => {
            if let Some(edge) = edge {
                edge.reply(RequestId(own), outcome, bytes, port);
            }
        }
        origin => port.answer(origin, outcome, bytes),
    }
}
