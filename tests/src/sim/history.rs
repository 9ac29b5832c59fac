//! What clients wrote, and what they had seen when they did: the oracle, which never looks at a server's clock.

use std::collections::{BTreeMap, BTreeSet};

use gramme_core::port::Failure;

/// What a clock that is right says.
pub(super) const fn right_ms(now_ns: u64) -> u64 {
    1_700_000_000_000 + now_ns / 1_000_000
}

/// A write's name; its value begins with it.
pub(super) type WriteNumber = u64;

/// One write as its client knows it.
#[derive(Clone, Debug)]
pub struct Write {
    /// Who.
    pub client: usize,
    /// Of which key.
    pub key: usize,
    /// Whether it is a delete.
    pub is_delete: bool,
    /// Whether it changes only when what is there expires: it writes the newest value anew, whatever that is.
    pub is_renewal: bool,
    /// From when on, by right clocks, nobody is to be shown it.
    pub expires_at_ms: Option<u64>,
    /// The writes that its context covers, as far as the client saw them.
    pub seen: BTreeSet<WriteNumber>,
    /// When it was first sent.
    pub begun_ns: u64,
    /// Whether it was sent more than once: a later try is a write of its own, made with the old context, where what the
    /// first one left is gone by then.
    pub is_retried: bool,
    /// When it was acknowledged.
    pub acknowledged_ns: Option<u64>,
    /// Of the tries so far: sent and not answered, or answered with *in doubt*.
    pub tries_in_doubt: u32,
    /// Of the tries so far: answered with *not applied*.
    pub tries_denied: u32,
    /// The node that its client asked first, where that holds the key and so dates the write itself.
    pub dated_by: Option<usize>,
    /// In which of its lives.
    pub dated_in: u32,
}

/// One read that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    /// Whose.
    pub client: usize,
    /// Of which key.
    pub key: usize,
    /// When it was sent.
    pub begun_ns: u64,
    /// When its answer came.
    pub answered_ns: u64,
    /// The node that was asked, where that holds the key.
    pub holder: Option<usize>,
    /// The writes whose values it showed.
    pub shown: BTreeSet<WriteNumber>,
}

/// Everything that happened, for the checks and for the story.
#[derive(Default)]
pub struct History {
    /// By number.
    pub writes: BTreeMap<WriteNumber, Write>,
    /// In the order of their answers.
    pub reads: Vec<Read>,
    /// When a machine first came back without what it had said was on its disk, and with nothing that tells: until it is
    /// compared, whoever reads from it alone may miss writes.
    pub rolled_back_ns: Option<u64>,
    /// What happened to each key, in order of virtual time.
    pub story: Vec<(u64, usize, String)>,
    /// What a check found at once.
    pub violations: Vec<String>,
    /// The writes that some writer had seen; and by key those that were acknowledged and that nobody had.
    seen: BTreeSet<WriteNumber>,
    unseen: BTreeMap<usize, BTreeSet<WriteNumber>>,
    next: WriteNumber,
}

impl Write {
    /// Whether its client was told of each of its tries that nothing happened.
    pub const fn is_denied(&self) -> bool {
        self.acknowledged_ns.is_none() && self.tries_in_doubt == 0 && self.tries_denied > 0
    }

    /// Whether it shows nothing at this time where clocks are as much ahead as that: it is a delete, or has expired.
    pub fn may_be_over(&self, at_ns: u64, ahead_ms: u64) -> bool {
        let now_ms = right_ms(at_ns) + ahead_ms;
        self.is_delete || self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Whether its client had been told that it is done.
    pub fn is_acknowledged_by(&self, at_ns: u64) -> bool {
        self.acknowledged_ns
            .is_some_and(|acknowledged_ns| acknowledged_ns < at_ns)
    }

    /// Notes that it is sent, first or again: until it is answered it may happen.
    pub const fn note_sent(&mut self) {
        self.tries_in_doubt += 1;
    }

    /// Notes that its newest try was answered with a failure.
    pub const fn note_failed(&mut self, failure: Failure) {
        if !failure.is_in_doubt() {
            self.tries_in_doubt -= 1;
            self.tries_denied += 1;
        }
    }

    /// Whether it was certainly carried out once: by one try of its client, and acknowledged before a node that forwarded
    /// it would have tried another.
    pub fn is_once(&self) -> bool {
        let is_quick = |at_ns: u64| at_ns - self.begun_ns < 900_000_000;
        !self.is_retried && self.acknowledged_ns.is_some_and(is_quick)
    }
}

impl Read {
    /// Whether it was asked of a node that holds the key, and that is not the one that crashes where only one does.
    pub fn never_forgets(&self) -> bool {
        self.holder.is_some_and(|holder| holder > 0)
    }
}

impl History {
    /// Whether nothing had been forgotten by then that nobody can tell.
    pub fn is_promised(&self, read: &Read) -> bool {
        let rolled_back_ns = self.rolled_back_ns;
        rolled_back_ns.is_none_or(|rolled_back_ns| read.answered_ns < rolled_back_ns)
    }

    /// A new write's number.
    pub fn begin(&mut self, write: Write) -> WriteNumber {
        self.next += 1;
        if let Some(unseen) = self.unseen.get_mut(&write.key) {
            unseen.retain(|number| !write.seen.contains(number));
        }
        self.seen.extend(write.seen.iter().copied());
        self.writes.insert(self.next, write);
        self.next
    }

    /// Notes that a write was acknowledged.
    pub fn acknowledge(&mut self, number: WriteNumber, now_ns: u64) {
        let Some(write) = self.writes.get_mut(&number) else {
            return;
        };
        write.acknowledged_ns = Some(now_ns);
        if !self.seen.contains(&number) {
            self.unseen.entry(write.key).or_default().insert(number);
        }
    }

    /// The acknowledged writes of a key that no other writer has seen: whoever reads it must be shown each of them.
    pub fn unseen(&self, key: usize) -> impl Iterator<Item = WriteNumber> + '_ {
        self.unseen.get(&key).into_iter().flatten().copied()
    }

    /// Notes what happened to a key.
    pub fn tell(&mut self, now_ns: u64, key: usize, what: String) {
        self.story.push((now_ns, key, what));
    }

    /// When a value is over that is shown, by right clocks: at its own time, or at the latest that anybody gave it meanwhile.
    /// Nothing where that is never.
    pub fn over_at_ms(&self, number: WriteNumber, at_ns: u64) -> Option<u64> {
        let write = self.writes.get(&number)?;
        let own_ms = write.expires_at_ms?;
        let renewals = self.writes.values().filter(|other| {
            other.is_renewal
                && other.key == write.key
                && other.begun_ns <= at_ns
                && !other.is_denied()
        });
        let mut latest_ms = own_ms;
        for renewal in renewals {
            latest_ms = latest_ms.max(renewal.expires_at_ms?);
        }
        Some(latest_ms)
    }

    /// Whether a value may stand though a later write replaced it: somebody read it before, to write it anew with another
    /// expiry, and was later still. Where quorums meet that one was under way with the later write.
    pub fn may_be_renewed(&self, later: &Write, (is_strict, apart_ns): (bool, u64)) -> bool {
        self.writes.values().any(|renewal| {
            let ended_ns = renewal.acknowledged_ns.filter(|_| renewal.is_once());
            let began_too_late = |at_ns: u64| is_strict && renewal.begun_ns > at_ns;
            renewal.is_renewal
                && renewal.key == later.key
                && !renewal.is_denied()
                && ended_ns.is_none_or(|at_ns| at_ns + apart_ns >= later.begun_ns)
                && !later.acknowledged_ns.is_some_and(began_too_late)
        })
    }

    /// All writes that these ones saw, at any remove, and themselves.
    pub fn closure(&self, from: impl IntoIterator<Item = WriteNumber>) -> BTreeSet<WriteNumber> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<WriteNumber> = from.into_iter().collect();
        while let Some(number) = open.pop() {
            if reached.insert(number)
                && let Some(write) = self.writes.get(&number)
            {
                open.extend(write.seen.iter().copied());
            }
        }
        reached
    }
}
