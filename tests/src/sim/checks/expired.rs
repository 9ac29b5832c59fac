//! A value that expires is shown until its time, and never after: not by a clock that is right, and not again later,
//! whatever brings an older copy of it. Nor does what expired take anything else with it.
//!
//! Clocks of these worlds are right or ahead (`Swarm::skew_ms`), so nobody may show a value when its time is over for a
//! clock that is right; a node whose clock is ahead lets go of it earlier by so much, for everybody. Where clocks leap
//! nothing is claimed. That a cart's value is there before its time `acknowledged` and `quorum` see.

use crate::sim::checks::{Shown, apart_ns};
use crate::sim::history::{History, Write, WriteNumber, right_ms};
use crate::sim::swarm::Swarm;

/// Values shown after their time, and keys written blind that show nothing though a value of theirs has its time.
pub fn check(
    history: &History,
    (shown, swarm, end_ns): (&Shown, &Swarm, u64),
    is_cart: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    if swarm.leaps > 0 {
        return found;
    }
    let over_ms = |number: &WriteNumber, (begun_ns, ended_ns): (u64, u64)| {
        let at_ms = history.over_at_ms(*number, ended_ns)?;
        right_ms(begun_ns).checked_sub(at_ms)
    };
    for read in &history.reads {
        for number in &read.shown {
            if let Some(ms) = over_ms(number, (read.begun_ns, read.answered_ns)) {
                found.push(format!(
                    "key {} at {:.3} ms: a read shows w{number}, which had expired {ms} ms before it began",
                    read.key,
                    read.answered_ns as f64 / 1e6,
                ));
            }
        }
    }
    for ((node, key), values) in shown {
        for number in values {
            if let Some(ms) = over_ms(number, (end_ns, end_ns)) {
                found.push(format!(
                    "key {key} at node {node}: w{number} is shown, {ms} ms after it expired"
                ));
            }
        }
        if is_cart(*key) || !values.is_empty() {
            continue;
        }
        if let Some(number) = lost(history, swarm, *key, end_ns) {
            found.push(format!(
                "key {key} at node {node}: nothing is shown, though w{number} was acknowledged and has its time"
            ));
        }
    }
    found
}

/// An acknowledged value of a key written blind that is not over and that nothing which is over can have followed.
fn lost(history: &History, swarm: &Swarm, key: usize, end_ns: u64) -> Option<WriteNumber> {
    let apart_ns = apart_ns(swarm);
    let is_over = |write: &Write| write.may_be_over(end_ns, swarm.skew_ms);
    let of_key = || history.writes.iter().filter(|(_, write)| write.key == key);
    // What was not carried out once may have a time of any moment.
    let ended_ns = |write: &Write| write.acknowledged_ns.filter(|_| write.is_once());
    let ends = of_key().filter(|(_, write)| is_over(write) && !write.is_denied());
    let last_ns = ends.map(|(_, write)| ended_ns(write).map_or(u64::MAX, |at_ns| at_ns + apart_ns));
    let last_ns = last_ns.max().unwrap_or(0);
    // A renewal that was acknowledged found a value, and gave it its time.
    let has_its_time = |write: &Write| write.acknowledged_ns.is_some() && !is_over(write);
    of_key()
        .find(|(_, write)| has_its_time(write) && write.begun_ns > last_ns)
        .map(|(number, _)| *number)
}
