//! What versions cost: parsing and merging objects, making and reading contexts.
#![expect(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gramme_core::base::ids::NodeId;
use gramme_core::base::time::Hlc;
use gramme_core::version::{
    ClientContext, Conflict, Content, Local, Object, ObjectView, PutInput, PutMode, put,
};

const KEY_HASH: u64 = 0x1234_5678_9abc_def0;

/// An object with so many siblings, of as many coordinators.
fn object(siblings: u64) -> Object {
    let mut encoded = Vec::new();
    let mut object: Option<Object> = None;
    for node in 1..=siblings {
        let view = object.as_ref().map(|object| {
            encoded.clear();
            object.encode(&mut encoded);
            ObjectView::parse(&encoded).expect("made just now")
        });
        let input = PutInput {
            key_hash: KEY_HASH,
            node: NodeId(node),
            since: Hlc::default(),
            now: Hlc::from_ms(1_700_000_000_000 + node),
            mode: PutMode::Sibling,
            conflict: Conflict::Siblings,
            write_id: None,
            content: Content::Value(&[7; 100]),
            expires_at_ms: None,
        };
        let local = view.as_ref().map_or(Local::Absent, Local::Read);
        object = Some(put(local, &input).expect("a sibling is never stale").object);
    }
    object.expect("at least one sibling")
}

fn versions(criterion: &mut Criterion) {
    for siblings in [1, 3] {
        let ours = object(siblings);
        let theirs = object(siblings + 1);
        let mut encoded = Vec::new();
        ours.encode(&mut encoded);
        let view = ObjectView::parse(&encoded).expect("an object");
        let mut context = Vec::new();
        view.encode_client_context(KEY_HASH, &mut context);
        criterion.bench_function(&format!("version/merge of {siblings}"), |b| {
            b.iter(|| black_box(&ours).merge(black_box(&theirs)))
        });
        criterion.bench_function(&format!("version/parse of {siblings}"), |b| {
            b.iter(|| ObjectView::parse(black_box(&encoded)).map(|view| view.max_hlc()))
        });
        criterion.bench_function(&format!("version/context of {siblings}, decode"), |b| {
            b.iter(|| ClientContext::decode_opaque(black_box(&context)))
        });
    }
}

criterion_group!(benches, versions);
criterion_main!(benches);
