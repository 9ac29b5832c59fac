//! The log's bytes: batches of records. Every decoder here is total on foreign bytes.
//!
//! A segment is a run of batches (group commits), each at a multiple of the block and padded with zeros to one:
//!
//! ```text
//! batch header, 64 bytes                     record, 8-byte aligned, any number
//!  0 u32 magic "GRMB", of a cut one "GRMX"    0 u32 header crc32c of bytes 4..32 ‖ generation ‖ offset
//!  4 u32 crc32c of bytes 8..64                4 u32 body crc32c
//!  8 u64 generation of the segment            8 u64 body bytes (28 bits) | key bytes (13) | key tag (15) | flags (8)
//! 16 u64 batch number                        16 u64 token
//! 24 u32 bytes, header and records           24 u64 fingerprint
//! 28 u32 records                             32     body: u8 bucket bytes ‖ bucket ("" is default) ‖ key ‖ object
//! 32 u64 greatest batch known as durable
//! 40 u64 hlc ceiling
//! 48 u64 number of the batch before it
//! 56 u32 owner: node and shard, folded
//! 60 u32 offset in the segment
//! ```
//!
//! Invariants:
//! - a record's header is bound to its segment's generation and its offset, so a block that was misdirected, lost or
//!   left from a former use never verifies;
//! - the header verifies alone, so that a damaged body still tells which key is unknown;
//! - a cut batch (`store::cut`) keeps its bytes but for magic and checksum: its number and its times stay taken.

use core::fmt;

use crate::base::ids::{BatchNumber, NodeId, ShardIndex, Token};
use crate::base::limits::BUCKET_DEFAULT;
use crate::base::mutant::{self, Mutant};

/// A batch header's length.
pub const BATCH_HEADER_BYTES: usize = 64;
/// A record header's length.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Records begin at multiples of this.
pub const RECORD_ALIGN: usize = 8;
/// A body's greatest length.
pub const BODY_BYTES_MAX: usize = (1 << 28) - 1;

/// The record is a tombstone.
pub const FLAG_TOMBSTONE: u8 = 1;
/// Something in the object expires.
pub const FLAG_EXPIRES: u8 = 2;
/// A record written later may have been lost: its key is unknown. Set by the cleaner when it copies such a record, whose
/// new place no longer tells; beside it `FLAG_EXPIRES` is set and `FLAG_TOMBSTONE` is not, so that every answer about the
/// key reads the record.
pub const FLAG_DOUBTFUL: u8 = 8;
/// The record is about the log itself (`store::preface`), of no key.
pub const FLAG_CONTROL: u8 = 128;
/// The record says what its batch depends on (`store::frontier`); beside it `FLAG_CONTROL` is set.
pub const FLAG_FRONTIER: u8 = 64;

/// Of a mark: every key of its partition that lies before it in the log is gone. Of a key's own record: the key is, and
/// nothing is in its place (`store::segment`, graves).
pub const FLAG_DROP: u8 = 4;

const MAGIC: u32 = u32::from_le_bytes(*b"GRMB");
const MAGIC_CUT: u32 = u32::from_le_bytes(*b"GRMX");

/// What a batch header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Which use of the segment.
    pub generation: u64,
    /// The batch.
    pub number: BatchNumber,
    /// Header and records, without the padding.
    pub bytes: u32,
    /// How many records.
    pub records: u32,
    /// The greatest batch that was on stable media when this one was closed.
    pub durable: BatchNumber,
    /// No time after this was used before the batch was on stable media.
    pub hlc_ceiling: u64,
    /// The batch before it.
    pub previous: BatchNumber,
    /// Node and shard, folded ([`owner`]).
    pub owner: u32,
    /// Where it lies in its segment.
    pub offset: u32,
    /// A start has cut it and everything behind it: other shards lost what it depends on.
    pub is_cut: bool,
}

/// Node and shard in 32 bits: tells a foreign segment.
pub fn owner(node: NodeId, shard: ShardIndex) -> u32 {
    let mixed = (node.0 ^ u64::from(shard.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 32) as u32
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

impl BatchHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        let magic = if self.is_cut { MAGIC_CUT } else { MAGIC };
        out[0..4].copy_from_slice(&magic.to_le_bytes());
        out[8..16].copy_from_slice(&self.generation.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.records.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.hlc_ceiling.to_le_bytes());
        out[48..56].copy_from_slice(&self.previous.0.to_le_bytes());
        out[56..60].copy_from_slice(&self.owner.to_le_bytes());
        out[60..64].copy_from_slice(&self.offset.to_le_bytes());
        // Of a cut one the other way round: one flipped bit in the magic makes neither of the other.
        let crc = crc32c::crc32c(&out[8..]) ^ if self.is_cut { u32::MAX } else { 0 };
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` when the bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES)?;
        let crc = crc32c::crc32c(bytes.get(8..)?);
        let is_cut = match u32_at(bytes, 0)? {
            MAGIC => false,
            MAGIC_CUT => true,
            _ => return None,
        };
        if u32_at(bytes, 4)? != crc ^ if is_cut { u32::MAX } else { 0 } {
            return None;
        }
        let header = Self {
            generation: u64_at(bytes, 8)?,
            number: BatchNumber(u64_at(bytes, 16)?),
            bytes: u32_at(bytes, 24)?,
            records: u32_at(bytes, 28)?,
            durable: BatchNumber(u64_at(bytes, 32)?),
            hlc_ceiling: u64_at(bytes, 40)?,
            previous: BatchNumber(u64_at(bytes, 48)?),
            owner: u32_at(bytes, 56)?,
            offset: u32_at(bytes, 60)?,
            is_cut,
        };
        (header.bytes as usize >= BATCH_HEADER_BYTES).then_some(header)
    }
}

/// What a record header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The body's checksum.
    pub body_crc: u32,
    /// The body's length.
    pub body_bytes: u32,
    /// The key's length.
    pub key_bytes: u16,
    /// 15 bits of the key's tag.
    pub tag15: u16,
    /// `FLAG_…`.
    pub flags: u8,
    /// The key's token.
    pub token: Token,
    /// The object's fingerprint.
    pub fingerprint: u64,
}

/// Where a record lies: what its header is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The use of the segment.
    pub generation: u64,
    /// The byte in the segment.
    pub offset: u32,
}

/// A record that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer bytes than the record has.
    Short,
    /// The header does not verify at this spot.
    Header,
    /// The body does not verify; the header does.
    Body(RecordHeader),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "the record ends before its length"),
            Self::Header => write!(f, "the record's header does not verify"),
            Self::Body(header) => write!(
                f,
                "the body of the record of token {} does not verify",
                header.token
            ),
        }
    }
}

impl RecordHeader {
    /// The record's length with its padding.
    pub const fn record_bytes(&self) -> usize {
        record_bytes(self.body_bytes as usize)
    }

    /// Its bytes at a spot.
    pub fn encode(&self, spot: Spot) -> [u8; RECORD_HEADER_BYTES] {
        let packed = u64::from(self.body_bytes)
            | (u64::from(self.key_bytes) << 28)
            | (u64::from(self.tag15) << 41)
            | (u64::from(self.flags) << 56);
        let mut out = [0; RECORD_HEADER_BYTES];
        out[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        out[8..16].copy_from_slice(&packed.to_le_bytes());
        out[16..24].copy_from_slice(&self.token.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.fingerprint.to_le_bytes());
        let crc = header_crc(&out, spot);
        out[0..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads and verifies a header at its spot.
    ///
    /// # Errors
    /// [`RecordError::Short`] and [`RecordError::Header`].
    pub fn decode(bytes: &[u8], spot: Spot) -> Result<Self, RecordError> {
        let bytes: &[u8; RECORD_HEADER_BYTES] = bytes
            .get(..RECORD_HEADER_BYTES)
            .and_then(|b| b.try_into().ok())
            .ok_or(RecordError::Short)?;
        if u32_at(bytes, 0) != Some(header_crc(bytes, spot)) {
            return Err(RecordError::Header);
        }
        Self::unpack(bytes).ok_or(RecordError::Header)
    }

    /// Reads a header that this process wrote or verified before.
    pub fn unpack(bytes: &[u8]) -> Option<Self> {
        let packed = u64_at(bytes, 8)?;
        Some(Self {
            body_crc: u32_at(bytes, 4)?,
            body_bytes: (packed & ((1 << 28) - 1)) as u32,
            key_bytes: ((packed >> 28) & 0x1fff) as u16,
            tag15: ((packed >> 41) & 0x7fff) as u16,
            flags: (packed >> 56) as u8,
            token: Token(u64_at(bytes, 16)?),
            fingerprint: u64_at(bytes, 24)?,
        })
    }
}

fn header_crc(header: &[u8; RECORD_HEADER_BYTES], spot: Spot) -> u32 {
    let mut bound = [0; RECORD_HEADER_BYTES + 8];
    bound[..28].copy_from_slice(&header[4..]);
    if !mutant::is(Mutant::PlaceUnchecked) {
        bound[28..36].copy_from_slice(&spot.generation.to_le_bytes());
        bound[36..40].copy_from_slice(&spot.offset.to_le_bytes());
    }
    crc32c::crc32c(&bound)
}

/// The length of a record with a body of this length.
pub const fn record_bytes(body_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + body_bytes).next_multiple_of(RECORD_ALIGN)
}

/// A bucket's name as a record has it: the default one costs nothing.
pub fn stored_bucket(bucket: &[u8]) -> &[u8] {
    if bucket == BUCKET_DEFAULT {
        b""
    } else {
        bucket
    }
}

/// The bucket's name by what a record has of it.
pub fn bucket_named(stored: &[u8]) -> &[u8] {
    if stored.is_empty() {
        BUCKET_DEFAULT
    } else {
        stored
    }
}

/// A record in memory, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads and verifies the record at the start of `bytes`, which lies at `spot`.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn verify(bytes: &'a [u8], spot: Spot) -> Result<Self, RecordError> {
        let header = RecordHeader::decode(bytes, spot)?;
        let body = bytes
            .get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + header.body_bytes as usize)
            .ok_or(RecordError::Short)?;
        if crc32c::crc32c(body) != header.body_crc {
            return Err(RecordError::Body(header));
        }
        let record = Self { header, body };
        if record.split().is_none() {
            return Err(RecordError::Body(header));
        }
        Ok(record)
    }

    /// Reads the record at the start of `bytes`, which this process wrote or verified before.
    pub fn trusted(bytes: &'a [u8]) -> Option<Self> {
        let header = RecordHeader::unpack(bytes)?;
        let body =
            bytes.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + header.body_bytes as usize)?;
        Some(Self { header, body })
    }

    /// Bucket as stored, key and object.
    pub fn split(&self) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let (bucket_bytes, rest) = self.body.split_first()?;
        let (bucket, rest) = rest.split_at_checked(usize::from(*bucket_bytes))?;
        let (key, object) = rest.split_at_checked(usize::from(self.header.key_bytes))?;
        Some((bucket, key, object))
    }

    /// Whether a later record of its key may have been lost.
    pub const fn is_doubtful(&self) -> bool {
        self.header.flags & FLAG_DOUBTFUL != 0
    }

    /// The object, when the record is of this bucket and key.
    pub fn object_of(&self, bucket: &[u8], key: &[u8]) -> Option<&'a [u8]> {
        let (stored, found, object) = self.split()?;
        (found == key && stored == stored_bucket(bucket)).then_some(object)
    }
}

/// Calls `each` for every record of a batch whose header verified, with its offset in the segment; a record that does
/// not verify is told, and the walk goes on at the next place where one does. `bytes` is the batch from its header on.
pub fn walk_batch<'a>(
    header: &BatchHeader,
    bytes: &'a [u8],
    mut each: impl FnMut(u32, Result<Record<'a>, RecordError>),
) {
    let end = (header.bytes as usize).min(bytes.len());
    let mut at = BATCH_HEADER_BYTES;
    let mut lost_from = None;
    while at + RECORD_HEADER_BYTES <= end {
        let offset = header.offset.wrapping_add(at as u32);
        let spot = Spot {
            generation: header.generation,
            offset,
        };
        match Record::verify(&bytes[at..end], spot) {
            Ok(record) => {
                lost_from = None;
                each(offset, Ok(record));
                at += record.header.record_bytes();
            }
            Err(RecordError::Body(found)) => {
                lost_from = None;
                each(offset, Err(RecordError::Body(found)));
                at += found.record_bytes();
            }
            Err(error) => {
                if lost_from.is_none() {
                    lost_from = Some(at);
                    each(offset, Err(error));
                }
                at += RECORD_ALIGN;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            generation: 7,
            number: BatchNumber(9),
            bytes: 64,
            records: 0,
            durable: BatchNumber(8),
            hlc_ceiling: 11,
            previous: BatchNumber(8),
            owner: 3,
            offset: 4096,
            is_cut: false,
        }
    }

    fn record(body: &[u8], key_bytes: u16, spot: Spot) -> Vec<u8> {
        let header = RecordHeader {
            body_crc: crc32c::crc32c(body),
            body_bytes: body.len() as u32,
            key_bytes,
            tag15: 0x7abc,
            flags: FLAG_EXPIRES,
            token: Token(5),
            fingerprint: 6,
        };
        let mut out = header.encode(spot).to_vec();
        out.extend_from_slice(body);
        out.resize(record_bytes(body.len()), 0);
        out
    }

    #[test]
    fn a_batch_header_reads_back_and_no_flipped_bit_passes() {
        let bytes = header().encode();
        assert_eq!(&bytes[..4], b"GRMB");
        assert_eq!(BatchHeader::decode(&bytes), Some(header()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&bad), None, "bit {bit}");
        }
        let cut = BatchHeader {
            is_cut: true,
            ..header()
        };
        let cut_bytes = cut.encode();
        assert_eq!(BatchHeader::decode(&cut_bytes), Some(cut));
        assert_eq!(&cut_bytes[8..], &bytes[8..], "only magic and checksum");
    }

    #[test]
    fn a_record_verifies_only_whole_and_only_at_its_spot() {
        let spot = Spot {
            generation: 7,
            offset: 64,
        };
        let bytes = record(b"\0keyobject", 3, spot);
        let read = Record::verify(&bytes, spot).expect("verifies");
        assert_eq!(
            read.object_of(b"default", b"key"),
            Some(b"object".as_slice())
        );
        assert_eq!(read.object_of(b"other", b"key"), None);
        assert_eq!(
            (read.header.tag15, read.header.flags),
            (0x7abc, FLAG_EXPIRES)
        );
        assert!(
            Record::verify(
                &bytes,
                Spot {
                    offset: 128,
                    ..spot
                }
            )
            .is_err(),
            "moved"
        );
        assert!(
            Record::verify(
                &bytes,
                Spot {
                    generation: 8,
                    ..spot
                }
            )
            .is_err(),
            "left from a former use"
        );
        for bit in 0..(RECORD_HEADER_BYTES + 10) * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::verify(&bad, spot).is_err(), "bit {bit}");
        }
        for length in 0..RECORD_HEADER_BYTES + 10 {
            assert!(
                Record::verify(&bytes[..length], spot).is_err(),
                "cut at {length}"
            );
        }
    }

    #[test]
    fn a_walk_tells_the_damaged_record_and_finds_the_ones_behind_it() {
        let mut head = header();
        let mut batch = vec![0; BATCH_HEADER_BYTES];
        for body in [b"\0k1first".as_slice(), b"\0k2second", b"\0k3third"] {
            let offset = head.offset + batch.len() as u32;
            batch.extend(record(
                body,
                2,
                Spot {
                    generation: head.generation,
                    offset,
                },
            ));
        }
        head.bytes = batch.len() as u32;
        let seen = |batch: &[u8]| {
            let mut seen = Vec::new();
            walk_batch(&head, batch, |_, record| {
                seen.push(record.map(|r| {
                    r.split()
                        .map(|(_, key, _)| key.to_vec())
                        .unwrap_or_default()
                }));
            });
            seen
        };
        assert_eq!(seen(&batch).iter().filter(|r| r.is_ok()).count(), 3);
        let second = BATCH_HEADER_BYTES + record_bytes(8);
        let mut body_bad = batch.clone();
        body_bad[second + RECORD_HEADER_BYTES + 4] ^= 1;
        assert!(matches!(
            seen(&body_bad)[..],
            [Ok(_), Err(RecordError::Body(_)), Ok(_)]
        ));
        let mut header_bad = batch;
        header_bad[second + 9] ^= 1;
        assert!(matches!(
            seen(&header_bad)[..],
            [Ok(_), Err(RecordError::Header), Ok(_)]
        ));
    }
}
