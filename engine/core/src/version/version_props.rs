//! The algebra of contexts and objects against explicit sets, and decoders against any bytes.

use proptest::prelude::*;

use super::*;
use crate::base::ids::NodeId;
use crate::base::time::Hlc;

const KEY: u64 = 7;
const HLC_MAX: u64 = 9;

fn actors() -> Vec<Actor> {
    // The last actor is never written: it tells a floor from a vector of everybody.
    [(1, 1), (1, 4), (2, 1), (3, 2), (4, 1)]
        .map(|(node, birth)| Actor {
            node: NodeId(node),
            birth: Hlc(birth),
        })
        .to_vec()
}

fn all_dots() -> Vec<Dot> {
    let dots = actors().into_iter().flat_map(|actor| {
        (actor.birth.0..=HLC_MAX).map(move |hlc| Dot {
            actor,
            hlc: Hlc(hlc),
        })
    });
    dots.collect()
}

fn some_dot() -> impl Strategy<Value = Dot> {
    let written = actors().len() - 1;
    (0..written, 0..HLC_MAX).prop_map(|(actor, hlc)| {
        let actor = actors()[actor];
        Dot {
            actor,
            hlc: Hlc((hlc + 1).max(actor.birth.0)),
        }
    })
}

fn some_context() -> impl Strategy<Value = Context> {
    let dots = || prop::collection::vec(some_dot(), 0..5);
    (0..6_u64, dots(), dots()).prop_map(|(floor, seen, unseen)| {
        let mut context = Context::from_floor(Hlc(floor));
        seen.into_iter().for_each(|dot| context.record(dot));
        context.without(unseen)
    })
}

fn some_object() -> impl Strategy<Value = Object> {
    (some_context(), any::<u32>(), any::<u8>()).prop_map(|(context, chosen, form)| {
        let held = all_dots()
            .into_iter()
            .filter(|dot| context.covers(*dot) && dot.hlc > context.floor());
        let chosen = held
            .enumerate()
            .filter(|(index, _)| chosen >> (index % 32) & 1 == 1);
        let sibling = |dot: Dot| Sibling {
            dot,
            value: (form & 1 == 0).then(|| vec![form; usize::from(form % 5)].into_boxed_slice()),
            expires_at_ms: (form & 2 != 0).then_some(dot.hlc.0),
            write_id: (form & 4 != 0).then_some(WriteId {
                client: 1,
                sequence: dot.hlc.0 % 2,
            }),
        };
        let siblings = chosen.map(|(_, dot)| sibling(dot)).collect();
        Object::from_parts(siblings, context).expect("each is held")
    })
}

fn bytes_of(object: &Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.encode(&mut bytes);
    bytes
}

fn opaque_of(context: &ClientContext) -> Vec<u8> {
    let mut bytes = Vec::new();
    context.encode_opaque(&mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_union_covers_what_either_covers(a in some_context(), b in some_context()) {
        let union = a.union(&b);
        for dot in all_dots() {
            prop_assert_eq!(union.covers(dot), a.covers(dot) || b.covers(dot), "{:?}", dot);
        }
    }

    #[test]
    fn without_excepts_just_what_is_after_the_floor(a in some_context(), gone in prop::collection::vec(some_dot(), 0..4)) {
        let smaller = a.without(gone.iter().copied());
        for dot in all_dots() {
            let is_gone = gone.contains(&dot) && dot.hlc > a.floor();
            prop_assert_eq!(smaller.covers(dot), a.covers(dot) && !is_gone, "{:?}", dot);
        }
    }

    #[test]
    fn contexts_are_equal_exactly_when_they_cover_the_same(a in some_context(), b in some_context()) {
        let same = all_dots().into_iter().all(|dot| a.covers(dot) == b.covers(dot));
        prop_assert_eq!(a == b, same, "{:?} {:?}", a, b);
    }

    #[test]
    fn a_merge_is_a_join_down_to_the_bytes(a in some_object(), b in some_object(), c in some_object()) {
        prop_assert_eq!(bytes_of(&a.merge(&a)), bytes_of(&a));
        prop_assert_eq!(bytes_of(&a.merge(&b)), bytes_of(&b.merge(&a)));
        prop_assert_eq!(bytes_of(&a.merge(&b).merge(&c)), bytes_of(&a.merge(&b.merge(&c))));
        prop_assert_eq!(bytes_of(&a.merge(&Object::new())), bytes_of(&a));
    }

    #[test]
    fn an_object_is_read_in_place_as_it_was_written(object in some_object(), now_ms in 0..12_u64) {
        let bytes = bytes_of(&object);
        prop_assert_eq!(bytes.len(), object.encoded_len());
        let view = ObjectView::parse(&bytes).expect("it was encoded");
        prop_assert_eq!(&view.to_owned(), &object);
        prop_assert_eq!(&view.context(), object.context());
        prop_assert_eq!(view.max_hlc(), object.max_hlc());
        prop_assert_eq!(view.fingerprint(KEY), object.fingerprint(KEY));
        prop_assert_eq!(view.is_tombstone_only(now_ms), object.is_tombstone_only(now_ms));
        prop_assert_eq!(view.latest(), object.latest().map(Sibling::view));
        let live: Vec<_> = object.live(now_ms).map(Sibling::view).collect();
        prop_assert_eq!(view.live(now_ms).collect::<Vec<_>>(), live);
        for dot in all_dots() {
            prop_assert_eq!(view.covers(dot), object.context().covers(dot));
        }
    }

    #[test]
    fn damaged_objects_are_refused_or_are_other_objects(object in some_object(), at in any::<usize>(), bit in 0..8_u8) {
        let mut bytes = bytes_of(&object);
        for length in 0..bytes.len() {
            if let Ok(view) = ObjectView::parse(&bytes[..length]) {
                prop_assert_eq!(bytes_of(&view.to_owned()), &bytes[..length]);
            }
        }
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(view) = ObjectView::parse(&bytes) {
            prop_assert_eq!(bytes_of(&view.to_owned()), bytes);
        }
    }

    #[test]
    fn any_bytes_are_an_object_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..120), flags in 0..16_u8) {
        let _ = ObjectView::parse(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 0x10 | flags;
        }
        if let Ok(view) = ObjectView::parse(&bytes) {
            prop_assert_eq!(bytes_of(&view.to_owned()), bytes);
        }
    }

    #[test]
    fn opaque_bytes_return_what_went_in_and_nothing_else_decodes(
        context in some_context(), seen in any::<u64>(), at in any::<usize>(), bit in 0..8_u8,
    ) {
        let context = ClientContext::new(context, Fingerprint::from_bits(seen));
        let mut bytes = opaque_of(&context);
        prop_assert_eq!(ClientContext::decode_opaque(&bytes), Ok(context));
        for length in 0..bytes.len() {
            prop_assert!(ClientContext::decode_opaque(&bytes[..length]).is_err());
        }
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(ClientContext::decode_opaque(&bytes).is_err());
    }

    #[test]
    fn forged_opaque_bytes_with_a_good_checksum_do_no_harm(
        mut bytes in prop::collection::vec(any::<u8>(), 0..150), counts in (0..4_u8, 0..4_u8),
    ) {
        for (byte, forged) in bytes.iter_mut().zip([1, counts.0, counts.1]) {
            *byte = forged;
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        if let Ok(context) = ClientContext::decode_opaque(&bytes) {
            prop_assert_eq!(opaque_of(&context), bytes);
        }
    }
}
