//! What comes from a server: answers to slots, the ring, and bytes that are neither.

use std::time::Duration;

use gramme_core::base::time::Now;

use super::link::LinkState;
use super::slot::SlotState;
use super::{Action, HELLO_ID, LinkId, Machine};
use crate::client::answer::Context;
use crate::client::{ClientError, Outcome, Read, Written};
use crate::wire::{
    self, Answer, Effect, ErrorCode, Frame, FrameError, Hello, Message, NotUnderstood, Parse,
    Problem, Reply,
};

impl Machine {
    /// Bytes that came on a connection.
    pub fn received(&mut self, now: Now, link: LinkId, bytes: &[u8]) {
        let Some(entry) = self.links.get_mut(link.0) else {
            return;
        };
        if entry.state != LinkState::Open {
            return;
        }
        entry.heard_ns = now.mono_ns;
        entry.unheard_since_ns = None;
        entry.retry_at_ns = 0;
        // Whole frames are read where they are; only a frame's beginning is kept.
        let mut buffer = std::mem::take(&mut entry.incoming);
        let is_direct = buffer.is_empty();
        if !is_direct {
            buffer.extend_from_slice(bytes);
        }
        let source = if is_direct { bytes } else { &buffer };
        let mut used = 0;
        let problem = loop {
            match wire::parse(&source[used..]) {
                Parse::Done(frame) => {
                    used += frame.header.frame_bytes as usize;
                    if let Err(problem) = self.frame(now, link, &frame) {
                        break Some(problem);
                    }
                }
                Parse::Unknown(NotUnderstood { header, why }) => {
                    used += header.frame_bytes as usize;
                    self.not_understood(header.request_id, &why);
                }
                Parse::NeedMore(_) => break None,
                Parse::Bad(error) => break Some(error.to_string()),
            }
        };
        if let Some(problem) = problem {
            self.actions.push_back(Action::Close { link });
            self.lost(now, link, &problem);
            return;
        }
        let entry = &mut self.links[link.0];
        if is_direct {
            entry.incoming.extend_from_slice(&bytes[used..]);
        } else {
            buffer.drain(..used);
            entry.incoming = buffer;
        }
    }

    fn frame(&mut self, now: Now, link: LinkId, frame: &Frame<'_>) -> Result<(), String> {
        match &frame.message {
            Message::Ring(ring) => {
                let reached = self.links[link.0].address.clone();
                self.routes.learn(ring, &reached)
            }
            Message::Answer(answer) => {
                if let Some(index) = self.slot_of(frame.header.request_id) {
                    self.answer(now, index, answer);
                }
                self.ask_for_newer_ring(link, answer.ring_epoch);
                Ok(())
            }
            Message::Error(problem) => match self.slot_of(frame.header.request_id) {
                Some(index) => {
                    self.problem(now, index, problem);
                    Ok(())
                }
                // Of the connection as a whole, or of a call that has ended.
                None if problem.code == ErrorCode::BadFrame => Err(problem.message.to_string()),
                None => Ok(()),
            },
            Message::Ping => {
                let entry = &mut self.links[link.0];
                let id = frame.header.request_id;
                wire::encode(&mut entry.outgoing, id, entry.checksums, &Message::Pong);
                Ok(())
            }
            Message::Pong => Ok(()),
            Message::Hello(_)
            | Message::Get(_)
            | Message::Put(_)
            | Message::Delete(_)
            | Message::Peer(_)
            | Message::Operate(_)
            | Message::Report(_) => Err("the other side sent a request; is it a client?".into()),
        }
    }

    /// An answer of a newer server, or something else that it says: whoever waits for it is told, the connection goes on.
    fn not_understood(&mut self, request_id: u64, why: &FrameError) {
        let Some(index) = self.slot_of(request_id) else {
            return;
        };
        let error = ClientError::Server {
            code: ErrorCode::Other,
            effect: Effect::InDoubt,
            message: format!("the answer is not understood here: {why}"),
        };
        let slot = &mut self.slots[index as usize];
        slot.in_doubt = true;
        let effect = slot.effect();
        self.finish(index, Err(error.with_effect(effect)));
    }

    /// The slot that still waits for this answer.
    fn slot_of(&self, request_id: u64) -> Option<u32> {
        let index = u32::try_from(request_id & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get(index as usize)?;
        let is_awaited = u64::from(slot.generation) == request_id >> 32;
        (is_awaited && slot.state != SlotState::Free).then_some(index)
    }

    fn ask_for_newer_ring(&mut self, link: LinkId, epoch: u64) {
        if self.routes.epoch().is_some_and(|known| known >= epoch) {
            return;
        }
        let entry = &mut self.links[link.0];
        if entry.asked_epoch >= epoch {
            return;
        }
        entry.asked_epoch = epoch;
        let hello = Message::Hello(Hello {
            versions: wire::Versions::OWN,
            client: self.client,
        });
        wire::encode(&mut entry.outgoing, HELLO_ID, entry.checksums, &hello);
    }

    fn answer(&mut self, now: Now, index: u32, answer: &Answer<'_>) {
        let call = self.slots[index as usize].call.as_ref();
        let is_write = call.is_some_and(super::Call::is_write);
        let zones = call.map_or(0, super::Call::zones);
        // A node of a release that reads over the number in a get: a write it would have refused.
        if !is_write && zones > 1 && answer.receipt.zones < zones {
            let error = ClientError::Server {
                code: ErrorCode::Quorum,
                effect: Effect::NotApplied,
                message: format!(
                    "{zones} zones were asked for, and {} answered: the node is of a release that cannot ask more",
                    answer.receipt.zones
                ),
            };
            return self.finish(index, Err(error));
        }
        let written = |context: Option<&[u8]>, is_applied| {
            Outcome::Written(Written {
                context: context.map(Context::from_bytes),
                is_applied,
                receipt: answer.receipt,
                server_ns: answer.server_ns,
            })
        };
        let outcome = match answer.reply {
            Reply::Absent if !is_write => Ok(Outcome::Read(Read::absent(
                answer.receipt,
                answer.server_ns,
            ))),
            Reply::Object { object, key_hash } if !is_write => {
                match Read::of_object(object, key_hash, now.wall_ms) {
                    Some(read) => Ok(Outcome::Read(Read {
                        receipt: answer.receipt,
                        server_ns: answer.server_ns,
                        ..read
                    })),
                    None => Err(ClientError::Protocol(
                        "an object that does not verify".into(),
                    )),
                }
            }
            Reply::Written { context, .. } if is_write => Ok(written(context, true)),
            Reply::ConditionNotMet { .. } if is_write => Ok(written(None, false)),
            Reply::Absent
            | Reply::Object { .. }
            | Reply::Written { .. }
            | Reply::ConditionNotMet { .. } => Err(ClientError::Protocol(
                "an answer to another question".into(),
            )),
        };
        self.finish(index, outcome);
    }

    fn problem(&mut self, now: Now, index: u32, problem: &Problem<'_>) {
        // An earlier try may have been done, and others' writes have followed it: whoever merged and wrote again would do
        // it twice.
        if problem.code == ErrorCode::Stale && !self.slots[index as usize].in_doubt {
            let key_hash = self.slots[index as usize].token.0;
            let current = Read::of_object(problem.current, key_hash, now.wall_ms)
                .unwrap_or(Read::absent(Default::default(), 0));
            let current = Box::new(current);
            self.finish(index, Err(ClientError::Stale { current }));
            return;
        }
        let error = ClientError::Server {
            code: problem.code,
            effect: problem.effect,
            message: problem.message.to_string(),
        };
        let in_doubt = problem.effect == Effect::InDoubt;
        let wait = Duration::from_millis(u64::from(problem.retry_after_ms));
        match problem.code {
            ErrorCode::Overloaded
            | ErrorCode::Stopping
            | ErrorCode::InDoubt
            | ErrorCode::Quorum
            | ErrorCode::NotHere => {
                self.failed(now, index, error, in_doubt, wait);
            }
            ErrorCode::Deadline
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::Stale
            | ErrorCode::TooLarge
            | ErrorCode::BadContext
            | ErrorCode::NoBucket
            | ErrorCode::Unreadable
            | ErrorCode::ClockBehind
            | ErrorCode::BadFrame
            | ErrorCode::BadRequest
            | ErrorCode::Other => {
                let slot = &mut self.slots[index as usize];
                slot.in_doubt |= in_doubt;
                let effect = slot.effect();
                self.finish(index, Err(error.with_effect(effect)));
            }
        }
    }
}
