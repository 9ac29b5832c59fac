//! Hints: which keys this node keeps for others that are away.
//!
//! A hint is a small record of its own, without a value: the object lies beside it, under its own key, so what is
//! delivered is always the newest. It has a token that no client's key has, in the same slice as the key's own.

use crate::base::ids::{NodeId, Token};
use crate::base::mutant::{self, Mutant};
use crate::base::slots::SlotId;
use crate::base::time::Now;
use crate::port::ids::{Purpose, internal};
use crate::port::{
    Condition, ContextArg, Durability, Effects, Event, Expiry, KeyName, Op, Put, Quorum, Request,
};
use crate::replica::Replica;

/// The bucket of hints; no client can name it.
pub(crate) const HINT_BUCKET: &[u8] = b"\0hint";

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

/// Keeps a hint; the object is in the log already, or will be.
pub(crate) fn keep_hint(
    replica: &mut Replica,
    now: Now,
    target: NodeId,
    key: KeyName<&[u8]>,
    effects: &mut Effects,
) {
    if mutant::is(Mutant::HintsSkipped) {
        return;
    }
    let name = hint_key(target, key);
    let op = Op::Put(Put {
        context: ContextArg::Latest,
        value: &[],
        expiry: Expiry::Never,
        condition: Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    });
    replica.step(
        now,
        Event::Request(request(&name, key.token.of_hint(), op)),
        effects,
    );
}

/// Forgets a hint that was delivered.
pub(crate) fn delete_hint(
    replica: &mut Replica,
    now: Now,
    name: &[u8],
    token: Token,
    effects: &mut Effects,
) {
    let op = Op::Delete {
        context: ContextArg::Latest,
        want_previous: false,
        want_context: false,
        write_id: None,
    };
    replica.step(now, Event::Request(request(name, token, op)), effects);
}

fn request<'a>(name: &'a [u8], token: Token, op: Op<'a>) -> Request<'a> {
    let nobody = SlotId {
        index: 0,
        generation: 0,
    };
    Request {
        id: internal(Purpose::Nobody, nobody),
        deadline_ns: None,
        bucket: HINT_BUCKET,
        key: name,
        token,
        durability: Some(Durability::Buffered),
        quorum: Quorum::default(),
        wants_object: false,
        is_forwarded: false,
        op,
    }
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
