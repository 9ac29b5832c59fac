//! Frontiers: what each batch of one shard depends on in the logs of the node's other shards.
//!
//! Owns the record that lies behind the preface of each batch of a node with several shards, and what is noted for it while the batch
//! is open. Never decides what is lost (`store::cut`), never asks the other shards: the runtime tells what they have
//! begun (`Event::Begun`).
//!
//! ```text
//! body of the record, after the usual header with FLAG_CONTROL and FLAG_FRONTIER, no key
//!  0 u8  0, the length of the bucket's name     8 u64 tick
//!  1 u8  1: something in it was promised       16 u64 batch number
//!  2 u16 shards                                24 u64 greatest time of the hybrid clock in it
//!  4 u32 0                                     32 u64 for each shard: the greatest batch begun
//! ```
//!
//! Invariants:
//! - a write is appended after the shard was told of every batch begun before the write came, so whatever its client had
//!   been told of before lies in a batch that the frontier names, or in the shard's own log;
//! - ticks never fall, and whoever is told of a batch of some tick appends in that tick or a later one: a batch depends
//!   on batches of its own tick or earlier ones only, so losing one never undoes more than its tick.
//!
//! Why batch numbers and not ticks alone: a shard may write several batches in a tick, or none; whether the log of
//! another shard holds all that it had begun is only told by what it had begun.

use crate::base::ids::BatchNumber;
use crate::store::format::{Record, record_bytes};

/// The record's body before the shards' batches.
const BODY_FIXED_BYTES: usize = 32;
const FLAG_PROMISED: u8 = 1;

/// What the next batch depends on.
#[derive(Debug, Default)]
pub struct Frontier {
    /// The tick of what is appended now.
    pub tick: u64,
    /// The greatest time of the hybrid clock appended so far.
    pub hlc: u64,
    /// For each shard of the node the greatest batch that it had begun when the last write came; empty on a node with
    /// one.
    begun: Vec<u64>,
    /// The same, as far as is known now.
    seen: Vec<u64>,
}

impl Frontier {
    /// Of a node with so many shards, at this time of the hybrid clock.
    pub fn new(shards: u16, hlc: u64) -> Self {
        let begun = if shards > 1 {
            vec![0; usize::from(shards)]
        } else {
            Vec::new()
        };
        Self {
            seen: begun.clone(),
            begun,
            hlc,
            tick: 0,
        }
    }

    /// Whether batches depend on those of other shards at all.
    pub const fn is_shared(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Others have begun these batches, the last of them in this tick. What is open does not depend on them yet.
    pub fn see(&mut self, tick: u64, begun: &[u64]) {
        self.tick = self.tick.max(tick);
        for (held, seen) in self.seen.iter_mut().zip(begun) {
            *held = (*held).max(*seen);
        }
    }

    /// A write is appended, in the present tick: an open batch of an earlier one is closed.
    pub fn accept(&mut self) {
        self.begun.copy_from_slice(&self.seen);
    }

    /// Bytes of the record that each batch begins with.
    pub fn record_bytes(&self) -> usize {
        if self.is_shared() {
            record_bytes(self.body_bytes())
        } else {
            0
        }
    }

    /// Bytes of its body.
    pub fn body_bytes(&self) -> usize {
        BODY_FIXED_BYTES + 8 * self.begun.len()
    }

    /// The body for a batch of this tick and number that is closed now.
    pub fn write_body(
        &self,
        (tick, number): (u64, BatchNumber),
        is_promised: bool,
        out: &mut Vec<u8>,
    ) {
        let shards = self.begun.len() as u16;
        out.push(0);
        out.push(if is_promised { FLAG_PROMISED } else { 0 });
        out.extend_from_slice(&shards.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&tick.to_le_bytes());
        out.extend_from_slice(&number.0.to_le_bytes());
        out.extend_from_slice(&self.hlc.to_le_bytes());
        for batch in &self.begun {
            out.extend_from_slice(&batch.to_le_bytes());
        }
    }
}

/// A frontier as a log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The batch's tick.
    pub tick: u64,
    /// The batch.
    pub number: BatchNumber,
    /// The greatest time of the hybrid clock in it or before it.
    pub hlc: u64,
    /// Something in it was to be acknowledged as durable.
    pub is_promised: bool,
    /// For each shard the greatest batch that it had begun.
    pub begun: Box<[u64]>,
}

impl Noted {
    /// Reads the record of a batch; `None` when it is none.
    pub fn read(record: &Record<'_>) -> Option<Self> {
        let (fixed, begun) = record.body.split_at_checked(BODY_FIXED_BYTES)?;
        let u64_at = |at: usize| Some(u64::from_le_bytes(fixed.get(at..at + 8)?.try_into().ok()?));
        let shards = u16::from_le_bytes(fixed.get(2..4)?.try_into().ok()?);
        let (each, rest) = begun.as_chunks::<8>();
        if each.len() != usize::from(shards) || !rest.is_empty() {
            return None;
        }
        Some(Self {
            tick: u64_at(8)?,
            number: BatchNumber(u64_at(16)?),
            hlc: u64_at(24)?,
            is_promised: fixed.get(1)? & FLAG_PROMISED != 0,
            begun: each
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Token;
    use crate::store::format::{FLAG_FRONTIER, RecordHeader};

    #[test]
    fn a_frontier_reads_back_and_no_shorter_or_longer_body_does() {
        let mut frontier = Frontier::new(3, 0);
        frontier.see(7, &[4, 0, 9]);
        frontier.see(6, &[3, 2, 9]);
        frontier.accept();
        frontier.see(8, &[9, 9, 9]);
        frontier.hlc = 11;
        let mut body = Vec::new();
        frontier.write_body((7, BatchNumber(5)), true, &mut body);
        assert_eq!(body.len(), frontier.body_bytes());
        let header = RecordHeader {
            body_crc: 0,
            body_bytes: body.len() as u32,
            key_bytes: 0,
            tag15: 0,
            flags: FLAG_FRONTIER,
            token: Token(0),
            fingerprint: 0,
        };
        let read = |body: &[u8]| Noted::read(&Record { header, body });
        let noted = Noted {
            tick: 7,
            number: BatchNumber(5),
            hlc: 11,
            is_promised: true,
            begun: [4, 2, 9].into(),
        };
        assert_eq!(read(&body), Some(noted));
        for length in 0..body.len() {
            assert_eq!(read(&body[..length]), None, "{length} bytes");
        }
        body.push(0);
        assert_eq!(read(&body), None);
    }

    #[test]
    fn a_node_with_one_shard_notes_nothing() {
        let mut frontier = Frontier::new(1, 0);
        frontier.see(7, &[4]);
        assert_eq!((frontier.record_bytes(), frontier.tick), (0, 7));
    }
}
