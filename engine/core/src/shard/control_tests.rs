//! What a node with several shards says of its disk: the worst of what they have.

use serde_json::{Value, json};

use crate::base::hash;
use crate::base::ids::NodeId;
use crate::base::time::Now;
use crate::cluster::Boot;
use crate::coordinate::bench_tests::put_op;
use crate::port::{Effects, Event, Op, Outcome, Quorum, Request, RequestId};
use crate::shard::bench_tests::{Core, DiskIs, Outside, config, slices};

const SHARDS: usize = 2;

/// One node that is a whole cluster.
struct Node {
    shards: Vec<Core>,
    now: Now,
    next_id: u64,
    answer: Option<Vec<u8>>,
}

impl Node {
    fn start() -> Self {
        let now = Now {
            mono_ns: 1,
            wall_ms: 1_700_000_000_000,
        };
        let open = |shard| {
            let mut core = Core::new(config(NodeId(1), shard, SHARDS), now);
            core.shard.await_view();
            core
        };
        let mut node = Self {
            shards: (0..SHARDS).map(open).collect(),
            now,
            next_id: 0,
            answer: None,
        };
        let boot = Boot {
            me: NodeId(1),
            name: "node-1".into(),
            zone: "z".into(),
            listen: "127.0.0.1:1".into(),
            resp: String::new(),
            admin: String::new(),
            slices: slices(SHARDS),
            weight: 1,
            start_count: 1,
            state: None,
            seeds: Vec::new(),
            buckets: Vec::new(),
            clock_drift_ms_max: 500,
            random_seed: 1,
        };
        let mut effects = Effects::default();
        let first = &mut node.shards[0];
        let control = first.shard.take_control(boot, now, &mut effects);
        control.expect("it boots");
        let mut outside = Outside::default();
        first.carry_out(now, effects, &mut outside);
        node.take(outside);
        node.run(3_000);
        node
    }

    fn step(&mut self, shard: usize, event: Event<'_>) {
        let mut outside = Outside::default();
        self.shards[shard].step(self.now, event, &mut outside);
        self.take(outside);
    }

    fn take(&mut self, outside: Outside) {
        for (_, outcome, bytes) in outside.replies {
            if let Outcome::Cluster(answer) = outcome {
                self.answer = Some(answer.of(&bytes).to_vec());
            }
        }
        for (to, note) in outside.notes {
            self.step(usize::from(to.0), Event::Note(note));
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.now.mono_ns += 5_000_000;
            self.now.wall_ms += 5;
            for shard in 0..self.shards.len() {
                let due = self.shards[shard].shard.next_deadline_ns();
                if due.is_some_and(|at_ns| at_ns <= self.now.mono_ns) {
                    self.step(shard, Event::Tick);
                }
                self.step(shard, Event::TurnEnd);
            }
        }
    }

    fn ask(&mut self, shard: usize, key: &[u8], op: Op<'_>) {
        self.next_id += 1;
        let request = Request {
            id: RequestId(self.next_id),
            deadline_ns: None,
            bucket: b"default",
            key,
            token: hash::token(b"default", key),
            durability: None,
            quorum: Quorum::default(),
            wants_object: false,
            is_forwarded: false,
            op,
        };
        self.step(shard, Event::Request(request));
    }

    /// Puts so many values into a shard.
    fn fill(&mut self, shard: usize, values: usize) {
        let slices = slices(SHARDS);
        let is_its = |key: &u32| {
            usize::from(
                slices
                    .shard_of(hash::token(b"default", &key.to_le_bytes()))
                    .0,
            )
        };
        let keys = (0u32..).filter(|key| is_its(key) == shard);
        for key in keys.take(values) {
            self.ask(shard, &key.to_le_bytes(), put_op(b"", &[7; 10_000]));
            self.run(5);
        }
    }

    fn status(&mut self) -> Value {
        let command = json!({ "command": "status" }).to_string();
        let command = command.as_bytes();
        self.ask(0, b"", Op::Cluster { command });
        let answer = self.answer.take().expect("an answer");
        serde_json::from_slice(&answer).expect("JSON")
    }
}

#[test]
fn a_node_takes_no_writes_where_one_of_its_shards_takes_none() {
    for broken in 0..SHARDS {
        let mut node = Node::start();
        node.fill(broken, 3);
        let status = node.status();
        assert!(
            !status["warnings"].to_string().contains("takes no writes"),
            "{status}"
        );
        node.shards[broken].disk_is = DiskIs::Broken;
        node.fill(broken, 3);
        node.run(5_000);
        let status = node.status();
        assert!(
            status["warnings"].to_string().contains("takes no writes"),
            "shard {broken}: {status}"
        );
    }
}

#[test]
fn a_node_is_as_full_as_its_fullest_shard() {
    for full in 0..SHARDS {
        let mut node = Node::start();
        node.fill(full, 100);
        node.run(3_000);
        let status = node.status();
        let own = &status["members"][0];
        let live_bytes = own["live_bytes"].as_u64().expect("a number");
        assert!(
            (2_000_000..2_300_000).contains(&live_bytes),
            "shard {full}: {own}"
        );
        assert_eq!(own["capacity_bytes"], json!(128 << 20));
    }
}
