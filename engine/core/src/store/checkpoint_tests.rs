//! Checkpoints as a start reads them: whole ones come back, anything else is refused, by name and place.

use super::*;
use crate::base::ids::ShardIndex;
use crate::port::IoKind;
use crate::ring::Slices;
use crate::store::index::Index;

const BLOCK: usize = 4096;
const SHAPE: u64 = 0x5a5a;

/// The two files, and which of their reads the device fails.
#[derive(Clone, Default)]
struct Files {
    slots: [Vec<u8>; 2],
    fails_from: [Option<u64>; 2],
}

impl Source for Files {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        Vec::new()
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let FileId::Checkpoint(slot) = file else {
            panic!("only checkpoints are read here, not {file:?}");
        };
        assert!((offset as usize).is_multiple_of(BLOCK) && into.len().is_multiple_of(BLOCK));
        let slot = usize::from(slot);
        let end = offset + into.len() as u64;
        if self.fails_from[slot].is_some_and(|from| end > from) {
            return Err(failed());
        }
        let bytes = self.slots[slot].get(offset as usize..).unwrap_or(&[]);
        let read = bytes.len().min(into.len());
        into[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }
}

fn failed() -> IoError {
    IoError {
        kind: IoKind::Failed,
        errno: 5,
    }
}

fn slices() -> Slices {
    Slices::new(8, 1).expect("valid")
}

fn entry(number: u64, tag15: u16) -> Entry {
    Entry {
        fingerprint: number.wrapping_mul(0x2545_f491_4f6c_dd1d),
        place: Place(((number & 0xffff) + 1) | (u64::from(tag15) << 49)),
    }
}

fn index_of(keys: u64) -> Index {
    let mut index = Index::new(slices(), ShardIndex(0));
    for number in 0..keys {
        let token = Token(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        index.put(token, 7, entry(number, 7));
    }
    index
}

fn in_use() -> [SegmentUse; 2] {
    [(3, 8, 70), (0, 9, 77)].map(|(id, generation, last)| SegmentUse {
        id: SegmentId(id),
        generation,
        last: BatchNumber(last),
    })
}

/// A checkpoint's file as the shard writes it: piece by piece, the header last.
fn file_of(index: &Index, sequence: u64) -> Vec<u8> {
    let mut file = vec![0; BLOCK];
    let mut header = CheckpointHeader {
        sequence,
        replay_generation: 9,
        replay_offset: 8192,
        replay_last: BatchNumber(77),
        hlc_ceiling: 123,
        shape: SHAPE,
        lost: LostPlace {
            generation: 4,
            offset: 512,
            segment: SegmentId(2),
        },
        is_tainted: true,
        ..CheckpointHeader::default()
    };
    header.sums ^= write_segments(&mut file, &in_use());
    file.resize(file.len().next_multiple_of(BLOCK), 0);
    let mut after = None;
    loop {
        let start = file.len();
        let (crc, count, last) = write_entries(&mut file, PIECE_BYTES_MAX, index.scan_after(after));
        assert!(
            file.len() - start <= PIECE_BYTES_MAX,
            "a piece fits its buffer"
        );
        header.sums ^= crc;
        header.entries += count;
        file.resize(file.len().next_multiple_of(BLOCK), 0);
        if count == 0 {
            break;
        }
        assert!(last > after, "each piece gets on");
        after = last;
    }
    header.body_bytes = (file.len() - BLOCK) as u64;
    file[..HEADER_BYTES].copy_from_slice(&header.encode());
    file
}

type Read = (Newest, Vec<(Token, Entry)>);

fn read(files: &mut Files) -> Result<Read, (u8, IoError)> {
    let entries = core::cell::RefCell::new(Vec::new());
    let newest = read_newest(
        files,
        BLOCK,
        SHAPE,
        || entries.borrow_mut().clear(),
        |token, entry| entries.borrow_mut().push((token, entry)),
    )?;
    Ok((newest, entries.into_inner()))
}

fn read_one(file: Vec<u8>) -> Read {
    let mut files = Files {
        slots: [file, Vec::new()],
        ..Files::default()
    };
    read(&mut files).expect("the device works")
}

#[test]
fn a_whole_checkpoint_comes_back_however_many_pieces_it_has() {
    for keys in [0, 1, 43_690, 43_691, 250_000] {
        let index = index_of(keys);
        let (newest, entries) = read_one(file_of(&index, 5));
        let (slot, header, from) = newest.found.expect("whole");
        assert_eq!((slot, header.sequence, header.entries), (0, 5, keys));
        assert_eq!(from.in_use, in_use());
        assert_eq!((header.lost.generation, header.is_tainted), (4, true));
        assert_eq!(
            (from.generation, from.offset, from.last, from.is_end),
            (9, 8192, BatchNumber(77), false)
        );
        assert!(index.scan_after(None).eq(entries), "{keys} keys");
        assert!(newest.refused.is_empty());
    }
}

#[test]
fn the_newer_of_two_is_taken_and_the_older_when_the_newer_is_damaged() {
    let (older, newer) = (index_of(100), index_of(200));
    let mut files = Files {
        slots: [file_of(&newer, 6), file_of(&older, 5)],
        ..Files::default()
    };
    let (newest, entries) = read(&mut files).expect("the device works");
    assert_eq!(newest.found.map(|found| found.0), Some(0));
    assert_eq!(entries.len(), 200);

    files.slots[0][2 * BLOCK + 50] ^= 1;
    let (newest, entries) = read(&mut files).expect("the device works");
    assert_eq!(newest.found.map(|found| found.0), Some(1));
    assert!(
        older.scan_after(None).eq(entries),
        "nothing of the damaged one is left"
    );
    let at = 2 * BLOCK as u64;
    assert!(
        matches!(newest.refused[..], [(0, CheckpointError::Checksum { at: found, .. })] if found == at),
        "{:?}",
        newest.refused
    );
}

#[test]
fn no_flipped_bit_is_overlooked() {
    let file = file_of(&index_of(60), 5);
    let piece_ends = [BLOCK + 12 + 32, 2 * BLOCK + 12 + 60 * 24, 3 * BLOCK + 12];
    let used = |at: &usize| {
        *at < HEADER_BYTES
            || (1..4).any(|piece| *at >= piece * BLOCK && *at < piece_ends[piece - 1])
    };
    for at in (0..file.len()).filter(used) {
        for bit in [0, 7] {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << bit;
            let (newest, _) = read_one(flipped);
            assert!(
                newest.found.is_none(),
                "bit {bit} of byte {at} was overlooked"
            );
            assert_eq!(newest.refused.len(), 1);
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = file_of(&index_of(60), 5);
    let end = 3 * BLOCK + PIECE_HEADER_BYTES;
    for bytes in (0..end)
        .step_by(509)
        .chain([HEADER_BYTES - 1, HEADER_BYTES, BLOCK, end - 1])
    {
        let (newest, _) = read_one(file[..bytes].to_vec());
        assert!(
            newest.found.is_none(),
            "{bytes} of {end} bytes were taken for all"
        );
    }
}

#[test]
fn pieces_of_another_checkpoint_under_a_whole_header_are_refused() {
    let (mut old, new) = (file_of(&index_of(60), 5), file_of(&index_of(61), 7));
    // The interrupted newer one wrote its pieces under the older one's header.
    old[BLOCK..].copy_from_slice(&new[BLOCK..]);
    let (newest, _) = read_one(old);
    assert!(newest.found.is_none());
    let totals = CheckpointError::Totals {
        expected: 60,
        found: 61,
    };
    assert_eq!(newest.refused, [(0, totals)]);
}

#[test]
fn what_is_no_checkpoint_or_another_shards_is_refused_by_name() {
    let (newest, _) = read_one(vec![0; 4 * BLOCK]);
    assert!(
        newest.found.is_none() && newest.refused.is_empty(),
        "made, never finished"
    );
    let (newest, _) = read_one(vec![0xa5; 4 * BLOCK]);
    assert_eq!(newest.refused, [(0, CheckpointError::Header)]);
    let foreign = CheckpointHeader {
        shape: 1,
        ..CheckpointHeader::default()
    };
    let (newest, _) = read_one(foreign.encode().to_vec());
    let error = CheckpointError::Shape {
        expected: SHAPE,
        found: 1,
    };
    assert_eq!(newest.refused, [(0, error)]);
}

#[test]
fn a_header_that_promises_the_whole_address_space_ends_in_a_refusal() {
    let mut file = file_of(&index_of(10), 5);
    let mut header = CheckpointHeader::decode(&file).expect("whole");
    header.body_bytes = u64::MAX;
    file[..HEADER_BYTES].copy_from_slice(&header.encode());
    let (newest, _) = read_one(file);
    assert!(matches!(
        newest.refused[..],
        [(0, CheckpointError::Short { .. })]
    ));
}

/// Goal: where the device fails, the newest may be the one that cannot be read; an older state is not taken for it.
#[test]
fn a_failed_read_is_never_taken_for_no_checkpoint() {
    let index = index_of(100);
    for (slot, from) in [(0, 0), (1, 0), (1, BLOCK as u64)] {
        let mut files = Files {
            slots: [file_of(&index, 5), file_of(&index, 6)],
            ..Files::default()
        };
        files.fails_from[slot] = Some(from);
        let error = read(&mut files).map(|_| ()).expect_err("the device failed");
        assert_eq!(error, (slot as u8, failed()));
    }
}

/// Goal: keys that were chosen to share a token neither overrun a piece nor stop a checkpoint.
#[test]
fn entries_of_one_token_stay_in_one_piece_wherever_it_fills_up() {
    let mut index = index_of(43_000);
    let token = Token(0xf000_0000_0000_0000);
    for tag in 0..20_000 {
        index.put(token, tag, entry(u64::from(tag), tag));
    }
    let (newest, entries) = read_one(file_of(&index, 5));
    assert_eq!(newest.found.map(|found| found.1.entries), Some(63_000));
    assert!(index.scan_after(None).eq(entries));
}

#[test]
fn shapes_that_differ_in_one_thing_differ() {
    let mut seen = Vec::new();
    for owner in [1, 2] {
        for partitions in (1..17).map(|bits| 1 << bits) {
            for shards in [1, 2, 3, 4, 8, 256, 512] {
                for segment_bytes in [1 << 20, 64 << 20, 256 << 20] {
                    seen.push(shape(owner, partitions, shards, segment_bytes));
                }
            }
        }
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn the_header_has_exactly_these_bytes() {
    let header = CheckpointHeader {
        sequence: 0x0102_0304_0506_0708,
        body_bytes: 0x1000,
        entries: 3,
        sums: 0xaabb_ccdd,
        replay_generation: 4,
        replay_offset: 0x2000,
        replay_last: BatchNumber(5),
        hlc_ceiling: 6,
        is_end: true,
        shape: 7,
        lost: LostPlace {
            generation: 10,
            offset: 512,
            segment: SegmentId(9),
        },
        is_tainted: true,
        whole_since: 7,
    };
    let mut golden = Vec::from(*b"GRMCKPT3");
    golden.extend_from_slice(&0xbe8b_d0a9u32.to_le_bytes());
    golden.extend_from_slice(&[3, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    golden.extend_from_slice(&[0, 0x10, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[0, 0x20, 0, 0, 0xdd, 0xcc, 0xbb, 0xaa]);
    golden.extend_from_slice(&[9, 0, 0, 0, 0, 2, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&7u64.to_le_bytes());
    assert_eq!(header.encode().as_slice(), golden);
    assert_eq!(CheckpointHeader::decode(&golden), Some(header));
}
