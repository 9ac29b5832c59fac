//! What is live: index, digest and live bytes together, and the damage that is known.

use super::*;
use crate::store::segment::{Segment, SegmentState};

impl Replica {
    pub(in crate::replica) fn note_damage(&mut self, segment: SegmentId, offset: u64) {
        let damage = Damage { segment, offset };
        if !self.stats.damage.contains(&damage) && self.stats.damage.len() < 1024 {
            self.stats.damage.push(damage);
        }
    }

    /// How much of what was damaged is still unknown.
    pub(in crate::replica) fn damage_unrepaired(&self) -> u64 {
        let is_named = |(token, place): &&(Token, u64)| {
            let entry = self.index.get(*token, Place(*place).tag15());
            entry.is_some_and(|entry| entry.place.0 == *place)
        };
        let keys = self.lost.iter().filter(is_named).count();
        let is_left = |(_, segment): &(SegmentId, &Segment)| {
            segment.state == SegmentState::Quarantined && segment.live_bytes > 0
        };
        let segments = self.log.segments.iter().filter(is_left).count();
        (keys + segments + self.tainted.len()) as u64
    }

    /// A segment is given back: what was damaged in it is of no use to anybody.
    pub(in crate::replica) fn forget_damage(&mut self, id: SegmentId) {
        self.release_damaged(id);
        if self.stats.damage.is_empty() {
            return;
        }
        self.stats.damage.retain(|damage| damage.segment != id);
        let layout = &self.layout;
        self.lost
            .retain(|(_, place)| layout.segment(Place(*place)) != id);
    }

    /// Notes a record that was appended: index, digest, live bytes.
    pub(in crate::replica) fn note_appended(
        &mut self,
        key: KeyId,
        fingerprint: u64,
        flags: u8,
        appended: Appended,
    ) {
        let place = self.layout.pack(
            appended.segment,
            appended.offset,
            appended.bytes,
            flags,
            key.tag15,
        );
        let entry = crate::store::index::Entry { fingerprint, place };
        let former = self.index.put(key.token, key.tag15, entry);
        self.digest
            .replace(key.token, former.map_or(0, |f| f.fingerprint), fingerprint);
        self.add_live(place);
        if let Some(former) = former {
            self.subtract_live(former.place);
        }
    }

    pub(in crate::replica) fn add_live(&mut self, place: Place) {
        let bytes = u64::from(place.bytes_upper());
        self.live_bytes += bytes;
        if let Some(segment) = self.log.segments.get_mut(self.layout.segment(place)) {
            segment.live_bytes += bytes;
        }
    }

    /// Forgets what the index knows of a key; false when it knows nothing.
    pub(in crate::replica) fn forget_entry(&mut self, token: Token, tag15: u16) -> bool {
        let Some(former) = self.index.remove(token, tag15) else {
            return false;
        };
        self.digest.replace(token, former.fingerprint, 0);
        self.subtract_live(former.place);
        true
    }

    pub(in crate::replica) fn subtract_live(&mut self, place: Place) {
        let bytes = u64::from(place.bytes_upper());
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        if let Some(segment) = self.log.segments.get_mut(self.layout.segment(place)) {
            segment.live_bytes = segment.live_bytes.saturating_sub(bytes);
        }
    }

    /// Whether the index names this very place for the record.
    pub(in crate::replica) fn is_live_at(
        &self,
        record: &crate::store::format::RecordHeader,
        segment: SegmentId,
        offset: u32,
    ) -> bool {
        self.index
            .get(record.token, record.tag15)
            .is_some_and(|entry| {
                self.layout.segment(entry.place) == segment
                    && self.layout.offset(entry.place) == offset
            })
    }
}
