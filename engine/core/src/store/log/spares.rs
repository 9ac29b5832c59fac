//! Spares: segments that are given back, made, and given up.

use super::*;

impl Log {
    /// Whether another segment is to be made. A device that refused one is asked again however many spares the cleaner
    /// has given back by then: what it answers is the only sign that it has space.
    pub(super) fn wants_spare(&self) -> bool {
        let has_too_few = self.segments.count(SegmentState::Ready) < SPARES;
        self.preparing.is_none()
            && (has_too_few || self.is_device_full)
            && self.segments.files() < self.config.segments_max
    }

    /// Makes an emptied segment a spare, or none where its file is missing. What it holds stays on the medium until it is used anew.
    pub fn recycle(&mut self, id: SegmentId) {
        self.drop_segment_buffers(id);
        let freed_at = self.next_generation;
        let segment = self.segments.at(id);
        segment.live_bytes = 0;
        segment.used_bytes = 0;
        segment.state = if core::mem::take(&mut segment.is_missing) {
            SegmentState::Absent
        } else {
            SegmentState::Ready
        };
        segment.freed_at = freed_at;
    }

    /// Removes the files of spares beyond those that are kept, once a survey on stable media leaves out what they held.
    pub fn trim_spares(&mut self, effects: &mut Effects) {
        while self.segments.count(SegmentState::Ready) > SPARES + 1 {
            let spare = self.segments.next_spare(self.surveyed_generation);
            let surveyed = self.surveyed_generation;
            let Some(id) = spare.filter(|id| self.segments.at(*id).freed_at <= surveyed) else {
                return;
            };
            let segment = self.segments.at(id);
            segment.state = SegmentState::Absent;
            segment.freed_at = 0;
            effects.list.push(Effect::Remove {
                file: FileId::Segment(id),
            });
        }
    }

    /// Asks for another spare where there are too few.
    pub fn keep_spares(&mut self, now_ns: u64, effects: &mut Effects) {
        if !self.wants_spare() || now_ns < self.prepare_not_before_ns {
            return;
        }
        let fill_bytes = match (self.segments.files(), self.fill_spares) {
            (_, true) => self.config.segment_bytes,
            (0, false) => FIRST_FILL_BYTES.min(self.config.segment_bytes),
            (_, false) => 0,
        };
        let id = self
            .segments
            .first(SegmentState::Absent)
            .unwrap_or_else(|| SegmentId(self.segments.iter().count() as u32));
        self.segments.reach(id).state = SegmentState::Preparing;
        let ticket = self.ticket();
        self.preparing = Some((ticket, id));
        let bytes = u64::from(self.config.segment_bytes);
        effects.list.push(Effect::Prepare {
            ticket,
            file: FileId::Segment(id),
            bytes,
            fill_bytes: u64::from(fill_bytes),
        });
    }

    /// Whether a finished preparation is one of the log's; notes its end.
    pub fn prepare_done(
        &mut self,
        ticket: Ticket,
        result: Result<(), IoError>,
        now_ns: u64,
        effects: &mut Effects,
    ) -> bool {
        let Some((_, id)) = self.preparing.take_if(|(asked, _)| *asked == ticket) else {
            return false;
        };
        match result {
            Ok(()) => {
                self.is_device_full = false;
                self.segments.at(id).state = SegmentState::Ready;
            }
            Err(_) => {
                self.is_device_full = true;
                self.prepare_not_before_ns = now_ns.saturating_add(PREPARE_RETRY_NS);
                self.segments.at(id).state = SegmentState::Absent;
                effects.list.push(Effect::Remove {
                    file: FileId::Segment(id),
                });
            }
        }
        true
    }
}
