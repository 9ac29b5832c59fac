//! Commits that have ended, well or not.

use super::*;

impl Log {
    /// Whether a finished write is one of the log's; notes it, and advances [`durable`](Self::durable).
    pub fn write_done(&mut self, ticket: Ticket) -> bool {
        self.given_up.retain(|commit| commit.ticket != ticket);
        let Some(commit) = self
            .in_flight
            .iter_mut()
            .find(|commit| commit.ticket == ticket)
        else {
            return false;
        };
        commit.is_done = true;
        if !self.is_anew_done() {
            return true;
        }
        while let Some(first) = self.in_flight.front().filter(|commit| commit.is_done) {
            self.durable = first.number;
            if first.is_promised {
                self.promised_durable = first.number;
            }
            self.ceiling_durable = self.ceiling_durable.max(first.hlc_ceiling);
            self.surveyed_generation = self.surveyed_generation.max(first.survey);
            self.in_flight_bytes -= first.bytes;
            self.in_flight.pop_front();
        }
        true
    }

    /// Whether all that a failed write had is on stable media.
    fn is_anew_done(&self) -> bool {
        let upto = self.anew_upto;
        let is_open = self.open.as_ref().is_some_and(|open| open.number <= upto);
        let mut anew = self.in_flight.iter().take_while(|c| c.number <= upto);
        !is_open && anew.all(|commit| commit.is_done)
    }

    /// All that a failed write had is appended anew: it counts as durable together. Where it is several batches, the last
    /// is submitted at once, for those before it stay on their way until it has ended.
    pub(crate) fn end_anew(&mut self, effects: &mut Effects) {
        self.anew_upto = self.newest();
        if !self.in_flight.is_empty() {
            self.close_batch(effects);
        }
    }

    /// Takes back everything that is not durable after a failed write: seals the segment and returns the commits
    /// concerned, oldest first, whose records must be appended anew. `None` when the ticket is not the log's.
    pub(crate) fn write_failed(
        &mut self,
        ticket: Ticket,
        effects: &mut Effects,
    ) -> Option<Vec<Commit>> {
        self.given_up.retain(|commit| commit.ticket != ticket);
        self.in_flight
            .iter()
            .find(|commit| commit.ticket == ticket)?;
        self.close_batch(effects);
        // A batch that was closed just now must not be written behind a hole: its effect is the last one.
        let newest = self.in_flight.back().map(|commit| commit.ticket);
        let is_unwritten = matches!(effects.list.last(), Some(Effect::Write { ticket, .. }) if Some(*ticket) == newest);
        if is_unwritten {
            effects.list.pop();
        }
        let failed: Vec<Commit> = self.in_flight.drain(..).collect();
        let on_the_way = failed.iter().filter(|c| {
            !c.is_done && c.ticket != ticket && !(is_unwritten && Some(c.ticket) == newest)
        });
        self.given_up.extend(on_the_way);
        self.in_flight_bytes = 0;
        self.last_number = self.durable;
        self.current = None;
        self.seal_active();
        // The keys of the batch that is the last one again were listed in one that does not count.
        self.roll_of = BatchNumber(0);
        self.roll_before.clear();
        self.segments.forget_after(self.durable);
        // What they had is settled when the batches are that have it now.
        let durable = self.durable;
        self.unsettled.retain(|(_, number)| *number <= durable);
        Some(failed)
    }

    /// The bytes of a commit that is still in memory.
    pub(crate) fn commit_bytes(&self, commit: &Commit) -> (&[u8], SegmentId) {
        match self
            .buffers
            .get(commit.buffer as usize)
            .and_then(Option::as_ref)
        {
            Some(buffer) => (
                &buffer.bytes()[commit.start..commit.start + commit.bytes],
                buffer.segment,
            ),
            None => (&[], SegmentId(0)),
        }
    }
}
