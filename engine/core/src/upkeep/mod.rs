//! What happens behind the clients: hints are delivered, copies compared and brought up, partitions let go, tombstones
//! forgotten. All of it at the replica's pace (`replica/pace.rs`), all of it resumed where it was when a message is lost or
//! a node was away.
//!
//! Owns its jobs: one slot for everything that waits for an answer. Never answers a client, never decides who owns what:
//! it is handed the replica and the ring's view with each event, as the coordinator is.
//!
//! # Layout
//! - `handoff`: hints to the nodes that they are for; `rescue`: those of which what was kept is lost;
//! - `gather`: records by their tokens, from memory or disk;
//! - `session`, `reconcile`: what two replicas hold of one slice is made equal; `serve`: the other side of that;
//! - `duties`: what is to be done, and when: `transfers`, `handovers`, `rounds` of comparisons;
//! - `reaper`: tombstones that nobody needs any more.
//!
//! Invariants:
//! - a partition is said to be gained, or to be drained, only when all that was found missing is on stable media;
//! - a hint is forgotten only when the very object that lies beside it is on its target's stable media, or is counted as lost.

mod duties;
mod gather;
mod handoff;
mod handovers;
mod reaper;
mod reconcile;
mod rescue;
mod rounds;
mod serve;
mod session;
mod transfers;

use crate::base::ids::NodeId;
use crate::base::slots::{SlotId, Slots};
use crate::port::ids::{Purpose, internal, of_upkeep_call, upkeep_call};
use crate::port::{ByteRange, CallId, Durability, KeyName, Lane, Message, Op, Outcome, Peer};
use crate::replica::records::RangeSum;
use crate::replica::turn::Turn;
use crate::ring::RingView;

use duties::Duties;
use handoff::{Delivery, Handoff};
use reaper::{Asked, Reaper, Reaping};
use reconcile::{Merge, Push};
use rescue::Untold;
use serve::Served;
use session::Session;
use transfers::Marking;

/// How often it looks at what it has under way.
const STEP_NS: u64 = 5_000_000;
/// What a key costs that a walk over the index goes by.
const WALKED_KEY_BYTES: u64 = 32;
/// How often it looks whether there is anything to do.
const IDLE_STEP_NS: u64 = 100_000_000;

/// Counters and gauges of the background; counters only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpkeepStats {
    /// Hints that are to be delivered, those among them that a full disk has no room for.
    pub hints_pending: u64,
    /// Hints delivered.
    pub hints_delivered: u64,
    /// Deliveries that were refused or not answered; each is tried again.
    pub hints_failed: u64,
    /// Hints given up, since what was kept is damaged here and no replica has that version of it.
    pub hints_lost: u64,
    /// Partitions that are to be gained, as far as this shard's slices go.
    pub transfers: u64,
    /// Those of them that are whole here.
    pub transfers_done: u64,
    /// Partitions that are to be handed over to others.
    pub handovers: u64,
    /// Partitions gained since the start.
    pub partitions_gained: u64,
    /// Partitions dropped since the start.
    pub partitions_dropped: u64,
    /// Sessions that compared a slice with another replica's.
    pub sessions: u64,
    /// Those of them that did not come to their end; others went on.
    pub sessions_failed: u64,
    /// Records that came from others.
    pub records_pulled: u64,
    /// Records that went to others.
    pub records_pushed: u64,
    /// Bytes of records that came.
    pub bytes_pulled: u64,
    /// Bytes of records that went.
    pub bytes_pushed: u64,
    /// Records that one side could not read or take.
    pub records_bad: u64,
    /// Records that replicas which should have been equal lacked.
    pub repairs: u64,
    /// Tombstones that all nodes agreed to forget.
    pub tombstones_reaped: u64,
    /// Partitions compared with another replica; those that failed are not among them.
    pub comparisons: u64,
    /// Pairs of a partition and another replica that this round has yet to compare.
    pub comparisons_left: u64,
    /// How long they will take, where the round has time; none while one is to end soon.
    pub comparisons_left_ns: Option<u64>,
    /// Partitions of which this shard told that it has handed over its slice, or that it dropped.
    pub handovers_done: u64,
    /// Those of the handovers that are not that far.
    pub handovers_left: u64,
    /// Rounds of comparisons in which something was compared.
    pub rounds: u64,
    /// Those of them in which replicas differed.
    pub rounds_with_repairs: u64,
    /// How long the last one took.
    pub round_ns: u64,
}

/// Something that waits for an answer.
enum Job {
    Hint(Box<Delivery>),
    Session(Box<Session>),
    Push(Push),
    Merge(Merge),
    Served(Box<Served>),
    Mark(Marking),
    Reaping(Box<Reaping>),
    AskedToReap(Box<Asked>),
}

/// The background of one shard.
#[derive(Default)]
pub(crate) struct Upkeep {
    jobs: Slots<Job>,
    handoff: Handoff,
    duties: Duties,
    reaper: Reaper,
    sessions: u32,
    untold: Untold,
    stats: UpkeepStats,
    step_ns: u64,
}

impl Upkeep {
    /// Takes a peer's message; false when it is none of the background's.
    pub(crate) fn message(
        &mut self,
        turn: &mut Turn<'_>,
        from: Peer,
        message: &Message<&[u8]>,
    ) -> bool {
        match *message {
            Message::Applied {
                call,
                result,
                queue,
            } => {
                let Some((id, _)) = of_upkeep_call(call) else {
                    return false;
                };
                match self.jobs.get_mut(id) {
                    Some(Job::Hint(_)) => self.hint_applied(turn, id, from.node, (result, queue)),
                    Some(Job::Push(_)) => self.pushed(turn, id, result),
                    Some(_) | None => {}
                }
            }
            Message::Compare {
                call,
                range,
                sum,
                count,
            } => self.serve_compare(turn, (from, call), range, RangeSum { sum, count }),
            Message::Compared {
                call,
                range,
                sum,
                count,
                list,
            } => {
                if let Some(asked) = of_upkeep_call(call) {
                    let theirs = RangeSum { sum, count };
                    self.compared(turn, from.node, asked, range, (theirs, list));
                }
            }
            Message::Pull { call, tokens, .. } => self.serve_pull(turn, (from, call), tokens),
            Message::Records {
                call,
                tokens_answered,
                records,
                is_incomplete,
            } => {
                if let Some(asked) = of_upkeep_call(call) {
                    let answered = (tokens_answered, is_incomplete);
                    self.records(turn, from.node, asked, answered, records);
                }
            }
            Message::Reap {
                call,
                partition,
                is_final,
                list,
            } => self.serve_reap(turn, (from, call), (partition, is_final), list),
            Message::Reaped { call, list } => {
                if let Some(asked) = of_upkeep_call(call) {
                    self.reaped(turn, from, asked, list);
                }
            }
            Message::Fetched { call, result, .. } => {
                let Some(asked) = of_upkeep_call(call) else {
                    return false;
                };
                self.hint_told(turn, asked, from.node, result);
            }
            Message::Apply { .. }
            | Message::Fetch { .. }
            | Message::Request { .. }
            | Message::Outcome { .. }
            | Message::Gossip { .. } => return false,
        }
        true
    }

    /// Takes the replica's answer to one of the background's own requests.
    pub(crate) fn local_reply(&mut self, turn: &mut Turn<'_>, id: SlotId, outcome: Outcome) {
        match self.jobs.get_mut(id) {
            Some(Job::Hint(_)) => self.hint_fetched(turn, id, outcome),
            Some(Job::Merge(_)) => self.merged(turn, id, &outcome),
            Some(Job::Mark(_)) => self.marked(turn, id, &outcome),
            Some(
                Job::Session(_)
                | Job::Push(_)
                | Job::Served(_)
                | Job::Reaping(_)
                | Job::AskedToReap(_),
            )
            | None => {}
        }
    }

    /// Takes the reads that have ended.
    pub(crate) fn reads_done(&mut self, turn: &mut Turn<'_>) {
        for end in turn.replica.take_reads() {
            self.hint_read(turn, &end);
            self.gather_read(turn, &end);
            self.reaper_read(turn, &end);
        }
    }

    /// The connection to a node broke.
    pub(crate) fn peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        self.hints_peer_lost(turn, node);
        self.sessions_peer_lost(turn, node);
    }

    /// The view changed.
    pub(crate) fn view_changed(&mut self, former: Option<&RingView>, turn: &mut Turn<'_>) {
        self.find_duties(former, turn);
        self.step_ns = turn.now.mono_ns;
    }

    /// An operator wants everything compared now.
    pub(crate) fn compare_all(&mut self, now_ns: u64) {
        self.compare_soon(now_ns, true);
        self.step_ns = now_ns;
    }

    /// Looks at what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        if self.step_ns > now_ns {
            return;
        }
        self.hints_due(turn);
        self.deliver_hints(turn);
        self.tell_lost_hints(turn);
        self.sessions_due(turn);
        self.duties_due(turn);
        self.reap_due(turn);
        // Those that wait for their second time need no haste.
        let is_busy = self.jobs.len() > self.reaper.rounds() || self.duties.is_busy();
        let step_ns = if is_busy { STEP_NS } else { IDLE_STEP_NS };
        let next_ns = now_ns.saturating_add(step_ns);
        self.step_ns = next_ns.min(self.duties.next_ns().max(now_ns.saturating_add(STEP_NS)));
    }

    /// When it wants a tick.
    pub(crate) const fn next_deadline_ns(&self) -> Option<u64> {
        Some(self.step_ns)
    }

    /// Whether nothing of it waits for an answer.
    pub(crate) const fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How much of it waits for an answer.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Counters.
    pub(crate) fn stats(&self, hints_pending: usize) -> UpkeepStats {
        UpkeepStats {
            hints_pending: hints_pending as u64,
            transfers: self.duties.transfers().0,
            transfers_done: self.duties.transfers().1,
            handovers: self.duties.handovers(),
            handovers_left: self.duties.handovers_left(),
            comparisons_left: self.duties.comparisons_left(),
            comparisons_left_ns: self.duties.comparisons_left_ns(),
            ..self.stats
        }
    }
}

/// Spends so many bytes of what the background may move.
fn spend(turn: &mut Turn<'_>, bytes: u64) {
    turn.replica.background.spend(turn.now.mono_ns, bytes);
}

/// Sends an object to another node, behind its clients; answered when it is on stable media there.
fn send_object(
    turn: &mut Turn<'_>,
    to: NodeId,
    job: SlotId,
    key: KeyName<&[u8]>,
    object: ByteRange,
) -> CallId {
    let call = upkeep_call(job, 0);
    let message = Message::Apply {
        call,
        key: turn.effects.keep_key(key),
        object,
        is_durable: true,
        hint_for: None,
        is_background: true,
    };
    turn.send(to, Lane::Token(key.token), message);
    call
}

/// Asks this shard's own replica; the answer comes back to the job.
fn ask(turn: &mut Turn<'_>, job: SlotId, key: KeyName<&[u8]>, op: Op<'_>) {
    turn.ask_own(
        internal(Purpose::Upkeep, job),
        key,
        Durability::Buffered,
        op,
    );
}

#[cfg(test)]
mod duties_tests;
#[cfg(test)]
mod handoff_tests;
#[cfg(test)]
mod reaper_tests;
