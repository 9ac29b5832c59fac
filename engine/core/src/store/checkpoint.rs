//! Checkpoints: the index as bytes, so that a start replays only the log's tail.
//!
//! ```text
//! block 0                                     pieces, from block 1 on, each padded to a block
//!  0  8 bytes magic "GRMCKPT1"                 0 u32 crc32c of bytes 4..12+payload
//!  8  u32 crc32c of bytes 12..HEADER_BYTES     4 u32 payload bytes
//! 12  u32 flags (1: clean stop)                8 u32 kind: 1 segments in use, 2 entries
//! 16  u64 sequence                            12     payload:
//! 24  u64 bytes of all pieces                    kind 1: (u32 segment, u32 0, u64 generation)…
//! 32  u64 entries                                kind 2: (u64 token, u64 fingerprint, u64 place)…, tokens rise
//! 40  u64 replay: generation
//! 48  u64 replay: last batch
//! 56  u64 hlc ceiling
//! 64  u64 owner ‖ shape (folded)
//! 72  u32 replay: offset      76 u32 xor of the pieces' checksums
//! ```
//! The header is written last, when everything that the pieces name is on stable media: a checkpoint that was
//! interrupted has no valid header, or one whose sums do not fit. Two slots take turns, so one is always whole.
//!
//! The index is captured piece by piece while writes go on; entries captured late name records that lie behind the
//! replay's beginning, and the replay sets them right.

use crate::base::ids::{BatchNumber, SegmentId, Token};
use crate::port::{FileId, IoError, Source};
use crate::store::index::Entry;
use crate::store::place::Place;
use crate::store::recovery::ReplayFrom;

/// The header's length; it has a block of its own.
pub const HEADER_BYTES: usize = 80;
/// A piece's header.
const PIECE_HEADER_BYTES: usize = 12;
/// A piece's greatest length, padding and all.
pub const PIECE_BYTES_MAX: usize = 1 << 20;
/// An entry's length.
pub const ENTRY_BYTES: usize = 24;

const MAGIC: &[u8; 8] = b"GRMCKPT1";
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
}

/// What must be the same for a checkpoint to be this shard's.
pub fn shape(owner: u32, partitions: u32, shards: u16, segment_bytes: u32) -> u64 {
    let low = u64::from(partitions) << 32 | u64::from(shards) << 40 ^ u64::from(segment_bytes);
    (u64::from(owner) << 17) ^ low.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl CheckpointHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[12..16].copy_from_slice(&u32::from(self.is_end).to_le_bytes());
        for (at, value) in [
            (16, self.sequence),
            (24, self.body_bytes),
            (32, self.entries),
            (40, self.replay_generation),
            (48, self.replay_last.0),
            (56, self.hlc_ceiling),
            (64, self.shape),
        ] {
            out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        out[72..76].copy_from_slice(&self.replay_offset.to_le_bytes());
        out[76..80].copy_from_slice(&self.sums.to_le_bytes());
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
        Some(Self {
            is_end: u32_at(12)? & 1 == 1,
            sequence: u64_at(16)?,
            body_bytes: u64_at(24)?,
            entries: u64_at(32)?,
            replay_generation: u64_at(40)?,
            replay_last: BatchNumber(u64_at(48)?),
            hlc_ceiling: u64_at(56)?,
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
pub fn write_segments(out: &mut Vec<u8>, in_use: &[(SegmentId, u64)]) -> u32 {
    let start = out.len();
    out.extend_from_slice(&[0; PIECE_HEADER_BYTES]);
    for (id, generation) in in_use {
        out.extend_from_slice(&id.0.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&generation.to_le_bytes());
    }
    seal_piece(&mut out[start..], KIND_SEGMENTS)
}

/// Appends a piece of entries, as many as fit; returns its checksum, how many, and the last token.
pub fn write_entries(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = (Token, Entry)>,
) -> (u32, u64, Option<Token>) {
    let start = out.len();
    out.extend_from_slice(&[0; PIECE_HEADER_BYTES]);
    let (mut count, mut last) = (0, None);
    for (token, entry) in entries {
        // Entries of one token stay in one piece, so that a capture can go on after the last token.
        let is_full = out.len() - start + 4 * ENTRY_BYTES > PIECE_BYTES_MAX;
        if is_full && last != Some(token) {
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

/// Reads the newer of the two checkpoints that is whole; calls `each` with its entries in token order, and `restart`
/// before the entries of each slot that is tried. `None` when neither is.
pub fn read_newest(
    source: &mut dyn Source,
    block: usize,
    shape: u64,
    mut restart: impl FnMut(),
    mut each: impl FnMut(Token, Entry),
) -> Result<Option<(u8, CheckpointHeader, ReplayFrom)>, (u8, IoError)> {
    let mut found = Vec::new();
    for slot in 0..2 {
        let mut bytes = vec![0; block];
        let read = source
            .read(FileId::Checkpoint(slot), 0, &mut bytes)
            .unwrap_or(0);
        if let Some(header) =
            CheckpointHeader::decode(&bytes[..read]).filter(|header| header.shape == shape)
        {
            found.push((header.sequence, slot, header));
        }
    }
    found.sort_unstable_by_key(|(sequence, ..)| core::cmp::Reverse(*sequence));
    for (_, slot, header) in found {
        restart();
        if let Some(in_use) = read_body(source, block, slot, &header, &mut each) {
            let from = ReplayFrom {
                generation: header.replay_generation,
                offset: header.replay_offset,
                last: header.replay_last,
                in_use,
                is_end: header.is_end,
            };
            return Ok(Some((slot, header, from)));
        }
    }
    restart();
    Ok(None)
}

fn read_body(
    source: &mut dyn Source,
    block: usize,
    slot: u8,
    header: &CheckpointHeader,
    each: &mut impl FnMut(Token, Entry),
) -> Option<Vec<(SegmentId, u64)>> {
    let mut window = vec![0; (4 * PIECE_BYTES_MAX).next_multiple_of(block)];
    let (mut held, mut at) = (0..0, 0u64);
    let (mut sums, mut entries, mut last) = (0, 0, None);
    let mut in_use = None;
    while at < header.body_bytes {
        if held.len() < PIECE_BYTES_MAX && at + (held.len() as u64) < header.body_bytes {
            let read = source
                .read(FileId::Checkpoint(slot), block as u64 + at, &mut window)
                .ok()?;
            held = 0..read;
        }
        let piece = &window[held.clone()];
        let payload = u32::from_le_bytes(piece.get(4..8)?.try_into().ok()?) as usize;
        let whole = piece.get(..PIECE_HEADER_BYTES.checked_add(payload)?)?;
        let crc = crc32c::crc32c(whole.get(4..)?);
        if whole.get(..4)? != crc.to_le_bytes() {
            return None;
        }
        sums ^= crc;
        let body = whole.get(PIECE_HEADER_BYTES..)?;
        let word = |bytes: &[u8], at: usize| {
            bytes
                .get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_le_bytes)
        };
        match u32::from_le_bytes(whole.get(8..12)?.try_into().ok()?) {
            KIND_SEGMENTS => {
                let pairs = body
                    .chunks_exact(16)
                    .map(|pair| Some((SegmentId(word(pair, 0)? as u32), word(pair, 8)?)));
                in_use = Some(pairs.collect::<Option<Vec<_>>>()?);
            }
            KIND_ENTRIES => {
                for entry in body.chunks_exact(ENTRY_BYTES) {
                    let (token, place) = (Token(word(entry, 0)?), Place(word(entry, 16)?));
                    if last.is_some_and(|last| token < last) || place.0 == 0 {
                        return None;
                    }
                    last = Some(token);
                    each(
                        token,
                        Entry {
                            fingerprint: word(entry, 8)?,
                            place,
                        },
                    );
                    entries += 1;
                }
            }
            _ => return None,
        }
        let step = (whole.len()).next_multiple_of(block);
        at += step as u64;
        held.start = (held.start + step).min(held.end);
    }
    let is_whole = sums == header.sums && entries == header.entries;
    if is_whole { in_use } else { None }
}
