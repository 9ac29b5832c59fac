//! Commands about keys: their time to live and their type.

use std::time::Duration;

use gramme_core::port::{Expiry, Op};

use super::answers::Wanted;
use super::session::RespSession;
use super::values::delete;
use super::words::{Refusal, Words, integer_of};
use crate::reactor::session::Io;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

impl RespSession {
    pub(super) fn ttl(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::TimeLeft(SECOND), words.get(0), Op::Get);
        Ok(())
    }

    pub(super) fn pttl(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::TimeLeft(MILLISECOND), words.get(0), Op::Get);
        Ok(())
    }

    pub(super) fn key_type(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.submit(io, Wanted::Type, words.get(0), Op::Exists);
        Ok(())
    }

    pub(super) fn expire(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.expire_in(io, words, SECOND)
    }

    pub(super) fn pexpire(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.expire_in(io, words, MILLISECOND)
    }

    pub(super) fn persist(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let op = Op::SetExpiry {
            expiry: Expiry::Never,
            want_previous: true,
        };
        self.submit(io, Wanted::HadExpiry, words.get(0), op);
        Ok(())
    }

    fn expire_in(
        &mut self,
        io: &mut Io<'_>,
        words: &Words<'_>,
        unit: Duration,
    ) -> Result<(), Refusal> {
        if words.len() > 2 {
            let option = words.get(2).escape_ascii();
            return Err(format!("ERR Unsupported option {option}"));
        }
        let amount = integer_of(words.get(1))?;
        let now_ms = io.port.clients_ms();
        let at_ms = amount
            .checked_mul(unit.as_millis() as i64)
            .and_then(|after_ms| after_ms.checked_add_unsigned(now_ms));
        let Some(at_ms) = at_ms else {
            let command = if unit == SECOND { "expire" } else { "pexpire" };
            return Err(format!("ERR invalid expire time in '{command}' command"));
        };
        let op = match u64::try_from(at_ms) {
            Ok(at_ms) if at_ms > now_ms => Op::SetExpiry {
                expiry: Expiry::AtMs(at_ms),
                want_previous: false,
            },
            // An instant that has passed deletes.
            _ => delete(true),
        };
        self.submit(io, Wanted::Flag, words.get(0), op);
        Ok(())
    }
}
