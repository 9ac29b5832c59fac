//! Reads that might be: what each node would be shown if it read now, whichever replicas answered it first.
//!
//! Clients meet few of the moments at which a read could miss a write; this looks at them all, without a message.

use std::collections::BTreeSet;

use gramme_core::base::hash;
use gramme_core::base::ids::Token;
use gramme_core::port::{Op, Outcome, Quorum, Request, RequestId};
use gramme_core::version::ObjectView;

use super::World;
use crate::sim::client::{is_cart, key_name, number_of};
use crate::sim::history::WriteNumber;
use crate::sim::membership::place_of;

/// Violations kept: one says it all.
const MISSED_MAX: usize = 10;

impl World {
    /// With R + W > N each of R replicas, whichever answer, together show what was acknowledged and no writer has seen yet.
    pub(super) fn look_at_reads(&mut self) {
        if self.reads_missed.len() >= MISSED_MAX {
            return;
        }
        for key in (0..self.swarm.keys).filter(|key| is_cart(*key)) {
            let unseen: Vec<WriteNumber> = self.history.unseen(key).collect();
            if !unseen.is_empty() {
                self.look_at_key(key, &unseen);
            }
        }
    }

    fn look_at_key(&mut self, key: usize, unseen: &[WriteNumber]) {
        let name = key_name(key);
        let token = hash::token(b"default", &name);
        let shown: Vec<Option<BTreeSet<WriteNumber>>> = (0..self.nodes.len())
            .map(|node| {
                self.is_reader(node, token)
                    .then(|| self.shown_by(node, &name))
            })
            .map(Option::flatten)
            .collect();
        for via in 0..self.nodes.len() {
            let (Some(own), Some(view)) = (&shown[via], &self.nodes[via].membership.view) else {
                continue;
            };
            let Some(row) = view.of_token(token) else {
                continue;
            };
            let places = row
                .read
                .iter()
                .map(|number| place_of(view.node(*number).id));
            let others: Vec<&BTreeSet<WriteNumber>> = places
                .filter(|place| *place != via)
                .filter_map(|place| shown.get(place)?.as_ref())
                .collect();
            let needed = usize::from(self.swarm.r).min(row.read.len());
            for number in unseen.iter().filter(|number| !own.contains(number)) {
                // As many others as may answer instead of one that has it.
                let lacking = others.iter().filter(|other| !other.contains(number));
                if lacking.count() + 1 >= needed {
                    let what = format!(
                        "key {key} at {:.3} ms: w{number} was acknowledged, and a read by node {via} (epoch {}) may miss it: {shown:?}",
                        self.now_ns as f64 / 1e6,
                        view.epoch
                    );
                    self.reads_missed.push(what);
                    return;
                }
            }
        }
    }

    /// Whether a node would answer a read of a token now, by its own view.
    fn is_reader(&self, node: usize, token: Token) -> bool {
        let own = &self.nodes[node];
        own.is_up && !own.is_paused && self.holds(node, token)
    }

    /// What a replica has of a key; none where it does not say so at once.
    pub(super) fn shown_by(&mut self, node: usize, name: &[u8]) -> Option<BTreeSet<WriteNumber>> {
        self.sequence += 1;
        let id = RequestId((1 << 55) | self.sequence);
        let now = self.nodes[node].now(self.now_ns);
        let request = Request {
            id,
            deadline_ns: Some(now.mono_ns + 1_000_000),
            bucket: b"default",
            key: name,
            token: hash::token(b"default", name),
            durability: None,
            quorum: Quorum::default(),
            wants_object: false,
            is_forwarded: false,
            op: Op::Fetch { wants_object: true },
        };
        self.request(node, request);
        let (outcome, bytes) = self.answers.remove(&id.0)?;
        let Outcome::Held(held) = outcome else {
            return None;
        };
        let Some(object) = held.object else {
            return Some(BTreeSet::new());
        };
        let view = ObjectView::parse(object.of(&bytes)).ok()?;
        let values = view.live(now.wall_ms);
        let values = values.filter_map(|sibling| sibling.content.value());
        Some(values.filter_map(number_of).collect())
    }
}
