//! Named scenarios: the faults of one bug that other stores had, and no others; the seed draws the rest. Those in `rules` are
//! bent towards one rule of the engine each, which wider worlds hardly ever need.

use super::swarm::Swarm;

mod rules;

/// A world that is bent towards one bug.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What went wrong elsewhere.
    pub what: &'static str,
    bend: fn(&mut Swarm),
}

impl Scenario {
    /// Those of bugs.
    const BUGS: &[Self] = &[
        Self {
            name: "last-writer-wins",
            what: "a clock ahead drops acknowledged writes (Jepsen on Riak, Cassandra, Aerospike)",
            bend: |swarm| {
                swarm.skew_ms = 350;
                swarm.partitions = 15_000;
            },
        },
        Self {
            name: "reused-history",
            what: "a replica that forgot its writes issues the same events again (riak_kv#679)",
            bend: |swarm| {
                durable(swarm);
                swarm.crashes = 20_000;
                swarm.disk_delay_ns = 3_000_000;
                swarm.net_delay_ns = 50_000;
            },
        },
        Self {
            name: "tombstone-that-outlived-its-key",
            what: "a stand-in hands over an old tombstone that covers a new key (riak_kv#679)",
            bend: |swarm| {
                swarm.deletes = 50;
                swarm.partitions = 20_000;
                swarm.sloppy = true;
            },
        },
        Self {
            name: "resurrection",
            what: "a node that was away brings back what was deleted (scylladb#8970, bitcask#82)",
            bend: |swarm| {
                swarm.deletes = 50;
                swarm.pauses = 20_000;
                swarm.loss = 200_000;
            },
        },
        Self {
            name: "buffered-acknowledgements",
            what: "all replicas crash at once and acknowledged writes are gone (Aerospike)",
            bend: |swarm| {
                durable(swarm);
                swarm.ends_in_blackout = true;
                swarm.is_worse_at_end = true;
                swarm.disk_delay_ns = 3_000_000;
            },
        },
        Self {
            name: "paused-master",
            what: "a process that slept acknowledges by an old view (Aerospike)",
            bend: |swarm| swarm.pauses = 30_000,
        },
        Self {
            name: "told-failed-did-succeed",
            what: "a write that was said to have failed shows up later (Aerospike, ScyllaDB)",
            bend: |swarm| {
                durable(swarm);
                swarm.sloppy = false;
                swarm.partitions = 20_000;
                swarm.pauses = 10_000;
                swarm.crashes = 5_000;
                swarm.loss = 100_000;
            },
        },
        Self {
            name: "quarantine-that-looks-like-absence",
            what: "a record that cannot be read counts as one that is not there (scylladb#2606)",
            bend: |swarm| {
                swarm.memory_bytes = 64 << 10;
                swarm.value_bytes = 8_000;
                swarm.read_errors = 200_000;
            },
        },
        Self {
            name: "one-replica-that-cannot-read",
            what: "the same where a read asks one replica, and a crash took from memory what the disk has (scylladb#2606)",
            bend: |swarm| {
                durable(swarm);
                (swarm.r, swarm.w, swarm.sloppy) = (1, 3, false);
                swarm.crashes = 20_000;
                swarm.read_errors = 200_000;
            },
        },
        Self {
            name: "broken-connection-that-counts",
            what: "a replica that died before it answered counts among those that have the write (Jepsen on MongoDB)",
            bend: |swarm| {
                durable(swarm);
                (swarm.r, swarm.w, swarm.sloppy) = (1, 3, false);
                swarm.crashes = 20_000;
                swarm.disk_delay_ns = 3_000_000;
            },
        },
        Self {
            name: "fsync-that-failed-once",
            what: "a write that failed is tried again, succeeds, and the data is gone (PostgreSQL 2018)",
            bend: |swarm| {
                durable(swarm);
                swarm.write_errors = 50_000;
                swarm.ends_in_blackout = true;
            },
        },
        Self {
            name: "writes-lost-under-handoff",
            what: "writes and deletes are lost while hints go out (riak_kv#1754, voldemort#290, riak_kv#1850)",
            bend: |swarm| {
                swarm.sloppy = true;
                swarm.partitions = 20_000;
                swarm.pauses = 10_000;
                swarm.deletes = 20;
                swarm.crashes = 0;
            },
        },
        Self {
            name: "stranded-stand-in",
            what: "a stand-in that was started again never hands over what it holds (riak_core#154)",
            bend: |swarm| {
                durable(swarm);
                swarm.sloppy = true;
                swarm.partitions = 20_000;
                swarm.crashes = 10_000;
                swarm.ends_in_blackout = true;
            },
        },
        Self {
            name: "writes-lost-while-partitions-move",
            what: "nodes join, leave and replace each other under load, and writes stay behind (Riak, ScyllaDB)",
            bend: |swarm| {
                swarm.is_live = true;
                swarm.safety_ms = 20_000;
                swarm.changes = 50_000;
                swarm.partitions = 5_000;
                swarm.pauses = 3_000;
                swarm.loss = 50_000;
            },
        },
        Self {
            name: "empty-disk-under-an-old-name",
            what: "a node comes back with an empty disk and counts as one that has its data (riak_kv#679, TigerBeetle#2767)",
            bend: |swarm| {
                durable(swarm);
                swarm.is_live = true;
                (swarm.r, swarm.w) = (2, 2);
                swarm.safety_ms = 10_000;
                swarm.wipes = 5_000;
                swarm.crashes = 5_000;
            },
        },
        Self {
            name: "rot-that-spreads",
            what: "bits that rotted on one disk are answered, or copied to others (Ganesan et al., FAST 2017)",
            bend: |swarm| {
                durable(swarm);
                swarm.is_live = true;
                (swarm.r, swarm.w) = (2, 2);
                swarm.memory_bytes = 64 << 10;
                swarm.value_bytes = 8_000;
                swarm.crashes = 5_000;
                swarm.rot = 100_000;
            },
        },
        Self {
            name: "directory-from-the-past",
            what: "a node comes back with an old copy of its directory, and counts as one that has its data (riak_kv#679)",
            bend: |swarm| {
                durable(swarm);
                swarm.is_live = true;
                (swarm.r, swarm.w) = (2, 2);
                swarm.safety_ms = 10_000;
                swarm.deletes = 40;
                swarm.backups = 20_000;
                swarm.stops = 5_000;
                swarm.crashes = 2_000;
            },
        },
        Self {
            name: "disk-that-lies",
            what: "a disk loses writes, misplaces them, or brings something else, and is believed (Ganesan et al., FAST 2017)",
            bend: |swarm| {
                durable(swarm);
                swarm.is_live = true;
                (swarm.r, swarm.w) = (2, 2);
                swarm.memory_bytes = 64 << 10;
                swarm.value_bytes = 8_000;
                swarm.crashes = 5_000;
                swarm.lost_writes = 20_000;
                swarm.misdirected_writes = 20_000;
                swarm.wrong_reads = 100_000;
            },
        },
        Self {
            name: "clock-that-leaps",
            what: "a clock leaps while its node runs, and what it dates wins or is lost (Jepsen on Cassandra, Aerospike)",
            bend: |swarm| {
                durable(swarm);
                swarm.is_live = true;
                swarm.skew_ms = 200;
                swarm.safety_ms = 10_000;
                swarm.leaps = 20_000;
                swarm.crashes = 2_000;
                swarm.stops = 2_000;
            },
        },
        Self {
            name: "deletes-lost-while-partitions-move",
            what: "deletes are not forwarded while partitions move, and what they deleted is back (riak_kv#1850)",
            bend: |swarm| {
                swarm.is_live = true;
                swarm.safety_ms = 20_000;
                swarm.changes = 50_000;
                swarm.deletes = 60;
                swarm.loss = 50_000;
            },
        },
        Self {
            name: "siblings-without-end",
            what: "puts without contexts make ever more siblings, until a node ends (riak_kv#746, riak_test#383)",
            bend: |swarm| {
                (swarm.clients, swarm.keys, swarm.value_bytes) = (12, 2, 8_000);
                swarm.segment_bytes = 256 << 10;
                swarm.loss = 50_000;
                swarm.bent.forgets_contexts = true;
            },
        },
        Self {
            name: "full-while-partitions-move",
            what: "disks are full, and writes fail, while partitions move (ScyllaDB, Yugabyte)",
            bend: |swarm| {
                durable(swarm);
                swarm.is_live = true;
                swarm.safety_ms = 20_000;
                swarm.changes = 50_000;
                swarm.full_disks = 10_000;
                swarm.write_errors = 10_000;
            },
        },
    ];

    /// All of them: those of bugs, then those of single rules.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        Self::BUGS.iter().chain(rules::RULES)
    }

    /// The one of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|scenario| scenario.name == name)
    }

    /// What a seed draws, bent.
    pub fn of(&self, seed: u64) -> Swarm {
        let mut swarm = Swarm::of(seed);
        swarm.calm();
        (self.bend)(&mut swarm);
        swarm
    }
}

/// Writes wait for stable media: nodes may crash.
fn durable(swarm: &mut Swarm) {
    swarm.is_durable = true;
}
