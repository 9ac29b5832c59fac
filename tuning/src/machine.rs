//! The parts of one machine that settings belong to: CPUs, disks, network cards, their interrupts.
//!
//! Owns the discovery, done once; knobs then ask this value and not the tree for what exists.
//! Never changes anything, runs no program (`ethtool`, `lsblk`, `hwloc`): what those print is in the same files.
//!
//! Invariants:
//! - `shard_cpus` is a subset of `online_cpus`; `spare_cpus` is the rest;
//! - a disk is a device that does the work: behind md, dm and NVMe multipath the members, never the shell.

use crate::cpus::CpuSet;
use crate::environment::Environment;
use crate::mounts::{self, Mount};
use crate::tree::Tree;

/// What the person asked to be looked at; empty or `None` means the obvious default.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// CPUs that run shards; default: every CPU that is online, or the isolated ones where some are.
    pub cpus: Option<CpuSet>,
    /// The data directory: its disks, file system and mount options are looked at.
    pub data_dir: Option<String>,
    /// Network cards; default: all that are hardware.
    pub nics: Vec<String>,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The name under `/sys/block`.
    pub name: String,
    /// Whether it is NVMe.
    pub nvme: bool,
}

/// One network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Interface.
    pub name: String,
    /// Receive queues.
    pub rx_count: usize,
    /// Transmit queues.
    pub tx_count: usize,
    /// Interrupts of its queues, in the order of the queues.
    pub irqs: Vec<Irq>,
}

/// One interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Irq {
    /// Its number.
    pub number: u32,
    /// What the driver calls it.
    pub action: String,
}

/// Everything found.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Bare metal, guest, container.
    pub environment: Environment,
    /// CPUs that are on.
    pub online_cpus: CpuSet,
    /// CPUs that run shards.
    pub shard_cpus: CpuSet,
    /// The others.
    pub spare_cpus: CpuSet,
    /// Disks to look at.
    pub disks: Vec<Disk>,
    /// Network cards to look at.
    pub nics: Vec<Nic>,
    /// All interrupts.
    pub irqs: Vec<Irq>,
    /// All mounts.
    pub mounts: Vec<Mount>,
    /// The mount that holds the data directory, when one was named.
    pub data_mount: Option<Mount>,
    /// Memory in KiB, 0 when it cannot be told.
    pub memory_kib: u64,
    /// NUMA nodes, at least 1.
    pub numa_count: usize,
}

impl Machine {
    /// Looks the machine over.
    pub fn discover(tree: &dyn Tree, selection: &Selection) -> Self {
        let online_cpus = online(tree);
        let isolated = read_list(tree, "/sys/devices/system/cpu/isolated").unwrap_or_default();
        let shard_cpus = match &selection.cpus {
            Some(cpus) => cpus.clone(),
            None if !isolated.is_empty() && online_cpus.contains_all(&isolated) => isolated,
            None => online_cpus.clone(),
        };
        let irqs = interrupts(&tree.read("/proc/interrupts").unwrap_or_default());
        let mounts = mounts::parse(&tree.read("/proc/self/mountinfo").unwrap_or_default());
        let data_mount = selection
            .data_dir
            .as_deref()
            .and_then(|dir| mounts::holder(&mounts, dir))
            .cloned();
        Self {
            environment: Environment::detect(tree),
            spare_cpus: online_cpus.minus(&shard_cpus),
            disks: disks(tree, data_mount.as_ref()),
            nics: nics(tree, &irqs, &selection.nics),
            memory_kib: memory_kib(tree),
            numa_count: numa_count(tree),
            online_cpus,
            shard_cpus,
            irqs,
            mounts,
            data_mount,
        }
    }

    /// The interrupts of the queues of NVMe disks (not the admin queue, number 0).
    pub fn nvme_irqs(&self) -> impl Iterator<Item = &Irq> {
        self.irqs.iter().filter(|irq| {
            let queue = irq
                .action
                .strip_prefix("nvme")
                .and_then(|rest| rest.split_once('q'));
            queue.is_some_and(|(_, queue)| queue != "0" && queue.parse::<u32>().is_ok())
        })
    }
}

fn read_list(tree: &dyn Tree, path: &str) -> Option<CpuSet> {
    CpuSet::from_list(&tree.get(path)?)
}

fn online(tree: &dyn Tree) -> CpuSet {
    // In a container with a limited cpuset only the allowed CPUs can run shards.
    let status = tree.read("/proc/self/status").unwrap_or_default();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .and_then(CpuSet::from_list)
        .filter(|cpus| !cpus.is_empty());
    let online = read_list(tree, "/sys/devices/system/cpu/online").filter(|cpus| !cpus.is_empty());
    let online = online.or_else(|| {
        let cpuinfo = tree.read("/proc/cpuinfo").ok()?;
        let cpus: CpuSet = cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .filter_map(|line| line.split(':').nth(1)?.trim().parse().ok())
            .collect();
        (!cpus.is_empty()).then_some(cpus)
    });
    match (online, allowed) {
        (Some(online), Some(allowed)) if online.contains_all(&allowed) => allowed,
        (Some(online), _) => online,
        (None, Some(allowed)) => allowed,
        (None, None) => CpuSet::from_iter([0]),
    }
}

fn interrupts(text: &str) -> Vec<Irq> {
    let cpu_count = text
        .lines()
        .next()
        .map_or(0, |head| head.split_whitespace().count());
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let number = number.trim().parse().ok()?;
            // After one count for each CPU come the controller, the line and the driver's name for it.
            let words: Vec<&str> = rest.split_whitespace().skip(cpu_count).collect();
            let action = words.last()?;
            Some(Irq {
                number,
                action: (*action).to_owned(),
            })
        })
        .collect()
}

/// Names under `/sys/block` that are no disk of anybody's database.
const NOT_A_DISK: [&str; 7] = ["loop", "ram", "zram", "sr", "fd", "nbd", "mtdblock"];

fn disks(tree: &dyn Tree, data_mount: Option<&Mount>) -> Vec<Disk> {
    let blocks = tree.list("/sys/block");
    let chosen: Vec<String> =
        match data_mount.and_then(|mount| block_of(tree, &blocks, &mount.device)) {
            Some(name) => vec![name],
            None => blocks
                .iter()
                .filter(|name| !NOT_A_DISK.iter().any(|prefix| name.starts_with(prefix)))
                .cloned()
                .collect(),
        };
    let mut names = Vec::new();
    for name in chosen {
        gather_members(tree, &blocks, &name, &mut names);
    }
    names.dedup();
    names
        .into_iter()
        .map(|name| Disk {
            nvme: name.starts_with("nvme"),
            name,
        })
        .collect()
}

/// The block device with number `major:minor`, or the one of which that is a partition.
fn block_of(tree: &dyn Tree, blocks: &[String], device: &str) -> Option<String> {
    blocks
        .iter()
        .find(|name| {
            let dir = format!("/sys/block/{name}");
            if tree.get(&format!("{dir}/dev")).as_deref() == Some(device) {
                return true;
            }
            let parts = tree
                .list(&dir)
                .into_iter()
                .filter(|part| part.starts_with(name.as_str()));
            parts
                .into_iter()
                .any(|part| tree.get(&format!("{dir}/{part}/dev")).as_deref() == Some(device))
        })
        .cloned()
}

fn gather_members(tree: &dyn Tree, blocks: &[String], name: &str, found: &mut Vec<String>) {
    let members = tree.list(&format!("/sys/block/{name}/slaves"));
    for member in &members {
        let whole = blocks.iter().find(|block| *block == member).or_else(|| {
            blocks
                .iter()
                .find(|block| tree.exists(&format!("/sys/block/{block}/{member}")))
        });
        // A device cannot be its own member, but a broken tree may say so.
        if let Some(whole) = whole.filter(|whole| *whole != name && !found.contains(whole)) {
            gather_members(tree, blocks, whole, found);
        }
    }
    let shell = !members.is_empty() || name.starts_with("dm-") || name.starts_with("md");
    if !shell && !found.iter().any(|known| known == name) {
        found.push(name.to_owned());
    }
}

fn nics(tree: &dyn Tree, irqs: &[Irq], wanted: &[String]) -> Vec<Nic> {
    tree.list("/sys/class/net")
        .into_iter()
        .filter(|name| match wanted {
            // A bond or a VLAN has no `device`: its members are in the list themselves.
            [] => tree.exists(&format!("/sys/class/net/{name}/device")),
            names => names.contains(name),
        })
        .map(|name| {
            let queues = tree.list(&format!("/sys/class/net/{name}/queues"));
            let count = |prefix| {
                queues
                    .iter()
                    .filter(|queue| queue.starts_with(prefix))
                    .count()
            };
            let irqs = nic_irqs(tree, irqs, &name);
            Nic {
                rx_count: count("rx-"),
                tx_count: count("tx-"),
                irqs,
                name,
            }
        })
        .collect()
}

/// Interrupts that carry packets: not those for configuration, events or the card's management.
fn nic_irqs(tree: &dyn Tree, irqs: &[Irq], name: &str) -> Vec<Irq> {
    let device = format!("/sys/class/net/{name}/device");
    let own: Vec<u32> = tree
        .list(&format!("{device}/msi_irqs"))
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect();
    // A virtio card's interrupts are called after the virtio device, not after the interface.
    let virtio = tree
        .link_name(&device)
        .filter(|target| target.starts_with("virtio"));
    let belongs = |irq: &Irq| {
        own.contains(&irq.number)
            || irq.action.split(['-', '@', ':']).any(|part| part == name)
            || virtio
                .as_ref()
                .is_some_and(|virtio| irq.action.starts_with(&format!("{virtio}-")))
    };
    const NO_PACKETS: [&str; 8] = [
        "mgmnt", "mgmt", "async", "config", "event", "admin", "ctrl", "fdir",
    ];
    let mut found: Vec<(u8, u32, Irq)> = irqs
        .iter()
        .filter(|irq| belongs(irq) && !NO_PACKETS.iter().any(|word| irq.action.contains(word)))
        .filter_map(|irq| {
            let queue = queue_of(&irq.action)?;
            let transmit = irq.action.contains("output") || irq.action.contains("-tx");
            Some((u8::from(transmit), queue, irq.clone()))
        })
        .collect();
    found.sort_by_key(|(transmit, queue, _)| (*transmit, *queue));
    found.into_iter().map(|(_, _, irq)| irq).collect()
}

/// The number of the queue: the last digits of the name before an `@`.
fn queue_of(action: &str) -> Option<u32> {
    let name = action.split('@').next()?;
    if name.ends_with("-rx") || name.ends_with("-tx") {
        return Some(0); // a virtio card with one pair of queues does not number them
    }
    let digits: String = name
        .chars()
        .rev()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.chars().rev().collect::<String>().parse().ok()
}

fn memory_kib(tree: &dyn Tree) -> u64 {
    let text = tree.read("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn numa_count(tree: &dyn Tree) -> usize {
    let nodes = tree.list("/sys/devices/system/node");
    let is_node = |name: &&String| {
        name.strip_prefix("node")
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    nodes.iter().filter(is_node).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_named_by_their_last_word() {
        let text = "     CPU0 CPU1\n 24: 1 0 IO-APIC 5-edge ACPI:Ged\n 40: 0 9 PCI-MSIX-0000:00:03.0 0-edge nvme0q1\nNMI: 0 0 x\n";
        let irqs = interrupts(text);
        assert_eq!(irqs.len(), 2);
        assert_eq!(
            irqs.last().unwrap(),
            &Irq {
                number: 40,
                action: "nvme0q1".into()
            }
        );
    }

    #[test]
    fn queue_numbers_stand_before_the_at_sign() {
        assert_eq!(queue_of("mlx5_comp3@pci:0000:3b:00.0"), Some(3));
        assert_eq!(queue_of("eth0-TxRx-12"), Some(12));
        assert_eq!(queue_of("virtio3-rx"), Some(0));
        assert_eq!(queue_of("ena-mgmnt@pci:0000:00:05.0"), None);
    }
}
