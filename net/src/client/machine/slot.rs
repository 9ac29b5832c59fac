//! One call on its way.

use gramme_core::base::ids::Token;

use super::LinkId;
use crate::client::Call;
use crate::wire::Effect;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SlotState {
    #[default]
    Free,
    /// For its next try.
    Waiting { until_ns: u64 },
    /// For the connection.
    Queued(LinkId),
    /// For the answer.
    Sent(LinkId),
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) state: SlotState,
    pub(super) call: Option<Call>,
    pub(super) token: Token,
    pub(super) deadline_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) tries: u32,
    pub(super) failures: u32,
    /// Whether a try may have been applied.
    pub(super) in_doubt: bool,
}

impl Slot {
    pub(super) fn begin(&mut self, call: Call, deadline_ns: u64) {
        *self = Self {
            generation: self.generation,
            token: call.token(),
            state: SlotState::Waiting { until_ns: 0 },
            call: Some(call),
            deadline_ns,
            ..Self::default()
        };
    }

    pub(super) fn end(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.state = SlotState::Free;
        self.call = None;
    }

    pub(super) const fn effect(&self) -> Effect {
        if self.in_doubt {
            Effect::InDoubt
        } else {
            Effect::NotApplied
        }
    }
}
