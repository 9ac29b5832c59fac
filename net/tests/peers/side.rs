//! One node: an engine whose edge is the network.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gramme::native::{NativeProtocol, RingTable};
use gramme::peer::{Network, PeerCounters};
use gramme::reactor::{Counters, Listener, Reactor, ReactorOptions};
use gramme::wire::Ring as RingFrame;
use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, ShardIndex, Token};
use gramme_core::base::limits::PARTITIONS_DEFAULT;
use gramme_core::port::{ByteRange, CallId, KeyName, Lane, Message, Peer};
use gramme_core::ring::{NodeView, RingView, Slices};
use gramme_engine::edge::PeerSend;
use gramme_engine::{Engine, EngineConfig};

use crate::spy::{Ask, Probe, Told};
use crate::{CLUSTER, WAIT};

/// One node.
pub(super) struct Side {
    pub(super) engine: Engine,
    pub(super) told: Receiver<Told>,
    pub(super) counters: Arc<Counters>,
    pub(super) address: SocketAddr,
    pub(super) shards: u16,
}

/// A native port with its shards' ports behind it.
pub(super) fn sockets(shards: u16, at: Option<SocketAddr>) -> (TcpListener, Vec<TcpListener>) {
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

pub(super) fn start(dir: &Path, shards: u16, at: Option<SocketAddr>) -> Side {
    start_with(dir, (shards, at), ReactorOptions::default())
}

pub(super) fn start_with(
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
    pub(super) fn ask(&self, shard: u16, ask: Ask) {
        let asked = self.engine.send_to_edge(ShardIndex(shard), Box::new(ask));
        asked.expect("its mailbox has room");
    }

    pub(super) fn send(
        &self,
        shard: u16,
        to: NodeId,
        (lane, message, bytes): (Lane, Message<ByteRange>, &[u8]),
    ) {
        let send = PeerSend { to, lane, message };
        self.ask(shard, Ask::Send(Box::new(send), bytes.to_vec()));
    }

    /// Sends gossip until some arrives; what is lost on the way is told.
    pub(super) fn gossip(&self, to: NodeId, bytes: &[u8]) {
        let message = Message::Gossip {
            bytes: whole(bytes),
        };
        self.send(0, to, (Lane::Control, message, bytes));
    }

    pub(super) fn learn(&self, view: &RingView) {
        let view = Arc::new(RingView {
            me: self.engine.node(),
            slices: self.engine.slices(),
            ..view.clone()
        });
        for shard in 0..self.shards {
            self.ask(shard, Ask::View(Arc::clone(&view)));
        }
    }

    pub(super) fn next(&self) -> Told {
        self.told.recv_timeout(WAIT).expect("told in time")
    }

    pub(super) fn next_message(&self) -> (ShardIndex, Peer, String) {
        loop {
            if let Told::Message { at, from, text } = self.next() {
                return (at, from, text);
            }
        }
    }

    pub(super) fn known(&self) -> NodeView {
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
    pub(super) fn wait(&self, which: impl Fn(&PeerCounters) -> &AtomicU64, least: u64) {
        let begun = Instant::now();
        while which(&self.counters.peers).load(Ordering::Relaxed) < least {
            assert!(begun.elapsed() < WAIT, "{:?}", self.counters);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(super) fn view(mut nodes: Vec<NodeView>) -> RingView {
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

pub(super) const fn whole(bytes: &[u8]) -> ByteRange {
    ByteRange {
        start: 0,
        end: bytes.len() as u32,
    }
}

/// A question about a key, with its bytes.
pub(super) fn fetch(key: &[u8]) -> (Token, Message<ByteRange>, Vec<u8>) {
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

/// How a shard is told of gossip.
pub(super) fn text_of(bytes: &[u8]) -> String {
    format!("{:?}", Message::Gossip { bytes })
}
