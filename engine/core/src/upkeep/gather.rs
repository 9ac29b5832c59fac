//! Records by their tokens, from memory or disk: for a peer that pulls them, and for pushing them.
//!
//! Takes as many of the tokens, from the first on, as fit; at least one. What expired goes without its value.

use std::collections::BTreeMap;

use crate::base::ids::Token;
use crate::base::limits::BUCKET_DEFAULT;
use crate::base::mutant::{self, Mutant};
use crate::port::TokenRange;
use crate::replica::records::{ReadEnd, ReadResult};
use crate::replica::turn::Turn;
use crate::store::format::{Record, stored_bucket};
use crate::store::place::Place;
use crate::version::ObjectView;

/// Bytes of one gathering, unless its first record alone is longer.
pub(super) const GATHER_BYTES_MAX: u32 = 256 << 10;
/// How often a record that was moved is looked for.
const MOVES_MAX: u32 = 16;

/// One record's parts in the form that `Message::Records` has them.
#[derive(Clone, Copy)]
pub(super) struct RecordParts<'a> {
    pub(super) bucket: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) object: &'a [u8],
}

/// Takes the first record off; `None` at the end, or where the bytes are none.
pub(super) fn take_record<'a>(bytes: &mut &'a [u8]) -> Option<RecordParts<'a>> {
    let (lengths, rest) = bytes.split_first_chunk::<12>()?;
    let length = |at: usize| {
        let four: [u8; 4] = lengths.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(four)).ok()
    };
    let (bucket, rest) = rest.split_at_checked(length(0)?)?;
    let (key, rest) = rest.split_at_checked(length(4)?)?;
    let (object, rest) = rest.split_at_checked(length(8)?)?;
    *bytes = rest;
    Some(RecordParts {
        bucket,
        key,
        object,
    })
}

fn put_record(out: &mut Vec<u8>, parts: RecordParts<'_>) {
    for part in [parts.bucket, parts.key, parts.object] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    for part in [parts.bucket, parts.key, parts.object] {
        out.extend_from_slice(part);
    }
}

/// One gathering.
#[derive(Default)]
pub(super) struct Gather {
    wanted: BTreeMap<Place, Token>,
    moves: u32,
    /// How many of the tokens it takes, from the first on.
    pub(super) tokens_answered: usize,
    /// What it reads, at most.
    pub(super) bytes_upper: u64,
    /// What was found.
    pub(super) records: Vec<u8>,
    /// Some could not be read.
    pub(super) is_incomplete: bool,
}

impl Gather {
    /// Begins: what is in memory is taken at once, the rest is read.
    pub(super) fn begin(turn: &mut Turn<'_>, tokens: &[Token]) -> Self {
        let mut gather = Self::default();
        let mut bytes = 0u32;
        let mut places: Vec<(Token, Place)> = Vec::new();
        for token in tokens {
            let first = places.len();
            let range = TokenRange::one(*token);
            // Of a token that is another shard's nothing is known here.
            gather.is_incomplete |= turn.replica.own_part(range).is_none();
            places.extend(places_of(turn, *token));
            let more: u32 = places[first..]
                .iter()
                .map(|(_, place)| place.bytes_upper())
                .sum();
            bytes = bytes.saturating_add(more);
            if bytes > GATHER_BYTES_MAX && gather.tokens_answered > 0 {
                places.truncate(first);
                break;
            }
            gather.tokens_answered += 1;
            gather.bytes_upper += u64::from(more);
        }
        for (token, place) in places {
            gather.read(turn, token, place);
        }
        gather
    }

    fn read(&mut self, turn: &mut Turn<'_>, token: Token, place: Place) {
        let now_ms = turn.now.wall_ms;
        match turn.replica.read_record(token, place, turn.effects) {
            Some(record) => self.take(now_ms, &record),
            None => {
                self.wanted.insert(place, token);
            }
        }
    }

    fn take(&mut self, now_ms: u64, record: &Record<'_>) {
        let Some((bucket, key, object)) = record.split() else {
            self.is_incomplete = true;
            return;
        };
        let bucket = if bucket == stored_bucket(BUCKET_DEFAULT) {
            BUCKET_DEFAULT
        } else {
            bucket
        };
        let now_ms = if mutant::is(Mutant::StrippedEarly) {
            u64::MAX
        } else {
            now_ms
        };
        let is_expired = |view: &ObjectView<'_>| {
            view.siblings()
                .any(|sibling| sibling.expires_at_ms.is_some() && sibling.is_dead(now_ms))
        };
        let mut stripped = Vec::new();
        if let Some(view) = ObjectView::parse(object).ok().filter(is_expired) {
            if mutant::is(Mutant::ExpiredUnsent) {
                return;
            }
            let mut owned = view.to_owned();
            owned.strip_expired(now_ms);
            owned.encode(&mut stripped);
        }
        let object = if stripped.is_empty() {
            object
        } else {
            stripped.as_slice()
        };
        let parts = RecordParts {
            bucket,
            key,
            object,
        };
        put_record(&mut self.records, parts);
    }

    /// A read ended.
    pub(super) fn read_ended(&mut self, turn: &mut Turn<'_>, end: &ReadEnd) {
        let Some(token) = self.wanted.remove(&end.place) else {
            return;
        };
        match &end.result {
            ReadResult::Record(bytes) => match Record::trusted(bytes) {
                Some(record) => self.take(turn.now.wall_ms, &record),
                None => self.is_incomplete = true,
            },
            ReadResult::Moved if self.moves < MOVES_MAX => {
                self.moves += 1;
                for (token, place) in places_of(turn, token) {
                    self.read(turn, token, place);
                }
            }
            ReadResult::Moved | ReadResult::Failed => self.is_incomplete = true,
        }
    }

    /// Whether nothing is waited for.
    pub(super) fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }
}

/// Where the records of a token lie.
fn places_of(turn: &Turn<'_>, token: Token) -> Vec<(Token, Place)> {
    let range = TokenRange::one(token);
    if turn.replica.own_part(range).is_none() {
        return Vec::new();
    }
    turn.replica
        .pairs(range)
        .map(|(token, entry)| (token, entry.place))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_no_bytes_are_too_strange() {
        let mut bytes = Vec::new();
        for key in [&b"a"[..], b"", b"long key"] {
            put_record(
                &mut bytes,
                RecordParts {
                    bucket: b"carts",
                    key,
                    object: b"object",
                },
            );
        }
        let mut rest = bytes.as_slice();
        let mut keys = Vec::new();
        while let Some(parts) = take_record(&mut rest) {
            keys.push(parts.key);
        }
        assert_eq!(keys, [&b"a"[..], b"", b"long key"]);
        for cut in 0..bytes.len() {
            let mut rest = &bytes[..cut];
            while take_record(&mut rest).is_some() {}
        }
        let mut huge = &[255; 12][..];
        assert!(take_record(&mut huge).is_none());
    }
}
