//! What a knob is: one setting of a host, defined once.
//!
//! Owns the vocabulary: where a knob lies, what is wanted there, whose it is, how it lasts. Check, apply, persist,
//! help and the table in the documentation all read the same definition, so none can drift from the others.
//! Never touches a machine: `check` evaluates, `apply` writes.
//!
//! Invariants:
//! - an id is unique and is the word for `--only` and `--skip`;
//! - a knob whose `Want` is `Leave` or whose readings carry no `Change` is never written.

use crate::machine::Machine;
use crate::tree::Tree;
use serde::Serialize;

/// How much a setting matters to a latency promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Small, or only for some loads: never a reason for exit code 1.
    Info,
    /// Costs latency or capacity.
    Warning,
    /// A node will not run, will stall, or may lose data.
    Critical,
}

/// A family of knobs, for the order of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Kernel version, io_uring, limits, clock: what a node needs to run at all.
    Node,
    /// Disks and file systems.
    Disk,
    /// CPUs and power.
    Cpu,
    /// Memory.
    Memory,
    /// Network.
    Network,
}

/// Whose the setting is; in a container only some belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The kernel or the hardware: of a container, its host's.
    Host,
    /// The network namespace: a container may have its own.
    NetNamespace,
    /// The process or its cgroup: a container has its own.
    Process,
}

/// Where a knob can lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// A virtual machine has this as bare metal does.
    Same,
    /// A virtual machine has no such thing: its hypervisor's host does.
    Absent,
}

/// The files of a knob.
#[derive(Clone, Copy)]
pub enum Place {
    /// One file.
    File(&'static str),
    /// `/sys/block/D/…` of every disk.
    Disk(&'static str),
    /// `…/queues/rx-N/…` of every network card.
    RxQueue(&'static str),
    /// `…/queues/tx-N/…` of every network card.
    TxQueue(&'static str),
    /// `…/cpufreq/policyN/…`, every policy that exists (their numbers have gaps).
    CpuPolicy(&'static str),
    /// Found and judged by a function; the text is what the documentation shows.
    Probe(&'static str, fn(&dyn Tree, &Machine) -> Vec<Reading>),
}

/// What is wanted in a file.
#[derive(Clone, Copy)]
pub enum Want {
    /// This word or number.
    Exactly(&'static str),
    /// This word, in a file that lists its choices with the present one in brackets.
    Choice(&'static str),
    /// One of these; the first is what `apply` writes.
    OneOf(&'static [&'static str]),
    /// At least this number.
    AtLeast(u64),
    /// At most this number.
    AtMost(u64),
    /// The last of several numbers at least this; the others stay.
    LastAtLeast(u64),
    /// What a function works out for this machine; the text is what the documentation shows.
    Computed(&'static str, fn(&Machine, &Spot) -> Option<Target>),
    /// Told, never asked for and never written.
    Leave(&'static str),
    /// A probe says.
    Probed(&'static str),
}

/// One place of a knob on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file.
    pub path: String,
    /// The disk, card or policy that it belongs to; empty for a single file.
    pub device: String,
    /// The number of the queue or policy.
    pub index: usize,
    /// How many queues of that kind the device has.
    pub count: usize,
}

/// A value that a function asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This text.
    Text(String),
    /// These CPUs, spelled as a mask.
    Mask(crate::cpus::CpuSet),
    /// These CPUs, spelled as a list.
    List(crate::cpus::CpuSet),
    /// At least this number.
    AtLeast(u64),
}

/// How a value is made to last over a restart of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// A line in `sysctl.d`.
    Sysctl,
    /// A rule of udev, so that a disk that is plugged in later gets it too.
    Udev,
    /// The oneshot unit applies it at boot.
    Unit,
    /// An argument of the kernel's command line, as text for a person to add.
    KernelArgument(&'static str),
    /// A configuration file: what is written there lasts.
    Itself,
    /// It is never written, so there is nothing to keep.
    Nothing,
}

/// What a probe found at one place.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The evidence.
    pub path: String,
    /// What is there.
    pub current: String,
    /// What is wanted there.
    pub wanted: String,
    /// Whether that is so.
    pub state: State,
    /// What this machine adds to the knob's own reason; may be empty.
    pub note: String,
}

/// What a reading means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As wanted.
    Good,
    /// Not as wanted; `apply` can make it so.
    Off(Change),
    /// Not as wanted; a person must act.
    OffByHand,
    /// Not as wanted; only a new start of the machine changes it.
    OffUntilReboot,
    /// The kernel decides this itself.
    Managed,
    /// Only told.
    Told,
    /// Cannot be told without more rights, or the content is not understood.
    Unknown,
}

/// One write that would mend a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Write this value into the kernel file.
    Kernel(String),
    /// Put a configuration file with this content in place.
    Config(String),
}

/// One setting.
pub struct Knob {
    /// Its name.
    pub id: &'static str,
    /// Its family.
    pub group: Group,
    /// Where it lies.
    pub place: Place,
    /// What is wanted.
    pub want: Want,
    /// How much it matters.
    pub severity: Severity,
    /// Whose it is.
    pub owner: Owner,
    /// Whether a virtual machine has it.
    pub guest: Guest,
    /// How it lasts.
    pub lasting: Lasting,
    /// Why this value.
    pub why: &'static str,
    /// What it may cost.
    pub risk: &'static str,
}

impl Knob {
    /// The path as the documentation shows it.
    pub fn path_pattern(&self) -> String {
        match self.place {
            Place::File(path) | Place::Probe(path, _) => path.to_owned(),
            Place::Disk(rest) => format!("/sys/block/DISK/{rest}"),
            Place::RxQueue(rest) => format!("/sys/class/net/NIC/queues/rx-N/{rest}"),
            Place::TxQueue(rest) => format!("/sys/class/net/NIC/queues/tx-N/{rest}"),
            Place::CpuPolicy(rest) => format!("/sys/devices/system/cpu/cpufreq/policyN/{rest}"),
        }
    }

    /// The wanted value as the documentation shows it.
    pub fn wanted_text(&self) -> String {
        match self.want {
            Want::Exactly(word) | Want::Choice(word) => word.to_owned(),
            Want::OneOf(words) => words.join(" or "),
            Want::AtLeast(number) => format!("≥ {number}"),
            Want::AtMost(number) => format!("≤ {number}"),
            Want::LastAtLeast(number) => format!("last ≥ {number}"),
            Want::Computed(text, _) | Want::Leave(text) | Want::Probed(text) => text.to_owned(),
        }
    }

    /// Whether `apply` ever writes it.
    pub fn is_applied(&self) -> bool {
        !matches!(self.lasting, Lasting::Nothing | Lasting::KernelArgument(_))
    }

    /// The places of this knob on a machine; empty for a probe.
    pub fn spots(&self, tree: &dyn Tree, machine: &Machine) -> Vec<Spot> {
        let single = |path: String, device: &str| Spot {
            path,
            device: device.to_owned(),
            index: 0,
            count: 1,
        };
        match self.place {
            Place::Probe(..) => Vec::new(),
            Place::File(path) => vec![single(path.to_owned(), "")],
            Place::Disk(rest) => machine
                .disks
                .iter()
                .map(|disk| single(format!("/sys/block/{}/{rest}", disk.name), &disk.name))
                .collect(),
            Place::RxQueue(rest) => queue_spots(machine, "rx", rest),
            Place::TxQueue(rest) => queue_spots(machine, "tx", rest),
            Place::CpuPolicy(rest) => tree
                .list("/sys/devices/system/cpu/cpufreq")
                .iter()
                .filter(|name| name.starts_with("policy"))
                .map(|name| {
                    single(
                        format!("/sys/devices/system/cpu/cpufreq/{name}/{rest}"),
                        name,
                    )
                })
                .collect(),
        }
    }
}

fn queue_spots(machine: &Machine, kind: &str, rest: &str) -> Vec<Spot> {
    let mut spots = Vec::new();
    for nic in &machine.nics {
        let count = if kind == "rx" {
            nic.rx_count
        } else {
            nic.tx_count
        };
        for index in 0..count {
            let path = format!("/sys/class/net/{}/queues/{kind}-{index}/{rest}", nic.name);
            spots.push(Spot {
                path,
                device: nic.name.clone(),
                index,
                count,
            });
        }
    }
    spots
}
