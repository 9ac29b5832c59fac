//! Knobs of memory: swapping, huge pages, reclaim, NUMA.
//!
//! Owns what a process with fixed buffers and direct I/O wants of the memory manager.
//! Never touches the dirty ratios: direct writes do not pass there, and the neighbours' choice is theirs.

use crate::knob::{
    Group, Guest, Knob, Lasting, Owner, Place, Reading, Severity, Spot, State, Target, Want,
};
use crate::machine::Machine;
use crate::tree::Tree;

const MEMORY: Knob = Knob {
    id: "",
    group: Group::Memory,
    place: Place::File(""),
    want: Want::Leave(""),
    severity: Severity::Info,
    owner: Owner::Host,
    guest: Guest::Same,
    lasting: Lasting::Sysctl,
    why: "",
    risk: "none",
};

pub(super) const KNOBS: &[Knob] = &[
    Knob {
        id: "swappiness",
        place: Place::File("/proc/sys/vm/swappiness"),
        want: Want::AtMost(1),
        severity: Severity::Warning,
        why: "a shard whose index was swapped out answers from disk, at a hundred times its latency",
        risk: "at 0 the kernel kills processes rather than swap, so 1 is written; caches of other programs shrink first",
        ..MEMORY
    },
    Knob {
        id: "swap-devices",
        place: Place::Probe("/proc/swaps", swaps),
        want: Want::Probed("told"),
        lasting: Lasting::Nothing,
        why: "the unit sets MemorySwapMax=0, so swap for the other programs of the host does no harm",
        ..MEMORY
    },
    Knob {
        id: "huge-pages",
        place: Place::File("/sys/kernel/mm/transparent_hugepage/enabled"),
        want: Want::Choice("madvise"),
        severity: Severity::Warning,
        lasting: Lasting::Unit,
        why: "with always, a page fault may clear 2 MiB or wait for compaction in the middle of a request; with never, the index cannot ask for them",
        risk: "other programs that counted on always lose huge pages",
        ..MEMORY
    },
    Knob {
        id: "huge-pages-defrag",
        place: Place::File("/sys/kernel/mm/transparent_hugepage/defrag"),
        want: Want::OneOf(&["madvise", "defer+madvise", "defer", "never"]),
        severity: Severity::Warning,
        lasting: Lasting::Unit,
        why: "with always, every program's page faults compact memory before they return",
        risk: "huge pages come later",
        ..MEMORY
    },
    Knob {
        id: "min-free",
        place: Place::File("/proc/sys/vm/min_free_kbytes"),
        want: Want::Computed("≥ 1 % of memory, between 64 MiB and 2 GiB", min_free),
        why: "with a small reserve an allocation in an interrupt or a page fault reclaims memory itself, while a request waits",
        risk: "that much memory stays free",
        ..MEMORY
    },
    Knob {
        id: "zone-reclaim",
        place: Place::File("/proc/sys/vm/zone_reclaim_mode"),
        want: Want::Exactly("0"),
        severity: Severity::Warning,
        why: "otherwise a node of memory that is full is reclaimed while the other one has room",
        ..MEMORY
    },
    Knob {
        id: "numa-balancing",
        place: Place::File("/proc/sys/kernel/numa_balancing"),
        want: Want::Exactly("0"),
        severity: Severity::Warning,
        why: "the balancer unmaps pages to see who touches them; shards are pinned and their memory is local already",
        risk: "programs that are not pinned keep remote memory",
        ..MEMORY
    },
    Knob {
        id: "numa-locality",
        place: Place::Probe(
            "/sys/block/DISK/device/numa_node of the disks and network cards",
            locality,
        ),
        want: Want::Probed("told"),
        lasting: Lasting::Nothing,
        why: "an interrupt or a transfer that crosses the sockets costs some hundred nanoseconds and the link's bandwidth",
        ..MEMORY
    },
    Knob {
        id: "max-map-count",
        place: Place::File("/proc/sys/vm/max_map_count"),
        want: Want::AtLeast(262_144),
        why: "an allocator that runs out of mappings fails as if memory were full",
        ..MEMORY
    },
    Knob {
        id: "dirty-ratio",
        place: Place::File("/proc/sys/vm/dirty_ratio"),
        want: Want::Leave("told"),
        lasting: Lasting::Nothing,
        why: "direct writes do not pass the page cache; it matters to backups and other programs on the disk",
        ..MEMORY
    },
    Knob {
        id: "dirty-background-ratio",
        place: Place::File("/proc/sys/vm/dirty_background_ratio"),
        want: Want::Leave("told"),
        lasting: Lasting::Nothing,
        why: "direct writes do not pass the page cache; it matters to backups and other programs on the disk",
        ..MEMORY
    },
];

fn min_free(machine: &Machine, _: &Spot) -> Option<Target> {
    let wanted_kib = (machine.memory_kib / 100).clamp(64 << 10, 2 << 20);
    // On a machine that small the reserve would be a large part of its memory.
    (machine.memory_kib >= 4 << 20).then_some(Target::AtLeast(wanted_kib))
}

fn swaps(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    let Ok(text) = tree.read("/proc/swaps") else {
        return Vec::new();
    };
    let devices: Vec<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let current = if devices.is_empty() {
        "none".to_owned()
    } else {
        devices.join(", ")
    };
    let (path, wanted) = ("/proc/swaps".to_owned(), "told".to_owned());
    vec![Reading {
        path,
        current,
        wanted,
        state: State::Told,
        note: String::new(),
    }]
}

fn locality(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    if machine.numa_count < 2 {
        return Vec::new();
    }
    let disks = machine.disks.iter().flat_map(|disk| {
        // Of an NVMe namespace `device` is the controller, and the hardware lies one further.
        ["device/device/numa_node", "device/numa_node"].map(|rest| {
            (
                disk.name.clone(),
                format!("/sys/block/{}/{rest}", disk.name),
            )
        })
    });
    let nics = machine.nics.iter().map(|nic| {
        (
            nic.name.clone(),
            format!("/sys/class/net/{}/device/numa_node", nic.name),
        )
    });
    let mut readings: Vec<Reading> = Vec::new();
    for (name, path) in disks.chain(nics) {
        let Some(node) = tree.get(&path).filter(|node| node.parse::<u32>().is_ok()) else {
            continue;
        };
        let cpus = tree
            .get(&format!("/sys/devices/system/node/node{node}/cpulist"))
            .unwrap_or_default();
        let note = format!("{name} is nearest to CPUs {cpus}: run its shards there");
        let current = format!("node {node}");
        readings.push(Reading {
            path,
            current,
            wanted: "told".into(),
            state: State::Told,
            note,
        });
    }
    readings
}
