//! Contexts, siblings and the buckets' rules through the shard, with what is there in memory and on disk.

use crate::base::ids::NodeId;
use crate::base::time::Hlc;
use crate::port::{Condition, ContextArg, Durability, Expiry, Failure, Op, Outcome, Put};
use crate::replica::Bucket;
use crate::replica::bench_tests::{Bench, config};
use crate::version::{
    BlindPut, Conflict, Content, Context, Dot, Object, ObjectView, Sibling, WriteId,
};

const KEY: &[u8] = b"cart";

fn put<'a>(context: ContextArg<'a>, value: &'a [u8]) -> Put<'a> {
    Put {
        context,
        value,
        expiry: Expiry::Never,
        condition: Condition::Always,
        want_previous: false,
        want_context: true,
        write_id: None,
    }
}

struct Rig {
    bench: Bench,
    is_cold: bool,
}

impl Rig {
    fn new(conflict: Conflict, blind_put: BlindPut, is_cold: bool) -> Self {
        let mut settings = config(12, 64 << 10);
        settings.buckets.push(Bucket {
            conflict,
            blind_put,
            ..Bucket::new(b"b")
        });
        Self {
            bench: Bench::new(3, settings),
            is_cold,
        }
    }

    /// In the cold variant everything lies only on the disk before each request.
    fn ask(&mut self, op: Op<'_>) -> (Outcome, Vec<u8>) {
        if self.is_cold {
            self.bench.stop_and_start();
        }
        let id = self.bench.send_in(b"b", KEY, op, Some(Durability::One));
        self.bench.wait(id)
    }

    /// Puts; the context that comes back.
    fn put(&mut self, put: Put<'_>) -> Vec<u8> {
        match self.ask(Op::Put(put)) {
            (
                Outcome::Written {
                    context: Some(context),
                    ..
                },
                bytes,
            ) => context.of(&bytes).to_vec(),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// The values that are there, sorted, and the context of them all.
    fn read(&mut self) -> (Vec<Vec<u8>>, Vec<u8>) {
        match self.ask(Op::Get) {
            (Outcome::Absent { .. }, _) => (Vec::new(), Vec::new()),
            (
                Outcome::Object {
                    object, key_hash, ..
                },
                bytes,
            ) => {
                let view = ObjectView::parse(object.of(&bytes)).expect("an object");
                let mut context = Vec::new();
                view.encode_client_context(key_hash, &mut context);
                (values(&view), context)
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

fn values(view: &ObjectView<'_>) -> Vec<Vec<u8>> {
    let value = |content: Content<'_>| match content {
        Content::Value(value) => Some(value.to_vec()),
        Content::Tombstone => None,
    };
    let mut values: Vec<_> = view
        .siblings()
        .filter_map(|sibling| value(sibling.content))
        .collect();
    values.sort();
    values
}

fn both(check: impl Fn(bool)) {
    check(false);
    check(true);
}

#[test]
fn blind_puts_follow_the_buckets_rule() {
    both(|is_cold| {
        for (rule, expected) in [
            (BlindPut::Latest, &[b"two".to_vec()][..]),
            (BlindPut::Supersede, &[b"two".to_vec()]),
            (BlindPut::Sibling, &[b"one".to_vec(), b"two".to_vec()]),
        ] {
            let mut rig = Rig::new(Conflict::Siblings, rule, is_cold);
            rig.put(put(ContextArg::Blind, b"one"));
            rig.put(put(ContextArg::Blind, b"two"));
            assert_eq!(rig.read().0, expected, "{rule:?}, cold {is_cold}");
        }
        let mut rig = Rig::new(Conflict::Siblings, BlindPut::Reject, is_cold);
        let (outcome, _) = rig.ask(Op::Put(put(ContextArg::Blind, b"one")));
        assert!(
            matches!(outcome, Outcome::Failed(Failure::Stale { .. })),
            "{outcome:?}"
        );
        assert!(rig.read().0.is_empty(), "nothing was written");
    });
}

#[test]
fn a_put_with_the_context_of_all_siblings_replaces_them() {
    both(|is_cold| {
        let mut rig = Rig::new(Conflict::Siblings, BlindPut::Sibling, is_cold);
        for value in [b"one", b"two", b"six"] {
            rig.put(put(ContextArg::Blind, value));
        }
        let (found, context) = rig.read();
        assert_eq!(found.len(), 3);
        rig.put(put(ContextArg::Opaque(&context), b"merged"));
        assert_eq!(rig.read().0, [b"merged".to_vec()]);
    });
}

/// The birth of the history that the newest sibling of the key is of.
fn birth(rig: &mut Rig) -> Hlc {
    let (Outcome::Object { object, .. }, bytes) = rig.ask(Op::Get) else {
        panic!("the key is there");
    };
    let view = ObjectView::parse(object.of(&bytes)).expect("an object");
    view.latest().expect("it has one").dot.actor.birth
}

#[test]
fn a_history_goes_on_behind_a_clean_stop_and_never_behind_a_crash() {
    let mut rig = Rig::new(Conflict::Siblings, BlindPut::Supersede, false);
    rig.put(put(ContextArg::Blind, b"one"));
    let first = birth(&mut rig);
    rig.bench.stop_and_start();
    rig.put(put(ContextArg::Blind, b"two"));
    assert_eq!(birth(&mut rig), first, "nothing was forgotten");
    rig.bench.crash();
    rig.put(put(ContextArg::Blind, b"three"));
    let second = birth(&mut rig);
    assert!(second > first, "others may have what was forgotten");
    rig.bench.stop_and_start();
    rig.put(put(ContextArg::Blind, b"four"));
    assert_eq!(birth(&mut rig), second);
}

#[test]
fn what_is_dealt_to_other_files_has_new_histories_and_later_times_than_any_before() {
    let mut rig = Rig::new(Conflict::Siblings, BlindPut::Supersede, false);
    rig.put(put(ContextArg::Blind, b"one"));
    let first = birth(&mut rig);
    let (Outcome::Object { object, .. }, bytes) = rig.ask(Op::Get) else {
        panic!("the key is there");
    };
    // The clock was set back by an hour meanwhile: the former files' promise holds all the same.
    let promised = Hlc::from_ms(rig.bench.now.wall_ms + 200);
    let mut rig = Rig::new(Conflict::Siblings, BlindPut::Supersede, false);
    rig.bench.now.wall_ms -= 3_600_000;
    rig.bench.shard.begin_after(promised);
    let object = object.of(&bytes);
    let (outcome, _) = rig.ask(Op::Merge { object });
    assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
    rig.bench.stop_and_start();
    rig.put(put(ContextArg::Blind, b"two"));
    assert_eq!(rig.read().0, [b"two".to_vec()]);
    let second = birth(&mut rig);
    assert!(second > first && second > promised, "{second:?}");
}

#[test]
fn two_puts_with_one_context_conflict_as_the_bucket_says() {
    both(|is_cold| {
        for conflict in [Conflict::Siblings, Conflict::Lww, Conflict::Reject] {
            let mut rig = Rig::new(conflict, BlindPut::Latest, is_cold);
            let context = rig.put(put(ContextArg::Latest, b"base"));
            rig.put(put(ContextArg::Opaque(&context), b"left"));
            let (outcome, bytes) = rig.ask(Op::Put(put(ContextArg::Opaque(&context), b"right")));
            let found = rig.read().0;
            match conflict {
                Conflict::Siblings => assert_eq!(found, [b"left".to_vec(), b"right".to_vec()]),
                Conflict::Lww => assert_eq!(found, [b"right".to_vec()]),
                Conflict::Reject => {
                    let Outcome::Failed(Failure::Stale { current }) = outcome else {
                        panic!("{outcome:?}")
                    };
                    let current = ObjectView::parse(current.of(&bytes)).expect("an object");
                    assert_eq!(values(&current), [b"left".to_vec()], "cold {is_cold}");
                    assert_eq!(found, [b"left".to_vec()]);
                }
            }
        }
    });
}

#[test]
fn a_delete_takes_only_what_its_context_has_seen() {
    both(|is_cold| {
        let mut rig = Rig::new(Conflict::Siblings, BlindPut::Sibling, is_cold);
        rig.put(put(ContextArg::Blind, b"seen"));
        let (_, context) = rig.read();
        rig.put(put(ContextArg::Blind, b"unseen"));
        let delete = |context| Op::Delete {
            context,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        let (outcome, _) = rig.ask(delete(ContextArg::Opaque(&context)));
        assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
        assert_eq!(rig.read().0, [b"unseen".to_vec()], "cold {is_cold}");
        rig.ask(delete(ContextArg::Latest));
        assert!(rig.read().0.is_empty());
        // What its client saw before the delete does not bring anything back.
        let after = rig.put(put(ContextArg::Opaque(&context), b"later"));
        assert_eq!(rig.read().0, [b"later".to_vec()]);
        rig.put(put(ContextArg::Opaque(&after), b"last"));
        assert_eq!(rig.read().0, [b"last".to_vec()]);
    });
}

#[test]
fn a_retried_write_is_one_write() {
    both(|is_cold| {
        let mut rig = Rig::new(Conflict::Siblings, BlindPut::Sibling, is_cold);
        rig.put(put(ContextArg::Blind, b"other"));
        let write_id = Some(WriteId {
            client: 9,
            sequence: 1,
        });
        for _ in 0..3 {
            rig.put(Put {
                write_id,
                ..put(ContextArg::Blind, b"mine")
            });
        }
        assert_eq!(
            rig.read().0,
            [b"mine".to_vec(), b"other".to_vec()],
            "cold {is_cold}"
        );
    });
}

#[test]
fn a_retried_last_writer_is_one_write_with_the_outcome_of_its_first_try() {
    for rule in [BlindPut::Latest, BlindPut::Sibling] {
        let mut rig = Rig::new(Conflict::Siblings, rule, false);
        let write_id = |sequence| {
            let client = 9;
            Some(WriteId { client, sequence })
        };
        let mine = Put {
            write_id: write_id(1),
            condition: crate::port::Condition::IfAbsent,
            ..put(ContextArg::Latest, b"mine")
        };
        let first = rig.put(mine);
        let (held, puts) = (rig.bench.shard.root(), rig.bench.shard.status().puts);
        for _ in 0..3 {
            assert_eq!(rig.put(mine), first, "the context of the first try");
        }
        let status = rig.bench.shard.status();
        assert_eq!((rig.bench.shard.root(), status.puts), (held, puts));
        // Another write of the client is another write, and so is one of another client with the same number.
        for id in [
            write_id(2),
            Some(WriteId {
                client: 8,
                sequence: 2,
            }),
        ] {
            rig.put(Put {
                write_id: id,
                ..put(ContextArg::Latest, b"next")
            });
        }
        assert_eq!(rig.bench.shard.status().puts, puts + 2);
        let delete = Op::Delete {
            context: ContextArg::Latest,
            want_previous: false,
            want_context: true,
            write_id: write_id(3),
        };
        let (Outcome::Written { existed, .. }, _) = rig.ask(delete) else {
            panic!("deleted")
        };
        let held = rig.bench.shard.root();
        let (Outcome::Written { existed: again, .. }, _) = rig.ask(delete) else {
            panic!("deleted once")
        };
        assert_eq!((existed, again, rig.bench.shard.root()), (true, true, held));
    }
}

#[test]
fn a_context_that_is_none_is_refused_and_nothing_happens() {
    let mut rig = Rig::new(Conflict::Siblings, BlindPut::Latest, false);
    rig.put(put(ContextArg::Latest, b"base"));
    for bytes in [&b""[..], b"x", b"not a context", &[0xff; 40]] {
        let (outcome, _) = rig.ask(Op::Put(put(ContextArg::Opaque(bytes), b"new")));
        assert!(
            matches!(outcome, Outcome::Failed(Failure::BadContext)),
            "{bytes:?}: {outcome:?}"
        );
    }
    for op in [
        Op::Put(put(ContextArg::Latest, b"new")),
        Op::Get,
        Op::Exists,
        Op::Scan {
            cursor: 0,
            count: 10,
        },
    ] {
        let id = rig.bench.send_in(b"missing", KEY, op, None);
        let (outcome, _) = rig.bench.wait(id);
        assert!(
            matches!(outcome, Outcome::Failed(Failure::NoBucket)),
            "{op:?}: {outcome:?}"
        );
    }
    let long = vec![0; (1 << 20) + 1];
    let (outcome, _) = rig.ask(Op::Put(put(ContextArg::Latest, &long)));
    assert!(
        matches!(outcome, Outcome::Failed(Failure::TooLarge { .. })),
        "{outcome:?}"
    );
    assert_eq!(rig.read().0, [b"base".to_vec()]);
}

#[test]
fn an_object_of_another_node_is_merged_once() {
    both(|is_cold| {
        let mut theirs = Rig::new(Conflict::Siblings, BlindPut::Latest, false);
        theirs.bench.config.node = crate::base::ids::NodeId(78);
        theirs.bench.stop_and_start();
        theirs.put(put(ContextArg::Latest, b"theirs"));
        let (Outcome::Object { object, .. }, bytes) = theirs.ask(Op::Get) else {
            panic!("it is there")
        };
        let object = object.of(&bytes);
        let mut ours = Rig::new(Conflict::Siblings, BlindPut::Sibling, is_cold);
        ours.put(put(ContextArg::Blind, b"ours"));
        for _ in 0..3 {
            let (outcome, _) = ours.ask(Op::Merge { object });
            assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
        }
        let expected: &[Vec<u8>] = &[b"ours".to_vec(), b"theirs".to_vec()];
        let found = ours.read().0;
        assert!(found == expected || found == expected[1..], "{found:?}");
        let (outcome, _) = ours.ask(Op::Merge {
            object: &[0xff; 30],
        });
        assert!(
            matches!(outcome, Outcome::Failed(Failure::BadObject)),
            "{outcome:?}"
        );
    });
}

#[test]
fn siblings_without_end_are_refused_until_somebody_merges_them() {
    for is_cold in [false, true] {
        let mut rig = Rig::new(Conflict::Siblings, BlindPut::Sibling, is_cold);
        let bytes_max = rig.bench.shard.config().siblings_bytes_max() as u64;
        let value = vec![7; 1000];
        let blind = || put(ContextArg::Blind, &value);
        let mut taken = 0;
        let refused = loop {
            match rig.ask(Op::Put(blind())).0 {
                Outcome::Written { .. } => taken += 1,
                Outcome::Failed(failure) => break failure,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(taken, bytes_max / 1100, "of {bytes_max} bytes");
        assert!(matches!(refused, Failure::TooLarge { bytes_max: most, .. } if most == bytes_max));
        let (values, context) = rig.read();
        assert_eq!(values.len() as u64, taken, "what was refused is not there");
        rig.put(put(ContextArg::Opaque(&context), b"merged"));
        assert_eq!(rig.read().0, [b"merged"]);
        rig.put(blind());
    }
}

#[test]
fn an_object_that_no_segment_holds_is_refused_wherever_it_comes_from() {
    let mut rig = Rig::new(Conflict::Siblings, BlindPut::Sibling, false);
    let object_bytes_max = rig.bench.shard.config().object_bytes_max();
    for actor in 1..=2 {
        let dot = Dot::newborn(NodeId(actor), Hlc(actor << 16));
        let sibling = Sibling {
            dot,
            value: Some(vec![7; object_bytes_max * 2 / 3].into()),
            expires_at_ms: None,
            write_id: None,
        };
        let mut context = Context::default();
        context.record(dot);
        let object = Object::from_parts(vec![sibling], context).expect("one that it covers");
        let mut bytes = Vec::new();
        object.encode(&mut bytes);
        let id = rig
            .bench
            .send_in(b"b", b"merged", Op::Merge { object: &bytes }, None);
        let outcome = rig.bench.wait(id).0;
        let is_refused = matches!(outcome, Outcome::Failed(Failure::TooLarge { .. }));
        assert_eq!(is_refused, actor == 2, "{outcome:?}");
    }
}

#[test]
fn a_hint_does_not_make_a_starts_clock_count_before_others_could_object() {
    for is_kept in [true, false] {
        let mut bench = Bench::new(5, config(12, 64 << 10));
        bench.shard.set_replicated(true);
        bench.stop();
        let right_ms = bench.now.wall_ms;
        bench.now.wall_ms += 3_600_000;
        bench.reopen();
        if is_kept {
            bench.keep_hint(NodeId(9), b"b", KEY);
            bench.turns(20);
        }
        let is_wrong = |bench: &mut Bench, is_wrong| {
            bench.shard.set_clock_wrong(bench.now, is_wrong);
        };
        is_wrong(&mut bench, true);
        bench.now.wall_ms = right_ms + 1_000;
        is_wrong(&mut bench, false);
        let id = bench.put(KEY, b"value", Some(Durability::One));
        bench.wait(id);
        let id = bench.send(KEY, Op::Get, None);
        let (Outcome::Object { object, .. }, bytes) = bench.wait(id) else {
            panic!("it was written");
        };
        let view = ObjectView::parse(object.of(&bytes)).expect("an object");
        let dated_ms = view.max_hlc().ms();
        assert!(
            (right_ms..right_ms + 10_000).contains(&dated_ms),
            "{} ms late, a hint {is_kept}",
            dated_ms - right_ms
        );
    }
}
