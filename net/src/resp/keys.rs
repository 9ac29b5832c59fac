//! The commands on keys: from words to requests.

use gramme_core::base::hash::token;
use gramme_core::base::ids::{ShardIndex, Token};
use gramme_core::port::{
    Condition, ContextArg, Durability, Expiry, Op, Outcome, Put, Request, RequestId,
};

use crate::reactor::session::{Io, TAGS};
use crate::resp::RespSession;
use crate::resp::command::{Gathered, ScanWalk, Wanted, scanned};
use crate::resp::words::{Words, integer_of, seconds_from, unsigned_of};

/// Keys of one command.
const KEYS_MAX: usize = 65_535;
/// Entries that a `SCAN` looks at unless it says so.
const SCAN_COUNT: u32 = 10;

/// A reply text that is an error, without its dash.
pub(super) type Refusal = String;

pub(super) fn syntax() -> Refusal {
    "ERR syntax error".to_owned()
}

fn put(value: &[u8]) -> Put<'_> {
    Put {
        context: ContextArg::Latest,
        value,
        expiry: Expiry::Default,
        condition: Condition::Always,
        want_previous: false,
        want_context: false,
        write_id: None,
    }
}

const fn delete(want_previous: bool) -> Op<'static> {
    Op::Delete {
        context: ContextArg::Latest,
        want_previous,
        want_context: false,
        write_id: None,
    }
}

impl RespSession {
    fn request<'a>(&'a self, now_ns: u64, key: &'a [u8], op: Op<'a>) -> Request<'a> {
        Request {
            id: RequestId(0),
            deadline_ns: self
                .deadline_ns
                .map(|deadline| now_ns.saturating_add(deadline)),
            bucket: &self.bucket,
            key,
            token: token(&self.bucket, key),
            durability: self.durability,
            op,
        }
    }

    fn submit(&mut self, io: &mut Io<'_>, wanted: Wanted, key: &[u8], op: Op<'_>) {
        let tag = self.pending.push(wanted, 1);
        let now_ns = io.port.now().mono_ns;
        let request = Request {
            id: io.connection.request(tag),
            ..self.request(now_ns, key, op)
        };
        io.port.submit(request);
    }

    fn submit_each<'a>(
        &mut self,
        io: &mut Io<'_>,
        wanted: Wanted,
        each: impl ExactSizeIterator<Item = (&'a [u8], Op<'a>)>,
    ) {
        let first_tag = self.pending.push(wanted, each.len());
        let now_ns = io.port.now().mono_ns;
        for (sub, (key, op)) in each.enumerate() {
            let id = io.connection.request((first_tag + sub as u32) % TAGS);
            io.port.submit(Request {
                id,
                ..self.request(now_ns, key, op)
            });
        }
    }

    pub(super) fn get(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::Value, words.exactly::<1>()?[0], Op::Get);
        Ok(())
    }

    pub(super) fn set(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        words.at_least(2)?;
        let (key, value) = (words.get(0), words.get(1));
        let mut put = put(value);
        let mut wanted = Wanted::Ok;
        let now_ms = io.port.now().wall_ms;
        let mut at = 2;
        while at < words.len() {
            let option = words.upper(at);
            let has_expiry = put.expiry != Expiry::Default;
            match option.as_slice() {
                b"NX" if put.condition == Condition::Always => put.condition = Condition::IfAbsent,
                b"XX" if put.condition == Condition::Always => put.condition = Condition::IfPresent,
                b"KEEPTTL" if !has_expiry => put.expiry = Expiry::Keep,
                b"GET" => {
                    put.want_previous = true;
                    wanted = Wanted::Previous;
                }
                b"EX" | b"PX" | b"EXAT" | b"PXAT" if !has_expiry && at + 1 < words.len() => {
                    at += 1;
                    put.expiry = Expiry::AtMs(seconds_from(&option, words.get(at), now_ms, "set")?);
                }
                _ => return Err(syntax()),
            }
            at += 1;
        }
        self.submit(io, wanted, key, Op::Put(put));
        Ok(())
    }

    pub(super) fn getdel(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::Previous, words.exactly::<1>()?[0], delete(true));
        Ok(())
    }

    pub(super) fn getex(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        words.at_least(1)?;
        let key = words.get(0);
        let now_ms = io.port.now().wall_ms;
        let expiry = match (words.len(), words.upper(1).as_slice()) {
            (1, _) => return self.get(io, words),
            (2, b"PERSIST") => Expiry::Never,
            (3, option @ (b"EX" | b"PX" | b"EXAT" | b"PXAT")) => {
                Expiry::AtMs(seconds_from(option, words.get(2), now_ms, "getex")?)
            }
            _ => return Err(syntax()),
        };
        self.submit(
            io,
            Wanted::Previous,
            key,
            Op::SetExpiry {
                expiry,
                want_previous: true,
            },
        );
        Ok(())
    }

    pub(super) fn mget(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        words.between(1, KEYS_MAX)?;
        let gathered = Gathered {
            remaining: words.len(),
            found: vec![None; words.len()],
            failed: None,
        };
        self.submit_each(
            io,
            Wanted::Values(gathered),
            words.iter().map(|key| (key, Op::Get)),
        );
        Ok(())
    }

    pub(super) fn mset(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        words.between(2, 2 * KEYS_MAX)?;
        if words.len() % 2 != 0 {
            return Err(words.wrong_number());
        }
        let gathered = Gathered {
            remaining: words.len() / 2,
            found: (),
            failed: None,
        };
        let pairs = (0..words.len() / 2)
            .map(|pair| (words.get(2 * pair), Op::Put(put(words.get(2 * pair + 1)))));
        self.submit_each(io, Wanted::AllOk(gathered), pairs);
        Ok(())
    }

    pub(super) fn del(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.sum(io, words, delete(true))
    }

    pub(super) fn exists(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.sum(io, words, Op::Exists)
    }

    fn sum(&mut self, io: &mut Io<'_>, words: &Words<'_>, op: Op<'static>) -> Result<(), Refusal> {
        words.between(1, KEYS_MAX)?;
        let gathered = Gathered {
            remaining: words.len(),
            found: 0,
            failed: None,
        };
        self.submit_each(io, Wanted::Sum(gathered), words.iter().map(|key| (key, op)));
        Ok(())
    }

    pub(super) fn of_value(
        &mut self,
        io: &mut Io<'_>,
        words: &Words<'_>,
        wanted: Wanted,
    ) -> Result<(), Refusal> {
        self.submit(io, wanted, words.exactly::<1>()?[0], Op::Get);
        Ok(())
    }

    pub(super) fn expire(
        &mut self,
        io: &mut Io<'_>,
        words: &Words<'_>,
        is_ms: bool,
    ) -> Result<(), Refusal> {
        let [key, amount] = words.exactly::<2>()?;
        let amount = integer_of(amount)?;
        let now_ms = io.port.now().wall_ms;
        let after_ms = if is_ms {
            Some(amount)
        } else {
            amount.checked_mul(1000)
        };
        let at_ms = after_ms.and_then(|after| i64::try_from(now_ms).ok()?.checked_add(after));
        let Some(at_ms) = at_ms else {
            return Err(format!(
                "ERR invalid expire time in '{}' command",
                if is_ms { "pexpire" } else { "expire" }
            ));
        };
        if amount <= 0 {
            self.submit(io, Wanted::Flag, key, delete(true));
        } else {
            let expiry = Expiry::AtMs(at_ms.unsigned_abs());
            self.submit(
                io,
                Wanted::Flag,
                key,
                Op::SetExpiry {
                    expiry,
                    want_previous: false,
                },
            );
        }
        Ok(())
    }

    pub(super) fn persist(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let op = Op::SetExpiry {
            expiry: Expiry::Never,
            want_previous: true,
        };
        self.submit(io, Wanted::HadExpiry, words.exactly::<1>()?[0], op);
        Ok(())
    }

    pub(super) fn dbsize(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        words.exactly::<0>()?;
        let shards = io.port.slices().shards();
        let gathered = Gathered {
            remaining: usize::from(shards),
            found: 0,
            failed: None,
        };
        let first_tag = self
            .pending
            .push(Wanted::Sum(gathered), usize::from(shards));
        let now_ns = io.port.now().mono_ns;
        for shard in 0..shards {
            let id = io.connection.request((first_tag + u32::from(shard)) % TAGS);
            io.port.submit_to(
                ShardIndex(shard),
                Request {
                    id,
                    ..self.request(now_ns, b"", Op::Count)
                },
            );
        }
        Ok(())
    }

    pub(super) fn scan(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        words.at_least(1)?;
        let cursor = unsigned_of(words.get(0)).ok_or_else(|| "ERR invalid cursor".to_owned())?;
        let (mut count, mut pattern) = (SCAN_COUNT, None);
        let mut at = 1;
        while at < words.len() {
            if at + 1 >= words.len() {
                return Err(syntax());
            }
            let value = words.get(at + 1);
            match words.upper(at).as_slice() {
                b"MATCH" => pattern = Some(value.to_vec()),
                b"COUNT" => {
                    let asked = integer_of(value)?;
                    if asked < 1 {
                        return Err(syntax());
                    }
                    count = u32::try_from(asked).unwrap_or(u32::MAX);
                }
                // Everything here is a string.
                b"TYPE" if value.eq_ignore_ascii_case(b"string") => {}
                b"TYPE" => pattern = Some(Vec::new()),
                _ => return Err(syntax()),
            }
            at += 2;
        }
        let shard = if cursor == 0 {
            0
        } else {
            io.port.slices().shard_of(Token(cursor)).0
        };
        let walk = ScanWalk {
            shard,
            count,
            pattern,
            keys: Vec::new(),
        };
        let tag = self.pending.push(Wanted::Scan(Box::new(walk)), 1);
        self.scan_shard(io, tag, shard, cursor, count);
        Ok(())
    }

    fn scan_shard(&mut self, io: &mut Io<'_>, tag: u32, shard: u16, cursor: u64, count: u32) {
        let now_ns = io.port.now().mono_ns;
        let id = io.connection.request(tag);
        io.port.submit_to(
            ShardIndex(shard),
            Request {
                id,
                ..self.request(now_ns, b"", Op::Scan { cursor, count })
            },
        );
    }

    /// The keys of one shard have come: goes on with the next where that one is through.
    pub(super) fn scan_answered(
        &mut self,
        tag: u32,
        outcome: &Outcome,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> Option<Vec<u8>> {
        let position = self.pending.position(tag)?;
        let entry = self.pending.entry(position)?;
        let Some(Wanted::Scan(walk)) = entry.wanted.as_mut() else {
            return None;
        };
        let mut out = Vec::new();
        match outcome {
            Outcome::Keys { next_cursor, keys } => {
                let mut rest = keys.of(bytes);
                while let Some((length, after)) = rest.split_first_chunk::<4>() {
                    let (key, after) = after.split_at(u32::from_le_bytes(*length) as usize);
                    if walk
                        .pattern
                        .as_ref()
                        .is_none_or(|pattern| crate::resp::words::matches(pattern, key))
                    {
                        walk.keys.push(key.to_vec());
                    }
                    rest = after;
                }
                let is_last = walk.shard + 1 >= io.port.slices().shards();
                if *next_cursor == 0 && !is_last {
                    walk.shard += 1;
                    let (shard, count) = (walk.shard, walk.count);
                    self.scan_shard(io, tag, shard, 0, count);
                    return None;
                }
                scanned(&mut out, *next_cursor, &walk.keys);
            }
            Outcome::Failed(failure) => crate::resp::command::failed(&mut out, failure),
            _ => crate::resp::encode::error(
                &mut out,
                "ERR internal: a scan was answered with no keys",
            ),
        }
        Some(out)
    }

    pub(super) fn dyn_get(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.of_value(io, words, Wanted::Object)
    }

    pub(super) fn dyn_put(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        words.at_least(3)?;
        let mut put = put(words.get(2));
        put.context = if words.get(1).is_empty() {
            ContextArg::Blind
        } else {
            ContextArg::Opaque(words.get(1))
        };
        put.want_context = true;
        let now_ms = io.port.now().wall_ms;
        match (words.len(), words.upper(3).as_slice()) {
            (3, _) => {}
            (5, option @ (b"EX" | b"PX" | b"EXAT" | b"PXAT")) => {
                put.expiry = Expiry::AtMs(seconds_from(option, words.get(4), now_ms, "dyn.put")?);
            }
            _ => return Err(syntax()),
        }
        self.submit(io, Wanted::Context, words.get(0), Op::Put(put));
        Ok(())
    }

    pub(super) fn dyn_del(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let [key, seen] = words.exactly::<2>()?;
        let seen = if seen.is_empty() {
            ContextArg::Blind
        } else {
            ContextArg::Opaque(seen)
        };
        let op = Op::Delete {
            context: seen,
            want_previous: false,
            want_context: true,
            write_id: None,
        };
        self.submit(io, Wanted::Context, key, op);
        Ok(())
    }

    pub(super) fn dyn_opt(&mut self, words: &Words<'_>) -> Result<(), Refusal> {
        if words.len() == 0 || words.len() % 2 != 0 {
            return Err(words.wrong_number());
        }
        for at in (0..words.len()).step_by(2) {
            let value = words.get(at + 1);
            match words.upper(at).as_slice() {
                // With one node every quorum is that node.
                b"R" | b"W"
                    if unsigned_of(value).is_some_and(|replicas| (1..=255).contains(&replicas)) => {
                }
                b"DURABILITY" => {
                    self.durability = Some(match value.to_ascii_lowercase().as_slice() {
                        b"buffered" => Durability::Buffered,
                        b"one" => Durability::One,
                        b"all" => Durability::All,
                        _ => return Err("ERR DURABILITY is buffered, one or all".to_owned()),
                    });
                }
                b"DEADLINE" => {
                    let Some(ms) = unsigned_of(value) else {
                        return Err("ERR DEADLINE is a number of milliseconds".to_owned());
                    };
                    self.deadline_ns = (ms > 0).then(|| ms.saturating_mul(1_000_000));
                }
                _ => return Err(syntax()),
            }
        }
        Ok(())
    }
}
