//! Prefaces: the record that each batch begins with, about the log itself.
//!
//! ```text
//! object of a record with FLAG_CONTROL, no key, token 0
//!  0 u64 the batch that it is in
//!  8 u64 the batch before it, whose keys the roll lists; 0: there is no roll
//! 16 u32 keys in the roll
//! 20 u32 one more than the segments in the survey; 0: there is no survey
//! 24 u32 lost: segment      28 u32 lost: offset      32 u64 lost: generation; 0: nothing is
//! 40     roll: (u64 token, u16 tag)…
//!        survey: (u32 segment, u64 generation, u64 last batch)…
//! ```
//!
//! The **roll** lists the keys of the batch before, so that one damaged batch, or one damaged record header, still tells
//! which keys are unknown. It lies in the batch behind, not in the one that it lists, because what damages a batch's
//! headers (a lost write, a bad sector) takes its own footer with it; and a batch that has none behind it is the log's
//! end, where nothing was promised.
//!
//! The **survey**, in the first batch of a segment, lists the segments that are in use, so that a start without any
//! checkpoint knows a segment that was given back from one that is missing. It lies in the first batch because that is
//! what overwrites a segment that was given back: either the old use is still whole on the medium, or the survey that
//! leaves it out is there.

use crate::base::ids::{BatchNumber, SegmentId, Token};
use crate::store::format::{
    BATCH_HEADER_BYTES, BatchHeader, FLAG_CONTROL, FLAG_FRONTIER, Record, RecordHeader, Spot,
    record_bytes,
};
use crate::store::segment::SegmentUse;

/// The fixed part.
const HEAD_BYTES: usize = 40;
/// A key of the roll.
pub const ROLL_KEY_BYTES: usize = 10;
/// A segment of the survey.
pub const SURVEY_USE_BYTES: usize = 20;

/// The greatest place of the log at which records of keys that nobody can name were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostPlace {
    /// The use of the segment; 0: nothing was lost.
    pub generation: u64,
    /// The byte in it.
    pub offset: u32,
    /// The segment.
    pub segment: SegmentId,
}

impl LostPlace {
    /// Whether a record at this place may be older than one that was lost.
    pub const fn is_behind(&self, generation: u64, offset: u32) -> bool {
        generation < self.generation || generation == self.generation && offset < self.offset
    }

    /// Whether anything was lost.
    pub const fn is_any(&self) -> bool {
        self.generation > 0
    }

    /// The later of two.
    pub fn later(self, other: Self) -> Self {
        if self.is_behind(other.generation, other.offset) {
            self
        } else {
            other
        }
    }
}

/// A key as a roll names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RollKey {
    /// Its token.
    pub token: Token,
    /// 15 bits of its tag.
    pub tag15: u16,
}

impl RollKey {
    /// Its bytes.
    pub fn encode(self) -> [u8; ROLL_KEY_BYTES] {
        let mut out = [0; ROLL_KEY_BYTES];
        out[..8].copy_from_slice(&self.token.0.to_le_bytes());
        out[8..].copy_from_slice(&self.tag15.to_le_bytes());
        out
    }
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The batch that it is for.
    pub number: BatchNumber,
    /// The batch that the roll lists.
    pub roll_of: BatchNumber,
    /// Its keys, encoded.
    pub roll: &'a [u8],
    /// What is lost.
    pub lost: LostPlace,
}

/// The length of a preface's record.
pub const fn preface_bytes(roll_bytes: usize, segments: usize) -> usize {
    record_bytes(1 + HEAD_BYTES + roll_bytes + segments * SURVEY_USE_BYTES)
}

/// Appends the whole record, header and padding; a survey where there is one.
pub fn write_preface(
    out: &mut Vec<u8>,
    spot: Spot,
    draft: &Draft<'_>,
    survey: Option<impl Iterator<Item = SegmentUse>>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; crate::store::format::RECORD_HEADER_BYTES]);
    let body = out.len();
    out.push(0);
    out.extend_from_slice(&draft.number.0.to_le_bytes());
    out.extend_from_slice(&draft.roll_of.0.to_le_bytes());
    let keys = (draft.roll.len() / ROLL_KEY_BYTES) as u32;
    out.extend_from_slice(&keys.to_le_bytes());
    let segments_at = out.len();
    out.extend_from_slice(&0_u32.to_le_bytes());
    out.extend_from_slice(&draft.lost.segment.0.to_le_bytes());
    out.extend_from_slice(&draft.lost.offset.to_le_bytes());
    out.extend_from_slice(&draft.lost.generation.to_le_bytes());
    out.extend_from_slice(draft.roll);
    if let Some(survey) = survey {
        let mut segments: u32 = 1;
        for used in survey {
            out.extend_from_slice(&used.id.0.to_le_bytes());
            out.extend_from_slice(&used.generation.to_le_bytes());
            out.extend_from_slice(&used.last.0.to_le_bytes());
            segments += 1;
        }
        out[segments_at..segments_at + 4].copy_from_slice(&segments.to_le_bytes());
    }
    let header = RecordHeader {
        body_crc: crc32c::crc32c(&out[body..]),
        body_bytes: (out.len() - body) as u32,
        key_bytes: 0,
        tag15: 0,
        flags: FLAG_CONTROL,
        token: Token(0),
        fingerprint: 0,
    };
    let total = start + header.record_bytes();
    out[start..body].copy_from_slice(&header.encode(spot));
    out.resize(total, 0);
}

/// A preface, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Preface<'a> {
    /// The batch that it is in.
    pub number: BatchNumber,
    /// The batch that the roll lists.
    pub roll_of: BatchNumber,
    /// What is lost.
    pub lost: LostPlace,
    roll: &'a [u8],
    survey: Option<&'a [u8]>,
}

impl<'a> Preface<'a> {
    /// The preface that a verified record is; `None` when it is none.
    pub fn parse(record: &Record<'a>) -> Option<Self> {
        if record.header.flags & (FLAG_CONTROL | FLAG_FRONTIER) != FLAG_CONTROL {
            return None;
        }
        let (_, _, bytes) = record.split()?;
        let u32_at = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(
                bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
            ))
        };
        let u64_at = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(
                bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
            ))
        };
        let roll_bytes = (u32_at(16)? as usize).checked_mul(ROLL_KEY_BYTES)?;
        let rest = bytes.get(HEAD_BYTES..)?;
        let (roll, rest) = rest.split_at_checked(roll_bytes)?;
        let survey = match u32_at(20)?.checked_sub(1) {
            None => None,
            Some(segments) => {
                let survey_bytes = (segments as usize).checked_mul(SURVEY_USE_BYTES)?;
                Some(rest.get(..survey_bytes)?)
            }
        };
        Some(Self {
            number: BatchNumber(u64_at(0)?),
            roll_of: BatchNumber(u64_at(8)?),
            lost: LostPlace {
                segment: SegmentId(u32_at(24)?),
                offset: u32_at(28)?,
                generation: u64_at(32)?,
            },
            roll,
            survey,
        })
    }

    /// The preface of a batch whose bytes begin with its header.
    pub fn of_batch(header: &BatchHeader, batch: &'a [u8]) -> Option<Self> {
        let spot = Spot {
            generation: header.generation,
            offset: header.offset.checked_add(BATCH_HEADER_BYTES as u32)?,
        };
        let record = Record::verify(batch.get(BATCH_HEADER_BYTES..)?, spot).ok()?;
        Self::parse(&record)
    }

    /// The keys that the roll lists.
    pub fn roll(&self) -> impl Iterator<Item = RollKey> + 'a {
        let (keys, _) = self.roll.as_chunks::<ROLL_KEY_BYTES>();
        keys.iter().map(|key| {
            let [t0, t1, t2, t3, t4, t5, t6, t7, g0, g1] = *key;
            RollKey {
                token: Token(u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
                tag15: u16::from_le_bytes([g0, g1]) & 0x7fff,
            }
        })
    }

    /// The segments in use when the batch was begun but for its own; `None` where it has no survey.
    pub fn survey(&self) -> Option<impl Iterator<Item = SegmentUse> + 'a> {
        let (uses, _) = self.survey?.as_chunks::<SURVEY_USE_BYTES>();
        Some(uses.iter().map(|used| {
            let word = |at: usize| {
                used.get(at..)
                    .and_then(|rest| rest.first_chunk::<8>())
                    .map_or(0, |word| u64::from_le_bytes(*word))
            };
            SegmentUse {
                id: SegmentId(word(0) as u32),
                generation: word(4),
                last: BatchNumber(word(12)),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_reads_back_and_no_cut_one_is_believed() {
        let spot = Spot {
            generation: 3,
            offset: 64,
        };
        let keys = [
            RollKey {
                token: Token(u64::MAX),
                tag15: 0x7fff,
            },
            RollKey {
                token: Token(5),
                tag15: 1,
            },
        ];
        let uses = [
            SegmentUse {
                id: SegmentId(9),
                generation: 2,
                last: BatchNumber(77),
            },
            SegmentUse {
                id: SegmentId(u32::MAX),
                generation: u64::MAX,
                last: BatchNumber(0),
            },
        ];
        let roll: Vec<u8> = keys.iter().flat_map(|key| key.encode()).collect();
        let lost = LostPlace {
            generation: 1,
            offset: 4096,
            segment: SegmentId(4),
        };
        let draft = Draft {
            number: BatchNumber(12),
            roll_of: BatchNumber(11),
            roll: &roll,
            lost,
        };
        let mut out = Vec::new();
        write_preface(&mut out, spot, &draft, Some(uses.into_iter()));
        assert_eq!(out.len(), preface_bytes(roll.len(), uses.len()));
        let record = Record::verify(&out, spot).expect("verifies");
        let read = Preface::parse(&record).expect("a preface");
        assert_eq!(
            (read.number, read.roll_of, read.lost),
            (BatchNumber(12), BatchNumber(11), lost)
        );
        assert_eq!(read.roll().collect::<Vec<_>>(), keys);
        assert_eq!(
            read.survey().map(Iterator::collect::<Vec<_>>),
            Some(uses.to_vec())
        );
        for cut in 0..record.body.len() {
            let shorter = Record {
                header: record.header,
                body: &record.body[..cut],
            };
            assert!(Preface::parse(&shorter).is_none(), "{cut} bytes");
        }
        let mut plain = Vec::new();
        write_preface(&mut plain, spot, &draft, None::<core::iter::Empty<_>>);
        let record = Record::verify(&plain, spot).expect("verifies");
        let read = Preface::parse(&record).expect("a preface");
        assert!(read.survey().is_none());
    }

    #[test]
    fn what_lies_before_a_lost_place_is_behind_it() {
        let lost = LostPlace {
            generation: 5,
            offset: 512,
            segment: SegmentId(1),
        };
        assert!(lost.is_behind(4, 9000));
        assert!(lost.is_behind(5, 0));
        assert!(!lost.is_behind(5, 512));
        assert!(!lost.is_behind(6, 0));
        assert!(!LostPlace::default().is_behind(0, 0));
        assert_eq!(LostPlace::default().later(lost), lost);
        assert_eq!(lost.later(LostPlace::default()), lost);
    }
}
