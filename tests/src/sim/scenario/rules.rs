//! Scenarios of single rules: worlds in which nothing else mends what follows where the rule is broken.

use super::{Scenario, durable};

/// All of them.
pub(super) const RULES: &[Scenario] = &[
    Scenario {
        name: "compared-from-one-side",
        what: "of two replicas one compares, and either may be the one that lacks something",
        bend: |swarm| {
            durable(swarm);
            swarm.bent.is_unattended = true;
            (swarm.r, swarm.w, swarm.keys) = (1, 1, 20);
            swarm.loss = 100_000;
            swarm.partitions = 20_000;
            swarm.crashes = 10_000;
            swarm.disk_delay_ns = 3_000_000;
            (swarm.ends_in_blackout, swarm.is_worse_at_end) = (true, true);
        },
    },
    Scenario {
        name: "hints-for-a-full-disk",
        what: "the node that a hint is for is back, and its disk is full",
        bend: |swarm| {
            (swarm.is_durable, swarm.sloppy) = (false, false);
            (swarm.r, swarm.w, swarm.keys) = (1, 1, 20);
            swarm.segment_bytes = 256 << 10;
            swarm.value_bytes = 8_000;
            swarm.partitions = 20_000;
            swarm.full_disks = 200_000;
        },
    },
    Scenario {
        name: "expiry-that-is-changed",
        what: "values get another expiry, shorter or longer or none, and go by the one they had",
        bend: |swarm| {
            (swarm.expiring, swarm.ttl_ms, swarm.keys) = (60, 300, 20);
            (swarm.deletes, swarm.skew_ms) = (0, 0);
            swarm.loss = 50_000;
        },
    },
    Scenario {
        name: "another-number-of-shards",
        what: "a node crashes, starts with another number of shards, and goes on with what its old ones forgot",
        bend: |swarm| {
            durable(swarm);
            swarm.crashes = 40_000;
            swarm.redeals = 100;
            swarm.disk_delay_ns = 3_000_000;
            swarm.net_delay_ns = 50_000;
        },
    },
    Scenario {
        name: "deleted-where-it-never-was",
        what: "a key is deleted through a replica that missed the write of it",
        bend: |swarm| {
            (swarm.is_durable, swarm.sloppy) = (false, false);
            (swarm.r, swarm.w) = (1, 1);
            swarm.deletes = 50;
            swarm.loss = 200_000;
            swarm.partitions = 20_000;
            swarm.net_delay_ns = 5_000_000;
        },
    },
    Scenario {
        name: "clock-set-back-over-a-crash",
        what: "a node crashes, forgets what it sent a moment ago, and starts again with an earlier clock",
        bend: |swarm| {
            // What one node forgets another has: nothing waits for stable media.
            swarm.bent.has_victim = true;
            swarm.has_bursts = core::mem::take(&mut swarm.is_durable);
            (swarm.r, swarm.w, swarm.sloppy, swarm.keys) = (1, 3, false, 2);
            (swarm.nodes, swarm.clients) = (3, 4);
            swarm.skew_ms = 290;
            swarm.crashes = 30_000;
            swarm.safety_ms = 5_000;
            swarm.disk_delay_ns = 30_000_000;
            swarm.commit_interval_ns = 20_000_000;
            swarm.net_delay_ns = 2_000_000;
        },
    },
];
