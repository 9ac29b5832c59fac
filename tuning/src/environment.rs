//! What kind of place this is: bare metal, a virtual machine, a cloud's instance, a container.
//!
//! Owns the evidence and the conclusion.
//! Never guesses from one weak mark: `/.dockerenv` survives when an image becomes the disk of a VM, so a mark of a
//! container counts only where the mounts look like a container's (no `devtmpfs` on `/dev`).

use crate::tree::Tree;
use serde::Serialize;

/// The place, as far as it decides which settings can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// The hypervisor's name when this is a virtual machine.
    pub hypervisor: Option<String>,
    /// The cloud's name when the firmware says it.
    pub cloud: Option<String>,
    /// The container runtime's name when this is a container.
    pub container: Option<String>,
    /// A mark of a container that the mounts contradict.
    pub container_mark_ignored: bool,
}

impl Environment {
    /// Reads the evidence.
    pub fn detect(tree: &dyn Tree) -> Self {
        let (container, container_mark_ignored) = container(tree);
        let vendor = dmi(tree, "sys_vendor");
        let product = dmi(tree, "product_name");
        let cloud = cloud(
            &vendor,
            &product,
            &dmi(tree, "bios_vendor"),
            &dmi(tree, "chassis_asset_tag"),
        );
        Self {
            hypervisor: hypervisor(tree, &vendor, &product),
            cloud,
            container,
            container_mark_ignored,
        }
    }

    /// Whether the hardware belongs to somebody else: no governor, C-states or boost to set.
    pub fn is_guest(&self) -> bool {
        self.hypervisor.is_some()
    }

    /// Whether the kernel belongs to somebody else.
    pub fn is_container(&self) -> bool {
        self.container.is_some()
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        let mut text = match &self.hypervisor {
            Some(name) => format!("virtual machine ({name})"),
            None => "bare metal".to_owned(),
        };
        if let Some(cloud) = &self.cloud {
            text.push_str(&format!(", {cloud}"));
        }
        if let Some(runtime) = &self.container {
            text = format!("container ({runtime}) on {text}");
        }
        if self.container_mark_ignored {
            text.push_str(", made from a container's image");
        }
        text
    }
}

fn dmi(tree: &dyn Tree, name: &str) -> String {
    tree.get(&format!("/sys/class/dmi/id/{name}"))
        .unwrap_or_default()
}

fn container(tree: &dyn Tree) -> (Option<String>, bool) {
    let mark = container_mark(tree);
    let mounts = tree.read("/proc/self/mountinfo").unwrap_or_default();
    let dev_is_the_kernels = mounts.lines().any(|line| {
        let mut halves = line.splitn(2, " - ");
        let mount_point = halves.next().and_then(|left| left.split(' ').nth(4));
        let fs_type = halves.next().and_then(|right| right.split(' ').next());
        mount_point == Some("/dev") && fs_type == Some("devtmpfs")
    });
    match mark {
        Some(_) if dev_is_the_kernels => (None, true),
        mark => (mark, false),
    }
}

fn container_mark(tree: &dyn Tree) -> Option<String> {
    if let Some(name) = tree
        .get("/run/systemd/container")
        .filter(|name| !name.is_empty())
    {
        return Some(name);
    }
    if tree.exists("/run/.containerenv") {
        return Some("podman".to_owned());
    }
    let groups = tree.get("/proc/1/cgroup").unwrap_or_default();
    if groups.contains("kubepods") || tree.exists("/var/run/secrets/kubernetes.io") {
        return Some("kubernetes".to_owned());
    }
    if tree.exists("/.dockerenv") || groups.contains("/docker") {
        return Some("docker".to_owned());
    }
    if groups.contains("/lxc") {
        return Some("lxc".to_owned());
    }
    None
}

fn hypervisor(tree: &dyn Tree, vendor: &str, product: &str) -> Option<String> {
    if let Some(kind) = tree
        .get("/sys/hypervisor/type")
        .filter(|kind| !kind.is_empty())
    {
        // The first domain of Xen drives the hardware itself.
        let first_domain = tree
            .get("/proc/xen/capabilities")
            .is_some_and(|text| text.contains("control_d"));
        return (!first_domain).then_some(kind);
    }
    // "Amazon EC2" is also what a `.metal` instance says: there the CPU flag is missing, so the flag decides.
    let cpuinfo = tree.read("/proc/cpuinfo").unwrap_or_default();
    let flag = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|word| word == "hypervisor"));
    let firmware = [
        ("QEMU", "kvm"),
        ("VMware", "vmware"),
        ("innotek", "virtualbox"),
        ("Xen", "xen"),
        ("Google Compute Engine", "kvm"),
        ("OpenStack", "kvm"),
        ("KVM", "kvm"),
    ];
    let named = firmware
        .iter()
        .find(|(mark, _)| vendor.contains(mark) || product.contains(mark))
        .map(|(_, name)| (*name).to_owned())
        .or_else(|| {
            (vendor.starts_with("Microsoft") && product == "Virtual Machine")
                .then(|| "hyper-v".to_owned())
        });
    if named.is_some() {
        return named;
    }
    if !flag {
        return None;
    }
    let clocks = tree
        .get("/sys/devices/system/clocksource/clocksource0/available_clocksource")
        .unwrap_or_default();
    let name = if clocks.contains("kvm-clock") || vendor == "Amazon EC2" {
        "kvm"
    } else if clocks.contains("hyperv") {
        "hyper-v"
    } else {
        "unnamed hypervisor"
    };
    Some(name.to_owned())
}

fn cloud(vendor: &str, product: &str, bios: &str, asset_tag: &str) -> Option<String> {
    // The asset tag is Microsoft's published way to tell Azure from a Hyper-V of one's own.
    const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";
    let name = if vendor == "Amazon EC2" || bios == "Amazon EC2" {
        "Amazon EC2"
    } else if product.contains("Google Compute Engine") {
        "Google Cloud"
    } else if asset_tag == AZURE_ASSET_TAG {
        "Microsoft Azure"
    } else if vendor == "DigitalOcean" || vendor == "Hetzner" || vendor == "Scaleway" {
        vendor
    } else if vendor == "Alibaba Cloud" {
        "Alibaba Cloud"
    } else if vendor.contains("OpenStack") || product.contains("OpenStack") {
        "OpenStack"
    } else {
        return None;
    };
    Some(name.to_owned())
}
