//! The commands about the connection and the server.

use std::fmt::Write;

use crate::reactor::session::Io;
use crate::resp::RespSession;
use crate::resp::command::hello;
use crate::resp::encode::{Version, array, bulk, bulk_text, error, integer, map, null, simple};
use crate::resp::keys::{Refusal, syntax};
use crate::resp::words::{Words, integer_of};

impl RespSession {
    /// Answers a command that needs no key; none when it is not one of these.
    pub(super) fn serve(
        &mut self,
        io: &mut Io<'_>,
        words: &Words<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Result<(), Refusal>> {
        let upper = words.name.to_ascii_uppercase();
        let known = match upper.as_slice() {
            b"PING" => ping(words, out),
            b"ECHO" => words.exactly::<1>().map(|[text]| bulk(out, text)),
            b"HELLO" => self.hello(words, out),
            b"AUTH" => Err("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?".to_owned()),
            b"SELECT" => select(words, out),
            b"CLIENT" => self.client(words, out),
            b"QUIT" => {
                self.is_closing = true;
                simple(out, "OK");
                Ok(())
            }
            b"RESET" => {
                self.reset();
                simple(out, "RESET");
                Ok(())
            }
            b"COMMAND" => {
                match words.upper(0).as_slice() {
                    b"COUNT" => integer(out, crate::resp::COMMANDS.len() as i64),
                    b"DOCS" => map(out, 0, self.version),
                    _ => array(out, 0),
                }
                Ok(())
            }
            b"INFO" => {
                info(io, words, out);
                Ok(())
            }
            b"CONFIG" => config(words, self.version, out),
            b"DYN.BUCKET" => words.exactly::<1>().map(|[name]| {
                self.bucket = name.to_vec();
                simple(out, "OK");
            }),
            b"DYN.OPT" => self.dyn_opt(words).map(|()| simple(out, "OK")),
            _ => return None,
        };
        Some(known)
    }

    fn hello(&mut self, words: &Words<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut version = self.version;
        if words.len() > 0 {
            version = match words.get(0) {
                b"2" => Version::Two,
                b"3" => Version::Three,
                _ => return Err("NOPROTO unsupported protocol version".to_owned()),
            };
        }
        let mut at = 1;
        while at < words.len() {
            match words.upper(at).as_slice() {
                b"SETNAME" if at + 1 < words.len() => {
                    self.name = words.get(at + 1).to_vec();
                    at += 2;
                }
                b"AUTH" if at + 2 < words.len() => {
                    return Err(
                        "WRONGPASS invalid username-password pair or user is disabled.".to_owned(),
                    );
                }
                _ => return Err(syntax()),
            }
        }
        self.version = version;
        hello(out, version);
        Ok(())
    }

    fn client(&mut self, words: &Words<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        words.at_least(1)?;
        match words.upper(0).as_slice() {
            b"ID" => integer(out, 1),
            b"GETNAME" if self.name.is_empty() => null(out, self.version),
            b"GETNAME" => bulk(out, &self.name),
            b"SETNAME" => {
                self.name = words.get(1).to_vec();
                simple(out, "OK");
            }
            b"INFO" | b"LIST" => {
                let name = String::from_utf8_lossy(&self.name);
                let resp = if self.version == Version::Three { 3 } else { 2 };
                bulk_text(out, format_args!("id=1 name={name} db=0 resp={resp}\n"));
            }
            b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH" => simple(out, "OK"),
            other => {
                let name = String::from_utf8_lossy(other);
                return Err(format!("ERR unknown subcommand '{name}'. Try CLIENT HELP."));
            }
        }
        Ok(())
    }
}

fn ping(words: &Words<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match words.len() {
        0 => simple(out, "PONG"),
        1 => bulk(out, words.get(0)),
        _ => return Err(words.wrong_number()),
    }
    Ok(())
}

fn select(words: &Words<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let [number] = words.exactly::<1>()?;
    if integer_of(number)? != 0 {
        return Err("ERR DB index is out of range".to_owned());
    }
    simple(out, "OK");
    Ok(())
}

fn config(words: &Words<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), Refusal> {
    words.at_least(1)?;
    if words.upper(0).as_slice() != b"GET" || words.len() < 2 {
        return Err(
            "ERR only CONFIG GET is there; the node's configuration file says the rest".to_owned(),
        );
    }
    let known = [
        ("save", ""),
        ("appendonly", "yes"),
        ("databases", "1"),
        ("maxmemory", "0"),
    ];
    let asked: Vec<_> = known
        .iter()
        .filter(|(name, _)| {
            (1..words.len()).any(|at| {
                crate::resp::words::matches(&words.get(at).to_ascii_lowercase(), name.as_bytes())
            })
        })
        .collect();
    map(out, asked.len(), version);
    for (name, value) in asked {
        bulk(out, name.as_bytes());
        bulk(out, value.as_bytes());
    }
    Ok(())
}

fn info(io: &mut Io<'_>, words: &Words<'_>, out: &mut Vec<u8>) {
    let wanted = words.upper(0);
    let is_wanted = |section: &str| {
        wanted.is_empty()
            || matches!(wanted.as_slice(), b"ALL" | b"DEFAULT" | b"EVERYTHING")
            || wanted == section.to_ascii_uppercase().as_bytes()
    };
    let (status, slices, shard) = (io.port.status(), io.port.slices(), io.port.shard());
    let mut text = String::new();
    let mut section = |name: &str, lines: &[(&str, String)]| {
        if is_wanted(name) {
            let mut title = name.to_owned();
            title[..1].make_ascii_uppercase();
            // Writing to memory does not fail.
            let _ = write!(text, "# {title}\r\n");
            for (key, value) in lines {
                let _ = write!(text, "{key}:{value}\r\n");
            }
            text.push_str("\r\n");
        }
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    section(
        "server",
        &[
            ("redis_version", "7.0.0".to_owned()),
            ("gramme_version", version),
            ("redis_mode", "standalone".to_owned()),
            ("process_id", std::process::id().to_string()),
            ("shards", slices.shards().to_string()),
            ("shard_of_this_connection", shard.0.to_string()),
        ],
    );
    section(
        "memory",
        &[(
            "used_memory",
            (status.index_bytes + status.tail_bytes + status.cache_bytes).to_string(),
        )],
    );
    section(
        "persistence",
        &[
            ("loading", "0".to_owned()),
            ("aof_enabled", "1".to_owned()),
            ("log_live_bytes", status.live_bytes.to_string()),
        ],
    );
    section(
        "stats",
        &[
            ("shard_gets", status.gets.to_string()),
            ("shard_puts", status.puts.to_string()),
        ],
    );
    section("replication", &[("role", "master".to_owned())]);
    section(
        "keyspace",
        &[(
            "db0",
            format!(
                "keys={},expires=0,avg_ttl=0",
                status.keys * u64::from(slices.shards())
            ),
        )],
    );
    bulk(out, text.as_bytes());
}

/// The answer to a command that is not there.
pub(super) fn unknown(words: &Words<'_>, out: &mut Vec<u8>) {
    let name: String = String::from_utf8_lossy(words.name)
        .chars()
        .take(128)
        .collect();
    let mut text = format!("ERR unknown command '{name}', with args beginning with: ");
    for word in words.iter().take(3) {
        let word: String = String::from_utf8_lossy(word).chars().take(32).collect();
        // Writing to memory does not fail.
        let _ = write!(text, "'{word}' ");
    }
    error(out, &text);
}
