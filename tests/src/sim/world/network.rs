//! Messages between the nodes: delayed, lost, doubled, cut off.

use std::sync::Arc;

use gramme_core::port::{Event, Lane, Peer, Send};

use super::{Action, World};

impl World {
    pub(super) fn deliver(&mut self, from: Peer, to: usize, send: Box<Send>, bytes: Arc<Vec<u8>>) {
        let sender = (from.node.0 - 1) as usize;
        if self.cut.contains(&(sender, to)) {
            return;
        }
        let node = &self.nodes[to];
        if !node.is_up {
            // Refused: the sender hears of it.
            let life = self.nodes[sender].life;
            let lost = node.id;
            let after_ns = self.random.delay_ns(self.swarm.net_delay_ns);
            return self.after(
                after_ns,
                Action::PeerLost {
                    to: sender,
                    life,
                    node: lost,
                },
            );
        }
        if node.is_paused {
            return self.held_back.entry(to).or_default().push(Action::Deliver {
                from,
                to,
                send,
                bytes,
            });
        }
        let shard = match send.lane {
            Lane::Token(token) => usize::from(node.slices().shard_of(token).0),
            Lane::Shard(shard) => usize::from(shard.0),
            Lane::Control => 0,
        };
        if shard >= node.shards.len() {
            return;
        }
        self.note_trace(1_000 + to as u64);
        let message = send.message.map(&|range| range.of(&bytes));
        self.step(to, shard, Event::Message { from, message });
    }

    pub(super) fn send(&mut self, from: Peer, send: Send, bytes: &Arc<Vec<u8>>) {
        let to = (send.to.0 - 1) as usize;
        if to >= self.nodes.len() {
            return;
        }
        if self.is_safety && self.random.happens(self.swarm.loss) {
            return;
        }
        let copies = if self.is_safety && self.random.happens(self.swarm.doubled) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let after_ns = self.random.delay_ns(self.swarm.net_delay_ns);
            let action = Action::Deliver {
                from,
                to,
                send: Box::new(send),
                bytes: Arc::clone(bytes),
            };
            self.after(after_ns, action);
        }
    }
}
