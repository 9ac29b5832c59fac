//! What a decided write makes: the object, its record, and what the coordinator is told.

use super::*;
use crate::base::time::HlcClock;

impl Replica {
    pub(super) fn put_latest(
        &mut self,
        now: Now,
        request: &Request<'_>,
        key: KeyId,
        what: What<'_>,
        want_context: bool,
        effects: &mut Effects,
    ) -> Result<(BatchNumber, Option<ByteRange>), NotWritten> {
        let hlc = self.date(now, key.token);
        let dot = Dot::newborn(self.config.node, hlc);
        let fingerprint = Fingerprint::of_dot(key.token.0, dot).bits();
        let tombstone = if matches!(what.content, Content::Tombstone) {
            FLAG_TOMBSTONE
        } else {
            0
        };
        let flags = tombstone
            | if what.expires_at_ms.is_some() {
                FLAG_EXPIRES
            } else {
                0
            };
        let bytes = latest_encoded_len(what.write_id, what.content, what.expires_at_ms);
        let head = Head {
            token: key.token,
            tag15: key.tag15,
            flags,
            fingerprint,
            bucket: request.bucket,
            key: request.key,
        };
        self.begin_tick(now, effects);
        self.raise_ceiling(now, hlc);
        let appended = self.log.append(
            head,
            bytes,
            |out| write_latest(out, dot, what.write_id, what.content, what.expires_at_ms),
            now.mono_ns,
            effects,
        )?;
        self.note_written(key, fingerprint, flags, appended);
        self.tell_applied(request, key, effects);
        if mutant::is(Mutant::DeleteLeavesNothing) && !key.token.is_hint() {
            self.forget_tombstone(key.token, fingerprint);
        }
        let context = want_context.then(|| keep_latest_context(effects, key.token, dot));
        Ok((appended.batch, context))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; the two pairs are what a put is made of"
    )]
    pub(super) fn put_causal(
        &mut self,
        now: Now,
        request: &Request<'_>,
        plan: &Plan,
        (context, kind): (Option<&ClientContext>, PutKind),
        old: Option<ObjectView<'_>>,
        (what, want_context): (What<'_>, bool),
        effects: &mut Effects,
    ) -> Result<(BatchNumber, Option<ByteRange>), NotWritten> {
        let met = context.map_or(Hlc::default(), |context| {
            context.greatest.max(context.context.max_hlc())
        });
        if self.is_too_late(now, met) {
            return Err(NotWritten::Failed(Failure::ClockBehind));
        }
        let mode = match (kind, context) {
            (PutKind::Context, Some(context)) => PutMode::Context(context),
            (PutKind::Sibling, _) => PutMode::Sibling,
            (PutKind::Supersede | PutKind::Context, _) => PutMode::Supersede,
        };
        let local = match (&old, plan.entry) {
            (Some(view), _) => Local::Read(view),
            (None, Some(_)) => Local::Unread,
            (None, None) => Local::Absent,
        };
        if let Some(view) = &old {
            let _ = self.clock.observe(view.max_hlc(), now.wall_ms, u64::MAX);
        }
        let dated = self.date(now, plan.key.token);
        let input = PutInput {
            key_hash: plan.key.token.0,
            node: self.config.node,
            since: self.since(plan.key.token),
            now: dated,
            mode,
            conflict: plan.conflict,
            write_id: what.write_id,
            content: what.content,
            expires_at_ms: what.expires_at_ms,
        };
        let outcome = match put(local, &input) {
            Ok(outcome) => outcome,
            Err(PutError::Stale { .. }) => {
                let current = effects.keep(old.map_or(&[], |view| view.as_bytes()));
                return Err(NotWritten::Failed(Failure::Stale { current }));
            }
            Err(PutError::ClockBehind { .. }) => {
                return Err(NotWritten::Failed(Failure::ClockBehind));
            }
        };
        // Whoever reads what is there and puts with its context makes fewer of them.
        let (bytes, bytes_max) = (
            outcome.object.encoded_len(),
            self.config.siblings_bytes_max(),
        );
        let grows = old.is_none_or(|view| bytes > view.as_bytes().len());
        let are_many = bytes > bytes_max && outcome.object.siblings().len() > 1;
        if are_many && grows && !mutant::is(Mutant::SiblingsUnbounded) {
            mark::reach(Mark::SiblingsRefused);
            return Err(NotWritten::Failed(too_large(bytes, bytes_max)));
        }
        let batch = if outcome.is_repeated {
            mark::reach(Mark::RetryRecognised);
            let object = old.map_or(&[][..], |view| view.as_bytes());
            self.tell_again(request, object.to_vec(), effects);
            self.log.newest()
        } else {
            self.begin_tick(now, effects);
            self.raise_ceiling(now, input.now);
            self.append_object(now, request, plan.key, &outcome.object, effects)?
        };
        let context = want_context.then(|| {
            let start = effects.bytes.len() as u32;
            self.stats.context_entries_dropped +=
                outcome.returned.encode_opaque(&mut effects.bytes) as u64;
            ByteRange {
                start,
                end: effects.bytes.len() as u32,
            }
        });
        Ok((batch, context))
    }

    pub(super) fn append_object(
        &mut self,
        now: Now,
        request: &Request<'_>,
        key: KeyId,
        object: &Object,
        effects: &mut Effects,
    ) -> Result<BatchNumber, NotWritten> {
        let mut encoded = core::mem::take(&mut self.new_object);
        encoded.clear();
        object.encode(&mut encoded);
        let (bytes, bytes_max) = (encoded.len(), self.config.object_bytes_max());
        if bytes > bytes_max {
            return Err(NotWritten::Failed(too_large(bytes, bytes_max)));
        }
        let siblings = object.siblings();
        let tombstone = if siblings.iter().all(|sibling| sibling.value.is_none()) {
            FLAG_TOMBSTONE
        } else {
            0
        };
        let expires = if siblings
            .iter()
            .any(|sibling| sibling.expires_at_ms.is_some())
        {
            FLAG_EXPIRES
        } else {
            0
        };
        let flags = tombstone | expires;
        let fingerprint = object.fingerprint(key.token.0).bits();
        let head = Head {
            token: key.token,
            tag15: key.tag15,
            flags,
            fingerprint,
            bucket: request.bucket,
            key: request.key,
        };
        let appended = self.log.append(
            head,
            encoded.len(),
            |out| out.extend_from_slice(&encoded),
            now.mono_ns,
            effects,
        );
        self.new_object = encoded;
        let appended = appended?;
        self.note_written(key, fingerprint, flags, appended);
        self.tell_applied(request, key, effects);
        if mutant::is(Mutant::DeleteLeavesNothing) && !key.token.is_hint() {
            self.forget_tombstone(key.token, fingerprint);
        }
        Ok(appended.batch)
    }

    /// Tells the coordinator the object that was just appended: at once, or when no crash can make this node use the
    /// object's time again.
    pub(super) fn tell_applied(
        &mut self,
        request: &Request<'_>,
        key: KeyId,
        effects: &mut Effects,
    ) {
        if !request.wants_object {
            return;
        }
        let object = self
            .index
            .get(key.token, key.tag15)
            .and_then(|entry| self.find(entry.place, key.token, None))
            .and_then(|record| record.object_of(request.bucket, request.key));
        let object = object.expect("what was just appended is in memory");
        let id = request.id;
        if self.is_time_ahead() && !mutant::is(Mutant::AppliedAhead) {
            mark::reach(Mark::ReplyAwaitedCeiling);
            let (batch, object) = (self.log.newest(), object.into());
            self.applied_ahead
                .push_back(AppliedAhead { batch, id, object });
            return;
        }
        let object = effects.keep(object);
        effects.list.push(Effect::Applied { id, object });
    }

    /// Tells the coordinator of a repeated write the object that is there. The first write's time may not have been
    /// promised yet: then it waits for what promises it, as the first write does.
    pub(super) fn tell_again(
        &mut self,
        request: &Request<'_>,
        object: Vec<u8>,
        effects: &mut Effects,
    ) {
        if !request.wants_object {
            return;
        }
        let (id, batch) = (request.id, self.log.newest());
        let is_ahead = self.is_time_ahead() && batch > self.log.durable();
        if is_ahead && !mutant::is(Mutant::AppliedAhead) {
            let object = object.into_boxed_slice();
            self.applied_ahead
                .push_back(AppliedAhead { batch, id, object });
            return;
        }
        let object = effects.keep(&object);
        effects.list.push(Effect::Applied { id, object });
    }

    pub(super) fn note_written(
        &mut self,
        key: KeyId,
        fingerprint: u64,
        flags: u8,
        appended: Appended,
    ) {
        self.note_appended(key, fingerprint, flags, appended);
        self.stats.puts += 1;
        self.stats.written_bytes += u64::from(appended.bytes);
    }

    /// The time of a write that is made here. With the first one of a run it is known where the clock begins: behind all
    /// that was promised, and not behind the wall clock, which may be wrong at a start and right a moment later. A hint is no
    /// such write: one is over as soon as another node is heard, before anybody could object to the clock, and no clock goes back.
    pub(super) fn date(&mut self, now: Now, token: Token) -> Hlc {
        let is_first = !self.wall_clock.is_used();
        if is_first && token.is_hint() {
            return self.clock.tick(0);
        }
        let Some(wall_ms) = self.wall_clock.wall_ms(now) else {
            return self.clock.tick(0);
        };
        if is_first {
            let begins = self.clock.last().max(Hlc::from_ms(wall_ms).before());
            self.clock = HlcClock::after(begins);
            if !self.is_whole_known {
                self.is_whole_known = true;
                self.whole_since = self.whole_since.max(begins);
            }
        }
        self.clock.tick(wall_ms)
    }

    /// Absorbs a time of an object or a context; whether it is refused instead, since it is too far ahead.
    pub(super) fn is_too_late(&mut self, now: Now, met: Hlc) -> bool {
        // What other nodes object to, or may yet, counts as little as what they have not.
        let dated_ms = self.wall_clock.used_wall_ms(now);
        let wall_ms = now.wall_ms.max(dated_ms.unwrap_or(0));
        let drift_ms = self.config.clock_drift_ms_max;
        let is_refused = self.clock.observe(met, wall_ms, drift_ms).is_err();
        self.stats.clocks_refused += u64::from(is_refused);
        is_refused
    }

    /// Keeps the clock's ceiling ahead of use, in the batch that is being built.
    pub(super) fn raise_ceiling(&mut self, now: Now, hlc: Hlc) {
        let wall_ms = self.wall_clock.used_wall_ms(now).unwrap_or(hlc.ms());
        let ahead = Hlc::from_ms(wall_ms.saturating_add(CEILING_AHEAD_MS)).max(hlc.after());
        self.log.hlc_ceiling = self.log.hlc_ceiling.max(ahead.0);
        self.log.frontier.hlc = self.log.frontier.hlc.max(hlc.0);
    }

    /// Whether a time that was used lies beyond what is on stable media as possibly used. It may not leave: after a crash
    /// it could be used again.
    pub(super) fn is_time_ahead(&self) -> bool {
        self.clock.last().0 > self.log.ceiling_durable()
    }
}

/// What the last writer goes on with.
pub(super) fn keep_latest_context(effects: &mut Effects, token: Token, dot: Dot) -> ByteRange {
    let start = effects.bytes.len() as u32;
    write_latest_context(&mut effects.bytes, token.0, dot);
    let end = effects.bytes.len() as u32;
    ByteRange { start, end }
}
