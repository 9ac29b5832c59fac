//! Writes: puts, deletes, changes of expiry, merges. One path decides, one appends.
//!
//! A `latest` put without conditions needs no read and allocates nothing: its object dominates whatever is there. All
//! others read what is there first, unless the index shows the very fingerprint that their context names (design,
//! section 3, "Writes without a read").
//!
//! # Layout
//! - `append`: the object and its record; `merge`: an object that is there already elsewhere.

mod append;
mod merge;

use append::keep_latest_context;

use crate::base::ids::{BatchNumber, Token};
use crate::base::mark::{self, Mark};
use crate::base::mutant::{self, Mutant};
use crate::base::time::{Hlc, Now};
use crate::port::{
    ByteRange, Condition, ContextArg, Durability, Effect, Effects, Expiry, Failure, Op, Outcome,
    Request,
};
use crate::replica::Replica;
use crate::replica::machine::{Admission, Answer, AppliedAhead, CEILING_AHEAD_MS, Fetched, KeyId};
use crate::store::format::{FLAG_EXPIRES, FLAG_TOMBSTONE};
use crate::store::index::Entry;
use crate::store::log::{Appended, CLEANER_RESERVE, Head, NoRoom};
use crate::version::{
    ClientContext, Conflict, Content, Dot, Fingerprint, Local, Object, ObjectView, PutError,
    PutInput, PutMode, WriteId, dominates_without_read, latest_encoded_len, put, write_latest,
    write_latest_context,
};

/// Where the written content comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Value(&'a [u8]),
    Tombstone,
    Old,
}

/// A write, whatever its command was.
#[derive(Clone, Copy)]
struct Write<'a> {
    context: ContextArg<'a>,
    source: Source<'a>,
    expiry: Expiry,
    condition: Condition,
    want_previous: bool,
    want_context: bool,
    write_id: Option<WriteId>,
}

/// How the write follows what is there.
enum Mode {
    Latest,
    Other(Option<ClientContext>, PutKind),
}

#[derive(Clone, Copy)]
enum PutKind {
    Supersede,
    Sibling,
    Context,
}

impl<'a> Write<'a> {
    fn of(op: &Op<'a>) -> Option<Self> {
        let plain = Write {
            context: ContextArg::Latest,
            source: Source::Old,
            expiry: Expiry::Default,
            condition: Condition::Always,
            want_previous: false,
            want_context: false,
            write_id: None,
        };
        match *op {
            Op::Put(put) => Some(Write {
                context: put.context,
                source: Source::Value(put.value),
                expiry: put.expiry,
                condition: put.condition,
                want_previous: put.want_previous,
                want_context: put.want_context,
                write_id: put.write_id,
            }),
            Op::Delete {
                context,
                want_previous,
                want_context,
                write_id,
            } => Some(Write {
                context,
                source: Source::Tombstone,
                expiry: Expiry::Never,
                want_previous,
                want_context,
                write_id,
                ..plain
            }),
            Op::SetExpiry {
                expiry,
                want_previous,
            } => Some(Write {
                expiry,
                condition: Condition::IfPresent,
                want_previous,
                ..plain
            }),
            Op::Get
            | Op::Exists
            | Op::Fetch { .. }
            | Op::Scan { .. }
            | Op::Records { .. }
            | Op::Count
            | Op::Cluster { .. }
            | Op::Merge { .. } => None,
        }
    }
}

impl Replica {
    pub(super) fn write(
        &mut self,
        now: Now,
        request: &Request<'_>,
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        let is_delete = matches!(request.op, Op::Delete { .. });
        if self.is_read_only {
            return effects.reply(request.id, Outcome::Failed(Failure::ReadOnly));
        }
        if !is_delete {
            match self.admission {
                Admission::Full => {
                    if self.refused_hints.keep(request) {
                        return;
                    }
                    mark::reach(Mark::DiskFullRefused);
                    return effects.reply(request.id, Outcome::Failed(Failure::DiskFull));
                }
                Admission::Wait => {
                    mark::reach(Mark::PutStalled);
                    return self.stall(request, effects);
                }
                Admission::Go => {}
            }
        }
        if self.has_all_that_may_wait() && self.awaits_commit(request) {
            mark::reach(Mark::WriteShed);
            return self.shed(request, effects);
        }
        match (&request.op, Write::of(&request.op)) {
            (Op::Merge { object }, _) => self.merge(now, request, object, fetched, effects),
            (_, Some(write)) => self.decide(now, request, write, fetched, effects),
            (_, None) => unreachable!("only writes come here"),
        }
    }

    /// Whether a write will wait for a commit. What fills a new log comes no faster than it is answered.
    fn awaits_commit(&self, request: &Request<'_>) -> bool {
        let of_bucket = || self.bucket(request.bucket).map(|bucket| bucket.durability);
        let durability = request.durability.or_else(of_bucket).unwrap_or_default();
        let waits = durability != Durability::Buffered || self.is_time_ahead();
        waits && !self.is_being_filled && !mutant::is(Mutant::WaitersUncounted)
    }

    fn decide(
        &mut self,
        now: Now,
        request: &Request<'_>,
        write: Write<'_>,
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        let Some(bucket) = self.bucket(request.bucket) else {
            return effects.reply(request.id, Outcome::Failed(Failure::NoBucket));
        };
        let (conflict, blind_put, ttl_ms, bucket_durability) = (
            bucket.conflict,
            bucket.blind_put,
            bucket.ttl_ms,
            bucket.durability,
        );
        if let Source::Value(value) = write.source
            && value.len() > self.config.value_bytes_max as usize
        {
            let failure = too_large(value.len(), self.config.value_bytes_max as usize);
            return effects.reply(request.id, Outcome::Failed(failure));
        }
        let mode = match write.context {
            _ if conflict == Conflict::Lww => Ok(Mode::Latest),
            ContextArg::Latest => Ok(Mode::Latest),
            ContextArg::Blind => match blind_put.mode() {
                Some(PutMode::Latest) => Ok(Mode::Latest),
                Some(_) if mutant::is(Mutant::BlindIsLatest) => Ok(Mode::Latest),
                Some(PutMode::Sibling) => Ok(Mode::Other(None, PutKind::Sibling)),
                Some(PutMode::Supersede | PutMode::Context(_)) => {
                    Ok(Mode::Other(None, PutKind::Supersede))
                }
                None => Err(Failure::Stale {
                    current: effects.keep(&[]),
                }),
            },
            ContextArg::Opaque(bytes) => match ClientContext::decode_opaque(bytes) {
                Ok(context) => Ok(Mode::Other(Some(context), PutKind::Context)),
                Err(_) => Err(Failure::BadContext),
            },
        };
        let mode = match mode {
            Ok(mode) => mode,
            Err(failure) => return effects.reply(request.id, Outcome::Failed(failure)),
        };
        let key = self.key_id(request);
        let entry = self.index.get(key.token, key.tag15);
        let is_unknown = match entry {
            Some(entry) => self.is_doubtful(key.token, entry.place),
            None => self.is_tainted(key.token),
        };
        if is_unknown && (write.condition != Condition::Always || write.want_previous) {
            return effects.reply(request.id, Outcome::Failed(Failure::Unknown));
        }
        let durability = request.durability.unwrap_or(bucket_durability);
        if let (Mode::Latest, Some(entry), false) = (&mode, entry, is_unknown)
            && let Some((dot, object)) = self.repeated_latest(request, &write, entry, fetched)
        {
            mark::reach(Mark::RetryRecognised);
            let context =
                (write.want_context).then(|| keep_latest_context(effects, key.token, dot));
            self.tell_again(request, object, effects);
            let answer = Answer {
                existed: true,
                context,
                previous: None,
            };
            return self.answer(now, request, self.log.newest(), durability, answer, effects);
        }
        let alive = entry.filter(|entry| !entry.place.is_tombstone());
        let is_dominant = match &mode {
            Mode::Latest => true,
            Mode::Other(Some(context), PutKind::Context) => {
                let index = entry.and_then(|entry| Fingerprint::from_bits(entry.fingerprint));
                entry.is_none()
                    || conflict != Conflict::Reject && dominates_without_read(index, context)
            }
            Mode::Other(..) => entry.is_none(),
        };
        let is_content_wanted = write.want_previous
            || write.expiry == Expiry::Keep
            || matches!(write.source, Source::Old);
        let is_state_wanted = write.condition != Condition::Always
            && alive.is_some_and(|entry| entry.place.expires());
        let needs_old = !is_dominant || alive.is_some() && (is_content_wanted || is_state_wanted);
        // What is there, copied out, since the log that it lies in is appended to.
        let mut old = core::mem::take(&mut self.old_object);
        old.clear();
        if needs_old && let Some(entry) = entry {
            if is_unknown {
                self.old_object = old;
                return effects.reply(request.id, Outcome::Failed(Failure::Unknown));
            }
            let Some(record) = self.find(entry.place, key.token, fetched) else {
                self.old_object = old;
                return self.wait_for_read(entry.place, request, effects);
            };
            match record.object_of(request.bucket, request.key) {
                Some(_) if self.tells_doubt(&record) => {
                    self.old_object = old;
                    return effects.reply(request.id, Outcome::Failed(Failure::Unknown));
                }
                Some(object) => old.extend_from_slice(object),
                None => {
                    self.old_object = old;
                    return effects.reply(request.id, Outcome::Failed(self.corrupt(entry)));
                }
            }
        }
        let plan = Plan {
            key,
            entry,
            alive: alive.is_some(),
            is_unknown,
            mode,
            conflict,
            ttl_ms,
            durability,
        };
        self.carry_out(now, request, write, plan, &old, effects);
        self.old_object = old;
    }

    /// A write of the last writer that is there already, by its write id: its dot, and the object. Found only while its
    /// record is in memory, since such a write reads nothing for its own sake.
    fn repeated_latest(
        &self,
        request: &Request<'_>,
        write: &Write<'_>,
        entry: Entry,
        fetched: Option<Fetched<'_>>,
    ) -> Option<(Dot, Vec<u8>)> {
        let write_id = write.write_id?;
        let record = self.find(entry.place, request.token, fetched)?;
        if self.tells_doubt(&record) {
            return None;
        }
        let object = record.object_of(request.bucket, request.key)?;
        let view = ObjectView::parse(object).ok()?;
        let dot = view
            .siblings()
            .filter(|sibling| sibling.write_id == Some(write_id))
            .map(|sibling| sibling.dot)
            .max_by_key(|dot| dot.rank())?;
        let object = if request.wants_object { object } else { &[] };
        Some((dot, object.to_vec()))
    }

    fn carry_out(
        &mut self,
        now: Now,
        request: &Request<'_>,
        write: Write<'_>,
        plan: Plan,
        old: &[u8],
        effects: &mut Effects,
    ) {
        let old_view = if old.is_empty() {
            None
        } else {
            ObjectView::parse(old).ok()
        };
        if let (Some(entry), true) = (plan.entry, old_view.is_none() && !old.is_empty()) {
            return effects.reply(request.id, Outcome::Failed(self.corrupt(entry)));
        }
        let existed = match old_view {
            Some(view) => !view.is_tombstone_only(now.wall_ms),
            None => plan.alive,
        };
        let previous = if write.want_previous && existed {
            Some(effects.keep(old))
        } else {
            None
        };
        let is_met = match write.condition {
            Condition::Always => true,
            Condition::IfAbsent => !existed,
            Condition::IfPresent => existed,
        };
        if !is_met {
            return effects.reply(request.id, Outcome::ConditionNotMet { previous });
        }
        let is_delete = matches!(write.source, Source::Tombstone);
        // Of a key that is unknown the tombstone says what is known from now on.
        let is_latest = matches!(plan.mode, Mode::Latest);
        let is_alone = !self.is_replicated || mutant::is(Mutant::DeleteOfNothing);
        if is_delete && !existed && !plan.is_unknown && is_latest && is_alone {
            // Nothing to delete: one replica that holds nothing needs no tombstone. What it holds nothing by, a former
            // delete, may itself not be durable yet.
            let answer = Answer::default();
            let batch = self.log.newest();
            return self.answer(now, request, batch, plan.durability, answer, effects);
        }
        let latest = old_view.and_then(|view| {
            view.siblings()
                .filter(|sibling| !sibling.is_dead(now.wall_ms))
                .max_by_key(|sibling| sibling.dot.rank())
        });
        let content = match write.source {
            Source::Value(value) => Content::Value(value),
            Source::Tombstone => Content::Tombstone,
            Source::Old => latest.map_or(Content::Tombstone, |sibling| sibling.content),
        };
        let is_renewal = matches!(write.source, Source::Old);
        let expires_at_ms = match write.expiry {
            _ if is_renewal && mutant::is(Mutant::ExpiryKept) => {
                latest.and_then(|sibling| sibling.expires_at_ms)
            }
            Expiry::Default => plan.ttl_ms.map(|ttl| now.wall_ms.saturating_add(ttl)),
            Expiry::Never => None,
            Expiry::AtMs(at) => Some(at),
            Expiry::Keep => latest.and_then(|sibling| sibling.expires_at_ms),
        };
        let what = What {
            content,
            expires_at_ms,
            write_id: write.write_id,
        };
        let written = match &plan.mode {
            Mode::Latest => {
                self.put_latest(now, request, plan.key, what, write.want_context, effects)
            }
            Mode::Other(context, kind) => self.put_causal(
                now,
                request,
                &plan,
                (context.as_ref(), *kind),
                old_view,
                (what, write.want_context),
                effects,
            ),
        };
        match written {
            Ok((batch, context)) => {
                let answer = Answer {
                    existed,
                    context,
                    previous,
                };
                self.answer(now, request, batch, plan.durability, answer, effects);
            }
            Err(NotWritten::NoRoom(no_room)) => self.no_room(no_room, is_delete, request, effects),
            Err(NotWritten::Failed(failure)) => effects.reply(request.id, Outcome::Failed(failure)),
        }
    }

    fn answer(
        &mut self,
        now: Now,
        request: &Request<'_>,
        batch: BatchNumber,
        durability: Durability,
        answer: Answer,
        effects: &mut Effects,
    ) {
        let is_ahead = self.is_time_ahead();
        let is_promise = durability != Durability::Buffered;
        let is_firm = batch <= self.log.firm() || mutant::is(Mutant::DurableUnsynced);
        if !is_firm && (is_promise || is_ahead && batch > self.log.durable()) {
            self.log.fill_spares |= is_promise;
            return self.answer_when_durable(now, request, (batch, is_promise), answer, effects);
        }
        let Answer {
            existed,
            context,
            previous,
        } = answer;
        let receipt = Self::receipt(u8::from(is_firm), 0);
        effects.reply(
            request.id,
            Outcome::Written {
                context,
                existed,
                previous,
                receipt,
            },
        );
    }

    fn no_room(
        &mut self,
        no_room: NoRoom,
        is_delete: bool,
        request: &Request<'_>,
        effects: &mut Effects,
    ) {
        let is_room_ahead = self.log.free_segments() > CLEANER_RESERVE || self.is_gain_ahead();
        let is_hopeless = no_room == NoRoom::Segment && is_delete && !is_room_ahead;
        if is_hopeless {
            return effects.reply(request.id, Outcome::Failed(Failure::DiskFull));
        }
        self.stall(request, effects);
    }
}

/// What was found out about a write before it is carried out.
struct Plan {
    key: KeyId,
    entry: Option<Entry>,
    alive: bool,
    /// Whether what is there, or that nothing is, may be older than what was lost.
    is_unknown: bool,
    mode: Mode,
    conflict: Conflict,
    ttl_ms: Option<u64>,
    durability: Durability,
}

/// What is written.
#[derive(Clone, Copy)]
struct What<'a> {
    content: Content<'a>,
    expires_at_ms: Option<u64>,
    write_id: Option<WriteId>,
}

const fn too_large(bytes: usize, bytes_max: usize) -> Failure {
    Failure::TooLarge {
        bytes: bytes as u64,
        bytes_max: bytes_max as u64,
    }
}

/// Why nothing was written.
enum NotWritten {
    NoRoom(NoRoom),
    Failed(Failure),
}

impl From<NoRoom> for NotWritten {
    fn from(no_room: NoRoom) -> Self {
        Self::NoRoom(no_room)
    }
}
