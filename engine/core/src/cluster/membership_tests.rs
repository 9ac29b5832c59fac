//! Goal: what operators change becomes one layout everywhere, and nothing is let go of before others have it.
//! Method: machines on a network in memory and on virtual time.

use serde_json::json;

use super::network_tests::{Network, serves_nothing};
use crate::base::ids::NodeId;
use crate::ring::{PartitionView, RingView};

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
