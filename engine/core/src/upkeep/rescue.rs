//! Hints of which this node cannot read any more what it kept: its record rotted, or the part of the log that it lay in is
//! lost.
//!
//! The partition's readers are asked for the key. Where one of them has the very version that was kept here, nothing is
//! missing, and what they have goes to the hint's node. Where none has it for [`LOST_AFTER_NS`], though each has answered,
//! the hint is given up: what they have goes to its node all the same, and what was kept here may have been the only copy of
//! a write that was acknowledged with this node in the count. So it is counted (`hints_lost`) and said, never silent.
//!
//! Never gives up while one of the readers is away or cannot read its own record, nor while this node is itself to bring the
//! partition up from others and has nothing of the key yet: then that brings it back, or says that it is lost.
//!
//! Why the very version and no newer one: that a newer one has seen it cannot be told from a fingerprint, and to say that
//! something may be lost where it is not is the lesser fault.

use crate::base::ids::{NodeId, Token};
use crate::base::mark::{self, Mark};
use crate::base::slots::SlotId;
use crate::port::ids::upkeep_call;
use crate::port::{Held, KeyName, Lane, Message, Refusal};
use crate::replica::hints::read_hint_key;
use crate::replica::turn::Turn;
use crate::version::{Object, ObjectView};

use super::duties::is_kept;
use super::gather::{Gather, take_record};
use super::handoff::present_nodes;
use super::{Job, Upkeep, spend};

/// How long nobody must have had what was kept: other stand-ins may bring it to its nodes meanwhile.
pub(super) const LOST_AFTER_NS: u64 = 30_000_000_000;
/// Between two lines that say what was given up.
const TELL_NS: u64 = 10_000_000_000;
/// Its calls have this number, those of deliveries another.
const CALL: u16 = 1;

/// What the readers of a key have answered so far.
#[derive(Default)]
pub(super) struct Rescue {
    /// All that they have, this node's own record among it where there is one again.
    joined: Option<Object>,
    /// One of them has the very version that was kept here.
    is_found: bool,
    has_failed: bool,
    is_asking: bool,
}

impl Rescue {
    /// Whether readers are asked, and nothing is delivered yet.
    pub(super) const fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Whether what was kept is given up.
    pub(super) const fn is_lost(&self) -> bool {
        !self.is_found
    }
}

/// What was given up and not said yet.
#[derive(Default)]
pub(super) struct Untold {
    count: u64,
    last: String,
    next_ns: u64,
}

impl Upkeep {
    /// Asks the readers for a key whose record here is lost; `own` is what lies here of it by now.
    pub(super) fn bring_back(&mut self, turn: &mut Turn<'_>, id: SlotId, own: Option<Object>) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        let name = delivery.name.clone();
        let Some((_, bucket, key)) = read_hint_key(&name) else {
            return self.leave_hint(id);
        };
        let key = KeyName::of(bucket, key);
        let Some(readers) = readers_of(turn, key.token, own.is_some()) else {
            return self.leave_hint(id);
        };
        let own_print = turn.replica.fingerprint_named(bucket, key.key);
        delivery.object_fingerprint = own_print.unwrap_or(0);
        delivery.rescue = Some(Rescue {
            joined: own,
            is_asking: true,
            ..Rescue::default()
        });
        delivery.waiting.clone_from(&readers);
        delivery.asked_ns = turn.now.mono_ns;
        for reader in &readers {
            self.handoff.sent_to(*reader);
            let message = Message::Fetch {
                call: upkeep_call(id, CALL),
                key: turn.effects.keep_key(key),
                wants_object: true,
            };
            turn.send(*reader, Lane::Token(key.token), message);
        }
        if readers.is_empty() {
            self.all_told(turn, id);
        }
    }

    /// A reader's answer.
    pub(super) fn hint_told(
        &mut self,
        turn: &mut Turn<'_>,
        (id, sequence): (SlotId, u16),
        from: NodeId,
        result: Result<Held<&[u8]>, Refusal>,
    ) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        let at = delivery.waiting.iter().position(|node| *node == from);
        let rescue = delivery.rescue.as_mut().filter(|rescue| rescue.is_asking);
        let (Some(at), Some(rescue), CALL) = (at, rescue, sequence) else {
            return;
        };
        delivery.waiting.swap_remove(at);
        self.handoff.answered_by(from);
        match result {
            Ok(held) => {
                let lost = read_hint_key(&delivery.name)
                    .and_then(|(_, bucket, key)| turn.replica.lost_print(bucket, key));
                rescue.is_found |= lost.is_some_and(|lost| lost == held.fingerprint);
                if let Some(object) = held.object {
                    spend(turn, object.len() as u64);
                    match ObjectView::parse(object) {
                        Ok(view) => rescue.join(view.to_owned()),
                        Err(_) => rescue.has_failed = true,
                    }
                }
            }
            Err(_) => rescue.has_failed = true,
        }
        if delivery.waiting.is_empty() {
            self.all_told(turn, id);
        }
    }

    /// All readers have answered.
    fn all_told(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        let Some(rescue) = delivery.rescue.as_mut() else {
            return;
        };
        rescue.is_asking = false;
        let since_ns = self
            .handoff
            .missed_since((delivery.token, delivery.place), turn.now.mono_ns);
        let is_over = turn.now.mono_ns.saturating_sub(since_ns) >= LOST_AFTER_NS;
        if rescue.has_failed || !rescue.is_found && !is_over {
            return self.leave_hint(id);
        }
        if rescue.is_found {
            mark::reach(Mark::HintBroughtBack);
        }
        let joined = rescue.joined.take();
        let name = delivery.name.clone();
        let (Some(joined), Some((node, bucket, key))) = (joined, read_hint_key(&name)) else {
            return self.hint_delivered(turn, id);
        };
        let key = KeyName::of(bucket, key);
        let mut bytes = Vec::with_capacity(joined.encoded_len());
        joined.encode(&mut bytes);
        let object = turn.effects.keep(&bytes);
        let to = if delivery.is_for_present {
            present_nodes(turn, key.token)
        } else {
            vec![node]
        };
        self.deliver_to(turn, id, to, (key, object));
    }

    /// The hint's own record is lost: nobody can say for whom and for which key it was, but its key lies beside it. What lies
    /// there goes to all who have the partition now.
    pub(super) fn hint_unnamed(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        let (token, place) = (delivery.token, delivery.place);
        if !turn.replica.is_lost_at(token, place) || readers_of(turn, token, false).is_none() {
            return self.leave_hint(id);
        }
        delivery.is_for_present = true;
        let tokens = turn.replica.tokens_beside(token);
        delivery.unnamed = Some(Gather::begin(turn, &tokens));
        self.unnamed_gathered(turn, id);
    }

    /// Sends what lies beside such a hint, when all of it is read.
    pub(super) fn unnamed_gathered(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        let Some(gather) = delivery.unnamed.as_mut().filter(|gather| gather.is_done()) else {
            return;
        };
        if gather.is_incomplete {
            // What of it is given up is out of the index the next time.
            return self.leave_hint(id);
        }
        let records = core::mem::take(&mut gather.records);
        let mut rest = records.as_slice();
        let mut objects = Vec::new();
        while let Some(parts) = take_record(&mut rest) {
            objects.push((KeyName::of(parts.bucket, parts.key), parts.object));
        }
        // Of one token there is hardly ever a second key: it waits for the next pass.
        match objects.first() {
            Some((key, object)) => {
                let object = turn.effects.keep(object);
                let to = present_nodes(turn, key.token);
                self.deliver_to(turn, id, to, (*key, object));
            }
            None => self.unnamed_delivered(turn, id),
        }
    }

    /// All have what lay beside such a hint: forgets it. A start may find it in the log again, and this is done again.
    pub(super) fn unnamed_delivered(&mut self, turn: &mut Turn<'_>, id: SlotId) {
        let Some(Job::Hint(delivery)) = self.jobs.get_mut(id) else {
            return;
        };
        let (token, place) = (delivery.token, delivery.place);
        let has_any = !turn.replica.tokens_beside(token).is_empty();
        if turn.replica.forget_hint(token, place) {
            if !has_any && turn.replica.is_lossy(token) {
                self.hint_lost(&[]);
            } else {
                self.stats.hints_delivered += 1;
            }
            turn.replica.forget_lost_prints(token);
        }
        self.end_delivery(id);
    }

    /// Nothing comes of it now: it is tried again in a later pass.
    fn leave_hint(&mut self, id: SlotId) {
        self.stats.hints_failed += 1;
        self.handoff.has_left = true;
        self.end_delivery(id);
    }

    /// A hint of which what was kept is lost is over.
    pub(super) fn hint_lost(&mut self, name: &[u8]) {
        mark::reach(Mark::HintLost);
        self.stats.hints_lost += 1;
        self.untold.count += 1;
        self.untold.last = match read_hint_key(name) {
            Some((node, bucket, key)) => format!(
                "key {} of bucket {}, for node {node}",
                key.escape_ascii(),
                bucket.escape_ascii()
            ),
            None => "one whose own record is damaged".into(),
        };
    }

    /// Says what was given up since the last time.
    pub(super) fn tell_lost_hints(&mut self, turn: &mut Turn<'_>) {
        let untold = &mut self.untold;
        if untold.count == 0 || turn.now.mono_ns < untold.next_ns {
            return;
        }
        untold.next_ns = turn.now.mono_ns.saturating_add(TELL_NS);
        turn.effects.reports.push(format!(
            "{} hints are given up: what this node kept for nodes that were away is damaged on its disk, and no replica \
             has that version of it. Writes that were acknowledged may be lost. The last is {}",
            core::mem::take(&mut untold.count),
            core::mem::take(&mut untold.last)
        ));
    }
}

impl Rescue {
    fn join(&mut self, object: Object) {
        self.joined = Some(match self.joined.take() {
            Some(joined) => joined.merge(&object),
            None => object,
        });
    }
}

/// The other readers of a token, each alive; `None` while that cannot be said of all, or while this node's own copy is to be
/// brought back and the key is not here again.
fn readers_of(turn: &Turn<'_>, token: Token, is_back: bool) -> Option<Vec<NodeId>> {
    let me = turn.view.my_number()?;
    let row = turn.view.of_token(token)?;
    let is_mending = !is_back && is_kept(row, me) && turn.replica.is_lossy(token);
    if row.read.is_empty() || is_mending {
        return None;
    }
    let nodes = row.read.iter().map(|number| turn.view.node(*number));
    let others = nodes.filter(|node| node.id != turn.view.me);
    others
        .map(|node| node.is_alive.then_some(node.id))
        .collect()
}
