//! Hinted handoff: what this node keeps for others goes to them when they are back.
//!
//! A hint names a node and a key; the object lies beside it. A pass walks the hints in token order: each is read, its
//! object fetched and sent; it is forgotten when the target has that very object on stable media and neither the hint
//! nor the object changed meanwhile. A target that was removed for good is replaced by all present ones.
//!
//! Never drops a hint of which the object was not delivered; what fails is tried again in a later pass. Where the object
//! cannot be read here any more, see `rescue`.
//!
//! Invariants: at most [`HINTS_AT_ONCE`] are under way, at most [`TARGET_CREDIT`] for each target.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{NodeId, PartitionId, Token};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::port::{ByteRange, Failure, Held, KeyName, Op, Outcome, Refusal};
use crate::replica::hints::{delete_hint, read_hint_key};
use crate::replica::records::{ReadEnd, ReadResult};
use crate::replica::turn::Turn;
use crate::store::format::Record;
use crate::store::place::Place;
use crate::version::ObjectView;

use super::gather::Gather;
use super::rescue::Rescue;
use super::{Job, Upkeep, ask, send_object, spend};

/// Hints under way at once.
const HINTS_AT_ONCE: usize = 64;
/// Hints under way for one target: its credit.
const TARGET_CREDIT: u32 = 64;
/// Hints that one step looks at, at most.
const STEP_HINTS_MAX: usize = 256;
/// How long a target may be silent.
const SILENT_NS_MAX: u64 = 3_000_000_000;
/// How long a target that failed is left alone at first; doubled each time, up to the greatest.
const BACKOFF_NS_MIN: u64 = 250_000_000;
const BACKOFF_NS_MAX: u64 = 8_000_000_000;
/// A target whose queue is longer gets a rest.
const QUEUE_MAX: u32 = 64;
const QUEUE_REST_NS: u64 = 20_000_000;
/// How often hints whose target is not known yet are looked at.
const LOOK_AGAIN_NS: u64 = 5_000_000_000;

/// What is felt of one target.
#[derive(Default)]
struct Target {
    under_way: u32,
    not_before_ns: u64,
    backoff_ns: u64,
    /// Hints of it that the last pass left.
    is_waiting: bool,
}

/// One hint on its way.
pub(super) struct Delivery {
    pub(super) token: Token,
    pub(super) place: Place,
    fingerprint: u64,
    /// The hint's own key; none while it is not read.
    pub(super) name: Vec<u8>,
    /// What lay here of the object when it was sent.
    pub(super) object_fingerprint: u64,
    /// Who was sent it, or asked for it, and has not answered.
    pub(super) waiting: Vec<NodeId>,
    /// Whether it goes to the partition's present nodes: its own target is gone for good, or does not keep it.
    pub(super) is_for_present: bool,
    has_failed: bool,
    pub(super) asked_ns: u64,
    /// What was kept here cannot be read any more.
    pub(super) rescue: Option<Rescue>,
    /// The hint's own record cannot: what lies beside it.
    pub(super) unnamed: Option<Gather>,
}

/// The state of a shard's handoff.
#[derive(Default)]
pub(super) struct Handoff {
    /// Where the pass is: the next hint is looked for from this token of this partition on.
    partition: u32,
    from: Option<Token>,
    is_passing: bool,
    targets: BTreeMap<NodeId, Target>,
    under_way: BTreeSet<Place>,
    hints_at_end: usize,
    /// Whether a hint was left that no target's `is_waiting` stands for: it or its object could not be read.
    pub(super) has_left: bool,
    next_look_ns: u64,
    /// Since when no reader has had what was kept for a hint and is lost here.
    missed: BTreeMap<Place, (Token, u64)>,
}

impl Handoff {
    /// Something is on its way to a node, which counts against its credit.
    pub(super) fn sent_to(&mut self, node: NodeId) {
        self.targets.entry(node).or_default().under_way += 1;
    }

    /// A node has answered.
    pub(super) fn answered_by(&mut self, node: NodeId) {
        let target = self.targets.entry(node).or_default();
        target.under_way = target.under_way.saturating_sub(1);
    }

    /// Since when no reader has had what was kept for the hint at a place; from now on, where it was not missed before.
    pub(super) fn missed_since(&mut self, hint: (Token, Place), now_ns: u64) -> u64 {
        self.missed.entry(hint.1).or_insert((hint.0, now_ns)).1
    }

    fn is_worth_a_pass(&self, turn: &Turn<'_>) -> bool {
        let now_ns = turn.now.mono_ns;
        let hints = turn.replica.hints();
        if hints == 0 {
            return false;
        }
        let is_deliverable = |(node, target): (&NodeId, &Target)| {
            target.is_waiting && target.not_before_ns <= now_ns && is_reachable(turn, *node)
        };
        self.targets.iter().any(is_deliverable)
            || (self.has_left || hints > self.hints_at_end) && now_ns >= self.next_look_ns
    }
}

/// Whether a node is alive, or gone for good (then others are asked).
fn is_reachable(turn: &Turn<'_>, node: NodeId) -> bool {
    turn.view
        .number_of(node)
        .is_none_or(|number| turn.view.node(number).is_alive)
}

impl Upkeep {
    /// Starts deliveries as far as credit and budget go.
    pub(super) fn deliver_hints(&mut self, turn: &mut Turn<'_>) {
        // A view that does not know this node knows nothing of the others either.
        if turn.view.my_number().is_none() {
            return;
        }
        if !self.handoff.is_passing {
            if !self.handoff.is_worth_a_pass(turn) {
                return;
            }
            self.handoff.is_passing = true;
            self.handoff.has_left = false;
            (self.handoff.partition, self.handoff.from) = (0, None);
            for target in self.handoff.targets.values_mut() {
                target.is_waiting = false;
            }
            let missed = &mut self.handoff.missed;
            missed.retain(|place, (token, _)| turn.replica.is_named(*token, *place));
        }
        for _ in 0..STEP_HINTS_MAX {
            let is_busy = self.handoff.under_way.len() >= HINTS_AT_ONCE;
            if is_busy || !turn.replica.background.is_open(turn.now.mono_ns) {
                return;
            }
            if !self.next_hint(turn) {
                self.handoff.is_passing = false;
                self.handoff.hints_at_end = turn.replica.hints();
                self.handoff.next_look_ns = turn.now.mono_ns.saturating_add(LOOK_AGAIN_NS);
                return;
            }
        }
    }

    /// Starts the next delivery of the pass; false at its end.
    fn next_hint(&mut self, turn: &mut Turn<'_>) -> bool {
        let partitions = turn.view.slices.partitions();
        while self.handoff.partition < partitions {
            let partition = PartitionId(self.handoff.partition);
            if turn.replica.hints_of(partition) > 0 {
                let first = turn.replica.slice(partition).first;
                let from = self.handoff.from.unwrap_or(first);
                // All hints of one token, and the cursor behind them.
                let mut found: Vec<(Token, Place, u64)> = Vec::new();
                for (token, entry) in turn.replica.hint_entries(from) {
                    if found.first().is_some_and(|(first, ..)| *first != token) {
                        break;
                    }
                    found.push((token, entry.place, entry.fingerprint));
                }
                if let Some((token, ..)) = found.first().copied() {
                    self.handoff.from = Some(Token(token.0.saturating_add(1)));
                    for hint in found {
                        self.begin_delivery(turn, hint);
                    }
                    if self.handoff.from == Some(Token(u64::MAX)) {
                        self.next_hints_partition();
                    }
                    return true;
                }
            }
            self.next_hints_partition();
        }
        false
    }

    fn next_hints_partition(&mut self) {
        self.handoff.partition += 1;
        self.handoff.from = None;
    }

    fn begin_delivery(
        &mut self,
        turn: &mut Turn<'_>,
        (token, place, fingerprint): (Token, Place, u64),
    ) {
        if !self.handoff.under_way.insert(place) {
            return;
        }
        let id = self.jobs.insert(Job::Hint(Box::new(Delivery {
            token,
            place,
            fingerprint,
            name: Vec::new(),
            object_fingerprint: 0,
            waiting: Vec::new(),
            is_for_present: false,
            has_failed: false,
            asked_ns: turn.now.mono_ns,
            rescue: None,
            unnamed: None,
        })));
        let found = turn.replica.read_record(token, place, turn.effects);
        let name = found.and_then(|record| record.split().map(|(_, name, _)| name.to_vec()));
        if let Some(name) = name {
            self.hint_named(turn, id, name);
        }
    }

    /// A hint's own record was read.
    pub(super) fn hint_read(&mut self, turn: &mut Turn<'_>, end: &ReadEnd) {
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            let is_its = matches!(
                self.jobs.get_mut(id),
                Some(Job::Hint(delivery)) if delivery.place == end.place
                    && delivery.name.is_empty() && delivery.unnamed.is_none()
            );
            if !is_its {
                continue;
            }
            let name = match &end.result {
                ReadResult::Record(bytes) => Record::trusted(bytes)
                    .and_then(|record| record.split())
                    .map(|(_, name, _)| name.to_vec()),
                ReadResult::Moved | ReadResult::Failed => None,
            };
            match name {
                Some(name) => self.hint_named(turn, id, name),
                None if matches!(end.result, ReadResult::Failed) => self.hint_unnamed(turn, id),
                None => {
                    self.handoff.has_left = true;
                    self.end_delivery(id);
                }
            }
        }
    }

    /// It is known for whom the hint is: fetches the object, if the target can take it now.
    fn hint_named(&mut self, turn: &mut Turn<'_>, id: SlotId, name: Vec<u8>) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        delivery.name = name;
        let Some((node, bucket, key)) = read_hint_key(&delivery.name) else {
            self.stats.hints_failed += 1;
            return self.end_delivery(id);
        };
        let target = self.handoff.targets.entry(node).or_default();
        target.is_waiting = true;
        let is_ready = target.under_way < TARGET_CREDIT
            && target.not_before_ns <= turn.now.mono_ns
            && is_reachable(turn, node);
        if !is_ready {
            return self.end_delivery(id);
        }
        delivery.is_for_present = turn.view.number_of(node).is_none();
        let (bucket, key) = (bucket.to_vec(), key.to_vec());
        let key = KeyName::of(&bucket, &key);
        ask(turn, id, key, Op::Fetch { wants_object: true });
    }

    /// The object beside the hint.
    pub(super) fn hint_fetched(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        let Outcome::Held(Held {
            fingerprint,
            object,
        }) = outcome
        else {
            if let Outcome::Failed(Failure::Unknown | Failure::Corrupt { .. }) = outcome {
                return self.bring_back(turn, id, None);
            }
            self.stats.hints_failed += 1;
            self.handoff.has_left = true;
            return self.end_delivery(id);
        };
        delivery.object_fingerprint = fingerprint;
        let name = delivery.name.clone();
        let lost =
            read_hint_key(&name).and_then(|(_, bucket, key)| turn.replica.lost_print(bucket, key));
        if lost.is_some_and(|lost| lost != fingerprint) {
            // What is here came after what was kept was lost, which it need not have seen.
            let own = object.map(|object| object.of(&turn.effects.bytes));
            let own = own.and_then(|object| ObjectView::parse(object).ok());
            let own = own.map(|view| view.to_owned());
            return self.bring_back(turn, id, own);
        }
        let (Some(object), Some((node, bucket, key))) = (object, read_hint_key(&name)) else {
            return self.hint_delivered(turn, id);
        };
        let key = KeyName::of(bucket, key);
        let to = if delivery.is_for_present {
            present_nodes(turn, key.token)
        } else {
            vec![node]
        };
        self.deliver_to(turn, id, to, (key, object));
    }

    /// Sends an object to those who are to have it.
    pub(super) fn deliver_to(
        &mut self,
        turn: &mut Turn<'_>,
        id: SlotId,
        to: Vec<NodeId>,
        (key, object): (KeyName<&[u8]>, ByteRange),
    ) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        if to.contains(&turn.view.me) && to.len() == 1 || to.is_empty() {
            return self.hint_delivered(turn, id);
        }
        delivery.waiting = to.into_iter().filter(|to| *to != turn.view.me).collect();
        delivery.asked_ns = turn.now.mono_ns;
        for to in delivery.waiting.clone() {
            self.handoff.sent_to(to);
            spend(turn, u64::from(object.end - object.start));
            send_object(turn, to, id, key, object);
        }
        if mutant::is(Mutant::HintForgottenEarly) {
            self.hint_delivered(turn, id);
        }
    }

    /// A target's answer.
    pub(super) fn hint_applied(
        &mut self,
        turn: &mut Turn<'_>,
        id: SlotId,
        from: NodeId,
        (result, queue): (Result<bool, Refusal>, u32),
    ) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        // One that was sent before, and to which this answers late, was not what is waited for now.
        let is_asking = delivery.rescue.as_ref().is_some_and(Rescue::is_asking);
        let at = delivery.waiting.iter().position(|node| *node == from);
        let Some(at) = at.filter(|_| !is_asking) else {
            return;
        };
        delivery.waiting.swap_remove(at);
        let target = self.handoff.targets.entry(from).or_default();
        target.under_way = target.under_way.saturating_sub(1);
        match result {
            Ok(_) => {
                if target.backoff_ns > 0 {
                    mark::reach(Mark::HintRedelivered);
                }
                target.backoff_ns = 0;
                if queue > QUEUE_MAX {
                    target.not_before_ns = turn.now.mono_ns.saturating_add(QUEUE_REST_NS);
                }
            }
            // The layout changed: those who keep it now get it.
            Err(Refusal::NotHere) if !delivery.is_for_present => {
                delivery.is_for_present = true;
                let name = delivery.name.clone();
                if let Some((_, bucket, key)) = read_hint_key(&name) {
                    let key = KeyName::of(bucket, key);
                    return ask(turn, id, key, Op::Fetch { wants_object: true });
                }
            }
            Err(_) => {
                delivery.has_failed = !mutant::is(Mutant::HintForgottenRefused);
                self.target_failed(turn, from);
            }
        }
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        if !delivery.waiting.is_empty() {
            return;
        }
        if delivery.has_failed {
            self.stats.hints_failed += 1;
            let target = read_hint_key(&delivery.name).map(|(node, ..)| node);
            self.end_delivery(id);
            // A pass may have gone by since it was refused, while others had yet to answer: none comes back by itself.
            match target {
                Some(target) => self.target_failed(turn, target),
                None => self.handoff.has_left = true,
            }
            return;
        }
        self.hint_delivered(turn, id);
        self.deliver_hints(turn);
    }

    fn target_failed(&mut self, turn: &Turn<'_>, node: NodeId) {
        mark::reach(Mark::HintGivenUp);
        let target = self.handoff.targets.entry(node).or_default();
        target.is_waiting = true;
        if target.not_before_ns > turn.now.mono_ns {
            return;
        }
        target.backoff_ns = (target.backoff_ns * 2).clamp(BACKOFF_NS_MIN, BACKOFF_NS_MAX);
        target.not_before_ns = turn.now.mono_ns.saturating_add(target.backoff_ns);
    }

    /// All have it: forgets the hint, unless it or the object changed meanwhile.
    pub(super) fn hint_delivered(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        if delivery.unnamed.is_some() {
            return self.unnamed_delivered(turn, id);
        }
        let hint = turn
            .replica
            .fingerprint_of(delivery.token, delivery.place.tag15());
        let object = read_hint_key(&delivery.name)
            .and_then(|(_, bucket, key)| turn.replica.fingerprint_named(bucket, key));
        let is_same = hint == Some(delivery.fingerprint)
            && object.unwrap_or(0) == delivery.object_fingerprint;
        if is_same {
            let (name, token) = (delivery.name.clone(), delivery.token);
            let place = delivery.place;
            let is_lost = delivery.rescue.as_ref().is_some_and(Rescue::is_lost);
            delete_hint(turn, &name, token);
            turn.replica.forget_lost_prints(token);
            self.handoff.missed.remove(&place);
            if is_lost {
                self.hint_lost(&name);
            } else {
                self.stats.hints_delivered += 1;
            }
            // It is none of those that the last pass left any more. One that was kept meanwhile may have made up for it in
            // the number of hints, and must still be seen.
            let left = self.handoff.hints_at_end.saturating_sub(1);
            self.handoff.hints_at_end = left.min(turn.replica.hints());
        } else if let Some((node, ..)) = read_hint_key(&delivery.name) {
            mark::reach(Mark::HintChanged);
            // A pass may have gone by while this was under way, and does not come back for it by itself.
            self.handoff.targets.entry(node).or_default().is_waiting = true;
        }
        self.end_delivery(id);
    }

    pub(super) fn end_delivery(&mut self, id: SlotId) {
        if let Some(Job::Hint(delivery)) = self.jobs.remove(id) {
            self.handoff.under_way.remove(&delivery.place);
            for node in delivery.waiting {
                self.handoff.answered_by(node);
            }
        }
    }

    /// Gives up on targets that are silent.
    pub(super) fn hints_due(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        self.give_up_hints(turn, |delivery| {
            !delivery.waiting.is_empty() && now_ns.saturating_sub(delivery.asked_ns) > SILENT_NS_MAX
        });
    }

    pub(super) fn hints_peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        self.give_up_hints(turn, |delivery| delivery.waiting.contains(&node));
    }

    fn give_up_hints(&mut self, turn: &mut Turn<'_>, is_over: impl Fn(&Delivery) -> bool) {
        let ids: Vec<SlotId> = self.jobs.ids().collect();
        for id in ids {
            let waiting = match self.jobs.get_mut(id) {
                Some(Job::Hint(delivery)) if is_over(delivery) => {
                    // A reader that is asked is no target whose hints wait.
                    self.handoff.has_left |=
                        delivery.rescue.is_some() || delivery.unnamed.is_some();
                    delivery.waiting.clone()
                }
                Some(_) | None => continue,
            };
            for node in waiting {
                self.target_failed(turn, node);
            }
            self.stats.hints_failed += 1;
            self.end_delivery(id);
        }
    }
}

/// Who is to have a token's keys now.
pub(super) fn present_nodes(turn: &Turn<'_>, token: Token) -> Vec<NodeId> {
    let row = turn.view.of_token(token);
    let numbers = row.map_or(&[][..], |row| &row.write);
    numbers
        .iter()
        .map(|number| turn.view.node(*number).id)
        .collect()
}
