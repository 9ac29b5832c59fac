//! The settings that can break a node's promise, one check each.
//!
//! Owns what counts as broken. Fewer than the tuner's knobs on purpose: a warning that is shown at every start must be
//! worth it. Never reads outside of the host's root.

use std::path::Path;

use super::{Check, Host, Mend};

/// What the kernel gives by itself. A shard does not start with less than 512 KiB; its registered buffers are a few
/// times that.
const LOCKED_BYTES_MIN: u64 = 8 << 20;
/// Connections and segments are descriptors.
const DESCRIPTORS_MIN: u64 = 65_536;
/// Clocks that are read without a system call.
const CLOCKS: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];
/// File systems that append with O_DIRECT without blocking.
const FILE_SYSTEMS: [&str; 2] = ["xfs", "ext4"];
/// A process with this capability locks as much as it likes.
const CAP_IPC_LOCK: u32 = 14;

/// In the order in which they are told.
pub(super) const CHECKS: &[Check] = &[
    Check {
        knob: "io-uring",
        mend: Mend::Apply,
        find: io_uring,
    },
    Check {
        knob: "locked-memory",
        mend: Mend::Explain,
        find: locked_memory,
    },
    Check {
        knob: "open-files",
        mend: Mend::Explain,
        find: open_files,
    },
    Check {
        knob: "cpu-quota",
        mend: Mend::Explain,
        find: cpu_quota,
    },
    Check {
        knob: "clock-source",
        mend: Mend::Apply,
        find: clock_source,
    },
    Check {
        knob: "cpu-governor",
        mend: Mend::Apply,
        find: governor,
    },
    Check {
        knob: "swappiness",
        mend: Mend::Apply,
        find: swappiness,
    },
    Check {
        knob: "huge-pages",
        mend: Mend::Apply,
        find: huge_pages,
    },
    Check {
        knob: "fs-type",
        mend: Mend::Explain,
        find: file_system,
    },
    Check {
        knob: "fs-options",
        mend: Mend::Explain,
        find: barriers,
    },
    Check {
        knob: "calibrate",
        mend: Mend::Calibrate,
        find: rotational,
    },
];

fn io_uring(host: &Host, _: &Path) -> Option<String> {
    let setting = host.read("/proc/sys/kernel/io_uring_disabled")?;
    let has_group = host
        .read("/proc/sys/kernel/io_uring_group")
        .and_then(|gid| gid.parse::<i64>().ok())
        .is_some_and(|gid| gid >= 0);
    let is_root = host
        .status("Uid:")
        .and_then(|ids| ids.split_whitespace().nth(1).map(|id| id == "0"))
        .unwrap_or(false);
    let is_forbidden = match setting.as_str() {
        "2" => true,
        "1" => !has_group && !is_root,
        _ => false,
    };
    is_forbidden.then(|| {
        format!(
            "kernel.io_uring_disabled is {setting}: disk and network go through io_uring, no shard starts"
        )
    })
}

fn locked_memory(host: &Host, _: &Path) -> Option<String> {
    let limit_bytes = host.limit("Max locked memory")?;
    let capabilities = host
        .status("CapEff:")
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let may_exceed = capabilities & (1 << CAP_IPC_LOCK) != 0;
    (limit_bytes < LOCKED_BYTES_MIN && !may_exceed).then(|| {
        format!(
            "only {} KiB may be locked: registered buffers of the rings may not fit, and a shard not start",
            limit_bytes >> 10
        )
    })
}

fn open_files(host: &Host, _: &Path) -> Option<String> {
    let limit = host.limit("Max open files")?;
    (limit < DESCRIPTORS_MIN).then(|| {
        format!("only {limit} files may be open: beyond as many connections clients are refused")
    })
}

fn cpu_quota(host: &Host, _: &Path) -> Option<String> {
    let quota = host.cgroup_file("cpu.max")?;
    (!quota.starts_with("max")).then(|| {
        format!("the CPU quota is {quota}: a node that used it up stands still for the rest of each period")
    })
}

fn clock_source(host: &Host, _: &Path) -> Option<String> {
    let clock = host.read("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    (!clock.is_empty() && !CLOCKS.contains(&clock.as_str())).then(|| {
        format!("the clock source is {clock}: each of the clock's many readings is a system call")
    })
}

fn governor(host: &Host, _: &Path) -> Option<String> {
    let dir = "/sys/devices/system/cpu/cpufreq";
    let mut slow: Vec<String> = std::fs::read_dir(host.at_path(dir))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let policy = format!("{dir}/{}", entry.file_name().to_string_lossy());
            let governor = host.read(&format!("{policy}/scaling_governor"))?;
            let preference = host.read(&format!("{policy}/energy_performance_preference"));
            let is_fast = governor == "performance" || preference.as_deref() == Some("performance");
            (!is_fast).then_some(governor)
        })
        .collect();
    let count = slow.len();
    slow.sort();
    let first = slow.into_iter().next()?;
    Some(format!(
        "the CPU governor is {first} ({count} of the cores' policies): requests after a pause meet a slow core"
    ))
}

fn swappiness(host: &Host, _: &Path) -> Option<String> {
    let swappiness: u32 = host.read("/proc/sys/vm/swappiness")?.parse().ok()?;
    // The first line is the heading.
    let has_swap = host.read("/proc/swaps")?.lines().count() > 1;
    let may_swap = host.cgroup_file("memory.swap.max").as_deref() != Some("0");
    (swappiness > 1 && has_swap && may_swap).then(|| {
        format!("vm.swappiness is {swappiness} and there is swap: a shard that is swapped out answers from it")
    })
}

fn huge_pages(host: &Host, _: &Path) -> Option<String> {
    let choices = host.read("/sys/kernel/mm/transparent_hugepage/enabled")?;
    choices.contains("[always]").then(|| {
        "transparent huge pages are on for all: a page fault may clear 2 MiB in the middle of a request"
            .to_owned()
    })
}

fn file_system(host: &Host, data: &Path) -> Option<String> {
    let mount = host.mount_of(data)?;
    (!FILE_SYSTEMS.contains(&mount.fs_type.as_str())).then(|| {
        format!(
            "the data lies on {}, not on xfs or ext4: direct writes may block or be refused there",
            mount.fs_type
        )
    })
}

fn barriers(host: &Host, data: &Path) -> Option<String> {
    let mount = host.mount_of(data)?;
    let off = mount
        .options
        .iter()
        .find(|option| matches!(option.as_str(), "nobarrier" | "barrier=0"))?;
    Some(format!(
        "{} is mounted with {off}: acknowledged writes are lost with the power",
        mount.point
    ))
}

fn rotational(host: &Host, data: &Path) -> Option<String> {
    let disk = host.disk_of(data)?;
    // A hypervisor's disk says what its driver was compiled with.
    let is_virtual = disk.name.starts_with("vd") || disk.name.starts_with("xvd");
    (disk.is_rotational && !is_virtual).then(|| {
        format!(
            "the data lies on {}, a disk that turns: a read that misses memory takes milliseconds",
            disk.name
        )
    })
}

impl Host {
    /// The rest of a line of `/proc/self/status`.
    fn status(&self, name: &str) -> Option<String> {
        let text = self.read("/proc/self/status")?;
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim().to_owned())
    }

    /// The hard limit of that name, to which the node raises its own.
    fn limit(&self, name: &str) -> Option<u64> {
        let text = self.read("/proc/self/limits")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().nth(1)? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    }

    /// A file of the own control group (version 2), which in a container is often the root.
    fn cgroup_file(&self, name: &str) -> Option<String> {
        let groups = self.read("/proc/self/cgroup").unwrap_or_default();
        let own = groups
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap_or("")
            .trim_end_matches('/');
        [
            format!("/sys/fs/cgroup{own}/{name}"),
            format!("/sys/fs/cgroup/{name}"),
        ]
        .iter()
        .find_map(|path| self.read(path))
    }
}
