//! Merging an object that another replica, a file or another shard has.

use super::*;

impl Replica {
    /// Merges an object of another replica, a file, or another shard of this node.
    pub(super) fn merge(
        &mut self,
        now: Now,
        request: &Request<'_>,
        object: &[u8],
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        let Ok(view) = ObjectView::parse(object) else {
            return effects.reply(request.id, Outcome::Failed(Failure::BadObject));
        };
        if self.is_too_late(now, view.max_hlc()) {
            return effects.reply(request.id, Outcome::Failed(Failure::BadObject));
        }
        let key = self.key_id(request);
        let entry = self.index.get(key.token, key.tag15);
        let merged = match entry {
            None => view.to_owned(),
            // Where records were lost, what is merged makes the key known again, and so is written in any case.
            Some(entry)
                if entry.fingerprint == view.fingerprint(key.token.0).bits()
                    && !self.log.lost.is_any() =>
            {
                let answer = Answer {
                    existed: true,
                    ..Answer::default()
                };
                let durability = request.durability.unwrap_or_default();
                return self.answer(now, request, self.log.newest(), durability, answer, effects);
            }
            Some(entry) => {
                let Some(record) = self.find(entry.place, key.token, fetched) else {
                    return self.wait_for_read(entry.place, request, effects);
                };
                let held = record
                    .object_of(request.bucket, request.key)
                    .and_then(|held| ObjectView::parse(held).ok());
                match held {
                    Some(_) if mutant::is(Mutant::MergeReplaces) => view.to_owned(),
                    Some(held) => held.to_owned().merge(&view.to_owned()),
                    None => return effects.reply(request.id, Outcome::Failed(self.corrupt(entry))),
                }
            }
        };
        self.begin_tick(now, effects);
        self.raise_ceiling(now, merged.max_hlc());
        match self.append_object(now, request, key, &merged, effects) {
            Ok(batch) => {
                let answer = Answer {
                    existed: entry.is_some(),
                    ..Answer::default()
                };
                self.answer(
                    now,
                    request,
                    batch,
                    request.durability.unwrap_or_default(),
                    answer,
                    effects,
                );
            }
            Err(NotWritten::NoRoom(no_room)) => self.no_room(no_room, false, request, effects),
            Err(NotWritten::Failed(failure)) => effects.reply(request.id, Outcome::Failed(failure)),
        }
    }
}
