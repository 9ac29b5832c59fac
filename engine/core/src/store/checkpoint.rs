//! Checkpoints: the index as bytes, so that a start replays only the log's tail.
//!
//! ```text
//! block 0                                     pieces, from block 1 on, each padded to a block
//!  0  8 bytes magic "GRMCKPT3"                 0 u32 crc32c of bytes 4..12+payload
//!  8  u32 crc32c of bytes 12..HEADER_BYTES     4 u32 payload bytes
//! 12  u32 flags (1: clean stop,               8 u32 kind: 1 segments in use, 2 entries
//!     2: keys without an entry are unknown)
//! 16  u64 sequence                            12     payload:
//! 24  u64 bytes of all pieces                    kind 1: (u32 segment, u32 0, u64 generation, u64 last batch)…
//! 32  u64 entries                                kind 2: (u64 token, u64 fingerprint, u64 place)…, tokens rise
//! 40  u64 replay: generation
//! 48  u64 replay: last batch
//! 56  u64 hlc ceiling
//! 64  u64 owner ‖ shape (folded)
//! 72  u32 replay: offset      76 u32 xor of the pieces' checksums
//! 80  u32 lost: segment       84 u32 lost: offset       88 u64 lost: generation; 0: nothing is
//! 96  u64 nothing was forgotten since this time of the hybrid clock
//! ```
//! The header is written last, when everything that the pieces name is on stable media: a checkpoint that was
//! interrupted has no valid header, or one whose sums do not fit. Two slots take turns, so one is always whole.
//!
//! The index is captured piece by piece while writes go on; entries captured late name records that lie behind the
//! replay's beginning, and the replay sets them right.

use core::fmt;

use crate::base::ids::{BatchNumber, SegmentId, Token};
use crate::port::{FileId, IoError, Source};
use crate::store::index::Entry;
use crate::store::place::{Place, SEGMENTS_MAX, TAGS};
use crate::store::preface::LostPlace;
use crate::store::recovery::ReplayFrom;
use crate::store::segment::SegmentUse;

/// The header's length; it has a block of its own.
pub const HEADER_BYTES: usize = 104;
/// A piece's header.
const PIECE_HEADER_BYTES: usize = 12;
/// A piece's greatest length, padding and all.
pub const PIECE_BYTES_MAX: usize = 1 << 20;
/// An entry's length.
pub const ENTRY_BYTES: usize = 24;
/// A segment in use.
const USE_BYTES: usize = 24;

// One piece has room for all entries of one token, and for all segments.
const _: () = assert!(PIECE_HEADER_BYTES + TAGS as usize * ENTRY_BYTES <= PIECE_BYTES_MAX);
const _: () = assert!(PIECE_HEADER_BYTES + SEGMENTS_MAX as usize * USE_BYTES <= PIECE_BYTES_MAX);

const MAGIC: &[u8; 8] = b"GRMCKPT3";
const FLAG_END: u32 = 1;
const FLAG_TAINTED: u32 = 2;
const KIND_SEGMENTS: u32 = 1;
const KIND_ENTRIES: u32 = 2;

/// What a checkpoint's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CheckpointHeader {
    /// The greater of two is the newer.
    pub sequence: u64,
    /// All pieces together.
    pub body_bytes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Xor of the pieces' checksums.
    pub sums: u32,
    /// The replay's beginning.
    pub replay_generation: u64,
    /// The byte in that segment.
    pub replay_offset: u32,
    /// The batch before it.
    pub replay_last: BatchNumber,
    /// No time after this was used.
    pub hlc_ceiling: u64,
    /// Whether the log ended there.
    pub is_end: bool,
    /// Node, shard, partitions, segment length, folded ([`shape`]).
    pub shape: u64,
    /// Where records of keys that nobody can name were lost: an entry of a record before it may be an older one.
    pub lost: LostPlace,
    /// Whether keys that have no entry are unknown.
    pub is_tainted: bool,
    /// The last start that may have forgotten writes which others have: births up to then are not continued.
    pub whole_since: u64,
}

/// What must be the same for a checkpoint to be this shard's.
pub fn shape(owner: u32, partitions: u32, shards: u16, segment_bytes: u32) -> u64 {
    // Side by side, so that no two shapes are the same before they are folded: partitions are a power of two.
    let low = u64::from(partitions.trailing_zeros()) << 48
        | u64::from(shards) << 32
        | u64::from(segment_bytes);
    (u64::from(owner) << 17) ^ low.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl CheckpointHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let flags = flag(self.is_end, FLAG_END) | flag(self.is_tainted, FLAG_TAINTED);
        out[12..16].copy_from_slice(&flags.to_le_bytes());
        for (at, value) in [
            (16, self.sequence),
            (24, self.body_bytes),
            (32, self.entries),
            (40, self.replay_generation),
            (48, self.replay_last.0),
            (56, self.hlc_ceiling),
            (64, self.shape),
            (88, self.lost.generation),
            (96, self.whole_since),
        ] {
            out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        out[72..76].copy_from_slice(&self.replay_offset.to_le_bytes());
        out[76..80].copy_from_slice(&self.sums.to_le_bytes());
        out[80..84].copy_from_slice(&self.lost.segment.0.to_le_bytes());
        out[84..88].copy_from_slice(&self.lost.offset.to_le_bytes());
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` when the bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let u32_at = |at: usize| {
            bytes
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_le_bytes)
        };
        let u64_at = |at: usize| {
            bytes
                .get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_le_bytes)
        };
        if bytes.get(..8)? != MAGIC || u32_at(8)? != crc32c::crc32c(bytes.get(12..)?) {
            return None;
        }
        let flags = u32_at(12)?;
        // What a later version means by another flag may change what the pieces mean.
        if flags & !(FLAG_END | FLAG_TAINTED) != 0 {
            return None;
        }
        Some(Self {
            is_end: flags & FLAG_END != 0,
            is_tainted: flags & FLAG_TAINTED != 0,
            lost: LostPlace {
                segment: SegmentId(u32_at(80)?),
                offset: u32_at(84)?,
                generation: u64_at(88)?,
            },
            sequence: u64_at(16)?,
            body_bytes: u64_at(24)?,
            entries: u64_at(32)?,
            replay_generation: u64_at(40)?,
            replay_last: BatchNumber(u64_at(48)?),
            hlc_ceiling: u64_at(56)?,
            whole_since: u64_at(96)?,
            shape: u64_at(64)?,
            replay_offset: u32_at(72)?,
            sums: u32_at(76)?,
        })
    }
}

fn seal_piece(out: &mut [u8], kind: u32) -> u32 {
    let payload = (out.len() - PIECE_HEADER_BYTES) as u32;
    out[4..8].copy_from_slice(&payload.to_le_bytes());
    out[8..12].copy_from_slice(&kind.to_le_bytes());
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Appends the piece that names the segments in use; returns its checksum.
pub fn write_segments(out: &mut Vec<u8>, in_use: &[SegmentUse]) -> u32 {
    let start = out.len();
    out.extend_from_slice(&[0; PIECE_HEADER_BYTES]);
    for used in in_use {
        out.extend_from_slice(&used.id.0.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&used.generation.to_le_bytes());
        out.extend_from_slice(&used.last.0.to_le_bytes());
    }
    seal_piece(&mut out[start..], KIND_SEGMENTS)
}

/// Appends a piece of entries, as many as fit, and no more tokens than it takes for `bytes_wanted`; returns its checksum,
/// how many, and the last token.
pub fn write_entries(
    out: &mut Vec<u8>,
    bytes_wanted: usize,
    entries: impl Iterator<Item = (Token, Entry)>,
) -> (u32, u64, Option<Token>) {
    let start = out.len();
    out.extend_from_slice(&[0; PIECE_HEADER_BYTES]);
    let (mut count, mut last) = (0, None);
    // Where the entries of the last token begin, how many were before, and of which token.
    let mut run = (out.len(), 0, None);
    for (token, entry) in entries {
        if last != Some(token) {
            if out.len() - start >= bytes_wanted {
                break;
            }
            run = (out.len(), count, last);
        }
        if out.len() - start + ENTRY_BYTES > PIECE_BYTES_MAX {
            // Entries of one token stay in one piece, so that a capture can go on after the last token.
            if last == Some(token) {
                out.truncate(run.0);
                (count, last) = (run.1, run.2);
            }
            break;
        }
        out.extend_from_slice(&token.0.to_le_bytes());
        out.extend_from_slice(&entry.fingerprint.to_le_bytes());
        out.extend_from_slice(&entry.place.0.to_le_bytes());
        count += 1;
        last = Some(token);
    }
    (seal_piece(&mut out[start..], KIND_ENTRIES), count, last)
}

/// Why a checkpoint is not used. State: unchanged; the other slot's is taken, or the whole log is replayed.
/// Operator: none of them comes from a crash alone where the newer one is concerned; look at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// Block 0 is neither empty nor a header.
    Header,
    /// Another node's or shard's, or one of other partitions, shards or segments.
    Shape {
        /// This shard's ([`shape`]).
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// The file ends within the piece that begins at this byte.
    Short {
        /// Byte of the file.
        at: u64,
    },
    /// The piece does not match its checksum.
    Checksum {
        /// Byte of the file.
        at: u64,
        /// What the piece says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// The piece is of no kind, its entries are out of order, or one of them names no place.
    Malformed {
        /// Byte of the file.
        at: u64,
    },
    /// The pieces verify, but are not those of the header: they are of another checkpoint.
    Totals {
        /// Entries that the header promises.
        expected: u64,
        /// Entries that are there.
        found: u64,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "its first block is not a checkpoint's header"),
            Self::Shape { .. } => write!(
                f,
                "it is of another node or shard, or of other partitions, shards or segments"
            ),
            Self::Short { at } => write!(f, "it ends within the piece at byte {at}"),
            Self::Checksum { at, .. } => write!(f, "the piece at byte {at} fails its checksum"),
            Self::Malformed { at } => write!(f, "the piece at byte {at} is malformed"),
            Self::Totals { expected, found } => write!(
                f,
                "its pieces are of another checkpoint: {found} entries where the header has {expected}"
            ),
        }
    }
}

/// What became of the two slots.
#[derive(Debug, Default)]
pub struct Newest {
    /// The newest whole one: its slot, its header, where the replay begins. `None`: there is none.
    pub found: Option<(u8, CheckpointHeader, ReplayFrom)>,
    /// Those that were looked at and not used.
    pub refused: Vec<(u8, CheckpointError)>,
}

enum Failure {
    Refused(CheckpointError),
    Io(IoError),
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        Self::Refused(error)
    }
}

/// Reads the newer of the two checkpoints that is whole; calls `each` with its entries in token order, and `restart`
/// before the entries of each slot that is tried, and when no slot's count after all.
///
/// # Errors
/// The device failed on a slot: whether it holds the newest is then unknown, and what an older one or the log alone
/// says may be what was deleted since.
pub fn read_newest(
    source: &mut dyn Source,
    block: usize,
    shape: u64,
    mut restart: impl FnMut(),
    mut each: impl FnMut(Token, Entry),
) -> Result<Newest, (u8, IoError)> {
    let mut newest = Newest::default();
    let mut whole_headers = Vec::new();
    for slot in 0..2 {
        let mut bytes = vec![0; block];
        let read = source
            .read(FileId::Checkpoint(slot), 0, &mut bytes)
            .map_err(|error| (slot, error))?;
        bytes.truncate(read);
        match CheckpointHeader::decode(&bytes) {
            Some(header) if header.shape == shape => whole_headers.push((slot, header)),
            Some(header) => newest.refused.push((
                slot,
                CheckpointError::Shape {
                    expected: shape,
                    found: header.shape,
                },
            )),
            // A file that was made and never finished is empty there.
            None if bytes.iter().all(|byte| *byte == 0) => {}
            None => newest.refused.push((slot, CheckpointError::Header)),
        }
    }
    whole_headers.sort_unstable_by_key(|(_, header)| core::cmp::Reverse(header.sequence));
    for (slot, header) in whole_headers {
        restart();
        match read_body(source, block, slot, &header, &mut each) {
            Ok(in_use) => {
                let from = ReplayFrom {
                    generation: header.replay_generation,
                    offset: header.replay_offset,
                    last: header.replay_last,
                    in_use,
                    is_end: header.is_end,
                };
                newest.found = Some((slot, header, from));
                return Ok(newest);
            }
            Err(Failure::Refused(error)) => newest.refused.push((slot, error)),
            Err(Failure::Io(error)) => return Err((slot, error)),
        }
    }
    restart();
    Ok(newest)
}

fn read_body(
    source: &mut dyn Source,
    block: usize,
    slot: u8,
    header: &CheckpointHeader,
    each: &mut impl FnMut(Token, Entry),
) -> Result<Vec<SegmentUse>, Failure> {
    let mut window = vec![0; (4 * PIECE_BYTES_MAX).next_multiple_of(block)];
    let (mut held, mut offset) = (0..0, 0u64);
    let (mut sums, mut entries, mut last) = (0, 0, None);
    let mut in_use = None;
    while offset < header.body_bytes {
        let at = (block as u64).saturating_add(offset);
        let is_more = offset.saturating_add(held.len() as u64) < header.body_bytes;
        if held.len() < PIECE_BYTES_MAX && is_more {
            let read = source
                .read(FileId::Checkpoint(slot), at, &mut window)
                .map_err(Failure::Io)?;
            held = 0..read.min(window.len());
        }
        let piece = Piece::parse(&window[held.clone()], at)?;
        sums ^= piece.crc;
        let malformed = CheckpointError::Malformed { at };
        match piece.kind {
            KIND_SEGMENTS => {
                let (uses, rest) = piece.body.as_chunks::<USE_BYTES>();
                if !rest.is_empty() || in_use.is_some() {
                    return Err(malformed.into());
                }
                let uses = uses.iter().map(|used| SegmentUse {
                    id: SegmentId(word(used, 0) as u32),
                    generation: word(used, 1),
                    last: BatchNumber(word(used, 2)),
                });
                in_use = Some(uses.collect());
            }
            KIND_ENTRIES => {
                let (slots, rest) = piece.body.as_chunks::<ENTRY_BYTES>();
                if !rest.is_empty() {
                    return Err(malformed.into());
                }
                for slot in slots {
                    let (token, place) = (Token(word(slot, 0)), Place(word(slot, 2)));
                    if last.is_some_and(|last| token < last) || place.0 == 0 {
                        return Err(malformed.into());
                    }
                    last = Some(token);
                    let fingerprint = word(slot, 1);
                    each(token, Entry { fingerprint, place });
                }
                entries += slots.len() as u64;
            }
            _ => return Err(malformed.into()),
        }
        let step = (PIECE_HEADER_BYTES + piece.body.len()).next_multiple_of(block);
        offset = offset.saturating_add(step as u64);
        held.start = (held.start + step).min(held.end);
    }
    let is_whole = sums == header.sums && entries == header.entries;
    in_use
        .filter(|_| is_whole)
        .ok_or(Failure::Refused(CheckpointError::Totals {
            expected: header.entries,
            found: entries,
        }))
}

/// The 64-bit word of that number.
fn word<const BYTES: usize>(bytes: &[u8; BYTES], number: usize) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words
        .get(number)
        .map_or(0, |word| u64::from_le_bytes(*word))
}

struct Piece<'a> {
    crc: u32,
    kind: u32,
    body: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The verified piece at the beginning of these bytes, which begin at that byte of the file.
    fn parse(bytes: &'a [u8], at: u64) -> Result<Self, CheckpointError> {
        let short = CheckpointError::Short { at };
        let (head, rest) = bytes
            .split_first_chunk::<PIECE_HEADER_BYTES>()
            .ok_or(short)?;
        let [crc, payload, kind] = [0, 1, 2].map(|number| {
            let (words, _) = head.as_chunks::<4>();
            u32::from_le_bytes(words[number])
        });
        let body = rest.get(..payload as usize).ok_or(short)?;
        let found = crc32c::crc32c_append(crc32c::crc32c(&head[4..]), body);
        if crc != found {
            return Err(CheckpointError::Checksum {
                at,
                expected: crc,
                found,
            });
        }
        Ok(Self { crc, kind, body })
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
