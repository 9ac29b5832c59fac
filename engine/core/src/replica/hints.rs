//! Hints: which keys this node keeps for others that are away.
//!
//! A hint is a small record of its own, without a value: the object lies beside it, under its own key, so what is
//! delivered is always the newest. It has a token that no client's key has, in the same slice as the key's own.

use crate::base::ids::{NodeId, Token};
use crate::base::mutant::{self, Mutant};
use crate::port::ids::NOBODY;
use crate::port::{Condition, ContextArg, Durability, Expiry, KeyName, Op, Put};
use crate::replica::turn::Turn;

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
pub(crate) fn keep_hint(turn: &mut Turn<'_>, target: NodeId, key: KeyName<&[u8]>) {
    if mutant::is(Mutant::HintsSkipped) {
        return;
    }
    let op = Op::Put(Put {
        context: ContextArg::Latest,
        value: &[],
        expiry: Expiry::Never,
        condition: Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    });
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
