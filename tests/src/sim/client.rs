//! A client: one operation at a time, on a few keys, through any node, with contexts of its own.
//!
//! Keys with an even number are carts: read, add, write with the context. Odd ones are written blind, as Redis clients
//! do. A write that is not answered is tried again through another node under its write id, or given up.

use std::collections::{BTreeMap, BTreeSet};

use gramme_core::base::hash;
use gramme_core::port::{
    Condition, ContextArg, Durability, Expiry, Failure, Op, Outcome, Put, Quorum, Request,
    RequestId,
};
use gramme_core::version::{ObjectView, WriteId};

use super::history::{History, Read, Write, WriteNumber, right_ms};
use super::random::Random;
use super::swarm::Swarm;

/// How long a client waits for an answer.
pub(super) const PATIENCE_NS: u64 = 2_000_000_000;
/// How often it tries one write.
const ATTEMPTS_MAX: u32 = 4;

/// What it last saw of a key: the context, and the writes that it covers.
#[derive(Clone, Default)]
struct Seen {
    context: Vec<u8>,
    writes: BTreeSet<WriteNumber>,
}

#[derive(Clone)]
enum Doing {
    Nothing,
    Reading {
        key: usize,
        begun_ns: u64,
    },
    Writing {
        key: usize,
        number: WriteNumber,
        attempts: u32,
    },
}

/// One client.
pub(super) struct Client {
    number: usize,
    seen: BTreeMap<usize, Seen>,
    doing: Doing,
    sequence: u32,
    /// Whom it asked, where that holds the key.
    asked: Option<usize>,
}

/// A request as the world sends it.
pub(super) struct Wanted {
    pub key: Vec<u8>,
    pub id: RequestId,
    pub op: Wants,
    pub durability: Option<Durability>,
}

/// Its operation, owned.
pub(super) enum Wants {
    Get,
    Put {
        context: Vec<u8>,
        value: Vec<u8>,
        write_id: WriteId,
        is_latest: bool,
        expires_at_ms: Option<u64>,
    },
    Delete {
        context: Vec<u8>,
        write_id: WriteId,
        is_latest: bool,
    },
    /// As Redis' `PEXPIREAT` and `PERSIST` do.
    Renew {
        expires_at_ms: Option<u64>,
    },
}

impl Wanted {
    /// As the shard takes it.
    pub(super) fn request(&self, deadline_ns: u64, quorum: Quorum) -> Request<'_> {
        let op = match &self.op {
            Wants::Get => Op::Get,
            Wants::Put {
                context,
                value,
                write_id,
                is_latest,
                expires_at_ms,
            } => Op::Put(Put {
                context: context_arg(context, *is_latest),
                value,
                expiry: expires_at_ms.map_or(Expiry::Default, Expiry::AtMs),
                condition: Condition::Always,
                want_previous: false,
                want_context: true,
                write_id: Some(*write_id),
            }),
            Wants::Renew { expires_at_ms } => Op::SetExpiry {
                expiry: expires_at_ms.map_or(Expiry::Never, Expiry::AtMs),
                want_previous: false,
            },
            Wants::Delete {
                context,
                write_id,
                is_latest,
            } => Op::Delete {
                context: context_arg(context, *is_latest),
                want_previous: false,
                want_context: true,
                write_id: Some(*write_id),
            },
        };
        Request {
            id: self.id,
            deadline_ns: Some(deadline_ns),
            bucket: b"default",
            key: &self.key,
            token: hash::token(b"default", &self.key),
            durability: self.durability,
            quorum,
            wants_object: false,
            is_forwarded: false,
            op,
        }
    }
}

/// The name of a key.
pub(super) fn key_name(key: usize) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

/// Whether a key is a cart, written with contexts only.
pub(super) const fn is_cart(key: usize) -> bool {
    key.is_multiple_of(2)
}

/// The write that a value is of; none where a byte of it is another than was written.
pub(super) fn number_of(value: &[u8]) -> Option<WriteNumber> {
    let (number, rest) = value.split_first_chunk::<8>()?;
    let is_whole = rest.iter().all(|byte| *byte == b'.');
    is_whole.then_some(u64::from_le_bytes(*number))
}

/// When a new value expires, if it does.
fn expiry(now_ns: u64, swarm: &Swarm, random: &mut Random) -> Option<u64> {
    if swarm.expiring == 0 || random.below(100) >= swarm.expiring {
        return None;
    }
    let more_ms = if random.below(4) == 0 { 600_000 } else { 0 };
    Some(right_ms(now_ns) + 1 + random.below(swarm.ttl_ms) + more_ms)
}

/// What writes of this world ask for.
fn durability(swarm: &Swarm) -> Option<Durability> {
    swarm.is_durable.then_some(Durability::All)
}

impl Client {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            seen: BTreeMap::new(),
            doing: Doing::Nothing,
            sequence: 0,
            asked: None,
        }
    }

    fn next_id(&mut self) -> RequestId {
        self.sequence += 1;
        RequestId((self.number as u64) << 32 | u64::from(self.sequence))
    }

    /// Whether an answer is to what it waits for.
    pub(super) fn waits_for(&self, id: RequestId) -> bool {
        !matches!(self.doing, Doing::Nothing) && id.0 as u32 == self.sequence
    }

    /// The key and the number of the write that it waits for.
    pub(super) const fn writes(&self) -> Option<(usize, WriteNumber)> {
        match self.doing {
            Doing::Writing { key, number, .. } => Some((key, number)),
            Doing::Nothing | Doing::Reading { .. } => None,
        }
    }

    /// Begins its next operation.
    pub(super) fn begin(
        &mut self,
        now_ns: u64,
        swarm: &Swarm,
        random: &mut Random,
        history: &mut History,
    ) -> Wanted {
        let is_hot = swarm.hot > 0 && random.below(100) < swarm.hot;
        let key = if is_hot {
            swarm.hot_key % swarm.keys
        } else {
            random.index(swarm.keys)
        };
        let id = self.next_id();
        let is_read = random.below(100) < 40 || is_cart(key) && !self.seen.contains_key(&key);
        if is_read {
            self.doing = Doing::Reading {
                key,
                begun_ns: now_ns,
            };
            return Wanted {
                key: key_name(key),
                id,
                op: Wants::Get,
                durability: durability(swarm),
            };
        }
        if swarm.bent.forgets_contexts && random.below(4) != 0 {
            self.seen.remove(&key);
        }
        let seen = self.seen.get(&key).cloned().unwrap_or_default();
        let is_renewal = swarm.expiring > 0 && !is_cart(key) && random.below(6) == 0;
        let is_delete = !is_renewal && random.below(100) < swarm.deletes;
        let expires_at_ms = if is_delete {
            None
        } else {
            expiry(now_ns, swarm, random)
        };
        let number = history.begin(Write {
            client: self.number,
            key,
            is_delete,
            is_renewal,
            expires_at_ms,
            seen: seen.writes.clone(),
            begun_ns: now_ns,
            acknowledged_ns: None,
            is_retried: false,
            tries_in_doubt: 1,
            tries_denied: 0,
            dated_by: None,
            dated_in: 0,
        });
        let what = match (is_delete, is_renewal) {
            (true, _) => "deletes",
            (_, true) => "renews, as",
            _ => "writes",
        };
        let mut told = format!(
            "client {} {what} w{number}, having seen {:?}",
            self.number, seen.writes
        );
        if let Some(at_ms) = expires_at_ms {
            told += &format!(", for {} ms", at_ms - right_ms(now_ns));
        }
        history.tell(now_ns, key, told);
        self.doing = Doing::Writing {
            key,
            number,
            attempts: 1,
        };
        self.writing((key, number), id, swarm, history)
    }

    fn writing(
        &self,
        (key, number): (usize, WriteNumber),
        id: RequestId,
        swarm: &Swarm,
        history: &History,
    ) -> Wanted {
        let durability = durability(swarm);
        let context = self
            .seen
            .get(&key)
            .map_or_else(Vec::new, |seen| seen.context.clone());
        let write_id = WriteId {
            client: self.number as u64 + 1,
            sequence: number,
        };
        let is_latest = !is_cart(key);
        let write = history.writes.get(&number);
        let is_delete = write.is_some_and(|write| write.is_delete);
        let expires_at_ms = write.and_then(|write| write.expires_at_ms);
        let op = if write.is_some_and(|write| write.is_renewal) {
            Wants::Renew { expires_at_ms }
        } else if is_delete {
            Wants::Delete {
                context,
                write_id,
                is_latest,
            }
        } else {
            let mut value = number.to_le_bytes().to_vec();
            value.resize(8 + (number * 37 % swarm.value_bytes) as usize, b'.');
            Wants::Put {
                context,
                value,
                write_id,
                is_latest,
                expires_at_ms,
            }
        };
        Wanted {
            key: key_name(key),
            id,
            op,
            durability,
        }
    }

    /// Nobody answered: the same write again through another node, or something else.
    pub(super) fn timed_out(
        &mut self,
        now_ns: u64,
        swarm: &Swarm,
        history: &mut History,
    ) -> Option<Wanted> {
        match self.doing {
            Doing::Writing {
                key,
                number,
                attempts,
            } if attempts < ATTEMPTS_MAX && is_cart(key) => {
                if let Some(write) = history.writes.get_mut(&number) {
                    write.is_retried = true;
                    write.note_sent();
                }
                self.doing = Doing::Writing {
                    key,
                    number,
                    attempts: attempts + 1,
                };
                let id = self.next_id();
                history.tell(
                    now_ns,
                    key,
                    format!("client {} retries w{number}", self.number),
                );
                Some(self.writing((key, number), id, swarm, history))
            }
            _ => {
                self.give_up();
                None
            }
        }
    }

    /// Its write may be carried out more than once.
    pub(crate) fn note_retried(&self, history: &mut History) {
        if let Doing::Writing { number, .. } = self.doing
            && let Some(write) = history.writes.get_mut(&number)
        {
            write.is_retried = true;
        }
    }

    /// What it is about is asked of this node, which holds the key.
    pub(super) fn note_holder(&mut self, node: Option<usize>, life: u32, history: &mut History) {
        self.asked = node;
        if let Doing::Writing {
            number,
            attempts: 1,
            ..
        } = self.doing
            && let Some(write) = history.writes.get_mut(&number)
        {
            (write.dated_by, write.dated_in) = (node, life);
        }
    }

    /// Forgets what it waits for.
    pub(super) fn give_up(&mut self) {
        if let Doing::Writing { key, .. } = self.doing {
            // It may have happened: its context would be one that does not cover it.
            self.seen.remove(&key);
        }
        self.doing = Doing::Nothing;
        self.sequence += 1;
    }

    /// Takes an answer; true when it should be tried again at once elsewhere.
    pub(super) fn answer(
        &mut self,
        (now_ns, wall_ms): (u64, u64),
        outcome: &Outcome,
        bytes: &[u8],
        history: &mut History,
    ) -> bool {
        match self.doing.clone() {
            Doing::Nothing => false,
            Doing::Reading { key, begun_ns } => {
                self.doing = Doing::Nothing;
                self.read(key, (now_ns, wall_ms), outcome, bytes, history);
                let was_answered =
                    matches!(outcome, Outcome::Object { .. } | Outcome::Absent { .. });
                if let Some(seen) = self.seen.get(&key).filter(|_| was_answered) {
                    history.reads.push(Read {
                        client: self.number,
                        key,
                        begun_ns,
                        answered_ns: now_ns,
                        holder: self.asked,
                        shown: seen.writes.clone(),
                    });
                }
                false
            }
            Doing::Writing { key, number, .. } => match outcome {
                Outcome::Written { context, .. } => {
                    self.doing = Doing::Nothing;
                    let context = context.map(|range| range.of(bytes).to_vec());
                    let seen = self.seen.entry(key).or_default();
                    seen.writes.insert(number);
                    seen.context = context.unwrap_or_default();
                    history.acknowledge(number, now_ns);
                    history.tell(now_ns, key, format!("w{number} is acknowledged"));
                    false
                }
                // There was nothing to renew.
                Outcome::ConditionNotMet { .. } => {
                    self.doing = Doing::Nothing;
                    if let Some(write) = history.writes.get_mut(&number) {
                        write.note_failed(Failure::NoHolder);
                    }
                    history.tell(now_ns, key, format!("w{number} finds nothing"));
                    false
                }
                outcome => {
                    if let (Outcome::Failed(failure), Some(write)) =
                        (outcome, history.writes.get_mut(&number))
                    {
                        write.note_failed(*failure);
                    }
                    history.tell(now_ns, key, format!("w{number} fails: {outcome:?}"));
                    true
                }
            },
        }
    }

    fn read(
        &mut self,
        key: usize,
        (now_ns, wall_ms): (u64, u64),
        outcome: &Outcome,
        bytes: &[u8],
        history: &mut History,
    ) {
        let (context, writes) = match outcome {
            Outcome::Object {
                object, key_hash, ..
            } => {
                let Ok(view) = ObjectView::parse(object.of(bytes)) else {
                    history
                        .violations
                        .push(format!("key {key} reads as no object"));
                    return;
                };
                let mut context = Vec::new();
                view.encode_client_context(*key_hash, &mut context);
                let values: Vec<&[u8]> = view
                    .live(wall_ms)
                    .filter_map(|sibling| sibling.content.value())
                    .collect();
                let mut writes = BTreeSet::new();
                for value in values {
                    match number_of(value).filter(|number| {
                        history
                            .writes
                            .get(number)
                            .is_some_and(|write| write.key == key && !write.is_delete)
                    }) {
                        Some(number) => {
                            writes.insert(number);
                        }
                        None => history.violations.push(format!(
                            "key {key} shows a value that nobody wrote: {value:?}"
                        )),
                    }
                }
                (context, writes)
            }
            Outcome::Absent { .. } => (Vec::new(), BTreeSet::new()),
            _ => return,
        };
        history.tell(
            now_ns,
            key,
            format!("client {} reads {writes:?}", self.number),
        );
        self.seen.insert(key, Seen { context, writes });
    }
}

/// Carts are never written over blindly: a cart's first write has no context, and is concurrent with everything.
fn context_arg(context: &[u8], is_latest: bool) -> ContextArg<'_> {
    match (is_latest, context.is_empty()) {
        (true, _) => ContextArg::Latest,
        (false, true) => ContextArg::Blind,
        (false, false) => ContextArg::Opaque(context),
    }
}
