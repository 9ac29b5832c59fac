//! What a put makes of what is there.
//!
//! Owns the rules of section "Data and versions": births, survivors, what the put returns, retries, and when nothing
//! need be read. Never issues a time: the caller has absorbed every time it met, and ticked.
//!
//! Invariants:
//! - the new object covers its siblings, and everything that the context of the put covers;
//! - what the put returns covers the new write, and no sibling that its client never saw;
//! - a birth from before `since` is never continued.
//!
//! Why a whole object comes out, never the lone event: a vector entry covers every earlier event of its actor, so a
//! replica that got the event alone would claim to have seen what it has not.

use core::fmt;

use super::context::Context;
use super::dot::{Actor, Dot, WriteId};
use super::fingerprint::Fingerprint;
use super::object::{Object, Sibling};
use super::opaque::ClientContext;
use super::policy::Conflict;
use super::view::{Content, ObjectView, SiblingView};
use crate::base::ids::NodeId;
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::time::Hlc;

/// What the put follows.
#[derive(Clone, Copy, Debug)]
pub enum PutMode<'a> {
    /// Everything earlier, as a last writer.
    Latest,
    /// What this coordinator's replica knows.
    Supersede,
    /// Nothing: it is concurrent with everything.
    Sibling,
    /// What its client has seen.
    Context(&'a ClientContext),
}

/// What the coordinator holds of the key.
#[derive(Clone, Copy, Debug)]
pub enum Local<'a> {
    /// Certainly nothing.
    Absent,
    /// Something whose fingerprint is the one that the put's context names, so that it was not read
    /// ([`dominates_without_read`]).
    Unread,
    /// This.
    Read(&'a ObjectView<'a>),
}

/// A put at its coordinator.
#[derive(Clone, Copy, Debug)]
pub struct PutInput<'a> {
    /// The key's hash, the seed of its fingerprints.
    pub key_hash: u64,
    /// The coordinator.
    pub node: NodeId,
    /// From when on the coordinator's shard has held the partition without loss.
    pub since: Hlc,
    /// The new write's time, ticked after everything met was absorbed.
    pub now: Hlc,
    /// What it follows.
    pub mode: PutMode<'a>,
    /// The bucket's rule.
    pub conflict: Conflict,
    /// The client's name of the write.
    pub write_id: Option<WriteId>,
    /// What is written.
    pub content: Content<'a>,
    /// From this Unix time on it counts as a tombstone.
    pub expires_at_ms: Option<u64>,
}

/// What a put made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// What the coordinator keeps and sends to the other replicas, whole.
    pub object: Object,
    /// The write.
    pub dot: Dot,
    /// Whether the very write was there already, by its write id: the object is unchanged.
    pub is_repeated: bool,
    /// What the client gets for its next put.
    pub returned: ClientContext,
}

/// Why a put did nothing. State: unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError {
    /// When: the bucket rejects conflicts, and a sibling is there that the put has not seen. What to do: read, decide
    /// again, and put with the context of what was read.
    Stale {
        /// The context of what is there.
        current: ClientContext,
    },
    /// When: the new write's time is not after all that the put or the object has met. What to do: absorb `met` into
    /// the clock (or refuse it, when it is too far ahead), tick, and put again.
    ClockBehind {
        /// The time handed in.
        now: Hlc,
        /// The greatest time met.
        met: Hlc,
    },
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { .. } => write!(
                f,
                "the key has a value that this put has not seen, and its bucket rejects conflicts; read the key and put with the new context"
            ),
            Self::ClockBehind { now, met } => {
                write!(
                    f,
                    "the put's time {now:?} is not after {met:?}, which the key or the context has; absorb that time first"
                )
            }
        }
    }
}

impl core::error::Error for PutError {}

/// Whether a put with this context dominates what the index holds, so that nothing need be read ([`Local::Unread`],
/// or [`Local::Absent`] where the index certainly has no entry).
pub fn dominates_without_read(index: Option<Fingerprint>, context: &ClientContext) -> bool {
    index.is_none() || index == context.seen || mutant::is(Mutant::UnreadUnchecked)
}

/// Whether a replica may put a coordinator's object in the place of its own without reading it: it holds nothing, or
/// exactly what the coordinator held before the put.
pub fn replaces_without_read(
    index: Option<Fingerprint>,
    coordinator_former: Option<Fingerprint>,
) -> bool {
    index.is_none() || index == coordinator_former
}

/// Carries out a put on what the coordinator holds.
///
/// # Errors
/// [`PutError`], and nothing happened.
pub fn put(local: Local<'_>, input: &PutInput<'_>) -> Result<PutOutcome, PutError> {
    let mode = if input.conflict == Conflict::Lww {
        PutMode::Latest
    } else {
        input.mode
    };
    let before = match local {
        Local::Read(view) => Some(view),
        Local::Absent | Local::Unread => None,
    };
    if let Some(outcome) = before.and_then(|view| repeated(view, mode, input)) {
        return Ok(outcome);
    }
    let met = before
        .map_or(Hlc(0), ObjectView::max_hlc)
        .max(greatest_met(mode));
    if input.now <= met {
        return Err(PutError::ClockBehind {
            now: input.now,
            met,
        });
    }
    match mode {
        PutMode::Latest => Ok(put_latest(input)),
        PutMode::Supersede => put_after(
            local,
            input,
            &before.map(ObjectView::context).unwrap_or_default(),
        ),
        PutMode::Sibling => put_after(local, input, &Context::new()),
        PutMode::Context(seen) => put_after(local, input, &seen.context),
    }
}

fn greatest_met(mode: PutMode<'_>) -> Hlc {
    match mode {
        PutMode::Context(seen) => seen.greatest.max(seen.context.max_hlc()),
        PutMode::Latest | PutMode::Supersede | PutMode::Sibling => Hlc(0),
    }
}

fn put_latest(input: &PutInput<'_>) -> PutOutcome {
    let dot = Dot::newborn(input.node, input.now);
    let object = Object::of_latest(new_sibling(input, dot));
    PutOutcome {
        returned: object.client_context(input.key_hash),
        object,
        dot,
        is_repeated: false,
    }
}

fn put_after(
    local: Local<'_>,
    input: &PutInput<'_>,
    seen: &Context,
) -> Result<PutOutcome, PutError> {
    let (mut survivors, mut context) = (Vec::new(), seen.clone());
    let mut birth = None;
    match local {
        Local::Absent => {}
        Local::Unread => birth = present_birth(seen, input),
        Local::Read(view) => {
            let known = view.context();
            survivors = survivors_of(view, seen, input);
            if input.conflict == Conflict::Reject && !survivors.is_empty() {
                return Err(PutError::Stale {
                    current: view.client_context(input.key_hash),
                });
            }
            birth = present_birth(&known, input).filter(|_| view.siblings().next().is_some());
            context = known.union(seen);
            if mutant::is(Mutant::SeenForgotten) {
                context = known;
            }
        }
    }
    let dot = Dot {
        actor: Actor {
            node: input.node,
            birth: birth.unwrap_or(input.now),
        },
        hlc: input.now,
    };
    context.record(dot);
    let unseen: Vec<Dot> = survivors.iter().map(|sibling| sibling.dot).collect();
    let mut siblings: Vec<Sibling> = survivors.into_iter().map(Sibling::from).collect();
    siblings.push(new_sibling(input, dot));
    let object = Object::from_parts(siblings, context)
        .expect("the union of both contexts covers what either has");
    let returned = returned(object.context(), object.fingerprint(input.key_hash), unseen);
    Ok(PutOutcome {
        object,
        dot,
        is_repeated: false,
        returned,
    })
}

/// The siblings that stay beside the new write: those that it has not seen, neither as such nor as the same write
/// through another coordinator.
fn survivors_of<'a>(
    view: &ObjectView<'a>,
    seen: &Context,
    input: &PutInput<'_>,
) -> Vec<SiblingView<'a>> {
    // Who has seen nothing and finds nothing has seen what there is: a tombstone does not make a first put stale.
    let is_first = input.conflict == Conflict::Reject && seen.is_empty();
    view.siblings()
        .filter(|sibling| !(is_first && sibling.is_dead(input.now.ms())))
        .filter(|sibling| {
            if mutant::is(Mutant::SeenKept) {
                return true;
            }
            !view
                .siblings()
                .any(|other| other.is_same_write(*sibling) && seen.covers(other.dot))
        })
        .collect()
}

/// The birth of the node's present history of the key, if it never forgot since.
fn present_birth(known: &Context, input: &PutInput<'_>) -> Option<Hlc> {
    let own = known
        .vector()
        .iter()
        .map(|entry| entry.actor)
        .filter(|actor| actor.node == input.node);
    let newest = own.map(|actor| actor.birth).max();
    let is_present = |birth: &Hlc| *birth > input.since;
    if newest.is_some_and(|birth| !is_present(&birth)) {
        mark::reach(Mark::BirthEnded);
    }
    newest.filter(is_present)
}

/// The outcome of a write that is there already, by its write id.
fn repeated(view: &ObjectView<'_>, mode: PutMode<'_>, input: &PutInput<'_>) -> Option<PutOutcome> {
    let is_it = |sibling: &SiblingView<'_>| {
        sibling.write_id.is_some() && sibling.write_id == input.write_id
    };
    let dot = view
        .siblings()
        .filter(is_it)
        .map(|sibling| sibling.dot)
        .max_by_key(|dot| dot.rank())?;
    let seen = match mode {
        PutMode::Latest => Context::from_floor(dot.hlc.before()),
        PutMode::Context(seen) => seen.context.clone(),
        // What the replica knew at the first attempt is no longer told apart from what it learnt since.
        PutMode::Supersede | PutMode::Sibling => Context::new(),
    };
    let unseen = view
        .siblings()
        .filter(|sibling| !is_it(sibling) && !seen.covers(sibling.dot));
    let unseen: Vec<Dot> = unseen.map(|sibling| sibling.dot).collect();
    let returned = returned(
        &view.context().union(&seen),
        view.fingerprint(input.key_hash),
        unseen,
    );
    Some(PutOutcome {
        object: view.to_owned(),
        dot,
        is_repeated: true,
        returned,
    })
}

/// All of `context` but the unseen siblings. It names the object's fingerprint only where it covers the whole object.
fn returned(context: &Context, fingerprint: Fingerprint, mut unseen: Vec<Dot>) -> ClientContext {
    if mutant::is(Mutant::ContextTooWide) {
        unseen.clear();
    }
    let seen = unseen.is_empty().then_some(fingerprint);
    ClientContext {
        greatest: context.max_hlc(),
        context: context.without(unseen),
        seen,
    }
}

fn new_sibling(input: &PutInput<'_>, dot: Dot) -> Sibling {
    Sibling::from(SiblingView {
        dot,
        content: input.content,
        expires_at_ms: input.expires_at_ms,
        write_id: input.write_id,
    })
}
