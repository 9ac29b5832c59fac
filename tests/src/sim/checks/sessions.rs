//! What one client may count on, key by key (Terry et al., "Session guarantees for weakly consistent replicated data",
//! PDIS 1994):
//!
//! - *read your writes*: a read accounts for each write of its client that was acknowledged before it began, since R of N
//!   replicas meet the W that have it;
//! - *monotonic reads*: it accounts for what its client's earlier reads showed, where that was acknowledged before it began,
//!   for the same reason. What was not acknowledged yet may be at one replica only, and be missed again;
//! - *monotonic writes*: a client's later write stands after its earlier one, since its context covers that;
//! - *writes follow reads*: a write stands after what its client had read, since its context covers that.
//!
//! The first two need R + W > N without stand-ins, and no disk that has forgotten something in silence; elsewhere misses are
//! counted only. The last two hold of carts always,
//! since they are in the objects themselves: no read shows a write beside a later one that stands after it. Keys that are
//! written blind have no contexts: there what began long after another had ended (`apart_ns`) is the later one, and where
//! quorums meet no read shows the earlier one once the later one is acknowledged.

use std::collections::BTreeMap;

use super::graph::{Bits, Graph};
use super::{apart_ns, is_strict};
use crate::sim::history::{History, Read, Write, WriteNumber};
use crate::sim::swarm::Swarm;

/// Sessions of which a guarantee was broken, and how often one was that is not given there.
#[derive(Default)]
pub struct Sessions {
    /// Reads that missed a write of their own client.
    pub read_your_writes: Vec<String>,
    /// Reads that missed what their client had been shown.
    pub monotonic_reads: Vec<String>,
    /// Reads that showed a write that a later one of its own client stands after.
    pub monotonic_writes: Vec<String>,
    /// Reads that showed a write that one stands after whose client had read it.
    pub writes_follow_reads: Vec<String>,
    /// Reads that missed a write of their own client, where quorums need not meet.
    pub own_missed: u64,
    /// Reads that missed what their client had been shown: where quorums need not meet, or it was not acknowledged.
    pub shown_missed: u64,
}

/// Looks at each client's reads, in their order.
pub fn check(history: &History, swarm: &Swarm, is_cart: impl Fn(usize) -> bool) -> Sessions {
    let mut sessions = Sessions::default();
    for key in 0..swarm.keys {
        if is_cart(key) {
            sessions.of_cart(history, swarm, key);
        } else {
            sessions.of_blind(history, swarm, key);
        }
    }
    sessions
}

impl Sessions {
    fn of_cart(&mut self, history: &History, swarm: &Swarm, key: usize) {
        let graph = Graph::of(history, key, swarm.skew_ms);
        let is_strict = is_strict(swarm);
        let mut shown_before: BTreeMap<usize, Bits> = BTreeMap::new();
        for read in history.reads.iter().filter(|read| read.key == key) {
            let is_strict = is_strict && history.is_promised(read);
            let accounted = graph.accounted(read);
            let mut own = graph.nothing();
            for (at, (_, write)) in graph.writes.iter().enumerate() {
                if write.client == read.client && write.is_acknowledged_by(read.begun_ns) {
                    own.add(at);
                }
            }
            let is_missed = |at: &usize| !graph.is_overwritten_meanwhile(*at, read);
            if let Some(at) = own.without(&accounted).find(is_missed) {
                if is_strict {
                    let what = "misses its own";
                    self.read_your_writes
                        .push(told(read, graph.writes[at].0, what));
                } else {
                    self.own_missed += 1;
                }
            }
            let before = shown_before
                .entry(read.client)
                .or_insert_with(|| graph.nothing());
            let missed: Vec<usize> = before.without(&accounted).filter(is_missed).collect();
            let is_promised =
                |at: &&usize| is_strict && graph.writes[**at].1.is_acknowledged_by(read.begun_ns);
            if let Some(at) = missed.iter().find(is_promised) {
                let what = "misses what it was shown before,";
                self.monotonic_reads
                    .push(told(read, graph.writes[*at].0, what));
            } else {
                self.shown_missed += u64::from(!missed.is_empty());
            }
            let places = || read.shown.iter().filter_map(|number| graph.place(*number));
            places().for_each(|at| before.add(at));
            for (later, earlier) in places().flat_map(|a| places().map(move |b| (a, b))) {
                let (number, write) = graph.writes[earlier];
                if later == earlier || !graph.reaches(later, earlier) || !write.is_once() {
                    continue;
                }
                let (after, later) = graph.writes[later];
                let what = format!("shows, beside w{after}, which stands after it,");
                self.ordered(write, later).push(told(read, number, &what));
            }
        }
    }

    fn of_blind(&mut self, history: &History, swarm: &Swarm, key: usize) {
        let (apart_ns, is_strict) = (apart_ns(swarm), is_strict(swarm));
        let of_key = || history.writes.iter().filter(|(_, write)| write.key == key);
        // Of each write its followers: the client's next ones, and those of whoever had read it.
        let mut followers: BTreeMap<WriteNumber, Vec<(WriteNumber, &Write)>> = BTreeMap::new();
        let mut last_of: BTreeMap<usize, WriteNumber> = BTreeMap::new();
        for (number, write) in of_key().filter(|(_, write)| !write.is_renewal) {
            let own = last_of.insert(write.client, *number);
            for before in write.seen.iter().copied().chain(own) {
                followers.entry(before).or_default().push((*number, write));
            }
        }
        let mut shown_before: BTreeMap<usize, BTreeMap<WriteNumber, &Write>> = BTreeMap::new();
        for read in history.reads.iter().filter(|read| read.key == key) {
            let is_strict = is_strict && history.is_promised(read);
            // Only what was carried out once has one time.
            let shown = read.shown.iter().filter_map(|number| {
                let write = history.writes.get(number).filter(|write| write.is_once())?;
                Some((*number, write, write.acknowledged_ns? + apart_ns))
            });
            let before = shown_before.entry(read.client).or_default();
            for (number, write, ended_ns) in shown {
                let is_later = |later: &Write| {
                    later.begun_ns > ended_ns
                        && later.is_acknowledged_by(read.begun_ns)
                        && !later.is_renewal
                        && !history.may_be_renewed(later, (is_strict, apart_ns))
                };
                let mut own = of_key().filter(|(_, later)| later.client == read.client);
                if own.any(|(_, later)| is_later(later)) {
                    let what = "shows what its own write replaced,";
                    self.blind_missed(is_strict, true, told(read, number, what));
                }
                if before.values().any(|later| is_later(later)) {
                    let what = "shows what one that it showed before replaced,";
                    self.blind_missed(is_strict, false, told(read, number, what));
                }
                let followers = followers.get(&number).map_or(&[][..], Vec::as_slice);
                let follower = followers.iter().find(|(_, later)| is_later(later));
                if let Some((after, later)) = follower.filter(|_| is_strict) {
                    let what = format!("shows, after w{after} replaced it,");
                    self.ordered(write, later).push(told(read, number, &what));
                }
            }
            if read.shown.is_empty() && is_strict {
                let own = of_key().filter(|(_, write)| write.client == read.client);
                let own = own.map(|(number, write)| (*number, write));
                if let Some(number) = gone(history, swarm, read, own) {
                    let what = "shows nothing, and no end of its own";
                    self.read_your_writes.push(told(read, number, what));
                }
                let before = before.iter().map(|(number, write)| (*number, *write));
                if let Some(number) = gone(history, swarm, read, before) {
                    let what = "shows nothing, and no end of what it showed,";
                    self.monotonic_reads.push(told(read, number, what));
                }
            }
            let shown = read.shown.iter();
            before.extend(shown.filter_map(|number| Some((*number, history.writes.get(number)?))));
        }
    }

    /// Where it is noted that a write is shown though a later one stands after it.
    const fn ordered(&mut self, write: &Write, later: &Write) -> &mut Vec<String> {
        if write.client == later.client {
            &mut self.monotonic_writes
        } else {
            &mut self.writes_follow_reads
        }
    }

    fn blind_missed(&mut self, is_strict: bool, is_own: bool, what: String) {
        match (is_strict, is_own) {
            (true, true) => self.read_your_writes.push(what),
            (true, false) => self.monotonic_reads.push(what),
            (false, true) => self.own_missed += 1,
            (false, false) => self.shown_missed += 1,
        }
    }
}

/// One of these that must be there when a read shows nothing: acknowledged, in its time, and nothing that is over can have
/// followed it.
fn gone<'a>(
    history: &History,
    swarm: &Swarm,
    read: &Read,
    of: impl Iterator<Item = (WriteNumber, &'a Write)>,
) -> Option<WriteNumber> {
    let is_over = |write: &Write| write.may_be_over(read.answered_ns, swarm.skew_ms);
    let ends = history.writes.values().filter(|write| {
        let is_begun = write.key == read.key && write.begun_ns <= read.answered_ns;
        is_begun && is_over(write) && !write.is_denied()
    });
    let ended_ns = |write: &Write| write.acknowledged_ns.filter(|_| write.is_once());
    let last_ns = ends.map(|write| ended_ns(write).map_or(u64::MAX, |at| at + apart_ns(swarm)));
    let last_ns = last_ns.max().unwrap_or(0);
    let must_be_there = |write: &Write| {
        write.is_acknowledged_by(read.begun_ns) && !is_over(write) && write.begun_ns > last_ns
    };
    let mut of = of.filter(|(_, write)| must_be_there(write));
    of.next().map(|(number, _)| number)
}

fn told(read: &Read, number: WriteNumber, what: &str) -> String {
    format!(
        "key {} at {:.3} ms: client {}: {what} w{number}; shown: {:?}",
        read.key,
        read.begun_ns as f64 / 1e6,
        read.client,
        read.shown
    )
}
