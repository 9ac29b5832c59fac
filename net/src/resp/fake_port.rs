//! A node in memory for the tests of the commands: what a shard does with a request, without log, index or time.

use std::collections::BTreeMap;

use gramme_core::base::hash::token;
use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::{Hlc, Now};
use gramme_core::port::{
    ByteRange, Condition, ContextArg, Expiry, Failure, Op, Outcome, Quorum, Receipt, Request,
    RequestId,
};
use gramme_core::ring::Slices;
use gramme_core::shard::ShardStatus;
use gramme_core::version::{
    ClientContext, Conflict, Content, Local, ObjectView, PutInput, PutMode, put,
};
use gramme_engine::edge::{EdgeMessage, Port};

/// Its answers wait until the test hands them on.
pub(super) struct FakePort {
    objects: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) now_ms: u64,
    ticks: u64,
    shards: u16,
    pub(super) answers: Vec<(RequestId, Outcome, Vec<u8>)>,
    /// Of the newest request.
    pub(super) quorum: Quorum,
    /// Instead of the next write's outcome.
    pub(super) failure: Option<Failure>,
    /// The greatest number of answers that waited at once.
    pub(super) answers_max: usize,
}

impl FakePort {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            objects: BTreeMap::new(),
            now_ms: 1_000_000,
            ticks: 0,
            shards,
            answers: Vec::new(),
            quorum: Quorum::default(),
            failure: None,
            answers_max: 0,
        }
    }

    fn answer(&mut self, id: RequestId, outcome: Outcome, bytes: Vec<u8>) {
        self.answers.push((id, outcome, bytes));
        self.answers_max = self.answers_max.max(self.answers.len());
    }

    fn live(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.objects.get(key).filter(|object| {
            ObjectView::parse(object).is_ok_and(|view| !view.is_tombstone_only(self.now_ms))
        })
    }

    /// Writes, and answers with what was asked for.
    fn write(
        &mut self,
        request: &Request<'_>,
        context: ContextArg<'_>,
        (content, expires_at_ms): (Content<'_>, Option<u64>),
    ) {
        let before = self.live(request.key).cloned();
        self.ticks += 1;
        let seen = match context {
            ContextArg::Blind | ContextArg::Latest => None,
            ContextArg::Opaque(bytes) => match ClientContext::decode_opaque(bytes) {
                Ok(seen) => Some(seen),
                Err(_) => {
                    let failed = Outcome::Failed(Failure::BadContext);
                    return self.answer(request.id, failed, Vec::new());
                }
            },
        };
        let stored = self.objects.get(request.key).cloned();
        let view = stored
            .as_deref()
            .map(|object| ObjectView::parse(object).expect("made here"));
        let input = PutInput {
            key_hash: token(request.bucket, request.key).0,
            node: NodeId(1),
            since: Hlc(1),
            now: Hlc(Hlc::from_ms(self.now_ms).0 + self.ticks),
            mode: seen.as_ref().map_or(PutMode::Latest, PutMode::Context),
            conflict: Conflict::Siblings,
            write_id: None,
            content,
            expires_at_ms,
        };
        let local = view.as_ref().map_or(Local::Absent, Local::Read);
        let written = put(local, &input).expect("times rise");
        let (mut encoded, mut bytes) = (Vec::new(), Vec::new());
        written.object.encode(&mut encoded);
        self.objects.insert(request.key.to_vec(), encoded);
        written.returned.encode_opaque(&mut bytes);
        let context = whole(&bytes, 0);
        let previous = before.as_ref().map(|before| {
            bytes.extend_from_slice(before);
            whole(&bytes, context.end)
        });
        let outcome = Outcome::Written {
            context: Some(context),
            existed: before.is_some(),
            previous,
            receipt: Receipt::default(),
        };
        self.answer(request.id, outcome, bytes);
    }

    fn set_expiry(&mut self, request: &Request<'_>, expiry: Expiry) {
        let Some(before) = self.live(request.key).cloned() else {
            let outcome = Outcome::ConditionNotMet { previous: None };
            return self.answer(request.id, outcome, Vec::new());
        };
        let latest = ObjectView::parse(&before).expect("made here").latest();
        let content = latest.expect("it is live").content;
        let at_ms = match expiry {
            Expiry::AtMs(at_ms) => Some(at_ms),
            Expiry::Default | Expiry::Never | Expiry::Keep => None,
        };
        self.write(request, ContextArg::Latest, (content, at_ms));
    }
}

fn whole(bytes: &[u8], start: u32) -> ByteRange {
    ByteRange {
        start,
        end: bytes.len() as u32,
    }
}

impl Port for FakePort {
    fn now(&self) -> Now {
        Now {
            mono_ns: self.now_ms * 1_000_000,
            wall_ms: self.now_ms,
        }
    }

    fn node(&self) -> NodeId {
        NodeId(1)
    }

    fn shard(&self) -> ShardIndex {
        ShardIndex(0)
    }

    fn slices(&self) -> Slices {
        Slices::new(16, self.shards).expect("valid")
    }

    fn submit(&mut self, request: Request<'_>) {
        let is_write = !matches!(request.op, Op::Get | Op::Exists);
        if is_write && let Some(failure) = self.failure.take() {
            return self.answer(request.id, Outcome::Failed(failure), Vec::new());
        }
        self.quorum = request.quorum;
        let there = self.live(request.key).cloned();
        let receipt = Receipt::default();
        match request.op {
            Op::Get => match there {
                Some(object) => {
                    let outcome = Outcome::Object {
                        object: whole(&object, 0),
                        key_hash: token(request.bucket, request.key).0,
                        receipt,
                    };
                    self.answer(request.id, outcome, object);
                }
                None => self.answer(request.id, Outcome::Absent { receipt }, Vec::new()),
            },
            Op::Exists => self.answer(request.id, Outcome::Exists(there.is_some()), Vec::new()),
            Op::Put(put) => {
                let is_met = match put.condition {
                    Condition::Always => true,
                    Condition::IfAbsent => there.is_none(),
                    Condition::IfPresent => there.is_some(),
                };
                if !is_met {
                    let bytes = there.filter(|_| put.want_previous);
                    let previous = bytes.as_ref().map(|bytes| whole(bytes, 0));
                    let outcome = Outcome::ConditionNotMet { previous };
                    return self.answer(request.id, outcome, bytes.unwrap_or_default());
                }
                let at_ms = match put.expiry {
                    Expiry::AtMs(at_ms) => Some(at_ms),
                    Expiry::Keep => there.and_then(|object| {
                        ObjectView::parse(&object).ok()?.latest()?.expires_at_ms
                    }),
                    Expiry::Default | Expiry::Never => None,
                };
                self.write(&request, put.context, (Content::Value(put.value), at_ms));
            }
            Op::Delete { context, .. } => {
                self.write(&request, context, (Content::Tombstone, None));
            }
            Op::SetExpiry { expiry, .. } => self.set_expiry(&request, expiry),
            Op::Fetch { .. }
            | Op::Cluster { .. }
            | Op::Merge { .. }
            | Op::Scan { .. }
            | Op::Records { .. }
            | Op::Count => unreachable!("not sent by a key"),
        }
    }

    fn submit_to(&mut self, shard: ShardIndex, request: Request<'_>) {
        let slices = self.slices();
        let mut keys: Vec<(u64, Vec<u8>)> = self
            .objects
            .keys()
            .filter(|key| self.live(key).is_some())
            .map(|key| (token(request.bucket, key).0, key.clone()))
            .filter(|(hash, _)| slices.shard_of(gramme_core::base::ids::Token(*hash)) == shard)
            .collect();
        keys.sort();
        match request.op {
            Op::Count => self.answer(request.id, Outcome::Count(keys.len() as u64), Vec::new()),
            Op::Scan { cursor, count } => {
                keys.retain(|(hash, _)| *hash > cursor);
                let is_last = keys.len() <= count as usize;
                keys.truncate(count as usize);
                let mut bytes = Vec::new();
                for (_, key) in &keys {
                    bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(key);
                }
                let next_cursor = if is_last {
                    0
                } else {
                    keys.last().map_or(0, |(hash, _)| *hash)
                };
                let keys = whole(&bytes, 0);
                self.answer(request.id, Outcome::Keys { next_cursor, keys }, bytes);
            }
            _ => unreachable!("not sent to a shard"),
        }
    }

    fn send(&mut self, _shard: ShardIndex, _message: EdgeMessage) {
        unreachable!("sessions send nothing");
    }

    fn peer_message(
        &mut self,
        _to: ShardIndex,
        _from: gramme_core::port::Peer,
        _message: gramme_core::port::Message<&[u8]>,
    ) {
        panic!("commands are no messages of nodes");
    }

    fn peer_lost(&mut self, _node: NodeId) {}

    fn status(&self) -> ShardStatus {
        ShardStatus::default()
    }

    fn wake_at(&mut self, _mono_ns: u64) {}
}
