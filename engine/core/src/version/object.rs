//! An object that is owned: a key's siblings and the context that covers them.
//!
//! Owns the merge: a pure join, commutative, associative and idempotent down to the encoded bytes. Never reads a clock
//! and never looks at write ids in a merge, or it would no longer be a join.
//!
//! Invariants:
//! - siblings are sorted by dot, each dot once;
//! - the context covers every sibling by its vector: what is at or before the floor was overwritten.

use super::context::Context;
use super::dot::{Dot, WriteId};
use super::fingerprint::Fingerprint;
use super::format::{
    DOT_BYTES, GENERAL_HEADER_BYTES, ObjectError, latest_encoded_len, sibling_len,
    write_general_header, write_latest, write_sibling,
};
use super::opaque::ClientContext;
use super::view::{Content, SiblingView, fits_short_form};
use crate::base::mutant::{self, Mutant};
use crate::base::time::Hlc;

/// One of a key's concurrent values, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The write that it is.
    pub dot: Dot,
    /// What it holds; none of a tombstone.
    pub value: Option<Box<[u8]>>,
    /// From this Unix time on it counts as a tombstone with the same dot.
    pub expires_at_ms: Option<u64>,
    /// The client's own name of the write.
    pub write_id: Option<WriteId>,
}

impl Sibling {
    /// The same, borrowed.
    pub fn view(&self) -> SiblingView<'_> {
        SiblingView {
            dot: self.dot,
            content: self
                .value
                .as_deref()
                .map_or(Content::Tombstone, Content::Value),
            expires_at_ms: self.expires_at_ms,
            write_id: self.write_id,
        }
    }
}

impl From<SiblingView<'_>> for Sibling {
    fn from(view: SiblingView<'_>) -> Self {
        Self {
            dot: view.dot,
            value: view.content.value().map(Box::from),
            expires_at_ms: view.expires_at_ms,
            write_id: view.write_id,
        }
    }
}

/// A key's siblings and the context that covers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    siblings: Vec<Sibling>,
    context: Context,
}

impl Object {
    /// No sibling, nothing seen: what a key is before its first write. The neutral element of the merge.
    pub const fn new() -> Self {
        Self {
            siblings: Vec::new(),
            context: Context::new(),
        }
    }

    /// Of siblings in any order and the context that covers them.
    ///
    /// # Errors
    /// [`ObjectError::NotCanonical`] when a sibling is not covered by the vector, or a dot is there twice.
    pub fn from_parts(mut siblings: Vec<Sibling>, context: Context) -> Result<Self, ObjectError> {
        siblings.sort_unstable_by_key(|sibling| sibling.dot);
        if siblings
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.dot == b.dot))
        {
            return Err(ObjectError::NotCanonical {
                rule: "a dot that is there twice",
            });
        }
        let is_held =
            |dot: Dot| dot.is_possible() && dot.hlc > context.floor() && context.covers(dot);
        if !siblings.iter().all(|sibling| is_held(sibling.dot)) {
            return Err(ObjectError::NotCanonical {
                rule: "a sibling before the floor, or not under the vector",
            });
        }
        Ok(Self { siblings, context })
    }

    /// What a `latest` write leaves: itself alone.
    pub fn of_latest(sibling: Sibling) -> Self {
        Self {
            context: Context::of_latest(sibling.dot),
            siblings: vec![sibling],
        }
    }

    /// The siblings, sorted by dot.
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// The context that covers them.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The last writer's sibling.
    pub fn latest(&self) -> Option<&Sibling> {
        self.siblings
            .iter()
            .max_by_key(|sibling| sibling.dot.rank())
    }

    /// What a reader is shown at this time: values that have not expired, each write once.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = &Sibling> {
        self.siblings.iter().filter(move |sibling| {
            let view = sibling.view();
            let is_repeated = |other: &Sibling| {
                other.view().is_same_write(view) && other.dot.rank() > sibling.dot.rank()
            };
            !view.is_dead(now_ms) && !self.siblings.iter().any(is_repeated)
        })
    }

    /// Whether a reader is shown nothing at this time.
    pub fn is_tombstone_only(&self, now_ms: u64) -> bool {
        self.siblings
            .iter()
            .all(|sibling| sibling.view().is_dead(now_ms))
    }

    /// The greatest time in it.
    pub fn max_hlc(&self) -> Hlc {
        self.context.max_hlc()
    }

    /// The 64 bits that identify this key's exact set of dots.
    pub fn fingerprint(&self, key_hash: u64) -> Fingerprint {
        Fingerprint::of_dots(key_hash, self.siblings.iter().map(|sibling| sibling.dot))
    }

    /// What a reader of it gets.
    pub fn client_context(&self, key_hash: u64) -> ClientContext {
        ClientContext::new(self.context.clone(), Some(self.fingerprint(key_hash)))
    }

    /// What both together know: the contexts' union; a sibling stays if both have it, or if one has it and the other's
    /// context does not cover it.
    pub fn merge(&self, other: &Self) -> Self {
        let mut siblings = Vec::with_capacity(self.siblings.len().max(other.siblings.len()));
        for sibling in &self.siblings {
            match other.sibling(sibling.dot) {
                Some(twin) => siblings.push(agreed(sibling, twin).clone()),
                None if mutant::is(Mutant::MergeKeepsSeen)
                    || !other.context.covers(sibling.dot) =>
                {
                    siblings.push(sibling.clone());
                }
                None => {}
            }
        }
        let is_news = |sibling: &&Sibling| {
            self.sibling(sibling.dot).is_none() && !self.context.covers(sibling.dot)
        };
        siblings.extend(other.siblings.iter().filter(is_news).cloned());
        siblings.sort_unstable_by_key(|sibling| sibling.dot);
        if mutant::is(Mutant::MergeDropsSibling) {
            let newest = siblings.iter().map(|sibling| sibling.dot.rank()).max();
            siblings.retain(|sibling| Some(sibling.dot.rank()) == newest);
        }
        if mutant::is(Mutant::ExpiryForgotten) {
            siblings
                .iter_mut()
                .for_each(|sibling| sibling.expires_at_ms = None);
        }
        let mut context = self.context.union(&other.context);
        if mutant::is(Mutant::MergeForgetsContext) {
            context = self.context.clone();
            siblings
                .iter()
                .for_each(|sibling| context.record(sibling.dot));
        }
        Self { siblings, context }
    }

    /// Lets go of the values that have expired; their dots stay as tombstones, and so does the expiry.
    pub fn strip_expired(&mut self, now_ms: u64) {
        for sibling in &mut self.siblings {
            if sibling.view().is_dead(now_ms) {
                sibling.value = None;
            }
        }
    }

    /// Appends its one encoding (see `format`).
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.short_form() {
            Some(sibling) => {
                write_latest(
                    out,
                    sibling.dot,
                    sibling.write_id,
                    sibling.content,
                    sibling.expires_at_ms,
                );
            }
            None => {
                write_general_header(
                    out,
                    self.context.floor(),
                    self.context.vector(),
                    self.context.exceptions(),
                );
                self.siblings
                    .iter()
                    .for_each(|sibling| write_sibling(out, sibling.view()));
            }
        }
    }

    /// The exact length of what [`Self::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        match self.short_form() {
            Some(sibling) => {
                latest_encoded_len(sibling.write_id, sibling.content, sibling.expires_at_ms)
            }
            None => {
                let dots = self.context.vector().len() + self.context.exceptions().len();
                let siblings: usize = self
                    .siblings
                    .iter()
                    .map(|sibling| sibling_len(sibling.view()))
                    .sum();
                GENERAL_HEADER_BYTES + dots * DOT_BYTES + siblings
            }
        }
    }

    pub(crate) fn sibling(&self, dot: Dot) -> Option<&Sibling> {
        self.siblings
            .binary_search_by_key(&dot, |sibling| sibling.dot)
            .ok()
            .and_then(|i| self.siblings.get(i))
    }

    fn short_form(&self) -> Option<SiblingView<'_>> {
        let [sibling] = self.siblings.as_slice() else {
            return None;
        };
        let [entry] = self.context.vector() else {
            return None;
        };
        let is_short = self.context.exceptions().is_empty()
            && fits_short_form(sibling.dot, self.context.floor(), Some(*entry));
        is_short.then(|| sibling.view())
    }
}

/// One dot is one write and has one content, but for a value that one side let go when it expired: the tombstone
/// stays. The order of the whole decides what no two honest replicas disagree in, so that the merge commutes always.
fn agreed<'a>(a: &'a Sibling, b: &'a Sibling) -> &'a Sibling {
    if a.view() <= b.view() { a } else { b }
}
