//! Which device was measured.
//!
//! Owns the identity by which a later run knows the device again.
//! Never trusts the name: `nvme0n1` may be another disk after a restart, so model and serial come first.

use crate::mounts;
use crate::tree::{RootedTree, Tree};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One device, as far as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name under `/sys/block`, or what is mounted.
    pub name: String,
    /// Model, where it has one.
    pub model: String,
    /// Serial number or world-wide name, where it has one.
    pub serial: String,
    /// Size of the whole device.
    pub size_bytes: u64,
    /// What the device says of its block; 0 when it says nothing.
    pub physical_block_bytes: u32,
    /// File system of the directory.
    pub fs_type: String,
}

impl Device {
    /// The device under a directory of this machine; empty fields where nothing can be told.
    pub fn of_directory(dir: &Path) -> Self {
        let Ok(tree) = RootedTree::open(Path::new("/")) else {
            return Self::default();
        };
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let all = mounts::parse(&tree.read("/proc/self/mountinfo").unwrap_or_default());
        let Some(mount) = mounts::holder(&all, &dir.to_string_lossy()) else {
            return Self::default();
        };
        // A link by number leads to the device or to its partition; `..` of a partition is the device.
        let number = format!("/sys/dev/block/{}", mount.device);
        let own = tree.link_name(&number).unwrap_or_default();
        let whole = tree
            .list("/sys/block")
            .into_iter()
            .find(|block| *block == own || tree.exists(&format!("/sys/block/{block}/{own}")));
        let Some(name) = whole.filter(|_| !own.is_empty()) else {
            return Self {
                name: mount.source.clone(),
                fs_type: mount.fs_type.clone(),
                ..Self::default()
            };
        };
        let read = |rest: &str| {
            tree.get(&format!("/sys/block/{name}/{rest}"))
                .filter(|text| !text.is_empty())
        };
        let sectors: u64 = read("size").and_then(|text| text.parse().ok()).unwrap_or(0);
        Self {
            model: read("device/model").unwrap_or_default(),
            serial: read("device/serial")
                .or_else(|| read("serial"))
                .or_else(|| read("wwid"))
                .unwrap_or_default(),
            size_bytes: sectors.saturating_mul(512),
            physical_block_bytes: read("queue/physical_block_size")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            fs_type: mount.fs_type.clone(),
            name,
        }
    }

    /// In what this device differs from an earlier one; the name alone does not count where a serial number agrees.
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, old: &str, new: &str| {
            if old != new {
                found.push(format!("{what} was {old:?} and is {new:?}"));
            }
        };
        compare("the model", &earlier.model, &self.model);
        compare("the serial number", &earlier.serial, &self.serial);
        compare(
            "the size",
            &earlier.size_bytes.to_string(),
            &self.size_bytes.to_string(),
        );
        compare("the file system", &earlier.fs_type, &self.fs_type);
        if self.serial.is_empty() {
            compare("the name", &earlier.name, &self.name);
        }
        found
    }
}
