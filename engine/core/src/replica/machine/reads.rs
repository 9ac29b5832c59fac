//! Records by their places: in memory, or read for those who wait. Readers of one record share one read.

use super::*;
use crate::replica::stages::Stage;

pub(super) struct PendingRead {
    /// The background waits for it too.
    pub(super) is_for_upkeep: bool,
    /// A walk will come to it.
    pub(super) is_for_scan: bool,
    pub(super) place: Place,
    pub(super) token: Token,
    pub(super) generation: u64,
    pub(super) skip: usize,
    pub(super) since_ns: u64,
    pub(super) waiters: Vec<OwnedRequest>,
}

/// Reads of one record that may fail before it counts as lost.
pub(in crate::replica) const READ_TRIES_MAX: u8 = 4;
/// Places of which failed reads are counted.
const FAILED_READS_KEPT_MAX: usize = 1024;

impl Replica {
    /// The record at a place, when it is in memory.
    pub(in crate::replica) fn find<'a>(
        &'a self,
        place: Place,
        token: Token,
        fetched: Option<Fetched<'a>>,
    ) -> Option<Record<'a>> {
        let (segment, offset) = (self.layout.segment(place), self.layout.offset(place));
        if let Some(bytes) = self.log.in_memory(segment, offset) {
            return Record::trusted(bytes);
        }
        if let Some(fetched) = fetched.filter(|fetched| fetched.place == place) {
            return Record::trusted(fetched.record);
        }
        let generation = self.log.segments.get(segment)?.generation;
        self.cache
            .get(token, place.0, generation)
            .and_then(Record::trusted)
    }

    /// Keeps a request until the record at `place` was read.
    pub(in crate::replica) fn wait_for_read(
        &mut self,
        place: Place,
        request: &Request<'_>,
        effects: &mut Effects,
    ) {
        self.wait_for_read_of((place, request.token), request, effects);
    }

    /// The same for the record of another token than the request's.
    pub(in crate::replica) fn wait_for_read_of(
        &mut self,
        (place, token): (Place, Token),
        request: &Request<'_>,
        effects: &mut Effects,
    ) {
        if self.waiting >= self.config.requests_max {
            self.stats.shed += 1;
            return effects.reply(
                request.id,
                Outcome::Failed(Failure::Overloaded { retry_after_ms: 10 }),
            );
        }
        self.waiting += 1;
        let ticket = self.start_read(place, token, effects);
        if let Some(read) = self.reads.get_mut(&ticket) {
            read.waiters.push(OwnedRequest::new(request));
        }
    }

    /// Reads the record at `place` for the background.
    pub(in crate::replica) fn start_upkeep_read(
        &mut self,
        place: Place,
        token: Token,
        effects: &mut Effects,
    ) {
        let ticket = self.start_read_as(place, token, true, effects);
        if let Some(read) = self.reads.get_mut(&ticket) {
            read.is_for_upkeep = true;
        }
    }

    /// Reads the record at `place` to see whether it is whole. No walk comes to it: one that does reads it itself.
    pub(in crate::replica) fn start_scrub_read(
        &mut self,
        place: Place,
        token: Token,
        effects: &mut Effects,
    ) {
        self.start_read_as(place, token, true, effects);
    }

    /// Reads the record at `place`, which a walk will come to.
    pub(in crate::replica) fn start_scan_read(
        &mut self,
        place: Place,
        token: Token,
        effects: &mut Effects,
    ) {
        let ticket = self.start_read(place, token, effects);
        if let Some(read) = self.reads.get_mut(&ticket) {
            read.is_for_scan = true;
        }
    }

    /// Reads the record at `place`; readers of one record share one read.
    pub(in crate::replica) fn start_read(
        &mut self,
        place: Place,
        token: Token,
        effects: &mut Effects,
    ) -> Ticket {
        self.start_read_as(place, token, false, effects)
    }

    pub(super) fn start_read_as(
        &mut self,
        place: Place,
        token: Token,
        background: bool,
        effects: &mut Effects,
    ) -> Ticket {
        if let Some(ticket) = self.reading.get(&place.0) {
            return *ticket;
        }
        let align = u64::from(self.config.read_align_bytes);
        let (segment, offset) = (
            self.layout.segment(place),
            u64::from(self.layout.offset(place)),
        );
        let from = offset - offset % align;
        let to = (offset + u64::from(place.bytes_upper()))
            .next_multiple_of(align)
            .min(u64::from(self.config.segment_bytes));
        let ticket = self.log.ticket();
        let generation = self.log.segments.get(segment).map_or(0, |s| s.generation);
        let skip = (offset - from) as usize;
        self.reads.insert(
            ticket,
            PendingRead {
                is_for_upkeep: false,
                is_for_scan: false,
                place,
                token,
                generation,
                skip,
                since_ns: self.last_turn_ns,
                waiters: Vec::new(),
            },
        );
        self.reading.insert(place.0, ticket);
        self.stats.disk_reads += 1;
        let file = crate::port::FileId::Segment(segment);
        effects.list.push(Effect::Read {
            ticket,
            file,
            offset: from,
            bytes: (to - from) as u32,
            background,
        });
        ticket
    }

    /// Whether a record counts as lost: at once when its bytes are wrong. A device that fails to read may do it the next
    /// time, and this copy may be the only one that a write was acknowledged for.
    fn is_given_up(&mut self, place: Place, failure: &Failure) -> bool {
        if !matches!(failure, Failure::ReadFailed(_)) {
            return true;
        }
        if self.failed_reads.len() >= FAILED_READS_KEPT_MAX {
            self.failed_reads.clear();
        }
        let times = self.failed_reads.entry(place.0).or_default();
        *times += 1;
        let is_given_up = *times >= READ_TRIES_MAX;
        if is_given_up {
            self.failed_reads.remove(&place.0);
        }
        is_given_up
    }

    pub(super) fn read_done(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<&[u8], IoError>,
        effects: &mut Effects,
    ) {
        let Some(read) = self.reads.remove(&ticket) else {
            if !self.scrub_read_done(ticket, &result) {
                self.cleaner_read_done(now, ticket, result, effects);
            }
            return;
        };
        self.reading.remove(&read.place.0);
        self.waiting -= read.waiters.len() as u32;
        let is_clients = |waiter: &&OwnedRequest| purpose_of(waiter.request().id).is_none();
        for _ in read.waiters.iter().filter(is_clients) {
            let took_ns = now.mono_ns.saturating_sub(read.since_ns);
            self.background.foreground.waited(Stage::DiskRead, took_ns);
        }
        let (segment, offset) = (
            self.layout.segment(read.place),
            self.layout.offset(read.place),
        );
        // A damaged index may name a segment that is none: that does not become another by waiting.
        let generation = self.log.segments.get(segment).map_or(0, |s| s.generation);
        let is_same_use = generation == read.generation;
        let verified = result.map_err(Failure::ReadFailed).and_then(|bytes| {
            let record = bytes.get(read.skip..).ok_or(RecordError::Short);
            record
                .and_then(|bytes| {
                    Record::verify(
                        bytes,
                        Spot {
                            generation: read.generation,
                            offset,
                        },
                    )
                    .or_else(|error| {
                        let taken = mutant::is(Mutant::RotTaken);
                        taken.then(|| Record::trusted(bytes)).flatten().ok_or(error)
                    })
                    .map(|r| (bytes, r))
                })
                .map_err(|_| Failure::Corrupt {
                    segment,
                    offset: u64::from(offset),
                })
        });
        match verified {
            Ok((bytes, record)) => {
                self.failed_reads.remove(&read.place.0);
                let whole = &bytes[..crate::store::format::RECORD_HEADER_BYTES
                    + record.header.body_bytes as usize];
                if is_same_use {
                    self.cache
                        .insert(read.token, read.place.0, read.generation, whole);
                }
                let fetched = is_same_use.then_some(Fetched {
                    place: read.place,
                    record: whole,
                });
                if read.is_for_upkeep {
                    let result = ReadResult::Record(whole.into());
                    let place = read.place;
                    self.upkeep_reads.push(ReadEnd { place, result });
                }
                for waiter in &read.waiters {
                    self.request(now, &waiter.request(), fetched, effects);
                }
            }
            Err(_) if !is_same_use => {
                // The cleaner moved the record and its segment was used anew: look it up where it is now.
                if read.is_for_upkeep {
                    let (place, result) = (read.place, ReadResult::Moved);
                    self.upkeep_reads.push(ReadEnd { place, result });
                }
                for waiter in &read.waiters {
                    self.request(now, &waiter.request(), None, effects);
                }
            }
            Err(_) if mutant::is(Mutant::ReadErrorAbsent) => {
                let nothing = crate::port::Held {
                    fingerprint: 0,
                    object: None,
                };
                for waiter in &read.waiters {
                    effects.reply(waiter.request().id, Outcome::Held(nothing));
                }
            }
            Err(failure) => {
                self.stats.read_faults += 1;
                if self.is_given_up(read.place, &failure) {
                    self.note_damage(segment, u64::from(offset));
                    self.lost.insert((read.token, read.place.0));
                    self.lose_entry(read.token, read.place);
                } else {
                    mark::reach(Mark::ReadFailedOnce);
                }
                if read.is_for_upkeep {
                    let (place, result) = (read.place, ReadResult::Failed);
                    self.upkeep_reads.push(ReadEnd { place, result });
                }
                let is_scan =
                    |waiter: &OwnedRequest| matches!(waiter.request().op, Op::Scan { .. });
                if read.is_for_scan || read.waiters.iter().any(is_scan) {
                    self.note_unreadable(read.token, read.place);
                }
                for waiter in &read.waiters {
                    if is_scan(waiter) {
                        self.request(now, &waiter.request(), None, effects);
                    } else {
                        effects.reply(waiter.request().id, Outcome::Failed(failure));
                    }
                }
            }
        }
    }
}
