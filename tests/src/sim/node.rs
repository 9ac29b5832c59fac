//! A node of the simulated cluster: its shards, their disks, its clock.

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::cluster::Boot;
use gramme_core::port::{Effects, Event};
use gramme_core::ring::Slices;
use gramme_core::shard::{Bucket, Shard, ShardConfig};

use super::disk::Disk;
use super::frontiers::{Frontiers, agree};
use super::membership::{Membership, address_of, bucket, first_id, place_of, zone_of};
use super::swarm::Swarm;

/// Partitions of the simulated ring.
pub(super) const PARTITIONS: u32 = 16;

/// One shard and its disk.
pub(super) struct ShardHost {
    pub shard: Option<Shard>,
    pub disk: Disk,
    /// Whether a `TurnEnd` is on its way.
    pub is_turn_scheduled: bool,
}

/// What a start tells the control shard, beside what the directory has.
pub(super) struct Role {
    pub seeds: Vec<String>,
    pub random_seed: u64,
}

/// A directory as it was at some moment.
#[derive(Clone)]
pub(super) struct Backup {
    pub id: NodeId,
    pub at_ns: u64,
    pub state: Option<Vec<u8>>,
    pub starts: u64,
    pub disks: Vec<Disk>,
}

/// One node.
pub(super) struct Node {
    pub id: NodeId,
    pub membership: Membership,
    pub shards: Vec<ShardHost>,
    /// What its shards tell each other.
    pub frontiers: Frontiers,
    /// Rises with each start; what belongs to an earlier one is dropped.
    pub life: u32,
    pub is_up: bool,
    pub is_paused: bool,
    /// What its wall clock is ahead by.
    pub skew_ms: u64,
    /// What it is ahead by, or behind, since it leapt.
    pub leapt_ms: i64,
    /// It crashes when it has carried out so many more effects.
    pub crash_in: Option<u32>,
    /// Until when its disk has no space for new files.
    pub full_until_ns: u64,
    /// Shards that have not stopped yet, while it is stopped in order.
    pub stopping: Option<usize>,
    /// Whether its directory is put aside when it has stopped.
    pub is_to_be_kept: bool,
    /// A directory of its that was put aside.
    pub backup: Option<Backup>,
    /// When its next tick comes.
    pub(crate) tick_at_ns: Option<u64>,
}

impl Node {
    pub(super) fn new(number: usize, shards: usize, skew_ms: u64) -> Self {
        let host = |_| ShardHost {
            shard: None,
            disk: Disk::default(),
            is_turn_scheduled: false,
        };
        Self {
            id: first_id(number),
            membership: Membership::default(),
            shards: (0..shards).map(host).collect(),
            frontiers: Frontiers::default(),
            life: 0,
            is_up: false,
            is_paused: false,
            skew_ms,
            leapt_ms: 0,
            crash_in: None,
            full_until_ns: 0,
            stopping: None,
            is_to_be_kept: false,
            backup: None,
            tick_at_ns: None,
        }
    }

    /// How its partitions are cut.
    pub(super) fn slices(&self) -> Slices {
        let shards = u16::try_from(self.shards.len()).expect("few");
        Slices::new(PARTITIONS, shards).expect("a power of two")
    }

    /// Its clocks at a virtual time.
    pub(super) fn now(&self, now_ns: u64) -> Now {
        let right_ms = 1_700_000_000_000 + now_ns / 1_000_000 + self.skew_ms;
        Now {
            mono_ns: now_ns + 1,
            wall_ms: right_ms.saturating_add_signed(self.leapt_ms),
        }
    }

    /// Starts it on what its disks hold; with a role it takes part in making the ring, and what follows from that alone
    /// comes back.
    pub(super) fn start(&mut self, now_ns: u64, swarm: &Swarm, role: Option<Role>) -> Effects {
        self.life += 1;
        let (now, slices, id) = (self.now(now_ns), self.slices(), self.id);
        self.frontiers = Frontiers::new(self.shards.len());
        let config = |number: usize| ShardConfig {
            node: id,
            shard: ShardIndex(number as u16),
            slices,
            tag_seed: id.0,
            buckets: vec![Bucket::new(b"default")],
            segment_bytes: swarm.segment_bytes,
            block_bytes: 4096,
            read_align_bytes: 512,
            capacity_bytes: 64 * u64::from(swarm.segment_bytes),
            memory_bytes: swarm.memory_bytes,
            commit_interval_ns: swarm.commit_interval_ns,
            commits_in_flight_max: 2,
            checkpoint_bytes: swarm.checkpoint_bytes,
            requests_max: 1_000,
            value_bytes_max: 1 << 16,
            clock_drift_ms_max: 500,
            clean_bytes_per_s: 128 << 20,
        };
        let open = |number: usize, disk: &mut Disk| {
            Shard::open(config(number), now, disk).expect("what was written opens")
        };
        let mut tails = Vec::new();
        for (number, host) in self.shards.iter_mut().enumerate() {
            let (shard, report) = open(number, &mut host.disk);
            host.shard = Some(shard);
            host.is_turn_scheduled = false;
            tails.push(report.tail);
        }
        let mut disks: Vec<&mut Disk> = self.shards.iter_mut().map(|host| &mut host.disk).collect();
        let cut = agree(&tails, &mut disks);
        for (number, (host, is_cut)) in self.shards.iter_mut().zip(cut).enumerate() {
            if is_cut {
                host.shard = Some(open(number, &mut host.disk).0);
            }
        }
        self.is_up = true;
        self.is_paused = false;
        self.crash_in = None;
        self.stopping = None;
        let mut effects = Effects::default();
        if let Some(role) = role {
            self.take_part(now_ns, swarm, role, &mut effects);
        }
        effects
    }

    fn take_part(&mut self, now_ns: u64, swarm: &Swarm, role: Role, effects: &mut Effects) {
        let (now, slices, place) = (self.now(now_ns), self.slices(), place_of(self.id));
        let own = &mut self.membership;
        own.view = None;
        let boot = Boot {
            me: self.id,
            name: format!("node-{}", self.id.0),
            zone: zone_of(place),
            listen: address_of(place),
            resp: String::new(),
            admin: String::new(),
            slices,
            weight: 1,
            start_count: own.starts,
            state: own.state.clone(),
            seeds: role.seeds,
            buckets: vec![bucket(swarm)],
            clock_drift_ms_max: 500,
            random_seed: role.random_seed,
        };
        let mut machines = self
            .shards
            .iter_mut()
            .filter_map(|host| host.shard.as_mut());
        if let Some(control) = machines.next() {
            control.await_view();
            let taken = control.take_control(boot, now, effects);
            taken.expect("what was kept of the ring is its own");
        }
        machines.for_each(Shard::await_view);
    }

    /// When one of its shards wants a tick.
    pub(super) fn next_tick_ns(&self) -> Option<u64> {
        self.shards
            .iter()
            .filter_map(|host| host.shard.as_ref()?.next_deadline_ns())
            .min()
    }

    /// Whether this event is one that ends a turn.
    pub(super) const fn ends_turn(event: &Event<'_>) -> bool {
        matches!(event, Event::TurnEnd)
    }
}
