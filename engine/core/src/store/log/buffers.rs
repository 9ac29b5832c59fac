//! The buffers: the tail that is read from memory, and those that are lent to checkpoints.

use super::*;
use crate::base::mutant::{self, Mutant};

impl Log {
    /// A buffer for other bytes than the log's (a checkpoint's), to be written like them.
    pub fn lend_buffer(&mut self, room: usize) -> u32 {
        let buffer = LogBuffer::new(room, self.config.block_bytes);
        self.place_buffer(buffer)
    }

    /// Fills a lent buffer anew and pads it; returns its length.
    pub fn fill_lent(&mut self, id: u32, block: usize, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let Some(buffer) = self.buffers.get_mut(id as usize).and_then(Option::as_mut) else {
            return 0;
        };
        buffer.reset(SegmentId(0), 0, 0);
        buffer.append(buffer.room(), write);
        buffer.pad(block);
        buffer.filled()
    }

    /// Takes a lent buffer back.
    pub fn take_back(&mut self, id: u32) {
        if let Some(buffer) = self.buffers.get_mut(id as usize) {
            *buffer = None;
        }
    }

    pub(super) fn place_buffer(&mut self, buffer: LogBuffer) -> u32 {
        let id = match self.buffers.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.buffers.push(None);
                self.buffers.len() - 1
            }
        };
        self.buffers[id] = Some(buffer);
        id as u32
    }

    /// How long the tail may be. Where everything that lives is smaller than what the configuration grants, most of a long
    /// tail would be what has been overwritten.
    fn tail_bytes_max(&self) -> usize {
        let live_bytes: u64 = self.segments.iter().map(|(_, s)| s.live_bytes).sum();
        let of_use = usize::try_from(live_bytes.saturating_mul(TAIL_OF_LIVE_MAX));
        let of_use = of_use.unwrap_or(usize::MAX).max(TAIL_BYTES_MIN);
        of_use.min(self.config.tail_bytes_max)
    }

    pub(super) fn evict_tail(&mut self, room: usize) {
        if mutant::is(Mutant::TailKept) {
            return;
        }
        let bytes_max = self.tail_bytes_max();
        while self.tail_bytes + room > bytes_max {
            let Some(oldest) = self.tail.front().copied() else {
                return;
            };
            let is_busy = self.current == Some(oldest)
                || self
                    .in_flight
                    .iter()
                    .chain(&self.given_up)
                    .any(|commit| commit.buffer == oldest);
            if is_busy {
                return;
            }
            self.tail.pop_front();
            self.drop_buffer(oldest);
        }
    }

    pub(super) fn drop_buffer(&mut self, id: u32) {
        let Some(buffer) = self.buffers[id as usize].take() else {
            return;
        };
        self.tail_bytes -= buffer.room();
        self.segments
            .at(buffer.segment)
            .buffers
            .retain(|(_, held)| *held != id);
        if self.free.len() < FREE_BUFFERS_MAX && buffer.room() == self.config.buffer_bytes {
            self.free.push(buffer);
        }
    }

    /// Forgets the pieces of a segment that are in memory, since it is used anew.
    pub(super) fn drop_segment_buffers(&mut self, id: SegmentId) {
        let held: Vec<u32> = self
            .segments
            .at(id)
            .buffers
            .iter()
            .map(|(_, buffer)| *buffer)
            .collect();
        for buffer in held {
            self.tail.retain(|at| *at != buffer);
            self.drop_buffer(buffer);
        }
    }
}
