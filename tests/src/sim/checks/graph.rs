//! The causal graph of one cart's writes, from what its clients saw: what each write reaches, and what a read accounts for.
//!
//! A write accounts for all that its writer had seen, at any remove. So does a delete, and so does a value that has expired.

use std::collections::BTreeMap;

use crate::sim::history::{History, Read, Write, WriteNumber};

/// A set of one key's writes, a bit each.
#[derive(Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn add(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    pub(super) fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    /// Those of them that the other has not.
    pub(super) fn without(&self, other: &Self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().zip(&other.0).enumerate();
        words.flat_map(|(at, (mine, theirs))| {
            let left = mine & !theirs;
            (0..64)
                .filter(move |bit| left >> bit & 1 == 1)
                .map(move |bit| at * 64 + bit)
        })
    }
}

/// One key's writes, in the order of their numbers.
pub(super) struct Graph<'a> {
    pub(super) writes: Vec<(WriteNumber, &'a Write)>,
    places: BTreeMap<WriteNumber, usize>,
    reach: Vec<Bits>,
    nothing: Bits,
    /// How far clocks may be ahead.
    ahead_ms: u64,
}

impl<'a> Graph<'a> {
    pub(super) fn of(history: &'a History, key: usize, ahead_ms: u64) -> Self {
        let of_key = history.writes.iter().filter(|(_, write)| write.key == key);
        let writes: Vec<(WriteNumber, &Write)> =
            of_key.map(|(number, write)| (*number, write)).collect();
        let numbers = writes.iter().enumerate();
        let places: BTreeMap<WriteNumber, usize> =
            numbers.map(|(at, (number, _))| (*number, at)).collect();
        let nothing = Bits(vec![0; writes.len() / 64 + 1]);
        // A write saw earlier ones only.
        let mut reach: Vec<Bits> = Vec::with_capacity(writes.len());
        for (at, (_, write)) in writes.iter().enumerate() {
            let mut bits = nothing.clone();
            bits.add(at);
            for seen in write.seen.iter().filter_map(|number| places.get(number)) {
                bits.join(&reach[*seen]);
            }
            reach.push(bits);
        }
        Self {
            writes,
            places,
            reach,
            nothing,
            ahead_ms,
        }
    }

    pub(super) fn nothing(&self) -> Bits {
        self.nothing.clone()
    }

    pub(super) fn place(&self, number: WriteNumber) -> Option<usize> {
        self.places.get(&number).copied()
    }

    /// Whether a write saw another, at any remove, or is it.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        self.reach[from].has(to)
    }

    /// What a read accounts for: what it shows, what that saw, and what deletes and values that have expired saw.
    pub(super) fn accounted(&self, read: &Read) -> Bits {
        let mut accounted = self.nothing.clone();
        for place in read.shown.iter().filter_map(|number| self.place(*number)) {
            accounted.join(&self.reach[place]);
        }
        for ((_, write), reach) in self.writes.iter().zip(&self.reach) {
            let may_be_over = write.may_be_over(read.answered_ns, self.ahead_ms);
            if may_be_over && write.begun_ns <= read.answered_ns {
                accounted.join(reach);
            }
        }
        accounted
    }

    /// Whether a write that saw this one was under way with the read. A put's context covers the writes that siblings
    /// unseen by its client had overwritten, without the siblings: a read that asked one replica before such a sibling
    /// came, and another after the next write with that context, shows neither. It is the price of small contexts; the
    /// replicas that acknowledged the sibling have it, so the next read shows it.
    pub(super) fn is_overwritten_meanwhile(&self, at: usize, read: &Read) -> bool {
        let mut later = self.writes.iter().zip(&self.reach).skip(at + 1);
        later.any(|((_, other), reach)| {
            reach.has(at)
                && other.begun_ns <= read.answered_ns
                && !other.is_acknowledged_by(read.begun_ns)
        })
    }
}
