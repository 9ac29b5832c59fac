//! A disk whose writes are under way until they are told done; a crash leaves each of those done, undone or torn.

use std::collections::BTreeMap;

use gramme_core::base::ids::SegmentId;
use gramme_core::port::{FileId, IoError, Source, Ticket};

use super::random::Random;

/// The unit that a device writes whole.
const SECTOR_BYTES: usize = 512;

#[derive(Clone)]
struct Pending {
    ticket: Ticket,
    file: FileId,
    offset: usize,
    bytes: Vec<u8>,
}

/// The unit of which a disk remembers what was there before.
const BLOCK_BYTES: usize = 4096;

/// One shard's files.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<FileId, Vec<u8>>,
    pending: Vec<Pending>,
    /// What each block had before it was written last; only where some read may bring it.
    former: Option<BTreeMap<(FileId, usize), Vec<u8>>>,
}

/// How a read goes wrong without anybody being told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    /// It brings what was there before.
    Stale,
    /// It brings what lies so many blocks further on.
    Elsewhere(usize),
}

/// How a write goes wrong without anybody being told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misdone {
    /// It is not done at all.
    Lost,
    /// It is done so many blocks further on.
    Elsewhere(usize),
}

impl Source for Disk {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.files
            .iter()
            .filter_map(|(file, bytes)| match file {
                FileId::Segment(id) => Some((*id, bytes.len() as u64)),
                FileId::Checkpoint(_) => None,
            })
            .collect()
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let bytes = self.files.get(&file).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = bytes.get(from..).unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}

impl Disk {
    /// Begins a write.
    pub(crate) fn begin_write(
        &mut self,
        ticket: Ticket,
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
    ) {
        self.pending.push(Pending {
            ticket,
            file,
            offset: offset as usize,
            bytes,
        });
    }

    /// From now on it remembers what was there before.
    pub(crate) fn remember(&mut self) {
        self.former.get_or_insert_default();
    }

    /// Has a write that is under way go wrong.
    pub(super) fn misdo(&mut self, ticket: Ticket, how: Misdone) {
        let Some(at) = self.pending.iter().position(|write| write.ticket == ticket) else {
            return;
        };
        match how {
            Misdone::Lost => self.pending[at].bytes.clear(),
            Misdone::Elsewhere(blocks) => {
                let write = &self.pending[at];
                let held = self.files.get(&write.file).map_or(0, Vec::len);
                // Not beyond the end: a device has as many blocks as it has.
                let Some(room) = held.checked_sub(write.bytes.len()) else {
                    return;
                };
                let to = (write.offset + blocks * BLOCK_BYTES) % (room + 1);
                self.pending[at].offset = to - to % BLOCK_BYTES;
            }
        }
    }

    /// What a read brings that goes wrong.
    pub(super) fn read_wrong(&self, file: FileId, offset: u64, bytes: u32, how: Wrong) -> Vec<u8> {
        match how {
            Wrong::Elsewhere(blocks) => {
                let held = self.files.get(&file).map_or(0, Vec::len).max(1);
                let from = (offset as usize + blocks * BLOCK_BYTES) % held;
                let from = from - from % BLOCK_BYTES;
                self.read_some(file, from as u64, bytes)
            }
            Wrong::Stale => {
                let mut read = self.read_some(file, offset, bytes);
                let former = self.former.iter().flatten();
                for ((_, at), block) in former.filter(|((of, _), _)| *of == file) {
                    for (byte, was) in (*at..).zip(block) {
                        let into = byte.checked_sub(offset as usize);
                        if let Some(into) = into.and_then(|into| read.get_mut(into)) {
                            *into = *was;
                        }
                    }
                }
                read
            }
        }
    }

    /// Ends it: it is on the medium.
    pub(crate) fn end_write(&mut self, ticket: Ticket) {
        if let Some(at) = self.pending.iter().position(|write| write.ticket == ticket) {
            let write = self.pending.remove(at);
            self.put(write.file, write.offset, &write.bytes);
        }
    }

    /// Some bytes of a file.
    pub(crate) fn read_some(&self, file: FileId, offset: u64, bytes: u32) -> Vec<u8> {
        let held = self.files.get(&file).map_or(&[][..], Vec::as_slice);
        let from = (offset as usize).min(held.len());
        let to = (from + bytes as usize).min(held.len());
        held[from..to].to_vec()
    }

    /// Gives a file its space.
    pub(crate) fn prepare(&mut self, file: FileId, bytes: u64) {
        let held = self.files.entry(file).or_default();
        if held.len() < bytes as usize {
            // Zeros at once: a resize goes byte by byte where nothing is optimised.
            held.extend_from_slice(&vec![0; bytes as usize - held.len()]);
        }
    }

    /// Deletes a file.
    pub(crate) fn remove(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    /// It ends with an error.
    pub(super) fn fail_write(&mut self, ticket: Ticket, random: &mut Random) {
        if let Some(at) = self.pending.iter().position(|write| write.ticket == ticket) {
            let write = self.pending.remove(at);
            self.end_somehow(&write, random);
        }
    }

    /// Power fails: writes that were under way are there, not there, or torn, each by itself.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        for write in core::mem::take(&mut self.pending) {
            self.end_somehow(&write, random);
        }
    }

    fn end_somehow(&mut self, write: &Pending, random: &mut Random) {
        match random.below(4) {
            0 => {}
            1 => self.put(write.file, write.offset, &write.bytes),
            2 => {
                let sectors = write.bytes.len().div_ceil(SECTOR_BYTES);
                let to = (random.index(sectors + 1) * SECTOR_BYTES).min(write.bytes.len());
                self.put(write.file, write.offset, &write.bytes[..to]);
            }
            _ => {
                for (sector, bytes) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
                    if random.coin() {
                        self.put(write.file, write.offset + sector * SECTOR_BYTES, bytes);
                    }
                }
            }
        }
    }

    pub(crate) fn put(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let held = self.files.entry(file).or_default();
        if held.len() < offset + bytes.len() {
            held.resize(offset + bytes.len(), 0);
        }
        if let Some(former) = &mut self.former {
            let (first, end) = (offset - offset % BLOCK_BYTES, offset + bytes.len());
            for at in (first..end).step_by(BLOCK_BYTES) {
                let to = held.len().min(at + BLOCK_BYTES);
                former.insert((file, at), held[at..to].to_vec());
            }
        }
        held[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}
