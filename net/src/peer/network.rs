//! A shard's network: the reactor for clients and peers, and the links to the shards of other nodes, as one edge.
//!
//! Owns the hellos: who may speak with whom. A connection between nodes begins with one frame of each side; what its
//! opener has for the other follows at once, since the hello names the node that is wanted, and another refuses it whole.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use gramme_core::base::ids::NodeId;
use gramme_core::port::{Lane, Message, Outcome, Peer, RequestId};
use gramme_core::ring::{NodeView, RingView};
use gramme_engine::edge::{Edge, EdgeMessage, PeerSend, Port};
use gramme_engine::ring::{Completion, Ring};
use rustls::ClientConfig;

use super::counters::Counts;
use super::links::{Links, Outgoing, Over, Target};
use super::place::Place;
use super::resolver::{LOOK_NS, Resolver};
use super::session::{Answered, Greeting, PeerSession};
use crate::reactor::session::ConnectionId;
use crate::reactor::{Reactor, Wrote};
use crate::tls::NODE_NAME;
use crate::wire::peer::{PeerFrame, encode_peer};
use crate::wire::{self, Effect, ErrorCode, PeerHello, PeerLane, Problem, Versions};

/// Bytes that may wait for one peer; while more do, messages to it are dropped.
pub const UNSENT_BYTES_MAX: usize = 8 << 20;

/// How long a connect may take.
const CONNECT_NS_MAX: u64 = 1_000_000_000;

/// How long the answer to a hello may take, the connect included.
const ANSWER_NS_MAX: u64 = 5_000_000_000;

/// The request id of an error that concerns the whole connection.
const CONNECTION_ID: u64 = u64::MAX;

/// Is told each new view, on the control shard's thread: it must be quick.
pub type ViewWatch = Arc<dyn Fn(&Arc<RingView>) + Send + Sync>;

/// One shard's network.
pub struct Network {
    reactor: Reactor,
    links: Links,
    resolver: Resolver,
    view: Option<Arc<RingView>>,
    watch: Option<ViewWatch>,
    counts: Rc<Counts>,
    /// How other nodes are spoken with; without it nobody needs to show a certificate.
    tls: Option<Arc<ClientConfig>>,
    /// When connections that were not answered are looked at.
    look_at_ns: Option<u64>,
    is_stopping: bool,
}

impl Network {
    /// A reactor, and the connections to other nodes beside it.
    pub fn new(reactor: Reactor) -> Self {
        Self {
            reactor,
            links: Links::default(),
            resolver: Resolver::default(),
            view: None,
            watch: None,
            counts: Rc::default(),
            tls: None,
            look_at_ns: None,
            is_stopping: false,
        }
    }

    /// The same, and others of this process are told each new view.
    #[must_use]
    pub fn with_watch(mut self, watch: ViewWatch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The same, and nodes speak TLS with each other: who shows no node's certificate is not taken for one.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<ClientConfig>>) -> Self {
        self.tls = tls;
        self
    }

    fn node(&self, id: NodeId) -> Option<&NodeView> {
        let view = self.view.as_ref()?;
        let number = view.number_of(id)?;
        Some(view.node(number))
    }

    fn cluster(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.cluster)
    }

    /// Which shard of a node a lane leads to.
    fn target(&self, to: NodeId, lane: Lane) -> Option<Target> {
        match lane {
            Lane::Control => Some(Target::Control(to)),
            Lane::Shard(shard) => Some(Target::Shard(to, shard)),
            Lane::Token(token) => {
                let slices = self.view.as_ref()?.slices;
                let slices = slices.of_shards(self.node(to)?.shards)?;
                Some(Target::Shard(to, slices.shard_of(token)))
            }
        }
    }

    /// Puts a message on its way, or drops it.
    fn dispatch(&mut self, target: &Target, frame: &PeerFrame<'_>, port: &mut dyn Port) {
        let way = self.links.get(target).way();
        let way = way.or_else(|| self.open(target, port));
        let Some((id, checksum)) = way else {
            return self.unreachable(target, port);
        };
        let mut is_written = true;
        let wrote = self.reactor.write(id, UNSENT_BYTES_MAX, |out| {
            is_written = encode_peer(out, checksum, frame);
        });
        match wrote {
            Wrote::Done if is_written => Counts::count(&self.counts.sent),
            Wrote::Done => {
                tracing::error!(
                    ?target,
                    "an object is longer than a message may be; it is not replicated"
                );
                Counts::count(&self.counts.dropped_long);
            }
            Wrote::Full => Counts::count(&self.counts.dropped_full),
            Wrote::Gone => self.unreachable(target, port),
        }
    }

    fn unreachable(&self, target: &Target, port: &mut dyn Port) {
        Counts::count(&self.counts.dropped_unreachable);
        if let Some(node) = target.node() {
            port.peer_lost(node);
        }
    }

    /// Opens the way to a target, unless it rests or is not known.
    fn open(&mut self, target: &Target, port: &mut dyn Port) -> Option<(ConnectionId, bool)> {
        let now_ns = port.now().mono_ns;
        if self.is_stopping || self.links.get(target).is_resting(now_ns) {
            return None;
        }
        let address = self.address(target, port)?;
        let hello = PeerHello {
            versions: Versions::OWN,
            cluster: self.cluster(),
            from: port.node(),
            from_shard: port.shard(),
            to: target.node().unwrap_or_default(),
            lane: match target {
                Target::Shard(..) => PeerLane::Data,
                Target::Control(_) | Target::Address(_) => PeerLane::Control,
            },
        };
        let id = match self
            .reactor
            .connect(address, Box::new(Greeting), self.tls.as_ref())
        {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(%address, %error, "a connection to a peer cannot be opened");
                Counts::count(&self.counts.failed);
                self.links.entry(target.clone()).failed(now_ns);
                return None;
            }
        };
        let outgoing = Outgoing {
            id,
            opened_at_ns: now_ns,
            is_answered: false,
            checksum: !address.ip().is_loopback(),
        };
        let message = wire::Message::Peer(hello);
        self.reactor.write(id, UNSENT_BYTES_MAX, |out| {
            wire::encode(out, CONNECTION_ID, outgoing.checksum, &message);
        });
        self.links.entry(target.clone()).outgoing = Some(outgoing);
        let look_at_ns = now_ns + CONNECT_NS_MAX;
        self.look_at_ns = Some(
            self.look_at_ns
                .map_or(look_at_ns, |at_ns| at_ns.min(look_at_ns)),
        );
        Some((id, outgoing.checksum))
    }

    /// Where a target is reached.
    fn address(&mut self, target: &Target, port: &dyn Port) -> Option<SocketAddr> {
        let (place, shard) = self.place(target)?;
        let host = self.resolver.address(&place, port.now().mono_ns);
        place.shard(host?, shard)
    }

    fn place(&self, target: &Target) -> Option<(Place, u16)> {
        let control = Lane::CONTROL_SHARD.0;
        match target {
            Target::Shard(node, shard) => {
                let node = self.node(*node).filter(|node| shard.0 < node.shards)?;
                Some((Place::parse(&node.address)?, shard.0))
            }
            Target::Control(node) => Some((Place::parse(&self.node(*node)?.address)?, control)),
            Target::Address(address) => Some((Place::parse(address)?, control)),
        }
    }

    /// Decides about the connections that have said who they are.
    fn hear(&mut self, port: &mut dyn Port) {
        while let Some((id, said)) = self.reactor.take_said() {
            match said.downcast::<PeerHello>() {
                Ok(hello) => self.greeted(id, &hello, port),
                Err(said) => match said.downcast::<Answered>().map(|answered| *answered) {
                    Ok(Answered::Hello(hello)) => self.answered(id, &hello, port),
                    Ok(Answered::Refused(why)) => self.refused(id, &why),
                    Err(_) => self.reactor.end(id),
                },
            }
        }
    }

    /// Another node has opened a connection.
    fn greeted(&mut self, id: ConnectionId, hello: &PeerHello, port: &mut dyn Port) {
        let me = port.node();
        let why = if self.tls.is_some() && !self.reactor.is_with_node(id) {
            Some(format!(
                "its certificate does not bear the name `{NODE_NAME}`: it is a client's"
            ))
        } else if let Err(why) = Versions::OWN.spoken_with(hello.versions) {
            Some(why)
        } else if hello.from == me {
            Some(format!(
                "this node is {me} too; was its data directory copied? Give one of the two an empty one"
            ))
        } else if hello.to != NodeId::default() && hello.to != me {
            Some(format!("this is {me}, not {}", hello.to))
        } else {
            self.other_cluster(hello)
        };
        let checksum = self.crosses_machines(id);
        if let Some(why) = why {
            tracing::warn!(from = %hello.from, "a node is refused: {why}");
            Counts::count(&self.counts.refused);
            let problem = Problem {
                code: ErrorCode::BadRequest,
                effect: Effect::NotApplied,
                retry_after_ms: 0,
                message: &why,
                current: &[],
            };
            let message = wire::Message::Error(problem);
            self.reactor.write(id, UNSENT_BYTES_MAX, |out| {
                wire::encode(out, CONNECTION_ID, checksum, &message);
            });
            return self.reactor.end(id);
        }
        let answer = wire::Message::Peer(PeerHello {
            versions: Versions::OWN,
            cluster: self.cluster(),
            from: me,
            from_shard: port.shard(),
            to: hello.from,
            lane: hello.lane,
        });
        self.reactor.write(id, UNSENT_BYTES_MAX, |out| {
            wire::encode(out, CONNECTION_ID, checksum, &answer);
        });
        self.reactor.keep_alive(id);
        self.go_on(id, hello);
        let target = match hello.lane {
            PeerLane::Data => Target::Shard(hello.from, hello.from_shard),
            PeerLane::Control if port.shard() == Lane::CONTROL_SHARD => Target::Control(hello.from),
            // It came to the common port and was dealt to this shard: its messages are passed on.
            PeerLane::Control => return,
        };
        let former = self.links.entry(target).incoming.replace((id, checksum));
        if let Some((former, _)) = former {
            // The other side has opened a new one since that one does not serve it any more.
            self.reactor.close(former);
        }
    }

    /// A connection that this side opened was answered.
    fn answered(&mut self, id: ConnectionId, hello: &PeerHello, port: &mut dyn Port) {
        let Some(target) = self.links.target_of(id) else {
            return self.reactor.close(id);
        };
        let is_another = target.node().is_some_and(|node| node != hello.from);
        let why = if is_another || hello.from == port.node() {
            Some(format!("it is {}", hello.from))
        } else if let Err(why) = Versions::OWN.spoken_with(hello.versions) {
            Some(why)
        } else {
            self.other_cluster(hello)
        };
        if let Some(why) = why {
            return self.refused(id, &why);
        }
        self.links.answered(&target);
        if let Target::Address(_) = target {
            // Now that it is known which node it is, it serves what is sent to that node too.
            let outgoing = self.links.get(&target).outgoing;
            let control = self.links.entry(Target::Control(hello.from));
            control.encouraged();
            control.outgoing = control.outgoing.or(outgoing);
        }
        self.go_on(id, hello);
    }

    fn go_on(&mut self, id: ConnectionId, hello: &PeerHello) {
        Counts::count(&self.counts.opened);
        let session = PeerSession {
            from: Peer {
                node: hello.from,
                shard: hello.from_shard,
            },
            counts: Rc::clone(&self.counts),
            has_told: false,
        };
        self.reactor.resume(id, Box::new(session));
    }

    fn refused(&mut self, id: ConnectionId, why: &str) {
        let target = self.links.target_of(id);
        let peer = self.reactor.peer(id);
        tracing::warn!(?target, ?peer, "a peer does not answer as one: {why}");
        Counts::count(&self.counts.refused);
        self.reactor.close(id);
    }

    fn other_cluster(&self, hello: &PeerHello) -> Option<String> {
        let own = self.cluster();
        let is_other = own != 0 && hello.cluster != 0 && own != hello.cluster;
        is_other.then(|| {
            format!(
                "one node is of the cluster {own:016x}, the other of {:016x}",
                hello.cluster
            )
        })
    }

    fn crosses_machines(&self, id: ConnectionId) -> bool {
        let peer = self.reactor.peer(id);
        peer.is_none_or(|address| !address.ip().is_loopback())
    }

    /// Tells the shard whose connections are over.
    fn take_over(&mut self, port: &mut dyn Port) {
        let now_ns = port.now().mono_ns;
        while let Some(id) = self.reactor.take_over() {
            for (target, over) in self.links.over(id, now_ns) {
                if over == Over::Failed {
                    Counts::count(&self.counts.failed);
                    if let Some((place, _)) = self.place(&target) {
                        self.resolver.doubt(&place, now_ns);
                        port.wake_at(now_ns + LOOK_NS);
                    }
                }
                if let Some(node) = target.node() {
                    port.peer_lost(node);
                }
            }
        }
    }

    /// Gives up on connections that take too long.
    fn look(&mut self, port: &mut dyn Port) {
        let now_ns = port.now().mono_ns;
        if self.resolver.look(now_ns) {
            port.wake_at(now_ns + LOOK_NS);
        }
        let Some(at_ns) = self.look_at_ns else {
            return;
        };
        if now_ns < at_ns {
            return port.wake_at(at_ns);
        }
        self.look_at_ns = None;
        for outgoing in self.links.unanswered() {
            let allowed_ns = if self.reactor.is_connected(outgoing.id) {
                ANSWER_NS_MAX
            } else {
                CONNECT_NS_MAX
            };
            let until_ns = outgoing.opened_at_ns + allowed_ns;
            if now_ns >= until_ns {
                self.reactor.close(outgoing.id);
            } else {
                let next_ns = self
                    .look_at_ns
                    .map_or(until_ns, |at_ns| at_ns.min(until_ns));
                self.look_at_ns = Some(next_ns);
            }
        }
        if let Some(at_ns) = self.look_at_ns {
            port.wake_at(at_ns);
        }
    }
}

impl Edge for Network {
    fn start(&mut self, ring: &mut Ring, port: &mut dyn Port) -> std::io::Result<()> {
        self.reactor.start(ring, port)
    }

    fn completion(&mut self, completion: Completion, ring: &mut Ring, port: &mut dyn Port) {
        self.reactor.completion(completion, ring, port);
        self.hear(port);
    }

    fn message(&mut self, message: EdgeMessage, ring: &mut Ring, port: &mut dyn Port) {
        self.reactor.message(message, ring, port);
    }

    fn reply(&mut self, id: RequestId, outcome: &Outcome, bytes: &[u8], port: &mut dyn Port) {
        self.reactor.reply(id, outcome, bytes, port);
    }

    fn peer_send(&mut self, send: &PeerSend, bytes: &[u8], port: &mut dyn Port) {
        let Some(target) = self.target(send.to, send.lane) else {
            Counts::count(&self.counts.dropped_unreachable);
            return port.peer_lost(send.to);
        };
        let frame = PeerFrame {
            lane: send.lane,
            sent_ms: port.now().wall_ms,
            message: send.message.map(&|range| range.of(bytes)),
        };
        self.dispatch(&target, &frame, port);
    }

    fn gossip_send(&mut self, address: &str, bytes: &[u8], port: &mut dyn Port) {
        let known = self.view.as_ref().and_then(|view| {
            let node = view.nodes.iter().find(|node| node.address == address)?;
            Some((node.id, node.id == view.me))
        });
        let target = match known {
            Some((_, true)) => return,
            Some((node, false)) => Target::Control(node),
            None => Target::Address(address.to_owned()),
        };
        let frame = PeerFrame {
            lane: Lane::Control,
            sent_ms: port.now().wall_ms,
            message: Message::Gossip { bytes },
        };
        self.dispatch(&target, &frame, port);
    }

    fn view(&mut self, view: &Arc<RingView>, port: &mut dyn Port) {
        let former = self.view.replace(Arc::clone(view));
        if port.shard() == Lane::CONTROL_SHARD
            && let Some(watch) = &self.watch
        {
            watch(view);
        }
        let before = |id| {
            let view = former.as_ref()?;
            Some(view.node(view.number_of(id)?))
        };
        let now = |id| Some(view.node(view.number_of(id)?));
        // What leads to a node that seems dead, has gone or is elsewhere now would only swallow messages.
        let is_away = |id| match (before(id), now(id)) {
            (Some(before), Some(now)) => {
                before.is_alive && !now.is_alive || before.address != now.address
            }
            (before, now) => before.is_some() && now.is_none(),
        };
        for id in self.links.of_nodes(is_away) {
            self.reactor.close(id);
        }
        self.links.encourage(|id| {
            let was_alive = before(id).is_some_and(|node| node.is_alive);
            !was_alive && now(id).is_some_and(|node| node.is_alive)
        });
        for node in &view.nodes {
            // Names are looked up before they are needed.
            if node.id != view.me
                && let Some(place) = Place::parse(&node.address)
            {
                self.resolver.address(&place, port.now().mono_ns);
            }
        }
    }

    fn flush(&mut self, ring: &mut Ring, port: &mut dyn Port) {
        self.look(port);
        self.hear(port);
        self.reactor.flush(ring, port);
        self.take_over(port);
        self.counts.flush(&self.reactor.counters().peers);
    }

    fn stop(&mut self, ring: &mut Ring, port: &mut dyn Port) {
        self.is_stopping = true;
        self.reactor.stop(ring, port);
    }

    fn is_stopped(&self) -> bool {
        self.reactor.is_stopped()
    }
}
