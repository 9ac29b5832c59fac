//! Batches, records and checkpoints as a disk may bring them.

use gramme_core::base::ids::SegmentId;
use gramme_core::port::{FileId, Source as _};
use gramme_core::store::checkpoint::{CheckpointHeader, HEADER_BYTES, read_newest, shape};
use gramme_core::store::format::{
    BATCH_HEADER_BYTES, BatchHeader, FLAG_FRONTIER, RECORD_ALIGN, RECORD_HEADER_BYTES, Record,
    RecordHeader, Spot, owner, walk_batch,
};
use gramme_core::store::frontier::Noted;
use gramme_core::store::preface::Preface;
use gramme_core::version::ObjectView;

use super::host::{BLOCK, ME, config};
use super::recovery::image;
use crate::sim::disk::Disk;

/// A batch, its records, and what they say.
pub(super) fn batch(input: &[u8]) {
    for bytes in [input, &sealed_batch(input)] {
        let Some(header) = BatchHeader::decode(bytes) else {
            continue;
        };
        assert_eq!(
            header.encode(),
            bytes[..BATCH_HEADER_BYTES],
            "a header has one encoding"
        );
        let mut end = BATCH_HEADER_BYTES as u64;
        walk_batch(&header, bytes, |offset, record| {
            let at = u64::from(offset.wrapping_sub(header.offset));
            assert!(at >= end, "records do not overlap");
            let Ok(record) = record else { return };
            end = at + record.header.record_bytes() as u64;
            let spot = Spot {
                generation: header.generation,
                offset,
            };
            let place = at as usize;
            let written = record.header.encode(spot);
            assert_eq!(
                written,
                bytes[place..place + RECORD_HEADER_BYTES],
                "a record header has one encoding"
            );
            let (_, _, object) = record.split().expect("it was verified");
            let _ = ObjectView::parse(object).map(|view| view.siblings().count());
            if record.header.flags & FLAG_FRONTIER != 0 {
                let _ = Noted::read(&record);
            }
            if let Some(preface) = Preface::parse(&record) {
                let _ = (
                    preface.roll().count(),
                    preface.survey().map(Iterator::count),
                );
            }
            let trusted = Record::trusted(&bytes[place..]).expect("it was verified");
            assert_eq!(trusted.body, record.body);
        });
        if let Some(preface) = Preface::of_batch(&header, bytes) {
            let _ = preface.roll().count();
        }
    }
}

/// The batch with its checksums set right: the header's, and those of the records as far as their lengths lead.
pub(super) fn sealed_batch(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let Some(start) = bytes.get_mut(..BATCH_HEADER_BYTES) else {
        return bytes;
    };
    let is_cut = start[3] == b'X';
    let crc = crc32c::crc32c(&start[8..]) ^ if is_cut { u32::MAX } else { 0 };
    start[4..8].copy_from_slice(&crc.to_le_bytes());
    let Some(header) = BatchHeader::decode(&bytes) else {
        return bytes;
    };
    let end = bytes.len().min(header.bytes as usize);
    let mut at = BATCH_HEADER_BYTES;
    while at + RECORD_HEADER_BYTES <= end {
        let Some(mut record) = RecordHeader::unpack(&bytes[at..]) else {
            break;
        };
        let body_end = at + RECORD_HEADER_BYTES + record.body_bytes as usize;
        if record.body_bytes == 0 || body_end > end {
            at += RECORD_ALIGN;
            continue;
        }
        record.body_crc = crc32c::crc32c(&bytes[at + RECORD_HEADER_BYTES..body_end]);
        let spot = Spot {
            generation: header.generation,
            offset: header.offset.wrapping_add(at as u32),
        };
        bytes[at..at + RECORD_HEADER_BYTES].copy_from_slice(&record.encode(spot));
        at += record.record_bytes();
    }
    bytes
}

/// A checkpoint's file: what is taken of it is whole, in order and at possible places.
pub(super) fn checkpoint(input: &[u8]) {
    let config = config();
    let slices = config.slices;
    let owner = owner(ME, config.shard);
    let shape = shape(
        owner,
        slices.partitions(),
        slices.shards(),
        config.segment_bytes,
    );
    for bytes in [input, &sealed_checkpoint(input, shape)] {
        let mut disk = Disk::default();
        disk.put(FileId::Checkpoint(0), 0, bytes);
        let (mut entries, mut last) = (0, None);
        let newest = read_newest(
            &mut disk,
            BLOCK,
            shape,
            || {},
            |token, entry| {
                entries += 1;
                assert!(last.is_none_or(|last| last <= token), "tokens rise");
                assert_ne!(entry.place.0, 0);
                last = Some(token);
            },
        );
        let newest = newest.expect("a disk in memory reads");
        if let Some((_, header, _)) = newest.found {
            assert_eq!(header.entries, entries, "as many as it promises");
            assert_eq!(
                header.encode(),
                bytes[..HEADER_BYTES],
                "a header has one encoding"
            );
        }
        for (_, refused) in newest.refused {
            assert!(!refused.to_string().is_empty());
        }
    }
}

/// The file with its checksums, sums and shape set right.
pub(super) fn sealed_checkpoint(input: &[u8], shape: u64) -> Vec<u8> {
    let mut bytes = input.to_vec();
    if bytes.len() < HEADER_BYTES {
        return bytes;
    }
    let (mut at, mut sums) = (BLOCK, 0);
    while let Some(length) = bytes.get(at + 4..at + 8) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let end = at + 12 + length;
        if length == 0 || end > bytes.len() {
            break;
        }
        let crc = crc32c::crc32c(&bytes[at + 4..end]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        sums ^= crc;
        at = end.next_multiple_of(BLOCK);
    }
    bytes[64..72].copy_from_slice(&shape.to_le_bytes());
    bytes[76..80].copy_from_slice(&sums.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[12..HEADER_BYTES]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The first batches of a log, each from its header on.
pub(super) fn batch_seeds() -> Vec<Vec<u8>> {
    let mut disk = image().disk.clone();
    let mut seeds = Vec::new();
    for (id, length) in disk.segments() {
        for (at, header) in batches(&mut disk, id, length) {
            if seeds.len() < 24 {
                seeds.push(disk.read_some(FileId::Segment(id), at, header.bytes));
            }
        }
    }
    seeds
}

/// The checkpoints of a log.
pub(super) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let disk = &image().disk;
    let slots = [0, 1].map(|slot| disk.read_some(FileId::Checkpoint(slot), 0, 1 << 20));
    slots
        .into_iter()
        .filter_map(|bytes| {
            let header = CheckpointHeader::decode(&bytes)?;
            let end = BLOCK + header.body_bytes as usize;
            Some(bytes[..end.min(bytes.len())].to_vec())
        })
        .collect()
}

/// The places of a segment at which a batch begins.
pub(super) fn batches(disk: &mut Disk, id: SegmentId, length: u64) -> Vec<(u64, BatchHeader)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < length {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let read = disk.read(FileId::Segment(id), at, &mut bytes);
        let header = read.ok().and_then(|_| BatchHeader::decode(&bytes));
        if let Some(header) = header {
            found.push((at, header));
        }
        at += BLOCK as u64;
    }
    found
}
