//! Revert: puts back what the journal says was replaced, newest first, also after a crash in the middle of `apply`.
//!
//! Owns the rule when an old value is put back.
//! Never overwrites what somebody else wrote since: a value that is neither ours nor the old one is left and told.
//!
//! Invariants:
//! - it can be interrupted at any point and called again;
//! - it removes the journal only when nothing in it stands any more.

use crate::apply::{same_value, settled};
use crate::journal::{Intent, Journal, JournalError, Kind};
use crate::tree::Tree;
use std::io;

/// What became of one replaced value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// The old value is back.
    PutBack,
    /// It was there already (the write never happened, or somebody put it back).
    Already,
    /// The device or file is gone, and its setting with it.
    Gone,
    /// Somebody wrote another value since; it was left.
    Foreign(String),
}

/// Puts one old value back, unless somebody else has changed it.
pub fn put_back(tree: &mut dyn Tree, intent: &Intent) -> io::Result<Undone> {
    let raw = match tree.read(&intent.path) {
        Ok(raw) => raw,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Undone::Gone),
        Err(error) => return Err(error),
    };
    let (now, equal): (String, fn(&str, &str) -> bool) = match intent.kind {
        Kind::Kernel => (settled(&raw), same_value),
        Kind::Config => (raw, |left, right| left == right),
    };
    if equal(&now, &intent.old) {
        return Ok(Undone::Already);
    }
    if !equal(&now, &intent.new) {
        return Ok(Undone::Foreign(now));
    }
    match intent.kind {
        Kind::Config => tree.replace(&intent.path, Some(&intent.old))?,
        Kind::Kernel => {
            tree.write(&intent.path, &intent.old)?;
            let now = settled(&tree.read(&intent.path)?);
            if !same_value(&now, &intent.old) {
                return Err(io::Error::other(format!(
                    "the old value was written but {now:?} is read back"
                )));
            }
        }
    }
    Ok(Undone::PutBack)
}

/// Puts everything back that stands in the journal; returns the failures. A foreign value counts as settled: it is
/// somebody's newer wish.
pub fn revert(
    tree: &mut dyn Tree,
    mut journal: Journal,
    report: &mut dyn FnMut(&Intent, &io::Result<Undone>),
) -> Result<usize, JournalError> {
    let mut failed_count = 0;
    let intents: Vec<Intent> = journal.standing().iter().rev().cloned().collect();
    for intent in intents {
        let result = put_back(tree, &intent);
        report(&intent, &result);
        match result {
            Ok(_) => journal.undone(intent.seq)?,
            Err(_) => failed_count += 1,
        }
    }
    journal.close()?;
    Ok(failed_count)
}
