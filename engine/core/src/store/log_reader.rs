//! The log's files as a start reads them: windows of bytes, and the batch headers in them.

use crate::base::ids::{BatchNumber, SegmentId};
use crate::port::{FileId, IoError, Source};
use crate::store::format::{BATCH_HEADER_BYTES, BatchHeader};
use crate::store::preface::{Preface, RollKey};

/// Bytes read at once.
const WINDOW_BYTES: usize = 4 << 20;
/// How far behind a batch that is missing the next one may begin.
pub(super) const LOOK_AHEAD_BYTES: usize = 24 << 20;

/// Reads one shard's segments.
pub(super) struct LogReader<'s> {
    pub(super) source: &'s mut dyn Source,
    pub(super) block: usize,
    pub(super) owner: u32,
    /// The files and their lengths, sorted.
    files: Vec<(SegmentId, u64)>,
    window: Vec<u8>,
    /// How much of the window was read.
    held: usize,
    file: Option<SegmentId>,
    start: u64,
}

/// The keys of a batch, as the one behind it lists them.
pub(super) struct Roll {
    pub(super) of: BatchNumber,
    pub(super) keys: Vec<RollKey>,
}

impl<'s> LogReader<'s> {
    /// Of files with these lengths, sorted.
    pub(super) fn new(
        source: &'s mut dyn Source,
        files: &[(SegmentId, u64)],
        block: usize,
        owner: u32,
    ) -> Self {
        Self {
            source,
            files: files.to_vec(),
            block,
            owner,
            window: Vec::new(),
            held: 0,
            file: None,
            start: 0,
        }
    }

    fn length_of(&self, id: SegmentId) -> u64 {
        let found = self.files.binary_search_by_key(&id, |(file, _)| *file);
        found.map_or(0, |at| self.files[at].1)
    }

    /// At least `bytes` bytes at `offset` (fewer at the file's end).
    pub(super) fn at(
        &mut self,
        id: SegmentId,
        offset: u64,
        bytes: usize,
    ) -> Result<&[u8], (SegmentId, IoError)> {
        // A header's word for its length is not taken beyond the file.
        let left = self.length_of(id).saturating_sub(offset);
        let bytes = (bytes as u64).min(left) as usize;
        let held_to = self.start + self.held as u64;
        let is_held =
            self.file == Some(id) && self.start <= offset && offset + bytes as u64 <= held_to;
        if !is_held {
            let start = offset - offset % self.block as u64;
            let least = (offset - start) as usize + bytes;
            let least = least.max(WINDOW_BYTES).next_multiple_of(self.block);
            if self.window.len() < least {
                self.window = vec![0; least];
            }
            self.file = None;
            let read = self
                .source
                .read(FileId::Segment(id), start, &mut self.window)
                .map_err(|error| (id, error))?;
            self.held = read.min(self.window.len());
            (self.file, self.start) = (Some(id), start);
        }
        let from = offset.saturating_sub(self.start).min(self.held as u64) as usize;
        Ok(&self.window[from..self.held])
    }

    /// The first header of the segment's own (any generation, or that one) from `offset` on, within the look-ahead.
    pub(super) fn next_header(
        &mut self,
        (id, file_bytes): (SegmentId, u64),
        offset: u64,
        generation: Option<u64>,
    ) -> Result<Option<BatchHeader>, (SegmentId, IoError)> {
        let end = file_bytes.min(offset + LOOK_AHEAD_BYTES as u64);
        let owner = self.owner;
        let mut at = offset;
        while at + BATCH_HEADER_BYTES as u64 <= end {
            let header = BatchHeader::decode(self.at(id, at, BATCH_HEADER_BYTES)?);
            let is_its = |h: &BatchHeader| {
                h.owner == owner
                    && u64::from(h.offset) == at
                    && generation.is_none_or(|g| h.generation == g)
            };
            if let Some(header) = header.filter(is_its) {
                return Ok(Some(header));
            }
            at += self.block as u64;
        }
        Ok(None)
    }

    /// The greatest batch that one of the segment's batches up to `counted_upto` says was durable when it was closed.
    pub(super) fn promised_in(
        &mut self,
        file: (SegmentId, u64),
        first: &BatchHeader,
        counted_upto: u64,
    ) -> Result<u64, (SegmentId, IoError)> {
        let (mut promised, mut at) = (0, u64::from(first.offset));
        while let Some(found) = self.next_header(file, at, Some(first.generation))? {
            if found.number.0 <= counted_upto {
                promised = promised.max(found.durable.0);
            }
            let step = u64::from(found.bytes).next_multiple_of(self.block as u64);
            at = u64::from(found.offset) + step.max(self.block as u64);
        }
        Ok(promised)
    }

    /// The greatest number and ceiling of any of the segment's batches.
    pub(super) fn greatest_in(
        &mut self,
        file: (SegmentId, u64),
        first: &BatchHeader,
    ) -> Result<(u64, u64), (SegmentId, IoError)> {
        let (mut number, mut hlc_ceiling, mut at) = (0, 0, u64::from(first.offset));
        while let Some(found) = self.next_header(file, at, Some(first.generation))? {
            number = number.max(found.number.0);
            hlc_ceiling = hlc_ceiling.max(found.hlc_ceiling);
            let step = u64::from(found.bytes).next_multiple_of(self.block as u64);
            at = u64::from(found.offset) + step.max(self.block as u64);
        }
        Ok((number, hlc_ceiling))
    }

    /// What a batch's preface lists of the batch before it.
    pub(super) fn roll_in(
        &mut self,
        id: SegmentId,
        header: &BatchHeader,
    ) -> Result<Option<Roll>, (SegmentId, IoError)> {
        let bytes = self.at(id, u64::from(header.offset), header.bytes as usize)?;
        let preface = Preface::of_batch(header, bytes).filter(|p| p.roll_of.0 > 0);
        Ok(preface.map(|preface| Roll {
            of: preface.roll_of,
            keys: preface.roll().collect(),
        }))
    }
}
