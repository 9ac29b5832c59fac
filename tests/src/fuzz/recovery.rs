//! A start on a log that was changed behind the shard's back.
//!
//! The input is a list of changes to the disk of a shard that was killed. Without a checksum set right behind it, a change
//! may make keys unknown or, at the end of the log, absent; it never makes a value that was not written to that key. With
//! one, anything may be there, and nothing panics. Either way the shard goes on: what is written then is there after
//! the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use gramme_core::base::hash;
use gramme_core::base::ids::SegmentId;
use gramme_core::port::{
    Condition, ContextArg, Durability, Event, Expiry, FileId, Op, Outcome, Put, Quorum, Request,
    RequestId, Source as _,
};
use gramme_core::store::checkpoint::shape;
use gramme_core::store::format::owner;
use gramme_core::version::ObjectView;

use super::host::{BLOCK, Host, ME, config};
use super::log::{batches, sealed_batch, sealed_checkpoint};
use crate::sim::disk::Disk;
use crate::sim::random::Random;

const KEYS: u64 = 24;

/// The disk that the changes are made to.
pub(super) struct Image {
    pub(super) disk: Disk,
    /// The same a while before: what a lost write would leave.
    earlier: Disk,
    /// Every value that was written to a key.
    written: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

/// Made once: some hundred writes and deletes, checkpoints among them, and no clean stop.
pub(super) fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut host = Host::new();
        let mut random = Random::new(1);
        let mut written: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let mut earlier = Disk::default();
        for number in 0..300_u64 {
            let key = key(random.below(KEYS));
            if random.below(10) == 0 {
                let delete = Op::Delete {
                    context: ContextArg::Latest,
                    want_previous: false,
                    want_context: false,
                    write_id: None,
                };
                ask(&mut host, number, &key, delete);
            } else {
                let mut value = number.to_le_bytes().to_vec();
                value.resize(8 + random.index(600), number as u8);
                ask(&mut host, number, &key, put(&value));
                written.entry(key).or_default().insert(value);
            }
            if random.coin() {
                host.turn();
            }
            if number == 200 {
                earlier = host.disk.clone();
            }
        }
        for _ in 0..8 {
            host.turn();
        }
        Image {
            disk: host.disk,
            earlier,
            written,
        }
    })
}

fn put(value: &[u8]) -> Op<'_> {
    Op::Put(Put {
        context: ContextArg::Latest,
        value,
        expiry: Expiry::Never,
        condition: Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    })
}

fn ask(host: &mut Host, id: u64, key: &[u8], op: Op<'_>) {
    let request = Request {
        id: RequestId(id),
        deadline_ns: None,
        bucket: b"default",
        key,
        token: hash::token(b"default", key),
        durability: Some(Durability::One),
        quorum: Quorum::default(),
        wants_object: false,
        is_forwarded: false,
        op,
    };
    host.step(Event::Request(request));
}

/// The answer to one request.
fn answered(host: &mut Host, key: &[u8], op: Op<'_>) -> (Outcome, Vec<u8>) {
    host.answers.clear();
    ask(host, 1, key, op);
    for _ in 0..2_000 {
        if let Some((_, outcome, bytes)) = host.answers.pop() {
            return (outcome, bytes);
        }
        host.turn();
    }
    panic!("no answer");
}

/// See the head of the file.
pub(super) fn run(input: &[u8]) {
    let image = image();
    let mut disk = image.disk.clone();
    let is_sealed = change(&mut disk, &image.earlier, input);
    let Ok((mut host, _)) = Host::open(disk) else {
        return;
    };
    for number in 0..KEYS {
        let key = key(number);
        let (outcome, bytes) = answered(&mut host, &key, Op::Get);
        if let Outcome::Object { object, .. } = outcome
            && !is_sealed
        {
            let view = ObjectView::parse(object.of(&bytes)).expect("a shard answers objects");
            let value = view.latest().and_then(|latest| latest.content.value());
            let value = value.expect("an answer has a value");
            let is_written = image
                .written
                .get(&key)
                .is_some_and(|all| all.contains(value));
            assert!(
                is_written,
                "key {number} has a value that was never written to it"
            );
        }
    }
    let (outcome, _) = answered(&mut host, b"after", put(b"it goes on"));
    if !matches!(outcome, Outcome::Written { .. }) {
        assert!(is_sealed, "a write after the start: {outcome:?}");
        return;
    }
    host.step(Event::Stop);
    for _ in 0..2_000 {
        if host.is_stopped {
            break;
        }
        host.turn();
    }
    assert!(host.is_stopped || is_sealed, "a stop ends");
    match Host::open(host.disk) {
        Ok((mut host, _)) => {
            let (outcome, _) = answered(&mut host, b"after", Op::Get);
            let is_there = matches!(outcome, Outcome::Object { .. });
            assert!(
                is_there || is_sealed,
                "what was written durably is there: {outcome:?}"
            );
        }
        Err(error) => assert!(is_sealed, "what was opened once opens again: {error}"),
    }
}

/// Takes numbers from the front of the input.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn number(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u64::from(u32::from_le_bytes(*bytes)))
    }

    fn bytes(&mut self) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(self.0.len().min(16));
        self.0 = rest;
        taken
    }
}

/// Carries out the changes; returns whether a checksum was set right.
fn change(disk: &mut Disk, earlier: &Disk, input: &[u8]) -> bool {
    let mut script = Script(input);
    let mut is_sealed = false;
    for _ in 0..32 {
        let (Some(what), Some(which), Some(at)) =
            (script.number(), script.number(), script.number())
        else {
            break;
        };
        let files: Vec<FileId> = disk.files.keys().copied().collect();
        let Some(file) = files.get(which as usize % files.len().max(1)).copied() else {
            break;
        };
        let bytes = disk.files.get_mut(&file).expect("it is there");
        if bytes.is_empty() {
            continue;
        }
        let at = at as usize % bytes.len();
        let block = at / BLOCK * BLOCK;
        let block_end = (block + BLOCK).min(bytes.len());
        match what % 10 {
            0 => bytes[at] ^= 1 << (what / 10 % 8),
            1 => bytes[block..block_end].fill(0),
            2 => {
                let from = script.number().unwrap_or(0) as usize % bytes.len() / BLOCK * BLOCK;
                let other = bytes[from..(from + BLOCK).min(bytes.len())].to_vec();
                let end = (block + other.len()).min(bytes.len());
                bytes[block..end].copy_from_slice(&other[..end - block]);
            }
            3 => {
                let with = script.bytes();
                let end = (at + with.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&with[..end - at]);
            }
            4 => bytes.truncate(at),
            5 => {
                disk.files.remove(&file);
            }
            6 => {
                let stale = earlier.read_some(file, block as u64, BLOCK as u32);
                bytes[block..block + stale.len().min(block_end - block)]
                    .copy_from_slice(&stale[..stale.len().min(block_end - block)]);
            }
            _ => {
                is_sealed = true;
                let with = script.bytes();
                seal(disk, file, (at, with));
            }
        }
    }
    is_sealed
}

/// Changes a batch or a checkpoint and sets its checksums right.
fn seal(disk: &mut Disk, file: FileId, (at, with): (usize, &[u8])) {
    let FileId::Segment(id) = file else {
        let config = config();
        let owner = owner(ME, config.shard);
        let slices = config.slices;
        let shape = shape(
            owner,
            slices.partitions(),
            slices.shards(),
            config.segment_bytes,
        );
        let bytes = disk.files.get_mut(&file).expect("it is there");
        // Mostly in the header.
        let at = if at % 4 == 0 { at } else { 12 + at % 92 };
        overwrite(bytes, at, with);
        *bytes = sealed_checkpoint(bytes, shape);
        return;
    };
    seal_batch(disk, id, (at, with));
}

fn seal_batch(disk: &mut Disk, id: SegmentId, (at, with): (usize, &[u8])) {
    let length = disk
        .segments()
        .iter()
        .find(|(found, _)| *found == id)
        .map_or(0, |(_, bytes)| *bytes);
    let found = batches(disk, id, length);
    let Some((start, header)) = found.get(at % found.len().max(1)).copied() else {
        return;
    };
    let file = FileId::Segment(id);
    let mut batch = disk.read_some(file, start, header.bytes);
    // Half of the time in the header.
    let at = if at % 2 == 0 {
        8 + at / 2 % 56
    } else {
        at % batch.len().max(1)
    };
    overwrite(&mut batch, at, with);
    disk.put(file, start as usize, &sealed_batch(&batch));
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let at = at.min(bytes.len());
    let end = (at + with.len().min(8)).min(bytes.len());
    bytes[at..end].copy_from_slice(&with[..end - at]);
}

/// Lists of changes, one of each kind and some of many.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random::new(2);
    let mut seeds = vec![Vec::new()];
    for kind in 0..10_u32 {
        for changes in [1, 3] {
            let mut script = Vec::new();
            for _ in 0..changes {
                script.extend_from_slice(&(kind + 10 * random.below(8) as u32).to_le_bytes());
                for _ in 0..2 {
                    script.extend_from_slice(&(random.bits() as u32).to_le_bytes());
                }
                let more = match kind {
                    2 => 4,
                    3 | 7.. => 16,
                    _ => 0,
                };
                script.extend((0..more).map(|_| random.bits() as u8));
            }
            seeds.push(script);
        }
    }
    seeds
}
