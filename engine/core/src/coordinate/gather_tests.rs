//! Counts and walks: they cover the keys of all nodes, wherever those are, and where they go meanwhile.

use std::collections::BTreeMap;

use crate::coordinate::bench_tests::Net;
use crate::port::{Op, Outcome, listed};
use crate::ring::PartitionView;

const KEYS: u8 = 100;

/// Keys, written through all nodes.
fn fill(net: &mut Net) {
    let nodes = net.nodes();
    for k in 0..KEYS {
        net.put(usize::from(k) % nodes, &[k], b"", b"v");
    }
    net.run(10);
}

/// One walk through all shards of a node, some entries at a time: each key, and how often it was seen.
fn walk(net: &mut Net, node: usize, mut meanwhile: impl FnMut(&mut Net)) -> BTreeMap<u8, u32> {
    let mut seen = BTreeMap::new();
    for shard in 0..net.shards(node) {
        let name = (0..=u8::MAX)
            .map(|k| [k])
            .find(|name| net.shard_of_key(node, name) == shard)
            .expect("a key that goes to this shard");
        let mut cursor = 0;
        for call in 0.. {
            assert!(call < 1000, "a walk ends");
            let (outcome, bytes) = net.ask(node, &name, Op::Scan { cursor, count: 3 });
            let Outcome::Keys { next_cursor, keys } = outcome else {
                panic!("{outcome:?}");
            };
            for key in listed(keys.of(&bytes)) {
                *seen.entry(key.expect("a key")[0]).or_insert(0) += 1;
            }
            if next_cursor == 0 {
                break;
            }
            assert!(next_cursor > cursor, "the cursor goes on");
            cursor = next_cursor;
            meanwhile(net);
        }
    }
    seen
}

/// Three read, and the fourth is written to as well.
fn read_by(readers: [u16; 3], other: u16) -> PartitionView {
    let [first, second, third] = readers;
    PartitionView {
        read: Box::new(readers),
        write: Box::new([first, second, third, other]),
        ..PartitionView::default()
    }
}

#[test]
fn a_count_and_a_walk_cover_the_keys_of_all_nodes() {
    let mut net = Net::new(4, 3);
    fill(&mut net);
    for node in 0..4 {
        let (outcome, _) = net.ask(node, b"", Op::Count);
        assert!(
            matches!(outcome, Outcome::Count(n) if n == u64::from(KEYS)),
            "{outcome:?}"
        );
        let seen = walk(&mut net, node, |_| ());
        assert_eq!(seen.len(), usize::from(KEYS), "node {node}");
    }
}

#[test]
fn a_walk_covers_nodes_of_other_numbers_of_shards() {
    for shards in [[2, 2, 2, 1], [1, 1, 1, 3], [3, 2, 1, 2]] {
        let mut net = Net::with_shards(&shards, 3);
        fill(&mut net);
        let seen = walk(&mut net, 3, |_| ());
        assert_eq!(seen.len(), usize::from(KEYS), "{shards:?}");
    }
}

#[test]
fn a_walk_sees_what_is_there_throughout_though_its_partitions_move() {
    // All have everything; who reads what changes once, at any moment of the walk.
    for at in 0..40 {
        let mut net = Net::new(4, 4);
        net.pending.extend([0, 3]);
        net.row = read_by([0, 1, 2], 3);
        net.publish();
        fill(&mut net);
        let deal = |net: &mut Net, own: usize| {
            let (here, elsewhere) = (read_by([0, 1, 2], 3), read_by([1, 2, 3], 0));
            net.rows = (0..16)
                .map(|partition| {
                    let is_own = partition % 2 == own;
                    (partition, if is_own { &here } else { &elsewhere }.clone())
                })
                .collect();
            net.publish();
        };
        deal(&mut net, 1);
        let mut calls = 0;
        let seen = walk(&mut net, 0, |net| {
            calls += 1;
            if calls == at {
                deal(net, 0);
            }
        });
        assert_eq!(seen.len(), usize::from(KEYS), "after {at} calls");
        let twice = seen.values().filter(|times| **times > 1).count();
        assert_eq!(twice, 0, "the rows changed, not the order");
    }
}

#[test]
fn a_walk_that_comes_to_a_node_which_has_let_go_is_not_told_that_nothing_is_there() {
    let mut net = Net::new(4, 4);
    fill(&mut net);
    // By their own views nodes 1 to 3 read nothing; node 0 still thinks that they do.
    net.row = read_by([1, 2, 3], 0);
    net.publish();
    for node in 1..4 {
        net.tell(node, PartitionView::default());
    }
    let (outcome, _) = net.ask(
        0,
        b"",
        Op::Scan {
            cursor: 0,
            count: 3,
        },
    );
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
}
