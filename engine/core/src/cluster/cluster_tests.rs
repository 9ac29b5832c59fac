//! Goal: clusters come to know the same, find out who is away, and refuse what must not serve.
//! Method: machines on a network in memory and on virtual time.

use proptest::prelude::*;
use serde_json::json;

use super::network_tests::{MS, Network};
use crate::base::ids::NodeId;
use crate::ring::{PartitionView, RingView};

fn serves_nothing(view: &RingView) -> bool {
    !view.partitions.is_empty() && view.partitions.iter().all(|row| row.read.is_empty())
}

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
fn a_node_with_seeds_is_known_and_staged_and_owns_nothing_until_the_commit() {
    let mut network = Network::new(64, 2);
    for node in 0..3 {
        network.add(node);
        network.start(node);
    }
    assert!(serves_nothing(network.view(1)));
    network.run_until("known", 2_000, |network| {
        network.views().all(|view| view.nodes.len() == 3) && network.is_agreed()
    });
    for row in network.view(2).partitions.iter() {
        assert_eq!(
            (row.read.as_ref(), row.write.as_ref()),
            (&[0][..], &[0][..])
        );
    }
    let refused = network.command(1, json!({ "command": "commit" }));
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|error| error.contains("nothing is planned"))
    );
    let plan = network.command(1, json!({ "command": "plan" }));
    assert_eq!(plan["moves"], 128);
    assert_eq!(plan["staged"].as_array().map(Vec::len), Some(2));
    // Shown at one node, committed at another.
    let done = network.command(2, json!({ "command": "commit", "plan": plan["plan"] }));
    assert_eq!(done["layout"], 2, "{done}");
    let again = network.command(2, json!({ "command": "commit" }));
    assert!(again["error"].is_string());
    network.run_until("settled", 3_000, Network::is_settled);
    let status = network.command(0, json!({ "command": "status" }));
    for member in status["members"].as_array().expect("members") {
        assert_eq!(
            (&member["held"], &member["pending"]),
            (&json!(64), &json!(0))
        );
        assert_eq!(
            (&member["state"], &member["is_alive"]),
            (&json!("up"), &json!(true))
        );
    }
    assert_eq!(status["warnings"], json!([]), "{status}");
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
fn a_split_in_which_two_operators_commit_differently_heals_into_one_layout() {
    let mut network = Network::cluster(6, 64, 7);
    for node in 6..8 {
        network.add(node);
        network.start(node);
    }
    network.run_until("known", 3_000, |network| {
        network.views().all(|view| view.nodes.len() == 8)
    });
    network.side = (0..8).map(|node| (node, u8::from(node % 2 == 1))).collect();
    network.run_until("split", 4_000, |network| {
        (1..8).step_by(2).all(|node| {
            let id = network.nodes[node].id;
            let view = network.view(0);
            view.number_of(id).is_some_and(|at| !view.node(at).is_alive)
        })
    });
    // One side takes 7 in and lets 4 go; the other takes 6 in, later, and so it holds.
    for (node, commands) in [
        (
            1,
            vec![
                json!({ "command": "abort" }),
                json!({ "command": "join", "node": "node-7" }),
                json!({ "command": "leave", "node": "node-4" }),
            ],
        ),
        (
            0,
            vec![
                json!({ "command": "abort" }),
                json!({ "command": "join", "node": "node-6" }),
            ],
        ),
    ] {
        for command in commands {
            let answer = network.command(node, command);
            assert!(answer["error"].is_null(), "{answer}");
        }
        network.run_ms(500);
        let plan = network.command(node, json!({ "command": "plan" }));
        assert!(plan["moves"].as_u64() > Some(0), "{plan}");
        let done = network.command(node, json!({ "command": "commit" }));
        assert!(done["error"].is_null(), "{done}");
    }
    network.run_ms(2_000);
    assert!(!network.is_agreed());
    network.side.clear();
    network.run_until("one ring again", 5_000, Network::is_agreed);
    let statuses: Vec<_> = (0..8)
        .map(|node| network.command(node, json!({ "command": "status" })))
        .collect();
    let reported = statuses.iter().any(|status| {
        status["reports"]
            .to_string()
            .contains("two layouts were committed")
    });
    assert!(reported);
    let staged = &statuses[0]["staged"];
    assert!(
        staged.as_array().is_some_and(|staged| !staged.is_empty()),
        "what lost is staged again"
    );
    network.command(3, json!({ "command": "plan" }));
    let done = network.command(3, json!({ "command": "commit" }));
    assert!(done["error"].is_null(), "{done}");
    network.run_until("settled", 5_000, Network::is_settled);
    network.run_until("all are back", 2_000, |network| {
        (0..8).all(|node| network.all_think(node, true))
    });
}

#[test]
fn a_directory_from_the_past_holds_nothing_until_others_brought_it_up() {
    let mut network = Network::cluster(3, 64, 8);
    let backup = network.nodes[1].state.clone();
    let backup_count = network.nodes[1].start_count;
    for _ in 0..2 {
        network.kill(1);
        network.run_ms(500);
        network.start(1);
        network.run_ms(1_000);
    }
    network.kill(1);
    network.run_ms(500);
    network.nodes[1].state = backup;
    network.nodes[1].start_count = backup_count;
    network.moves_data = false;
    network.start(1);
    network.run_ms(1_500);
    let number = network
        .view(1)
        .number_of(network.nodes[1].id)
        .expect("a member");
    for view in network.views() {
        for row in view.partitions.iter() {
            assert!(!row.read.contains(&number) && row.write.contains(&number));
        }
    }
    assert!(
        network
            .view(1)
            .partitions
            .iter()
            .all(|row| row.is_pending_here)
    );
    network.moves_data = true;
    let view = network.nodes[1].view.clone().expect("has one");
    for (partition, _) in (0u32..).zip(view.partitions.iter()) {
        for shard in 0..2 {
            let note = crate::port::Note::Gained {
                shard: crate::base::ids::ShardIndex(shard),
                partition: crate::base::ids::PartitionId(partition),
                epoch: view.epoch,
            };
            network.with(1, |machine, now, out| machine.note(now, &note, out));
        }
    }
    network.run_until("settled", 2_000, Network::is_settled);
}

#[test]
fn a_directory_from_the_past_is_told_so_by_whoever_remembers() {
    let mut network = Network::cluster(3, 64, 8);
    let past = [0, 1].map(|node| {
        (
            network.nodes[node].state.clone(),
            network.nodes[node].start_count,
        )
    });
    for _ in 0..2 {
        network.kill(1);
        network.run_ms(500);
        network.start(1);
        network.run_ms(1_000);
    }
    (0..3).for_each(|node| network.kill(node));
    network.run_ms(500);
    network.moves_data = false;
    for (node, (state, start_count)) in past.into_iter().enumerate() {
        (network.nodes[node].state, network.nodes[node].start_count) = (state, start_count);
        network.start(node);
    }
    // Each vouches for the other, and both take part.
    network.run_ms(300);
    assert!(network.has_all_of_its_own(1));
    network.start(2);
    network.run_ms(1_500);
    assert!(
        network
            .view(1)
            .partitions
            .iter()
            .all(|row| row.is_pending_here)
    );
}

#[test]
fn a_start_that_was_counted_before_is_told_so_by_whoever_heard_the_other() {
    let mut network = Network::cluster(3, 64, 8);
    let past = [0, 1].map(|node| {
        let own = &network.nodes[node];
        (own.state.clone(), own.start_count)
    });
    network.kill(1);
    network.start(1);
    network.run_ms(1_000);
    [0, 1].into_iter().for_each(|node| network.kill(node));
    network.moves_data = false;
    network.side = [(0, 1), (1, 1), (2, 0)].into();
    for (node, (state, start_count)) in past.into_iter().enumerate() {
        (network.nodes[node].state, network.nodes[node].start_count) = (state, start_count);
        network.start(node);
    }
    // The first is from the past as well, and vouches for it.
    network.run_ms(300);
    network.side.clear();
    network.run_ms(3_000);
    for node in 0..3 {
        let status = network
            .command(node, json!({ "command": "status" }))
            .to_string();
        assert!(
            !status.contains("another process") && !status.contains("two processes"),
            "{status}"
        );
    }
}

#[test]
fn a_start_that_was_counted_before_starts_anew_though_others_have_no_news_for_it() {
    let mut network = Network::cluster(3, 64, 8);
    let past = (network.nodes[1].state.clone(), network.nodes[1].start_count);
    network.kill(1);
    network.start(1);
    network.run_ms(1_000);
    network.kill(1);
    (network.nodes[1].state, network.nodes[1].start_count) = past;
    // It takes part by its own word, with the count of the other, and it is the others that lack something.
    network.moves_data = false;
    network.side.insert(1, 1);
    network.start(1);
    network.run_ms(1_500);
    network.command(1, json!({ "command": "leave", "node": "node-2" }));
    network.side.clear();
    network.run_ms(3_000);
    let mut rows = network.view(1).partitions.iter();
    assert!(rows.all(|row| row.is_pending_here), "it holds nothing");
    network.command(0, json!({ "command": "leave", "node": "node-2" }));
    network.run_ms(5_000);
    for node in 0..3 {
        let status = network.command(node, json!({ "command": "status" }));
        assert!(!status.to_string().contains("another process"), "{status}");
    }
}

#[test]
fn what_is_said_to_a_removed_node_does_not_refuse_the_next_one_at_its_address() {
    let mut network = Network::cluster(4, 64, 13);
    network.command(2, json!({ "command": "leave", "node": "node-3" }));
    network.command(2, json!({ "command": "plan" }));
    network.command(2, json!({ "command": "commit" }));
    network.run_until("settled", 3_000, Network::is_settled);
    // Words of it that are still under way when it is gone.
    let (mut late, address) = (Vec::new(), network.nodes[3].address.clone());
    network.with(3, |machine, now, out| {
        machine.begin(now, out);
        late.extend(out.sends.iter().map(|(_, bytes)| bytes.clone()));
        (out.sends, out.hails) = Default::default();
    });
    assert!(!late.is_empty());
    let former = network.nodes[3].id;
    let removal = json!({ "command": "leave", "node": "node-3", "remove": true });
    network.run_until("removed", 2_000, |network| network.is_settled());
    network.command(2, removal);
    network.run_ms(1_000);
    network.kill(3);
    network.nodes[3].address.clear();
    network.add(4);
    network.nodes[4].address = address;
    network.start(4);
    network.run_ms(500);
    for bytes in late {
        network.with(0, |machine, now, out| {
            machine.message(now, former, &bytes, out)
        });
    }
    network.run_ms(500);
    let status = network.command(4, json!({ "command": "status" }));
    assert!(
        !status.to_string().contains("removed from the cluster"),
        "{status}"
    );
}

#[test]
fn a_start_that_never_came_into_the_ring_is_no_other_process() {
    let mut network = Network::cluster(3, 64, 8);
    let past = (network.nodes[1].state.clone(), network.nodes[1].start_count);
    network.kill(1);
    // It speaks, and is not let in.
    network.nodes[1].ahead_ms = 60_000;
    network.start(1);
    network.run_ms(1_000);
    network.kill(1);
    network.nodes[1].ahead_ms = 0;
    (network.nodes[1].state, network.nodes[1].start_count) = past;
    network.moves_data = false;
    network.start(1);
    network.run_ms(3_000);
    for node in 0..3 {
        let status = network.command(node, json!({ "command": "status" }));
        assert!(!status.to_string().contains("another process"), "{status}");
        assert!(!status.to_string().contains("two processes"), "{status}");
    }
}

#[test]
fn a_crash_that_lost_what_was_kept_last_does_not_bring_back_what_was_let_go() {
    let mut network = Network::cluster(4, 64, 23);
    let kept_before = network.nodes[3].state.clone();
    network.command(0, json!({ "command": "leave", "node": "node-3" }));
    network.command(0, json!({ "command": "plan" }));
    network.command(0, json!({ "command": "commit" }));
    network.run_until("settled", 3_000, Network::is_settled);
    network.kill(3);
    network.run_ms(500);
    // The data is gone, the file that says so was not written.
    network.nodes[3].state = kept_before;
    network.moves_data = false;
    network.start(3);
    network.run_ms(1_500);
    for view in network.views() {
        let number = view.number_of(network.nodes[3].id).expect("a member");
        for row in view.partitions.iter() {
            assert!(!row.read.contains(&number) && !row.others.contains(&number));
        }
    }
}

#[test]
fn a_view_that_lets_go_waits_until_it_is_kept_that_nothing_is_held() {
    let mut network = Network::cluster(4, 64, 24);
    network.moves_data = false;
    network.command(0, json!({ "command": "leave", "node": "node-3" }));
    network.command(0, json!({ "command": "plan" }));
    network.command(0, json!({ "command": "commit" }));
    network.run_ms(500);
    for node in 0..3 {
        let view = network.nodes[node].view.clone().expect("has one");
        network.move_data(node, &view);
    }
    network.run_ms(500);
    let view = network.nodes[3].view.clone().expect("has one");
    let kept_before = network.nodes[3].state.clone();
    network.move_data(3, &view);
    // The targets show that they know the layout; then it lets go.
    let mut waited_ms = 0;
    while network.nodes[3].state == kept_before {
        assert!(waited_ms < 300, "kept at once");
        network.run_ms(5);
        waited_ms += 5;
    }
    network.run_ms(50);
    assert_eq!(network.view(3).epoch, view.epoch, "told later");
    network.run_ms(100);
    assert!(network.view(3).epoch > view.epoch);
}

#[test]
fn a_restarted_node_keeps_what_it_holds() {
    let mut network = Network::cluster(3, 64, 9);
    network.moves_data = false;
    network.kill(1);
    network.run_ms(3_000);
    network.start(1);
    assert!(network.has_all_of_its_own(1));
    network.run_until("settled", 2_000, Network::is_settled);
}

#[test]
fn a_whole_cluster_that_was_stopped_comes_back() {
    let mut network = Network::cluster(3, 64, 10);
    for node in 0..3 {
        network.kill(node);
    }
    network.run_ms(1_000);
    for node in [2, 1, 0] {
        network.start(node);
        network.run_ms(30);
    }
    network.run_until("settled", 3_000, Network::is_settled);
    for node in 0..3 {
        assert!(network.all_think(node, true));
    }
}

#[test]
fn one_of_three_that_comes_back_alone_serves_by_its_own_word() {
    let mut network = Network::cluster(3, 64, 11);
    for node in 0..3 {
        network.kill(node);
    }
    network.run_ms(1_000);
    network.start(1);
    network.run_ms(2_000);
    let view = network.view(1);
    let number = view.number_of(network.nodes[1].id).expect("a member");
    assert!(view.partitions.iter().all(|row| row.read.contains(&number)));
    assert_eq!(view.nodes.iter().filter(|node| node.is_alive).count(), 1);
}

#[test]
fn a_removed_node_that_comes_back_is_told_so_and_serves_nothing() {
    let mut network = Network::cluster(4, 64, 12);
    network.kill(3);
    network.run_ms(500);
    network.command(0, json!({ "command": "leave", "node": "node-3" }));
    network.command(0, json!({ "command": "plan" }));
    network.command(0, json!({ "command": "commit" }));
    network.run_ms(2_000);
    let again = network.command(0, json!({ "command": "leave", "node": "node-3" }));
    assert!(
        again["done"].to_string().contains("has no places"),
        "{again}"
    );
    let kept = network.command(
        0,
        json!({ "command": "leave", "node": "node-3", "remove": true }),
    );
    assert!(
        kept["error"].is_string(),
        "what only it acknowledged is not with the others, though each target has its copy: {kept}"
    );
    let gone = network.command(
        0,
        json!({ "command": "leave", "node": "node-3", "lost": true }),
    );
    assert!(gone["error"].is_null(), "{gone}");
    network.run_until("gone", 2_000, |network| {
        network.views().all(|view| view.nodes.len() == 3)
    });
    network.start(3);
    network.run_ms(2_000);
    assert!(serves_nothing(network.view(3)));
    let status = network.command(3, json!({ "command": "status" }));
    assert!(
        status["standing"].to_string().contains("removed for good"),
        "{status}"
    );
    assert!(network.views().filter(|view| view.nodes.len() == 3).count() >= 3);
}

#[test]
fn a_node_that_leaves_drains_and_may_be_removed() {
    let mut network = Network::cluster(4, 64, 13);
    network.command(2, json!({ "command": "leave", "node": "node-3" }));
    let early = network.command(2, json!({ "command": "commit" }));
    assert!(early["error"].is_string(), "not without a plan");
    network.command(2, json!({ "command": "plan" }));
    network.command(2, json!({ "command": "commit" }));
    network.run_until("settled", 3_000, Network::is_settled);
    let status = network.command(0, json!({ "command": "status" }));
    let left = &status["members"][3];
    assert_eq!(
        (&left["state"], &left["held"]),
        (&json!("leaving"), &json!(0))
    );
    assert!(
        status["warnings"]
            .to_string()
            .contains("ends its membership")
    );
}

#[test]
fn what_another_may_still_write_by_an_older_layout_is_not_let_go() {
    let mut network = Network::cluster(5, 64, 17);
    // Silent, and for some seconds nobody knows whether it goes on.
    network.unplug(4);
    for node in ["node-3", "node-4"] {
        network.command(0, json!({ "command": "leave", "node": node }));
    }
    network.command(0, json!({ "command": "plan" }));
    network.command(0, json!({ "command": "commit" }));
    network.run_ms(2_000);
    let silent = network.view(3).number_of(network.nodes[4].id);
    let silent = silent.expect("a member");
    let (mut kept, mut shared) = (0, 0);
    for row in network.view(3).partitions.iter() {
        kept += usize::from(row.is_draining_here);
        shared += usize::from(row.is_draining_here && row.others.contains(&silent));
    }
    assert!(kept > 0);
    assert_eq!(kept, shared, "the others are let go");
    network.run_until("it is left out", 6_000, |network| {
        let mut rows = network.view(3).partitions.iter();
        rows.all(|row| !row.is_draining_here)
    });
}

#[test]
fn who_was_to_gain_by_the_layout_before_gets_writes_until_it_has_shown_what_it_holds() {
    let mut network = Network::cluster(5, 64, 23);
    network.moves_data = false;
    network.command(0, json!({ "command": "leave", "node": "node-4" }));
    network.command(0, json!({ "command": "plan" }));
    network.command(0, json!({ "command": "commit" }));
    network.run_ms(1_000);
    let gainer = network.nodes[1].id;
    let is_to_gain = |view: &RingView| -> Vec<usize> {
        let number = view.number_of(gainer).expect("a member");
        let rows = view.partitions.iter().enumerate();
        let is_pending =
            |row: &PartitionView| row.write.contains(&number) && !row.read.contains(&number);
        rows.filter(|(_, row)| is_pending(row))
            .map(|(at, _)| at)
            .collect()
    };
    let before = is_to_gain(network.view(0));
    assert!(!before.is_empty());
    // Nobody hears whether it gains anything before the next layout.
    network.side = [(1, 1)].into();
    network.command(0, json!({ "command": "leave", "node": "node-1" }));
    network.command(0, json!({ "command": "plan" }));
    network.command(0, json!({ "command": "commit" }));
    network.run_ms(1_000);
    let after = is_to_gain(network.view(0));
    let left_out: Vec<usize> = before
        .into_iter()
        .filter(|partition| !after.contains(partition))
        .collect();
    assert!(!left_out.is_empty(), "the seed shows nothing");
    let gets_writes = |network: &Network, partition: usize| {
        let view = network.view(0);
        let number = view.number_of(gainer).expect("a member");
        view.partitions[partition].others.contains(&number)
    };
    for partition in &left_out {
        assert!(gets_writes(&network, *partition), "{partition}");
    }
    network.side.clear();
    network.run_until("it has shown what it holds", 2_000, |network| {
        left_out.iter().all(|at| !gets_writes(network, *at))
    });
}

#[test]
fn a_plan_says_how_many_bytes_move_and_whose_disk_is_too_small() {
    let mut network = Network::cluster(3, 64, 22);
    network.add(3);
    network.start(3);
    for node in 0..4 {
        let vitals = super::Vitals {
            live_bytes: if node < 3 { 64 << 20 } else { 0 },
            capacity_bytes: if node < 3 { 1 << 30 } else { 1 << 20 },
            takes_writes: node != 1,
        };
        network.with(node, |machine, _, _| machine.set_vitals(vitals));
    }
    network.run_ms(3_000);
    let plan = network.command(0, json!({ "command": "plan" }));
    let moves = plan["moves"].as_u64().expect("a number");
    assert_eq!(plan["bytes"], json!(moves << 20), "{plan}");
    assert!(plan["warnings"].to_string().contains("will need"), "{plan}");
    let status = network.command(2, json!({ "command": "status" }));
    assert!(
        status["warnings"].to_string().contains("takes no writes"),
        "{status}"
    );
    // Shards hear of it, and when it is over.
    let full_of = |network: &Network, node: usize| -> Vec<NodeId> {
        let view = network.view(node);
        let full = view.nodes.iter().filter(|node| !node.takes_values);
        full.map(|node| node.id).collect()
    };
    let full = network.nodes[1].id;
    for node in [0, 1, 2] {
        assert_eq!(full_of(&network, node), [full]);
    }
    let roomy = super::Vitals {
        takes_writes: true,
        ..super::Vitals::default()
    };
    network.with(1, |machine, _, _| machine.set_vitals(roomy));
    network.run_ms(3_000);
    assert!(full_of(&network, 2).is_empty());
}

#[test]
fn a_node_takes_the_places_of_another() {
    let mut network = Network::cluster(4, 64, 14);
    network.add(4);
    network.start(4);
    network.run_until("known", 3_000, |network| {
        network.views().all(|view| view.nodes.len() == 5)
    });
    network.command(
        0,
        json!({ "command": "replace", "old": "node-2", "new": "node-4" }),
    );
    let plan = network.command(0, json!({ "command": "plan" }));
    let moved: Vec<_> = plan["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter(|node| node["gained"] != json!(0))
        .map(|node| node["name"].clone())
        .collect();
    assert!(moved.contains(&json!("node-4")), "{plan}");
    network.command(0, json!({ "command": "commit" }));
    network.run_until("settled", 3_000, Network::is_settled);
}

#[test]
fn two_processes_with_one_id_are_both_refused() {
    let mut network = Network::cluster(4, 64, 15);
    network.add(4);
    let (state, id, start_count) = {
        let original = &network.nodes[2];
        (original.state.clone(), original.id, original.start_count)
    };
    network.nodes[4].state = state;
    network.nodes[4].id = id;
    network.nodes[4].start_count = start_count;
    network.start_with(4, Vec::new());
    network.run_ms(6_000);
    for node in [2, 4] {
        let status = network.command(node, json!({ "command": "status" }));
        assert!(
            status["standing"]
                .to_string()
                .contains("another process with its id"),
            "{node}: {status}"
        );
        assert!(serves_nothing(network.view(node)), "{node}");
    }
    for node in [0, 1, 3] {
        assert!(!serves_nothing(network.view(node)));
    }
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
fn a_directory_with_another_number_of_partitions_is_not_let_in() {
    let mut network = Network::cluster(3, 64, 18);
    let mut other = Network::new(128, 1);
    other.add(3);
    other.start_with(0, vec![network.nodes[0].address.clone()]);
    let machine = other.nodes[0].machine.take();
    network.add(3);
    network.nodes[3].id = other.nodes[0].id;
    network.nodes[3].address.clone_from(&other.nodes[0].address);
    network.nodes[3].machine = machine;
    network.run_ms(2_000);
    let status = network.command(3, json!({ "command": "status" }));
    assert!(
        status["standing"].to_string().contains("64 partitions"),
        "{status}"
    );
    assert_eq!(network.view(0).nodes.len(), 3);
}

#[test]
fn what_is_lost_is_said_to_be_held_no_more_and_comes_back() {
    let mut network = Network::cluster(3, 64, 19);
    network.moves_data = false;
    let lost: Vec<_> = (3..9).map(crate::base::ids::PartitionId).collect();
    let note = crate::port::Note::Lost(lost.clone());
    network.with(1, |machine, now, out| machine.note(now, &note, out));
    network.run_until("known", 1_500, |network| {
        network.is_agreed()
            && lost.iter().all(|partition| {
                network
                    .view(0)
                    .partition(*partition)
                    .is_some_and(|row| row.read.len() == 2)
            })
    });
    assert!(
        network
            .view(1)
            .partition(lost[0])
            .is_some_and(|row| row.is_pending_here)
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
