//! Whole sequences of joins, leaves and replaces, 3 to 300 nodes, mixed weights and zones.
//!
//! Each step asserts the ring's promises (distinct nodes, distinct zones, every node within one of its share, moves
//! beside their lower bound) and prints them beside the paper's clockwise walk. `GRAMME_SEEDS=n` runs n seeds more.

use super::layout::Layout;
use super::partition::PartitionMap;
use super::report::Report;
use super::solve::{Heir, NodeSpec, Shape, solve};
use super::walk::Walk;
use crate::base::ids::NodeId;

/// A small deterministic source of choices.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

fn shape(partitions: u32) -> Shape {
    Shape {
        partitions: PartitionMap::new(partitions).expect("valid"),
        n: 3,
    }
}

fn spec(node: u64, zone: usize, weight: u32) -> NodeSpec {
    NodeSpec {
        node: NodeId(node.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        zone: format!("zone-{zone}"),
        weight,
    }
}

/// What must be true of every layout.
fn assert_promises(report: &Report, what: &str) {
    assert_eq!(report.node_violations, 0, "distinct nodes: {what}");
    assert_eq!(report.zone_violations, 0, "distinct zones: {what}");
    assert!(
        report.imbalance < 1.0,
        "within one of its share, not {}: {what}",
        report.imbalance
    );
    assert!(
        report.moves >= report.moves_min,
        "a bound is a bound: {what}"
    );
    let width_rounding = 1.0 + 1e-6;
    assert!(
        report.imbalance_first <= width_rounding,
        "first places, {}: {what}",
        report.imbalance_first
    );
}

/// The paper's walk through the same changes.
struct Beside {
    walk: Walk,
    last: Option<Layout>,
}

impl Beside {
    fn step(&mut self, members: &[NodeSpec], shape: Shape) -> String {
        let Some((layout, report)) = self.walk.layout(self.last.as_ref(), members, shape) else {
            return "not possible".to_owned();
        };
        self.last = Some(layout);
        format!(
            "{} moves, {:.1} off, {} partitions share a zone",
            report.moves, report.imbalance, report.zone_violations
        )
    }
}

fn run(seed: u64, partitions: u32, nodes_max: usize, steps: usize) {
    let shape = shape(partitions);
    let mut choices = Choices(seed);
    let zone_count = 1 + choices.below(6);
    let mixed = choices.below(2) == 1;
    let mut next = 0;
    let mut fresh = |choices: &mut Choices| {
        next += 1;
        let weight = if mixed {
            1 + choices.below(4) as u32
        } else {
            1
        };
        spec(next, choices.below(zone_count), weight)
    };
    let first = fresh(&mut choices);
    let mut beside = Beside {
        walk: Walk::new(shape.partitions, first.node),
        last: None,
    };
    let mut members = vec![first];
    for _ in 1..(3 + choices.below(nodes_max - 2)) {
        members.push(fresh(&mut choices));
        if nodes_max <= 40 {
            beside.walk.join(members[members.len() - 1].node);
        }
    }
    let (mut layout, report) = solve(None, &members, &[], shape);
    assert_promises(&report, &format!("seed {seed}, from nothing"));
    let is_walked = nodes_max <= 40;
    if is_walked {
        beside.step(&members, shape);
    }
    for step in 0..steps {
        let mut heirs = Vec::new();
        let act = choices.below(4);
        let what = match act {
            0 | 1 => {
                for _ in 0..=choices.below(2) {
                    let node = fresh(&mut choices);
                    beside.walk.join(node.node);
                    members.push(node);
                }
                "join"
            }
            2 if members.len() > 3 => {
                let gone = members.swap_remove(choices.below(members.len()));
                beside.walk.leave(gone.node);
                "leave"
            }
            _ => {
                let at = choices.below(members.len());
                let mut new = fresh(&mut choices);
                new.zone.clone_from(&members[at].zone);
                new.weight = members[at].weight;
                heirs.push(Heir {
                    old: members[at].node,
                    new: new.node,
                });
                beside.walk.join(new.node);
                beside.walk.leave(members[at].node);
                members[at] = new;
                "replace"
            }
        };
        let (next, report) = solve(Some(&layout), &members, &heirs, shape);
        let told = format!(
            "seed {seed}, Q {partitions}, step {step}, {what}, {} nodes in {zone_count} zones",
            members.len()
        );
        assert_promises(&report, &told);
        if what == "replace" {
            let replaced = layout_moves_of(&layout, heirs[0].old);
            assert_eq!(report.moves, replaced, "nothing else moves: {told}");
        }
        if zone_count == 1 {
            assert_eq!(report.moves, report.moves_min, "no fewer can move: {told}");
        }
        let walk = if is_walked {
            beside.step(&members, shape)
        } else {
            "not walked".to_owned()
        };
        println!(
            "{told}: {} moves (at least {}), {:.2} off; the walk: {walk}",
            report.moves, report.moves_min, report.imbalance
        );
        layout = next;
    }
}

fn layout_moves_of(layout: &Layout, node: NodeId) -> usize {
    layout
        .partitions()
        .iter()
        .filter(|partition| layout.is_target(node, *partition))
        .count()
}

fn seeds() -> u64 {
    std::env::var("GRAMME_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(0)
}

#[test]
fn small_clusters_keep_every_promise_over_whole_histories() {
    for seed in 0..12 + seeds() {
        run(seed, 64, 12, 12);
    }
}

#[test]
fn middling_clusters_keep_every_promise_over_whole_histories() {
    for seed in 100..101 + seeds() {
        run(seed, 1024, 40, 6);
    }
}

#[test]
fn three_hundred_nodes_keep_every_promise() {
    for seed in 200..201 + seeds() / 4 {
        run(seed, 1024, 300, 2);
    }
}
