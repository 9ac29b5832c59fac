//! A start with another number of shards: what `engine/runtime/src/engine/redeal.rs` does with directories, done here with
//! disks in memory. The old shards run once more beside new, empty ones, whose clocks begin behind what the old ones promised;
//! every record is read from the one and merged into the other; only when both have stopped do the new disks count.
//!
//! No virtual time passes: the node is down meanwhile. The machines are the real ones; that it is these calls in this order
//! the tests of real processes show (`net/tests/faults`, `dealt`).

use std::collections::VecDeque;

use gramme_core::base::time::{Hlc, Now};
use gramme_core::port::{
    Effect, Effects, Event, Note, Op, Outcome, Request, RequestId, Ticket, listed, read_record,
};
use gramme_core::ring::Slices;
use gramme_core::shard::{Shard, record_request};

use super::disk::Disk;
use super::frontiers::Frontiers;

/// Index entries that one scan looks at; few, so that there are several scans.
const SCAN_COUNT: u32 = 5;
/// So many turns nothing takes.
const TURNS_MAX: usize = 10_000;

/// What of one event a shard still has to be told.
enum Told {
    Written(Ticket),
    Read(Ticket, Vec<u8>),
    Prepared(Ticket),
    Note(Note),
}

/// The shards of one number, with disks that do at once what they are told.
pub(super) struct Side {
    pub(super) shards: Vec<(Shard, Disk)>,
    frontiers: Frontiers,
    now: Now,
    stopped: usize,
    answers: Vec<(RequestId, Outcome, Vec<u8>)>,
}

impl Side {
    pub(super) fn new(mut shards: Vec<(Shard, Disk)>, now: Now, begin_after: Option<Hlc>) -> Self {
        for (shard, _) in &mut shards {
            shard.keep_for_others();
            if let Some(promised) = begin_after {
                shard.begin_after(promised);
            }
        }
        Self {
            frontiers: Frontiers::new(shards.len()),
            shards,
            now,
            stopped: 0,
            answers: Vec::new(),
        }
    }

    fn step(&mut self, at: usize, event: Event<'_>) {
        let mut open: VecDeque<(usize, Told)> = VecDeque::new();
        self.step_once(at, event, &mut open);
        while let Some((at, told)) = open.pop_front() {
            match told {
                Told::Written(ticket) => {
                    self.shards[at].1.end_write(ticket);
                    let result = Ok(());
                    self.step_once(at, Event::WriteDone { ticket, result }, &mut open);
                }
                Told::Read(ticket, bytes) => {
                    let result = Ok(bytes.as_slice());
                    self.step_once(at, Event::ReadDone { ticket, result }, &mut open);
                }
                Told::Prepared(ticket) => {
                    let result = Ok(());
                    self.step_once(at, Event::PrepareDone { ticket, result }, &mut open);
                }
                Told::Note(note) => self.step_once(at, Event::Note(note), &mut open),
            }
        }
    }

    fn step_once(&mut self, at: usize, event: Event<'_>, open: &mut VecDeque<(usize, Told)>) {
        let (shard, disk) = &mut self.shards[at];
        let mut effects = Effects::default();
        self.frontiers
            .step((at, shard), self.now, event, &mut effects);
        for effect in effects.list.drain(..) {
            match effect {
                Effect::Reply { id, outcome } => {
                    self.answers.push((id, outcome, effects.bytes.clone()));
                }
                Effect::Write {
                    ticket,
                    file,
                    offset,
                    data,
                } => {
                    let bytes = shard.log_bytes(data).to_vec();
                    disk.begin_write(ticket, file, offset, bytes);
                    open.push_back((at, Told::Written(ticket)));
                }
                Effect::Read {
                    ticket,
                    file,
                    offset,
                    bytes,
                    ..
                } => {
                    let bytes = disk.read_some(file, offset, bytes);
                    open.push_back((at, Told::Read(ticket, bytes)));
                }
                Effect::Prepare {
                    ticket,
                    file,
                    bytes,
                    ..
                } => {
                    disk.prepare(file, bytes);
                    open.push_back((at, Told::Prepared(ticket)));
                }
                Effect::Remove { file } => disk.remove(file),
                Effect::Applied { .. } => unreachable!("the shard keeps these to itself"),
                Effect::Stopped => self.stopped += 1,
            }
        }
        for (to, note) in effects.notes.drain(..) {
            open.push_back((usize::from(to.0), Told::Note(note)));
        }
    }

    /// Lets the loop turn until this holds; whether it came to hold.
    fn turn_until(&mut self, is_over: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..TURNS_MAX {
            if is_over(self) {
                return true;
            }
            self.now.mono_ns += 1_000_000;
            for at in 0..self.shards.len() {
                self.step(at, Event::Tick);
                self.step(at, Event::TurnEnd);
            }
        }
        is_over(self)
    }

    /// Asks a shard for something, and waits for it.
    fn ask(&mut self, at: usize, request: Request<'_>) -> Result<(Outcome, Vec<u8>), String> {
        self.step(at, Event::Request(request));
        if !self.turn_until(|side| !side.answers.is_empty()) {
            return Err("a shard that is being dealt does not answer".to_owned());
        }
        let (_, outcome, bytes) = self.answers.swap_remove(0);
        Ok((outcome, bytes))
    }

    fn stop(&mut self) -> Result<(), String> {
        for at in 0..self.shards.len() {
            self.step(at, Event::Stop);
        }
        let count = self.shards.len();
        let has_stopped = self.turn_until(|side| side.stopped == count);
        let what = "a shard that is being dealt does not stop";
        has_stopped.then_some(()).ok_or_else(|| what.to_owned())
    }
}

/// Merges all that the old shards have into the new ones, and stops both; how many records it was. Where power fails after
/// so many, that is where it ends.
pub(super) fn move_all(
    old: &mut Side,
    new: &mut Side,
    (slices, fails_after): (Slices, Option<u64>),
) -> Result<u64, String> {
    let mut moved = 0;
    for at in 0..old.shards.len() {
        let mut cursor = 0;
        loop {
            let count = SCAN_COUNT;
            let (outcome, bytes) =
                old.ask(at, record_request(b"", b"", Op::Records { cursor, count }))?;
            let Outcome::Keys { next_cursor, keys } = outcome else {
                return Err(format!("a scan of an old shard failed: {outcome:?}"));
            };
            for record in listed(keys.of(&bytes)) {
                if fails_after == Some(moved) {
                    return Ok(moved);
                }
                let (bucket, key, object) = record.and_then(read_record).ok_or("no record")?;
                let request = record_request(bucket, key, Op::Merge { object });
                let to = usize::from(slices.shard_of(request.token).0);
                let (outcome, _) = new.ask(to, request)?;
                if !matches!(outcome, Outcome::Written { .. }) {
                    return Err(format!("a new shard does not take a record: {outcome:?}"));
                }
                moved += 1;
            }
            if next_cursor == 0 {
                break;
            }
            cursor = next_cursor;
        }
    }
    new.stop()?;
    old.stop()?;
    Ok(moved)
}
