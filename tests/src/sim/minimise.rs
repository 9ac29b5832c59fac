//! Makes a failing seed smaller: classes of faults are left out, then times and numbers halved, as long as the same check
//! fails. The seed stays, so each step is a run of its own; what is left is what matters.

use super::run::{Report, run_in};
use super::swarm::Swarm;

/// One way to make a world smaller; false where it is that small already.
type Shrink = (&'static str, fn(&mut Swarm) -> bool);

fn none(field: &mut u64) -> bool {
    core::mem::take(field) > 0
}

fn off(field: &mut bool) -> bool {
    core::mem::take(field)
}

fn halve(field: &mut u64, least: u64) -> bool {
    let half = (*field / 2).max(least);
    core::mem::replace(field, half) != half
}

fn one_less(field: &mut usize, least: usize) -> bool {
    let less = field.saturating_sub(1).max(least);
    core::mem::replace(field, less) != less
}

/// Tried in this order, again and again.
const SHRINKS: &[Shrink] = &[
    ("no lost messages", |s| none(&mut s.loss)),
    ("no doubled messages", |s| none(&mut s.doubled)),
    ("no partitions", |s| none(&mut s.partitions)),
    ("no crashes", |s| none(&mut s.crashes)),
    ("no pauses", |s| none(&mut s.pauses)),
    ("no failed reads", |s| none(&mut s.read_errors)),
    ("no failed writes", |s| none(&mut s.write_errors)),
    ("no full disks", |s| none(&mut s.full_disks)),
    ("no clocks that are off", |s| none(&mut s.skew_ms)),
    ("no changed frames", |s| none(&mut s.flips)),
    ("no rot", |s| none(&mut s.rot)),
    ("no lost disks", |s| none(&mut s.wipes)),
    ("no changes of the membership", |s| none(&mut s.changes)),
    ("no directories from the past", |s| none(&mut s.backups)),
    ("no stops in order", |s| none(&mut s.stops)),
    ("no lost writes", |s| none(&mut s.lost_writes)),
    ("no misdirected writes", |s| none(&mut s.misdirected_writes)),
    ("no wrong reads", |s| none(&mut s.wrong_reads)),
    ("no leaps", |s| none(&mut s.leaps)),
    ("no clogged links", |s| none(&mut s.clogs)),
    ("no bursts", |s| off(&mut s.has_bursts)),
    ("nothing that expires", |s| none(&mut s.expiring)),
    ("no hot key", |s| none(&mut s.hot)),
    ("no other numbers of shards", |s| none(&mut s.redeals)),
    ("no deletes", |s| none(&mut s.deletes)),
    ("no blackout at the end", |s| off(&mut s.ends_in_blackout)),
    ("no worse end", |s| off(&mut s.is_worse_at_end)),
    ("half the time", |s| halve(&mut s.safety_ms, 50)),
    ("a client less", |s| one_less(&mut s.clients, 1)),
    ("a key less", |s| one_less(&mut s.keys, 1)),
    ("a node less", |s| one_less(&mut s.nodes, 3)),
];

/// The smallest world found in which a seed fails as it did, with what was taken away; nothing where it does not fail.
pub fn minimise(seed: u64, swarm: Swarm) -> Option<(Report, Vec<&'static str>)> {
    let mut smallest = run_in(seed, swarm);
    let check = *smallest.failed.first()?;
    let mut taken = Vec::new();
    loop {
        let before = taken.len();
        for (what, shrink) in SHRINKS {
            let mut swarm = smallest.swarm.clone();
            if !shrink(&mut swarm) {
                continue;
            }
            let report = run_in(seed, swarm);
            if report.failed.contains(&check) {
                smallest = report;
                taken.push(*what);
            }
        }
        if taken.len() == before {
            return Some((smallest, taken));
        }
    }
}
