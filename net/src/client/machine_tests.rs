//! The machine as a trace: what it sends, what it does with what comes, what it says at the end.

use std::time::Duration;

use gramme_core::base::ids::NodeId;
use gramme_core::base::time::{Hlc, Now};
use gramme_core::port::{Condition, Receipt};
use gramme_core::version::{Content, Dot, write_latest};

use super::machine::{Action, LinkId, Machine};
use super::{Call, ClientError, ClientOptions, Outcome, RequestOptions};
use crate::wire::{
    self, Answer, Effect, ErrorCode, Message, Parse, Problem, Reply, Ring, RingNode,
};

const SEED: LinkId = LinkId(0);

struct Trace {
    machine: Machine,
    ms: u64,
}

impl Trace {
    /// A machine that is connected to its seed, whose node has these shard ports.
    fn connected(shard_ports: &[u16]) -> Self {
        let machine = Machine::new(&["127.0.0.1:7400".into()], ClientOptions::default(), 1);
        let mut trace = Self { machine, ms: 1_000 };
        trace.expect_connect("127.0.0.1:7400");
        trace.machine.connected(trace.now(), SEED);
        assert!(matches!(
            trace.sent(SEED)[..],
            [(_, ref hello)] if hello.starts_with("Hello")
        ));
        let ring = Ring {
            epoch: 1,
            routes: Vec::new(),
            partitions: 16,
            answered_by: 0,
            nodes: vec![RingNode {
                node: 1,
                host: String::new(),
                port: 7400,
                shard_ports: shard_ports.to_vec(),
            }],
        };
        trace.receive(SEED, u64::MAX, &Message::Ring(ring));
        trace
    }

    fn now(&self) -> Now {
        Now {
            mono_ns: self.ms * 1_000_000,
            wall_ms: self.ms,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
        self.machine.tick(self.now());
    }

    fn expect_connect(&mut self, to: &str) -> LinkId {
        match self.machine.next_action() {
            Some(Action::Connect { link, address }) if address == to => link,
            other => panic!("expected a connection to {to}, not {other:?}"),
        }
    }

    fn sent(&mut self, link: LinkId) -> Vec<(u64, String)> {
        let mut bytes = Vec::new();
        self.machine.take_outgoing(link, &mut bytes);
        let mut frames = Vec::new();
        let mut rest = bytes.as_slice();
        while let Parse::Done(frame) = wire::parse(rest) {
            frames.push((frame.header.request_id, format!("{:?}", frame.message)));
            rest = &rest[frame.header.frame_bytes as usize..];
        }
        assert!(rest.is_empty());
        frames
    }

    fn receive(&mut self, link: LinkId, id: u64, message: &Message<'_>) {
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, id, false, message);
        // Cut anywhere: frames do not respect the network's packets.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.machine.received(self.now(), link, first);
        self.machine.received(self.now(), link, second);
    }

    fn ended(&mut self) -> Option<Result<Outcome, ClientError>> {
        self.machine.next_done().map(|(_, result)| result)
    }
}

fn answer(reply: Reply<'_>) -> Message<'_> {
    Message::Answer(Answer {
        reply,
        receipt: Receipt::default(),
        server_ns: 1,
        ring_epoch: 1,
    })
}

fn problem(code: ErrorCode, effect: Effect) -> Message<'static> {
    Message::Error(Problem {
        code,
        effect,
        retry_after_ms: 0,
        message: "no",
        current: &[],
    })
}

fn options() -> RequestOptions {
    RequestOptions::default().deadline(Duration::from_millis(500))
}

fn put() -> Call {
    Call::put(b"k", b"v", None, &options())
}

/// One shard, and its connection open.
fn on_one_shard() -> (Trace, LinkId) {
    let mut trace = Trace::connected(&[7401]);
    trace.machine.submit(trace.now(), put()).expect("taken");
    let link = trace.expect_connect("127.0.0.1:7401");
    trace.machine.connected(trace.now(), link);
    (trace, link)
}

#[test]
fn a_call_goes_straight_to_the_owners_port() {
    let mut trace = Trace::connected(&[7401, 7402]);
    let mut addresses = std::collections::BTreeSet::new();
    for i in 0..50_u8 {
        let call = Call::get(&[i], &options());
        trace.machine.submit(trace.now(), call).expect("taken");
    }
    while let Some(Action::Connect { address, .. }) = trace.machine.next_action() {
        addresses.insert(address);
    }
    let expected = ["127.0.0.1:7401", "127.0.0.1:7402"].map(String::from);
    assert_eq!(addresses, expected.into());
}

#[test]
fn an_object_is_read_with_its_values_and_context() {
    let mut trace = Trace::connected(&[7401]);
    let call = Call::get(b"k", &options());
    trace.machine.submit(trace.now(), call).expect("taken");
    let link = trace.expect_connect("127.0.0.1:7401");
    trace.machine.connected(trace.now(), link);
    let (id, _) = trace.sent(link).pop().expect("the get");
    let mut object = Vec::new();
    let dot = Dot::newborn(NodeId(1), Hlc(9));
    write_latest(&mut object, dot, None, Content::Value(b"v"), None);
    let object = &object;
    trace.receive(
        link,
        id,
        &answer(Reply::Object {
            object,
            key_hash: 3,
        }),
    );
    let Some(Ok(Outcome::Read(read))) = trace.ended() else {
        panic!("not read");
    };
    assert_eq!(read.values, [b"v".to_vec()]);
    assert!(read.context.is_some());
    trace.receive(link, id, &answer(Reply::Absent));
    assert!(trace.ended().is_none(), "a second answer is dropped");
}

#[test]
fn an_overloaded_node_is_asked_again_after_a_wait() {
    let (mut trace, link) = on_one_shard();
    let (id, first) = trace.sent(link).pop().expect("the put");
    let no = problem(ErrorCode::Overloaded, Effect::NotApplied);
    trace.receive(link, id, &no);
    assert!(trace.sent(link).is_empty(), "not at once");
    trace.pass(50);
    let (id, again) = trace.sent(link).pop().expect("again");
    let write_id = |text: &str| {
        let from = text.find("WriteId").expect("has one");
        text[from..from + 70].to_string()
    };
    assert_eq!(write_id(&first), write_id(&again), "one write, one name");
    let written = Reply::Written {
        context: None,
        existed: true,
        previous: None,
    };
    trace.receive(link, id, &answer(written));
    assert!(matches!(trace.ended(), Some(Ok(Outcome::Written(_)))));
}

#[test]
fn a_write_that_was_sent_and_not_answered_is_in_doubt() {
    let (mut trace, link) = on_one_shard();
    assert_eq!(trace.sent(link).len(), 2, "hello and put");
    trace.pass(501);
    let error = trace.ended().expect("ended").expect_err("failed");
    assert!(matches!(error, ClientError::Deadline { .. }) && error.is_in_doubt());
    assert_eq!(
        trace.machine.next_action(),
        Some(Action::Close { link }),
        "a silent connection is closed"
    );
}

#[test]
fn a_write_that_was_never_sent_is_not_applied() {
    let mut trace = Trace::connected(&[7401]);
    trace.machine.submit(trace.now(), put()).expect("taken");
    trace.pass(501);
    let error = trace.ended().expect("ended").expect_err("failed");
    assert!(!error.is_in_doubt(), "{error}");
}

#[test]
fn a_node_that_is_silent_for_a_second_is_left_alone_and_another_is_asked() {
    let mut trace = Trace::connected(&[7401]);
    let options = RequestOptions::default().deadline(Duration::from_secs(5));
    let get = || Call::get(b"key", &options);
    let id = trace.machine.submit(trace.now(), get()).expect("taken");
    let silent = trace.expect_connect("127.0.0.1:7401");
    trace.machine.connected(trace.now(), silent);
    assert_eq!(trace.sent(silent).len(), 2, "hello and get");
    trace.pass(999);
    assert_eq!(trace.sent(SEED).len(), 0, "a second has not passed");
    trace.pass(1);
    let (request, _) = trace.sent(SEED).pop().expect("asked at the other port");
    // The next one does not wait for the silent node first.
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!((trace.sent(SEED).len(), trace.sent(silent).len()), (1, 0));
    trace.receive(SEED, request, &answer(Reply::Absent));
    assert_eq!(trace.machine.next_done().map(|(done, _)| done), Some(id));
    // It speaks: it is asked again.
    trace.receive(silent, u64::MAX - 1, &Message::Pong);
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!(trace.sent(silent).len(), 1);
}

#[test]
fn no_call_waits_for_a_node_that_could_not_be_reached_while_another_is_connected() {
    let mut trace = Trace::connected(&[7401]);
    let get = || Call::get(b"key", &options());
    trace.machine.submit(trace.now(), get()).expect("taken");
    let link = trace.expect_connect("127.0.0.1:7401");
    trace.machine.lost(trace.now(), link, "timed out");
    trace.pass(50);
    assert_eq!(trace.sent(SEED).len(), 1, "tried elsewhere");
    trace.pass(100);
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!(trace.expect_connect("127.0.0.1:7401"), link);
    assert_eq!(trace.sent(SEED).len(), 1, "at once, not behind that");
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!(trace.sent(SEED).len(), 1, "and while that goes on");
    // Where no other is connected, whichever is there first is asked.
    trace.machine.lost(trace.now(), SEED, "reset");
    trace.pass(101);
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!(trace.expect_connect("127.0.0.1:7400"), SEED);
    trace.machine.connected(trace.now(), SEED);
    let gets = trace
        .sent(SEED)
        .into_iter()
        .filter(|(_, text)| text.starts_with("Get"));
    assert!(gets.count() >= 1);
    trace.machine.connected(trace.now(), link);
    trace.sent(link);
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!(trace.sent(link).len(), 1, "it is reached again");
}

#[test]
fn a_machine_that_is_gone_is_tried_seldom_while_another_is_connected() {
    let mut trace = Trace::connected(&[7401]);
    let patient = RequestOptions::default().deadline(Duration::from_secs(5));
    let get = || Call::get(b"key", &patient);
    trace.machine.submit(trace.now(), get()).expect("taken");
    let link = trace.expect_connect("127.0.0.1:7401");
    trace.pass(2_000);
    trace.machine.lost(trace.now(), link, "timed out");
    trace.pass(50);
    let (id, _) = trace.sent(SEED).pop().expect("tried elsewhere");
    trace.receive(SEED, id, &answer(Reply::Absent));
    trace.pass(39_000);
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!(trace.machine.next_action(), None);
    let (id, _) = trace.sent(SEED).pop().expect("at once");
    trace.receive(SEED, id, &answer(Reply::Absent));
    trace.pass(1_100);
    trace.machine.submit(trace.now(), get()).expect("taken");
    assert_eq!(trace.expect_connect("127.0.0.1:7401"), link);
    let (id, _) = trace.sent(SEED).pop().expect("at once");
    trace.receive(SEED, id, &answer(Reply::Absent));
    trace.pass(2_000);
    trace.machine.lost(trace.now(), link, "timed out");
    // With nobody else it is tried.
    trace.machine.lost(trace.now(), SEED, "reset");
    trace.pass(101);
    trace.machine.submit(trace.now(), get()).expect("taken");
    let mut actions = std::iter::from_fn(|| trace.machine.next_action());
    let is_to_link = |action| matches!(action, Action::Connect { link: to, .. } if to == link);
    assert!(actions.any(is_to_link));
}

#[test]
fn a_short_deadline_ends_its_own_call_and_not_those_that_have_more_time() {
    let mut trace = Trace::connected(&[7401]);
    let options = |ms| RequestOptions::default().deadline(Duration::from_millis(ms));
    let conditional = Call::put(
        b"k",
        b"v",
        None,
        &options(900).condition(Condition::IfAbsent),
    );
    trace
        .machine
        .submit(trace.now(), conditional)
        .expect("taken");
    let link = trace.expect_connect("127.0.0.1:7401");
    trace.machine.connected(trace.now(), link);
    let (id, _) = trace.sent(link).pop().expect("the put");
    trace
        .machine
        .submit(trace.now(), Call::get(b"k", &options(5)))
        .expect("taken");
    trace.pass(6);
    let error = trace.ended().expect("ended").expect_err("failed");
    assert!(matches!(error, ClientError::Deadline { .. }));
    assert_eq!(
        (trace.machine.next_action(), trace.machine.in_flight()),
        (None, 1)
    );
    let written = Reply::Written {
        context: None,
        existed: false,
        previous: None,
    };
    trace.receive(link, id, &answer(written));
    assert!(matches!(trace.ended(), Some(Ok(Outcome::Written(_)))));
    // Silence for a second ends it, whoever waits.
    trace.sent(link);
    for _ in 0..3 {
        trace
            .machine
            .submit(trace.now(), Call::get(b"k", &options(600)))
            .expect("taken");
        trace.pass(300);
    }
    trace.pass(300);
    assert_eq!(trace.machine.next_action(), Some(Action::Close { link }));
}

#[test]
fn a_write_that_was_tried_twice_and_is_stale_at_last_is_in_doubt() {
    let (mut trace, link) = on_one_shard();
    let stale = problem(ErrorCode::Stale, Effect::NotApplied);
    trace.sent(link);
    trace.machine.lost(trace.now(), link, "reset");
    trace.pass(50);
    let (id, _) = trace.sent(SEED).pop().expect("to the seed");
    trace.receive(SEED, id, &stale);
    let error = trace.ended().expect("ended").expect_err("failed");
    assert!(error.is_in_doubt(), "{error:?}");
    trace.machine.submit(trace.now(), put()).expect("taken");
    let (id, _) = trace.sent(SEED).pop().expect("the first try");
    trace.receive(SEED, id, &stale);
    let error = trace.ended().expect("ended").expect_err("failed");
    assert!(matches!(error, ClientError::Stale { .. }), "{error:?}");
}

#[test]
fn a_broken_connection_sends_the_write_elsewhere_under_the_same_name() {
    let (mut trace, link) = on_one_shard();
    trace.sent(link);
    trace.machine.lost(trace.now(), link, "reset");
    trace.pass(50);
    let (_, put) = trace.sent(SEED).pop().expect("to the seed, which forwards");
    assert!(put.starts_with("Put"), "{put}");
    trace.pass(500);
    assert!(
        trace
            .ended()
            .expect("ended")
            .expect_err("failed")
            .is_in_doubt(),
        "the first try may have been applied"
    );
}

#[test]
fn a_conditional_write_in_doubt_is_not_sent_again() {
    let mut trace = Trace::connected(&[7401]);
    let call = Call::put(b"k", b"v", None, &options().condition(Condition::IfAbsent));
    trace.machine.submit(trace.now(), call).expect("taken");
    let link = trace.expect_connect("127.0.0.1:7401");
    trace.machine.connected(trace.now(), link);
    trace.sent(link);
    trace.machine.lost(trace.now(), link, "reset");
    assert!(
        trace
            .ended()
            .expect("ended")
            .expect_err("failed")
            .is_in_doubt()
    );
}

#[test]
fn retries_end_with_the_budget() {
    let mut trace = Trace::connected(&[7401]);
    let mut tries = 0;
    for _ in 0..200 {
        trace.machine.submit(trace.now(), put()).expect("taken");
        for _ in 0..10 {
            while let Some(Action::Connect { link, .. }) = trace.machine.next_action() {
                trace.machine.connected(trace.now(), link);
            }
            for link in [SEED, LinkId(1)] {
                for (id, text) in trace.sent(link) {
                    if text.starts_with("Put") {
                        tries += 1;
                        let no = problem(ErrorCode::Overloaded, Effect::NotApplied);
                        trace.receive(link, id, &no);
                    }
                }
            }
            trace.pass(20);
        }
        let error = trace.ended().expect("ended").expect_err("failed");
        assert!(!error.is_in_doubt());
    }
    assert!((200..=270).contains(&tries), "{tries} tries of 200 calls");
}

#[test]
fn bytes_that_are_no_frames_close_that_connection() {
    let (mut trace, link) = on_one_shard();
    trace.sent(link);
    trace
        .machine
        .received(trace.now(), link, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(trace.machine.next_action(), Some(Action::Close { link }));
}

#[test]
fn what_no_server_would_take_is_refused_at_the_clients_edge() {
    let mut trace = Trace::connected(&[7401]);
    for call in [
        Call::get(&[0; 5000], &options()),
        Call::get(b"k", &options().quorum(1, 2, 1)),
    ] {
        let refused = trace.machine.submit(trace.now(), call);
        assert!(matches!(refused, Err(ClientError::Usage(_))));
    }
}

#[test]
fn a_read_that_fewer_zones_answered_than_were_asked_for_fails() {
    let (mut trace, link) = on_one_shard();
    let id = trace.sent(link).last().expect("the put").0;
    trace.receive(
        link,
        id,
        &problem(ErrorCode::BadRequest, Effect::NotApplied),
    );
    trace.ended();
    for zones in [1, 2] {
        let call = Call::get(b"k", &options().zones(2).quorum(0, 1, 0));
        trace.machine.submit(trace.now(), call).expect("taken");
        let sent = trace.sent(link);
        assert!(sent[0].1.contains("zones: 2"), "{sent:?}");
        let receipt = Receipt {
            zones,
            ..Receipt::default()
        };
        let said = Message::Answer(Answer {
            reply: Reply::Absent,
            receipt,
            server_ns: 1,
            ring_epoch: 1,
        });
        trace.receive(link, sent[0].0, &said);
        match trace.ended().expect("answered") {
            Ok(Outcome::Read(_)) => assert_eq!(zones, 2),
            Err(ClientError::Server {
                code: ErrorCode::Quorum,
                effect: Effect::NotApplied,
                ..
            }) => assert_eq!(zones, 1),
            other => panic!("{other:?}"),
        }
    }
}
