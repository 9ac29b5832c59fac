//! Check: what each knob is on this machine, beside what is wanted.
//!
//! Owns the verdicts, and the rule which knobs a container or a guest is asked for.
//! Never writes. A check is pure: the same tree gives the same findings.
//!
//! Invariants:
//! - every selected knob gives at least one finding, so nothing is passed over in silence;
//! - only a finding with verdict `fix` carries a change.

use crate::cpus::CpuSet;
use crate::knob::{
    Change, Guest, Knob, Lasting, Owner, Place, Reading, Severity, Spot, State, Target, Want,
};
use crate::knobs;
use crate::machine::Machine;
use crate::tree::Tree;
use serde::Serialize;
use std::io;

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As wanted.
    Ok,
    /// Off; `apply` mends it.
    Fix,
    /// Off; a person must act.
    Manual,
    /// Off; only a new start of the machine (with `persist`'s kernel arguments) changes it.
    Reboot,
    /// The kernel decides this itself and refuses other values.
    Managed,
    /// Told for information.
    Told,
    /// Cannot be told.
    Unknown,
    /// This place has no such thing.
    NotApplicable,
}

impl Verdict {
    /// The word in listings, the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fix => "fix",
            Self::Manual => "manual",
            Self::Reboot => "reboot",
            Self::Managed => "managed",
            Self::Told => "told",
            Self::Unknown => "unknown",
            Self::NotApplicable => "not-applicable",
        }
    }
}

/// One place of one knob. The fields of the JSON list, in its order.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The knob's id.
    pub knob: &'static str,
    /// The evidence.
    pub path: String,
    /// What is there.
    pub current: String,
    /// What is wanted.
    pub wanted: String,
    /// What that means.
    pub verdict: Verdict,
    /// How much it matters.
    pub severity: Severity,
    /// Why.
    pub why: String,
    /// What `apply` would do.
    pub action: String,
    /// The write behind `action`.
    #[serde(skip)]
    pub change: Option<Change>,
}

impl Finding {
    /// Whether it is a reason for exit code 1.
    pub fn matters(&self) -> bool {
        let off = matches!(
            self.verdict,
            Verdict::Fix | Verdict::Manual | Verdict::Reboot
        );
        off && self.severity >= Severity::Warning
    }
}

/// Which knobs to look at; both lists hold ids, an empty `only` means all.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// These and no others.
    pub only: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
}

impl Choice {
    /// Whether a knob is chosen.
    pub fn takes(&self, id: &str) -> bool {
        let named = self.only.is_empty() || self.only.iter().any(|own| own == id);
        named && !self.skip.iter().any(|own| own == id)
    }

    /// The first name that is no knob.
    pub fn unknown(&self) -> Option<&str> {
        self.only
            .iter()
            .chain(&self.skip)
            .map(String::as_str)
            .find(|id| knobs::find(id).is_none())
    }
}

/// Looks at every chosen knob.
pub fn check(tree: &dyn Tree, machine: &Machine, choice: &Choice) -> Vec<Finding> {
    knobs::all()
        .filter(|knob| choice.takes(knob.id))
        .flat_map(|knob| check_knob(tree, machine, knob))
        .collect()
}

/// Looks at one knob.
pub fn check_knob(tree: &dyn Tree, machine: &Machine, knob: &Knob) -> Vec<Finding> {
    if let Some(reason) = not_asked_here(tree, machine, knob) {
        return vec![absent(knob, reason)];
    }
    let readings: Vec<Reading> = match knob.place {
        Place::Probe(_, probe) => probe(tree, machine),
        _ => knob
            .spots(tree, machine)
            .iter()
            .filter_map(|spot| read_spot(tree, machine, knob, spot))
            .collect(),
    };
    if readings.is_empty() {
        return vec![absent(
            knob,
            "this kernel, device or setup has no such setting",
        )];
    }
    readings
        .into_iter()
        .map(|reading| finding(knob, reading))
        .collect()
}

fn not_asked_here(tree: &dyn Tree, machine: &Machine, knob: &Knob) -> Option<&'static str> {
    if machine.environment.is_container() {
        match knob.owner {
            Owner::Host => {
                return Some("in a container this is its host's: run `gramme-tune` there");
            }
            Owner::NetNamespace
                if !writable_sysctls(tree) && matches!(knob.lasting, Lasting::Sysctl) =>
            {
                return Some(
                    "read-only in this container: start it with --sysctl, or tune its host",
                );
            }
            Owner::NetNamespace | Owner::Process => {}
        }
    }
    (machine.environment.is_guest() && knob.guest == Guest::Absent)
        .then_some("on a guest the hypervisor's host decides this")
}

/// Whether `/proc/sys` is not mounted read-only, as container runtimes do.
fn writable_sysctls(tree: &dyn Tree) -> bool {
    let mounts = crate::mounts::parse(&tree.read("/proc/self/mountinfo").unwrap_or_default());
    crate::mounts::holder(&mounts, "/proc/sys/net").is_none_or(|mount| !mount.has("ro"))
}

fn absent(knob: &Knob, reason: &str) -> Finding {
    Finding {
        knob: knob.id,
        path: knob.path_pattern(),
        current: "absent".to_owned(),
        wanted: knob.wanted_text(),
        verdict: Verdict::NotApplicable,
        severity: knob.severity,
        why: reason.to_owned(),
        action: "nothing".to_owned(),
        change: None,
    }
}

fn read_spot(tree: &dyn Tree, machine: &Machine, knob: &Knob, spot: &Spot) -> Option<Reading> {
    let path = spot.path.clone();
    let raw = match tree.read(&path) {
        Ok(raw) => raw,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let (current, wanted) = ("not readable".to_owned(), knob.wanted_text());
            return Some(Reading {
                path,
                current,
                wanted,
                state: State::Unknown,
                note: "run as root".into(),
            });
        }
        // Some drivers have the file but answer EOPNOTSUPP or EINVAL: then there is no such setting.
        Err(_) => return None,
    };
    let (current, wanted, state) = judge(raw.trim(), knob, machine, spot)?;
    Some(Reading {
        path,
        current,
        wanted,
        state,
        note: String::new(),
    })
}

/// Current and wanted as shown, and what that means; `None` when nothing is wanted of this spot.
fn judge(
    raw: &str,
    knob: &Knob,
    machine: &Machine,
    spot: &Spot,
) -> Option<(String, String, State)> {
    let current = chosen_word(raw).to_owned();
    let kernel = |value: &str| State::Off(Change::Kernel(value.to_owned()));
    let at_least = |least: u64| match current.parse::<u64>() {
        Ok(number) if number >= least => (current.clone(), least.to_string(), State::Good),
        Ok(_) => (
            current.clone(),
            least.to_string(),
            kernel(&least.to_string()),
        ),
        Err(_) => (current.clone(), least.to_string(), State::Unknown),
    };
    let answer = match knob.want {
        Want::Exactly(word) => {
            let state = if current == word {
                State::Good
            } else {
                kernel(word)
            };
            (current, word.to_owned(), state)
        }
        Want::Choice(word) | Want::OneOf(&[word, ..]) => {
            let good = match knob.want {
                Want::OneOf(words) => words.contains(&current.as_str()),
                _ => current == word,
            };
            let state = match (good, offers(raw, word)) {
                (true, _) => State::Good,
                (false, true) => kernel(word),
                (false, false) => State::Managed,
            };
            (current, word.to_owned(), state)
        }
        Want::AtLeast(least) => at_least(least),
        Want::AtMost(most) => {
            let state = match current.parse::<u64>() {
                Ok(number) if number <= most => State::Good,
                Ok(_) => kernel(&most.to_string()),
                Err(_) => State::Unknown,
            };
            (current, format!("≤ {most}"), state)
        }
        Want::LastAtLeast(least) => {
            let words: Vec<&str> = raw.split_whitespace().collect();
            let (last, head) = words.split_last()?;
            let state = match last.parse::<u64>() {
                Ok(number) if number >= least => State::Good,
                Ok(_) => kernel(&[head, &[least.to_string().as_str()]].concat().join("\t")),
                Err(_) => State::Unknown,
            };
            (words.join(" "), format!("last ≥ {least}"), state)
        }
        Want::Computed(_, work_out) => match work_out(machine, spot)? {
            Target::Text(text) => {
                let state = if current == text {
                    State::Good
                } else {
                    kernel(&text)
                };
                (current, text, state)
            }
            Target::AtLeast(least) => at_least(least),
            Target::Mask(set) => cpu_state(current, CpuSet::from_mask, &set, set.to_mask()),
            Target::List(set) => cpu_state(current, CpuSet::from_list, &set, set.to_string()),
        },
        Want::OneOf([]) | Want::Probed(_) => return None,
        Want::Leave(text) => (
            raw.split_whitespace().collect::<Vec<_>>().join(" "),
            text.to_owned(),
            State::Told,
        ),
    };
    Some(answer)
}

fn cpu_state(
    current: String,
    parse: impl Fn(&str) -> Option<CpuSet>,
    wanted: &CpuSet,
    spelled: String,
) -> (String, String, State) {
    let state = match parse(&current) {
        Some(now) if now == *wanted => State::Good,
        Some(_) => State::Off(Change::Kernel(spelled.clone())),
        None => State::Unknown,
    };
    (current, spelled, state)
}

/// The word in brackets; the whole text when there are none.
fn chosen_word(raw: &str) -> &str {
    let inside = raw
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(raw, |(word, _)| word)
}

/// Whether a file of choices offers the word; a file without brackets does not list its choices.
fn offers(raw: &str, word: &str) -> bool {
    !raw.contains('[')
        || raw
            .split_whitespace()
            .any(|own| own.trim_matches(['[', ']']) == word)
}

fn finding(knob: &Knob, reading: Reading) -> Finding {
    let (verdict, change, action) = match reading.state {
        State::Good => (Verdict::Ok, None, "nothing".to_owned()),
        State::Off(Change::Kernel(value)) => {
            let action = format!("write {value:?} into {}", reading.path);
            (Verdict::Fix, Some(Change::Kernel(value)), action)
        }
        State::Off(Change::Config(text)) => {
            let action = format!("set {} in {}", reading.wanted, reading.path);
            (Verdict::Fix, Some(Change::Config(text)), action)
        }
        State::OffByHand => (
            Verdict::Manual,
            None,
            "nothing: a person must act".to_owned(),
        ),
        State::OffUntilReboot => (
            Verdict::Reboot,
            None,
            "nothing: it takes a restart of the machine".to_owned(),
        ),
        State::Managed => (
            Verdict::Managed,
            None,
            "nothing: the kernel or the device decides it".to_owned(),
        ),
        State::Told => (Verdict::Told, None, "nothing".to_owned()),
        State::Unknown => (Verdict::Unknown, None, "nothing".to_owned()),
    };
    let why = if reading.note.is_empty() {
        knob.why.to_owned()
    } else {
        format!("{} ({})", knob.why, reading.note)
    };
    Finding {
        knob: knob.id,
        path: reading.path,
        current: reading.current,
        wanted: reading.wanted,
        verdict,
        severity: knob.severity,
        why,
        action,
        change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bracket_marks_the_choice() {
        assert_eq!(chosen_word("none [mq-deadline] kyber"), "mq-deadline");
        assert_eq!(chosen_word("none"), "none");
        assert!(offers("none [mq-deadline]", "none"));
        assert!(!offers("[mq-deadline] kyber", "none"));
    }

    #[test]
    fn a_misspelt_name_is_found_before_anything_runs() {
        let choice = Choice {
            only: vec!["swappiness".into()],
            skip: vec!["swapiness".into()],
        };
        assert_eq!(choice.unknown(), Some("swapiness"));
    }
}
