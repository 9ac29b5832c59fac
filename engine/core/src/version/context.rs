//! A context: the set of writes that somebody has seen, written small.
//!
//! Owns the version vector, the floor and the exceptions. Never knows values.
//!
//! Covered is: every dot at or before the floor, and every dot at or before its actor's vector entry that is not among
//! the exceptions.
//!
//! Invariants (one normal form, so that two contexts are equal exactly when they cover the same possible dots):
//! - both lists are sorted; one vector entry an actor, none before its actor's birth;
//! - vector entries and exceptions are later than the floor;
//! - an exception is before its actor's vector entry: an excepted last event lowers the entry instead.
//!
//! Why exceptions: the context that a put returns covers the whole object but for the siblings that its client never
//! saw; a vector alone cannot say that of an actor with a later event.

use super::dot::{Actor, Dot};
use super::format::{ObjectError, RawDots};
use crate::base::mutant::{self, Mutant};
use crate::base::time::Hlc;

/// A set of dots: vector, floor and exceptions, in normal form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    floor: Hlc,
    /// One dot for each actor: the latest of its events that is seen.
    vector: Vec<Dot>,
    exceptions: Vec<Dot>,
}

impl Context {
    /// Covers nothing.
    pub const fn new() -> Self {
        Self {
            floor: Hlc(0),
            vector: Vec::new(),
            exceptions: Vec::new(),
        }
    }

    /// Covers every write at or before `floor`, of whomever.
    pub const fn from_floor(floor: Hlc) -> Self {
        Self {
            floor,
            vector: Vec::new(),
            exceptions: Vec::new(),
        }
    }

    /// What a `latest` write covers: everything before it, and itself.
    pub fn of_latest(dot: Dot) -> Self {
        let mut context = Self::from_floor(dot.hlc.before());
        context.record(dot);
        context
    }

    /// Of lists that a decoder has read; checks that they are in normal form.
    pub(crate) fn from_raw(
        floor: Hlc,
        vector: RawDots<'_>,
        exceptions: RawDots<'_>,
    ) -> Result<Self, ObjectError> {
        vector.check_normal(floor, exceptions)?;
        Ok(Self {
            floor,
            vector: vector.iter().collect(),
            exceptions: exceptions.iter().collect(),
        })
    }

    /// Every write at or before this time is covered.
    pub const fn floor(&self) -> Hlc {
        self.floor
    }

    /// For each actor the latest event that is covered, sorted by actor.
    pub fn vector(&self) -> &[Dot] {
        &self.vector
    }

    /// The dots under the vector that are not covered, sorted.
    pub fn exceptions(&self) -> &[Dot] {
        &self.exceptions
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.floor == Hlc(0) && self.vector.is_empty()
    }

    /// Whether this write is covered.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.hlc <= self.floor
            || (self.entry(dot.actor).is_some_and(|entry| dot.hlc <= entry)
                && self.exceptions.binary_search(&dot).is_err())
    }

    /// The latest event of `actor` that the vector names.
    pub fn entry(&self, actor: Actor) -> Option<Hlc> {
        let index = self
            .vector
            .binary_search_by_key(&actor, |entry| entry.actor)
            .ok()?;
        self.vector.get(index).map(|entry| entry.hlc)
    }

    /// The greatest time that it names.
    pub fn max_hlc(&self) -> Hlc {
        self.vector
            .iter()
            .map(|entry| entry.hlc)
            .fold(self.floor, Hlc::max)
    }

    /// Covers what either covers, nothing more.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = Self {
            floor: self.floor.max(other.floor),
            vector: Vec::with_capacity(self.vector.len() + other.vector.len()),
            exceptions: Vec::new(),
        };
        union.vector.extend_from_slice(&self.vector);
        union.vector.extend_from_slice(&other.vector);
        union
            .exceptions
            .extend(self.exceptions.iter().filter(|dot| !other.covers(**dot)));
        union
            .exceptions
            .extend(other.exceptions.iter().filter(|dot| !self.covers(**dot)));
        union.normalise();
        union
    }

    /// Covers the same but for `dots`; those at or before the floor stay covered, a floor has no holes.
    pub fn without(&self, dots: impl IntoIterator<Item = Dot>) -> Self {
        let mut smaller = self.clone();
        smaller.exceptions.extend(dots);
        smaller.normalise();
        smaller
    }

    /// Covers this new event of an actor, and with it everything of that actor that went before: only for an actor
    /// that goes on with a history of which nothing was forgotten, or that is born with this event.
    pub fn record(&mut self, dot: Dot) {
        self.vector.push(dot);
        self.exceptions.retain(|exception| *exception != dot);
        self.normalise();
    }

    /// Forgets the vector entries that `keep` refuses, and their exceptions: covers less, never more.
    pub(crate) fn retain_entries(&mut self, mut keep: impl FnMut(Dot) -> bool) {
        self.vector.retain(|entry| keep(*entry));
        self.normalise();
    }

    fn normalise(&mut self) {
        let floor = self.floor;
        // The latest entry of each actor comes first, the others of that actor go.
        self.vector
            .sort_unstable_by(|a, b| a.actor.cmp(&b.actor).then(b.hlc.cmp(&a.hlc)));
        self.vector.dedup_by_key(|entry| entry.actor);
        if self.exceptions.is_empty() {
            self.vector
                .retain(|entry| entry.hlc > floor && entry.is_possible());
            return;
        }
        self.exceptions.sort_unstable();
        self.exceptions.dedup();
        let exceptions = &self.exceptions;
        self.vector.retain_mut(|entry| {
            while entry.hlc > floor && exceptions.binary_search(entry).is_ok() {
                entry.hlc = entry.hlc.before();
            }
            entry.hlc > floor && entry.is_possible()
        });
        let vector = &self.vector;
        self.exceptions.retain(|dot| {
            let entry = vector
                .binary_search_by_key(&dot.actor, |entry| entry.actor)
                .ok()
                .and_then(|i| vector.get(i));
            dot.hlc > floor && dot.is_possible() && entry.is_some_and(|entry| dot.hlc < entry.hlc)
        });
        if mutant::is(Mutant::ExceptionsDropped) {
            self.exceptions.clear();
        }
    }
}
