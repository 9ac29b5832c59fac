//! Persist: the same settings as files that the system reads at its next start.
//!
//! Owns three files (`sysctl.d`, udev, a oneshot unit), their header, and the text for the kernel's command line.
//! Never edits a boot loader's configuration: a wrong line there is a machine that does not start, so a person adds it.
//!
//! Invariants:
//! - a file without our header is never overwritten or removed;
//! - persisting twice writes nothing the second time.

use crate::check::{Finding, Verdict};
use crate::knob::{Change, Lasting};
use crate::knobs;
use crate::machine::Machine;
use crate::tree::Tree;
use std::fmt;
use std::io;

const HEADER: &str =
    "# Written by `gramme-tune persist`; `gramme-tune persist --remove` takes it away.\n";
const SYSCTL: &str = "/etc/sysctl.d/90-gramme.conf";
const UDEV: &str = "/etc/udev/rules.d/90-gramme.rules";
const UNIT: &str = "/etc/systemd/system/gramme-tune.service";

/// One file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Where.
    pub path: &'static str,
    /// All of it.
    pub content: String,
    /// Whether it is there already, the same.
    pub unchanged: bool,
}

/// Everything that would make the settings last.
#[derive(Clone, Debug, Default)]
pub struct Permanent {
    /// Files.
    pub files: Vec<Lines>,
    /// Kernel arguments to add by hand.
    pub kernel_arguments: Vec<String>,
}

/// Why the files could not be put in place. Files before the failing one are there; calling again goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum PersistError {
    /// Somebody else's file has that name. Nothing was written. Operator: move it away.
    Foreign(&'static str),
    /// Reading, writing or removing failed.
    Io {
        /// The file.
        path: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl fmt::Display for PersistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(path) => {
                write!(
                    f,
                    "{path} was not written by gramme-tune and is left alone: move it away, then call again"
                )
            }
            Self::Io { path, cause } => {
                write!(f, "{path} cannot be written or removed: {cause}")?;
                if cause.kind() == io::ErrorKind::PermissionDenied {
                    write!(f, "; run as root")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for PersistError {}

/// Works out the files. `apply_command` (program, `apply --yes`, the choice of hardware) is
/// what the unit runs at each start.
pub fn plan(
    tree: &dyn Tree,
    machine: &Machine,
    findings: &[Finding],
    apply_command: &str,
) -> Permanent {
    let mut sysctl = Vec::new();
    let mut udev = Vec::new();
    let mut by_unit = Vec::new();
    let mut permanent = Permanent::default();
    for finding in findings {
        let Some(knob) = knobs::find(finding.knob) else {
            continue;
        };
        if let (Verdict::Reboot, Lasting::KernelArgument(text)) = (finding.verdict, knob.lasting) {
            permanent
                .kernel_arguments
                .push(text.replace("{shards}", &machine.shard_cpus.to_string()));
        }
        let Some(value) = lasting_value(tree, finding) else {
            continue;
        };
        match knob.lasting {
            Lasting::Sysctl => sysctl.extend(sysctl_line(&finding.path, &value)),
            Lasting::Udev => udev.extend(udev_line(&finding.path, &value)),
            Lasting::Unit => by_unit.push(knob.id),
            Lasting::KernelArgument(_) | Lasting::Itself | Lasting::Nothing => {}
        }
    }
    by_unit.dedup();
    let mut add = |path, body: String| {
        let content = format!("{HEADER}{body}");
        let unchanged = tree.read(path).is_ok_and(|now| now == content);
        permanent.files.push(Lines {
            path,
            content,
            unchanged,
        });
    };
    if !sysctl.is_empty() {
        add(SYSCTL, sysctl.concat());
    }
    if !udev.is_empty() {
        add(UDEV, udev.concat());
    }
    if !by_unit.is_empty() {
        add(UNIT, unit(apply_command, &by_unit));
    }
    permanent
}

/// Puts the files in place; returns those that were written.
pub fn install(
    tree: &mut dyn Tree,
    permanent: &Permanent,
) -> Result<Vec<&'static str>, PersistError> {
    for file in &permanent.files {
        if is_ours(tree, file.path)? == Some(false) {
            return Err(PersistError::Foreign(file.path));
        }
    }
    let mut written = Vec::new();
    for file in permanent.files.iter().filter(|file| !file.unchanged) {
        let replaced = tree.replace(file.path, Some(&file.content));
        replaced.map_err(|cause| PersistError::Io {
            path: file.path,
            cause,
        })?;
        written.push(file.path);
    }
    Ok(written)
}

/// Removes our files; returns those that were there.
pub fn remove(tree: &mut dyn Tree) -> Result<Vec<&'static str>, PersistError> {
    let mut removed = Vec::new();
    for path in [SYSCTL, UDEV, UNIT] {
        match is_ours(tree, path)? {
            None => {}
            Some(false) => return Err(PersistError::Foreign(path)),
            Some(true) => {
                tree.replace(path, None)
                    .map_err(|cause| PersistError::Io { path, cause })?;
                removed.push(path);
            }
        }
    }
    Ok(removed)
}

/// Our files that are in place.
pub fn present(tree: &dyn Tree) -> Vec<&'static str> {
    [SYSCTL, UDEV, UNIT]
        .into_iter()
        .filter(|path| is_ours(tree, path).is_ok_and(|ours| ours == Some(true)))
        .collect()
}

/// Whether our header is on it; `None` when there is no file.
fn is_ours(tree: &dyn Tree, path: &'static str) -> Result<Option<bool>, PersistError> {
    match tree.read(path) {
        Ok(text) => Ok(Some(text.starts_with(HEADER))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(PersistError::Io { path, cause }),
    }
}

/// The value to keep: the one that `apply` would write, or the one that is right already.
fn lasting_value(tree: &dyn Tree, finding: &Finding) -> Option<String> {
    match (finding.verdict, &finding.change) {
        (Verdict::Fix, Some(Change::Kernel(value))) => Some(value.clone()),
        (Verdict::Ok, _) => tree
            .read(&finding.path)
            .ok()
            .map(|raw| crate::apply::settled(&raw)),
        _ => None,
    }
}

fn sysctl_line(path: &str, value: &str) -> Option<String> {
    let key = path.strip_prefix("/proc/sys/")?.replace('/', ".");
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(format!("{key} = {value}\n"))
}

fn udev_line(path: &str, value: &str) -> Option<String> {
    let (disk, attribute) = path.strip_prefix("/sys/block/")?.split_once('/')?;
    Some(format!(
        "ACTION==\"add|change\", SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"disk\", KERNEL==\"{disk}\", ATTR{{{attribute}}}=\"{value}\"\n"
    ))
}

fn unit(command: &str, knobs: &[&str]) -> String {
    format!(
        "[Unit]\n\
         Description=Host settings for gramme\n\
         # Before the node, so that its buffers and interrupts find the machine as wanted.\n\
         Before=gramme.service\n\
         After=systemd-udev-settle.service network.target\n\
         ConditionVirtualization=!container\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={command} --only {list}\n\
         StateDirectory=gramme-tune\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        list = knobs.join(","),
    )
}
