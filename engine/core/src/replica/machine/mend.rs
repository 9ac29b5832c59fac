//! A write to the log that failed: what was in it is appended anew elsewhere, or the shard turns read-only.

use super::*;

/// A record whose write failed.
pub(super) struct FailedRecord {
    pub(super) segment: SegmentId,
    pub(super) offset: u32,
    pub(super) header: crate::store::format::RecordHeader,
    pub(super) body: Box<[u8]>,
}

impl Replica {
    /// After a failed write: what was not durable goes to another segment, whole; after several, the shard turns
    /// read-only. A failed write is never tried again as if nothing had happened (Rebello et al., ATC 2020).
    pub(super) fn mend_failed_write(
        &mut self,
        now: Now,
        commits: &[crate::store::log::Commit],
        effects: &mut Effects,
    ) {
        self.stats.write_faults += 1;
        self.write_faults_in_row += 1;
        self.void_checkpoint();
        let mut is_lost = self.write_faults_in_row >= WRITE_FAULTS_MAX;
        if !is_lost {
            // All of them first: appending may take the memory of what was written.
            let records: Vec<FailedRecord> = commits
                .iter()
                .flat_map(|commit| self.failed_records(commit))
                .collect();
            is_lost = !self.append_anew(now, &records, effects);
        }
        if is_lost {
            self.is_read_only = true;
            mark::reach(Mark::TurnedReadOnly);
            self.applied_ahead.clear();
            for waiter in core::mem::take(&mut self.commit_waiters) {
                self.waiting -= 1;
                effects.reply(waiter.id, Outcome::Failed(Failure::InDoubt));
            }
            return self.fail_stalled(Failure::ReadOnly, effects);
        }
        let batch = self.log.newest();
        let durable = self.log.durable();
        for waiter in self
            .commit_waiters
            .iter_mut()
            .filter(|waiter| waiter.batch > durable)
        {
            waiter.batch = batch;
        }
        for applied in &mut self.applied_ahead {
            applied.batch = batch;
        }
        if self.commit_waiters.iter().any(|waiter| waiter.is_promise) {
            self.log.promise(batch);
        }
        self.log.end_anew(effects);
        self.is_commit_urgent = true;
    }

    pub(super) fn failed_records(&self, commit: &crate::store::log::Commit) -> Vec<FailedRecord> {
        let (bytes, segment) = self.log.commit_bytes(commit);
        let mut records = Vec::new();
        let Some(header) = crate::store::format::BatchHeader::decode(bytes) else {
            return records;
        };
        crate::store::format::walk_batch(&header, bytes, |offset, record| {
            if let Ok(record) = record {
                records.push(FailedRecord {
                    segment,
                    offset,
                    header: record.header,
                    body: record.body.into(),
                });
            }
        });
        records
    }

    pub(super) fn append_anew(
        &mut self,
        now: Now,
        records: &[FailedRecord],
        effects: &mut Effects,
    ) -> bool {
        for record in records {
            let header = &record.header;
            let is_live = self.is_live_at(header, record.segment, record.offset);
            // A partition that was dropped stays dropped, though it was gained again since.
            if !is_live && header.flags & FLAG_DROP == 0 {
                continue;
            }
            let appended = self
                .log
                .append_copy(header, &record.body, now.mono_ns, effects);
            let Ok(appended) = appended else {
                return false;
            };
            if !is_live {
                self.note_grave(appended.segment);
                continue;
            }
            let key = KeyId {
                token: header.token,
                tag15: header.tag15,
            };
            self.note_appended(key, header.fingerprint, header.flags, appended);
            mark::reach(Mark::FailedWriteMoved);
        }
        true
    }
}
