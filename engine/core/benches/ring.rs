//! What the ring costs: layouts from nothing and from the last one, routes, and a look-up.
#![expect(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gramme_core::base::ids::{NodeId, Token};
use gramme_core::base::time::Hlc;
use gramme_core::ring::{Facts, Founding, NodeSpec, PartitionMap, Ring, Shape, Stamp, solve};

fn shape(partitions: u32) -> Shape {
    Shape {
        partitions: PartitionMap::new(partitions).expect("a power of two"),
        n: 3,
    }
}

fn members(count: u64, zones: u64, weights: u64) -> Vec<NodeSpec> {
    (0..count)
        .map(|node| NodeSpec {
            node: NodeId(node.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            zone: format!("{}", node % zones),
            weight: u32::try_from(1 + node % weights).unwrap_or(1),
        })
        .collect()
}

fn layouts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("solve");
    group.sample_size(10);
    for (nodes, partitions) in [
        (3, 1024),
        (30, 1024),
        (300, 1024),
        (30, 65_536),
        (300, 65_536),
    ] {
        let shape = shape(partitions);
        for (zones, weights) in [(1, 1), (2, 4), (5, 4)] {
            if partitions > 1024 && zones != 5 {
                continue;
            }
            let what =
                format!("{nodes} nodes, Q {partitions}, {zones} zones, weights to {weights}");
            let all = members(nodes + 1, zones, weights);
            let before = &all[..all.len() - 1];
            let (last, report) = solve(None, before, &[], shape);
            assert!(report.imbalance < 1.0, "{what}: {}", report.imbalance);
            group.bench_function(format!("from nothing, {what}"), |bencher| {
                bencher.iter(|| solve(None, black_box(before), &[], shape));
            });
            group.bench_function(format!("join, {what}"), |bencher| {
                bencher.iter(|| solve(Some(&last), black_box(&all), &[], shape));
            });
            // A third goes, a third of the rest weighs otherwise.
            let mut shaken: Vec<NodeSpec> = all.iter().skip(all.len() / 3).cloned().collect();
            let changed = shaken.len() / 3;
            for spec in &mut shaken[..changed] {
                spec.weight += 2;
            }
            group.bench_function(format!("upheaval, {what}"), |bencher| {
                bencher.iter(|| solve(Some(&last), black_box(&shaken), &[], shape));
            });
        }
    }
    group.finish();
}

fn ring(nodes: u64, partitions: u32) -> Ring {
    let stamp = |hlc| Stamp {
        hlc: Hlc(hlc),
        node: NodeId(1),
    };
    let facts = |node: u64| Facts {
        listen: format!("10.0.0.{node}:7400"),
        zone: format!("{}", node % 3),
        weight: 1,
        shards: 4,
        ..Facts::default()
    };
    let mut ring = Ring::found(Founding {
        cluster: 1,
        shape: shape(partitions),
        node: NodeId(1),
        facts: facts(1),
        start_count: 1,
        stamp: stamp(1),
    })
    .expect("a cluster of one");
    for node in 2..=nodes {
        ring.announce(NodeId(node), facts(node), 1, stamp(2))
            .expect("a new node");
        ring.stage_join(NodeId(node), stamp(3)).expect("known");
    }
    let plan = ring.plan(&Default::default()).expect("nodes with a weight");
    ring.commit(&plan, stamp(4)).expect("just planned");
    for partition in ring.partitions().iter() {
        for target in ring.layout().targets(partition).collect::<Vec<_>>() {
            ring.set_held(target, partition);
        }
    }
    ring
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routes");
    group.sample_size(10);
    for (nodes, partitions) in [(3, 1024), (300, 1024), (300, 65_536)] {
        let ring = ring(nodes, partitions);
        let what = format!("{nodes} nodes, Q {partitions}");
        group.bench_function(format!("derive, {what}"), |bencher| {
            bencher.iter(|| black_box(&ring).routes());
        });
        let routes = ring.routes();
        group.bench_function(format!("a shard's table, {what}"), |bencher| {
            bencher.iter(|| black_box(&ring).partition_views(NodeId(1), &routes));
        });
        let mut token = 1u64;
        group.bench_function(format!("look-up, {what}"), |bencher| {
            bencher.iter(|| {
                token = token.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                routes
                    .of_token(black_box(Token(token)))
                    .readers()
                    .first()
                    .copied()
            });
        });
        let partition = gramme_core::base::ids::PartitionId(0);
        group.bench_function(format!("first stand-in, {what}"), |bencher| {
            bencher.iter(|| routes.stand_ins(black_box(partition)).next());
        });
        println!("{what}: {} B as bytes", ring.to_bytes().len());
    }
    group.finish();
}

criterion_group!(benches, layouts, routes);
criterion_main!(benches);
