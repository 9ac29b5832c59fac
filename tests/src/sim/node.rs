//! A node of the simulated cluster: its shards, their disks, its clock.

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::base::time::Now;
use gramme_core::cluster::Boot;
use gramme_core::port::{Effects, Event};
use gramme_core::ring::Slices;
use gramme_core::shard::{Bucket, RecoveryReport, Shard, ShardConfig};

use super::disk::Disk;
use super::frontiers::{Frontiers, agree};
use super::history::right_ms;
use super::membership::{Membership, address_of, bucket, first_id, place_of, zone_of};
use super::redeal::{self, Side};
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

/// How partitions are cut by so many shards.
fn slices_of(shards: usize) -> Slices {
    let shards = u16::try_from(shards).expect("few");
    Slices::new(PARTITIONS, shards).expect("a power of two")
}

/// Opens the shards of these disks, as far as they depend on nothing that another one lost.
fn open_all(
    config: &ShardConfig,
    now: Now,
    mut disks: Vec<&mut Disk>,
) -> Vec<(Shard, RecoveryReport)> {
    let open = |number: usize, disk: &mut Disk| {
        let config = ShardConfig {
            shard: ShardIndex(number as u16),
            ..config.clone()
        };
        Shard::open(config, now, disk).expect("what was written opens")
    };
    let disks_of = disks.iter_mut().enumerate();
    let mut opened: Vec<_> = disks_of.map(|(number, disk)| open(number, disk)).collect();
    let tails: Vec<_> = opened
        .iter()
        .map(|(_, report)| report.tail.clone())
        .collect();
    let cut = agree(&tails, &mut disks);
    for (number, is_cut) in cut.into_iter().enumerate() {
        if is_cut {
            opened[number] = open(number, disks[number]);
        }
    }
    opened
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
    /// Until when no gossip reaches it.
    pub uninformed_until_ns: u64,
    /// Shards that have not stopped yet, while it is stopped in order.
    pub stopping: Option<usize>,
    /// Whether its directory is put aside when it has stopped.
    pub is_to_be_kept: bool,
    /// A directory of its that was put aside.
    pub backup: Option<Backup>,
    /// Since when it has run without a pause, a start or an end.
    pub undisturbed_since_ns: u64,
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
            uninformed_until_ns: 0,
            stopping: None,
            is_to_be_kept: false,
            backup: None,
            undisturbed_since_ns: 0,
            tick_at_ns: None,
        }
    }

    /// How its partitions are cut.
    pub(super) fn slices(&self) -> Slices {
        slices_of(self.shards.len())
    }

    /// Its clocks at a virtual time.
    pub(super) fn now(&self, now_ns: u64) -> Now {
        let own_ms = right_ms(now_ns) + self.skew_ms;
        Now {
            mono_ns: now_ns + 1,
            wall_ms: own_ms.saturating_add_signed(self.leapt_ms),
        }
    }

    /// Starts it on what its disks hold; with a role it takes part in making the ring, and what follows from that alone
    /// comes back.
    pub(super) fn start(&mut self, now_ns: u64, swarm: &Swarm, role: Option<Role>) -> Effects {
        self.life += 1;
        self.undisturbed_since_ns = now_ns;
        let (now, config) = (self.now(now_ns), self.config(swarm));
        self.frontiers = Frontiers::new(self.shards.len());
        let disks = self.shards.iter_mut().map(|host| &mut host.disk).collect();
        let opened = open_all(&config, now, disks);
        for (host, (shard, _)) in self.shards.iter_mut().zip(opened) {
            host.shard = Some(shard);
            host.is_turn_scheduled = false;
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

    /// Its first shard's.
    fn config(&self, swarm: &Swarm) -> ShardConfig {
        ShardConfig {
            node: self.id,
            shard: ShardIndex(0),
            slices: self.slices(),
            tag_seed: self.id.0,
            buckets: vec![Bucket::new(b"default")],
            segment_bytes: swarm.segment_bytes,
            block_bytes: 4096,
            read_align_bytes: 512,
            capacity_bytes: 64 * u64::from(swarm.segment_bytes),
            memory_bytes: swarm.memory_bytes,
            commit_interval_ns: swarm.commit_interval_ns,
            commits_in_flight_max: 2,
            checkpoint_bytes: swarm.checkpoint_bytes,
            requests_max: swarm.requests_max,
            value_bytes_max: 1 << 16,
            clock_drift_ms_max: 500,
            clean_bytes_per_s: 128 << 20,
            scrub_ns: 0,
        }
    }

    /// Deals what its disks hold to another number of shards, before a start; how many records it has moved. Where the log
    /// is damaged nothing is dealt, and where power fails before the end all is as it was.
    pub(super) fn redeal(
        &mut self,
        now_ns: u64,
        swarm: &Swarm,
        (shards, fails_after): (usize, Option<u64>),
    ) -> Result<Option<u64>, String> {
        let (now, config) = (self.now(now_ns), self.config(swarm));
        let disks = || self.shards.iter().map(|host| host.disk.clone());
        let mut old_disks: Vec<Disk> = disks().collect();
        let opened = open_all(&config, now, old_disks.iter_mut().collect());
        if opened.iter().any(|(_, report)| !report.damage.is_empty()) {
            return Ok(None);
        }
        let promised = opened.iter().map(|(_, report)| report.promised).max();
        let old = opened.into_iter().zip(old_disks);
        let old = old.map(|((shard, _), disk)| (shard, disk)).collect();
        let mut old = Side::new(old, now, None);
        let slices = slices_of(shards);
        let dealt = ShardConfig { slices, ..config };
        let mut new_disks = vec![Disk::default(); shards];
        let opened = open_all(&dealt, now, new_disks.iter_mut().collect());
        let new = opened.into_iter().zip(new_disks);
        let new = new.map(|((shard, _), disk)| (shard, disk)).collect();
        let mut new = Side::new(new, now, promised);
        let moved = redeal::move_all(&mut old, &mut new, (slices, fails_after))?;
        if fails_after.is_some() {
            for (host, (_, disk)) in self.shards.iter_mut().zip(old.shards) {
                host.disk = disk;
            }
            return Ok(None);
        }
        let host = |(_, disk)| ShardHost {
            shard: None,
            disk,
            is_turn_scheduled: false,
        };
        self.shards = new.shards.into_iter().map(host).collect();
        Ok(Some(moved))
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
