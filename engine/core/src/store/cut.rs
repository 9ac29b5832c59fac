//! The cut: where each shard's log must end after a crash, so that together they hold a prefix of what each client wrote.
//!
//! Owns the choice, from the last batches that each log holds. Never reads or writes a log: a start replays each log,
//! chooses, marks what is cut ([`BatchHeader::is_cut`](crate::store::format::BatchHeader)), and replays those logs anew.
//!
//! A batch goes when another shard has lost a batch that it depends on (`store::frontier`), and with it all behind it;
//! that again may take batches of other shards. What is left is the greatest set that holds everything it depends on.
//!
//! Invariants:
//! - nothing that was promised as durable goes, nor anything before it in its log;
//! - nothing older than [`WINDOW_MS`] before its own log's end goes: a log that ends so much earlier than others knew it
//!   was not torn by the crash but lost otherwise, and that is no reason to forget what others hold;
//! - nor is a log that is damaged a reason: what it lost is unknown, not undone.

use std::collections::VecDeque;

use crate::base::ids::{BatchNumber, SegmentId};
use crate::base::time::Hlc;
use crate::store::frontier::Noted;

/// How much of the end of a log may go: what a crash may take of buffered writes. That is the commit interval and as long as
/// a busy disk keeps a write, which may be much longer.
pub const WINDOW_MS: u64 = 2_000;

/// One of the last batches of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailBatch {
    /// Its segment.
    pub segment: SegmentId,
    /// Its byte there.
    pub offset: u32,
    /// What it depends on.
    pub noted: Noted,
}

/// The end of one shard's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The last batch that counts.
    pub last: BatchNumber,
    /// Places of the log are lost that were on stable media.
    pub is_damaged: bool,
    /// The batches of the window, oldest first, and one before them.
    pub batches: VecDeque<TailBatch>,
}

fn ms(batch: &TailBatch) -> u64 {
    Hlc(batch.noted.hlc).ms()
}

impl Tail {
    /// Takes the next batch of the log.
    pub fn push(&mut self, batch: TailBatch) {
        let end_ms = ms(&batch);
        self.batches.push_back(batch);
        while self
            .batches
            .get(1)
            .is_some_and(|second| ms(second) + WINDOW_MS < end_ms)
        {
            self.batches.pop_front();
        }
    }

    /// The first batch that may go.
    fn first_free(&self) -> usize {
        let promised = self
            .batches
            .iter()
            .rposition(|batch| batch.noted.is_promised);
        promised.map_or(0, |at| at + 1)
    }

    fn is_old(&self, at: usize) -> bool {
        let end_ms = self.batches.back().map_or(0, ms);
        self.batches
            .get(at)
            .is_some_and(|batch| ms(batch) + WINDOW_MS < end_ms)
    }
}

/// How many batches of each tail stay, from the oldest on.
pub fn consistent(tails: &[Tail]) -> Vec<usize> {
    let mut stay: Vec<usize> = tails.iter().map(|tail| tail.batches.len()).collect();
    let mut last: Vec<u64> = tails.iter().map(|tail| tail.last.0).collect();
    loop {
        let mut is_settled = true;
        for (shard, tail) in tails.iter().enumerate() {
            let is_met = |batch: &TailBatch| {
                let others = batch.noted.begun.iter().zip(&last).zip(tails).enumerate();
                batch.noted.begun.len() != tails.len()
                    || others
                        .filter(|(other, _)| *other != shard)
                        .all(|(_, ((begun, last), tail))| begun <= last || tail.is_damaged)
            };
            let free = tail.batches.iter().enumerate().take(stay[shard]);
            let unmet = free
                .skip(tail.first_free())
                .find(|(_, batch)| !is_met(batch));
            if let Some((at, batch)) = unmet
                && !tail.is_old(at)
            {
                stay[shard] = at;
                last[shard] = batch.noted.number.0.saturating_sub(1);
                is_settled = false;
            }
        }
        if is_settled {
            return stay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of two shards: its number, its millisecond, the other shards' batches.
    fn batch(number: u64, at_ms: u64, begun: &[u64]) -> TailBatch {
        TailBatch {
            segment: SegmentId(0),
            offset: number as u32 * 512,
            noted: Noted {
                tick: at_ms / 10,
                number: BatchNumber(number),
                hlc: Hlc::from_ms(at_ms).0,
                is_promised: false,
                begun: begun.into(),
            },
        }
    }

    fn promised(mut batch: TailBatch) -> TailBatch {
        batch.noted.is_promised = true;
        batch
    }

    fn tail(last: u64, batches: impl IntoIterator<Item = TailBatch>) -> Tail {
        let mut tail = Tail {
            last: BatchNumber(last),
            ..Tail::default()
        };
        batches.into_iter().for_each(|batch| tail.push(batch));
        tail
    }

    #[test]
    fn a_batch_goes_when_what_it_depends_on_is_lost_and_takes_others_with_it() {
        let a = tail(5, [batch(4, 1000, &[4, 2, 0]), batch(5, 1010, &[5, 3, 0])]);
        let b = tail(2, [batch(2, 1000, &[4, 2, 0])]);
        let c = tail(9, [batch(8, 1000, &[4, 0, 8]), batch(9, 1010, &[5, 0, 9])]);
        assert_eq!(consistent(&[a.clone(), b.clone(), c.clone()]), [1, 1, 1]);
        let whole = tail(3, [batch(2, 1000, &[4, 2, 0]), batch(3, 1010, &[4, 3, 0])]);
        assert_eq!(consistent(&[a, whole, c]), [2, 2, 2]);
    }

    #[test]
    fn what_was_promised_stays_and_what_lies_before_it() {
        let b = tail(2, []);
        let a = |last| {
            tail(
                6,
                [
                    batch(4, 1000, &[4, 3]),
                    promised(batch(5, 1010, &[5, 3])),
                    last,
                ],
            )
        };
        assert_eq!(consistent(&[a(batch(6, 1020, &[6, 3])), b.clone()]), [2, 0]);
        assert_eq!(
            consistent(&[a(batch(6, 1020, &[6, 2])), b]),
            [3, 0],
            "of a later run"
        );
    }

    #[test]
    fn a_shard_that_lost_more_than_a_crash_takes_is_no_reason() {
        let b = tail(2, []);
        let a = [
            batch(4, 1000, &[4, 3]),
            batch(5, 1100, &[5, 3]),
            batch(6, 1001 + WINDOW_MS, &[6, 3]),
        ];
        assert_eq!(consistent(&[tail(6, a), b]), [3, 0]);
        let damaged = Tail {
            is_damaged: true,
            ..tail(2, [])
        };
        assert_eq!(
            consistent(&[tail(4, [batch(4, 1000, &[4, 3])]), damaged]),
            [1, 0]
        );
    }

    #[test]
    fn a_tail_keeps_the_window_and_one_batch_before_it() {
        let batches = (0..WINDOW_MS).map(|number| batch(number, 1000 + 10 * number, &[0, 0]));
        let tail = tail(WINDOW_MS - 1, batches);
        assert_eq!(tail.batches.len() as u64, WINDOW_MS / 10 + 2);
        assert!(tail.is_old(0) && !tail.is_old(1));
    }

    #[test]
    fn a_batch_of_another_number_of_shards_depends_on_nothing() {
        let a = tail(4, [batch(4, 1000, &[4, 3, 8])]);
        assert_eq!(consistent(&[a, tail(2, [])]), [1, 0]);
    }
}
