//! The disk against real files in a temporary directory.

use super::*;
use crate::doorbell::Doorbell;
use crate::mailbox::Message;
use crossbeam_channel::Receiver;
use gramme_core::base::ids::SegmentId;
use gramme_core::port::IoKind;
use std::time::{Duration, Instant};

const SEGMENT: FileId = FileId::Segment(SegmentId(0x2a));
const BLOCK: usize = 4096;
const READS_MAX: usize = 3;

struct Bench {
    ring: Ring,
    disk: Disk,
    inbox: Receiver<Message>,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let doorbell = Arc::new(Doorbell::new().expect("an event file"));
        let ring = Ring::with_wake(64, doorbell.event().expect("a descriptor")).expect("a ring");
        let (address, inbox) = Address::new(doorbell);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().to_path_buf();
        let limits = DiskLimits {
            read_align_bytes: 512,
            reads_in_flight_max: READS_MAX,
        };
        let (disk, _thread) = Disk::new(path, limits, "files".into(), address).expect("a disk");
        Self {
            ring,
            disk,
            inbox,
            directory,
        }
    }

    fn prepare(&mut self, file: FileId, bytes: u64, fill_bytes: u64) -> Result<(), IoError> {
        self.disk.prepare(Ticket(7), file, bytes, fill_bytes);
        let message = self.inbox.recv_timeout(Duration::from_secs(20));
        let Ok(Message::Prepared { ticket, result }) = message else {
            panic!("no answer to a preparation");
        };
        assert_eq!(ticket, Ticket(7));
        result.map(|prepared| self.disk.prepared(prepared))
    }

    fn write(&mut self, file: FileId, offset: u64, data: &[u8]) -> Done {
        // SAFETY: `data` outlives the wait below.
        let done = unsafe {
            self.disk
                .write(&mut self.ring, Ticket(1), (file, offset), data)
        };
        done.unwrap_or_else(|| self.wait())
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: u32) -> Result<Vec<u8>, IoError> {
        let done = self
            .disk
            .read(&mut self.ring, Ticket(2), (file, offset), bytes);
        let Done::Read { ticket, result } = done.unwrap_or_else(|| self.wait()) else {
            panic!("a read was asked");
        };
        assert_eq!(ticket, Ticket(2));
        result.map(|(buffer, read_bytes)| {
            let bytes = buffer.bytes(read_bytes).to_vec();
            self.disk.give_back(buffer);
            bytes
        })
    }

    fn wait(&mut self) -> Done {
        let mut completions = Vec::new();
        for _ in 0..20_000 {
            self.ring.submit().expect("submitted");
            completions.clear();
            self.ring.completions(&mut completions);
            for completion in &completions {
                if let Some(done) = self.disk.completion(*completion, &mut self.ring) {
                    return done;
                }
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        panic!("an operation did not end within ten seconds");
    }
}

fn blocks(count: usize, byte: u8) -> Buffer {
    let buffer = Buffer::new(count * BLOCK);
    assert!(buffer.bytes(count * BLOCK).iter().all(|byte| *byte == 0));
    for index in 0..count * BLOCK {
        // SAFETY: within the buffer.
        unsafe { buffer.as_mut_ptr().add(index).write(byte) };
    }
    buffer
}

#[test]
fn what_is_written_is_read_back_and_the_rest_of_a_prepared_file_is_zero() {
    let mut bench = Bench::new();
    for fill_bytes in [0, 1 << 20, 3 << 20] {
        let file = FileId::Segment(SegmentId(fill_bytes >> 20));
        let prepared = bench.prepare(file, 3 << 20, u64::from(fill_bytes));
        prepared.expect("prepared");
        let data = blocks(2, 0xab);
        let done = bench.write(file, 8192, data.bytes(2 * BLOCK));
        assert!(matches!(
            done,
            Done::Write {
                ticket: Ticket(1),
                result: Ok(())
            }
        ));
        let read = bench.read(file, 4096, 16384).expect("read");
        assert_eq!(read.len(), 16384);
        assert!(read[..4096].iter().all(|byte| *byte == 0));
        assert!(read[4096..12288].iter().all(|byte| *byte == 0xab));
        assert!(read[12288..].iter().all(|byte| *byte == 0));
        let length = std::fs::metadata(bench.directory.path().join(file_name(file)));
        assert_eq!(length.expect("there").len(), 3 << 20);
    }
    assert!(bench.disk.is_idle());
}

#[test]
fn preparing_again_keeps_what_is_there() {
    let mut bench = Bench::new();
    bench.prepare(SEGMENT, 1 << 20, 1 << 20).expect("prepared");
    let data = blocks(1, 7);
    bench.write(SEGMENT, 0, data.bytes(BLOCK));
    bench
        .prepare(SEGMENT, 2 << 20, 2 << 20)
        .expect("prepared again");
    assert_eq!(bench.read(SEGMENT, 0, 4096).expect("read"), vec![7; 4096]);
    assert!(bench.directory.path().join("segment-0000002a.log").exists());
}

#[test]
fn a_read_past_the_end_is_short_and_one_of_no_file_fails() {
    let mut bench = Bench::new();
    let file = FileId::Checkpoint(1);
    bench.prepare(file, 8192, 0).expect("prepared");
    assert_eq!(bench.read(file, 4096, 16384).expect("read").len(), 4096);
    assert_eq!(bench.read(file, 1 << 20, 4096).expect("read").len(), 0);
    let missing = bench.read(FileId::Checkpoint(0), 0, 4096);
    assert_eq!(
        missing,
        Err(IoError {
            kind: IoKind::Failed,
            errno: libc::ENOENT
        })
    );
}

#[test]
fn a_removed_file_is_gone_though_it_was_open() {
    let mut bench = Bench::new();
    bench.prepare(SEGMENT, 8192, 0).expect("prepared");
    bench.disk.remove(SEGMENT);
    // The helper thread works in order.
    bench
        .prepare(FileId::Checkpoint(0), 4096, 0)
        .expect("prepared");
    assert!(!bench.directory.path().join(file_name(SEGMENT)).exists());
    assert!(bench.read(SEGMENT, 0, 4096).is_err());
}

#[test]
fn more_reads_than_the_device_bears_wait_and_all_are_served_in_order() {
    let mut bench = Bench::new();
    bench.prepare(SEGMENT, 1 << 20, 1 << 20).expect("prepared");
    let asked = 4 * READS_MAX as u64;
    for number in 0..asked {
        let place = (SEGMENT, number * BLOCK as u64);
        let done = bench
            .disk
            .read(&mut bench.ring, Ticket(number), place, BLOCK as u32);
        assert!(done.is_none());
    }
    assert_eq!(bench.disk.reads_in_flight, READS_MAX);
    let (mut seen, mut completions) = (Vec::new(), Vec::new());
    let until = Instant::now() + Duration::from_secs(10);
    while seen.len() < asked as usize {
        assert!(Instant::now() < until, "a read was forgotten");
        bench.ring.submit().expect("submitted");
        bench.ring.completions(&mut completions);
        for completion in completions.drain(..) {
            let done = bench.disk.completion(completion, &mut bench.ring);
            let Some(Done::Read { ticket, result }) = done else {
                continue;
            };
            let (buffer, read_bytes) = result.expect("read");
            assert_eq!(read_bytes, BLOCK);
            bench.disk.give_back(buffer);
            assert!(bench.disk.reads_in_flight <= READS_MAX);
            seen.push(ticket.0);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..asked).collect::<Vec<_>>());
    assert!(bench.disk.is_idle());
}
