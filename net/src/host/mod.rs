//! The host as a node finds it at its start: the few settings that break its promise, and the disk under its data.
//!
//! Owns which settings those are, and the node's own limits, which it raises as far as it may.
//! Never changes a setting of the host and never keeps a node from starting: `gramme tune` mends them, and each warning
//! names its call. Silent about what is well, and about what cannot be read.
//!
//! Everything is read below a root directory, so that tests have machines of their own. The tuner, whose knobs are named
//! here, shares no code with the node; a test of the tree checks that each knob exists.

mod checks;
mod disk;
#[cfg(test)]
mod host_tests;

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use disk::Disk;

/// A machine, by where its files lie.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

/// How a warning is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mend {
    /// The tuner can set it.
    Apply,
    /// The tuner can only say how.
    Explain,
    /// Measuring says how much it matters.
    Calibrate,
}

/// One setting that can break a promise.
struct Check {
    /// The tuner's name for it.
    knob: &'static str,
    mend: Mend,
    /// What is wrong, if something is; in one clause.
    find: fn(&Host, &Path) -> Option<String>,
}

impl Host {
    /// The machine that this process runs on.
    pub fn here() -> Self {
        Self::at("/")
    }

    /// The machine whose `/proc` and `/sys` lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// One line for each setting that will break the promise of a node with this data directory (an absolute path).
    pub fn warnings(&self, data: &Path) -> Vec<String> {
        let place = if self.is_container() {
            "on the container's host: "
        } else {
            ""
        };
        checks::CHECKS
            .iter()
            .filter_map(|check| {
                let what = (check.find)(self, data)?;
                let call = match check.mend {
                    Mend::Apply => format!("{place}`gramme tune apply --only {}`", check.knob),
                    Mend::Explain => format!("{place}`gramme tune explain {}`", check.knob),
                    Mend::Calibrate => format!("`gramme tune calibrate {}`", data.display()),
                };
                Some(format!("{what}; see {call}"))
            })
            .collect()
    }

    /// A file's text without the ends' blanks; none where there is no such file.
    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.at_path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn at_path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Marks of a container count only where `/dev` is not the kernel's own: an image that became the disk of a virtual
    /// machine keeps its marks.
    fn is_container(&self) -> bool {
        let has_mark = self
            .read("/run/systemd/container")
            .is_some_and(|name| !name.is_empty())
            || ["/.dockerenv", "/run/.containerenv"]
                .iter()
                .any(|mark| self.at_path(mark).exists());
        has_mark
            && !self
                .mounts()
                .iter()
                .any(|mount| mount.point == "/dev" && mount.fs_type == "devtmpfs")
    }
}

/// Raises this process's limits of descriptors and locked memory as far as the system allows: distributions start
/// programs with 1024 descriptors and let them ask for more.
pub fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = getrlimit(resource);
        if limit.current != limit.maximum {
            let raised = Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            };
            if let Err(error) = setrlimit(resource, raised) {
                tracing::debug!("the limit of {resource:?} stays as it is: {error}");
            }
        }
    }
}
