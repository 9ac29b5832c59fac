//! What a seed draws before it runs: which faults there are and how often, and the sizes of everything (Groce et al.,
//! "Swarm testing", ISSTA 2012). Rates that are zero in one seed and high in another reach what one mean never does.

use super::random::Random;

/// One seed's world.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Replicas.
    pub n: u8,
    /// Answers of a read.
    pub r: u8,
    /// Acknowledgements of a write.
    pub w: u8,
    /// Whether every write asks for stable media at one replica at least; without it no node crashes.
    pub is_durable: bool,
    /// Clients.
    pub clients: usize,
    /// Keys.
    pub keys: usize,
    /// How long faults go on, virtual.
    pub safety_ms: u64,
    /// The mean delay of a message.
    pub net_delay_ns: u64,
    /// Messages lost, in a million.
    pub loss: u64,
    /// Messages doubled, in a million.
    pub doubled: u64,
    /// Partitions begun, in a million a virtual 10 ms.
    pub partitions: u64,
    /// Crashes, in a million a virtual 10 ms.
    pub crashes: u64,
    /// Pauses (`SIGSTOP`), in a million a virtual 10 ms.
    pub pauses: u64,
    /// The mean time of a disk operation.
    pub disk_delay_ns: u64,
    /// Reads that fail, in a million.
    pub read_errors: u64,
    /// The most that a node's clock is off.
    pub skew_ms: u64,
    /// The share of deletes among the writes, in a hundred.
    pub deletes: u64,
    /// A log segment.
    pub segment_bytes: u32,
    /// How long a buffered write may wait.
    pub commit_interval_ns: u64,
    /// Whether stand-ins count.
    pub sloppy: bool,
    /// What a shard may keep in memory; where it is little, reads go to the disk.
    pub memory_bytes: u64,
    /// The log that a checkpoint stands for.
    pub checkpoint_bytes: u64,
    /// What a value has at most.
    pub value_bytes: u64,
    /// Writes that fail, in a million.
    pub write_errors: u64,
    /// Disks that become full for a while, in a million a virtual 10 ms.
    pub full_disks: u64,
    /// Whether all nodes are killed at once when the faults stop.
    pub ends_in_blackout: bool,
    /// Whether faults come more often in the last fifth of the time.
    pub is_worse_at_end: bool,
    /// Whether nodes make the ring themselves, by gossip; else all views are given and never change but for who is up.
    pub is_live: bool,
    /// Changes of the membership, in a million a virtual 10 ms.
    pub changes: u64,
    /// Disks that are lost whole, in a million a virtual 10 ms.
    pub wipes: u64,
    /// Bits that rot on a disk, in a million a virtual 10 ms.
    pub rot: u64,
    /// Frames of which a bit changes on the way, in a million.
    pub flips: u64,
    /// Directories that are put aside, or put back as they were, in a million a virtual 10 ms.
    pub backups: u64,
    /// Nodes that are stopped in order and started again, in a million a virtual 10 ms.
    pub stops: u64,
    /// Writes that a disk acknowledges and never does, in a million.
    pub lost_writes: u64,
    /// Writes that land elsewhere, in a million.
    pub misdirected_writes: u64,
    /// Reads that bring what lay there before, or what lies elsewhere, in a million.
    pub wrong_reads: u64,
    /// Clocks that leap, in a million a virtual 10 ms.
    pub leaps: u64,
    /// Links that clog one by one, and let go in an order of their own, in a million a virtual 10 ms.
    pub clogs: u64,
    /// Whether clients come all at once, again and again.
    pub has_bursts: bool,
    /// The share of puts that expire, in a hundred.
    pub expiring: u64,
    /// How long such a value has at most; some have ten minutes more, and outlive the run.
    pub ttl_ms: u64,
    /// The share of operations that go to one key, in a hundred, beside what it gets like all others.
    pub hot: u64,
    /// The key that is hot.
    pub hot_key: usize,
    /// How long a node has for an answer.
    pub deadline_ms: u64,
    /// What a shard lets wait.
    pub requests_max: u32,
    /// The share of starts after a crash with another number of shards, in a hundred.
    pub redeals: u64,
    /// What only scenarios of single rules have.
    pub bent: Bent,
}

/// What no seed draws: bends of scenarios towards one rule of the engine each.
#[derive(Clone, Debug, Default)]
pub struct Bent {
    /// Nobody asks the nodes to compare at the end: of each two only one does it by itself.
    pub is_unattended: bool,
    /// Three of four writes to carts have no context, though their client has one.
    pub forgets_contexts: bool,
    /// Only the first node crashes: what it forgets another one has, so that no write waits for stable media.
    pub has_victim: bool,
    /// One copy of each key, and buffered writes: a crash takes the newest of them, and none of before those.
    pub is_lone: bool,
    /// Every reader that there might be is asked all the time.
    pub watches_reads: bool,
    /// A clock that leapt is wrong for longer than a node doubts it by itself.
    pub stays_wrong: bool,
    /// How many zones writes ask for.
    pub zones: u8,
}

/// Seeds from here on draw the whole world. Those below draw what the first simulator knew, so that the seeds that found
/// something then still run alike.
pub const WIDE_FROM: u64 = 1_000_000;

/// Seeds from here on draw a world whose ring is live, with members that come and go, and data that is destroyed.
pub const LIVE_FROM: u64 = 2_000_000;

/// Seeds from here on draw the live world, and machines that lie: disks that lose, misplace and confuse what they are given,
/// directories from the past, clocks that leap; and full disks and failed writes as well.
const LYING_FROM: u64 = 3_000_000;

/// Seeds from here on draw the wide world, and values that expire, keys that are hot, more clients, and starts with another
/// number of shards.
const FADING_FROM: u64 = 4_000_000;

impl Swarm {
    /// What this seed draws.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7377_6172_6d00_0000);
        let is_durable = random.coin();
        let mut rate = |most: u64| if random.coin() { random.below(most) } else { 0 };
        let (loss, doubled) = (rate(200_000), rate(100_000));
        let (partitions, crashes, pauses) = (rate(20_000), rate(10_000), rate(10_000));
        let read_errors = rate(20_000);
        let nodes = 3 + random.index(4);
        let (r, w) = [(2, 2), (2, 2), (1, 3), (3, 1), (1, 1), (3, 3)][random.index(6)];
        let mut swarm = Self {
            nodes,
            n: 3,
            r,
            w,
            is_durable,
            clients: 2 + random.index(5),
            keys: 1 + random.index(6),
            safety_ms: 500 + random.below(4_000),
            net_delay_ns: [50_000, 500_000, 5_000_000][random.index(3)],
            loss,
            doubled,
            partitions,
            crashes: if is_durable { crashes } else { 0 },
            pauses,
            disk_delay_ns: [20_000, 200_000, 3_000_000][random.index(3)],
            read_errors,
            skew_ms: [0, 0, 20, 200][random.index(4)],
            deletes: [0, 0, 10, 40][random.index(4)],
            segment_bytes: [256 << 10, 1 << 20][random.index(2)],
            commit_interval_ns: [1_000_000, 10_000_000][random.index(2)],
            sloppy: random.coin(),
            memory_bytes: 4 << 20,
            checkpoint_bytes: 0,
            value_bytes: 600,
            write_errors: 0,
            full_disks: 0,
            ends_in_blackout: false,
            is_worse_at_end: false,
            is_live: false,
            changes: 0,
            wipes: 0,
            rot: 0,
            flips: 0,
            backups: 0,
            stops: 0,
            lost_writes: 0,
            misdirected_writes: 0,
            wrong_reads: 0,
            leaps: 0,
            clogs: 0,
            has_bursts: false,
            expiring: 0,
            ttl_ms: 0,
            hot: 0,
            hot_key: 0,
            deadline_ms: 1_500,
            requests_max: 1_000,
            redeals: 0,
            bent: Bent::default(),
        };
        if seed >= FADING_FROM {
            swarm.widen(&mut Random::new(seed ^ 0x7769_6465_0000_0000));
            swarm.fade(&mut Random::new(seed ^ 0x6661_6465_0000_0000));
        } else if seed >= LIVE_FROM {
            swarm.enliven(&mut Random::new(seed ^ 0x6c69_7665_0000_0000));
            if seed >= LYING_FROM {
                swarm.belie(&mut Random::new(seed ^ 0x6c69_6573_0000_0000));
            }
        } else if seed >= WIDE_FROM {
            swarm.widen(&mut Random::new(seed ^ 0x7769_6465_0000_0000));
        }
        if swarm.checkpoint_bytes == 0 {
            swarm.checkpoint_bytes = u64::from(swarm.segment_bytes);
        }
        swarm
    }

    /// Draws what came later.
    fn widen(&mut self, random: &mut Random) {
        self.value_bytes = [600, 600, 8_000][random.index(3)];
        self.memory_bytes = [64 << 10, 4 << 20][random.index(2)];
        self.segment_bytes = [256 << 10, 256 << 10, 1 << 20][random.index(3)];
        self.checkpoint_bytes = [8 << 10, 64 << 10, u64::from(self.segment_bytes)][random.index(3)];
        self.skew_ms = [0, 20, 200, 350][random.index(4)];
        self.is_worse_at_end = random.coin();
        if random.coin() {
            self.read_errors = random.below(200_000);
        }
        if random.coin() {
            self.full_disks = random.below(20_000);
        }
        // Each of these takes what is in memory only.
        if self.is_durable {
            self.ends_in_blackout = random.coin();
            if random.coin() {
                self.crashes = random.below(20_000);
            }
            if random.below(3) == 0 {
                self.write_errors = random.below(20_000);
            }
        }
    }

    /// Draws a live ring. Disks that are full and writes that fail are left to the wide world.
    fn enliven(&mut self, random: &mut Random) {
        self.is_live = true;
        self.safety_ms = 3_000 + random.below(7_000);
        self.value_bytes = [600, 8_000][random.index(2)];
        self.memory_bytes = [64 << 10, 4 << 20][random.index(2)];
        self.checkpoint_bytes = [8 << 10, 64 << 10, u64::from(self.segment_bytes)][random.index(3)];
        self.is_worse_at_end = random.coin();
        self.ends_in_blackout = self.is_durable && random.coin();
        self.changes = [0, 3_000, 10_000][random.index(3)];
        self.flips = [0, 0, 1_000, 20_000][random.index(4)];
        // One copy of what W replicas acknowledged must stay.
        if self.w > 1 {
            self.rot = [0, 0, 5_000, 50_000][random.index(4)];
            self.wipes = [0, 0, 1_000, 4_000][random.index(4)];
        }
    }

    /// Draws machines that lie.
    fn belie(&mut self, random: &mut Random) {
        let mut rate = |most: u64| if random.coin() { random.below(most) } else { 0 };
        (self.stops, self.leaps, self.clogs) = (rate(10_000), rate(20_000), rate(50_000));
        self.full_disks = rate(20_000);
        if self.w > 1 {
            self.backups = rate(30_000);
            self.lost_writes = rate(50_000);
            self.misdirected_writes = rate(50_000);
            self.wrong_reads = rate(200_000);
        }
        if self.is_durable {
            self.write_errors = rate(20_000);
        }
        self.has_bursts = random.coin();
        if random.coin() {
            self.keys = 20;
        }
    }

    /// Draws values that expire, and whom clients crowd around.
    fn fade(&mut self, random: &mut Random) {
        self.expiring = [0, 20, 60][random.index(3)];
        self.ttl_ms = [300, 3_000, 30_000][random.index(3)];
        self.hot = [0, 50, 90][random.index(3)];
        self.keys = [self.keys, 12][random.index(2)];
        self.hot_key = random.index(self.keys);
        self.clients = [self.clients, 12][random.index(2)];
        self.requests_max = [1_000, 1_000, 4][random.index(3)];
        if random.coin() {
            self.redeals = 50;
        }
        self.deadline_ms = [1_500, 1_500, 200][random.index(3)];
    }

    /// No fault at all.
    pub const fn calm(&mut self) {
        (self.loss, self.doubled, self.partitions) = (0, 0, 0);
        (self.crashes, self.pauses, self.skew_ms) = (0, 0, 0);
        (self.read_errors, self.write_errors, self.full_disks) = (0, 0, 0);
        (self.ends_in_blackout, self.is_worse_at_end) = (false, false);
        (self.changes, self.wipes, self.rot, self.flips) = (0, 0, 0, 0);
        (self.backups, self.stops, self.leaps, self.clogs) = (0, 0, 0, 0);
        (self.lost_writes, self.misdirected_writes) = (0, 0);
        (self.wrong_reads, self.has_bursts) = (0, false);
    }

    /// Whether nodes are started again during the run.
    pub const fn has_restarts(&self) -> bool {
        self.has_crashes() || self.write_errors > 0 || self.stops > 0 || self.has_moves()
    }

    /// Whether nodes are killed and come back with what they had.
    pub const fn has_crashes(&self) -> bool {
        self.crashes > 0 || self.ends_in_blackout
    }

    /// Whether data moves to other nodes, or must be brought back from them.
    pub const fn has_moves(&self) -> bool {
        self.changes > 0 || self.wipes > 0 || self.has_liars()
    }

    /// Whether a disk may have other things than were written to it, so that what it has is known when it was read only.
    pub const fn has_liars(&self) -> bool {
        self.rot > 0
            || self.backups > 0
            || self.lost_writes > 0
            || self.misdirected_writes > 0
            || self.wrong_reads > 0
    }
}
