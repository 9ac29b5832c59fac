//! Nodes that speak with each other over real sockets: who gets what, who is told of what, what is refused and dropped.
//!
//! Each node here is an engine whose edge is the network; what the network hands to the shard is told to the test, and
//! the test says what the shard sends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gramme::native::{NativeProtocol, RingTable};
use gramme::peer::{Network, PeerCounters, UNSENT_BYTES_MAX};
use gramme::reactor::{Counters, Listener, Reactor, ReactorOptions};
use gramme::wire::peer::{PeerFrame, PeerParse, encode_peer, parse_peer};
use gramme::wire::{self, Parse, PeerHello, PeerLane, Ring as RingFrame, Versions};
use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, ShardIndex, Token};
use gramme_core::base::limits::PARTITIONS_DEFAULT;
use gramme_core::base::time::Now;
use gramme_core::port::{
    ByteRange, CallId, Held, KeyName, Lane, Message, Outcome, Peer, Request, RequestId,
};
use gramme_core::ring::{NodeView, RingView, Slices};
use gramme_core::shard::ShardStatus;
use gramme_engine::edge::{Edge, EdgeMessage, PeerSend, Port};
use gramme_engine::ring::{Completion, Ring};
use gramme_engine::{Engine, EngineConfig};

const WAIT: Duration = Duration::from_secs(20);
const CLUSTER: u64 = 77;

/// What the test has a shard's edge do.
enum Ask {
    View(Arc<RingView>),
    Send(Box<PeerSend>, Vec<u8>),
    Gossip(String, Vec<u8>),
}

/// What the network told the shard.
#[derive(Debug, PartialEq)]
enum Told {
    Message {
        at: ShardIndex,
        from: Peer,
        text: String,
    },
    Lost {
        at: ShardIndex,
        node: NodeId,
    },
}

/// The network, with the test between it and its shard.
struct Probe {
    network: Network,
    tell: Sender<Told>,
}

/// The shard's port, which tells the test what it gets from peers instead.
struct Spy<'a> {
    port: &'a mut dyn Port,
    tell: &'a Sender<Told>,
}

impl Port for Spy<'_> {
    fn now(&self) -> Now {
        self.port.now()
    }
    fn node(&self) -> NodeId {
        self.port.node()
    }
    fn shard(&self) -> ShardIndex {
        self.port.shard()
    }
    fn slices(&self) -> Slices {
        self.port.slices()
    }
    fn submit(&mut self, request: Request<'_>) {
        self.port.submit(request);
    }
    fn submit_to(&mut self, shard: ShardIndex, request: Request<'_>) {
        self.port.submit_to(shard, request);
    }
    fn send(&mut self, shard: ShardIndex, message: EdgeMessage) {
        self.port.send(shard, message);
    }
    fn peer_message(&mut self, to: ShardIndex, from: Peer, message: Message<&[u8]>) {
        let _ = self.tell.send(Told::Message {
            at: to,
            from,
            text: format!("{message:?}"),
        });
    }
    fn peer_lost(&mut self, node: NodeId) {
        let at = self.port.shard();
        let _ = self.tell.send(Told::Lost { at, node });
    }
    fn status(&self) -> ShardStatus {
        self.port.status()
    }
    fn wake_at(&mut self, mono_ns: u64) {
        self.port.wake_at(mono_ns);
    }
}

macro_rules! spied {
    ($probe:ident, $port:ident) => {
        &mut Spy {
            port: $port,
            tell: &$probe.tell,
        }
    };
}

impl Edge for Probe {
    fn start(&mut self, ring: &mut Ring, port: &mut dyn Port) -> std::io::Result<()> {
        self.network.start(ring, port)
    }
    fn completion(&mut self, completion: Completion, ring: &mut Ring, port: &mut dyn Port) {
        self.network
            .completion(completion, ring, spied!(self, port));
    }
    fn message(&mut self, message: EdgeMessage, ring: &mut Ring, port: &mut dyn Port) {
        match message.downcast::<Ask>().map(|ask| *ask) {
            Ok(Ask::View(view)) => self.network.view(&view, spied!(self, port)),
            Ok(Ask::Send(send, bytes)) => {
                self.network.peer_send(&send, &bytes, spied!(self, port));
            }
            Ok(Ask::Gossip(address, bytes)) => {
                self.network
                    .gossip_send(&address, &bytes, spied!(self, port));
            }
            Err(message) => self.network.message(message, ring, spied!(self, port)),
        }
    }
    fn reply(&mut self, id: RequestId, outcome: &Outcome, bytes: &[u8], port: &mut dyn Port) {
        self.network.reply(id, outcome, bytes, port);
    }
    fn flush(&mut self, ring: &mut Ring, port: &mut dyn Port) {
        self.network.flush(ring, spied!(self, port));
    }
    fn stop(&mut self, ring: &mut Ring, port: &mut dyn Port) {
        self.network.stop(ring, spied!(self, port));
    }
    fn is_stopped(&self) -> bool {
        self.network.is_stopped()
    }
}

/// One node.
struct Side {
    engine: Engine,
    told: Receiver<Told>,
    counters: Arc<Counters>,
    address: SocketAddr,
    shards: u16,
}

/// A native port with its shards' ports behind it.
fn sockets(shards: u16, at: Option<SocketAddr>) -> (TcpListener, Vec<TcpListener>) {
    let begun = Instant::now();
    loop {
        let common = TcpListener::bind(at.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))));
        let bound = common.and_then(|common| {
            let port = common.local_addr()?.port();
            let own: std::io::Result<Vec<_>> = (0..shards)
                .map(|shard| TcpListener::bind(("127.0.0.1", port.saturating_add(1 + shard))))
                .collect();
            Ok((common, own?))
        });
        match bound {
            Ok(bound) => return bound,
            Err(error) => assert!(begun.elapsed() < WAIT, "{error}"),
        }
    }
}

fn start(dir: &Path, shards: u16, at: Option<SocketAddr>) -> Side {
    start_with(dir, (shards, at), ReactorOptions::default())
}

fn start_with(
    dir: &Path,
    (shards, at): (u16, Option<SocketAddr>),
    options: ReactorOptions,
) -> Side {
    let (common, own) = sockets(shards, at);
    let address = common.local_addr().expect("bound");
    let protocol = Arc::new(NativeProtocol::new(Arc::new(RingTable::new(
        RingFrame::default(),
    ))));
    let listener = |socket, is_dealt| Listener {
        socket,
        protocol: protocol.clone(),
        is_dealt,
        tls: None,
    };
    let mut listeners: Vec<Vec<Listener>> = own
        .into_iter()
        .map(|socket| vec![listener(socket, false)])
        .collect();
    listeners[0].push(listener(common, true));
    let listeners = Mutex::new(listeners);
    let counters = Arc::clone(&options.counters);
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let engine = Engine::open(EngineConfig {
        shards: Some(shards),
        segment_bytes: Some(1 << 20),
        capacity_bytes: Some(128 << 20),
        memory_bytes: 32 << 20,
        pin_to_cores: false,
        edge: Some(Box::new(move |shard| {
            let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
            let own = std::mem::take(&mut listeners[usize::from(shard.0)]);
            let reactor = Reactor::new(own, options.clone());
            Box::new(Probe {
                network: Network::new(reactor),
                tell: tell.lock().expect("unpoisoned").clone(),
            })
        })),
        ..EngineConfig::new(dir)
    });
    Side {
        engine: engine.expect("opened"),
        told,
        counters,
        address,
        shards,
    }
}

impl Side {
    fn ask(&self, shard: u16, ask: Ask) {
        let asked = self.engine.send_to_edge(ShardIndex(shard), Box::new(ask));
        asked.expect("its mailbox has room");
    }

    fn send(
        &self,
        shard: u16,
        to: NodeId,
        (lane, message, bytes): (Lane, Message<ByteRange>, &[u8]),
    ) {
        let send = PeerSend { to, lane, message };
        self.ask(shard, Ask::Send(Box::new(send), bytes.to_vec()));
    }

    /// Sends gossip until some arrives; what is lost on the way is told.
    fn gossip(&self, to: NodeId, bytes: &[u8]) {
        let message = Message::Gossip {
            bytes: whole(bytes),
        };
        self.send(0, to, (Lane::Control, message, bytes));
    }

    fn learn(&self, view: &RingView) {
        let view = Arc::new(RingView {
            me: self.engine.node(),
            slices: self.engine.slices(),
            ..view.clone()
        });
        for shard in 0..self.shards {
            self.ask(shard, Ask::View(Arc::clone(&view)));
        }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(WAIT).expect("told in time")
    }

    fn next_message(&self) -> (ShardIndex, Peer, String) {
        loop {
            if let Told::Message { at, from, text } = self.next() {
                return (at, from, text);
            }
        }
    }

    fn known(&self) -> NodeView {
        NodeView {
            id: self.engine.node(),
            address: self.address.to_string(),
            zone: "z".into(),
            shards: self.shards,
            is_alive: true,
            takes_values: true,
        }
    }

    /// Waits until a counter has reached this.
    fn wait(&self, which: impl Fn(&PeerCounters) -> &AtomicU64, least: u64) {
        let begun = Instant::now();
        while which(&self.counters.peers).load(Ordering::Relaxed) < least {
            assert!(begun.elapsed() < WAIT, "{:?}", self.counters);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn view(mut nodes: Vec<NodeView>) -> RingView {
    nodes.sort_by_key(|node| node.id);
    RingView {
        epoch: 1,
        cluster: CLUSTER,
        me: NodeId(0),
        slices: Slices::new(PARTITIONS_DEFAULT, 1).expect("valid"),
        nodes,
        partitions: Arc::default(),
        buckets: Vec::new(),
    }
}

const fn whole(bytes: &[u8]) -> ByteRange {
    ByteRange {
        start: 0,
        end: bytes.len() as u32,
    }
}

/// A question about a key, with its bytes.
fn fetch(key: &[u8]) -> (Token, Message<ByteRange>, Vec<u8>) {
    let bytes = [b"default", key].concat();
    let token = hash::token(b"default", key);
    let message = Message::Fetch {
        call: CallId(1),
        key: KeyName {
            bucket: ByteRange { start: 0, end: 7 },
            key: ByteRange {
                start: 7,
                end: bytes.len() as u32,
            },
            token,
        },
        wants_object: true,
    };
    (token, message, bytes)
}

#[test]
fn messages_reach_the_shard_of_their_token_and_answers_come_back_on_the_same_connections() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (a, b) = (
        start(dirs[0].path(), 2, None),
        start(dirs[1].path(), 3, None),
    );
    let both = view(vec![a.known(), b.known()]);
    a.learn(&both);
    b.learn(&both);
    let owners = Slices::new(PARTITIONS_DEFAULT, 3).expect("valid");
    let (node_a, node_b) = (a.engine.node(), b.engine.node());
    for number in 0..60_u32 {
        let key = number.to_le_bytes();
        let (token, message, bytes) = fetch(&key);
        a.send(1, node_b, (Lane::Token(token), message, &bytes));
        let (at, from, text) = b.next_message();
        assert_eq!(at, owners.shard_of(token));
        assert_eq!((from.node, from.shard), (node_a, ShardIndex(1)));
        assert!(text.starts_with("Fetch {"), "{text}");

        let object = vec![7; number as usize * 1000];
        let held = Held {
            fingerprint: 9,
            object: Some(whole(&object)),
        };
        let answer = Message::Fetched {
            call: CallId(1),
            result: Ok(held),
            queue: 3,
        };
        b.send(at.0, node_a, (Lane::Shard(from.shard), answer, &object));
        let (back_at, back_from, text) = a.next_message();
        assert_eq!(back_at, ShardIndex(1));
        assert_eq!((back_from.node, back_from.shard), (node_b, at));
        assert_eq!(
            text,
            format!("{:?}", answer.map(&|range| range.of(&object)))
        );
    }
    let opened = |side: &Side| side.counters.peers.opened.load(Ordering::Relaxed);
    a.wait(|counters| &counters.received, 60);
    assert_eq!((opened(&a), opened(&b)), (3, 3), "one a pair of shards");
}

#[test]
fn gossip_reaches_a_seed_by_its_address_and_the_seed_answers_a_node_that_it_does_not_know() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (a, b) = (
        start(dirs[0].path(), 2, None),
        start(dirs[1].path(), 2, None),
    );
    let begun = Instant::now();
    let seed = format!("localhost:{}", b.address.port());
    // The name is looked up at the first try, whose message is lost.
    let (at, from, text) = loop {
        assert!(begun.elapsed() < WAIT, "{:?}", a.counters);
        a.ask(0, Ask::Gossip(seed.clone(), b"join".to_vec()));
        if let Ok(Told::Message { at, from, text }) = b.told.recv_timeout(Duration::from_millis(50))
        {
            break (at, from, text);
        }
    };
    assert_eq!((at, from.node), (Lane::CONTROL_SHARD, a.engine.node()));
    assert_eq!(
        text,
        format!(
            "{:?}",
            Message::Gossip {
                bytes: b"join".as_slice()
            }
        )
    );
    b.gossip(a.engine.node(), b"welcome");
    let (_, from, text) = a.next_message();
    assert_eq!(from.node, b.engine.node());
    assert!(text.contains("Gossip"), "{text}");
    // And now that it is known who is there, by its id.
    a.gossip(b.engine.node(), b"again");
    while b.next_message().2 == text_of(b"join") {}
    assert_eq!(a.counters.peers.opened.load(Ordering::Relaxed), 1);
}

fn text_of(bytes: &[u8]) -> String {
    format!("{:?}", Message::Gossip { bytes })
}

#[test]
fn a_peer_that_dies_is_told_and_reached_again_when_it_is_back() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (a, b) = (
        start(dirs[0].path(), 1, None),
        start(dirs[1].path(), 1, None),
    );
    let node_b = b.engine.node();
    a.learn(&view(vec![a.known(), b.known()]));
    a.gossip(node_b, b"1");
    assert_eq!(b.next_message().2, text_of(b"1"));
    let (at, lost) = (
        ShardIndex(0),
        Told::Lost {
            at: ShardIndex(0),
            node: node_b,
        },
    );
    let address = b.address;
    b.engine.stop().expect("stopped");
    drop(b);
    assert_eq!(a.next(), lost);
    // While it is away, tries are few and each message's sender is told.
    let failed_before = a.counters.peers.failed.load(Ordering::Relaxed);
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        a.gossip(node_b, b"2");
        assert_eq!(a.next(), lost);
        sent += 1;
    }
    let failed = a.counters.peers.failed.load(Ordering::Relaxed) - failed_before;
    assert!(
        (1..=8).contains(&failed),
        "{failed} tries for {sent} messages"
    );

    let b = start(dirs[1].path(), 1, Some(address));
    assert_eq!(b.engine.node(), node_b);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < WAIT, "{:?}", a.counters);
        a.gossip(node_b, b"3");
        match b.told.recv_timeout(Duration::from_millis(50)) {
            Ok(Told::Message { at: to, text, .. }) => {
                assert_eq!((to, text), (at, text_of(b"3")));
                break;
            }
            Ok(Told::Lost { .. }) => panic!("it has asked nobody"),
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A node of the test's own, by the bytes.
struct Raw(TcpStream);

impl Raw {
    fn connect(side: &Side, hello: PeerHello) -> Self {
        let address = SocketAddr::new(side.address.ip(), side.address.port() + 1);
        let mut raw = Self(TcpStream::connect(address).expect("connected"));
        raw.0.set_read_timeout(Some(WAIT)).expect("set");
        raw.hello(hello);
        raw
    }

    fn hello(&mut self, hello: PeerHello) {
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, 0, true, &wire::Message::Peer(hello));
        self.0.write_all(&bytes).expect("written");
    }

    /// The next native frame, as text.
    fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            if self.0.read(&mut byte).expect("read") == 0 {
                return "the end".into();
            }
            bytes.push(byte[0]);
            match wire::parse(&bytes) {
                Parse::Done(frame) => return format!("{:?}", frame.message),
                Parse::NeedMore(_) => {}
                Parse::Unknown(frame) => panic!("{}", frame.why),
                Parse::Bad(error) => panic!("{error}"),
            }
        }
    }

    fn write(&mut self, sent_ms: u64, message: Message<&[u8]>) {
        let mut bytes = Vec::new();
        let frame = PeerFrame {
            lane: Lane::Shard(ShardIndex(0)),
            sent_ms,
            message,
        };
        assert!(encode_peer(&mut bytes, true, &frame));
        self.0.write_all(&bytes).expect("written");
    }

    fn has_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.0.read_to_end(&mut rest), Ok(_) | Err(_))
    }
}

fn hello(to: &Side) -> PeerHello {
    PeerHello {
        versions: Versions::OWN,
        cluster: CLUSTER,
        from: NodeId(99),
        from_shard: ShardIndex(4),
        to: to.engine.node(),
        lane: PeerLane::Data,
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("soon")
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    let mut good = Raw::connect(&side, hello(&side));
    let other = PeerHello {
        from_shard: ShardIndex(5),
        ..hello(&side)
    };
    let mut bad = Raw::connect(&side, other);
    assert!(good.answer().starts_with("Peer("));
    assert!(bad.answer().starts_with("Peer("));
    bad.0.write_all(&[0xa5; 4096]).expect("written");
    assert!(bad.has_ended());
    side.wait(|counters| &counters.bad_frames, 1);
    assert_eq!(
        side.next(),
        Told::Lost {
            at: ShardIndex(0),
            node: NodeId(99)
        }
    );
    good.write(now_ms(), Message::Gossip { bytes: b"fine" });
    let (_, from, text) = side.next_message();
    assert_eq!((from.shard, text), (ShardIndex(4), text_of(b"fine")));
    // And a shard that there is not.
    let mut bytes = Vec::new();
    let lane = Lane::Shard(ShardIndex(7));
    let message = Message::Gossip {
        bytes: b"x".as_slice(),
    };
    let sent_ms = now_ms();
    assert!(encode_peer(
        &mut bytes,
        true,
        &PeerFrame {
            lane,
            sent_ms,
            message
        }
    ));
    good.0.write_all(&bytes).expect("written");
    side.wait(|counters| &counters.dropped_unknown, 1);
}

#[test]
fn objects_that_are_too_old_are_dropped_and_other_messages_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    let mut raw = Raw::connect(&side, hello(&side));
    let records = |bytes: &'static [u8]| Message::Records {
        call: CallId(1),
        tokens_answered: 1,
        records: bytes,
        is_incomplete: false,
    };
    raw.write(now_ms() - 31_000, records(b"old"));
    raw.write(now_ms() - 31_000, Message::Gossip { bytes: b"old" });
    raw.write(now_ms() - 20_000, records(b"late"));
    assert_eq!(side.next_message().2, text_of(b"old"));
    assert_eq!(side.next_message().2, format!("{:?}", records(b"late")));
    side.wait(|counters| &counters.dropped_old, 1);
}

#[test]
fn a_node_that_is_not_the_one_wanted_or_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    side.learn(&view(vec![side.known()]));
    let refused = |changed: PeerHello| {
        let mut raw = Raw::connect(&side, changed);
        let answer = raw.answer();
        assert!(raw.has_ended());
        answer
    };
    let me = side.engine.node();
    let answer = refused(PeerHello {
        from: me,
        ..hello(&side)
    });
    assert!(answer.contains("copied"), "{answer}");
    let answer = refused(PeerHello {
        to: NodeId(5),
        ..hello(&side)
    });
    assert!(answer.contains(&format!("this is {me}")), "{answer}");
    let answer = refused(PeerHello {
        cluster: 78,
        ..hello(&side)
    });
    assert!(answer.contains("cluster"), "{answer}");
    // One that has no cluster yet is heard.
    let mut raw = Raw::connect(
        &side,
        PeerHello {
            cluster: 0,
            ..hello(&side)
        },
    );
    assert!(raw.answer().starts_with("Peer("));
    side.wait(|counters| &counters.refused, 3);
}

#[test]
fn what_a_refused_node_had_said_is_not_counted_against_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = ReactorOptions {
        held_bytes_max: 64 << 10,
        ..ReactorOptions::default()
    };
    let side = start_with(dir.path(), (1, None), options);
    let address = SocketAddr::new(side.address.ip(), side.address.port() + 1);
    for _ in 0..20 {
        let wrong = PeerHello {
            to: NodeId(5),
            ..hello(&side)
        };
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, u64::MAX, false, &wire::Message::Peer(wrong));
        // What follows a hello at once, as of a node that is sure of itself.
        bytes.resize(bytes.len() + 8_000, 0);
        let mut raw = Raw(TcpStream::connect(address).expect("connected"));
        raw.0.write_all(&bytes).expect("written");
        assert!(raw.answer().contains("not"));
        assert!(raw.has_ended());
    }
    let mut client = Raw(TcpStream::connect(address).expect("connected"));
    let mut ping = Vec::new();
    wire::encode(&mut ping, 1, false, &wire::Message::Ping);
    let (first, rest) = ping.split_at(5);
    client.0.write_all(first).expect("written");
    std::thread::sleep(Duration::from_millis(100));
    client.0.write_all(rest).expect("written");
    assert_eq!(client.answer(), "Pong");
}

#[test]
fn what_waits_for_a_peer_that_never_reads_is_bounded_and_it_is_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let side = start(dir.path(), 1, None);
    let (_common, own) = sockets(1, None);
    let port = own[0].local_addr().expect("bound").port();
    let deaf = NodeView {
        id: NodeId(99),
        address: format!("127.0.0.1:{}", port - 1),
        zone: "z".into(),
        shards: 1,
        is_alive: true,
        takes_values: true,
    };
    side.learn(&view(vec![side.known(), deaf]));
    let object = vec![1; 1 << 20];
    let message = Message::Records {
        call: CallId(1),
        tokens_answered: 1,
        records: whole(&object),
        is_incomplete: false,
    };
    let lane = Lane::Shard(ShardIndex(0));
    side.send(0, NodeId(99), (lane, message, &object));
    let (mut raw, _) = own[0].accept().expect("accepted");
    let answer = PeerHello {
        from: NodeId(99),
        to: side.engine.node(),
        ..hello(&side)
    };
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, 0, true, &wire::Message::Peer(answer));
    raw.write_all(&bytes).expect("written");
    side.wait(|counters| &counters.opened, 1);
    for _ in 0..100 {
        side.send(0, NodeId(99), (lane, message, &object));
    }
    side.wait(|counters| &counters.dropped_full, 1);
    let begun = Instant::now();
    assert_eq!(
        side.next(),
        Told::Lost {
            at: ShardIndex(0),
            node: NodeId(99)
        }
    );
    assert!(begun.elapsed() > Duration::from_secs(5), "it had its time");
    let taken = side.counters.peers.sent.load(Ordering::Relaxed);
    let kernel = 16 << 20;
    assert!(
        taken << 20 <= (2 * UNSENT_BYTES_MAX as u64) + kernel,
        "{taken} MiB"
    );
    // What did leave were whole frames in order.
    let mut bytes = Vec::new();
    let _ = raw.read_to_end(&mut bytes);
    let Parse::Done(frame) = wire::parse(&bytes) else {
        panic!("no hello");
    };
    let rest = &bytes[frame.header.frame_bytes as usize..];
    assert!(matches!(parse_peer(rest), PeerParse::Done { .. }));
}

#[test]
fn nodes_are_heard_however_many_clients_there_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = ReactorOptions {
        connections_max: 2,
        ..ReactorOptions::default()
    };
    let side = start_with(dir.path(), (1, None), options);
    let address = SocketAddr::new(side.address.ip(), side.address.port() + 1);
    let clients = [(); 2].map(|()| TcpStream::connect(address).expect("connected"));
    let begun = Instant::now();
    while side.counters.connections.load(Ordering::Relaxed) < 2 {
        assert!(begun.elapsed() < WAIT, "{:?}", side.counters);
        std::thread::sleep(Duration::from_millis(5));
    }
    // A client more is told so, and one that says nothing does not stay.
    let mut more = Raw(TcpStream::connect(address).expect("connected"));
    let mut get = Vec::new();
    wire::encode(&mut get, 1, false, &wire::Message::Ping);
    more.0.write_all(&get).expect("written");
    assert!(more.answer().contains("Overloaded"));
    assert!(more.has_ended());
    let mut silent = Raw(TcpStream::connect(address).expect("connected"));
    let mut node = Raw::connect(&side, hello(&side));
    assert!(node.answer().starts_with("Peer("));
    assert!(silent.has_ended());
    node.write(now_ms(), Message::Gossip { bytes: b"still" });
    assert_eq!(side.next_message().2, text_of(b"still"));
    drop(clients);
}
