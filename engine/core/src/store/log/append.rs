//! Appending: records into the open batch, batches into buffers, buffers into segments.

use super::*;

impl Log {
    /// Appends a record; `write_object` pushes exactly `object_bytes`.
    ///
    /// # Errors
    /// [`NoRoom`], and nothing happened.
    pub fn append(
        &mut self,
        head: Head<'_>,
        object_bytes: usize,
        write_object: impl FnOnce(&mut Vec<u8>),
        now_ns: u64,
        effects: &mut Effects,
    ) -> Result<Appended, NoRoom> {
        let bucket = stored_bucket(head.bucket);
        let body_bytes = 1 + bucket.len() + head.key.len() + object_bytes;
        let total = record_bytes(body_bytes);
        self.make_room(total, CLEANER_RESERVE, now_ns, effects)?;
        let (buffer, open) = self.current_batch();
        let at = buffer.filled();
        let offset = buffer.offset + at as u32;
        let segment = buffer.segment;
        buffer.append(total, |out| {
            out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
            out.push(bucket.len() as u8);
            out.extend_from_slice(bucket);
            out.extend_from_slice(head.key);
            write_object(out);
        });
        let body = &buffer.bytes()[at + RECORD_HEADER_BYTES..];
        assert!(
            body.len() == body_bytes,
            "the object has {object_bytes} bytes as announced"
        );
        let body_crc = crc32c::crc32c(body);
        seal_record(buffer, at, head, body_bytes, body_crc);
        open.records += 1;
        let batch = open.number;
        let (token, tag15) = (head.token, head.tag15);
        self.roll
            .extend_from_slice(&RollKey { token, tag15 }.encode());
        self.note_used();
        Ok(Appended {
            segment,
            offset,
            bytes: total as u32,
            batch,
        })
    }

    /// Appends a verified record's body as it is: what the cleaner and the mending of a failed write do.
    ///
    /// # Errors
    /// [`NoRoom`], and nothing happened.
    pub fn append_copy(
        &mut self,
        header: &RecordHeader,
        body: &[u8],
        now_ns: u64,
        effects: &mut Effects,
    ) -> Result<Appended, NoRoom> {
        let total = header.record_bytes();
        self.make_room(total, 0, now_ns, effects)?;
        let (buffer, open) = self.current_batch();
        let at = buffer.filled();
        let offset = buffer.offset + at as u32;
        let segment = buffer.segment;
        buffer.append(total, |out| {
            out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
            out.extend_from_slice(body);
        });
        seal_with(buffer, at, *header);
        open.records += 1;
        let batch = open.number;
        let (token, tag15) = (header.token, header.tag15);
        self.roll
            .extend_from_slice(&RollKey { token, tag15 }.encode());
        self.note_used();
        Ok(Appended {
            segment,
            offset,
            bytes: total as u32,
            batch,
        })
    }

    pub(super) fn current_batch(&mut self) -> (&mut LogBuffer, &mut OpenBatch) {
        let current = self
            .current
            .and_then(|id| self.buffers[id as usize].as_mut());
        match (current, self.open.as_mut()) {
            (Some(buffer), Some(open)) => (buffer, open),
            _ => unreachable!("make_room opened a batch"),
        }
    }

    pub(super) fn note_used(&mut self) {
        if let Some(buffer) = self
            .current
            .and_then(|id| self.buffers[id as usize].as_ref())
        {
            let end =
                buffer.offset as usize + buffer.filled().next_multiple_of(self.config.block_bytes);
            let segment = buffer.segment;
            self.segments.at(segment).used_bytes = end as u32;
        }
    }

    /// Makes sure that a batch is open and that `total` bytes fit into it, leaving so many segments free.
    pub(super) fn make_room(
        &mut self,
        total: usize,
        segments_left: u32,
        now_ns: u64,
        effects: &mut Effects,
    ) -> Result<(), NoRoom> {
        let fits = self
            .current
            .and_then(|id| self.buffers[id as usize].as_ref())
            .is_some_and(|buffer| {
                let at = match &self.open {
                    Some(_) => buffer.filled(),
                    None => {
                        buffer.filled().next_multiple_of(self.config.block_bytes)
                            + BATCH_HEADER_BYTES
                            + preface_bytes(self.roll_before.len(), 0)
                            + self.frontier.record_bytes()
                    }
                };
                at + total <= buffer.room()
            });
        if fits && self.open.is_some() {
            return Ok(());
        }
        let mut is_first = false;
        if !fits {
            if self.in_flight_bytes > self.config.backlog_bytes_max {
                return Err(NoRoom::Backlog);
            }
            is_first = self.next_buffer(total, segments_left, effects)?;
        }
        let number = BatchNumber(self.next_number);
        let block = self.config.block_bytes;
        let Some(buffer) = self
            .current
            .and_then(|id| self.buffers[id as usize].as_mut())
        else {
            unreachable!("next_buffer set one");
        };
        buffer.pad(block);
        let start = buffer.filled();
        buffer.append(BATCH_HEADER_BYTES, |out| {
            out.extend_from_slice(&[0; BATCH_HEADER_BYTES])
        });
        let segments = &self.segments;
        let survey_segments = if is_first {
            survey_segments(segments, self.config.segment_bytes, self.active)
        } else {
            None
        };
        let spot = Spot {
            generation: buffer.generation,
            offset: buffer.offset + buffer.filled() as u32,
        };
        let draft = Draft {
            number,
            roll_of: self.roll_of,
            roll: &self.roll_before,
            lost: self.lost,
        };
        let active = self.active;
        let survey = survey_segments
            .is_some()
            .then(|| segments.in_use().filter(|used| Some(used.id) != active));
        let bytes = preface_bytes(draft.roll.len(), survey_segments.unwrap_or(0));
        buffer.append(bytes, |out| write_preface(out, spot, &draft, survey));
        let frontier_at = buffer.filled();
        let frontier_bytes = self.frontier.record_bytes();
        buffer.append(frontier_bytes, |out| {
            out.resize(out.len() + frontier_bytes, 0)
        });
        self.open = Some(OpenBatch {
            number,
            start,
            records: 1 + u32::from(self.frontier.is_shared()),
            began_ns: now_ns,
            survey: survey_segments.map_or(0, |_| spot.generation),
            frontier_at,
            tick: self.frontier.tick,
            is_promised: false,
        });
        self.next_number += 1;
        Ok(())
    }

    /// Closes what is open and takes another buffer, in the next segment where this one is full; whether it is one.
    pub(super) fn next_buffer(
        &mut self,
        total: usize,
        segments_left: u32,
        effects: &mut Effects,
    ) -> Result<bool, NoRoom> {
        let block = self.config.block_bytes;
        let roll_bytes = match self.open {
            Some(_) => self.roll.len(),
            None => self.roll_before.len(),
        };
        let frontier_bytes = self.frontier.record_bytes();
        let need_with = |segments: usize| {
            (BATCH_HEADER_BYTES + preface_bytes(roll_bytes, segments) + frontier_bytes + total)
                .next_multiple_of(block)
        };
        let mut need = need_with(0);
        let left = self
            .active
            .and_then(|id| self.segments.get(id))
            .map_or(0, |s| self.config.segment_bytes - s.used_bytes);
        let is_new = (left as usize) < need;
        let is_ready = self.segments.first(SegmentState::Ready).is_some();
        if is_new && (!is_ready || self.free_segments() <= segments_left) {
            return Err(NoRoom::Segment);
        }
        self.close_batch(effects);
        self.current = None;
        if is_new {
            self.activate_next();
            let surveyed = survey_segments(&self.segments, self.config.segment_bytes, self.active);
            need = need_with(surveyed.unwrap_or(0));
        }
        let Some((segment, offset, generation)) = self.end() else {
            unreachable!("a segment is active")
        };
        let room = self
            .config
            .buffer_bytes
            .max(need)
            .min((self.config.segment_bytes - offset) as usize);
        self.evict_tail(room);
        let mut buffer = match self.free.iter().position(|b| b.room() == room) {
            Some(at) => self.free.swap_remove(at),
            None => LogBuffer::new(room, self.config.block_bytes),
        };
        buffer.reset(segment, generation, offset);
        let id = self.place_buffer(buffer);
        self.tail.push_back(id);
        self.tail_bytes += room;
        self.segments.at(segment).buffers.push_back((offset, id));
        self.current = Some(id);
        Ok(is_new)
    }

    pub(super) fn activate_next(&mut self) {
        self.seal_active();
        let next = self.segments.next_spare(self.surveyed_generation);
        let Some(id) = next else {
            unreachable!("the caller found a spare")
        };
        let segment = self.segments.at(id);
        segment.state = SegmentState::Active;
        segment.generation = self.next_generation;
        segment.used_bytes = 0;
        segment.live_bytes = 0;
        segment.has_graves = false;
        segment.before = self.last_number;
        segment.last = BatchNumber(0);
        segment.freed_at = 0;
        self.next_generation += 1;
        self.active = Some(id);
    }

    pub(super) fn seal_active(&mut self) {
        if let Some(id) = self.active.take() {
            self.segments.at(id).state = SegmentState::Sealed;
        }
    }

    /// Submits the open batch, if there is one.
    pub fn close_batch(&mut self, effects: &mut Effects) {
        let Some(open) = self.open.take() else { return };
        let Some(id) = self.current else {
            unreachable!("an open batch has a buffer")
        };
        let ticket = self.ticket();
        let Some(buffer) = self.buffers[id as usize].as_mut() else {
            unreachable!("the current buffer is there")
        };
        let segment = buffer.segment;
        let header = BatchHeader {
            generation: self.segments.at(segment).generation,
            number: open.number,
            bytes: (buffer.filled() - open.start) as u32,
            records: open.records,
            durable: self.durable,
            hlc_ceiling: self.hlc_ceiling,
            previous: self.last_number,
            owner: self.config.owner,
            offset: buffer.offset + open.start as u32,
            is_cut: false,
        };
        buffer.patch(open.start, &header.encode());
        if self.frontier.is_shared() {
            write_frontier(buffer, &self.frontier, &open, &mut self.frontier_body);
            self.unsettled.push_back((open.tick, open.number));
            if self.unsettled.len() > UNSETTLED_MAX {
                // Coarser: these are known to be settled when the later of the two is.
                self.unsettled.pop_front();
            }
        }
        buffer.pad(self.config.block_bytes);
        let bytes = buffer.filled() - open.start;
        let offset = u64::from(buffer.offset) + open.start as u64;
        let commit = Commit {
            number: open.number,
            ticket,
            buffer: id,
            start: open.start,
            bytes,
            hlc_ceiling: self.hlc_ceiling,
            survey: open.survey,
            tick: open.tick,
            is_promised: open.is_promised,
            is_done: false,
        };
        self.in_flight.push_back(commit);
        self.in_flight_bytes += bytes;
        self.last_number = open.number;
        self.segments.at(segment).last = open.number;
        core::mem::swap(&mut self.roll, &mut self.roll_before);
        self.roll.clear();
        self.roll_of = open.number;
        self.commits += 1;
        self.submitted_bytes += bytes as u64;
        let data = LogRange {
            buffer: id,
            start: open.start as u32,
            bytes: bytes as u32,
        };
        effects.list.push(Effect::Write {
            ticket,
            file: FileId::Segment(segment),
            offset,
            data,
        });
    }
}

/// How many segments the survey of a new segment lists; `None` when they are too many.
pub(super) fn survey_segments(
    segments: &Segments,
    segment_bytes: u32,
    active: Option<SegmentId>,
) -> Option<usize> {
    let count = segments
        .in_use()
        .filter(|used| Some(used.id) != active)
        .count();
    (count * SURVEY_USE_BYTES <= segment_bytes as usize / SURVEY_PART).then_some(count)
}

/// Fills in the record of what a batch depends on.
pub(super) fn write_frontier(
    buffer: &mut LogBuffer,
    frontier: &Frontier,
    open: &OpenBatch,
    body: &mut Vec<u8>,
) {
    body.clear();
    frontier.write_body((open.tick, open.number), open.is_promised, body);
    let header = RecordHeader {
        body_crc: crc32c::crc32c(body),
        body_bytes: body.len() as u32,
        key_bytes: 0,
        tag15: 0,
        flags: FLAG_CONTROL | FLAG_FRONTIER,
        token: Token(0),
        fingerprint: 0,
    };
    let spot = Spot {
        generation: buffer.generation,
        offset: buffer.offset + open.frontier_at as u32,
    };
    buffer.patch(open.frontier_at, &header.encode(spot));
    buffer.patch(open.frontier_at + RECORD_HEADER_BYTES, body);
}

pub(super) fn seal_record(
    buffer: &mut LogBuffer,
    at: usize,
    head: Head<'_>,
    body_bytes: usize,
    body_crc: u32,
) {
    let header = RecordHeader {
        body_crc,
        body_bytes: body_bytes as u32,
        key_bytes: head.key.len() as u16,
        tag15: head.tag15,
        flags: head.flags,
        token: head.token,
        fingerprint: head.fingerprint,
    };
    seal_with(buffer, at, header);
}

pub(super) fn seal_with(buffer: &mut LogBuffer, at: usize, header: RecordHeader) {
    let spot = Spot {
        generation: buffer.generation,
        offset: buffer.offset + at as u32,
    };
    buffer.patch(at, &header.encode(spot));
    buffer.pad(RECORD_ALIGN);
}
