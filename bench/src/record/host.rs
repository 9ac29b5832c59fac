//! The facts of the machine that a figure depends on.
//!
//! Owns reading them from the kernel's files. Never fails: a fact that cannot be read is left out, and nothing here
//! changes the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Facts by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostFacts(pub BTreeMap<String, String>);

/// Facts that must agree before two records are compared: another value makes another machine.
pub const IDENTITY: [&str; 5] = ["kernel", "cpu_model", "cpus", "governor", "clock_source"];

impl HostFacts {
    /// Gathers what can be read; `directory` is where an embedded store keeps its files.
    pub fn gather(directory: Option<&Path>) -> Self {
        let mut facts = BTreeMap::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
            {
                facts.insert(name.to_owned(), value);
            }
        };
        let kernel = rustix::system::uname();
        add(
            "kernel",
            Some(format!(
                "{} {}",
                kernel.sysname().to_string_lossy(),
                kernel.release().to_string_lossy()
            )),
        );
        add("cpu_model", field("/proc/cpuinfo", "model name"));
        add(
            "cpus",
            std::thread::available_parallelism()
                .ok()
                .map(|cpus| cpus.to_string()),
        );
        add("memory", field("/proc/meminfo", "MemTotal"));
        add(
            "governor",
            read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        );
        add(
            "turbo_off",
            read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        );
        add(
            "clock_source",
            read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        );
        add("numa_nodes", read("/sys/devices/system/node/online"));
        add(
            "transparent_hugepages",
            read("/sys/kernel/mm/transparent_hugepage/enabled"),
        );
        add("load_average", read("/proc/loadavg"));
        add(
            "hypervisor",
            field("/proc/cpuinfo", "flags").map(|flags| {
                flags
                    .split(' ')
                    .any(|flag| flag == "hypervisor")
                    .to_string()
            }),
        );
        add("harness", Some(env!("CARGO_PKG_VERSION").to_owned()));
        add(
            "build",
            Some(
                if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                }
                .to_owned(),
            ),
        );
        if let Some(mount) = directory.and_then(mount_of) {
            add("file_system", Some(mount));
        }
        HostFacts(facts)
    }

    /// Facts that tell two machines apart and differ between `self` and `other`.
    pub fn differences(&self, other: &HostFacts) -> Vec<String> {
        let differs = |name: &&&str| self.0.get(**name) != other.0.get(**name);
        IDENTITY
            .iter()
            .filter(differs)
            .map(|name| {
                let show = |facts: &HostFacts| {
                    facts
                        .0
                        .get(*name)
                        .cloned()
                        .unwrap_or_else(|| "unknown".to_owned())
                };
                format!("{name}: {} against {}", show(self), show(other))
            })
            .collect()
    }
}

/// Time that the hypervisor took from this machine's CPUs since boot, in ticks of 10 ms.
pub fn steal_ticks() -> u64 {
    let line = read("/proc/stat")
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(8)
        .and_then(|ticks| ticks.parse().ok())
        .unwrap_or(0)
}

/// Bytes that this process has sent to the block layer.
pub fn written_bytes() -> u64 {
    field("/proc/self/io", "write_bytes")
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let line = text
        .lines()
        .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    line.split_once(':')
        .map(|(_, value)| value.trim().to_owned())
}

/// Type and device of the file system that holds `directory` (or its nearest existing parent).
fn mount_of(directory: &Path) -> Option<String> {
    let real = directory
        .ancestors()
        .find_map(|path| path.canonicalize().ok())?;
    let mounts = read("/proc/self/mounts")?;
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?, words.next()?))
        })
        .filter(|(_, point, _)| real.starts_with(point))
        .max_by_key(|(_, point, _)| point.len())?;
    Some(format!("{} on {}", best.2, best.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_the_cpus_are_always_known() {
        let facts = HostFacts::gather(Some(Path::new("/no/such/place")));
        assert!(facts.0.contains_key("kernel") && facts.0.contains_key("cpus"));
        assert!(facts.differences(&facts).is_empty());
        let mut other = facts.clone();
        other.0.insert("kernel".into(), "Other 1.0".into());
        assert_eq!(facts.differences(&other).len(), 1);
    }
}
