//! Output buffers that no connection needs at the moment, so that an idle one holds no memory and a busy one allocates
//! none.

/// Buffers kept, at most.
const BUFFERS_MAX: usize = 512;
/// Larger ones are freed.
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// What a new one begins with.
const BUFFER_BYTES_NEW: usize = 4 << 10;

#[derive(Default)]
pub(super) struct Pool {
    spare: Vec<Vec<u8>>,
}

impl Pool {
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES_NEW))
    }

    /// Keeps a buffer, or frees it.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) && self.spare.len() < BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
