//! A piece of a segment, as it is read in the background: the batches in it, and what is none.

use super::format::{BATCH_HEADER_BYTES, BatchHeader};

/// What lies at a place of a piece.
pub(crate) enum Part<'a> {
    /// A block in which no batch begins: the padding of a fault, or damage.
    Hole,
    /// A batch whose header verifies, from its header on.
    Batch(BatchHeader, &'a [u8]),
    /// A batch that goes on behind the piece: it must be read anew from here, with so many bytes. The last part.
    Longer(u32),
}

/// Goes through a piece of one use of a segment.
pub(crate) struct Piece<'a> {
    /// The segment's use, and how much of it the log has used.
    pub(crate) generation: u64,
    pub(crate) used_bytes: u32,
    pub(crate) block_bytes: u32,
    /// Where the piece begins in the segment.
    pub(crate) offset: u32,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The next part and its offset in the segment; `offset` is where the one behind it begins.
    pub(crate) fn next_part(&mut self) -> Option<(u32, Part<'a>)> {
        if self.bytes.is_empty() {
            return None;
        }
        let (here, block) = (self.offset, self.block_bytes as usize);
        let header = BatchHeader::decode(self.bytes)
            .filter(|header| header.generation == self.generation && header.offset == here);
        let Some(header) = header else {
            self.skip(block);
            return Some((here, Part::Hole));
        };
        let bytes = header.bytes as usize;
        if bytes > self.bytes.len() && here.saturating_add(header.bytes) <= self.used_bytes {
            self.bytes = &[];
            let wanted_bytes = header.bytes.next_multiple_of(self.block_bytes);
            return Some((here, Part::Longer(wanted_bytes)));
        }
        let batch = &self.bytes[..bytes.min(self.bytes.len())];
        self.skip(bytes.next_multiple_of(block).max(BATCH_HEADER_BYTES));
        Some((here, Part::Batch(header, batch)))
    }

    fn skip(&mut self, bytes: usize) {
        self.offset = self.offset.saturating_add(bytes as u32);
        self.bytes = self.bytes.get(bytes..).unwrap_or(&[]);
    }
}
