//! One session: what two replicas hold of one slice is compared, from sums down to keys, and made equal.
//!
//! ```text
//! this shard                                   the shard of the peer that owns the range
//!   Compare{range, sum, count}  ───────────▶
//!                               ◀───────────   Compared{sum, count}          equal: done
//!                                              … list of its keys            few: what differs is pulled, pushed
//!                                              … without a list              many: sixteen parts are compared
//!   Pull{tokens}                ───────────▶
//!                               ◀───────────   Records
//!   Apply{object}               ───────────▶
//!                               ◀───────────   Applied
//! ```
//!
//! Never goes on after it failed: the next session finds what is still missing, so nothing is ever begun anew.
//!
//! Why sums of fingerprints and no tree: each side adds up any range it is asked for, whatever its cores.

use std::collections::{BTreeMap, VecDeque};

use crate::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use crate::port::TokenRange;
use crate::replica::records::RangeSum;
use crate::ring::Slices;

use super::gather::Gather;

/// Keys of a range up to which its list is sent.
pub(super) const LIST_KEYS_MAX: u64 = 1024;
/// Keys of a range up to which a side compares its own with a list.
const DIFF_KEYS_MAX: u64 = 8 * LIST_KEYS_MAX;
/// Into how many parts a range is cut.
const PARTS: u64 = 16;

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// This shard takes what the peer holds.
    Transfer,
    /// The peer gets what this shard holds.
    Handover,
    /// Both.
    Repair,
}

impl Kind {
    pub(super) const fn pulls(self) -> bool {
        matches!(self, Self::Transfer | Self::Repair)
    }

    pub(super) const fn pushes(self) -> bool {
        matches!(self, Self::Handover | Self::Repair)
    }
}

/// A question that was not answered yet.
pub(super) struct Asked<T> {
    pub(super) what: T,
    pub(super) sequence: u16,
    pub(super) asked_ns: u64,
    pub(super) tries: u32,
}

/// One session.
pub(super) struct Session {
    // fixed
    pub(super) kind: Kind,
    pub(super) partition: PartitionId,
    pub(super) peer: NodeId,
    /// The peer's shards.
    pub(super) theirs: Slices,
    pub(super) started_ns: u64,
    /// `Replica::taints` when it began.
    pub(super) taints: u64,
    /// What this shard held of its slice when the session began.
    pub(super) started_with: RangeSum,
    // what is to be compared
    pub(super) todo: Vec<(TokenRange, ShardIndex)>,
    pub(super) comparing: Option<Asked<(TokenRange, ShardIndex, RangeSum)>>,
    // what is to be pulled
    pub(super) pulls: VecDeque<Token>,
    pub(super) pulling: Option<Asked<Vec<Token>>>,
    pub(super) merging: u32,
    /// The peer's fingerprints of tokens that both have: what came of the merge is pushed where it differs.
    pub(super) merged: BTreeMap<Token, Vec<u64>>,
    // what is to be pushed
    pub(super) pushes: VecDeque<Token>,
    pub(super) gather: Option<Gather>,
    pub(super) pushing: u32,
    // how it goes
    pub(super) sequence: u16,
    pub(super) has_failed: bool,
    /// Records that one side could not read or take; they are skipped.
    pub(super) bad: u64,
    pub(super) pulled: u64,
    pub(super) pushed: u64,
}

/// What a session came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) kind: Kind,
    pub(super) partition: PartitionId,
    pub(super) peer: NodeId,
    pub(super) started_ns: u64,
    pub(super) taints: u64,
    pub(super) started_with: RangeSum,
    /// All was compared, and all that differed arrived.
    pub(super) is_complete: bool,
}

impl Session {
    pub(super) const fn ended(&self) -> Ended {
        Ended {
            kind: self.kind,
            partition: self.partition,
            peer: self.peer,
            started_ns: self.started_ns,
            taints: self.taints,
            started_with: self.started_with,
            is_complete: !self.has_failed && self.bad == 0,
        }
    }

    /// The next question.
    pub(super) fn ask<T>(&mut self, what: T, now_ns: u64) -> Asked<T> {
        self.sequence = self.sequence.wrapping_add(1) & 0x3fff;
        Asked {
            what,
            sequence: self.sequence,
            asked_ns: now_ns,
            tries: 0,
        }
    }

    /// The next tokens to pull, all of one of the peer's shards.
    pub(super) fn take_pulls(&mut self, count_max: usize) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(token) = self.pulls.front().copied() {
            let shard = self.theirs.shard_of(token);
            let is_other = tokens
                .first()
                .is_some_and(|first| self.theirs.shard_of(*first) != shard);
            if is_other || tokens.len() >= count_max {
                break;
            }
            tokens.push(token);
            self.pulls.pop_front();
        }
        tokens
    }

    /// Whether nothing is left to do or to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.has_failed
            || self.todo.is_empty()
                && self.comparing.is_none()
                && self.pulls.is_empty()
                && self.pulling.is_none()
                && self.merging == 0
                && self.merged.is_empty()
                && self.pushes.is_empty()
                && self.gather.is_none()
                && self.pushing == 0
    }

    /// Takes the peer's answer for a range that differs; `own` are this shard's pairs there where they are few.
    pub(super) fn differs(
        &mut self,
        (range, shard): (TokenRange, ShardIndex),
        (theirs, list): (RangeSum, &[(Token, u64)]),
        (held, own): (RangeSum, &[(Token, u64)]),
    ) {
        let is_listed = theirs.count == 0 || !list.is_empty();
        let is_narrow = range.last.0 - range.first.0 < PARTS;
        if (!is_listed || held.count > DIFF_KEYS_MAX) && !is_narrow {
            for part in parts_of(range) {
                self.todo.push((part, shard));
            }
            return;
        }
        if is_listed {
            self.diff(list, own);
        } else {
            // More keys of a few tokens than a list has: nobody but an attacker makes them.
            self.bad += 1;
        }
    }

    /// Whether this shard lists its own pairs for such a range.
    pub(super) const fn wants_own(held: RangeSum, range: TokenRange) -> bool {
        held.count <= DIFF_KEYS_MAX || range.last.0 - range.first.0 < PARTS
    }

    fn diff(&mut self, list: &[(Token, u64)], own: &[(Token, u64)]) {
        let (mut theirs, mut ours) = (by_token(list), by_token(own));
        let (mut their, mut our) = (theirs.next(), ours.next());
        loop {
            let token = match (&their, &our) {
                (None, None) => break,
                (Some((token, _)), None) | (None, Some((token, _))) => *token,
                (Some((their_token, _)), Some((our_token, _))) => *their_token.min(our_token),
            };
            let take = |side: &mut Option<(Token, Vec<u64>)>| match side {
                Some((found, _)) if *found == token => side.take().map(|(_, prints)| prints),
                Some(_) | None => None,
            };
            let (their_prints, our_prints) = (take(&mut their), take(&mut our));
            if their.is_none() {
                their = theirs.next();
            }
            if our.is_none() {
                our = ours.next();
            }
            self.token_differs(token, their_prints, our_prints);
        }
    }

    fn token_differs(&mut self, token: Token, theirs: Option<Vec<u64>>, ours: Option<Vec<u64>>) {
        if theirs == ours {
            return;
        }
        match (theirs, ours) {
            (Some(_), None) if self.kind.pulls() => self.pulls.push_back(token),
            (None, Some(_)) if self.kind.pushes() => self.pushes.push_back(token),
            (Some(theirs), Some(_)) if self.kind.pulls() => {
                self.pulls.push_back(token);
                if self.kind.pushes() {
                    self.merged.insert(token, theirs);
                }
            }
            (Some(_), Some(_)) => self.pushes.push_back(token),
            (Some(_) | None, None) | (None, Some(_)) => {}
        }
    }
}

/// The sixteen parts of a range, the first one last.
fn parts_of(range: TokenRange) -> Vec<TokenRange> {
    let width = u128::from(range.last.0 - range.first.0) + 1;
    let at = |part: u64| {
        let offset = width * u128::from(part) / u128::from(PARTS);
        u128::from(range.first.0) + offset
    };
    let part = |number: u64| TokenRange {
        first: Token(at(number) as u64),
        last: Token((at(number + 1) - 1) as u64),
    };
    (0..PARTS).rev().map(part).collect()
}

/// Pairs in order of token, those of one token together, each token's fingerprints sorted.
fn by_token(pairs: &[(Token, u64)]) -> impl Iterator<Item = (Token, Vec<u64>)> + '_ {
    pairs
        .chunk_by(|former, next| former.0 == next.0)
        .map(|chunk| {
            let mut prints: Vec<u64> = chunk.iter().map(|(_, print)| *print).collect();
            prints.sort_unstable();
            (chunk[0].0, prints)
        })
}

/// The pairs of a list, sorted; what is no pair is left out.
pub(super) fn read_pairs(bytes: &[u8]) -> Vec<(Token, u64)> {
    let (pairs, _) = bytes.as_chunks::<16>();
    let number = |eight: &[u8]| eight.try_into().map_or(0, u64::from_le_bytes);
    let mut pairs: Vec<(Token, u64)> = pairs
        .iter()
        .map(|pair| {
            let (token, print) = pair.split_at(8);
            (Token(number(token)), number(print))
        })
        .collect();
    pairs.sort_unstable();
    pairs
}

/// Pairs as a list has them.
pub(super) fn write_pairs(out: &mut Vec<u8>, pairs: impl Iterator<Item = (Token, u64)>) {
    for (token, print) in pairs {
        out.extend_from_slice(&token.0.to_le_bytes());
        out.extend_from_slice(&print.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_range_cover_it_once() {
        for (first, last) in [(0, u64::MAX), (5, 5 + 16), (7 << 60, (8 << 60) - 1)] {
            let range = TokenRange {
                first: Token(first),
                last: Token(last),
            };
            let mut next = u128::from(first);
            for part in parts_of(range).into_iter().rev() {
                assert_eq!(u128::from(part.first.0), next);
                assert!(part.last >= part.first);
                next = u128::from(part.last.0) + 1;
            }
            assert_eq!(next, u128::from(last) + 1);
        }
    }

    #[test]
    fn pairs_read_back_sorted_and_a_rest_is_left_out() {
        let pairs = [(Token(9), 1), (Token(3), 7)];
        let mut bytes = Vec::new();
        write_pairs(&mut bytes, pairs.into_iter());
        bytes.push(1);
        assert_eq!(read_pairs(&bytes), [(Token(3), 7), (Token(9), 1)]);
    }
}
