//! What lasts over a restart, and that it can be taken away.

use crate::program::on;
use crate::trees;

const SYSCTL: &str = "/etc/sysctl.d/90-gramme.conf";
const UDEV: &str = "/etc/udev/rules.d/90-gramme.rules";
const UNIT: &str = "/etc/systemd/system/gramme-tune.service";

#[test]
fn persist_writes_three_files_once_and_takes_them_away() {
    let tree = trees::bare_metal_nvme();
    assert_eq!(on(&tree, "persist", &["--yes", "--cpus", "2-7"]).code, 0);
    let sysctl = tree.get(SYSCTL);
    assert!(sysctl.contains("\nvm.swappiness = 1\n"), "{sysctl}");
    assert!(
        sysctl.contains("\nnet.ipv4.tcp_rmem = 4096 131072 6291456\n"),
        "{sysctl}"
    );
    let udev = tree.get(UDEV);
    assert!(
        udev.contains("KERNEL==\"nvme0n1\", ATTR{queue/scheduler}=\"none\""),
        "{udev}"
    );
    assert!(!udev.contains("write_cache"), "{udev}");
    let unit = tree.get(UNIT);
    assert!(
        unit.contains("ExecStart=/usr/bin/gramme-tune apply --yes --cpus 2-7 --only "),
        "{unit}"
    );
    let after = tree.snapshot();
    on(&tree, "persist", &["--yes", "--cpus", "2-7"]);
    assert_eq!(tree.snapshot(), after, "the second time writes nothing");
    on(&tree, "persist", &["--remove", "--yes"]);
    for path in [SYSCTL, UDEV, UNIT] {
        assert!(!tree.at(path).exists());
    }
}

#[test]
fn the_unit_of_persist_can_be_run_as_it_stands() {
    let tree = trees::bare_metal_nvme();
    on(&tree, "persist", &["--yes"]);
    let unit = tree.get(UNIT);
    let call = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/gramme-tune apply "))
        .unwrap();
    let run = on(&tree, "apply", &call.split(' ').collect::<Vec<_>>());
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(
        tree.get("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"),
        "performance"
    );
    assert_eq!(
        tree.get("/proc/sys/vm/swappiness"),
        "60",
        "that one lasts by sysctl.d"
    );
}

#[test]
fn kernel_arguments_are_text_for_a_person() {
    let tree = trees::bare_metal_nvme();
    let before = tree.snapshot();
    let out = on(&tree, "persist", &["--dry-run", "--cpus", "2-7"]).out;
    assert!(
        out.contains("isolcpus=managed_irq,domain,2-7 nohz_full=2-7 rcu_nocbs=2-7"),
        "{out}"
    );
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn somebody_elses_file_is_left_alone() {
    let tree = trees::arm();
    tree.set(SYSCTL, "vm.swappiness = 5");
    let run = on(&tree, "persist", &["--yes"]);
    assert_eq!(run.code, 3);
    assert!(
        run.err.contains("was not written by gramme-tune"),
        "{}",
        run.err
    );
    assert_eq!(tree.get(SYSCTL), "vm.swappiness = 5");
    assert!(
        !tree.at(UDEV).exists(),
        "nothing was written before the refusal"
    );
}

#[test]
fn after_persist_revert_says_what_stays() {
    let tree = trees::arm();
    on(&tree, "apply", &["--yes"]);
    on(&tree, "persist", &["--yes"]);
    let run = on(&tree, "revert", &["--yes"]);
    assert!(run.out.contains("persist --remove"), "{}", run.out);
}

/// What is shipped as examples for those who do not run the tuner: the same values, for every NVMe disk, without what
/// depends on the machine's size.
#[test]
fn the_files_shipped_as_examples_are_what_persist_writes() {
    let tree = trees::bare_metal_nvme();
    assert_eq!(on(&tree, "persist", &["--yes", "--cpus", "2-7"]).code, 0);
    let body = |path: &str| {
        let text = tree.get(path);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        lines.join("\n")
    };
    let sysctl: Vec<String> = body(SYSCTL)
        .lines()
        .filter(|line| !line.starts_with("vm.min_free_kbytes"))
        .map(str::to_owned)
        .collect();
    let mut udev: Vec<String> = body(UDEV)
        .lines()
        .map(|line| line.replace("KERNEL==\"nvme0n1\"", "KERNEL==\"nvme[0-9]*n[0-9]*\""))
        .filter(|line| line.contains("nvme[0-9]*") && !line.contains("nr_requests"))
        .collect();
    udev.dedup();
    for (name, lines) in [("gramme.sysctl", sysctl), ("gramme.rules", udev)] {
        assert!(lines.len() >= 3, "{name}: {lines:?}");
        let made = format!(
            "# An example: `gramme-tune persist` writes this file for the machine it runs on. Made from the knobs.\n{}\n",
            lines.join("\n")
        );
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("deploy")
            .join(name);
        if std::env::var_os("GRAMME_BLESS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            made,
            "GRAMME_BLESS=1 writes {name} anew"
        );
    }
}
