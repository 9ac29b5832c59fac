//! The deployment files keep what they promise, as far as text can tell.

use std::fs;
use std::path::Path;

fn deploy(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

#[test]
fn the_unit_lets_io_uring_work() {
    let unit = deploy("gramme.service");
    assert_eq!(
        values(&unit, "LimitMEMLOCK"),
        ["infinity"],
        "registered buffers are locked memory"
    );
    let calls = values(&unit, "SystemCallFilter").join(" ");
    assert!(
        calls.contains("io_uring_setup io_uring_enter io_uring_register"),
        "{calls}"
    );
    // A refusal must be an error that the node can report, not its end.
    assert_eq!(values(&unit, "SystemCallErrorNumber"), ["EPERM"]);
    assert!(values(&unit, "PrivateDevices").is_empty() || !calls.contains("~@raw-io"));
}

#[test]
fn the_unit_speaks_sd_notify_and_stops_gently() {
    let unit = deploy("gramme.service");
    assert_eq!(values(&unit, "Type"), ["notify"]);
    assert_eq!(values(&unit, "NotifyAccess"), ["main"]);
    assert_eq!(values(&unit, "WatchdogSec"), ["30s"]);
    assert_eq!(
        values(&unit, "Restart"),
        ["on-abnormal"],
        "which a watchdog's end is"
    );
    assert_eq!(values(&unit, "KillSignal"), ["SIGTERM"]);
    assert_eq!(values(&unit, "MemorySwapMax"), ["0"]);
    // The unit's restriction of sockets must leave the socket of sd_notify.
    assert!(
        values(&unit, "RestrictAddressFamilies")
            .iter()
            .any(|value| value.contains("AF_UNIX"))
    );
}

#[test]
fn directories_users_and_unit_agree() {
    let unit = deploy("gramme.service");
    let user = values(&unit, "User");
    assert_eq!(user, ["gramme"]);
    assert!(
        deploy("gramme.sysusers")
            .lines()
            .any(|line| line.starts_with("u gramme "))
    );
    assert!(
        deploy("gramme.tmpfiles")
            .lines()
            .any(|line| line.starts_with("d /var/lib/gramme 0700 gramme gramme"))
    );
    assert!(
        values(&unit, "ExecStart")
            .iter()
            .all(|call| call.contains("--data /var/lib/gramme"))
    );
    assert_eq!(values(&unit, "StateDirectory"), ["gramme"]);
}

#[test]
fn the_seccomp_profile_adds_the_three_calls_and_denies_by_default() {
    let profile: serde_json::Value =
        serde_json::from_str(&deploy("seccomp-io-uring.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let text = profile["syscalls"].to_string();
    for call in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "futex",
        "epoll_pwait",
        "mmap",
    ] {
        assert!(text.contains(&format!("\"{call}\"")), "{call}");
    }
}
