//! Everything that an event is handled with, by those who stand on the replica.

use crate::base::ids::NodeId;
use crate::base::time::Now;
use crate::port::{
    ByteRange, Durability, Effects, Event, KeyName, Lane, Message, Op, Peer, Quorum, Request,
    RequestId, Send,
};
use crate::replica::Replica;
use crate::ring::RingView;

/// One event's surroundings.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) view: &'a RingView,
    pub(crate) replica: &'a mut Replica,
    pub(crate) effects: &'a mut Effects,
}

impl Turn<'_> {
    /// Sends a message to another node.
    pub(crate) fn send(&mut self, to: NodeId, lane: Lane, message: Message<ByteRange>) {
        self.effects.sends.push(Send { to, lane, message });
    }

    /// Answers a peer's shard.
    pub(crate) fn answer_peer(&mut self, peer: Peer, message: Message<ByteRange>) {
        self.send(peer.node, Lane::Shard(peer.shard), message);
    }

    /// Hands a request to this shard's own replica.
    pub(crate) fn ask_replica(&mut self, request: Request<'_>) {
        self.replica
            .step(self.now, Event::Request(request), self.effects);
    }

    /// Asks this shard's own replica something of the shard's own about a key; the answer comes back by the id.
    pub(crate) fn ask_own(
        &mut self,
        id: RequestId,
        key: KeyName<&[u8]>,
        durability: Durability,
        op: Op<'_>,
    ) {
        self.ask_replica(Request {
            id,
            deadline_ns: None,
            bucket: key.bucket,
            key: key.key,
            token: key.token,
            durability: Some(durability),
            quorum: Quorum::default(),
            wants_object: false,
            is_forwarded: true,
            op,
        });
    }
}
