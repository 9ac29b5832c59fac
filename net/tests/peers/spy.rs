//! The test between a shard's network and the shard: it is told what the network hands over, and says what the shard sends.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use gramme::peer::Network;
use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::port::{Message, Outcome, Peer, Request, RequestId};
use gramme_core::ring::{RingView, Slices};
use gramme_core::shard::ShardStatus;
use gramme_engine::edge::{Edge, EdgeMessage, PeerSend, Port};
use gramme_engine::ring::{Completion, Ring};

/// What the test has a shard's edge do.
pub(super) enum Ask {
    View(Arc<RingView>),
    Send(Box<PeerSend>, Vec<u8>),
    Gossip(String, Vec<u8>),
}

/// What the network told the shard.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
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
pub(super) struct Probe {
    pub(super) network: Network,
    pub(super) tell: Sender<Told>,
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
