//! Hints: which keys this node keeps for others that are away.
//!
//! A hint is a small record of its own, without a value: the object lies beside it, under its own key, so what is
//! delivered is always the newest. It has a token that no client's key has, in the same slice as the key's own.
//!
//! A disk that is full takes no hint. It is kept in memory then and tried again when there is room; what a crash takes of
//! these, and what [`REFUSED_BYTES_MAX`] does not hold, the next comparison finds.

use std::collections::BTreeMap;

use crate::base::durability::Durability;
use crate::base::hash;
use crate::base::ids::{NodeId, Token};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::time::Now;
use crate::port::ids::NOBODY;
use crate::port::{
    Condition, ContextArg, Effects, Expiry, KeyName, Op, Put, Quorum, Request, RequestId,
};
use crate::replica::Replica;
use crate::replica::turn::Turn;

/// Bytes of the hints that are kept in memory while the disk is full.
const REFUSED_BYTES_MAX: usize = 1 << 20;
/// What such a hint takes beside its key.
const REFUSED_OVERHEAD_BYTES: usize = 64;

/// The bucket of hints; no client can name it.
pub(crate) const HINT_BUCKET: &[u8] = b"\0hint";

/// Hints that there was no room for.
#[derive(Default)]
pub(crate) struct RefusedHints {
    names: BTreeMap<Box<[u8]>, Token>,
    bytes: usize,
}

impl RefusedHints {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Keeps a request where it is one for a hint; false where it is none, or one too many.
    pub(crate) fn keep(&mut self, request: &Request<'_>) -> bool {
        let is_hint = request.bucket == HINT_BUCKET && matches!(request.op, Op::Put(_));
        let bytes = request.key.len() + REFUSED_OVERHEAD_BYTES;
        let has_room = self.bytes + bytes <= REFUSED_BYTES_MAX;
        if !is_hint || !has_room || request.id != NOBODY || mutant::is(Mutant::HintForgottenFull) {
            return false;
        }
        let former = self.names.insert(request.key.into(), request.token);
        self.bytes += if former.is_none() { bytes } else { 0 };
        mark::reach(Mark::HintAwaitsRoom);
        true
    }
}

impl Replica {
    /// There is room again: keeps what was refused.
    pub(super) fn try_refused_hints(&mut self, now: Now, effects: &mut Effects) {
        let refused = core::mem::take(&mut self.refused_hints);
        for (name, token) in refused.names {
            let request = Request {
                id: NOBODY,
                deadline_ns: None,
                bucket: HINT_BUCKET,
                key: &name,
                token,
                durability: Some(Durability::Buffered),
                quorum: Quorum::default(),
                wants_object: false,
                is_forwarded: false,
                op: Op::Put(HINT_PUT),
            };
            self.request(now, &request, None, effects);
        }
    }
}

/// What is put under a hint's key.
const HINT_PUT: Put<'static> = Put {
    context: ContextArg::Latest,
    value: &[],
    expiry: Expiry::Never,
    condition: Condition::Always,
    want_previous: false,
    want_context: false,
    write_id: None,
};

/// The key of a hint: the node, the bucket's length, the bucket, the key.
pub(crate) fn hint_key(target: NodeId, key: KeyName<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + key.bucket.len() + key.key.len());
    bytes.extend_from_slice(&target.0.to_le_bytes());
    bytes.extend_from_slice(&(key.bucket.len() as u16).to_le_bytes());
    bytes.extend_from_slice(key.bucket);
    bytes.extend_from_slice(key.key);
    bytes
}

/// Whom and what a hint's key names, without the token.
pub(crate) fn read_hint_key(bytes: &[u8]) -> Option<(NodeId, &[u8], &[u8])> {
    let (target, rest) = bytes.split_first_chunk::<8>()?;
    let (bucket_bytes, rest) = rest.split_first_chunk::<2>()?;
    let (bucket, key) = rest.split_at_checked(usize::from(u16::from_le_bytes(*bucket_bytes)))?;
    Some((NodeId(u64::from_le_bytes(*target)), bucket, key))
}

/// A request about a record that `Op::Records` lists, or will list, as moving a directory makes them: to whichever shard owns
/// its token, which is the key's own, or that of a hint for it.
pub fn record_request<'a>(bucket: &'a [u8], key: &'a [u8], op: Op<'a>) -> Request<'a> {
    Request {
        id: RequestId(0),
        deadline_ns: None,
        bucket,
        key,
        token: record_token(bucket, key),
        durability: None,
        quorum: Quorum::default(),
        wants_object: false,
        is_forwarded: false,
        op,
    }
}

fn record_token(bucket: &[u8], key: &[u8]) -> Token {
    let hinted = (bucket == HINT_BUCKET)
        .then(|| read_hint_key(key))
        .flatten();
    match hinted {
        Some((_, bucket, key)) => hash::token(bucket, key).of_hint(),
        None => hash::token(bucket, key),
    }
}

/// Keeps a hint; the object is in the log already, or will be.
pub(crate) fn keep_hint(turn: &mut Turn<'_>, target: NodeId, key: KeyName<&[u8]>) {
    if mutant::is(Mutant::HintsSkipped) {
        return;
    }
    let op = Op::Put(HINT_PUT);
    ask(turn, &hint_key(target, key), key.token.of_hint(), op);
}

/// Forgets a hint that was delivered.
pub(crate) fn delete_hint(turn: &mut Turn<'_>, name: &[u8], token: Token) {
    let op = Op::Delete {
        context: ContextArg::Latest,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    ask(turn, name, token, op);
}

fn ask(turn: &mut Turn<'_>, name: &[u8], token: Token, op: Op<'_>) {
    let key = KeyName {
        bucket: HINT_BUCKET,
        key: name,
        token,
    };
    turn.ask_own(NOBODY, key, Durability::Buffered, op);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_its_node_bucket_and_key() {
        let key = KeyName {
            bucket: b"carts".as_slice(),
            key: b"k1",
            token: Token(7),
        };
        let bytes = hint_key(NodeId(9), key);
        assert_eq!(
            read_hint_key(&bytes),
            Some((NodeId(9), b"carts".as_slice(), b"k1".as_slice()))
        );
        assert_eq!(read_hint_key(&bytes[..9]), None);
        assert_eq!(read_hint_key(&[0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 1]), None);
    }
}
