//! Knobs of CPUs: frequency, sleep, isolation and the noise of the kernel's own work.
//!
//! Owns what a thread that must answer within microseconds wants of its core.
//! Never sets boost or SMT: both are trades that belong to the owner of the machine, so they are told.

use crate::cpus::CpuSet;
use crate::knob::{
    Change, Group, Guest, Knob, Lasting, Owner, Place, Reading, Severity, Spot, State, Target, Want,
};
use crate::machine::Machine;
use crate::tree::Tree;

/// A sleep state that wakes within this is no harm.
const WAKE_UP_US_MAX: u64 = 3;

const CPU: Knob = Knob {
    id: "",
    group: Group::Cpu,
    place: Place::File(""),
    want: Want::Leave(""),
    severity: Severity::Info,
    owner: Owner::Host,
    guest: Guest::Absent,
    lasting: Lasting::Unit,
    why: "",
    risk: "none",
};

pub(super) const KNOBS: &[Knob] = &[
    Knob {
        id: "cpu-governor",
        place: Place::CpuPolicy("scaling_governor"),
        want: Want::Exactly("performance"),
        severity: Severity::Warning,
        why: "a core that must first speed up answers the first requests after a pause at a fraction of its speed",
        risk: "more power and heat when idle",
        ..CPU
    },
    Knob {
        id: "cpu-energy-preference",
        place: Place::CpuPolicy("energy_performance_preference"),
        want: Want::Exactly("performance"),
        why: "with a driver that scales by itself (intel_pstate, amd_pstate) this word decides and not the governor",
        risk: "more power and heat when idle",
        ..CPU
    },
    Knob {
        id: "cpu-idle",
        place: Place::Probe(
            "/sys/devices/system/cpu/cpuN/power/pm_qos_resume_latency_us",
            idle_states,
        ),
        want: Want::Probed("2 on the shards' CPUs, where a state sleeps deeper"),
        severity: Severity::Warning,
        why: "waking from a deep sleep state takes 30 to 200 µs, which every request after a pause would pay",
        risk: "more power, and less boost for the other cores; `gramme-tune hold` does the same for the whole machine through /dev/cpu_dma_latency, only while it runs",
        ..CPU
    },
    Knob {
        id: "cpu-boost",
        place: Place::Probe("/sys/devices/system/cpu/cpufreq/boost", boost),
        want: Want::Probed("told"),
        lasting: Lasting::Nothing,
        why: "boost is speed and jitter at once: leave it on to serve, switch it off to compare two measurements",
        risk: "without boost single requests are slower",
        ..CPU
    },
    Knob {
        id: "cpu-smt",
        place: Place::File("/sys/devices/system/cpu/smt/control"),
        want: Want::Leave("told: on is fine with one shard a core"),
        lasting: Lasting::Nothing,
        why: "two shards on the two threads of one core disturb each other; one shard a core leaves the second thread to the kernel",
        risk: "switching it off halves the number of CPUs",
        ..CPU
    },
    Knob {
        id: "cpu-isolation",
        place: Place::Probe("/sys/devices/system/cpu/isolated", isolation),
        want: Want::Probed("the shards' CPUs, where some CPUs are spare"),
        guest: Guest::Same,
        lasting: Lasting::KernelArgument(
            "isolcpus=managed_irq,domain,{shards} nohz_full={shards} rcu_nocbs={shards}",
        ),
        why: "other programs, the timer tick and RCU's work stay away from cores that run shards",
        risk: "a wrong list leaves CPUs idle; takes a restart",
        ..CPU
    },
    Knob {
        id: "cpu-workqueues",
        place: Place::File("/sys/devices/virtual/workqueue/cpumask"),
        want: Want::Computed("the CPUs without shards, where there are some", spare_mask),
        guest: Guest::Same,
        why: "the kernel's unbound workers run where no shard is disturbed",
        risk: "too few spare CPUs delay writeback",
        ..CPU
    },
    Knob {
        id: "cpu-writeback-workers",
        place: Place::File("/sys/bus/workqueue/devices/writeback/cpumask"),
        want: Want::Computed("the CPUs without shards, where there are some", spare_mask),
        guest: Guest::Same,
        why: "writeback of other programs' files runs where no shard is disturbed",
        risk: "too few spare CPUs delay writeback",
        ..CPU
    },
    Knob {
        id: "clock-source",
        place: Place::Probe(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            clock_source,
        ),
        want: Want::Probed(
            "tsc (on a guest also kvm-clock, hyperv_clocksource_tsc_page, arch_sys_counter on ARM)",
        ),
        severity: Severity::Critical,
        guest: Guest::Same,
        lasting: Lasting::Unit,
        why: "each request reads the clock several times; from tsc that takes 20 ns without a system call, from hpet or acpi_pm about a microsecond with one",
        risk: "the kernel leaves tsc when it found it unstable: then time may jump",
        ..CPU
    },
    Knob {
        id: "nmi-watchdog",
        place: Place::File("/proc/sys/kernel/nmi_watchdog"),
        want: Want::Exactly("0"),
        guest: Guest::Same,
        lasting: Lasting::Sysctl,
        why: "the watchdog interrupts every core for a performance counter of its own",
        risk: "a core that hangs in the kernel is no longer reported",
        ..CPU
    },
    Knob {
        id: "timer-migration",
        place: Place::File("/proc/sys/kernel/timer_migration"),
        want: Want::Exactly("0"),
        guest: Guest::Same,
        lasting: Lasting::Sysctl,
        why: "timers of other cores no longer move to a core that runs a shard",
        risk: "idle cores wake up for their own timers",
        ..CPU
    },
    Knob {
        id: "stat-interval",
        place: Place::File("/proc/sys/vm/stat_interval"),
        want: Want::AtLeast(10),
        guest: Guest::Same,
        lasting: Lasting::Sysctl,
        why: "the kernel folds its memory statistics on every core each second; ten times rarer is enough",
        risk: "/proc/vmstat is up to ten seconds old",
        ..CPU
    },
];

fn reading(path: &str, current: String, wanted: &str, state: State, note: &str) -> Reading {
    Reading {
        path: path.to_owned(),
        current,
        wanted: wanted.to_owned(),
        state,
        note: note.to_owned(),
    }
}

fn spare_mask(machine: &Machine, _: &Spot) -> Option<Target> {
    (!machine.spare_cpus.is_empty()).then(|| Target::Mask(machine.spare_cpus.clone()))
}

fn idle_states(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let mut readings = Vec::new();
    for cpu in machine.shard_cpus.iter() {
        let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
        let deepest_us = tree
            .list(&format!("{dir}/cpuidle"))
            .iter()
            .filter(|state| {
                tree.get(&format!("{dir}/cpuidle/{state}/disable"))
                    .as_deref()
                    != Some("1")
            })
            .filter_map(|state| {
                tree.get(&format!("{dir}/cpuidle/{state}/latency"))?
                    .parse::<u64>()
                    .ok()
            })
            .max();
        let Some(deepest_us) = deepest_us else {
            continue;
        };
        let path = format!("{dir}/power/pm_qos_resume_latency_us");
        let Some(limit) = tree.get(&path) else {
            continue;
        };
        // 0 means "no limit", the word n/a means "no wake-up latency at all".
        let limited = limit == "n/a"
            || limit
                .parse::<u64>()
                .is_ok_and(|us| us != 0 && us <= WAKE_UP_US_MAX);
        let state = if limited || deepest_us <= WAKE_UP_US_MAX {
            State::Good
        } else {
            State::Off(Change::Kernel("2".into()))
        };
        let note = format!("the deepest state in use takes {deepest_us} µs to leave");
        readings.push(reading(&path, limit, "2", state, &note));
    }
    readings
}

fn boost(tree: &dyn Tree, _: &Machine) -> Vec<Reading> {
    // Intel's own driver says it the other way round.
    let files = [
        ("/sys/devices/system/cpu/cpufreq/boost", "1"),
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", "0"),
    ];
    let found = files
        .iter()
        .find_map(|(path, on)| Some((*path, *on, tree.get(path)?)));
    let Some((path, on, value)) = found else {
        return Vec::new();
    };
    let current = if value == on { "boost on" } else { "boost off" };
    vec![reading(path, current.to_owned(), "told", State::Told, "")]
}

fn isolation(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let path = "/sys/devices/system/cpu/isolated";
    let Some(isolated) = tree.get(path) else {
        return Vec::new();
    };
    let current = if isolated.is_empty() {
        "none".to_owned()
    } else {
        isolated.clone()
    };
    if machine.spare_cpus.is_empty() {
        let note = "every CPU runs a shard, so there is nothing to isolate from; give --cpus to keep some free";
        return vec![reading(path, current, "none", State::Told, note)];
    }
    let wanted = machine.shard_cpus.to_string();
    let same =
        CpuSet::from_list(&isolated).is_some_and(|set| set.contains_all(&machine.shard_cpus));
    let state = if same {
        State::Good
    } else {
        State::OffUntilReboot
    };
    vec![reading(path, current, &wanted, state, "")]
}

fn clock_source(tree: &dyn Tree, machine: &Machine) -> Vec<Reading> {
    let dir = "/sys/devices/system/clocksource/clocksource0";
    let path = format!("{dir}/current_clocksource");
    let Some(current) = tree.get(&path) else {
        return Vec::new();
    };
    let offered = tree
        .get(&format!("{dir}/available_clocksource"))
        .unwrap_or_default();
    let offers = |name: &str| offered.split_whitespace().any(|word| word == name);
    const OF_GUESTS: [&str; 3] = [
        "kvm-clock",
        "hyperv_clocksource_tsc_page",
        "hyperv_clocksource",
    ];
    let guest = machine.environment.is_guest();
    let good = matches!(current.as_str(), "tsc" | "arch_sys_counter")
        || (guest && OF_GUESTS.contains(&current.as_str()));
    if good {
        let wanted = current.clone();
        return vec![reading(&path, current, &wanted, State::Good, "")];
    }
    let better = [
        "tsc",
        "arch_sys_counter",
        "kvm-clock",
        "hyperv_clocksource_tsc_page",
    ]
    .into_iter()
    .find(|n| offers(n));
    let (wanted, state, note) = match better {
        Some(name) => (name, State::Off(Change::Kernel(name.to_owned())), ""),
        None => (
            "tsc",
            State::OffUntilReboot,
            "the kernel found tsc unstable or does not offer it: see its log for why",
        ),
    };
    vec![reading(&path, current, wanted, state, note)]
}
