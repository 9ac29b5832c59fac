//! The journal: every value that `apply` replaced, on stable media before it was replaced.
//!
//! ```text
//! {"begin":{"format":1,"boot_id":"…","time_s":1764000000}}
//! {"intent":{"seq":1,"knob":"swappiness","path":"/proc/sys/vm/swappiness","kind":"kernel","old":"60","new":"1","boot_id":"…"}}
//! {"done":1}
//! {"undone":1}
//! ```
//!
//! Owns the file, its lock and its format.
//! Never decides what to undo: `revert` does.
//!
//! Invariants:
//! - an intent is synced before its write begins; a last line without a newline was never acted upon and is dropped;
//! - a damaged line before the last one is an error, never skipped: it may hide a value that must be taken back;
//! - two programs never hold one journal (advisory lock).

use crate::knob::Change;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;

/// What kind of file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file of the kernel: forgotten at the next start of the machine.
    Kernel,
    /// A configuration file: stays.
    Config,
}

/// One replaced value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its number in this journal.
    pub seq: u64,
    /// The knob.
    pub knob: String,
    /// The file.
    pub path: String,
    /// What kind of file.
    pub kind: Kind,
    /// What was there: for a file of choices the chosen word.
    pub old: String,
    /// What was to be there.
    pub new: String,
    /// The start of the machine in which it was written.
    pub boot_id: String,
}

impl Intent {
    /// The write, as a change.
    pub fn change_back(&self) -> Change {
        match self.kind {
            Kind::Kernel => Change::Kernel(self.old.clone()),
            Kind::Config => Change::Config(self.old.clone()),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Begin {
        format: u32,
        boot_id: String,
        time_s: u64,
    },
    Intent(Intent),
    Done(u64),
    Undone(u64),
}

/// Why a journal could not be used. The state of the machine is unchanged in each case.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// The file cannot be made, read, locked or synced. Operator: see the cause; `--journal` names another place.
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another `gramme-tune` is at work. Operator: wait for it.
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// A line that is not the last cannot be read. Operator: look at it; the values in it must be put back by hand.
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        cause: String,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, cause } => {
                write!(
                    f,
                    "the journal {} cannot be used: {cause}; nothing was changed; ",
                    path.display()
                )?;
                match cause.kind() {
                    io::ErrorKind::PermissionDenied => {
                        write!(f, "run as root, or name another place with --journal")
                    }
                    _ => write!(f, "name another place with --journal"),
                }
            }
            Self::Busy { path } => {
                write!(
                    f,
                    "another gramme-tune holds the journal {}: wait until it has finished",
                    path.display()
                )
            }
            Self::Damaged { path, line, cause } => write!(
                f,
                "line {line} of the journal {} is damaged ({cause}); nothing was changed; put back by hand what the \
                 journal lists, then remove the file",
                path.display()
            ),
        }
    }
}

impl std::error::Error for JournalError {}

/// An open, locked journal.
#[derive(Debug)]
pub struct Journal {
    file: Locked,
    path: PathBuf,
    made_dir: bool,
    boot_id: String,
    seq_next: u64,
    standing: Vec<Intent>,
}

impl Journal {
    /// Whether there is one to take back.
    pub fn is_present(path: &Path) -> bool {
        path.exists()
    }

    /// Opens or makes the journal. What an earlier start of the machine wrote into kernel files is gone by itself and
    /// is forgotten here.
    pub fn open(path: &Path, boot_id: &str, time_s: u64) -> Result<Self, JournalError> {
        let io = |cause| JournalError::Io {
            path: path.to_owned(),
            cause,
        };
        let dir = path.parent().unwrap_or(Path::new("/"));
        let (mut file, made_dir) = open_locked(path, dir)?;
        let text = fs::read_to_string(path).map_err(io)?;
        let whole_bytes = text.rfind('\n').map_or(0, |at| at + 1);
        let lines = parse(path, text.get(..whole_bytes).unwrap_or_default())?;
        if whole_bytes < text.len() {
            file.0
                .set_len(u64::try_from(whole_bytes).unwrap_or(0))
                .map_err(io)?;
        }
        let mut standing: Vec<Intent> = Vec::new();
        let mut seq_next = 1;
        for line in lines {
            match line {
                Line::Begin { .. } | Line::Done(_) => {}
                Line::Intent(intent) => {
                    seq_next = seq_next.max(intent.seq.saturating_add(1));
                    standing.push(intent);
                }
                Line::Undone(seq) => standing.retain(|intent| intent.seq != seq),
            }
        }
        standing.retain(|intent| intent.kind == Kind::Config || intent.boot_id == boot_id);
        let begin = Line::Begin {
            format: FORMAT,
            boot_id: boot_id.to_owned(),
            time_s,
        };
        append(&mut file.0, &begin).map_err(io)?;
        // The name must be as durable as the content.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            made_dir,
            boot_id: boot_id.to_owned(),
            seq_next,
            standing,
        })
    }

    /// What was written and not yet taken back, oldest first.
    pub fn standing(&self) -> &[Intent] {
        &self.standing
    }

    /// Records, durably, that a value is about to be replaced.
    pub fn intend(
        &mut self,
        knob: &str,
        path: &str,
        values: Replaced,
    ) -> Result<u64, JournalError> {
        let intent = Intent {
            seq: self.seq_next,
            knob: knob.to_owned(),
            path: path.to_owned(),
            kind: values.kind,
            old: values.old,
            new: values.new,
            boot_id: self.boot_id.clone(),
        };
        self.record(&Line::Intent(intent.clone()))?;
        self.seq_next = self.seq_next.saturating_add(1);
        self.standing.push(intent);
        Ok(self.seq_next - 1)
    }

    /// Records that the value was replaced.
    pub fn done(&mut self, seq: u64) -> Result<(), JournalError> {
        self.record(&Line::Done(seq))
    }

    /// Records that the old value is back.
    pub fn undone(&mut self, seq: u64) -> Result<(), JournalError> {
        self.record(&Line::Undone(seq))?;
        self.standing.retain(|intent| intent.seq != seq);
        Ok(())
    }

    /// Removes the file, when nothing in it stands, and the directory if this program made it.
    pub fn close(self) -> Result<(), JournalError> {
        if !self.standing.is_empty() {
            return Ok(());
        }
        let io = |cause| JournalError::Io {
            path: self.path.clone(),
            cause,
        };
        fs::remove_file(&self.path).map_err(io)?;
        let Some(dir) = self.path.parent() else {
            return Ok(());
        };
        let ours = self.made_dir || dir.ends_with("gramme-tune");
        if ours && fs::read_dir(dir).is_ok_and(|mut rest| rest.next().is_none()) {
            // It is not empty when another one has just begun.
            match fs::remove_dir(dir) {
                Err(cause) if cause.kind() != io::ErrorKind::DirectoryNotEmpty => {
                    return Err(io(cause));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn record(&mut self, line: &Line) -> Result<(), JournalError> {
        append(&mut self.file.0, line).map_err(|cause| JournalError::Io {
            path: self.path.clone(),
            cause,
        })
    }
}

/// How often a journal that was closed between its opening and its locking is made anew.
const OPEN_ATTEMPTS_MAX: u32 = 100;

/// The file, locked, and whether its directory was made for it.
///
/// A journal that another program closes is removed while it is locked, so whoever opened it just before gets the lock
/// of a file without a name, and its lines would be lost in a crash: the name must still lead to what was locked.
fn open_locked(path: &Path, dir: &Path) -> Result<(Locked, bool), JournalError> {
    let io = |cause| JournalError::Io {
        path: path.to_owned(),
        cause,
    };
    let mut made_dir = false;
    for _ in 0..OPEN_ATTEMPTS_MAX {
        made_dir |= !dir.exists();
        fs::create_dir_all(dir).map_err(io)?;
        let opened = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path);
        let file = match opened {
            Ok(file) => file,
            // The directory went in the meantime, with the last journal in it.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(io(cause)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Busy {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(cause)) => return Err(io(cause)),
        }
        let file = Locked(file);
        let own = file.0.metadata().map_err(io)?;
        if fs::metadata(path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()))
        {
            return Ok((file, made_dir));
        }
    }
    Err(JournalError::Busy {
        path: path.to_owned(),
    })
}

/// A locked file. A child of this process that was forked in the meantime shares the lock until it executes its
/// program; letting go by closing alone would leave the journal busy for as long.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The two values of an intent.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// What kind of file.
    pub kind: Kind,
    /// What is there.
    pub old: String,
    /// What is to be there.
    pub new: String,
}

fn append(file: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

fn parse(path: &Path, text: &str) -> Result<Vec<Line>, JournalError> {
    let damaged = |index: usize, cause: String| JournalError::Damaged {
        path: path.to_owned(),
        line: index + 1,
        cause,
    };
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line: Line =
            serde_json::from_str(line).map_err(|error| damaged(index, error.to_string()))?;
        if let Line::Begin { format, .. } = &line
            && *format != FORMAT
        {
            return Err(damaged(
                index,
                format!("format {format}, this program knows {FORMAT}"),
            ));
        }
        lines.push(line);
    }
    Ok(lines)
}
