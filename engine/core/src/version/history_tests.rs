//! Random histories on a few replicas, judged by an oracle of explicit causal sets beside the small representation.
//!
//! Owns the oracle, and five broken engines that it must catch. Every object goes through its bytes and every context
//! through its opaque bytes, so the formats are part of what is judged.
//!
//! After everything has merged, the siblings are exactly the writes that no later write saw: none is lost, none comes
//! back. A retried write may be gone with its twin: a put that saw either covers both.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::base::ids::NodeId;
use crate::base::time::Hlc;

const KEY: u64 = 0x5eed_0fa6;
const CLIENTS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    /// A node goes on with a birth from before it forgot something.
    OldBirth,
    /// The actor is the node alone.
    NodeActor,
    /// A put returns the whole merged context.
    Merged,
    /// A coordinator replicates its new event alone.
    Lone,
    /// Contexts drop their exceptions.
    NoExceptions,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Context,
    Latest,
    Sibling,
    Supersede,
}

/// A put as its client sends it, at first and when it tries again.
#[derive(Clone)]
struct Request {
    client: usize,
    kind: Kind,
    context: Vec<u8>,
    /// What its client had really seen.
    really: BTreeSet<Dot>,
    write_id: WriteId,
}

#[derive(Clone, Default)]
struct Client {
    bytes: Vec<u8>,
    really: BTreeSet<Dot>,
    last: Option<Request>,
}

#[derive(Default)]
struct Replica {
    object: Object,
    clock: u64,
    since: u64,
    /// What the last put made, and the fingerprint of what was there before it.
    last_put: Option<(Option<Fingerprint>, Object)>,
}

impl Replica {
    fn index(&self) -> Option<Fingerprint> {
        (!self.object.siblings().is_empty()).then(|| self.object.fingerprint(KEY))
    }

    fn take(&mut self, object: Object) {
        self.object = through_bytes(&object);
        self.clock = self.clock.max(self.object.max_hlc().0);
    }
}

#[derive(Default)]
struct Oracle {
    /// What the writer of each dot had really seen, closed.
    past: BTreeMap<Dot, BTreeSet<Dot>>,
    /// Times of `latest` puts: they follow every smaller time, also of writes that arrive after.
    latest: Vec<Hlc>,
    writes: BTreeMap<WriteId, BTreeSet<Dot>>,
}

impl Oracle {
    fn close(&self, dots: impl IntoIterator<Item = Dot>) -> BTreeSet<Dot> {
        let mut closed = BTreeSet::new();
        for dot in dots {
            closed.insert(dot);
            closed.extend(self.past.get(&dot).into_iter().flatten());
        }
        closed
    }

    fn judge(&self, end: &Object) -> Result<(), String> {
        let end: BTreeSet<Dot> = end.siblings().iter().map(|sibling| sibling.dot).collect();
        let seen: BTreeSet<Dot> = self.past.values().flatten().copied().collect();
        let last_writer = self.latest.iter().copied().max().unwrap_or_default();
        let is_replaced = |dot: &Dot| seen.contains(dot) || dot.hlc < last_writer;
        for dots in self.writes.values() {
            if !dots.iter().any(is_replaced) && dots.is_disjoint(&end) {
                return Err(format!("lost {dots:?}"));
            }
        }
        match end.iter().find(|dot| is_replaced(dot)) {
            Some(dot) => Err(format!("came back {dot:?}")),
            None => Ok(()),
        }
    }
}

fn through_bytes(object: &Object) -> Object {
    let mut bytes = Vec::new();
    object.encode(&mut bytes);
    assert_eq!(bytes.len(), object.encoded_len());
    let read = ObjectView::parse(&bytes)
        .expect("what was encoded is an object")
        .to_owned();
    assert_eq!(&read, object);
    read
}

fn opaque(context: &ClientContext) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(context.encode_opaque(&mut bytes), 0);
    bytes
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("small")
    }
}

struct History {
    random: Random,
    mutant: Option<Mutant>,
    replicas: Vec<Replica>,
    clients: Vec<Client>,
    oracle: Oracle,
    writes: u64,
}

impl History {
    fn run(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
        let mut random = Random(seed);
        let count = 2 + random.index(3);
        let replicas = (0..count)
            .map(|_| Replica {
                clock: 1 + random.below(50),
                ..Replica::default()
            })
            .collect();
        let clients = vec![
            Client {
                bytes: opaque(&ClientContext::default()),
                ..Client::default()
            };
            CLIENTS
        ];
        let mut history = Self {
            random,
            mutant,
            replicas,
            clients,
            oracle: Oracle::default(),
            writes: 0,
        };
        let mut met: Vec<Object> = Vec::new();
        for _ in 0..5 + history.random.below(36) {
            let node = history.random.index(count);
            match history.random.below(100) {
                0..27 => history.get(node),
                27..70 => history.put(node),
                70..76 => history.retry(node),
                76..93 => history.replicate(node),
                _ => history.wipe(node),
            }
            met.push(history.replicas[node].object.clone());
        }
        if mutant.is_none() {
            let mut any = || met[history.random.index(met.len())].clone();
            check_algebra(&any(), &any(), &any());
        }
        let end = history
            .replicas
            .iter()
            .fold(Object::new(), |end, replica| end.merge(&replica.object));
        history.oracle.judge(&end)
    }

    fn get(&mut self, node: usize) {
        let object = &self.replicas[node].object;
        let client = self.random.index(CLIENTS);
        self.clients[client].bytes = opaque(&object.client_context(KEY));
        self.clients[client].really = self
            .oracle
            .close(object.siblings().iter().map(|sibling| sibling.dot));
    }

    fn put(&mut self, node: usize) {
        let client = self.random.index(CLIENTS);
        let kind = [
            Kind::Context,
            Kind::Context,
            Kind::Context,
            Kind::Latest,
            Kind::Sibling,
            Kind::Supersede,
        ];
        let kind = kind[self.random.index(kind.len())];
        self.writes += 1;
        let write_id = WriteId {
            client: client as u64,
            sequence: self.writes,
        };
        let Client {
            bytes: context,
            really,
            ..
        } = self.clients[client].clone();
        let request = Request {
            client,
            kind,
            context,
            really,
            write_id,
        };
        self.clients[client].last = Some(request.clone());
        self.attempt(node, request);
    }

    fn retry(&mut self, node: usize) {
        let client = self.random.index(CLIENTS);
        if let Some(request) = self.clients[client].last.clone() {
            self.attempt(node, request);
        }
    }

    fn attempt(&mut self, node: usize, request: Request) {
        let Request {
            client,
            kind,
            context: bytes,
            mut really,
            write_id,
        } = request;
        let replica = &mut self.replicas[node];
        let mut seen = ClientContext::decode_opaque(&bytes).expect("what was encoded is a context");
        if self.mutant == Some(Mutant::NoExceptions) {
            let vector = seen.context.vector().to_vec();
            seen.context = Context::from_floor(seen.context.floor());
            vector
                .into_iter()
                .for_each(|entry| seen.context.record(entry));
        }
        replica.clock = replica.clock.max(replica.object.max_hlc().0);
        if kind == Kind::Context {
            replica.clock = replica.clock.max(seen.greatest.0);
        }
        replica.clock += 1 + self.random.below(3);
        let now = Hlc(replica.clock);
        let mode = match kind {
            Kind::Context => PutMode::Context(&seen),
            Kind::Latest => PutMode::Latest,
            Kind::Sibling => PutMode::Sibling,
            Kind::Supersede => PutMode::Supersede,
        };
        match kind {
            Kind::Context => {}
            Kind::Latest | Kind::Sibling => really = BTreeSet::new(),
            Kind::Supersede => {
                really = self
                    .oracle
                    .close(replica.object.siblings().iter().map(|s| s.dot))
            }
        }
        let mut local_bytes = Vec::new();
        replica.object.encode(&mut local_bytes);
        let view = ObjectView::parse(&local_bytes).expect("what was encoded is an object");
        let is_unread = kind == Kind::Context && dominates_without_read(replica.index(), &seen);
        let local = match replica.index() {
            None => Local::Absent,
            Some(_) if is_unread && self.random.below(5) != 0 => Local::Unread,
            Some(_) => Local::Read(&view),
        };
        let input = PutInput {
            key_hash: KEY,
            node: NodeId(node as u64),
            since: if self.mutant == Some(Mutant::OldBirth) {
                Hlc(0)
            } else {
                Hlc(replica.since)
            },
            now,
            mode,
            conflict: Conflict::Siblings,
            write_id: Some(write_id),
            content: Content::Value(b"v"),
            expires_at_ms: None,
        };
        let mut made = put(local, &input).expect("the clock is ahead of everything met");
        if self.mutant == Some(Mutant::NodeActor) && kind != Kind::Latest && !made.is_repeated {
            made = as_node_actor(made, &view, &seen, kind);
        }
        let former = replica.index();
        if !made.is_repeated {
            self.oracle.past.insert(made.dot, really.clone());
            self.oracle
                .writes
                .entry(write_id)
                .or_default()
                .insert(made.dot);
            if kind == Kind::Latest {
                self.oracle.latest.push(now);
            }
        } else if kind == Kind::Supersede {
            really = BTreeSet::new();
        }
        let replica = &mut self.replicas[node];
        replica.take(made.object.clone());
        replica.last_put = Some((former, made.object.clone()));
        really.insert(made.dot);
        if self.random.below(2) == 0 {
            if self.mutant == Some(Mutant::Merged) {
                made.returned.context = made.object.context().clone();
            }
            self.clients[client].bytes = opaque(&made.returned);
            self.clients[client].really = self.oracle.close(really);
        }
    }

    fn replicate(&mut self, node: usize) {
        let target = self.random.index(self.replicas.len());
        let from_put = self.replicas[node]
            .last_put
            .clone()
            .filter(|_| self.random.below(2) == 0);
        let (former, mut sent) = match from_put {
            Some((former, object)) => (Some(former), object),
            None => (None, self.replicas[node].object.clone()),
        };
        if self.mutant == Some(Mutant::Lone)
            && let Some(newest) = sent.latest().cloned()
        {
            let mut context = Context::from_floor(sent.context().floor());
            context.record(newest.dot);
            sent = Object::from_parts(vec![newest], context).expect("covered");
        }
        let target = &mut self.replicas[target];
        let index = target.index();
        match former {
            Some(former) if replaces_without_read(index, former) && index.is_some() => {
                target.take(sent)
            }
            _ => target.take(target.object.merge(&sent)),
        }
    }

    /// A node forgets the key, once another has all of it.
    fn wipe(&mut self, node: usize) {
        let kept = self.replicas[node].object.clone();
        let heir = (node + 1) % self.replicas.len();
        let heir = &mut self.replicas[heir];
        heir.take(heir.object.merge(&kept));
        let replica = &mut self.replicas[node];
        (replica.object, replica.since, replica.last_put) = (Object::new(), replica.clock, None);
    }
}

/// What the put would have made, had its actor no birth.
fn as_node_actor(
    made: PutOutcome,
    view: &ObjectView<'_>,
    seen: &ClientContext,
    kind: Kind,
) -> PutOutcome {
    let dot = Dot {
        actor: Actor {
            birth: Hlc(1),
            ..made.dot.actor
        },
        ..made.dot
    };
    let mut siblings = made.object.siblings().to_vec();
    let survivors: Vec<Dot> = siblings
        .iter()
        .map(|s| s.dot)
        .filter(|dot| *dot != made.dot)
        .collect();
    siblings
        .iter_mut()
        .filter(|s| s.dot == made.dot)
        .for_each(|s| s.dot = dot);
    let mut context = view.context();
    if kind == Kind::Context {
        context = context.union(&seen.context);
    }
    context.record(dot);
    let object = Object::from_parts(siblings, context).expect("covered");
    let fingerprint = survivors.is_empty().then(|| object.fingerprint(KEY));
    let returned = ClientContext::new(object.context().without(survivors), fingerprint);
    PutOutcome {
        object,
        dot,
        is_repeated: false,
        returned,
    }
}

fn check_algebra(a: &Object, b: &Object, c: &Object) {
    assert_eq!(a.merge(a), *a);
    assert_eq!(a.merge(b), b.merge(a));
    assert_eq!(a.merge(b).merge(c), a.merge(&b.merge(c)));
}

#[test]
fn random_histories_lose_no_write_and_bring_none_back() {
    let histories: u64 = std::env::var("GRAMME_HISTORIES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(20_000);
    for seed in 0..histories {
        if let Err(why) = History::run(seed, None) {
            panic!("history {seed}: {why}");
        }
    }
}

#[test]
fn the_oracle_catches_each_broken_engine() {
    for mutant in [
        Mutant::OldBirth,
        Mutant::NodeActor,
        Mutant::Merged,
        Mutant::Lone,
        Mutant::NoExceptions,
    ] {
        let caught = (0..60_000).find(|seed| History::run(*seed, Some(mutant)).is_err());
        assert!(caught.is_some(), "{mutant:?} was not caught");
    }
}
