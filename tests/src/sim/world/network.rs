//! Messages between the nodes, as the very frames that real nodes send: delayed, lost, doubled, cut off, changed on the way.

use std::sync::Arc;

use gramme::wire::peer::{PeerFrame, PeerParse, encode_peer, parse_peer};
use gramme_core::base::ids::NodeId;
use gramme_core::port::{Event, Lane, Message, Peer, Send};

use super::{Action, Frame, World};
use crate::sim::membership::place_of;

impl World {
    pub(super) fn deliver(&mut self, from: Peer, to: usize, frame: Frame) {
        let sender = place_of(from.node);
        if self.cut.contains(&(sender, to)) {
            return;
        }
        if let Some(held) = self.clogged.get_mut(&(sender, to)) {
            return held.push(Action::Deliver { from, to, frame });
        }
        let node = &self.nodes[to];
        let is_wanted = frame.wanted.is_none_or(|wanted| wanted == node.id);
        if !node.is_up || !is_wanted {
            // Refused: the sender hears of it.
            return self.connection_ends(sender, frame.wanted);
        }
        if node.is_paused {
            let held_back = self.held_back.entry(to).or_default();
            return held_back.push(Action::Deliver { from, to, frame });
        }
        let read = match parse_peer(&frame.bytes) {
            PeerParse::Done { frame, .. } => frame,
            // Where a changed length got past the header's check the connection would wait for the rest, which never comes.
            PeerParse::NeedMore(_) => return,
            PeerParse::Bad(_) => return self.connection_ends(sender, frame.wanted),
            PeerParse::Unknown { .. } => return self.taken("as one of a kind to come", &frame),
        };
        let shard = match read.lane {
            Lane::Token(token) => usize::from(node.slices().shard_of(token).0),
            Lane::Shard(shard) => usize::from(shard.0),
            Lane::Control => 0,
        };
        if shard >= node.shards.len() {
            return;
        }
        if read.lane == Lane::Control && self.now_ns < node.uninformed_until_ns {
            return;
        }
        self.note_trace(1_000 + to as u64);
        let message = read.message;
        self.step(to, shard, Event::Message { from, message });
        self.taken("whole", &frame);
    }

    /// A frame was read so; no frame that was changed may be.
    fn taken(&mut self, how: &str, frame: &Frame) {
        if frame.is_changed {
            let bytes = frame.bytes.len();
            self.frames_taken
                .push(format!("a changed frame of {bytes} bytes was taken {how}"));
        }
    }

    /// The sender hears that its connection is no more.
    fn connection_ends(&mut self, sender: usize, wanted: Option<NodeId>) {
        let Some(node) = wanted else { return };
        let life = self.nodes[sender].life;
        let after_ns = self.random.delay_ns(self.swarm.net_delay_ns);
        let to = sender;
        self.after(after_ns, Action::PeerLost { to, life, node });
    }

    pub(super) fn send(&mut self, from: Peer, send: &Send, bytes: &[u8]) {
        let to = place_of(send.to);
        if to >= self.nodes.len() {
            return;
        }
        let message = send.message.map(&|range| range.of(bytes));
        self.dispatch((from, send.lane), (to, Some(send.to)), message);
    }

    /// Gossip for whoever is at an address.
    pub(super) fn hail(&mut self, node: usize, to: usize, bytes: &[u8]) {
        let from = Peer {
            node: self.nodes[node].id,
            shard: Lane::CONTROL_SHARD,
        };
        self.dispatch((from, Lane::Control), (to, None), Message::Gossip { bytes });
    }

    fn dispatch(
        &mut self,
        (from, lane): (Peer, Lane),
        (to, wanted): (usize, Option<NodeId>),
        message: Message<&[u8]>,
    ) {
        if self.is_safety && self.random.happens(self.swarm.loss) {
            return;
        }
        let is_doubled = self.is_safety && self.random.happens(self.swarm.doubled);
        let copies = if is_doubled { 2 } else { 1 };
        let sender = &self.nodes[place_of(from.node)];
        let content = PeerFrame {
            lane,
            sent_ms: sender.now(self.now_ns).wall_ms,
            message,
        };
        let mut bytes = Vec::new();
        assert!(
            encode_peer(&mut bytes, true, &content),
            "no message of a simulated node is too long for a frame"
        );
        let whole = Frame {
            bytes: Arc::new(bytes),
            wanted,
            is_changed: false,
        };
        for _ in 0..copies {
            let after_ns = self.random.delay_ns(self.swarm.net_delay_ns);
            let frame = if self.is_safety && self.random.happens_if(self.swarm.flips) {
                self.changed(&whole)
            } else {
                whole.clone()
            };
            self.after(after_ns, Action::Deliver { from, to, frame });
        }
    }

    /// The frame with one bit changed.
    fn changed(&mut self, whole: &Frame) -> Frame {
        let mut bytes = whole.bytes.to_vec();
        let at = self.random.index(bytes.len());
        let bit = self.random.below(8);
        bytes[at] ^= 1 << bit;
        Frame {
            bytes: Arc::new(bytes),
            is_changed: true,
            ..*whole
        }
    }
}
