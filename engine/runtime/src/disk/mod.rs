//! The disk of one shard: carries out its writes, reads, preparations and removals.
//!
//! Owns the open files, the read buffers and the operations under way. Reads and writes go through the shard's own
//! ring, so that a turn's system call carries them; slow work on files goes to a helper thread (`files`).
//! Never decides what is durable or what to do about an error: it reports, the core acts.
//!
//! Invariants:
//! - an operation holds its file open, so a removal cannot make its descriptor name another file;
//! - a buffer is handed out only after its operation has ended;
//! - at most `reads_in_flight_max` reads are with the kernel; the others wait in the order in which they were asked, the
//!   cleaner's among them, so that neither clients nor cleaner starve;
//! - a short transfer is continued; what is reported is the whole of what was asked, or the end of the file, or an error.
#![expect(
    unsafe_code,
    reason = "submission entries carry pointers into buffers that outlive their operations"
)]

mod buffers;
mod files;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use gramme_core::port::{FileId, IoError, Ticket};
use io_uring::{opcode, squeue, types};
use slab::Slab;

pub(crate) use buffers::Buffer;
pub(crate) use files::{Prepared, file_name, io_error};

use crate::mailbox::Address;
use crate::ring::{Completion, Owner, Ring, user_data};
use files::{Job, io_error_of};

/// A turn's reads go to the device in groups of so many. All at once at the turn's end, they leave the device idle first
/// and in a queue afterwards: measured at depth 32, a fifth fewer reads a second for the same CPU.
const READS_TOGETHER_MAX: u32 = 4;

/// One finished operation.
#[derive(Debug)]
pub(crate) enum Done {
    Write {
        ticket: Ticket,
        result: Result<(), IoError>,
    },
    Read {
        ticket: Ticket,
        /// The buffer and how much of it was read. It goes back by [`Disk::give_back`].
        result: Result<(Buffer, usize), IoError>,
    },
}

/// A shard's disk.
pub(crate) struct Disk {
    directory: PathBuf,
    limits: DiskLimits,
    files: HashMap<FileId, Arc<OwnedFd>>,
    operations: Slab<Operation>,
    reads_in_flight: usize,
    reads_waiting: VecDeque<WaitingRead>,
    buffers: buffers::Pool,
    jobs: Sender<Job>,
}

/// What the device bears.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskLimits {
    /// Direct reads end at a multiple of this, but for the end of a file.
    pub(crate) read_align_bytes: usize,
    /// Reads that the kernel has at once.
    pub(crate) reads_in_flight_max: usize,
}

struct WaitingRead {
    ticket: Ticket,
    file: Arc<OwnedFd>,
    offset: u64,
    bytes: usize,
}

struct Operation {
    ticket: Ticket,
    file: Arc<OwnedFd>,
    offset: u64,
    bytes: usize,
    done_bytes: usize,
    transfer: Transfer,
}

enum Transfer {
    Write { from: *const u8 },
    Read { into: Buffer },
}

impl Disk {
    /// The disk of the shard whose files lie in `directory`; `answers` is the shard's own mailbox. The thread ends
    /// after the disk is dropped.
    pub(crate) fn new(
        directory: PathBuf,
        limits: DiskLimits,
        thread_name: String,
        answers: Address,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, thread) = files::start(directory.clone(), thread_name, answers)?;
        let disk = Self {
            directory,
            limits,
            files: HashMap::new(),
            operations: Slab::with_capacity(256),
            reads_in_flight: 0,
            reads_waiting: VecDeque::new(),
            buffers: buffers::Pool::default(),
            jobs,
        };
        Ok((disk, thread))
    }

    /// Begins a write. What it returns has ended at once.
    ///
    /// # Safety
    /// `data` must stay where it is, unchanged, until the write has ended.
    pub(crate) unsafe fn write(
        &mut self,
        ring: &mut Ring,
        ticket: Ticket,
        (file, offset): (FileId, u64),
        data: &[u8],
    ) -> Option<Done> {
        let file = match self.open(file) {
            Ok(file) => file,
            Err(error) => {
                return Some(Done::Write {
                    ticket,
                    result: Err(io_error(&error)),
                });
            }
        };
        self.begin(
            ring,
            Operation {
                ticket,
                file,
                offset,
                bytes: data.len(),
                done_bytes: 0,
                transfer: Transfer::Write {
                    from: data.as_ptr(),
                },
            },
        );
        None
    }

    /// Begins a read. What it returns has ended at once.
    pub(crate) fn read(
        &mut self,
        ring: &mut Ring,
        ticket: Ticket,
        (file, offset): (FileId, u64),
        bytes: u32,
    ) -> Option<Done> {
        let file = match self.open(file) {
            Ok(file) => file,
            Err(error) => {
                return Some(Done::Read {
                    ticket,
                    result: Err(io_error(&error)),
                });
            }
        };
        let read = WaitingRead {
            ticket,
            file,
            offset,
            bytes: bytes as usize,
        };
        if self.reads_in_flight < self.limits.reads_in_flight_max.max(1) {
            self.begin_read(ring, read);
        } else {
            self.reads_waiting.push_back(read);
        }
        None
    }

    /// Has a file made ready; the answer is a message, and then [`prepared`](Self::prepared).
    pub(crate) fn prepare(&mut self, ticket: Ticket, file: FileId, bytes: u64, fill_bytes: u64) {
        self.send(Job::Prepare {
            ticket,
            file,
            bytes,
            fill_bytes,
        });
    }

    /// Takes a file that the helper thread has made ready.
    pub(crate) fn prepared(&mut self, prepared: Prepared) {
        self.files
            .insert(prepared.file, Arc::new(prepared.descriptor));
    }

    /// Has a file deleted.
    pub(crate) fn remove(&mut self, file: FileId) {
        let open = self.files.remove(&file);
        self.send(Job::Remove { file, open });
    }

    /// Takes a completion of the ring; what it returns has ended.
    pub(crate) fn completion(&mut self, completion: Completion, ring: &mut Ring) -> Option<Done> {
        let slot = usize::try_from(completion.own).expect("a slot of the slab");
        let operation = self
            .operations
            .get_mut(slot)
            .expect("an operation completes once");
        let result = match completion.result {
            transferred if transferred >= 0 => operation.advance(
                transferred.unsigned_abs() as usize,
                self.limits.read_align_bytes,
            ),
            error if error == -libc::EINTR || error == -libc::EAGAIN => Progress::Again,
            error => Progress::Ended(Err(io_error_of(-error))),
        };
        match result {
            Progress::Again => {
                let entry = operation.entry(slot);
                // SAFETY: as when it began: the slab holds the operation until its completion.
                unsafe { ring.push(entry) };
                None
            }
            Progress::Ended(result) => {
                let operation = self.operations.remove(slot);
                let ticket = operation.ticket;
                if matches!(operation.transfer, Transfer::Read { .. }) {
                    self.reads_in_flight -= 1;
                    if let Some(read) = self.reads_waiting.pop_front() {
                        self.begin_read(ring, read);
                    }
                }
                Some(match operation.transfer {
                    Transfer::Write { .. } => Done::Write { ticket, result },
                    Transfer::Read { into } => Done::Read {
                        ticket,
                        result: match result {
                            Ok(()) => Ok((into, operation.done_bytes)),
                            Err(error) => {
                                self.buffers.give(into);
                                Err(error)
                            }
                        },
                    },
                })
            }
        }
    }

    /// Takes a read's buffer back.
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        self.buffers.give(buffer);
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.operations.is_empty() && self.reads_waiting.is_empty()
    }

    fn begin_read(&mut self, ring: &mut Ring, read: WaitingRead) {
        self.reads_in_flight += 1;
        let into = self.buffers.take(read.bytes);
        self.begin(
            ring,
            Operation {
                ticket: read.ticket,
                file: read.file,
                offset: read.offset,
                bytes: read.bytes,
                done_bytes: 0,
                transfer: Transfer::Read { into },
            },
        );
        if ring.unsubmitted() >= READS_TOGETHER_MAX {
            // What is wrong with the ring is said where the turn submits the rest.
            let _ = ring.submit();
        }
    }

    fn begin(&mut self, ring: &mut Ring, operation: Operation) {
        let vacant = self.operations.vacant_entry();
        let slot = vacant.key();
        let entry = vacant.insert(operation).entry(slot);
        // SAFETY: the slab holds the buffer, or the caller promised to keep the data, until the completion; the file
        // stays open with the operation.
        unsafe { ring.push(entry) };
    }

    /// Files that were there at the start are opened when they are first needed.
    fn open(&mut self, file: FileId) -> io::Result<Arc<OwnedFd>> {
        if let Some(open) = self.files.get(&file) {
            return Ok(Arc::clone(open));
        }
        let descriptor = files::open(&self.directory.join(file_name(file)), false)?;
        let open = Arc::new(descriptor);
        self.files.insert(file, Arc::clone(&open));
        Ok(open)
    }

    fn send(&self, job: Job) {
        // The thread ends only when this sender is dropped.
        if self.jobs.send(job).is_err() {
            tracing::error!(
                "the helper thread for files has died; the shard goes on without new files"
            );
        }
    }
}

enum Progress {
    Again,
    Ended(Result<(), IoError>),
}

impl Operation {
    fn advance(&mut self, transferred_bytes: usize, align_bytes: usize) -> Progress {
        self.done_bytes += transferred_bytes;
        if self.done_bytes >= self.bytes {
            return Progress::Ended(Ok(()));
        }
        match self.transfer {
            // Nothing was written, and no error says why.
            Transfer::Write { .. } if transferred_bytes == 0 => {
                Progress::Ended(Err(io_error_of(libc::EIO)))
            }
            Transfer::Write { .. } => Progress::Again,
            // A direct read ends elsewhere only at the end of the file.
            Transfer::Read { .. }
                if transferred_bytes == 0 || !self.done_bytes.is_multiple_of(align_bytes) =>
            {
                Progress::Ended(Ok(()))
            }
            Transfer::Read { .. } => Progress::Again,
        }
    }

    fn entry(&self, slot: usize) -> squeue::Entry {
        let descriptor = types::Fd(self.file.as_raw_fd());
        let offset = self.offset + self.done_bytes as u64;
        // The kernel transfers less than 2 GiB at once anyway.
        let bytes = u32::try_from(self.bytes - self.done_bytes).unwrap_or(1 << 30);
        let entry = match &self.transfer {
            Transfer::Write { from } => {
                opcode::Write::new(descriptor, from.wrapping_add(self.done_bytes), bytes)
                    .offset(offset)
                    .build()
            }
            Transfer::Read { into } => opcode::Read::new(
                descriptor,
                into.as_mut_ptr().wrapping_add(self.done_bytes),
                bytes,
            )
            .offset(offset)
            .build(),
        };
        entry.user_data(user_data(Owner::Disk, slot as u64))
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
