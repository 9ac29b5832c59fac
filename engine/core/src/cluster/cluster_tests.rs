//! Goal: clusters come to know the same, find out who is away, and refuse what must not serve.
//! Method: machines on a network in memory and on virtual time.

use proptest::prelude::*;
use serde_json::json;

use super::network_tests::{MS, Network, serves_nothing};
use crate::ring::RingView;

#[test]
fn a_new_directory_without_seeds_is_alone_and_sleeps() {
    let mut network = Network::new(64, 1);
    network.add(0);
    network.start(0);
    assert!(network.view(0).is_alone());
    assert_eq!(network.view(0).buckets[0].n, 1, "bounded by what is there");
    network.run_ms(1_000);
    let machine = network.nodes[0].machine.as_ref().expect("runs");
    assert_eq!(machine.next_deadline_ns(), None);
    assert_eq!(network.nodes[0].sent, 0);
}

#[test]
fn a_silent_node_is_away_within_two_seconds_and_back_within_one() {
    let mut network = Network::cluster(5, 64, 3);
    network.unplug(2);
    let away_ms = network.run_until("away", 3_000, |network| network.all_think(2, false));
    assert!(away_ms <= 2_500, "{away_ms} ms");
    network.run_ms(5_000);
    assert!(network.all_think(2, false));
    network.start(2);
    let back_ms = network.run_until("back", 1_000, |network| network.all_think(2, true));
    network.run_until("settled", 2_000, Network::is_settled);
    network.run_ms(5_000);
    assert!(
        network.all_think(2, true),
        "back after {back_ms} ms, and stays"
    );
}

#[test]
fn a_broken_connection_is_asked_about_at_once() {
    let mut network = Network::cluster(5, 64, 4);
    network.kill(2);
    let away_ms = network.run_until("away", 1_000, |network| network.all_think(2, false));
    assert!(away_ms <= 500, "{away_ms} ms");
    // A node that answers is not away, whatever happened to a connection.
    let id = network.nodes[3].id;
    network.with(0, |machine, now, out| machine.peer_lost(now, id, out));
    for _ in 0..20 {
        network.run_ms(50);
        assert!(network.all_think(3, true));
    }
}

#[test]
fn a_healthy_cluster_suspects_nobody() {
    let mut network = Network::cluster(7, 64, 5);
    for _ in 0..300 {
        network.run_ms(100);
        for node in 0..7 {
            assert!(
                network.all_think(node, true),
                "{node} at {}",
                network.now_ns
            );
        }
    }
}

#[test]
fn the_rules_of_a_bucket_reach_everyone_while_all_runs() {
    let mut network = Network::cluster(4, 64, 6);
    let wrong = network.command(
        1,
        json!({ "command": "buckets", "set": { "name": "b", "n": 1, "r": 2 } }),
    );
    assert_eq!(wrong["is_usage"], true, "{wrong}");
    let set = json!({ "name": "carts", "n": 3, "r": 1, "w": 3, "durability": "all", "conflict": "lww", "ttl_ms": 5 });
    network.command(1, json!({ "command": "buckets", "set": set }));
    network.run_until("known to all", 1_500, |network| {
        network.views().all(|view| {
            view.bucket(b"carts")
                .is_some_and(|rules| (rules.r, rules.w, rules.ttl_ms) == (1, 3, Some(5)))
        })
    });
    // One field alone, at another node; the rest stays.
    network.command(
        3,
        json!({ "command": "buckets", "set": { "name": "carts", "w": 2 } }),
    );
    network.run_until("known to all", 1_500, |network| {
        network.views().all(|view| {
            view.bucket(b"carts")
                .is_some_and(|rules| (rules.r, rules.w) == (1, 2))
        })
    });
}

#[test]
fn a_clock_too_far_ahead_is_refused_and_reported() {
    let mut network = Network::cluster(4, 64, 16);
    network.nodes[3].ahead_ms = 10_000;
    network.command(
        3,
        json!({ "command": "buckets", "set": { "name": "future" } }),
    );
    network.run_ms(3_000);
    for node in 0..3 {
        assert!(network.view(node).bucket(b"future").is_none());
        let status = network.command(node, json!({ "command": "status" }));
        assert!(
            status["reports"]
                .to_string()
                .contains("is more than 500 ms ahead"),
            "{status}"
        );
    }
    assert!(network.all_think(3, true), "a wrong clock is not death");
    network.nodes[3].ahead_ms = 0;
    network.run_until("taken", 3_000, |network| {
        network.views().all(|view| view.bucket(b"future").is_some())
    });
}

#[test]
fn a_node_whose_clock_is_ahead_steps_aside_until_it_is_right() {
    for starts_anew in [false, true] {
        let mut network = Network::cluster(3, 64, 27);
        let reads = |view: &RingView| {
            let me = view.my_number().expect("a member");
            let rows = view.partitions.iter();
            rows.filter(|row| row.read.contains(&me)).count()
        };
        assert_eq!(reads(network.view(2)), 64);
        if starts_anew {
            network.kill(2);
            network.run_ms(3_000);
            network.nodes[2].ahead_ms = 3_600_000;
            network.start(2);
        } else {
            network.nodes[2].ahead_ms = 3_600_000;
        }
        network.run_ms(2_000);
        let view = network.view(2);
        assert_eq!(reads(view), 0, "others serve");
        assert!(!serves_nothing(view));
        let me = view.my_number().expect("a member");
        assert!(view.partitions.iter().all(|row| row.write.contains(&me)));
        let status = network.command(2, json!({ "command": "status" }));
        assert!(
            status["standing"]
                .to_string()
                .contains("s ahead of the others"),
            "{status}"
        );
        for node in 0..2 {
            assert_eq!(reads(network.view(node)), 64, "{node} is right");
        }
        // It goes on for as long as it is wrong, and nothing that it says has a time from the future.
        network.run_ms(20_000);
        assert_eq!(reads(network.view(2)), 0);
        network.nodes[2].ahead_ms = 0;
        network.run_until("its part again", 5_000, |network| {
            reads(network.view(2)) == 64 && network.is_settled()
        });
    }
}

#[test]
fn a_node_of_another_cluster_changes_nothing() {
    let mut network = Network::cluster(3, 64, 17);
    network.add(3);
    network.start_with(3, Vec::new());
    let other = network.nodes[3].address.clone();
    let answer = network.command(0, json!({ "command": "join", "node": other }));
    assert!(answer["error"].is_string());
    network.run_ms(1_000);
    assert!(network.view(3).is_alone());
    let status = network.command(0, json!({ "command": "status" }));
    assert!(
        status["reports"].to_string().contains("of another cluster"),
        "{status}"
    );
}

#[test]
fn a_cluster_of_many_agrees_in_seconds_and_costs_each_the_same_as_a_small_one() {
    let nodes: usize = std::env::var("GRAMME_NODES")
        .ok()
        .and_then(|nodes| nodes.parse().ok())
        .unwrap_or(if cfg!(debug_assertions) { 40 } else { 200 });
    let steady = |network: &mut Network| {
        network.run_ms(2_000);
        for node in &mut network.nodes {
            (node.sent, node.sent_bytes) = (0, 0);
        }
        network.run_ms(4_000);
        let count = network.nodes.len() as u64;
        let sent: u64 = network.nodes.iter().map(|node| node.sent).sum();
        let bytes: u64 = network.nodes.iter().map(|node| node.sent_bytes).sum();
        (sent / count / 4, bytes / count / 4)
    };
    let mut small = Network::cluster(5, 64, 20);
    let small_cost = steady(&mut small);

    let begun_ns = 1_000 * MS;
    let mut network = Network::cluster(nodes, 64, 21);
    let formed_ms = (network.now_ns - begun_ns) / MS;
    assert!(formed_ms < 10_000, "{formed_ms} ms");
    network.command(
        nodes / 2,
        json!({ "command": "buckets", "set": { "name": "news" } }),
    );
    let spread_ms = network.run_until("news reach all", 4_000, |network| {
        network.views().all(|view| view.bucket(b"news").is_some())
    });
    let cost = steady(&mut network);
    eprintln!(
        "{nodes} nodes: formed in {formed_ms} ms, news in {spread_ms} ms; messages and bytes a second and node: \
         {cost:?}, with 5 nodes {small_cost:?}"
    );
    assert!(
        cost.0 <= small_cost.0 * 2 + 5,
        "messages: {cost:?}, {small_cost:?}"
    );
    assert!(
        cost.1 <= small_cost.1 * 2 + 1_000,
        "bytes: {cost:?}, {small_cost:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_agree_whatever_splits_and_commands_came_before(
        seed in any::<u64>(),
        acts in prop::collection::vec((0usize..5, 0u8..9, 0u64..900), 1..10),
    ) {
        let mut network = Network::cluster(5, 16, seed);
        for (node, act, pause_ms) in acts {
            let name = format!("node-{}", (node + 1) % 5);
            match act {
                0 => network.side = (0..5).map(|at| (at, u8::from(at <= node))).collect(),
                1 => network.side.clear(),
                2 => { network.command(node, json!({ "command": "leave", "node": name })); }
                3 => { network.command(node, json!({ "command": "join", "node": name })); }
                4 | 5 => {
                    network.command(node, json!({ "command": "plan" }));
                    network.command(node, json!({ "command": "commit" }));
                }
                6 => { network.command(node, json!({ "command": "abort" })); }
                7 => { network.kill(node); }
                _ => { network.command(node, json!({ "command": "buckets", "set": { "name": name, "n": 2, "r": 1, "w": 1 } })); }
            }
            network.run_ms(pause_ms);
            for node in 0..5 {
                if network.nodes[node].machine.is_none() && pause_ms > 400 {
                    network.start(node);
                }
            }
        }
        network.side.clear();
        for node in 0..5 {
            if network.nodes[node].machine.is_none() {
                network.start(node);
            }
        }
        network.run_ms(3_000);
        network.run_until("agreed", 6_000, Network::is_agreed);
        let buckets: std::collections::BTreeSet<_> = network
            .views()
            .map(|view| format!("{:?}", view.buckets))
            .collect();
        prop_assert_eq!(buckets.len(), 1);
        for node in 0..5 {
            prop_assert!(network.all_think(node, true), "{}", node);
        }
    }

    #[test]
    fn garbage_never_panics_and_changes_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        from in any::<u64>(),
    ) {
        let mut network = Network::new(16, 1);
        network.add(0);
        network.start(0);
        network.with(0, |machine, now, out| {
            machine.message(now, crate::base::ids::NodeId(from), &bytes, out);
            machine.command(now, crate::port::RequestId(1), &bytes, out);
        });
        prop_assert!(network.view(0).is_alone());
    }
}
