//! Sightings: which process speaks for a node id, and where it is.
//!
//! A later start of a node takes over from the one before it. Two that keep speaking at the same time have one directory
//! between them (a copied disk, a cloned machine): both are refused.

use std::collections::BTreeMap;

use super::word::Sender;
use crate::base::ids::NodeId;

/// How often, and for how long, one process must be heard beside another to be alive and not just late.
const RIVAL_TIMES: u32 = 3;
const RIVAL_NS: u64 = 700_000_000;
/// A process that was not heard for so long is gone.
const GONE_NS: u64 = 3_000_000_000;

/// What to make of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sighted {
    /// The process that speaks for its id.
    Fine,
    /// Perhaps a late message of an earlier process; dropped.
    Late,
    /// Two processes with one id are alive, this one and one at that address.
    Double {
        /// Of the other.
        address: String,
    },
}

#[derive(Clone, Debug)]
struct Process {
    instance: u64,
    start: u64,
    address: String,
    heard_ns: u64,
}

#[derive(Clone, Debug)]
struct Rival {
    instance: u64,
    address: String,
    first_ns: u64,
    heard_ns: u64,
    times: u32,
}

#[derive(Clone, Debug)]
struct Sighting {
    process: Process,
    rival: Option<Rival>,
    /// Both are refused while both are heard.
    is_double: bool,
}

/// Of all nodes that were heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Sightings {
    by_node: BTreeMap<NodeId, Sighting>,
}

impl Sightings {
    /// Where the process that speaks for a node was last.
    pub(super) fn address_of(&self, node: NodeId) -> Option<&str> {
        Some(&self.by_node.get(&node)?.process.address)
    }

    /// The nodes whose id two processes have.
    pub(super) fn doubles(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.by_node
            .iter()
            .filter(|(_, sighting)| sighting.is_double)
            .map(|(node, _)| *node)
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.by_node.remove(&node);
    }

    /// Takes note of who spoke.
    pub(super) fn saw(&mut self, sender: &Sender, now_ns: u64) -> Sighted {
        let process = Process {
            instance: sender.instance,
            start: sender.life.start,
            address: sender.listen.clone(),
            heard_ns: now_ns,
        };
        let Some(known) = self.by_node.get_mut(&sender.life.node) else {
            let sighting = Sighting {
                process,
                rival: None,
                is_double: false,
            };
            self.by_node.insert(sender.life.node, sighting);
            return Sighted::Fine;
        };
        let is_gone = |heard_ns: u64| now_ns.saturating_sub(heard_ns) > GONE_NS;
        if known.process.instance == process.instance {
            known.process = process;
            return match &known.rival {
                Some(rival) if known.is_double && !is_gone(rival.heard_ns) => Sighted::Double {
                    address: rival.address.clone(),
                },
                Some(_) | None => {
                    known.is_double = false;
                    Sighted::Fine
                }
            };
        }
        if process.start > known.process.start || is_gone(known.process.heard_ns) {
            // The one before is a rival from now on, if it goes on speaking.
            let before = core::mem::replace(&mut known.process, process);
            known.rival = Some(Rival {
                instance: before.instance,
                address: before.address,
                first_ns: now_ns,
                heard_ns: before.heard_ns,
                times: 0,
            });
            known.is_double = false;
            return Sighted::Fine;
        }
        if known
            .rival
            .as_ref()
            .is_none_or(|rival| rival.instance != process.instance)
        {
            known.rival = Some(Rival {
                instance: process.instance,
                address: process.address.clone(),
                first_ns: now_ns,
                heard_ns: now_ns,
                times: 0,
            });
        }
        let Some(rival) = &mut known.rival else {
            return Sighted::Late;
        };
        rival.times += 1;
        rival.heard_ns = now_ns;
        // Heard so long since the other began to speak, it is alive. What it said before it ended comes late, and all at once
        // where this node was stopped meanwhile.
        let are_both = known.process.heard_ns.saturating_sub(rival.first_ns) >= RIVAL_NS;
        if rival.times < RIVAL_TIMES || !are_both {
            return Sighted::Late;
        }
        known.is_double = true;
        Sighted::Double {
            address: known.process.address.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::detector::Life;
    use super::*;

    fn from(instance: u64, start: u64) -> Sender {
        Sender {
            cluster: 1,
            life: Life {
                node: NodeId(5),
                start,
                renewal: 0,
            },
            instance,
            wall_ms: 0,
            listen: format!("host:{instance}"),
        }
    }

    #[test]
    fn a_restart_takes_over_and_late_words_of_the_former_process_are_dropped() {
        let mut sightings = Sightings::default();
        assert_eq!(sightings.saw(&from(1, 1), 0), Sighted::Fine);
        assert_eq!(sightings.saw(&from(2, 2), 1_000_000), Sighted::Fine);
        assert_eq!(sightings.saw(&from(1, 1), 2_000_000), Sighted::Late);
        assert_eq!(sightings.saw(&from(2, 2), 3_000_000), Sighted::Fine);
        assert_eq!(sightings.address_of(NodeId(5)), Some("host:2"));
    }

    #[test]
    fn one_that_counts_its_start_anew_is_no_double_of_one_that_is_gone() {
        let mut sightings = Sightings::default();
        sightings.saw(&from(1, 2), 0);
        // A directory that was put back: the same start once more.
        for at in 1..15u64 {
            let sighted = sightings.saw(&from(2, 2), at * 200_000_000);
            assert_eq!(sighted, Sighted::Late);
        }
        assert_eq!(sightings.saw(&from(2, 2), GONE_NS + 1), Sighted::Fine);
    }

    #[test]
    fn what_a_node_that_was_stopped_reads_at_once_of_two_processes_makes_no_double() {
        let mut sightings = Sightings::default();
        sightings.saw(&from(1, 1), 0);
        let woken_ns = 5_000_000_000;
        for _ in 0..4 {
            // Each has a connection of its own, and both are read together.
            sightings.saw(&from(2, 2), woken_ns);
            sightings.saw(&from(3, 2), woken_ns);
        }
        for at in 1..15u64 {
            let sighted = sightings.saw(&from(3, 2), woken_ns + at * 200_000_000);
            assert_eq!(sighted, Sighted::Late);
        }
        let sighted = sightings.saw(&from(3, 2), woken_ns + GONE_NS + 1);
        assert_eq!(sighted, Sighted::Fine);
    }

    #[test]
    fn two_that_go_on_speaking_are_both_refused() {
        let mut sightings = Sightings::default();
        let mut last = (Sighted::Fine, Sighted::Fine);
        for at in 0..12u64 {
            let now_ns = at * 200_000_000;
            last = (
                sightings.saw(&from(1, 1), now_ns),
                sightings.saw(&from(2, 2), now_ns + 1),
            );
        }
        assert!(matches!(last.0, Sighted::Double { .. }), "{last:?}");
        assert!(matches!(last.1, Sighted::Double { .. }), "{last:?}");
    }
}
