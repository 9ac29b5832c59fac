//! Knobs that decide whether a node runs at all: the kernel, io_uring, limits, the cgroup, the clock. The definitions;
//! the evidence is read in `node_probes`.
//!
//! Owns what is checked in every place, containers included.
//! Never raises a limit: limits are inherited, so only the unit or the shell that starts the node can.

use super::node_probes::{
    core_pattern, cpu_quota, descriptors, free_space, io_uring, kernel_version, locked_memory,
    memory_limit, steal, time_sync,
};
use crate::knob::{Group, Guest, Knob, Lasting, Owner, Place, Severity, Want};

const NODE: Knob = Knob {
    id: "",
    group: Group::Node,
    place: Place::File(""),
    want: Want::Leave(""),
    severity: Severity::Critical,
    owner: Owner::Process,
    guest: Guest::Same,
    lasting: Lasting::Nothing,
    why: "",
    risk: "none",
};

pub(super) const KNOBS: &[Knob] = &[
    Knob {
        id: "kernel-version",
        place: Place::Probe("/proc/sys/kernel/osrelease", kernel_version),
        want: Want::Probed("≥ 6.1"),
        why: "the network ring uses multishot receive (6.0) and deferred task work (6.1)",
        risk: "a new kernel",
        ..NODE
    },
    Knob {
        id: "io-uring",
        place: Place::Probe("/proc/sys/kernel/io_uring_disabled", io_uring),
        want: Want::Probed("0, or 1 with the node's group in io_uring_group"),
        lasting: Lasting::Sysctl,
        why: "disk and network both go through io_uring; without it no node starts",
        risk: "a larger surface of the kernel for every program of the host; 1 and a group narrows it to the node",
        ..NODE
    },
    Knob {
        id: "locked-memory",
        place: Place::Probe("/proc/self/limits (max locked memory)", locked_memory),
        want: Want::Probed("unlimited, or 2 MiB a shard"),
        severity: Severity::Warning,
        why: "registered buffers are locked memory: under a small limit a shard does not start",
        ..NODE
    },
    Knob {
        id: "open-files",
        place: Place::Probe("/proc/self/limits (max open files)", descriptors),
        want: Want::Probed("hard limit ≥ 65536"),
        severity: Severity::Warning,
        why: "every connection and segment is a descriptor; at the limit a node refuses connections",
        ..NODE
    },
    Knob {
        id: "aio-max-nr",
        place: Place::File("/proc/sys/fs/aio-max-nr"),
        want: Want::Leave("irrelevant"),
        severity: Severity::Info,
        owner: Owner::Host,
        why: "limits the older libaio; io_uring does not count against it",
        ..NODE
    },
    Knob {
        id: "cpu-quota",
        place: Place::Probe("/sys/fs/cgroup/…/cpu.max of the own cgroup", cpu_quota),
        want: Want::Probed("max"),
        severity: Severity::Warning,
        why: "a group that used up its quota stands still for the rest of each 100 ms: that is the p99.9",
        risk: "without a quota a node can use its CPUs whole; give it CPUs of its own (cpuset) instead",
        ..NODE
    },
    Knob {
        id: "memory-limit",
        place: Place::Probe(
            "/sys/fs/cgroup/…/memory.max of the own cgroup",
            memory_limit,
        ),
        want: Want::Probed("told"),
        severity: Severity::Info,
        why: "a node's --memory must stay below it, or the kernel kills the node",
        ..NODE
    },
    Knob {
        id: "stolen-time",
        place: Place::Probe("/proc/stat (steal)", steal),
        want: Want::Probed("< 1 %"),
        severity: Severity::Info,
        owner: Owner::Host,
        why: "time in which the hypervisor ran somebody else: no setting inside the guest gives it back",
        ..NODE
    },
    Knob {
        id: "time-sync",
        place: Place::Probe(
            "adjtimex of the kernel's clock, or /run/systemd/timesync/synchronized",
            time_sync,
        ),
        want: Want::Probed("synchronised"),
        severity: Severity::Warning,
        owner: Owner::Host,
        why: "a node whose clock is over 500 ms ahead is refused by its peers, and expiry follows the clock",
        risk: "a time service to run",
        ..NODE
    },
    Knob {
        id: "free-space",
        place: Place::Probe(
            "/proc/self/mountinfo of the data directory's free space",
            free_space,
        ),
        want: Want::Probed("≥ 20 %"),
        severity: Severity::Warning,
        why: "the log's cleaner needs room: write amplification rises steeply above 80 % full",
        ..NODE
    },
    Knob {
        id: "core-pattern",
        place: Place::Probe("/proc/sys/kernel/core_pattern", core_pattern),
        want: Want::Probed("told"),
        severity: Severity::Info,
        owner: Owner::Host,
        why: "a core dump of a node holds its customers' data",
        ..NODE
    },
];
