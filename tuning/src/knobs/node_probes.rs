//! The evidence for the knobs of `node`.
//!
//! Owns the reading of limits, cgroups (both versions) and, on the live machine, the questions that only a system call
//! answers: does a ring open, is the clock synchronised, how full is the disk.
//! Never asks this machine about another one: under `--root DIR` files alone decide.

use crate::knob::{Change, Reading, State};
use crate::machine::Machine;
use crate::sys;
use crate::tree::Tree;

const KERNEL_MIN: (u32, u32) = (6, 1);
const LOCKED_BYTES_PER_SHARD: u64 = 2 << 20;
const DESCRIPTORS_MIN: u64 = 65_536;
const FREE_PERCENT_MIN: u64 = 20;
const STEAL_PERMILLE_MAX: u64 = 10;

fn reading(path: &str, current: String, wanted: String, state: State, note: &str) -> Vec<Reading> {
    vec![Reading {
        path: path.to_owned(),
        current,
        wanted,
        state,
        note: note.to_owned(),
    }]
}

pub(super) fn kernel_version(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    let path = "/proc/sys/kernel/osrelease";
    let Some(release) = tree.get(path) else {
        return Vec::new();
    };
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().ok());
    let state = match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL_MIN => State::Good,
        (Some(_), Some(_)) => State::OffUntilReboot,
        _ => State::Unknown,
    };
    reading(
        path,
        release,
        format!("≥ {}.{}", KERNEL_MIN.0, KERNEL_MIN.1),
        state,
        "",
    )
}

pub(super) fn io_uring(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let path = "/proc/sys/kernel/io_uring_disabled";
    let setting = tree.get(path);
    if setting.is_none() && !tree.exists("/proc/sys/kernel/osrelease") {
        return Vec::new(); // no kernel's files at all
    }
    let current = setting
        .clone()
        .unwrap_or_else(|| "no such file (before 6.6: never disabled)".to_owned());
    let tried = tree.is_live().then(sys::ring_opens);
    let group = tree
        .get("/proc/sys/kernel/io_uring_group")
        .and_then(|text| text.parse::<i64>().ok());
    let (state, note) = match (setting.as_deref(), tried) {
        (_, Some(Ok(()))) => (State::Good, "a ring was opened".to_owned()),
        (Some("1"), None) if group.is_some_and(|gid| gid >= 0) => (
            State::Told,
            format!(
                "members of group {} only: the node's user must be one",
                group.unwrap_or(0)
            ),
        ),
        (Some("1" | "2"), _) if !machine.environment.is_container() => {
            (State::Off(Change::Kernel("0".into())), String::new())
        }
        (Some("1" | "2"), _) => (
            State::OffByHand,
            "the container's host forbids it".to_owned(),
        ),
        (_, Some(Err(error))) => (
            State::OffByHand,
            format!(
                "opening a ring failed ({error}): in a container its seccomp profile forbids io_uring_setup"
            ),
        ),
        (_, None) => (State::Good, String::new()),
    };
    reading(path, current, "0".to_owned(), state, &note)
}

/// The hard limit of that name; `None` when unreadable, `u64::MAX` for unlimited.
fn hard_limit(tree: &dyn Tree, name: &str) -> Option<u64> {
    let text = tree.read("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn limit_text(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}

pub(super) fn locked_memory(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let Some(limit) = hard_limit(tree, "Max locked memory") else {
        return Vec::new();
    };
    let shards = u64::try_from(machine.shard_cpus.count()).unwrap_or(u64::MAX);
    let wanted_bytes = LOCKED_BYTES_PER_SHARD.saturating_mul(shards);
    let state = if limit >= wanted_bytes {
        State::Good
    } else {
        State::OffByHand
    };
    let note = "of this shell; the unit of tuning/deploy sets LimitMEMLOCK=infinity, a container takes --ulimit memlock=-1";
    reading(
        "/proc/self/limits",
        limit_text(limit),
        format!("unlimited or ≥ {wanted_bytes}"),
        state,
        note,
    )
}

pub(super) fn descriptors(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    let Some(limit) = hard_limit(tree, "Max open files") else {
        return Vec::new();
    };
    let state = if limit >= DESCRIPTORS_MIN {
        State::Good
    } else {
        State::OffByHand
    };
    let note = "of this shell; the unit of tuning/deploy sets LimitNOFILE=1048576, a container takes --ulimit nofile=1048576";
    reading(
        "/proc/self/limits",
        limit_text(limit),
        format!("≥ {DESCRIPTORS_MIN}"),
        state,
        note,
    )
}

/// A file of the own cgroup, wherever it is mounted.
fn cgroup_file(
    tree: &dyn Tree,
    controller: &str,
    v1_name: &str,
    v2_name: &str,
) -> Option<(String, String)> {
    let groups = tree.read("/proc/self/cgroup").unwrap_or_default();
    let group_of = |wanted: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let names = parts.nth(1)?;
            let own = names.split(',').any(|name| name == wanted);
            own.then(|| parts.next().unwrap_or("/").trim_end_matches('/').to_owned())
        })
    };
    let unified = group_of("").unwrap_or_default();
    let old = group_of(controller).unwrap_or_default();
    // In a container the own group is often mounted as the root of the tree.
    [
        format!("/sys/fs/cgroup{unified}/{v2_name}"),
        format!("/sys/fs/cgroup/{v2_name}"),
        format!("/sys/fs/cgroup/{controller}{old}/{v1_name}"),
        format!("/sys/fs/cgroup/{controller}/{v1_name}"),
    ]
    .into_iter()
    .find_map(|path| Some((path.clone(), tree.get(&path)?)))
}

pub(super) fn cpu_quota(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    let Some((path, value)) = cgroup_file(tree, "cpu", "cpu.cfs_quota_us", "cpu.max") else {
        return Vec::new();
    };
    let free = value.starts_with("max") || value == "-1";
    let throttled = path
        .strip_suffix("cpu.max")
        .and_then(|dir| tree.get(&format!("{dir}cpu.stat")));
    let throttled = throttled
        .as_deref()
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("nr_throttled "))
        })
        .unwrap_or("?");
    let note = if free {
        String::new()
    } else {
        format!("stood still {throttled} times so far")
    };
    reading(
        &path,
        value,
        "max".into(),
        if free { State::Good } else { State::OffByHand },
        &note,
    )
}

pub(super) fn memory_limit(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    let found = cgroup_file(tree, "memory", "memory.limit_in_bytes", "memory.max");
    let Some((path, value)) = found else {
        return Vec::new();
    };
    reading(&path, value, "told".into(), State::Told, "")
}

pub(super) fn steal(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    if !machine.environment.is_guest() {
        return Vec::new();
    }
    let text = tree.read("/proc/stat").unwrap_or_default();
    let Some(line) = text.lines().find(|line| line.starts_with("cpu ")) else {
        return Vec::new();
    };
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap_or(0))
        .collect();
    // user nice system idle iowait irq softirq steal; guest times are counted in user already
    let total: u64 = ticks.iter().take(8).sum();
    let Some(permille) = ticks
        .get(7)
        .and_then(|stolen| stolen.saturating_mul(1000).checked_div(total))
    else {
        return Vec::new();
    };
    let state = if permille <= STEAL_PERMILLE_MAX {
        State::Good
    } else {
        State::OffByHand
    };
    let current = format!("{}.{} % since start", permille / 10, permille % 10);
    reading(
        "/proc/stat",
        current,
        "< 1 %".into(),
        state,
        "a larger instance, or one with CPUs of its own",
    )
}

pub(super) fn time_sync(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    let mark = "/run/systemd/timesync/synchronized";
    let wanted = "synchronised".to_owned();
    if tree.is_live() {
        let (current, state) = match sys::clock_is_synchronised() {
            Ok(true) => ("synchronised", State::Good),
            Ok(false) => ("not synchronised", State::OffByHand),
            Err(_) => ("the kernel does not say", State::Unknown),
        };
        return reading(
            "adjtimex",
            current.into(),
            wanted,
            state,
            "run chrony or systemd-timesyncd",
        );
    }
    let (current, state) = if tree.exists(mark) {
        ("synchronised", State::Good)
    } else {
        ("no mark of timesyncd", State::Unknown)
    };
    reading(mark, current.into(), wanted, state, "")
}

pub(super) fn free_space(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let Some(mount) = machine.data_mount.as_ref().filter(|_| tree.is_live()) else {
        return Vec::new();
    };
    let path = format!("statvfs {}", mount.point);
    let wanted = format!("≥ {FREE_PERCENT_MIN} %");
    match sys::free_percent(&mount.point) {
        Ok(percent) => {
            let state = if percent >= FREE_PERCENT_MIN {
                State::Good
            } else {
                State::OffByHand
            };
            reading(&path, format!("{percent} % free"), wanted, state, "")
        }
        Err(error) => reading(&path, error.to_string(), wanted, State::Unknown, ""),
    }
}

pub(super) fn core_pattern(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    let path = "/proc/sys/kernel/core_pattern";
    let Some(current) = tree.get(path) else {
        return Vec::new();
    };
    reading(path, current, "told".into(), State::Told, "")
}
