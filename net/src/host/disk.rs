//! The disk under a directory: its file system, and the identity by which it is known again.
//!
//! Owns the reading of mounts and block devices. Never trusts a name alone: `nvme0n1` may be another disk after a start
//! of the machine, so model and serial number count first.

use std::path::Path;

use super::Host;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: String,
    pub(super) point: String,
    pub(super) fs_type: String,
    pub(super) options: Vec<String>,
}

/// A disk, as far as the kernel describes it; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Name under `/sys/block`.
    pub name: String,
    /// Model.
    pub model: String,
    /// Serial number or world-wide name.
    pub serial: String,
    /// Size of the whole disk.
    pub size_bytes: u64,
    /// File system of the directory.
    pub fs_type: String,
    /// Whether it turns.
    pub is_rotational: bool,
}

impl Host {
    pub(super) fn mounts(&self) -> Vec<Mount> {
        let text = self.read("/proc/self/mountinfo").unwrap_or_default();
        text.lines().filter_map(parse_mount).collect()
    }

    /// The mount that holds a directory: the longest point before it, the last of equals.
    pub(super) fn mount_of(&self, dir: &Path) -> Option<Mount> {
        self.mounts()
            .into_iter()
            .filter(|mount| dir.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.len())
    }

    /// The disk under a directory (an absolute path without links); none where a file system has no disk.
    pub fn disk_of(&self, dir: &Path) -> Option<Disk> {
        let mount = self.mount_of(dir)?;
        let own = self.at_path(&format!("/sys/dev/block/{}", mount.device));
        let own = own.canonicalize().ok()?;
        // A partition's directory lies in its disk's.
        let whole = if own.join("queue").exists() {
            own
        } else {
            own.parent()?.to_path_buf()
        };
        let read = |rest: &str| {
            let text = std::fs::read_to_string(whole.join(rest)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let sectors: u64 = read("size").and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Disk {
            name: whole.file_name()?.to_string_lossy().into_owned(),
            model: read("device/model").unwrap_or_default(),
            serial: ["device/serial", "serial", "wwid"]
                .iter()
                .find_map(|file| read(file))
                .unwrap_or_default(),
            size_bytes: sectors.saturating_mul(512),
            fs_type: mount.fs_type,
            is_rotational: read("queue/rotational").as_deref() == Some("1"),
        })
    }
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let device = left.next()?.to_owned();
    let point = unescape(left.nth(1)?);
    let own = left.next()?;
    let mut right = right.split(' ');
    let fs_type = right.next()?.to_owned();
    let of_fs = right.nth(1).unwrap_or_default();
    Some(Mount {
        device,
        point,
        fs_type,
        options: own
            .split(',')
            .chain(of_fs.split(','))
            .map(str::to_owned)
            .collect(),
    })
}

/// A blank in a path is written `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}
