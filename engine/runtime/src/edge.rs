//! What a source of requests is to a shard's loop.
//!
//! One edge (the network) may be plugged into each shard's executor. It shares the shard's ring, hands requests to the
//! [`Port`], and gets the answers back by the ids that it chose. It runs on the shard's thread only.

use std::any::Any;
use std::sync::Arc;

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::port::{Foreseen, Message, Outcome, Peer, Request, RequestId};
use gramme_core::ring::{RingView, Slices};
use gramme_core::shard::ShardStatus;

use crate::ring::{Completion, Ring};

/// A message from one shard's edge to another's (an accepted connection that is dealt out, say).
pub type EdgeMessage = Box<dyn Any + Send>;

/// A message of this shard on its way to another node.
pub use gramme_core::port::Send as PeerSend;

/// The shard as its edge sees it.
pub trait Port {
    /// The time of this turn.
    fn now(&self) -> Now;
    /// The wall clock by which what clients say of time is reckoned, and what has expired: the cluster's where this node's own
    /// is wrong.
    fn clients_ms(&self) -> u64 {
        self.now().wall_ms
    }
    /// This node.
    fn node(&self) -> NodeId;
    /// This shard.
    fn shard(&self) -> ShardIndex;
    /// The cut of the token space; who owns what.
    fn slices(&self) -> Slices;
    /// Says that requests for these keys are about to be handed in, so that what they need is on its way from memory.
    fn foresee(&self, keys: &[Foreseen]) {
        let _ = keys;
    }
    /// Hands in a request, whichever shard owns its key: the bytes are copied where they cross cores. The answer comes
    /// to [`Edge::reply`] with the request's id: never inside this call, in order for requests of one shard that need
    /// no disk, else in any order. Ids have 56 bits.
    fn submit(&mut self, request: Request<'_>);
    /// Hands a request without a key (`Scan`, `Count`) to one shard.
    fn submit_to(&mut self, shard: ShardIndex, request: Request<'_>);
    /// Sends a message to the edge of another shard (or this one); it arrives at [`Edge::message`].
    fn send(&mut self, shard: ShardIndex, message: EdgeMessage);
    /// Hands in a message of another node for one of this node's shards: the bytes are copied where they cross cores. As
    /// any message it may be lost, when the shard is far behind.
    fn peer_message(&mut self, to: ShardIndex, from: Peer, message: Message<&[u8]>);
    /// Tells this shard, once a turn, that what it asked of a node may never be answered.
    fn peer_lost(&mut self, node: NodeId);
    /// Counters of this shard.
    fn status(&self) -> ShardStatus;
    /// Asks for a call of [`Edge::flush`] at this time at the latest, on the clock of `Now::mono_ns`. Every flush may be
    /// the one that was asked for: who has a later time in mind asks again.
    fn wake_at(&mut self, mono_ns: u64);
}

/// A source of requests.
pub trait Edge {
    /// Called once on the shard's thread, before the first turn.
    ///
    /// # Errors
    /// What makes the shard unable to serve (a port in use …); the engine's start fails with it.
    fn start(&mut self, ring: &mut Ring, port: &mut dyn Port) -> std::io::Result<()>;
    /// One of its operations on the ring has finished.
    fn completion(&mut self, completion: Completion, ring: &mut Ring, port: &mut dyn Port);
    /// A message from another shard's edge, or from outside (`Engine::send_to_edge`).
    fn message(&mut self, message: EdgeMessage, ring: &mut Ring, port: &mut dyn Port);
    /// An answer. `bytes` is what the outcome's ranges refer to.
    fn reply(&mut self, id: RequestId, outcome: &Outcome, bytes: &[u8], port: &mut dyn Port);
    /// The shard has something for another node; `bytes` is what the message's ranges refer to. It may be dropped. An
    /// edge that reaches no other nodes leaves this and the next two as they are.
    fn peer_send(&mut self, send: &PeerSend, bytes: &[u8], port: &mut dyn Port) {
        let _ = (send, bytes, port);
    }
    /// The control shard has gossip for a node of which only the address (`HOST:PORT`) is known. It may be dropped.
    fn gossip_send(&mut self, address: &str, bytes: &[u8], port: &mut dyn Port) {
        let _ = (address, bytes, port);
    }
    /// What the shard knows of its cluster has changed.
    fn view(&mut self, view: &Arc<RingView>, port: &mut dyn Port) {
        let _ = (view, port);
    }
    /// The end of a turn: everything that was ready has been handled, submit what has gathered.
    fn flush(&mut self, ring: &mut Ring, port: &mut dyn Port);
    /// The node stops: take no more, end what is open. Called once; completions still come.
    fn stop(&mut self, ring: &mut Ring, port: &mut dyn Port);
    /// Whether, after `stop`, all its operations have ended.
    fn is_stopped(&self) -> bool;
}
