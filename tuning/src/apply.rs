//! Apply: makes a plan of the findings that can be mended, and carries it out, all or nothing.
//!
//! Owns the order journal → write → read back, and the way back when a step fails.
//! Never asks a person: the command line does, between `plan` and `apply`.
//!
//! Invariants:
//! - no write without its intent on stable media;
//! - after a failed step every earlier step of this run is taken back (unless the caller keeps them), newest first;
//! - a refusal by a managed interrupt (EIO, EPERM) is told and is no failure;
//! - a value that reads back differently from what was written is a failure, not a success.

use crate::check::{Finding, Verdict};
use crate::journal::{Journal, JournalError, Kind, Replaced};
use crate::knob::Change;
use crate::tree::Tree;
use std::fmt;
use std::io;

/// One write to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The knob.
    pub knob: &'static str,
    /// The file.
    pub path: String,
    /// What is there: for a file of choices the chosen word, for a configuration file all of it.
    pub old: String,
    /// What is to be there.
    pub new: String,
    /// What kind of file.
    pub kind: Kind,
}

/// The writes that would mend the findings.
pub fn plan(tree: &dyn Tree, findings: &[Finding]) -> Vec<Step> {
    let fixes = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fix);
    fixes
        .filter_map(|finding| {
            let raw = tree.read(&finding.path).ok()?;
            let (kind, old, new) = match finding.change.clone()? {
                Change::Kernel(new) => (Kind::Kernel, settled(&raw), new),
                Change::Config(new) => (Kind::Config, raw, new),
            };
            Some(Step {
                knob: finding.knob,
                path: finding.path.clone(),
                old,
                new,
                kind,
            })
        })
        .collect()
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written and read back.
    Applied,
    /// The kernel keeps this interrupt for itself.
    Refused(String),
}

/// Why `apply` stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum ApplyError {
    /// The journal failed; the step was not begun. Earlier steps: see `left`.
    Journal {
        /// What failed.
        cause: JournalError,
        /// Steps of this run that could not be taken back, with the reason.
        left: Vec<String>,
    },
    /// A write failed or did not take. Earlier steps: see `left`.
    Step {
        /// The step.
        step: Box<Step>,
        /// What the system said.
        cause: io::Error,
        /// Steps of this run that could not be taken back, with the reason.
        left: Vec<String>,
        /// Whether the caller wanted the earlier steps kept.
        kept: bool,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = match self {
            Self::Journal { cause, left } => {
                write!(f, "{cause}")?;
                left
            }
            Self::Step {
                step,
                cause,
                left,
                kept,
            } => {
                write!(
                    f,
                    "{}: writing {:?} into {} failed: {cause}",
                    step.knob,
                    shown(step),
                    step.path
                )?;
                if cause.kind() == io::ErrorKind::PermissionDenied {
                    write!(f, " (run as root)")?;
                }
                let rest = if *kept {
                    "the earlier steps stay"
                } else {
                    "the earlier steps were taken back"
                };
                write!(f, "; {rest}; leave this knob out with --skip {}", step.knob)?;
                left
            }
        };
        for line in left {
            write!(
                f,
                "\n  not taken back: {line}; `gramme-tune revert` tries again"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {}

fn shown(step: &Step) -> &str {
    if step.kind == Kind::Config {
        "the new content"
    } else {
        &step.new
    }
}

/// What to do with earlier steps when one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Take them back.
    TakeBack,
    /// Keep them.
    Keep,
}

/// Carries out the steps in order; `report` is told of each.
pub fn apply(
    tree: &mut dyn Tree,
    journal: &mut Journal,
    steps: &[Step],
    on_failure: OnFailure,
    report: &mut dyn FnMut(&Step, &Outcome),
) -> Result<(), ApplyError> {
    let mut begun: Vec<u64> = Vec::new();
    for step in steps {
        let values = Replaced {
            kind: step.kind,
            old: step.old.clone(),
            new: step.new.clone(),
        };
        let seq = match journal.intend(step.knob, &step.path, values) {
            Ok(seq) => seq,
            Err(cause) => {
                let left = leave(tree, journal, &begun, on_failure);
                return Err(ApplyError::Journal { cause, left });
            }
        };
        begun.push(seq);
        let outcome = match write_step(tree, step) {
            Ok(()) => journal.done(seq).map(|()| Outcome::Applied),
            Err(cause) if is_managed_interrupt(&step.path, &cause) => journal
                .undone(seq)
                .map(|()| Outcome::Refused(cause.to_string())),
            Err(cause) => {
                let left = leave(tree, journal, &begun, on_failure);
                let kept = on_failure == OnFailure::Keep;
                return Err(ApplyError::Step {
                    step: Box::new(step.clone()),
                    cause,
                    left,
                    kept,
                });
            }
        };
        match outcome {
            Ok(outcome) => report(step, &outcome),
            Err(cause) => {
                let left = leave(tree, journal, &begun, on_failure);
                return Err(ApplyError::Journal { cause, left });
            }
        }
    }
    Ok(())
}

fn write_step(tree: &mut dyn Tree, step: &Step) -> io::Result<()> {
    match step.kind {
        Kind::Config => tree.replace(&step.path, Some(&step.new)),
        Kind::Kernel => {
            tree.write(&step.path, &step.new)?;
            let now = settled(&tree.read(&step.path)?);
            if same_value(&now, &step.new) {
                return Ok(());
            }
            Err(io::Error::other(format!(
                "the kernel took it but reads back {now:?}"
            )))
        }
    }
}

/// Takes back the steps with these numbers, newest first; returns what would not go.
fn leave(
    tree: &mut dyn Tree,
    journal: &mut Journal,
    begun: &[u64],
    on_failure: OnFailure,
) -> Vec<String> {
    let mut left = Vec::new();
    if on_failure == OnFailure::Keep {
        return left;
    }
    let mut own: Vec<_> = journal
        .standing()
        .iter()
        .filter(|intent| begun.contains(&intent.seq))
        .cloned()
        .collect();
    own.reverse();
    for intent in own {
        match crate::revert::put_back(tree, &intent) {
            Ok(_) => {
                if let Err(error) = journal.undone(intent.seq) {
                    left.push(format!(
                        "{} (the old value is back, but {error})",
                        intent.path
                    ));
                }
            }
            Err(error) => left.push(format!("{}: {error}", intent.path)),
        }
    }
    left
}

fn is_managed_interrupt(path: &str, error: &io::Error) -> bool {
    let refused = matches!(error.raw_os_error(), Some(libc::EIO | libc::EPERM));
    path.starts_with("/proc/irq/") && refused
}

/// The value of a kernel file as it must be written to have it again: the word in brackets, else the trimmed text.
pub fn settled(raw: &str) -> String {
    let inside = raw
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(raw.trim(), |(word, _)| word).to_owned()
}

/// Whether two spellings of a value are one to the kernel (`1\t2` and `1 2`, `0f` and `f`, `00,0f` and `f`).
pub fn same_value(left: &str, right: &str) -> bool {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    if words(left) == words(right) {
        return true;
    }
    let mask = |text: &str| crate::cpus::CpuSet::from_mask(text);
    // Two decimal numbers are two masks too; equal masks of unequal decimals differ in leading zeros only.
    matches!((mask(left), mask(right)), (Some(a), Some(b)) if a == b)
}
