//! Which CPU takes in which packets: interrupts, receive and transmit steering, irqbalance.
//!
//! Owns the placement: one function for each knob, all from the same two facts (queues of the card, CPUs of shards).
//! Never moves an interrupt that already sits where it is wanted, however its file spells that.
//!
//! Invariants:
//! - split mode (interrupts on the spare CPUs) only where there are spare CPUs and more than `SPLIT_ABOVE` shards
//!   share a queue; otherwise queue i belongs to shard i.

use crate::cpus::CpuSet;
use crate::knob::{Change, Reading, Spot, State, Target};
use crate::machine::{Machine, Nic};
use crate::tree::Tree;

/// Above so many shards to a receive queue, one CPU would take in packets for too many others.
const SPLIT_ABOVE: usize = 4;

/// Flows that the whole machine remembers.
const FLOWS: usize = 32_768;

fn is_split(machine: &Machine, nic_queues: usize) -> bool {
    !machine.spare_cpus.is_empty() && machine.shard_cpus.count() > SPLIT_ABOVE * nic_queues.max(1)
}

pub(super) fn irq_affinity(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    machine
        .nics
        .iter()
        .flat_map(|nic| irqs_of(tree, machine, nic))
        .collect()
}

fn irqs_of(tree: &dyn Tree, machine: &Machine, nic: &Nic) -> Vec<Reading> {
    let mut readings = Vec::new();
    for (index, irq) in nic.irqs.iter().enumerate() {
        let path = format!("/proc/irq/{}/smp_affinity_list", irq.number);
        let Some(allowed) = tree.get(&path) else {
            continue;
        };
        let wanted = if is_split(machine, nic.rx_count) {
            machine.spare_cpus.clone()
        } else {
            machine
                .shard_cpus
                .nth_wrapping(index % nic.rx_count.max(1))
                .into_iter()
                .collect()
        };
        // What is allowed decides, not what is in effect: the kernel moves an interrupt only when it next fires.
        let state = match CpuSet::from_list(&allowed) {
            Some(now) if !now.is_empty() && wanted.contains_all(&now) => State::Good,
            Some(_) => State::Off(Change::Kernel(wanted.to_string())),
            None => State::Unknown,
        };
        let note = format!("interrupt {} of {}", irq.action, nic.name);
        readings.push(Reading {
            path,
            current: allowed,
            wanted: wanted.to_string(),
            state,
            note,
        });
    }
    readings
}

pub(super) fn queue_count(_: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let shards = machine.shard_cpus.count();
    machine
        .nics
        .iter()
        .filter(|nic| nic.rx_count > 0)
        .map(|nic| {
            let enough = nic.rx_count >= shards;
            Reading {
                path: format!("/sys/class/net/{}/queues", nic.name),
                current: format!("{} receive, {} transmit", nic.rx_count, nic.tx_count),
                wanted: format!("{shards} receive"),
                state: if enough {
                    State::Good
                } else {
                    State::OffByHand
                },
                note: format!(
                    "ethtool -L {} combined {shards}, if the card has as many",
                    nic.name
                ),
            }
        })
        .collect()
}

pub(super) fn receive_steering(machine: &Machine, spot: &Spot) -> Option<Target> {
    if spot.count >= machine.shard_cpus.count() {
        return Some(Target::Mask(CpuSet::default()));
    }
    let own: CpuSet = machine
        .shard_cpus
        .nth_wrapping(spot.index)
        .into_iter()
        .collect();
    let others = if machine.spare_cpus.is_empty() {
        machine.shard_cpus.minus(&own)
    } else {
        machine.spare_cpus.clone()
    };
    Some(Target::Mask(others))
}

pub(super) fn flow_count(machine: &Machine, spot: &Spot) -> Option<Target> {
    // With a queue for each shard, steering by software is off and the table would only cost memory.
    let steers = spot.count < machine.shard_cpus.count();
    steers.then(|| Target::AtLeast(u64::try_from(FLOWS / spot.count.max(1)).unwrap_or(u64::MAX)))
}

pub(super) fn transmit_steering(machine: &Machine, spot: &Spot) -> Option<Target> {
    if spot.count < 2 {
        return None; // there is nothing to choose
    }
    let cpus: CpuSet = machine
        .shard_cpus
        .iter()
        .enumerate()
        .filter(|(position, _)| position % spot.count == spot.index)
        .map(|(_, cpu)| cpu)
        .collect();
    // A queue beyond the last shard serves the CPUs without one.
    let cpus = if cpus.is_empty() {
        machine.spare_cpus.clone()
    } else {
        cpus
    };
    (!cpus.is_empty()).then_some(Target::Mask(cpus))
}

pub(super) fn irqbalance(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let path = ["/etc/default/irqbalance", "/etc/sysconfig/irqbalance"]
        .into_iter()
        .find(|path| tree.exists(path));
    let running = tree
        .list("/proc")
        .iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .any(|pid| tree.get(&format!("/proc/{pid}/comm")).as_deref() == Some("irqbalance"));
    let Some(path) = path else {
        if !running {
            return Vec::new();
        }
        let note = "it runs without a file that could tell it to keep off: stop it, or start it with --banirq";
        return vec![balance_reading(
            "/etc/default/irqbalance",
            "running",
            "not running",
            State::OffByHand,
            note,
        )];
    };
    if !running {
        return vec![balance_reading(
            path,
            "not running",
            "not running",
            State::Good,
            "",
        )];
    }
    const KEY: &str = "IRQBALANCE_BANNED_CPULIST=";
    let Ok(text) = tree.read(path) else {
        return vec![balance_reading(path, "?", "readable", State::Unknown, "")];
    };
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(KEY))
        .unwrap_or_default()
        .trim();
    let banned =
        CpuSet::from_list(line.trim_start_matches(KEY).trim_matches('"')).unwrap_or_default();
    let wanted = format!("{KEY}{}", machine.shard_cpus);
    if !machine.shard_cpus.is_empty() && banned.contains_all(&machine.shard_cpus) {
        return vec![balance_reading(path, line, &wanted, State::Good, "")];
    }
    let mut content: String = text
        .lines()
        .filter(|other| !other.trim_start().starts_with(KEY))
        .map(|other| format!("{other}\n"))
        .collect();
    content.push_str(&format!("{wanted}\n"));
    let current = if line.is_empty() {
        "running, no CPU banned"
    } else {
        line
    };
    let note = "then: systemctl restart irqbalance";
    vec![balance_reading(
        path,
        current,
        &wanted,
        State::Off(Change::Config(content)),
        note,
    )]
}

fn balance_reading(path: &str, current: &str, wanted: &str, state: State, note: &str) -> Reading {
    Reading {
        path: path.into(),
        current: current.into(),
        wanted: wanted.into(),
        state,
        note: note.into(),
    }
}
