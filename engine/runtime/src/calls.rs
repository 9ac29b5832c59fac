//! Calls of the embedded handle: batches of requests on their way to a shard, and of answers on their way back.
//!
//! A batch is one message whatever the number of its requests, and its answers come back as few messages as the shard
//! needs turns for them, so that the cost of a hop is shared.
//!
//! Invariant: every request of a batch is answered exactly once, also when its shard ends with the batch unanswered
//! (`Drop` sees to it).

use std::sync::Arc;

use gramme_core::port::{Failure, Foreseen, Outcome, Request};

use crate::packed::{Packed, copy_outcome};
use crate::tray::Tray;

/// Answers, and the bytes that they refer to.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    pub(crate) list: Vec<(u64, Outcome)>,
    pub(crate) bytes: Vec<u8>,
}

impl Replies {
    pub(crate) fn push(&mut self, tag: u64, outcome: &Outcome, bytes: &[u8]) {
        let outcome = copy_outcome(outcome, bytes, &mut self.bytes);
        self.list.push((tag, outcome));
    }
}

/// Who gets the answers.
pub(crate) enum ReplyTo {
    /// One request's caller.
    One(Option<oneshot::Sender<Replies>>),
    /// A pipeline, which takes any number of messages.
    Pipeline(Arc<Tray>),
}

impl ReplyTo {
    /// A caller that has gone needs no answer.
    fn send(&mut self, replies: Replies) {
        match self {
            Self::One(sender) => {
                if let Some(sender) = sender.take() {
                    let _ = sender.send(replies);
                }
            }
            Self::Pipeline(tray) => tray.put(replies),
        }
    }
}

/// Requests for one shard.
pub(crate) struct Batch {
    reply_to: ReplyTo,
    calls: Vec<Call>,
    bytes: Vec<u8>,
    remaining: usize,
    replies: Replies,
}

struct Call {
    tag: u64,
    request: Packed,
    state: CallState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CallState {
    Queued,
    Begun,
    Answered,
}

impl Batch {
    pub(crate) fn new(reply_to: ReplyTo) -> Self {
        Self {
            reply_to,
            calls: Vec::new(),
            bytes: Vec::new(),
            remaining: 0,
            replies: Replies::default(),
        }
    }

    /// Adds a request; `tag` comes back with its answer.
    pub(crate) fn push(&mut self, tag: u64, request: &Request<'_>) {
        let request = Packed::pack(request, &mut self.bytes);
        self.calls.push(Call {
            tag,
            request,
            state: CallState::Queued,
        });
        self.remaining += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// What the requests will look at.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Foreseen> + Clone {
        self.calls.iter().map(|call| call.request.foreseen())
    }

    /// Gives each request to `begin`, with its index in the batch.
    pub(crate) fn begin(&mut self, mut begin: impl FnMut(u32, &Packed, &[u8])) {
        for (index, call) in self.calls.iter_mut().enumerate() {
            call.state = CallState::Begun;
            // Pipelines bound their batches far below 2^28.
            let index = u32::try_from(index).expect("batches are bounded");
            begin(index, &call.request, &self.bytes);
        }
    }

    /// Notes the answer of one request.
    pub(crate) fn answer(&mut self, index: u32, outcome: &Outcome, bytes: &[u8]) {
        let Some(call) = self.calls.get_mut(index as usize) else {
            return;
        };
        assert!(
            call.state == CallState::Begun,
            "a request is answered once: call {index} of a batch"
        );
        call.state = CallState::Answered;
        self.remaining -= 1;
        self.replies.push(call.tag, outcome, bytes);
    }

    /// Sends the answers that have gathered; returns whether all are given.
    pub(crate) fn flush(&mut self) -> bool {
        if !self.replies.list.is_empty() {
            self.reply_to.send(core::mem::take(&mut self.replies));
        }
        self.remaining == 0
    }

    /// Takes it back from a mailbox that did not take it; nobody is answered.
    pub(crate) fn forget(mut self) {
        self.remaining = 0;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.remaining == 0 {
            return;
        }
        for call in &self.calls {
            let failure = match call.state {
                CallState::Answered => continue,
                CallState::Begun if call.request.is_write() => Failure::InDoubt,
                CallState::Begun | CallState::Queued => Failure::Stopping,
            };
            self.replies.push(call.tag, &Outcome::Failed(failure), &[]);
        }
        self.reply_to.send(core::mem::take(&mut self.replies));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::base::ids::Token;
    use gramme_core::port::{ContextArg, Op, RequestId};

    fn request(op: Op<'static>) -> Request<'static> {
        Request {
            id: RequestId(0),
            deadline_ns: None,
            bucket: b"default",
            key: b"k",
            token: Token(1),
            durability: None,
            quorum: gramme_core::port::Quorum::default(),
            wants_object: false,
            is_forwarded: false,
            op,
        }
    }

    #[test]
    fn a_batch_that_its_shard_drops_answers_what_is_open() {
        let tray = Arc::new(Tray::default());
        let mut batch = Batch::new(ReplyTo::Pipeline(Arc::clone(&tray)));
        let delete = Op::Delete {
            context: ContextArg::Blind,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        batch.push(10, &request(Op::Get));
        batch.push(11, &request(delete));
        batch.push(12, &request(Op::Get));
        batch.begin(|_, _, _| {});
        batch.answer(0, &Outcome::Exists(true), &[]);
        assert!(!batch.flush());
        drop(batch);
        let answered: Vec<_> = std::iter::from_fn(|| tray.take())
            .flat_map(|replies| replies.list)
            .map(|(tag, outcome)| (tag, format!("{outcome:?}")))
            .collect();
        assert_eq!(answered.len(), 3);
        assert_eq!(answered[0].0, 10);
        assert_eq!(answered[1], (11, "Failed(InDoubt)".into()));
        assert_eq!(answered[2], (12, "Failed(Stopping)".into()));
    }
}
