//! The formats byte for byte, and the rules of a put one by one.

use super::*;
use crate::base::ids::NodeId;
use crate::base::limits::{CONTEXT_BYTES_MAX, CONTEXT_ENTRIES_MAX};
use crate::base::time::Hlc;

const KEY: u64 = 7;
const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

fn input(node: NodeId, now: u64, mode: PutMode<'_>) -> PutInput<'_> {
    PutInput {
        key_hash: KEY,
        node,
        since: Hlc(0),
        now: Hlc(now),
        mode,
        conflict: Conflict::Siblings,
        write_id: None,
        content: Content::Value(b"v"),
        expires_at_ms: None,
    }
}

fn bytes_of(object: &Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.encode(&mut bytes);
    bytes
}

fn put_on(object: &Object, input: &PutInput<'_>) -> Result<PutOutcome, PutError> {
    let bytes = bytes_of(object);
    let view = ObjectView::parse(&bytes).expect("encoded");
    put(
        if object.siblings().is_empty() {
            Local::Absent
        } else {
            Local::Read(&view)
        },
        input,
    )
}

fn dots(object: &Object) -> Vec<u64> {
    object
        .siblings()
        .iter()
        .map(|sibling| sibling.dot.hlc.0)
        .collect()
}

#[test]
fn a_latest_object_is_these_bytes() {
    let mut bytes = Vec::new();
    let write_id = Some(WriteId {
        client: 0x11,
        sequence: 0x22,
    });
    let dot = Dot::newborn(NodeId(0x0102), Hlc(0x0304));
    write_latest(
        &mut bytes,
        dot,
        write_id,
        Content::Value(b"hi"),
        Some(0x0506),
    );
    #[rustfmt::skip]
    let golden = [
        0x1c,
        0x02, 0x01, 0, 0, 0, 0, 0, 0,
        0x04, 0x03, 0, 0, 0, 0, 0, 0,
        0x06, 0x05, 0, 0, 0, 0, 0, 0,
        0x11, 0, 0, 0, 0, 0, 0, 0,  0x22, 0, 0, 0, 0, 0, 0, 0,
        b'h', b'i',
    ];
    assert_eq!(bytes, golden);
    assert_eq!(
        bytes.len(),
        latest_encoded_len(write_id, Content::Value(b"hi"), Some(0x0506))
    );
    bytes.clear();
    write_latest(&mut bytes, dot, None, Content::Tombstone, None);
    assert_eq!(
        bytes,
        [0x12, 2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]
    );
    let view = ObjectView::parse(&bytes).expect("written");
    assert_eq!(bytes_of(&view.to_owned()), bytes);
    assert_eq!(view.context(), Context::of_latest(dot));
    assert_eq!(view.fingerprint(KEY), Fingerprint::of_dot(KEY, dot));
}

#[test]
fn any_other_object_is_these_bytes() {
    let first = put_on(&Object::new(), &input(A, 5, PutMode::Sibling))
        .expect("put")
        .object;
    let object = put_on(&first, &input(B, 6, PutMode::Sibling))
        .expect("put")
        .object;
    #[rustfmt::skip]
    let golden = [
        0x11,  2, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,
        0xa, 0, 0, 0, 0, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,
        0xb, 0, 0, 0, 0, 0, 0, 0,  6, 0, 0, 0, 0, 0, 0, 0,  6, 0, 0, 0, 0, 0, 0, 0,
        0, 0xa, 0, 0, 0, 0, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,  1, 0, 0, 0,  b'v',
        0, 0xb, 0, 0, 0, 0, 0, 0, 0,  6, 0, 0, 0, 0, 0, 0, 0,  6, 0, 0, 0, 0, 0, 0, 0,  1, 0, 0, 0,  b'v',
    ];
    assert_eq!(bytes_of(&object), golden);
}

#[test]
fn the_context_of_a_latest_object_is_these_bytes() {
    let made = put_on(&Object::new(), &input(A, 6, PutMode::Latest)).expect("put");
    let object = bytes_of(&made.object);
    let mut bytes = Vec::new();
    let view = ObjectView::parse(&object).expect("encoded");
    assert_eq!(view.encode_client_context(KEY, &mut bytes), 0);
    assert_eq!(ClientContext::decode_opaque(&bytes), Ok(made.returned));
    assert_eq!(
        bytes[..19],
        [1, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        bytes[19..27],
        Fingerprint::of_dot(KEY, made.dot).bits().to_le_bytes()
    );
    let golden = [
        0xa, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[27..51], golden);
    assert_eq!(bytes[51..], crc32c::crc32c(&bytes[..51]).to_le_bytes());
}

#[test]
fn a_fingerprint_is_the_same_in_every_release() {
    let dots = [Dot::newborn(A, Hlc(5)), Dot::newborn(B, Hlc(6))];
    let fingerprint = Fingerprint::of_dots(KEY, dots);
    assert_eq!(fingerprint, Fingerprint::of_dots(KEY, [dots[1], dots[0]]));
    assert_ne!(fingerprint, Fingerprint::of_dots(KEY + 1, dots));
    assert_eq!(fingerprint.bits(), 6_956_787_805_750_271_837);
}

#[test]
fn a_context_too_large_forgets_its_oldest_actors_and_what_it_read() {
    let mut context = Context::new();
    for birth in 1..=100 {
        context.record(Dot::newborn(NodeId(birth), Hlc(birth)));
    }
    let full = ClientContext::new(context, Fingerprint::from_bits(9));
    let mut bytes = Vec::new();
    assert_eq!(full.encode_opaque(&mut bytes), 100 - CONTEXT_ENTRIES_MAX);
    assert!(bytes.len() <= CONTEXT_BYTES_MAX);
    let read = ClientContext::decode_opaque(&bytes).expect("encoded");
    assert_eq!(read.seen, None);
    assert_eq!(read.greatest, Hlc(100));
    for birth in 1..=100 {
        assert_eq!(
            read.context.covers(Dot::newborn(NodeId(birth), Hlc(birth))),
            birth > 36
        );
    }
}

#[test]
fn a_context_of_many_exceptions_fits_and_covers_no_more() {
    let mut context = Context::new();
    let actor = |node| Actor {
        node: NodeId(node),
        birth: Hlc(1),
    };
    (1..=60).for_each(|node| {
        context.record(Dot {
            actor: actor(node),
            hlc: Hlc(1000 + node),
        })
    });
    let holes = (1..=60).flat_map(|node| {
        (0..20).map(move |i| Dot {
            actor: actor(node),
            hlc: Hlc(10 + 2 * i),
        })
    });
    let full = ClientContext::new(context.without(holes), None);
    let mut bytes = Vec::new();
    assert!(full.encode_opaque(&mut bytes) > 0);
    assert!(bytes.len() <= CONTEXT_BYTES_MAX);
    let read = ClientContext::decode_opaque(&bytes)
        .expect("encoded")
        .context;
    assert!(read.covers(Dot {
        actor: actor(60),
        hlc: Hlc(1060)
    }));
    for (node, hlc) in (1..=60).flat_map(|node| (1..1100).map(move |hlc| (node, hlc))) {
        let dot = Dot {
            actor: actor(node),
            hlc: Hlc(hlc),
        };
        assert!(full.context.covers(dot) || !read.covers(dot), "{dot:?}");
    }
}

#[test]
fn a_second_put_of_one_context_makes_a_sibling_which_its_client_does_not_cover() {
    let first = put_on(&Object::new(), &input(A, 5, PutMode::Latest)).expect("put");
    let second = put_on(
        &first.object,
        &input(A, 6, PutMode::Context(&first.returned)),
    )
    .expect("put");
    assert_eq!(dots(&second.object), [6]);
    assert_eq!(
        second.dot.actor, first.dot.actor,
        "the node goes on with its birth"
    );
    let third = put_on(
        &second.object,
        &input(A, 7, PutMode::Context(&first.returned)),
    )
    .expect("put");
    assert_eq!(dots(&third.object), [6, 7]);
    assert!(!third.returned.context.covers(second.dot));
    assert_eq!(third.returned.seen, None);
    let fourth = put_on(
        &third.object,
        &input(A, 8, PutMode::Context(&third.returned)),
    )
    .expect("put");
    assert_eq!(dots(&fourth.object), [6, 8]);
}

#[test]
fn a_birth_from_before_since_is_not_continued() {
    let first = put_on(&Object::new(), &input(A, 5, PutMode::Latest)).expect("put");
    let again = PutInput {
        since: Hlc(5),
        ..input(A, 6, PutMode::Context(&first.returned))
    };
    assert_eq!(
        put_on(&first.object, &again).expect("put").dot,
        Dot::newborn(A, Hlc(6))
    );
}

#[test]
fn reject_refuses_what_was_not_seen_and_says_what_is_there() {
    let first = put_on(&Object::new(), &input(A, 5, PutMode::Latest)).expect("put");
    let second = put_on(
        &first.object,
        &input(A, 6, PutMode::Context(&first.returned)),
    )
    .expect("put");
    let stale = PutInput {
        conflict: Conflict::Reject,
        ..input(A, 7, PutMode::Context(&first.returned))
    };
    let Err(PutError::Stale { current }) = put_on(&second.object, &stale) else {
        panic!("not refused")
    };
    let retried = PutInput {
        mode: PutMode::Context(&current),
        ..stale
    };
    assert_eq!(
        dots(&put_on(&second.object, &retried).expect("put").object),
        [7]
    );
}

#[test]
fn reject_lets_a_first_put_follow_a_delete() {
    let delete = PutInput {
        content: Content::Tombstone,
        ..input(A, 5, PutMode::Latest)
    };
    let deleted = put_on(&Object::new(), &delete).expect("put").object;
    let first = PutInput {
        conflict: Conflict::Reject,
        ..input(A, 6, PutMode::Sibling)
    };
    let made = put_on(&deleted, &first).expect("put").object;
    assert_eq!(dots(&made), [6]);
    assert!(
        put_on(
            &made,
            &PutInput {
                now: Hlc(7),
                ..first
            }
        )
        .is_err()
    );
}

#[test]
fn lww_overwrites_whatever_the_context_says() {
    let first = put_on(&Object::new(), &input(A, 5, PutMode::Latest)).expect("put");
    let put = PutInput {
        conflict: Conflict::Lww,
        ..input(B, 6, PutMode::Sibling)
    };
    assert_eq!(dots(&put_on(&first.object, &put).expect("put").object), [6]);
}

#[test]
fn a_retry_at_one_coordinator_changes_nothing_and_at_two_is_shown_once() {
    let write_id = Some(WriteId {
        client: 1,
        sequence: 1,
    });
    let once = put_on(
        &Object::new(),
        &PutInput {
            write_id,
            ..input(A, 5, PutMode::Sibling)
        },
    )
    .expect("put");
    let again = put_on(
        &once.object,
        &PutInput {
            write_id,
            ..input(A, 6, PutMode::Sibling)
        },
    )
    .expect("put");
    assert!(again.is_repeated);
    assert_eq!((again.dot, &again.object), (once.dot, &once.object));
    let twin = put_on(
        &Object::new(),
        &PutInput {
            write_id,
            ..input(B, 7, PutMode::Sibling)
        },
    )
    .expect("put");
    let both = once.object.merge(&twin.object);
    assert_eq!((dots(&both).len(), both.live(0).count()), (2, 1));
    let next = put_on(&both, &input(B, 8, PutMode::Context(&once.returned))).expect("put");
    assert_eq!(dots(&next.object), [8], "who saw one has seen the other");
}

#[test]
fn a_time_that_is_not_after_all_that_was_met_is_refused() {
    let first = put_on(&Object::new(), &input(A, 5, PutMode::Latest)).expect("put");
    let behind = put_on(&first.object, &input(B, 5, PutMode::Sibling));
    assert_eq!(
        behind,
        Err(PutError::ClockBehind {
            now: Hlc(5),
            met: Hlc(5)
        })
    );
    let unread = put(
        Local::Unread,
        &input(B, 4, PutMode::Context(&first.returned)),
    );
    assert_eq!(
        unread,
        Err(PutError::ClockBehind {
            now: Hlc(4),
            met: Hlc(5)
        })
    );
}

#[test]
fn what_expired_is_a_tombstone_with_the_same_dot() {
    let put = PutInput {
        expires_at_ms: Some(100),
        ..input(A, 5, PutMode::Latest)
    };
    let object = put_on(&Object::new(), &put).expect("put").object;
    assert!(!object.is_tombstone_only(99));
    assert!(object.is_tombstone_only(100));
    let mut stripped = object.clone();
    stripped.strip_expired(100);
    assert_eq!(stripped.fingerprint(KEY), object.fingerprint(KEY));
    assert_eq!(stripped.merge(&object), stripped);
    assert_eq!(object.merge(&stripped), stripped);
}

#[test]
fn nothing_need_be_read_where_the_index_holds_what_was_seen_or_nothing() {
    let seen = Fingerprint::from_bits(1);
    let context = ClientContext {
        seen,
        ..ClientContext::default()
    };
    assert!(dominates_without_read(None, &context));
    assert!(dominates_without_read(seen, &context));
    assert!(!dominates_without_read(Fingerprint::from_bits(2), &context));
    assert!(!dominates_without_read(seen, &ClientContext::default()));
    assert!(replaces_without_read(None, seen));
    assert!(replaces_without_read(seen, seen));
    assert!(!replaces_without_read(seen, None));
}
