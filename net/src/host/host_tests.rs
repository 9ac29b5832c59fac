//! Machines of files: what each is warned of, and that a sound one is silent.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Disk, Host};

const DATA: &str = "/var/lib/gramme";

struct Machine(tempfile::TempDir);

impl Machine {
    /// As `gramme tune` leaves a bare-metal machine.
    fn sound() -> Self {
        let machine = Self(tempfile::tempdir().expect("a directory"));
        for (path, text) in [
            ("proc/sys/kernel/io_uring_disabled", "0"),
            ("proc/sys/kernel/io_uring_group", "-1"),
            ("proc/sys/vm/swappiness", "1"),
            ("proc/swaps", "Filename\tType\nswap.img\tfile"),
            ("proc/self/cgroup", "0::/system.slice/gramme.service"),
            (
                "sys/fs/cgroup/system.slice/gramme.service/cpu.max",
                "max 100000",
            ),
            (
                "sys/fs/cgroup/system.slice/gramme.service/memory.swap.max",
                "max",
            ),
            (
                "proc/self/status",
                "Name:\tgramme\nUid:\t998\t998\t998\t998\nCapEff:\t0000000000000000",
            ),
            (
                "proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\n\
                 Max open files            1024                 1048576              files\n\
                 Max locked memory         8388608              unlimited            bytes",
            ),
            (
                "proc/self/mountinfo",
                "20 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n\
                 21 20 0:6 / /dev rw - devtmpfs udev rw\n\
                 30 20 259:1 / /var/lib/gramme rw,noatime - xfs /dev/nvme0n1p1 rw",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never",
            ),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "tsc",
            ),
            (
                "sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
                "performance",
            ),
            (
                "sys/devices/system/cpu/cpufreq/policy1/scaling_governor",
                "powersave",
            ),
            (
                "sys/devices/system/cpu/cpufreq/policy1/energy_performance_preference",
                "performance",
            ),
            ("sys/devices/pci/nvme0n1/queue/rotational", "0"),
            ("sys/devices/pci/nvme0n1/size", "2097152"),
            ("sys/devices/pci/nvme0n1/device/model", "Fast Disk"),
            ("sys/devices/pci/nvme0n1/device/serial", "S1"),
            ("sys/devices/pci/nvme0n1/nvme0n1p1/partition", "1"),
        ] {
            machine.set(path, text);
        }
        let links = machine.0.path().join("sys/dev/block");
        fs::create_dir_all(&links).expect("made");
        symlink("../../devices/pci/nvme0n1/nvme0n1p1", links.join("259:1")).expect("linked");
        machine
    }

    fn set(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(path, format!("{text}\n")).expect("written");
        self
    }

    fn warnings(&self) -> Vec<String> {
        Host::at(self.0.path()).warnings(Path::new(DATA))
    }
}

#[test]
fn a_sound_machine_is_silent_and_so_is_one_that_cannot_be_read() {
    assert_eq!(Machine::sound().warnings(), Vec::<String>::new());
    let empty = Machine(tempfile::tempdir().expect("a directory"));
    assert_eq!(empty.warnings(), Vec::<String>::new());
}

#[test]
fn each_setting_that_is_off_is_one_line_with_its_call() {
    const LIMITS: &str =
        "Max open files  1024  4096  files\nMax locked memory  65536  65536  bytes";
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "proc/sys/kernel/io_uring_disabled",
            "2",
            &["apply --only io-uring"],
        ),
        (
            "proc/sys/kernel/io_uring_disabled",
            "1",
            &["apply --only io-uring"],
        ),
        (
            "proc/self/limits",
            LIMITS,
            &["explain locked-memory", "explain open-files"],
        ),
        (
            "sys/fs/cgroup/system.slice/gramme.service/cpu.max",
            "50000 100000",
            &["explain cpu-quota"],
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            &["apply --only clock-source"],
        ),
        (
            "sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
            "powersave",
            &["apply --only cpu-governor"],
        ),
        ("proc/sys/vm/swappiness", "60", &["apply --only swappiness"]),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never",
            &["apply --only huge-pages"],
        ),
        (
            "proc/self/mountinfo",
            "30 20 0:50 / /var/lib/gramme rw - nfs4 server:/x rw",
            &["explain fs-type"],
        ),
        (
            "proc/self/mountinfo",
            "30 20 0:51 / / rw - overlay overlay rw",
            &["explain fs-type"],
        ),
        (
            "proc/self/mountinfo",
            "30 20 259:1 / / rw,nobarrier - ext4 /dev/nvme0n1p1 rw",
            &["explain fs-options"],
        ),
        (
            "sys/devices/pci/nvme0n1/queue/rotational",
            "1",
            &["calibrate /var/lib/gramme"],
        ),
    ];
    for (path, text, calls) in cases {
        let machine = Machine::sound();
        machine.set(path, text);
        let warnings = machine.warnings();
        assert_eq!(warnings.len(), calls.len(), "{path} {text}: {warnings:?}");
        for (warning, call) in warnings.iter().zip(*calls) {
            assert!(
                warning.contains(&format!("`gramme tune {call}`")),
                "{warning}"
            );
            assert!(!warning.contains('\n') && warning.len() < 200, "{warning}");
        }
    }
}

#[test]
fn what_does_not_touch_this_node_is_not_told() {
    let machine = Machine::sound();
    machine.set("proc/sys/vm/swappiness", "60");
    machine.set("proc/swaps", "Filename\tType");
    assert!(machine.warnings().is_empty(), "no swap");
    let machine = Machine::sound();
    machine.set("proc/sys/vm/swappiness", "60");
    let group = "sys/fs/cgroup/system.slice/gramme.service/memory.swap.max";
    machine.set(group, "0");
    assert!(machine.warnings().is_empty(), "the unit forbids swap");
    let machine = Machine::sound();
    machine.set("proc/sys/kernel/io_uring_disabled", "1");
    machine.set("proc/sys/kernel/io_uring_group", "998");
    assert!(machine.warnings().is_empty(), "a group is allowed");
    let machine = Machine::sound();
    machine.set("proc/self/limits", "Max locked memory  65536  65536  bytes");
    machine.set("proc/self/status", "CapEff:\t000001ffffffffff");
    assert!(machine.warnings().is_empty(), "it may lock anyway");
}

#[test]
fn in_a_container_the_host_is_where_it_is_mended() {
    let machine = Machine::sound();
    machine.set("run/.containerenv", "");
    machine.set(
        "proc/self/mountinfo",
        "30 20 259:1 / / rw - xfs /dev/nvme0n1p1 rw",
    );
    machine.set("proc/sys/vm/swappiness", "60");
    let warnings = machine.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("on the container's host: `gramme tune"),
        "{warnings:?}"
    );
}

#[test]
fn the_disk_of_a_directory_is_the_whole_one_under_its_partition() {
    let machine = Machine::sound();
    let disk = Host::at(machine.0.path()).disk_of(Path::new("/var/lib/gramme/data"));
    assert_eq!(
        disk,
        Some(Disk {
            name: "nvme0n1".into(),
            model: "Fast Disk".into(),
            serial: "S1".into(),
            size_bytes: 1 << 30,
            fs_type: "xfs".into(),
            is_rotational: false,
        })
    );
}
