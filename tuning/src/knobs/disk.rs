//! Knobs of disks and file systems.
//!
//! Owns what O_DIRECT writes through io_uring want of a block device.
//! Never writes `write_cache`: the file only changes what the kernel believes about the device.

use crate::knob::{Group, Guest, Knob, Lasting, Owner, Place, Reading, Severity, State, Want};
use crate::machine::Machine;
use crate::tree::Tree;

const DISK: Knob = Knob {
    id: "",
    group: Group::Disk,
    place: Place::File(""),
    want: Want::Leave(""),
    severity: Severity::Info,
    owner: Owner::Host,
    guest: Guest::Same,
    lasting: Lasting::Udev,
    why: "",
    risk: "none",
};

pub(super) const KNOBS: &[Knob] = &[
    Knob {
        id: "disk-scheduler",
        place: Place::Disk("queue/scheduler"),
        want: Want::Choice("none"),
        severity: Severity::Warning,
        why: "the node orders its own writes; a scheduler adds a lock and a sort to every request and can hold a read back",
        risk: "other programs on the same disk lose the scheduler's fairness",
        ..DISK
    },
    Knob {
        id: "disk-nomerges",
        place: Place::Disk("queue/nomerges"),
        want: Want::Exactly("2"),
        why: "the node's writes are merged before they are sent; looking for neighbours to merge costs CPU in every request",
        risk: "programs that read in small sequential steps without O_DIRECT lose merging",
        ..DISK
    },
    Knob {
        id: "disk-rq-affinity",
        place: Place::Disk("queue/rq_affinity"),
        want: Want::Exactly("2"),
        why: "a completion handled on the CPU that sent the request finds its data in that CPU's cache",
        risk: "one more interrupt between CPUs where a disk has fewer queues than the machine has CPUs",
        ..DISK
    },
    Knob {
        id: "disk-wbt",
        place: Place::Disk("queue/wbt_lat_usec"),
        want: Want::Exactly("0"),
        why: "writeback throttling slows writers to protect readers; the node paces its own background writes and wants the foreground's at once",
        risk: "a neighbour with much buffered writing is no longer slowed down",
        ..DISK
    },
    Knob {
        id: "disk-read-ahead",
        place: Place::Disk("queue/read_ahead_kb"),
        want: Want::Leave("irrelevant"),
        lasting: Lasting::Nothing,
        why: "read-ahead does not touch O_DIRECT reads, and lowering it would slow backups down",
        ..DISK
    },
    Knob {
        id: "disk-queue-depth",
        place: Place::Disk("queue/nr_requests"),
        want: Want::AtLeast(64),
        why: "a request that finds no free tag sleeps in the kernel, inside the shard's only system call",
        ..DISK
    },
    Knob {
        id: "disk-add-random",
        place: Place::Disk("queue/add_random"),
        want: Want::Exactly("0"),
        why: "feeding the entropy pool from every completion costs time and gives nothing on a modern kernel",
        ..DISK
    },
    Knob {
        id: "disk-write-cache",
        place: Place::Probe("/sys/block/DISK/queue/write_cache", write_cache),
        want: Want::Probed("told, never written"),
        severity: Severity::Critical,
        lasting: Lasting::Nothing,
        why: "tells whether a durable write costs a flush; writing the file would only change what the kernel believes and drop the flushes that durability stands on",
        ..DISK
    },
    Knob {
        id: "disk-io-timeout",
        place: Place::Disk("queue/io_timeout"),
        want: Want::Leave("told (ms)"),
        lasting: Lasting::Nothing,
        why: "a disk that hangs is only given up after this time; the node routes round it long before",
        ..DISK
    },
    Knob {
        id: "disk-alignment",
        place: Place::Probe("/sys/block/DISK/queue/physical_block_size", alignment),
        want: Want::Probed("logical = physical block"),
        lasting: Lasting::Nothing,
        why: "a write smaller than the device's true block is read, changed and written back by the device, and can tear",
        risk: "changing it means reformatting the namespace, which erases it",
        ..DISK
    },
    Knob {
        id: "nvme-poll-queues",
        place: Place::File("/sys/module/nvme/parameters/poll_queues"),
        want: Want::Leave("told: 0 unless the node is told to poll"),
        lasting: Lasting::Nothing,
        why: "polled queues complete without an interrupt, but only a node that spins on them gains, and it uses its CPU whole",
        risk: "a CPU at 100 %; needs the driver to be loaded anew",
        ..DISK
    },
    Knob {
        id: "nvme-power-saving",
        place: Place::File("/sys/module/nvme_core/parameters/default_ps_max_latency_us"),
        want: Want::Exactly("0"),
        severity: Severity::Warning,
        guest: Guest::Absent,
        lasting: Lasting::Unit,
        why: "an NVMe disk that went to sleep needs up to milliseconds for its first answer; the kernel allows it by default",
        risk: "more power when idle; applies to controllers that are added or reset after the write (nvme_core.default_ps_max_latency_us=0 as kernel argument covers the first start)",
        ..DISK
    },
    Knob {
        id: "pcie-aspm",
        place: Place::File("/sys/module/pcie_aspm/parameters/policy"),
        want: Want::Choice("performance"),
        guest: Guest::Absent,
        lasting: Lasting::Unit,
        why: "a PCIe link that sleeps between requests adds microseconds to the first one",
        risk: "more power when idle; firmware may refuse",
        ..DISK
    },
    Knob {
        id: "nvme-irqs",
        place: Place::Probe(
            "/proc/irq/N/effective_affinity_list of the NVMe queues",
            nvme_irqs,
        ),
        want: Want::Probed("managed by the kernel, a queue for each shard"),
        lasting: Lasting::Nothing,
        why: "the kernel spreads the queues of an NVMe disk over the CPUs itself and refuses other placements; only their number can be too small",
        ..DISK
    },
    Knob {
        id: "fs-type",
        place: Place::Probe("/proc/self/mountinfo of the data directory", fs_type),
        want: Want::Probed("xfs or ext4"),
        severity: Severity::Warning,
        owner: Owner::Process,
        lasting: Lasting::Nothing,
        why: "the log is appended with O_DIRECT without blocking; network, overlay and copy-on-write file systems block or refuse",
        risk: "changing it means moving the data",
        ..DISK
    },
    Knob {
        id: "fs-options",
        place: Place::Probe(
            "/proc/self/mountinfo of the data directory's options",
            fs_options,
        ),
        want: Want::Probed("noatime, no discard, no nobarrier"),
        severity: Severity::Warning,
        lasting: Lasting::Nothing,
        why: "online discard sends trims in the middle of the foreground's writes (a weekly fstrim does the same in peace), and nobarrier loses acknowledged writes with the power",
        risk: "a change in fstab and a remount",
        ..DISK
    },
    Knob {
        id: "fs-trim",
        place: Place::Probe(
            "/etc/systemd/system/timers.target.wants/fstrim.timer",
            trim_timer,
        ),
        want: Want::Probed("enabled"),
        lasting: Lasting::Nothing,
        why: "a disk that is never told what is free runs out of erased blocks, and its writes become as slow as its erases",
        risk: "a few seconds of trims a week",
        ..DISK
    },
];

fn read_of(path: String, current: String, wanted: &str, state: State, note: &str) -> Reading {
    Reading {
        path,
        current,
        wanted: wanted.to_owned(),
        state,
        note: note.to_owned(),
    }
}

fn write_cache(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let mut readings = Vec::new();
    for disk in &machine.disks {
        let path = format!("/sys/block/{}/queue/write_cache", disk.name);
        let Some(current) = tree.get(&path) else {
            continue;
        };
        // `fua` stays 1 when somebody forces "write through" on a device that has a volatile cache.
        let has_fua = tree
            .get(&format!("/sys/block/{}/queue/fua", disk.name))
            .as_deref()
            == Some("1");
        let (state, note) = match current.as_str() {
            "write through" if has_fua => (
                State::OffByHand,
                "the device offers FUA, so it has a volatile cache: somebody forced \"write through\" and flushes are being dropped; write \"write back\" there or restart",
            ),
            "write through" => (
                State::Told,
                "no volatile cache: a durable write needs no flush",
            ),
            "write back" if has_fua => (
                State::Told,
                "volatile cache with FUA: a durable write is one forced write",
            ),
            "write back" => (
                State::Told,
                "volatile cache without FUA: a durable write is a write and a flush",
            ),
            _ => (State::Unknown, ""),
        };
        readings.push(read_of(path, current, "as the device reports", state, note));
    }
    readings
}

fn alignment(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let mut readings = Vec::new();
    for disk in &machine.disks {
        let size = |name: &str| tree.get(&format!("/sys/block/{}/queue/{name}", disk.name));
        let (Some(logical), Some(physical)) =
            (size("logical_block_size"), size("physical_block_size"))
        else {
            continue;
        };
        let state = if logical == physical {
            State::Good
        } else {
            State::Told
        };
        let note = "the node pads its commits to the physical block, so only the smaller writes of others suffer";
        let path = format!("/sys/block/{}/queue/physical_block_size", disk.name);
        readings.push(read_of(
            path,
            format!("logical {logical}, physical {physical}"),
            &format!("logical {physical}"),
            state,
            note,
        ));
    }
    readings
}

fn nvme_irqs(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let mut readings = Vec::new();
    for disk in machine.disks.iter().filter(|disk| disk.nvme) {
        // `nvme1n1` and `nvme1c0n1` are both driven by controller `nvme1`.
        let controller: String = disk
            .name
            .chars()
            .take(4)
            .chain(disk.name.chars().skip(4).take_while(char::is_ascii_digit))
            .collect();
        let prefix = format!("{controller}q");
        let queues: Vec<_> = machine
            .nvme_irqs()
            .filter(|irq| irq.action.starts_with(&prefix))
            .collect();
        let Some(first) = queues.first() else {
            continue;
        };
        let shards = machine.shard_cpus.count();
        let path = format!("/proc/irq/{}/effective_affinity_list", first.number);
        let at = tree.get(&path).unwrap_or_else(|| "?".to_owned());
        let current = format!("{} queues, the first on CPU {at}", queues.len());
        let note = if queues.len() >= shards {
            "each shard can have a queue of its own"
        } else {
            "fewer queues than shards: some shards share one, and wait for each other's interrupts"
        };
        readings.push(read_of(
            path,
            current,
            &format!("≥ {shards} queues"),
            State::Managed,
            note,
        ));
    }
    readings
}

fn fs_type(_: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let Some(mount) = &machine.data_mount else {
        return Vec::new();
    };
    let (state, note) = match mount.fs_type.as_str() {
        "xfs" | "ext4" => (State::Good, ""),
        "tmpfs" | "ramfs" => (State::OffByHand, "memory: nothing here survives a restart"),
        "overlay" => (
            State::OffByHand,
            "a container's own layer: mount a volume on the data directory",
        ),
        _ => (State::OffByHand, ""),
    };
    let path = format!("/proc/self/mountinfo: {}", mount.point);
    vec![read_of(
        path,
        mount.fs_type.clone(),
        "xfs or ext4",
        state,
        note,
    )]
}

fn fs_options(_: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    // Without a data directory every file system on a disk is a candidate: only the dangerous options are told then.
    let named = machine.data_mount.is_some();
    let on_disk = |fs: &str| matches!(fs, "xfs" | "ext4" | "btrfs" | "ext3");
    let mounts: Vec<_> = match &machine.data_mount {
        Some(mount) => vec![mount],
        None => machine
            .mounts
            .iter()
            .filter(|mount| on_disk(&mount.fs_type))
            .collect(),
    };
    let mut readings: Vec<Reading> = Vec::new();
    for mount in mounts {
        let mut bad: Vec<&str> = ["discard", "nobarrier", "barrier=0"]
            .into_iter()
            .filter(|o| mount.has(o))
            .collect();
        if named && !mount.has("noatime") && !mount.has("relatime") {
            bad.push("atime on every read");
        }
        let path = format!("/proc/self/mountinfo: {}", mount.point);
        if readings.iter().any(|known| known.path == path) {
            continue;
        }
        let (current, state) = if bad.is_empty() {
            ("fine".to_owned(), State::Good)
        } else {
            (bad.join(", "), State::OffByHand)
        };
        readings.push(read_of(
            path,
            current,
            "noatime, without discard and nobarrier",
            state,
            "",
        ));
    }
    readings
}

fn trim_timer(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let path = "/etc/systemd/system/timers.target.wants/fstrim.timer";
    if machine.disks.is_empty() || !tree.exists("/etc/systemd/system") {
        return Vec::new();
    }
    let (current, state) = if tree.exists(path) || tree.link_name(path).is_some() {
        ("enabled", State::Good)
    } else {
        ("not enabled", State::OffByHand)
    };
    vec![read_of(
        path.to_owned(),
        current.to_owned(),
        "enabled",
        state,
        "systemctl enable --now fstrim.timer",
    )]
}
