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
    Scenario {
        name: "torn-batch-before-a-whole-one",
        what: "several batches are on their way at a crash, and the first of them is torn",
        bend: |swarm| {
            swarm.bent.is_lone = true;
            (swarm.n, swarm.r, swarm.w, swarm.sloppy) = (1, 1, 1, false);
            (swarm.is_durable, swarm.deletes) = (false, 0);
            (swarm.nodes, swarm.keys, swarm.clients) = (1, 20, 6);
            swarm.crashes = 5_000;
            swarm.ends_in_blackout = true;
            swarm.disk_delay_ns = 30_000_000;
        },
    },
    Scenario {
        name: "reads-while-partitions-move",
        what: "coordinators and readers go by different views, and a read finds none of those that have a write",
        bend: |swarm| {
            swarm.is_live = true;
            swarm.bent.watches_reads = true;
            if swarm.r + swarm.w <= swarm.n || swarm.r + swarm.w > 4 {
                (swarm.r, swarm.w) = (2, 2);
            }
            (swarm.is_durable, swarm.sloppy, swarm.deletes) = (false, false, 0);
            (swarm.nodes, swarm.keys, swarm.clients) = (4, 12, 4);
            swarm.memory_bytes = 4 << 20;
            swarm.value_bytes = 600;
            swarm.net_delay_ns = 500_000;
            swarm.safety_ms = 15_000;
            swarm.changes = 100_000;
            swarm.clogs = 5_000;
            swarm.loss = 50_000;
        },
    },
    Scenario {
        name: "acknowledged-by-zones",
        what: "writes ask for several zones, and a stand-in is in one that has them already",
        bend: |swarm| {
            swarm.bent.zones = 2 + (swarm.clients % 2) as u8;
            (swarm.is_durable, swarm.sloppy, swarm.deletes) = (false, true, 0);
            (swarm.n, swarm.r, swarm.w) = (3, 2, 2);
            (swarm.memory_bytes, swarm.value_bytes) = (4 << 20, 600);
            (swarm.expiring, swarm.requests_max) = (0, 1_000);
            swarm.loss = 100_000;
            swarm.partitions = 20_000;
            swarm.clogs = 20_000;
        },
    },
    Scenario {
        name: "clock-that-stays-wrong",
        what: "a clock leaps far ahead, and nobody sets it right for as long as its node doubts it by itself",
        bend: |swarm| {
            swarm.is_live = true;
            swarm.bent.stays_wrong = true;
            (swarm.is_durable, swarm.sloppy) = (false, false);
            swarm.skew_ms = 200;
            swarm.safety_ms = 20_000;
            swarm.leaps = 10_000;
        },
    },
];
