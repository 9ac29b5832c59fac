//! What a client of the nodes does: requests, and what they are answered.

use crate::base::hash;
use crate::port::{
    Condition, ContextArg, Event, Expiry, Op, Outcome, Put, Quorum, Request, RequestId,
};
use crate::version::ObjectView;

use super::Net;

impl Net {
    /// Sends a request to a node; the id of its answer.
    pub(crate) fn send(&mut self, node: usize, key: &[u8], quorum: Quorum, op: Op<'_>) -> u64 {
        let deadline_ns = self.now.mono_ns + 3_000_000_000;
        self.send_until(node, key, (quorum, Some(deadline_ns)), op)
    }

    /// The same with a deadline, or without one.
    pub(crate) fn send_until(
        &mut self,
        node: usize,
        key: &[u8],
        (quorum, deadline_ns): (Quorum, Option<u64>),
        op: Op<'_>,
    ) -> u64 {
        self.next_id += 1;
        let token = hash::token(b"default", key);
        let request = Request {
            id: RequestId(self.next_id),
            deadline_ns,
            bucket: b"default",
            key,
            token,
            durability: None,
            quorum,
            wants_object: false,
            is_forwarded: false,
            op,
        };
        let shard = self.shard_of(node, token);
        self.step((node, shard), Event::Request(request));
        self.next_id
    }

    pub(crate) fn answer(&mut self, id: u64) -> Option<(Outcome, Vec<u8>)> {
        self.answers.remove(&id)
    }

    /// A request and its answer.
    pub(crate) fn ask(&mut self, node: usize, key: &[u8], op: Op<'_>) -> (Outcome, Vec<u8>) {
        let id = self.send(node, key, Quorum::default(), op);
        for _ in 0..1000 {
            if let Some(answer) = self.answer(id) {
                return answer;
            }
            self.run(5);
        }
        panic!("no answer in five seconds");
    }

    /// A put with a context (empty: blind); the context it returned.
    pub(crate) fn put(&mut self, node: usize, key: &[u8], context: &[u8], value: &[u8]) -> Vec<u8> {
        let (outcome, bytes) = self.ask(node, key, put_op(context, value));
        match outcome {
            Outcome::Written { context, .. } => context.expect("asked for").of(&bytes).to_vec(),
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The values that a read through this node shows, sorted.
    pub(crate) fn get(&mut self, node: usize, key: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (outcome, bytes) = self.ask(node, key, Op::Get);
        match outcome {
            Outcome::Absent { .. } => (Vec::new(), Vec::new()),
            Outcome::Object {
                object, key_hash, ..
            } => {
                let view = ObjectView::parse(object.of(&bytes)).expect("an object");
                let mut context = Vec::new();
                view.encode_client_context(key_hash, &mut context);
                let mut values: Vec<Vec<u8>> = view
                    .live(self.now.wall_ms)
                    .filter_map(|sibling| sibling.content.value().map(<[u8]>::to_vec))
                    .collect();
                values.sort();
                (context, values)
            }
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The fingerprint that a node's own replica holds.
    pub(crate) fn held(&mut self, node: usize, key: &[u8]) -> u64 {
        let op = Op::Fetch {
            wants_object: false,
        };
        match self.ask(node, key, op).0 {
            Outcome::Held(held) => held.fingerprint,
            outcome => panic!("{outcome:?}"),
        }
    }
}

pub(crate) fn put_op<'a>(context: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op::Put(Put {
        context: if context.is_empty() {
            ContextArg::Blind
        } else {
            ContextArg::Opaque(context)
        },
        value,
        expiry: Expiry::Default,
        condition: Condition::Always,
        want_previous: false,
        want_context: true,
        write_id: None,
    })
}
