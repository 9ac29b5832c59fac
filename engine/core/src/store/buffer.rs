//! Log buffers: aligned memory that a group commit is built in, written from, and read from afterwards.
//!
//! A buffer is never moved or grown after it was made, so a write that the kernel carries out from it stays valid while
//! later records are appended behind. Filled buffers stay as the log's readable tail, oldest evicted first.
//!
//! Invariants:
//! - `filled() <= room`, always; bytes once appended change only by [`LogBuffer::patch`] before their batch is written;
//! - the first byte's address is a multiple of the block.

use crate::base::ids::SegmentId;

/// One piece of a segment in memory.
#[derive(Debug)]
pub struct LogBuffer {
    bytes: Vec<u8>,
    skipped: usize,
    room: usize,
    /// The segment that it is a piece of.
    pub segment: SegmentId,
    /// The use of the segment that its records are bound to.
    pub generation: u64,
    /// Where in it.
    pub offset: u32,
}

impl LogBuffer {
    /// A buffer of `room` bytes at a multiple of `block`.
    pub fn new(room: usize, block: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(room + block);
        let skipped = bytes.as_ptr().align_offset(block);
        assert!(skipped < block, "memory can be aligned to {block}");
        bytes.resize(skipped, 0);
        Self {
            bytes,
            skipped,
            room,
            segment: SegmentId(0),
            generation: 0,
            offset: 0,
        }
    }

    /// Starts anew as another piece of the log.
    pub fn reset(&mut self, segment: SegmentId, generation: u64, offset: u32) {
        self.bytes.truncate(self.skipped);
        self.segment = segment;
        self.generation = generation;
        self.offset = offset;
    }

    /// How many bytes it has.
    pub fn filled(&self) -> usize {
        self.bytes.len() - self.skipped
    }

    /// How many it can have.
    pub const fn room(&self) -> usize {
        self.room
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.skipped..]
    }

    /// Appends what `write` pushes, at most `bytes_max`.
    pub fn append(&mut self, bytes_max: usize, write: impl FnOnce(&mut Vec<u8>)) {
        assert!(
            self.filled() + bytes_max <= self.room,
            "the caller made room"
        );
        let before = self.bytes.len();
        write(&mut self.bytes);
        let pushed = self.bytes.len() - before;
        assert!(
            pushed <= bytes_max,
            "{pushed} bytes were pushed, {bytes_max} announced"
        );
    }

    /// Pads with zeros to a multiple of `align`.
    pub fn pad(&mut self, align: usize) {
        let filled = self.filled().next_multiple_of(align);
        assert!(filled <= self.room, "room is a multiple of the block");
        self.bytes.resize(self.skipped + filled, 0);
    }

    /// Overwrites bytes of the open batch.
    pub fn patch(&mut self, at: usize, with: &[u8]) {
        let at = self.skipped + at;
        self.bytes[at..at + with.len()].copy_from_slice(with);
    }
}
