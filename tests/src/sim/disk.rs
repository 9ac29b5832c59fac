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

/// One shard's files.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<FileId, Vec<u8>>,
    pending: Vec<Pending>,
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
        let held = self.files.entry(file).or_default();
        if held.len() < offset + bytes.len() {
            held.resize(offset + bytes.len(), 0);
        }
        held[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}
