//! From what was typed to the machine that is meant.
//!
//! Owns the checks of names and lists, the place of the journal, and the question to the person.
//! Never writes.

use crate::Failure;
use crate::args::Target;
use gramme_tune::check::Choice;
use gramme_tune::cpus::CpuSet;
use gramme_tune::knobs;
use gramme_tune::machine::{Machine, Selection};
use gramme_tune::tree::{RootedTree, Tree as _};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// A machine to work on.
pub(crate) struct Host {
    pub(crate) tree: RootedTree,
    pub(crate) machine: Machine,
    pub(crate) choice: Choice,
}

impl Host {
    pub(crate) fn open(target: &Target) -> Result<Self, Failure> {
        let tree = open_tree(&target.root)?;
        let choice = Choice {
            only: target.only.clone(),
            skip: target.skip.clone(),
        };
        if let Some(name) = choice.unknown() {
            return Err(unknown_knob(name));
        }
        let cpus = target.cpus.as_deref().map(parse_cpus).transpose()?;
        let data_dir = target
            .data
            .as_deref()
            .map(|dir| data_dir(&tree, dir))
            .transpose()?;
        let machine = Machine::discover(
            &tree,
            &Selection {
                cpus,
                data_dir,
                nics: target.nic.clone(),
            },
        );
        if let Some(nic) = target
            .nic
            .iter()
            .find(|nic| !machine.nics.iter().any(|own| own.name == **nic))
        {
            return Err(Failure::Usage(format!(
                "--nic {nic}: no such network card under /sys/class/net"
            )));
        }
        if !machine.online_cpus.contains_all(&machine.shard_cpus) || machine.shard_cpus.is_empty() {
            let online = &machine.online_cpus;
            return Err(Failure::Usage(format!(
                "--cpus {}: this machine has the CPUs {online}",
                machine.shard_cpus
            )));
        }
        Ok(Self {
            tree,
            machine,
            choice,
        })
    }
}

pub(crate) fn open_tree(root: &Path) -> Result<RootedTree, Failure> {
    RootedTree::open(root).map_err(|error| {
        Failure::Usage(format!(
            "--root {}: {error}; name a directory that holds proc, sys and etc",
            root.display()
        ))
    })
}

pub(crate) fn parse_cpus(text: &str) -> Result<CpuSet, Failure> {
    CpuSet::from_list(text)
        .ok_or_else(|| Failure::Usage(format!("--cpus {text}: not a list of CPUs such as 0-3,8")))
}

pub(crate) fn unknown_knob(name: &str) -> Failure {
    let hint = knobs::nearest(name)
        .map(|near| format!("; did you mean {near}?"))
        .unwrap_or_default();
    Failure::Usage(format!(
        "there is no knob {name:?}{hint} (`gramme-tune knobs` lists them)"
    ))
}

/// The directory as the machine's mounts spell it; it need not exist yet.
fn data_dir(tree: &RootedTree, dir: &Path) -> Result<String, Failure> {
    let absolute = if tree.is_live() {
        let nearest = dir.ancestors().find_map(|part| part.canonicalize().ok());
        nearest
            .or_else(|| std::env::current_dir().ok())
            .unwrap_or_else(|| dir.to_owned())
    } else {
        dir.to_owned()
    };
    if !absolute.is_absolute() {
        return Err(Failure::Usage(format!(
            "--data {}: with --root, name the whole path",
            dir.display()
        )));
    }
    Ok(absolute.to_string_lossy().into_owned())
}

pub(crate) fn journal_path(root: &Path, given: Option<&PathBuf>) -> PathBuf {
    given
        .cloned()
        .unwrap_or_else(|| root.join("var/lib/gramme-tune/journal"))
}

/// The id of the machine's present start.
pub(crate) fn boot_id(tree: &RootedTree) -> String {
    tree.get("/proc/sys/kernel/random/boot_id")
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Asks; without a terminal there is nobody to ask, and the answer is no.
pub(crate) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        eprintln!("nothing was changed: there is nobody to ask; give --yes to act");
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush().map_err(Failure::of)?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(Failure::of)?;
    let yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !yes {
        eprintln!("nothing was changed");
    }
    Ok(yes)
}
