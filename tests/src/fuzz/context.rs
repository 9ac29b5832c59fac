//! Opaque contexts as clients hand them back, and objects as peers and disks bring them.

use gramme_core::base::ids::NodeId;
use gramme_core::base::time::Hlc;
use gramme_core::version::{
    Actor, ClientContext, Context, Dot, Object, ObjectView, Sibling, WriteId,
};

use super::option_of;

const KEY_HASH: u64 = 5;
const NOW_MS: u64 = 1_700_000_000_000;

/// What is read as a context is written as the same one; what is read as an object can be asked and merged.
pub(super) fn run(input: &[u8]) {
    let (option, input) = option_of(input);
    if option % 2 == 0 {
        for bytes in [input, &sealed(input)] {
            if let Ok(read) = ClientContext::decode_opaque(bytes) {
                let mut again = Vec::new();
                let dropped = read.encode_opaque(&mut again);
                assert_eq!(dropped, 0, "what fitted fits");
                assert_eq!(again, bytes, "a context has one encoding");
                let _ = read.context.max_hlc();
            }
        }
        return;
    }
    let half = input.len() / 2;
    let mut objects: Vec<Object> = Vec::new();
    for bytes in [input, &input[..half], &input[half..]] {
        let Ok(view) = ObjectView::parse(bytes) else {
            continue;
        };
        let object = view.to_owned();
        let mut again = Vec::new();
        object.encode(&mut again);
        assert_eq!(again, bytes, "an object has one encoding");
        let _ = (view.latest(), view.single(), view.is_tombstone_only(NOW_MS));
        let _ = (
            view.live(NOW_MS).count(),
            view.distinct_by_write_id().count(),
        );
        let _ = view.fingerprint(KEY_HASH);
        for sibling in view.siblings() {
            assert!(view.covers(sibling.dot), "an object covers what it holds");
        }
        let mut context = Vec::new();
        if view.encode_client_context(KEY_HASH, &mut context) == 0 {
            let read =
                ClientContext::decode_opaque(&context).expect("what is handed out is taken back");
            assert_eq!(read.context, view.context());
        }
        objects.push(object);
    }
    if let [.., left, right] = objects.as_slice() {
        let (one, other) = (merged(left, right), merged(right, left));
        assert_eq!(one, other, "a merge has no direction");
        let view = ObjectView::parse(&one).expect("a merge is an object");
        let twice = merged(&view.to_owned(), left);
        assert_eq!(twice, one, "a merge with what is in it changes nothing");
    }
}

fn merged(left: &Object, right: &Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    left.merge(right).encode(&mut bytes);
    bytes
}

/// With the checksum at the end set right.
fn sealed(input: &[u8]) -> Vec<u8> {
    let body = &input[..input.len().saturating_sub(4)];
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes
}

/// Contexts and objects of one and of several writers; the first byte says which.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let dot = |node: u64, ms: u64| Dot {
        actor: Actor {
            node: NodeId(node),
            birth: Hlc::from_ms(NOW_MS + node),
        },
        hlc: Hlc::from_ms(NOW_MS + ms),
    };
    let dots = [dot(1, 10), dot(1, 20), dot(2, 15), dot(3, 30)];
    let sibling = |dot: Dot, value: Option<&[u8]>| Sibling {
        dot,
        value: value.map(Box::from),
        expires_at_ms: value.is_none().then_some(NOW_MS + 5),
        write_id: value.map(|_| WriteId {
            client: 9,
            sequence: dot.hlc.0,
        }),
    };
    let one = Object::of_latest(Sibling {
        expires_at_ms: None,
        write_id: None,
        ..sibling(dots[0], Some(b"value"))
    });
    let mut context = Context::of_latest(dots[0]);
    dots.iter().for_each(|dot| context.record(*dot));
    let several = Object::from_parts(
        vec![
            sibling(dots[1], Some(b"apples")),
            sibling(dots[2], Some(b"")),
            sibling(dots[3], None),
        ],
        context.without([dot(1, 12), dot(3, 28)]),
    );
    let objects = [one, several.expect("covered")];
    let mut seeds = vec![vec![0], vec![1]];
    for object in &objects {
        let (mut opaque, mut bytes) = (vec![0], vec![1]);
        object.client_context(KEY_HASH).encode_opaque(&mut opaque);
        object.encode(&mut bytes);
        let twice = [bytes.as_slice(), &bytes[1..]].concat();
        seeds.extend([opaque, bytes, twice]);
    }
    seeds
}
