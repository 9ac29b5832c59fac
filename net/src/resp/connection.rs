//! Commands about the connection itself.

use super::encode::{Version, array, bulk, integer, map, null, simple};
use super::session::RespSession;
use super::words::{Refusal, Words, integer_of, syntax};
use crate::reactor::session::Io;

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

impl RespSession {
    pub(super) fn ping(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.answer(io, |out| match words.len() {
            0 => simple(out, "PONG"),
            _ => bulk(out, words.get(0)),
        });
        Ok(())
    }

    pub(super) fn echo(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        self.answer(io, |out| bulk(out, words.get(0)));
        Ok(())
    }

    pub(super) fn quit(&mut self, io: &mut Io<'_>, _words: &Words<'_>) -> Result<(), Refusal> {
        self.answer(io, |out| simple(out, "OK"));
        self.is_ended = true;
        Ok(())
    }

    pub(super) fn reset_all(&mut self, io: &mut Io<'_>, _words: &Words<'_>) -> Result<(), Refusal> {
        self.reset();
        self.answer(io, |out| simple(out, "RESET"));
        Ok(())
    }

    pub(super) fn select(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        if integer_of(words.get(0))? != 0 {
            return Err("ERR DB index is out of range".to_owned());
        }
        self.answer(io, |out| simple(out, "OK"));
        Ok(())
    }

    pub(super) fn auth(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        match words.len() {
            1 if self.options.password.is_none() => {
                return Err("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?".to_owned());
            }
            1 => self.login(b"default", words.get(0))?,
            2 => self.login(words.get(0), words.get(1))?,
            _ => return Err(syntax()),
        }
        self.answer(io, |out| simple(out, "OK"));
        Ok(())
    }

    fn login(&mut self, user: &[u8], password: &[u8]) -> Result<(), Refusal> {
        let is_right = match &self.options.password {
            Some(expected) => expected.is(password),
            None => true,
        };
        if user != b"default" || !is_right {
            return Err(WRONG_PASSWORD.to_owned());
        }
        self.is_known = true;
        Ok(())
    }

    pub(super) fn hello(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let mut version = self.version;
        if words.len() > 0 {
            version = match integer_of(words.get(0)) {
                Ok(2) => Version::Two,
                Ok(3) => Version::Three,
                Ok(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
                Err(_) => {
                    return Err("ERR Protocol version is not an integer or out of range".to_owned());
                }
            };
        }
        let mut name = None;
        let mut at = 1;
        while at < words.len() {
            match words.upper(at).as_slice() {
                b"SETNAME" if at + 1 < words.len() => {
                    name = Some(valid_name(words.get(at + 1))?);
                    at += 2;
                }
                b"AUTH" if at + 2 < words.len() => {
                    self.login(words.get(at + 1), words.get(at + 2))?;
                    at += 3;
                }
                _ => {
                    let option = words.get(at).escape_ascii();
                    return Err(format!("ERR Syntax error in HELLO option '{option}'"));
                }
            }
        }
        if !self.is_known {
            return Err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time".to_owned());
        }
        if let Some(name) = name {
            self.name = name.to_vec();
        }
        self.version = version;
        let number = self.number;
        self.answer(io, |out| greeting(out, version, number));
        Ok(())
    }

    pub(super) fn client(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let subcommand = words.upper(0);
        let takes = match subcommand.as_slice() {
            b"ID" | b"GETNAME" | b"INFO" => 0..=0,
            b"SETNAME" | b"NO-EVICT" | b"NO-TOUCH" => 1..=1,
            b"SETINFO" => 2..=2,
            b"LIST" => 0..=usize::MAX,
            _ => return Err(words.unknown_subcommand("CLIENT")),
        };
        if !takes.contains(&(words.len() - 1)) {
            let name = String::from_utf8_lossy(&subcommand).to_lowercase();
            return Err(format!(
                "ERR wrong number of arguments for 'client|{name}' command"
            ));
        }
        match subcommand.as_slice() {
            b"ID" => {
                let number = self.number;
                self.answer(io, |out| integer(out, number as i64));
            }
            b"GETNAME" => {
                let (name, version) = (std::mem::take(&mut self.name), self.version);
                self.answer(io, |out| match name.as_slice() {
                    [] => null(out, version),
                    name => bulk(out, name),
                });
                self.name = name;
            }
            b"SETNAME" => {
                self.name = valid_name(words.get(1))?.to_vec();
                self.answer(io, |out| simple(out, "OK"));
            }
            b"INFO" | b"LIST" => {
                let line = self.describe();
                self.answer(io, |out| bulk(out, line.as_bytes()));
            }
            b"NO-EVICT" | b"NO-TOUCH" if !matches!(words.upper(1).as_slice(), b"ON" | b"OFF") => {
                return Err(syntax());
            }
            // Nothing here evicts a client or counts touches, and nobody asks for a library's name yet.
            _ => self.answer(io, |out| simple(out, "OK")),
        }
        Ok(())
    }

    /// One line about this connection.
    fn describe(&self) -> String {
        let peer = self.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let version = if self.version == Version::Three { 3 } else { 2 };
        let name = String::from_utf8_lossy(&self.name);
        format!(
            "id={} addr={peer} name={name} db=0 resp={version} user=default\n",
            self.number
        )
    }
}

/// A client's name may not break the lines of `CLIENT LIST`.
fn valid_name(name: &[u8]) -> Result<&[u8], Refusal> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(name);
    }
    Err("ERR Client names cannot contain spaces, newlines or special characters.".to_owned())
}

fn greeting(out: &mut Vec<u8>, version: Version, number: u64) {
    map(out, 7, version);
    bulk(out, b"server");
    bulk(out, b"gramme");
    bulk(out, b"version");
    bulk(out, env!("CARGO_PKG_VERSION").as_bytes());
    bulk(out, b"proto");
    integer(out, if version == Version::Three { 3 } else { 2 });
    bulk(out, b"id");
    integer(out, number as i64);
    bulk(out, b"mode");
    bulk(out, b"standalone");
    bulk(out, b"role");
    bulk(out, b"master");
    bulk(out, b"modules");
    array(out, 0);
}
