//! The Dynamo interface: contexts, siblings, buckets and a connection's own options.

use gramme_core::base::limits::BUCKET_BYTES_MAX;
use gramme_core::port::{ContextArg, Durability, Expiry, Op};

use super::answers::Wanted;
use super::encode::simple;
use super::session::RespSession;
use super::values::put;
use super::words::{Refusal, Words, instant_of, syntax, unsigned_of};
use crate::reactor::session::Io;

/// The longest deadline that makes sense: a day.
const DEADLINE_MS_MAX: u64 = 86_400_000;

const fn context(seen: &[u8]) -> ContextArg<'_> {
    if seen.is_empty() {
        ContextArg::Blind
    } else {
        ContextArg::Opaque(seen)
    }
}

impl RespSession {
    pub(super) fn dyn_get(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::Object, words.get(0), Op::Get);
        Ok(())
    }

    pub(super) fn dyn_put(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let mut put = put(words.get(2));
        put.context = context(words.get(1));
        put.want_context = true;
        match (words.len(), words.upper(3).as_slice()) {
            (3, _) => {}
            (5, b"EX") => {
                let now_ms = io.port.clients_ms();
                put.expiry = Expiry::AtMs(instant_of(b"EX", words.get(4), now_ms, "dyn.put")?);
            }
            _ => return Err(syntax()),
        }
        self.submit(io, Wanted::Context, words.get(0), Op::Put(put));
        Ok(())
    }

    pub(super) fn dyn_del(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let op = Op::Delete {
            context: context(words.get(1)),
            want_previous: false,
            want_context: true,
            write_id: None,
        };
        self.submit(io, Wanted::Context, words.get(0), op);
        Ok(())
    }

    pub(super) fn dyn_bucket(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let name = words.get(0);
        if name.is_empty() || name.len() > BUCKET_BYTES_MAX {
            return Err(format!(
                "ERR a bucket's name has 1 to {BUCKET_BYTES_MAX} bytes, this has {}",
                name.len()
            ));
        }
        self.bucket = name.to_vec().into();
        self.answer(io, |out| simple(out, "OK"));
        Ok(())
    }

    /// All or nothing: options before a wrong one are not taken either.
    pub(super) fn dyn_opt(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        if !words.len().is_multiple_of(2) {
            return Err(syntax());
        }
        let (mut durability, mut deadline_ns) = (self.durability, self.deadline_ns);
        let mut quorum = self.quorum;
        for at in (0..words.len()).step_by(2) {
            let value = words.get(at + 1);
            match words.upper(at).as_slice() {
                name @ (b"R" | b"W" | b"ZONES") => {
                    let number = unsigned_of(value)
                        .and_then(|number| u8::try_from(number).ok())
                        .filter(|number| *number > 0)
                        .ok_or_else(|| {
                            let what = if name == b"ZONES" {
                                "zones"
                            } else {
                                "replicas"
                            };
                            let name = name.escape_ascii();
                            format!("ERR {name} is a number of {what} from 1 to 255")
                        })?;
                    match name {
                        b"R" => quorum.r = number,
                        b"W" => quorum.w = number,
                        _ => quorum.zones = number,
                    }
                }
                b"STRICT" => {
                    quorum.is_strict = match value.to_ascii_lowercase().as_slice() {
                        b"yes" => true,
                        b"no" => false,
                        _ => return Err("ERR STRICT is yes or no".to_owned()),
                    };
                }
                b"DURABILITY" => {
                    durability = Some(match value.to_ascii_lowercase().as_slice() {
                        b"buffered" => Durability::Buffered,
                        b"one" => Durability::One,
                        b"all" => Durability::All,
                        _ => return Err("ERR DURABILITY is buffered, one or all".to_owned()),
                    });
                }
                b"DEADLINE" => match unsigned_of(value) {
                    Some(ms) if (1..=DEADLINE_MS_MAX).contains(&ms) => {
                        deadline_ns = Some(ms * 1_000_000);
                    }
                    Some(_) | None => {
                        return Err(format!(
                            "ERR DEADLINE is a number of milliseconds from 1 to {DEADLINE_MS_MAX}"
                        ));
                    }
                },
                _ => return Err(syntax()),
            }
        }
        (self.durability, self.deadline_ns) = (durability, deadline_ns);
        self.quorum = quorum;
        self.answer(io, |out| simple(out, "OK"));
        Ok(())
    }
}
