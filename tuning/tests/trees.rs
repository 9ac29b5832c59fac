//! Trees that look like machines: what `/proc`, `/sys` and `/etc` of each hold, as far as the tuner reads them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A tree in a directory of its own, removed at the end.
pub(crate) struct Fake {
    dir: PathBuf,
}

impl Fake {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self {
            dir: dir.canonicalize().unwrap(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    /// Puts a file there, with a line's end as the kernel does.
    pub(crate) fn set(&self, path: &str, content: &str) -> &Self {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{content}\n")).unwrap();
        self
    }

    pub(crate) fn get(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap().trim().to_owned()
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        symlink(target, file).unwrap();
        self
    }

    /// Every file with its bytes, every link with its target, every directory.
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut todo = vec![self.dir.clone()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                let content = if kind.is_dir() {
                    todo.push(entry.path());
                    b"directory".to_vec()
                } else if kind.is_symlink() {
                    fs::read_link(entry.path())
                        .unwrap()
                        .into_os_string()
                        .into_encoded_bytes()
                } else {
                    fs::read(entry.path()).unwrap()
                };
                all.insert(entry.path(), content);
            }
        }
        all
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What every Linux has, with a distribution's defaults.
fn linux(name: &str, release: &str, cpu_count: u32) -> Fake {
    let t = Fake::new(name);
    for (path, value) in [
        ("kernel/osrelease", release),
        (
            "kernel/random/boot_id",
            "0a1b2c3d-0000-4000-8000-000000000001",
        ),
        ("kernel/io_uring_disabled", "0"),
        ("kernel/io_uring_group", "-1"),
        ("kernel/nmi_watchdog", "1"),
        ("kernel/timer_migration", "1"),
        ("kernel/numa_balancing", "0"),
        ("kernel/core_pattern", "core"),
        ("vm/swappiness", "60"),
        ("vm/min_free_kbytes", "67584"),
        ("vm/zone_reclaim_mode", "0"),
        ("vm/stat_interval", "1"),
        ("vm/max_map_count", "65530"),
        ("vm/dirty_ratio", "20"),
        ("vm/dirty_background_ratio", "10"),
        ("fs/aio-max-nr", "65536"),
        ("net/core/somaxconn", "4096"),
        ("net/core/netdev_max_backlog", "1000"),
        ("net/core/busy_read", "0"),
        ("net/core/busy_poll", "0"),
        ("net/core/rps_sock_flow_entries", "0"),
        ("net/ipv4/tcp_max_syn_backlog", "2048"),
        ("net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
        ("net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
        ("net/ipv4/tcp_slow_start_after_idle", "1"),
        ("net/ipv4/tcp_notsent_lowat", "4294967295"),
        ("net/ipv4/ip_local_port_range", "32768\t60999"),
        ("net/ipv4/tcp_tw_reuse", "2"),
    ] {
        t.set(&format!("/proc/sys/{path}"), value);
    }
    t.set(
        "/sys/devices/system/cpu/online",
        &format!("0-{}", cpu_count - 1),
    );
    t.set("/sys/devices/system/cpu/isolated", "");
    t.set(
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
    );
    t.set(
        "/sys/kernel/mm/transparent_hugepage/defrag",
        "always defer defer+madvise [madvise] never",
    );
    t.set("/sys/devices/virtual/workqueue/cpumask", "ff");
    t.set(
        "/proc/meminfo",
        "MemTotal:       65536000 kB\nMemFree:        60000000 kB",
    );
    t.set("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority");
    t.set("/proc/stat", "cpu  100 0 100 9000 10 0 0 5 0 0");
    t.set("/proc/self/cgroup", "0::/user.slice");
    t.set("/sys/fs/cgroup/user.slice/cpu.max", "max 100000");
    t.set("/sys/fs/cgroup/user.slice/memory.max", "max");
    t.set(
        "/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max open files            1024                 1048576              files\n\
         Max locked memory         8388608              unlimited            bytes",
    );
    t.set(
        "/proc/self/mountinfo",
        "23 1 259:2 / / rw,relatime - ext4 /dev/nvme0n1p2 rw\n24 23 0:5 / /dev rw - devtmpfs devtmpfs rw",
    );
    t.set(
        "/proc/cpuinfo",
        "processor\t: 0\nflags\t\t: fpu tsc constant_tsc nonstop_tsc",
    );
    clock(&t, "tsc", "tsc hpet acpi_pm");
    t
}

fn clock(t: &Fake, current: &str, available: &str) {
    let dir = "/sys/devices/system/clocksource/clocksource0";
    t.set(&format!("{dir}/current_clocksource"), current);
    t.set(&format!("{dir}/available_clocksource"), available);
}

fn guest(t: &Fake, vendor: &str, product: &str) {
    t.set(
        "/proc/cpuinfo",
        "processor\t: 0\nflags\t\t: fpu tsc hypervisor",
    );
    t.set("/sys/class/dmi/id/sys_vendor", vendor);
    t.set("/sys/class/dmi/id/product_name", product);
}

struct Queue<'a> {
    scheduler: &'a str,
    write_cache: &'a str,
    fua: &'a str,
}

fn disk(t: &Fake, name: &str, number: &str, queue: &Queue<'_>) {
    let dir = format!("/sys/block/{name}");
    t.set(&format!("{dir}/dev"), number);
    for (file, value) in [
        ("scheduler", queue.scheduler),
        ("write_cache", queue.write_cache),
        ("fua", queue.fua),
        ("nomerges", "0"),
        ("rq_affinity", "1"),
        ("wbt_lat_usec", "2000"),
        ("nr_requests", "1023"),
        ("read_ahead_kb", "128"),
        ("add_random", "0"),
        ("io_timeout", "30000"),
        ("logical_block_size", "512"),
        ("physical_block_size", "4096"),
    ] {
        t.set(&format!("{dir}/queue/{file}"), value);
    }
}

/// A disk with power-loss protection: no volatile cache.
fn nvme(t: &Fake, name: &str, number: &str) {
    disk(
        t,
        name,
        number,
        &Queue {
            scheduler: "none [mq-deadline] kyber",
            write_cache: "write through",
            fua: "0",
        },
    );
}

fn nic(t: &Fake, name: &str, queue_count: u32) {
    t.set(&format!("/sys/class/net/{name}/device/vendor"), "0x15b3");
    for queue in 0..queue_count {
        t.set(
            &format!("/sys/class/net/{name}/queues/rx-{queue}/rps_cpus"),
            "00",
        );
        t.set(
            &format!("/sys/class/net/{name}/queues/rx-{queue}/rps_flow_cnt"),
            "0",
        );
        t.set(
            &format!("/sys/class/net/{name}/queues/tx-{queue}/xps_cpus"),
            "00",
        );
    }
}

/// Interrupts with these names from number 40 on, all on CPU 0, and the table of them.
fn irqs(t: &Fake, cpu_count: usize, names: &[&str]) {
    let head: String = (0..cpu_count).map(|cpu| format!(" CPU{cpu}")).collect();
    let counts = " 7".repeat(cpu_count);
    let mut table = format!("{head}\n");
    for (index, name) in names.iter().enumerate() {
        let number = 40 + index;
        table.push_str(&format!(
            " {number}:{counts} PCI-MSIX-0000:3b:00.0 {index}-edge {name}\n"
        ));
        t.set(
            &format!("/proc/irq/{number}/smp_affinity_list"),
            &format!("0-{}", cpu_count - 1),
        );
        t.set(&format!("/proc/irq/{number}/effective_affinity_list"), "0");
    }
    t.set("/proc/interrupts", table.trim_end());
}

fn power(t: &Fake, cpu_count: u32) {
    for cpu in 0..cpu_count {
        let policy = format!("/sys/devices/system/cpu/cpufreq/policy{cpu}");
        t.set(&format!("{policy}/scaling_governor"), "powersave");
        t.set(
            &format!("{policy}/energy_performance_preference"),
            "balance_performance",
        );
        let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
        t.set(&format!("{dir}/power/pm_qos_resume_latency_us"), "0");
        for (state, latency) in [("state0", "0"), ("state1", "2"), ("state2", "170")] {
            t.set(&format!("{dir}/cpuidle/{state}/latency"), latency);
            t.set(&format!("{dir}/cpuidle/{state}/disable"), "0");
        }
    }
    t.set("/sys/devices/system/cpu/cpufreq/boost", "1");
    t.set("/sys/devices/system/cpu/smt/control", "on");
}

/// One socket, two NVMe disks, a card with a queue for each of 8 CPUs, irqbalance at work.
pub(crate) fn bare_metal_nvme() -> Fake {
    let t = linux("bare-metal-nvme", "6.12.4", 8);
    nvme(&t, "nvme0n1", "259:0");
    nvme(&t, "nvme1n1", "259:5");
    t.set("/sys/block/nvme0n1/nvme0n1p2/dev", "259:2");
    t.set("/sys/block/loop0/queue/scheduler", "[none] mq-deadline");
    nic(&t, "eth0", 8);
    let mut names: Vec<String> = (0..8).map(|queue| format!("eth0-TxRx-{queue}")).collect();
    names.extend((0..9).map(|queue| format!("nvme0q{queue}")));
    irqs(&t, 8, &names.iter().map(String::as_str).collect::<Vec<_>>());
    power(&t, 8);
    t.set("/sys/module/nvme/parameters/poll_queues", "0");
    t.set(
        "/sys/module/nvme_core/parameters/default_ps_max_latency_us",
        "100000",
    );
    t.set(
        "/sys/module/pcie_aspm/parameters/policy",
        "[default] performance powersave powersupersave",
    );
    t.set("/proc/812/comm", "irqbalance");
    t.set(
        "/etc/default/irqbalance",
        "# keep this comment\nIRQBALANCE_ONESHOT=0",
    );
    t
}

/// A virtual machine with virtio disks and network, as KVM gives it.
pub(crate) fn vm_virtio() -> Fake {
    let t = linux("vm-virtio", "6.1.0-18-amd64", 2);
    guest(&t, "QEMU", "Standard PC (Q35 + ICH9, 2009)");
    clock(&t, "kvm-clock", "kvm-clock tsc hpet acpi_pm");
    t.set(
        "/proc/self/mountinfo",
        "23 1 254:1 / / rw,noatime - ext4 /dev/vda1 rw\n24 23 0:5 / /dev rw - devtmpfs devtmpfs rw",
    );
    disk(
        &t,
        "vda",
        "254:0",
        &Queue {
            scheduler: "[mq-deadline] none",
            write_cache: "write back",
            fua: "0",
        },
    );
    t.set("/sys/block/vda/vda1/dev", "254:1");
    nic(&t, "ens3", 1);
    fs::remove_dir_all(t.at("/sys/class/net/ens3/device")).unwrap();
    t.set("/sys/devices/virtio1/vendor", "0x1af4");
    t.link("/sys/class/net/ens3/device", "../../../devices/virtio1");
    irqs(
        &t,
        2,
        &[
            "virtio1-config",
            "virtio1-input.0",
            "virtio1-output.0",
            "virtio2-req.0",
        ],
    );
    t
}

/// An instance of EC2 with a local NVMe disk and an ENA card of four queues for 16 CPUs.
pub(crate) fn cloud_ec2() -> Fake {
    let t = linux("cloud-ec2", "6.8.0-1021-aws", 16);
    guest(&t, "Amazon EC2", "i4i.4xlarge");
    clock(&t, "tsc", "tsc kvm-clock");
    t.set("/proc/stat", "cpu  100 0 100 9000 10 0 0 500 0 0");
    disk(
        &t,
        "nvme0n1",
        "259:0",
        &Queue {
            scheduler: "[none] mq-deadline",
            write_cache: "write back",
            fua: "1",
        },
    );
    nic(&t, "ens5", 4);
    let names = [
        "ena-mgmnt@pci:0000:00:05.0",
        "ens5-Tx-Rx-0",
        "ens5-Tx-Rx-1",
        "ens5-Tx-Rx-2",
        "ens5-Tx-Rx-3",
        "nvme0q1",
    ];
    irqs(&t, 16, &names);
    t
}

/// A container: somebody else's kernel, a read-only `/proc/sys`, a quota, a seccomp profile's limits.
pub(crate) fn container() -> Fake {
    let t = bare_metal_nvme();
    t.set("/.dockerenv", "");
    t.set(
        "/proc/self/mountinfo",
        "600 500 0:50 / / rw,relatime - overlay overlay rw\n601 600 0:51 / /dev rw - tmpfs tmpfs rw\n\
         602 600 0:52 / /proc rw - proc proc rw\n603 602 0:52 /sys /proc/sys ro - proc proc rw\n\
         604 600 0:53 / /sys ro - sysfs sysfs ro\n605 600 259:5 /v /data rw,noatime - xfs /dev/nvme1n1 rw",
    );
    t.set("/proc/self/cgroup", "0::/");
    t.set("/sys/fs/cgroup/cpu.max", "200000 100000");
    t.set("/sys/fs/cgroup/cpu.stat", "usage_usec 1\nnr_throttled 412");
    t.set("/proc/self/limits", "Max open files            1024                 4096                 files\nMax locked memory         65536                65536                bytes");
    t
}

/// Two sockets, the balancer at work, the clock degraded, four CPUs kept free for the kernel.
pub(crate) fn two_sockets() -> Fake {
    let t = linux("two-sockets", "6.6.70", 16);
    nvme(&t, "nvme0n1", "259:0");
    clock(&t, "hpet", "hpet acpi_pm");
    t.set("/proc/sys/kernel/numa_balancing", "1");
    t.set("/sys/devices/system/node/node0/cpulist", "0-7");
    t.set("/sys/devices/system/node/node1/cpulist", "8-15");
    t.set("/sys/block/nvme0n1/device/device/numa_node", "1");
    nic(&t, "eth0", 2);
    irqs(
        &t,
        16,
        &["mlx5_async0@pci:0000:3b:00.0", "eth0-0", "eth0-1"],
    );
    power(&t, 16);
    t
}

/// Data on an md array of two NVMe partitions.
pub(crate) fn md_raid() -> Fake {
    let t = linux("md-raid", "6.1.100", 4);
    nvme(&t, "nvme0n1", "259:0");
    nvme(&t, "nvme1n1", "259:5");
    t.set("/sys/block/nvme0n1/nvme0n1p1/dev", "259:1");
    t.set("/sys/block/nvme1n1/nvme1n1p1/dev", "259:6");
    disk(
        &t,
        "sda",
        "8:0",
        &Queue {
            scheduler: "none [mq-deadline]",
            write_cache: "write back",
            fua: "1",
        },
    );
    t.set("/sys/block/md0/dev", "9:0");
    t.set("/sys/block/md0/slaves/nvme0n1p1/x", "");
    t.set("/sys/block/md0/slaves/nvme1n1p1/x", "");
    t.set("/proc/self/mountinfo", "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n24 23 9:0 / /data rw,noatime - xfs /dev/md0 rw,discard\n25 23 0:5 / /dev rw - devtmpfs devtmpfs rw");
    t
}

/// An encrypted LVM volume on one SCSI disk: two layers of device mapper.
pub(crate) fn lvm_crypt() -> Fake {
    let t = linux("lvm-crypt", "6.1.100", 4);
    disk(
        &t,
        "sda",
        "8:0",
        &Queue {
            scheduler: "none [mq-deadline]",
            write_cache: "write back",
            fua: "1",
        },
    );
    t.set("/sys/block/sda/sda3/dev", "8:3");
    t.set("/sys/block/dm-0/dev", "253:0");
    t.set("/sys/block/dm-0/slaves/sda3/x", "");
    t.set("/sys/block/dm-1/dev", "253:1");
    t.set("/sys/block/dm-1/slaves/dm-0/x", "");
    t.set("/proc/self/mountinfo", "23 1 253:1 / / rw,relatime - btrfs /dev/mapper/vg-root rw\n25 23 0:5 / /dev rw - devtmpfs devtmpfs rw");
    t
}

/// NVMe with native multipath: the work is done by the path, whose name has a `c` in it.
pub(crate) fn nvme_multipath() -> Fake {
    let t = linux("nvme-multipath", "6.12.4", 4);
    t.set("/sys/block/nvme0n1/queue/nr_requests", "1023");
    nvme(&t, "nvme0c0n1", "259:1");
    irqs(&t, 4, &["nvme0q0", "nvme0q1", "nvme0q2"]);
    t
}

/// Two cards in a bond with a VLAN on it.
pub(crate) fn bond_vlan() -> Fake {
    let t = linux("bond-vlan", "6.12.4", 4);
    nic(&t, "eth0", 4);
    nic(&t, "eth1", 4);
    t.set("/sys/class/net/bond0/queues/rx-0/rps_cpus", "0");
    t.set("/sys/class/net/bond0.12/queues/rx-0/rps_cpus", "0");
    t.set("/sys/class/net/lo/queues/rx-0/rps_cpus", "0");
    t
}

/// ARM: no tsc, no C-states in sysfs, a governor.
pub(crate) fn arm() -> Fake {
    let t = linux("arm", "6.8.0", 4);
    clock(&t, "arch_sys_counter", "arch_sys_counter");
    t.set("/proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd");
    t.set(
        "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
        "schedutil",
    );
    nvme(&t, "nvme0n1", "259:0");
    t
}

/// A kernel before `io_uring_disabled` and before multishot receive.
pub(crate) fn old_kernel() -> Fake {
    let t = linux("old-kernel", "5.15.0-91-generic", 4);
    fs::remove_file(t.at("/proc/sys/kernel/io_uring_disabled")).unwrap();
    nvme(&t, "nvme0n1", "259:0");
    t
}

/// A guest of Xen with its own kind of disk.
pub(crate) fn xen() -> Fake {
    let t = linux("xen", "6.1.100", 4);
    t.set("/sys/hypervisor/type", "xen");
    clock(&t, "xen", "xen tsc");
    disk(
        &t,
        "xvda",
        "202:0",
        &Queue {
            scheduler: "none",
            write_cache: "write back",
            fua: "0",
        },
    );
    t
}

/// A host on which somebody has switched the flushes off, and io_uring too.
pub(crate) fn sabotaged() -> Fake {
    let t = linux("sabotaged", "6.12.4", 4);
    disk(
        &t,
        "nvme0n1",
        "259:0",
        &Queue {
            scheduler: "[none]",
            write_cache: "write through",
            fua: "1",
        },
    );
    t.set("/proc/sys/kernel/io_uring_disabled", "2");
    t
}
