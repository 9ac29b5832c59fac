//! Knobs of the network: sockets, queues, interrupts. The definitions; what must be worked out is in `network_queues`.
//!
//! Owns what many short requests on many connections want of the stack.
//! Never raises the buffers' defaults: only their upper ends, which a connection reaches when it needs to.

use super::network_queues::{
    flow_count, irq_affinity, irqbalance, queue_count, receive_steering, transmit_steering,
};
use crate::knob::{Group, Guest, Knob, Lasting, Owner, Place, Severity, Want};

const NETWORK: Knob = Knob {
    id: "",
    group: Group::Network,
    place: Place::File(""),
    want: Want::Leave(""),
    severity: Severity::Info,
    owner: Owner::NetNamespace,
    guest: Guest::Same,
    lasting: Lasting::Sysctl,
    why: "",
    risk: "none",
};

pub(super) const KNOBS: &[Knob] = &[
    Knob {
        id: "nic-irqs",
        place: Place::Probe(
            "/proc/irq/N/smp_affinity_list of the network cards",
            irq_affinity,
        ),
        want: Want::Probed(
            "queue i on shard i's CPU; on the spare CPUs when there are more than 4 shards a queue",
        ),
        severity: Severity::Warning,
        owner: Owner::Host,
        lasting: Lasting::Unit,
        why: "a packet that is taken in on the CPU of the shard that answers it stays in that cache; all queues on one CPU make that shard the slow one",
        risk: "irqbalance moves them back unless it is told not to (see the knob irqbalance)",
        ..NETWORK
    },
    Knob {
        id: "irqbalance",
        place: Place::Probe(
            "/etc/default/irqbalance or /etc/sysconfig/irqbalance",
            irqbalance,
        ),
        want: Want::Probed(
            "IRQBALANCE_BANNED_CPULIST names the shards' CPUs, where the daemon runs",
        ),
        owner: Owner::Host,
        lasting: Lasting::Itself,
        why: "the daemon moves interrupts every ten seconds and undoes their placement",
        risk: "it must be restarted to read its file; interrupts of other devices share the CPUs that are left",
        ..NETWORK
    },
    Knob {
        id: "nic-queues",
        place: Place::Probe("/sys/class/net/NIC/queues", queue_count),
        want: Want::Probed("a receive queue for each shard"),
        owner: Owner::Host,
        lasting: Lasting::Nothing,
        why: "with fewer queues than shards, some CPUs take in packets for others",
        risk: "changing the number takes the link down for a moment",
        ..NETWORK
    },
    Knob {
        id: "rps",
        place: Place::RxQueue("rps_cpus"),
        want: Want::Computed(
            "0 with a queue for each shard, else the other CPUs",
            receive_steering,
        ),
        owner: Owner::Host,
        lasting: Lasting::Unit,
        why: "with enough queues the hardware spreads packets already; with too few, the work of one CPU is passed on to the others",
        risk: "one interrupt between CPUs for each batch of packets",
        ..NETWORK
    },
    Knob {
        id: "rfs-flows",
        place: Place::RxQueue("rps_flow_cnt"),
        want: Want::Computed("32768 / queues", flow_count),
        owner: Owner::Host,
        lasting: Lasting::Unit,
        why: "a flow's packets go to the CPU where its socket was last read, which is its shard's",
        risk: "4 bytes of memory a flow",
        ..NETWORK
    },
    Knob {
        id: "rfs-table",
        place: Place::File("/proc/sys/net/core/rps_sock_flow_entries"),
        want: Want::AtLeast(32_768),
        owner: Owner::Host,
        why: "the table of flows that rfs-flows counts on; 0 switches it off",
        risk: "4 bytes of memory a flow",
        ..NETWORK
    },
    Knob {
        id: "xps",
        place: Place::TxQueue("xps_cpus"),
        want: Want::Computed(
            "queue i for the shards whose number is i modulo the queues",
            transmit_steering,
        ),
        owner: Owner::Host,
        lasting: Lasting::Unit,
        why: "a shard that always sends on its own queue never waits for another CPU's lock on it",
        ..NETWORK
    },
    Knob {
        id: "busy-read",
        place: Place::File("/proc/sys/net/core/busy_read"),
        want: Want::Leave("told: 0; measure before you raise it"),
        owner: Owner::Host,
        lasting: Lasting::Nothing,
        why: "reads that spin on the card save some microseconds and use a CPU; the node's ring sleeps instead",
        risk: "a CPU at 100 %",
        ..NETWORK
    },
    Knob {
        id: "busy-poll",
        place: Place::File("/proc/sys/net/core/busy_poll"),
        want: Want::Leave("told: 0; measure before you raise it"),
        owner: Owner::Host,
        lasting: Lasting::Nothing,
        why: "polls that spin on the card save some microseconds and use a CPU; the node's ring sleeps instead",
        risk: "a CPU at 100 %",
        ..NETWORK
    },
    Knob {
        id: "somaxconn",
        place: Place::File("/proc/sys/net/core/somaxconn"),
        want: Want::AtLeast(4096),
        severity: Severity::Warning,
        why: "clients that all reconnect at once overflow a shorter queue and wait a second for their second try",
        ..NETWORK
    },
    Knob {
        id: "syn-backlog",
        place: Place::File("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
        want: Want::AtLeast(4096),
        severity: Severity::Warning,
        why: "clients that all reconnect at once overflow a shorter queue and wait a second for their second try",
        risk: "256 bytes for each half-open connection",
        ..NETWORK
    },
    Knob {
        id: "net-backlog",
        place: Place::File("/proc/sys/net/core/netdev_max_backlog"),
        want: Want::AtLeast(1000),
        owner: Owner::Host,
        why: "packets that one CPU passes to another are dropped past this number",
        ..NETWORK
    },
    Knob {
        id: "tcp-read-buffer",
        place: Place::File("/proc/sys/net/ipv4/tcp_rmem"),
        want: Want::LastAtLeast(6_291_456),
        why: "transfers between nodes of a cluster over a link with some delay need a window of several megabytes",
        risk: "memory, for connections that use it",
        ..NETWORK
    },
    Knob {
        id: "tcp-write-buffer",
        place: Place::File("/proc/sys/net/ipv4/tcp_wmem"),
        want: Want::LastAtLeast(4_194_304),
        why: "transfers between nodes of a cluster over a link with some delay need a window of several megabytes",
        risk: "memory, for connections that use it",
        ..NETWORK
    },
    Knob {
        id: "tcp-slow-start-after-idle",
        place: Place::File("/proc/sys/net/ipv4/tcp_slow_start_after_idle"),
        want: Want::Exactly("0"),
        severity: Severity::Warning,
        why: "a connection between nodes that was quiet for a moment would start again with a small window, and a large value would take several round trips",
        risk: "bursts after a pause on links that lose packets",
        ..NETWORK
    },
    Knob {
        id: "tcp-unsent",
        place: Place::File("/proc/sys/net/ipv4/tcp_notsent_lowat"),
        want: Want::Leave("told"),
        lasting: Lasting::Nothing,
        why: "the node bounds what it queues for each connection itself",
        ..NETWORK
    },
    Knob {
        id: "port-range",
        place: Place::File("/proc/sys/net/ipv4/ip_local_port_range"),
        want: Want::Leave("told: 1024 65535 on hosts that run many clients"),
        lasting: Lasting::Nothing,
        why: "a host of clients that opens connections fast runs out of ports; a server does not",
        risk: "a wider range can take the port of a service that starts later",
        ..NETWORK
    },
    Knob {
        id: "time-wait-reuse",
        place: Place::File("/proc/sys/net/ipv4/tcp_tw_reuse"),
        want: Want::Leave("told"),
        lasting: Lasting::Nothing,
        why: "a host of clients that opens connections fast runs out of ports; a server does not",
        ..NETWORK
    },
];
