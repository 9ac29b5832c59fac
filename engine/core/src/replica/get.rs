//! Reads: what this shard holds of a key.

use crate::base::ids::Token;
use crate::base::time::Now;
use crate::port::{Effects, Failure, Held, Outcome, Request};
use crate::replica::Replica;
use crate::replica::machine::Fetched;
use crate::store::index::Entry;
use crate::version::ObjectView;

impl Replica {
    /// The failure of a key whose record is another key's or is malformed although it verified.
    pub(super) fn corrupt(&self, entry: Entry) -> Failure {
        let (segment, offset) = (
            self.layout.segment(entry.place),
            u64::from(self.layout.offset(entry.place)),
        );
        Failure::Corrupt { segment, offset }
    }

    /// What a key is that the index does not have: absent, or unknown where part of the log is lost.
    fn not_found(&self, token: Token) -> Outcome {
        if self.is_tainted(token) {
            Outcome::Failed(Failure::Unknown)
        } else {
            Outcome::Absent {
                receipt: Self::receipt(1, 0),
            }
        }
    }

    pub(super) fn get(
        &mut self,
        now: Now,
        request: &Request<'_>,
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        self.stats.gets += u64::from(fetched.is_none());
        let key = self.key_id(request);
        let Some(entry) = self.index.get(key.token, key.tag15) else {
            return effects.reply(request.id, self.not_found(key.token));
        };
        let absent = Outcome::Absent {
            receipt: Self::receipt(1, 0),
        };
        if self.is_doubtful(key.token, entry.place) {
            return effects.reply(request.id, Outcome::Failed(Failure::Unknown));
        }
        if entry.place.is_tombstone() {
            return effects.reply(request.id, absent);
        }
        let Some(record) = self.find(entry.place, key.token, fetched) else {
            return self.wait_for_read(entry.place, request, effects);
        };
        let Some(object) = record.object_of(request.bucket, request.key) else {
            return effects.reply(request.id, Outcome::Failed(self.corrupt(entry)));
        };
        if self.tells_doubt(&record) {
            return effects.reply(request.id, Outcome::Failed(Failure::Unknown));
        }
        if entry.place.expires() {
            match ObjectView::parse(object) {
                Ok(view) if view.is_tombstone_only(now.wall_ms) => {
                    return effects.reply(request.id, absent);
                }
                Ok(_) => {}
                Err(_) => return effects.reply(request.id, Outcome::Failed(self.corrupt(entry))),
            }
        }
        let object = effects.keep(object);
        let outcome = Outcome::Object {
            object,
            key_hash: key.token.0,
            receipt: Self::receipt(1, 0),
        };
        effects.reply(request.id, outcome);
    }

    /// What this shard itself holds, tombstones too: what a coordinator compares.
    pub(super) fn fetch(
        &mut self,
        request: &Request<'_>,
        wants_object: bool,
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        self.stats.gets += u64::from(fetched.is_none());
        let key = self.key_id(request);
        let Some(entry) = self.index.get(key.token, key.tag15) else {
            let outcome = if self.is_tainted(key.token) {
                Outcome::Failed(Failure::Unknown)
            } else {
                Outcome::Held(Held {
                    fingerprint: 0,
                    object: None,
                })
            };
            return effects.reply(request.id, outcome);
        };
        if self.is_doubtful(key.token, entry.place) {
            return effects.reply(request.id, Outcome::Failed(Failure::Unknown));
        }
        let fingerprint = entry.fingerprint;
        // Where records were lost, one that the cleaner copied may say so itself.
        let may_be_a_tombstone = self.log.lost.is_any() && entry.place.expires();
        if !wants_object && !may_be_a_tombstone {
            let held = Held {
                fingerprint,
                object: None,
            };
            return effects.reply(request.id, Outcome::Held(held));
        }
        let Some(record) = self.find(entry.place, key.token, fetched) else {
            return self.wait_for_read(entry.place, request, effects);
        };
        let outcome = match record.object_of(request.bucket, request.key) {
            Some(_) if self.tells_doubt(&record) => Outcome::Failed(Failure::Unknown),
            Some(object) => Outcome::Held(Held {
                fingerprint,
                object: Some(effects.keep(object)),
            }),
            None => Outcome::Failed(self.corrupt(entry)),
        };
        effects.reply(request.id, outcome);
    }

    pub(super) fn exists(
        &mut self,
        now: Now,
        request: &Request<'_>,
        fetched: Option<Fetched<'_>>,
        effects: &mut Effects,
    ) {
        self.stats.gets += u64::from(fetched.is_none());
        let key = self.key_id(request);
        let outcome = match self.index.get(key.token, key.tag15) {
            None if self.is_tainted(key.token) => Outcome::Failed(Failure::Unknown),
            None => Outcome::Exists(false),
            Some(entry) if self.is_doubtful(key.token, entry.place) => {
                Outcome::Failed(Failure::Unknown)
            }
            Some(entry) if entry.place.is_tombstone() => Outcome::Exists(false),
            Some(entry) if !entry.place.expires() => Outcome::Exists(true),
            Some(entry) => {
                let Some(record) = self.find(entry.place, key.token, fetched) else {
                    return self.wait_for_read(entry.place, request, effects);
                };
                match record
                    .object_of(request.bucket, request.key)
                    .and_then(|object| ObjectView::parse(object).ok())
                {
                    Some(_) if self.tells_doubt(&record) => Outcome::Failed(Failure::Unknown),
                    Some(view) => Outcome::Exists(!view.is_tombstone_only(now.wall_ms)),
                    None => Outcome::Failed(self.corrupt(entry)),
                }
            }
        };
        effects.reply(request.id, outcome);
    }
}
