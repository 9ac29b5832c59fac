//! Nodes in network namespaces of their own, cut into two sides, in both directions or in one, while both sides write
//! carts, operators commit different plans, or a node joins; nothing is lost.
//!
//! Needs root and `ip`; elsewhere it says that it is skipped. The namespaces and the bridge between them are its own, and
//! go with it. A node is cut off by taking down the bridge's end of its link; it is made mute by a wrong hardware address of
//! the others: what it sends goes nowhere, and it still hears them.

#![allow(missing_docs, reason = "tests")]

mod rings;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rings::is_at_rest;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gramme");
/// Longer than anything here takes on a busy machine.
const WAIT: Duration = Duration::from_secs(60);
const NODES: usize = 3;

fn ip(words: &str) -> bool {
    let done = Command::new("ip")
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

/// The namespaces: one a node, and one for the bridges.
struct Net {
    name: String,
    nodes: usize,
}

impl Net {
    fn node(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.name)
    }

    /// None where this user, or this kernel, makes no namespaces.
    fn new(test: &str, nodes: usize) -> Option<Self> {
        let net = Self {
            name: format!("grm{test}{}", std::process::id()),
            nodes,
        };
        let switch = net.switch();
        let bridge = |name: &str| {
            ip(&format!("-n {switch} link add name {name} type bridge"))
                && ip(&format!("-n {switch} link set {name} up"))
        };
        let is_made = ip(&format!("netns add {switch}"))
            && bridge("sw0")
            && bridge("sw1")
            && (0..nodes).all(|node| net.plug(node));
        is_made.then_some(net)
    }

    /// On which of two sides a node is.
    fn set_side(&self, node: usize, side: usize) {
        let switch = self.switch();
        assert!(ip(&format!(
            "-n {switch} link set port{node} master sw{side}"
        )));
    }

    fn plug(&self, node: usize) -> bool {
        let (ns, switch) = (self.node(node), self.switch());
        ip(&format!("netns add {ns}"))
            && ip(&format!(
                "-n {ns} link add eth type veth peer name port{node} netns {switch}"
            ))
            && ip(&format!("-n {ns} addr add 10.97.0.{}/24 dev eth", node + 1))
            && ip(&format!("-n {ns} link set eth up"))
            && ip(&format!("-n {ns} link set lo up"))
            && ip(&format!("-n {switch} link set port{node} master sw0"))
            && ip(&format!("-n {switch} link set port{node} up"))
    }

    fn set_link(&self, node: usize, state: &str) {
        let switch = self.switch();
        assert!(ip(&format!("-n {switch} link set port{node} {state}")));
    }

    /// Whether the others hear a node; it hears them either way.
    fn set_mute(&self, node: usize, is_mute: bool) {
        let ns = self.node(node);
        for other in (0..self.nodes).filter(|other| *other != node) {
            let address = format!("10.97.0.{}", other + 1);
            assert!(if is_mute {
                ip(&format!(
                    "-n {ns} neigh replace {address} lladdr 02:00:00:00:00:99 dev eth nud permanent"
                ))
            } else {
                ip(&format!("-n {ns} neigh del {address} dev eth"))
            });
        }
    }

    /// Runs the program in a node's namespace, against that node.
    fn gramme(&self, node: usize, words: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.node(node), PROGRAM])
            .args(words)
            .args(["--node", &format!("10.97.0.{}:7400", node + 1)])
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    }

    fn serve(&self, (node, seed): (usize, usize), dir: &Path) -> Child {
        let host = format!("10.97.0.{}", node + 1);
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.node(node), PROGRAM, "serve"])
            .arg("--data")
            .arg(dir)
            .args(["--shards", "1", "--memory", "33554432", "--insecure"])
            .args(["--listen", &format!("{host}:7400")])
            .args(["--resp", &format!("{host}:7379")])
            .args(["--admin", &format!("{host}:7480")])
            .args(["--zone", &format!("z{node}"), "--name", &format!("n{node}")]);
        if node > 0 {
            command.args(["--join", &format!("10.97.0.{}:7400", seed + 1)]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            ip(&format!("netns del {}", self.node(node)));
        }
        ip(&format!("netns del {}", self.switch()));
    }
}

/// The nodes, ended with the test.
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < WAIT, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn status(net: &Net, node: usize) -> serde_json::Value {
    let output = net.gramme(node, &["cluster", "status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Whether all members are there, hold their targets, and seem alive to a node.
fn is_whole(net: &Net, node: usize, count: usize) -> bool {
    let status = status(net, node);
    let members = status["members"].as_array().cloned().unwrap_or_default();
    members.len() == count
        && members.iter().all(|member| {
            member["pending"] == 0 && member["held"] != 0 && member["is_alive"] == true
        })
}

/// What a cart holds, all siblings together, and the context to go on with.
fn read(net: &Net, node: usize, key: &str, r: &str) -> Option<(BTreeSet<String>, String)> {
    let output = net.gramme(node, &["get", key, "--json", "--r", r]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let values = answer["values"].as_array().cloned().unwrap_or_default();
    let items = values
        .iter()
        .filter_map(serde_json::Value::as_str)
        .flat_map(|value| value.split(','))
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect();
    let context = answer["context"].as_str().unwrap_or_default().to_owned();
    matches!(output.status.code(), Some(0 | 1 | 4)).then_some((items, context))
}

/// Adds an item as the paper's cart does: read, union, write with the context. Whether it was acknowledged.
fn add(net: &Net, node: usize, key: &str, item: &str) -> bool {
    let Some((mut items, context)) = read(net, node, key, "1") else {
        return false;
    };
    items.insert(item.to_owned());
    let value = items.into_iter().collect::<Vec<_>>().join(",");
    let mut words = vec!["put", key, &value, "--w", "1"];
    if !context.is_empty() {
        words.extend(["--context", &context]);
    }
    net.gramme(node, &words).status.success()
}

/// Three nodes that hold everything, places for some more, and the directory that they live in; none where there are no
/// namespaces.
fn whole_cluster(test: &str, places: usize) -> Option<(Net, Nodes, tempfile::TempDir)> {
    let Some(net) = Net::new(test, places) else {
        eprintln!("skipped: no network namespaces here (root and `ip` are needed)");
        return None;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = Nodes(Vec::new());
    for node in 0..NODES {
        start(&net, &mut nodes, dir.path(), (node, 0));
    }
    until("two members, staged beside the first", || {
        status(&net, 0)["staged"].as_array().map_or(0, Vec::len) == NODES - 1
    });
    commit(&net, 0);
    wait_whole(&net, NODES);
    Some((net, nodes, dir))
}

fn start(net: &Net, nodes: &mut Nodes, dir: &Path, (node, seed): (usize, usize)) {
    nodes
        .0
        .push(net.serve((node, seed), &dir.join(node.to_string())));
    until("a node that serves", || {
        net.gramme(node, &["cluster", "status", "--json"])
            .status
            .success()
    });
}

/// What is staged is planned and committed.
fn commit(net: &Net, node: usize) {
    until("a plan", || {
        net.gramme(node, &["cluster", "plan"]).status.success()
    });
    let done = net.gramme(node, &["cluster", "commit"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

fn wait_whole(net: &Net, count: usize) {
    for node in 0..count {
        let begun = Instant::now();
        while !is_whole(net, node, count) {
            let seen = status(net, node);
            assert!(begun.elapsed() < WAIT, "never whole to node {node}: {seen}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Waits until all nodes know one ring, in which each partition is read where it belongs, and nothing moves.
fn wait_one_ring(net: &Net, count: usize) {
    let ring = |node: usize| -> serde_json::Value {
        let said = net.gramme(node, &["cluster", "ring", "--json"]);
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    };
    until("one ring", || {
        let first = ring(0);
        is_at_rest(&first, NODES) && (1..count).all(|node| ring(node) == first)
    });
}

/// Writes carts through all nodes before and during a cut of node 2, and looks for every acknowledged item behind it.
fn carts_through(net: &Net, name: &str, mut set_cut: impl FnMut(bool)) {
    let mut acknowledged: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 3];
    let mut operations = 0;
    let mut add_noted = |node: usize, cart: usize, item: String| {
        operations += 1;
        if add(net, node, &format!("cart-{cart}"), &item) {
            acknowledged[cart].insert(item);
            return true;
        }
        false
    };
    for cart in 0..3 {
        assert!(add_noted(cart, cart, format!("before-{cart}")));
    }
    set_cut(true);
    let mut taken = [0; NODES];
    for round in 0..6 {
        for node in [0, 2, 1] {
            let is_taken = add_noted(node, round % 3, format!("cut-{node}-{round}"));
            taken[node] += usize::from(is_taken);
        }
    }
    set_cut(false);
    assert!(
        taken.iter().all(|taken| *taken > 0),
        "both sides of the cut are writeable: {taken:?}"
    );
    for (cart, items) in acknowledged.iter().enumerate() {
        for node in 0..NODES {
            until("every acknowledged item, through every node", || {
                read(net, node, &format!("cart-{cart}"), "3")
                    .is_some_and(|(shown, _)| items.is_subset(&shown))
            });
        }
    }
    let count: usize = acknowledged.iter().map(BTreeSet::len).sum();
    eprintln!(
        "record {name}: operations {operations}, acknowledged {count} (during the cut by node {taken:?}), faults 1, lost 0"
    );
}

#[test]
fn both_sides_of_a_partition_take_carts_and_nothing_is_lost() {
    let Some((net, _nodes, _dir)) = whole_cluster("a", NODES) else {
        return;
    };
    carts_through(&net, "partition", |is_cut| {
        net.set_link(2, if is_cut { "down" } else { "up" });
    });
}

#[test]
fn a_node_that_hears_and_is_not_heard_costs_nothing_that_was_acknowledged() {
    let Some((net, _nodes, _dir)) = whole_cluster("b", NODES) else {
        return;
    };
    carts_through(&net, "one way", |is_cut| net.set_mute(2, is_cut));
}

#[test]
fn two_plans_committed_on_two_sides_of_a_split_become_one_ring() {
    let Some((net, mut nodes, dir)) = whole_cluster("c", NODES + 2) else {
        return;
    };
    let is_away = |node: usize, name: &str| {
        let members = status(&net, node)["members"].clone();
        members.as_array().is_some_and(|members| {
            members
                .iter()
                .any(|member| member["name"] == name && member["is_alive"] == false)
        })
    };
    carts_through(&net, "two plans", |is_cut| {
        for node in [2, 4] {
            net.set_side(node, usize::from(is_cut));
        }
        if !is_cut {
            return;
        }
        until("a split that both sides see", || {
            is_away(0, "n2") && is_away(2, "n0") && is_away(2, "n1")
        });
        // Each side gets a node that the other has not heard of.
        for (operator, new) in [(0, 3), (2, 4)] {
            start(&net, &mut nodes, dir.path(), (new, operator));
            until("a new node, staged", || {
                let staged = status(&net, operator)["staged"].clone();
                staged.as_array().map(Vec::len) == Some(1)
            });
            commit(&net, operator);
        }
        let layouts = [0, 2].map(|node| status(&net, node)["layout"].clone());
        assert_eq!(layouts[0], layouts[1], "both are the next one");
    });
    // One of both holds everywhere, and what the other wanted is staged again and said.
    let mut seen: Vec<serde_json::Value> = Vec::new();
    let begun = Instant::now();
    let is_staged = |seen: &[serde_json::Value]| {
        let Some(first) = seen.first() else {
            return false;
        };
        let staged = &first["staged"];
        staged.as_array().map(Vec::len) == Some(1)
            && seen.iter().all(|status| {
                status["staged"] == *staged
                    && status["layout"] == seen[0]["layout"]
                    && status["warnings"]
                        .to_string()
                        .contains("changes are staged")
            })
    };
    while !is_staged(&seen) {
        seen = (0..NODES + 2).map(|node| status(&net, node)).collect();
        assert!(
            begun.elapsed() < WAIT,
            "never one layout with the other's changes staged: {seen:?}"
        );
    }
    let is_told = |status: &&serde_json::Value| {
        status["reports"]
            .to_string()
            .contains("two layouts were committed")
    };
    let told = seen.iter().filter(is_told).count();
    assert!(told > 0, "nobody is told: {}", seen[0]);
    let shown = net.gramme(0, &["cluster", "status"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("staged\n  join"), "{shown}");
    commit(&net, 1);
    wait_whole(&net, NODES + 2);
    wait_one_ring(&net, NODES + 2);
    eprintln!("  the loser's change was staged again, and reported by {told} nodes");
}

#[test]
fn a_join_goes_on_over_a_partition_in_the_middle_of_it() {
    let Some((net, mut nodes, dir)) = whole_cluster("d", NODES + 1) else {
        return;
    };
    start(&net, &mut nodes, dir.path(), (3, 0));
    until("one more, known", || {
        let members = status(&net, 0)["members"].clone();
        members.as_array().map(Vec::len) == Some(NODES + 1)
    });
    let pending = || -> u64 {
        let members = status(&net, 0)["members"].clone();
        let members = members.as_array().cloned().unwrap_or_default();
        let pending = members
            .iter()
            .map(|member| member["pending"].as_u64().unwrap_or(0));
        pending.sum()
    };
    carts_through(&net, "cut amid", |is_cut| {
        if is_cut {
            commit(&net, 0);
            net.set_link(2, "down");
            assert!(pending() > 0, "the transfer is over before the cut");
        } else {
            net.set_link(2, "up");
        }
    });
    wait_whole(&net, NODES + 1);
    wait_one_ring(&net, NODES + 1);
}
