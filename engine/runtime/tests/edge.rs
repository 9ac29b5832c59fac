//! An edge as the network is one: its requests reach the owner's core and come back, whatever shard they came to.

use std::sync::mpsc;
use std::time::Duration;

use gramme_engine::core::base::hash;
use gramme_engine::core::base::ids::ShardIndex;
use gramme_engine::core::port::{
    Condition, ContextArg, Expiry, Op, Outcome, Put, Request, RequestId,
};
use gramme_engine::core::version::ObjectView;
use gramme_engine::edge::{Edge, EdgeMessage, Port};
use gramme_engine::ring::{Completion, Ring};
use gramme_engine::{Engine, EngineConfig};

const WAIT: Duration = Duration::from_secs(20);

enum Ask {
    PutAndGet { key: Vec<u8> },
    CountEverywhere,
    PassOn { to: ShardIndex },
    WakeIn { wait_ns: u64 },
}

#[derive(Debug, PartialEq)]
enum Told {
    Value { at: ShardIndex, value: Vec<u8> },
    Count { at: ShardIndex, count: u64 },
    Passed { at: ShardIndex },
    Woken,
    Stopped { at: ShardIndex },
}

struct Probe {
    shard: ShardIndex,
    tell: mpsc::Sender<Told>,
    keys: Vec<Vec<u8>>,
    wake_at_ns: Option<u64>,
    is_stopped: bool,
    fails: bool,
}

fn request<'a>(id: u64, key: &'a [u8], op: Op<'a>) -> Request<'a> {
    Request {
        id: RequestId(id),
        deadline_ns: None,
        bucket: b"default",
        key,
        token: hash::token(b"default", key),
        durability: None,
        quorum: gramme_core::port::Quorum::default(),
        wants_object: false,
        is_forwarded: false,
        op,
    }
}

const COUNT_ID: u64 = 1 << 40;
const GET_ID: u64 = 1 << 20;

impl Edge for Probe {
    fn start(&mut self, _ring: &mut Ring, port: &mut dyn Port) -> std::io::Result<()> {
        self.shard = port.shard();
        if self.fails {
            return Err(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        }
        Ok(())
    }

    fn completion(&mut self, _completion: Completion, _ring: &mut Ring, _port: &mut dyn Port) {
        panic!("this edge has no operations");
    }

    fn message(&mut self, message: EdgeMessage, _ring: &mut Ring, port: &mut dyn Port) {
        match *message.downcast::<Ask>().expect("an ask") {
            Ask::PutAndGet { key } => {
                let put = Op::Put(Put {
                    context: ContextArg::Latest,
                    value: &key,
                    expiry: Expiry::Never,
                    condition: Condition::Always,
                    want_previous: false,
                    want_context: false,
                    write_id: None,
                });
                port.submit(request(self.keys.len() as u64, &key, put));
                self.keys.push(key);
            }
            Ask::CountEverywhere => {
                for shard in 0..port.slices().shards() {
                    port.submit_to(ShardIndex(shard), request(COUNT_ID, b"", Op::Count));
                }
            }
            Ask::PassOn { to } if to == self.shard => {
                let _ = self.tell.send(Told::Passed { at: self.shard });
            }
            Ask::PassOn { to } => port.send(to, Box::new(Ask::PassOn { to })),
            Ask::WakeIn { wait_ns } => {
                let at_ns = port.now().mono_ns + wait_ns;
                self.wake_at_ns = Some(at_ns);
                port.wake_at(at_ns);
            }
        }
    }

    fn reply(&mut self, id: RequestId, outcome: &Outcome, bytes: &[u8], port: &mut dyn Port) {
        let at = self.shard;
        let told = match *outcome {
            // The get of what was put, from inside the put's reply.
            Outcome::Written { .. } => {
                let key = self.keys[id.0 as usize].clone();
                return port.submit(request(GET_ID | id.0, &key, Op::Get));
            }
            Outcome::Object { object, .. } => {
                assert_eq!(id.0 & GET_ID, GET_ID);
                let view = ObjectView::parse(object.of(bytes)).expect("an object");
                let value = view.latest().and_then(|sibling| sibling.content.value());
                let value = value.expect("a value").to_vec();
                Told::Value { at, value }
            }
            Outcome::Count(count) => Told::Count { at, count },
            ref other => panic!("{other:?}"),
        };
        let _ = self.tell.send(told);
    }

    fn flush(&mut self, _ring: &mut Ring, port: &mut dyn Port) {
        if self
            .wake_at_ns
            .is_some_and(|at_ns| port.now().mono_ns >= at_ns)
        {
            self.wake_at_ns = None;
            let _ = self.tell.send(Told::Woken);
        }
    }

    fn stop(&mut self, _ring: &mut Ring, _port: &mut dyn Port) {
        self.is_stopped = true;
        let _ = self.tell.send(Told::Stopped { at: self.shard });
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

fn open(
    dir: &tempfile::TempDir,
    fails: bool,
) -> (
    Result<Engine, gramme_engine::OpenError>,
    mpsc::Receiver<Told>,
) {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let config = EngineConfig {
        shards: Some(2),
        segment_bytes: Some(1 << 20),
        capacity_bytes: Some(128 << 20),
        memory_bytes: 32 << 20,
        pin_to_cores: false,
        edge: Some(Box::new(move |shard| {
            Box::new(Probe {
                shard,
                tell: tell.lock().expect("unpoisoned").clone(),
                keys: Vec::new(),
                wake_at_ns: None,
                is_stopped: false,
                fails: fails && shard == ShardIndex(1),
            })
        })),
        ..EngineConfig::new(dir.path())
    };
    (Engine::open(config), told)
}

#[test]
fn requests_reach_the_owner_from_either_shard_and_answers_come_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (engine, told) = open(&dir, false);
    let engine = engine.expect("opened");
    for shard in [ShardIndex(0), ShardIndex(1)] {
        for key in 0..100 {
            let key = format!("{shard}/{key}").into_bytes();
            engine
                .send_to_edge(shard, Box::new(Ask::PutAndGet { key }))
                .expect("sent");
        }
    }
    for _ in 0..200 {
        let told = told.recv_timeout(WAIT).expect("an answer");
        let Told::Value { at, value } = told else {
            panic!("{told:?}");
        };
        // Answers come back to the edge that asked.
        assert!(value.starts_with(format!("{at}/").as_bytes()));
    }
    engine
        .send_to_edge(ShardIndex(1), Box::new(Ask::CountEverywhere))
        .expect("sent");
    let mut counted = 0;
    for _ in 0..2 {
        match told.recv_timeout(WAIT).expect("a count") {
            Told::Count {
                at: ShardIndex(1),
                count,
            } => counted += count,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counted, 200);
}

#[test]
fn an_edge_is_woken_at_its_time_passes_messages_on_and_is_stopped_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (engine, told) = open(&dir, false);
    let engine = engine.expect("opened");
    let begun = std::time::Instant::now();
    let ask = Ask::WakeIn {
        wait_ns: 30_000_000,
    };
    engine
        .send_to_edge(ShardIndex(0), Box::new(ask))
        .expect("sent");
    assert_eq!(told.recv_timeout(WAIT), Ok(Told::Woken));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    let ask = Ask::PassOn { to: ShardIndex(1) };
    engine
        .send_to_edge(ShardIndex(0), Box::new(ask))
        .expect("sent");
    assert_eq!(
        told.recv_timeout(WAIT),
        Ok(Told::Passed { at: ShardIndex(1) })
    );
    engine.stop().expect("stopped");
    drop(engine);
    let mut stopped: Vec<_> = told.iter().map(|told| format!("{told:?}")).collect();
    stopped.sort();
    assert_eq!(stopped, ["Stopped { at: s0 }", "Stopped { at: s1 }"]);
}

#[test]
fn an_edge_that_cannot_start_fails_the_open_and_leaves_nothing_running() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (failed, _told) = open(&dir, true);
    let error = failed.err().expect("a port in use");
    assert!(
        error.to_string().starts_with("shard s1 cannot serve"),
        "{error}"
    );
    // The directory is free again.
    let (engine, _told) = open(&dir, false);
    assert!(engine.is_ok());
}
