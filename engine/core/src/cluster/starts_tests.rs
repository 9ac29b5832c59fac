//! Goal: a node that comes back, whatever its directory remembers, holds what it says, and one that must not serve does not.
//! Method: machines on a network in memory and on virtual time.

use serde_json::json;

use super::network_tests::{Network, serves_nothing};
use crate::base::ids::{PartitionId, ShardIndex};
use crate::port::Note;

/// A machine's directory as it was at a moment.
struct Directory {
    state: Option<Vec<u8>>,
    start_count: u64,
}

impl Directory {
    fn of(network: &Network, node: usize) -> Self {
        let own = &network.nodes[node];
        Self {
            state: own.state.clone(),
            start_count: own.start_count,
        }
    }

    /// The machine's next start is from it.
    fn put_back(self, network: &mut Network, node: usize) {
        let own = &mut network.nodes[node];
        (own.state, own.start_count) = (self.state, self.start_count);
    }
}

/// Two starts of a node, of which an older directory knows nothing.
fn start_twice(network: &mut Network, node: usize) {
    for _ in 0..2 {
        network.kill(node);
        network.run_ms(500);
        network.start(node);
        network.run_ms(1_000);
    }
}

#[test]
fn a_directory_from_the_past_holds_nothing_until_others_brought_it_up() {
    let mut network = Network::cluster(3, 64, 8);
    let past = Directory::of(&network, 1);
    start_twice(&mut network, 1);
    network.kill(1);
    network.run_ms(500);
    past.put_back(&mut network, 1);
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
            let note = Note::Gained {
                shard: ShardIndex(shard),
                partition: PartitionId(partition),
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
    let past = [0, 1].map(|node| Directory::of(&network, node));
    start_twice(&mut network, 1);
    (0..3).for_each(|node| network.kill(node));
    network.run_ms(500);
    network.moves_data = false;
    for (node, past) in past.into_iter().enumerate() {
        past.put_back(&mut network, node);
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
    let past = [0, 1].map(|node| Directory::of(&network, node));
    network.kill(1);
    network.start(1);
    network.run_ms(1_000);
    [0, 1].into_iter().for_each(|node| network.kill(node));
    network.moves_data = false;
    network.side = [(0, 1), (1, 1), (2, 0)].into();
    for (node, past) in past.into_iter().enumerate() {
        past.put_back(&mut network, node);
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
    let past = Directory::of(&network, 1);
    network.kill(1);
    network.start(1);
    network.run_ms(1_000);
    network.kill(1);
    past.put_back(&mut network, 1);
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
    let past = Directory::of(&network, 1);
    network.kill(1);
    // It speaks, and is not let in.
    network.nodes[1].ahead_ms = 60_000;
    network.start(1);
    network.run_ms(1_000);
    network.kill(1);
    network.nodes[1].ahead_ms = 0;
    past.put_back(&mut network, 1);
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
fn what_a_start_finds_lost_is_not_held_though_others_remember_that_it_was() {
    for is_late in [false, true] {
        let mut network = Network::cluster(3, 64, 8);
        let kept_before = network.nodes[1].state.clone();
        let lost = vec![PartitionId(3), PartitionId(4)];
        let note = Note::Lost(lost.clone());
        // Others hear that it holds all again; the file that says so is lost.
        network.with(1, |machine, now, out| machine.note(now, &note, out));
        network.run_until("settled", 3_000, Network::is_settled);
        network.kill(1);
        network.run_ms(500);
        network.nodes[1].state = kept_before;
        network.moves_data = false;
        network.start(1);
        if is_late {
            network.run_ms(300);
        }
        network.with(1, |machine, now, out| machine.note(now, &note, out));
        network.run_ms(1_500);
        assert!(network.is_agreed());
        for partition in &lost {
            let readers = network
                .view(0)
                .partition(*partition)
                .map(|row| row.read.len());
            assert_eq!(readers, Some(2), "{partition:?}, late {is_late}");
            let own = network.view(1).partition(*partition);
            assert!(own.is_some_and(|row| row.is_pending_here));
        }
    }
}
