//! Commands about the node.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::answers::Total;
use super::encode::{array, bulk, integer, map, null_array, simple};
use super::session::RespSession;
use super::table::{self, COMMANDS, Command};
use super::words::{Refusal, Words, matches};
use crate::reactor::session::Io;

/// The Redis whose commands these are, for clients that ask before they use one.
const REDIS_VERSION: &str = "7.0.0";

impl RespSession {
    pub(super) fn command_info(
        &mut self,
        io: &mut Io<'_>,
        words: &Words<'_>,
    ) -> Result<(), Refusal> {
        let version = self.version;
        let named = || (1..words.len()).map(|at| table::find(words.get(at)));
        match words.upper(0).as_slice() {
            [] if words.len() == 0 => self.answer(io, |out| {
                array(out, COMMANDS.len());
                COMMANDS.iter().for_each(|command| describe(out, command));
            }),
            b"COUNT" => self.answer(io, |out| integer(out, COMMANDS.len() as i64)),
            b"LIST" => self.answer(io, |out| {
                array(out, COMMANDS.len());
                COMMANDS
                    .iter()
                    .for_each(|command| bulk(out, command.name.as_bytes()));
            }),
            b"INFO" => self.answer(io, |out| {
                array(out, words.len() - 1);
                named().for_each(|command| match command {
                    Some(command) => describe(out, command),
                    None => null_array(out, version),
                });
            }),
            b"DOCS" => self.answer(io, |out| {
                let docs: Vec<&Command> = if words.len() == 1 {
                    COMMANDS.iter().collect()
                } else {
                    named().flatten().collect()
                };
                map(out, docs.len(), version);
                for command in docs {
                    bulk(out, command.name.as_bytes());
                    map(out, 1, version);
                    bulk(out, b"summary");
                    bulk(out, command.summary.as_bytes());
                }
            }),
            _ => return Err(words.unknown_subcommand("COMMAND")),
        }
        Ok(())
    }

    pub(super) fn config(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        if words.upper(0) != b"GET" {
            return Err(words.unknown_subcommand("CONFIG"));
        }
        if words.len() < 2 {
            return Err("ERR wrong number of arguments for 'config|get' command".to_owned());
        }
        let known = [
            ("save", String::new()),
            ("appendonly", "yes".to_owned()),
            ("databases", "1".to_owned()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("port", self.options.port.to_string()),
            (
                "proto-max-bulk-len",
                self.options.value_bytes_max.to_string(),
            ),
        ];
        let is_asked = |name: &str| {
            (1..words.len()).any(|at| matches(&words.get(at).to_ascii_lowercase(), name.as_bytes()))
        };
        let version = self.version;
        self.answer(io, |out| {
            map(
                out,
                known.iter().filter(|(name, _)| is_asked(name)).count(),
                version,
            );
            for (name, value) in known.iter().filter(|(name, _)| is_asked(name)) {
                bulk(out, name.as_bytes());
                bulk(out, value.as_bytes());
            }
        });
        Ok(())
    }

    pub(super) fn info(&mut self, io: &mut Io<'_>, words: &Words<'_>) -> Result<(), Refusal> {
        let is_asked = |section: &str| {
            words.len() == 0
                || (0..words.len()).any(|at| {
                    let asked = words.get(at).to_ascii_lowercase();
                    matches!(asked.as_slice(), b"all" | b"default" | b"everything")
                        || asked == section.as_bytes()
                })
        };
        let status = io.port.status();
        let counters = &self.options.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let memory_bytes = status.index_bytes + status.tail_bytes + status.cache_bytes;
        let sections = [
            (
                "server",
                format!(
                    "redis_version:{REDIS_VERSION}\r\ngramme_version:{}\r\nredis_mode:standalone\r\nprocess_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\nshards:{}\r\nthis_shard:{}\r\n",
                    env!("CARGO_PKG_VERSION"),
                    std::process::id(),
                    self.options.port,
                    self.options.started.elapsed().as_secs(),
                    io.port.slices().shards(),
                    io.port.shard().0,
                ),
            ),
            (
                "clients",
                format!("connected_clients:{}\r\n", count(&counters.connections)),
            ),
            (
                "memory",
                format!("this_shard_memory_bytes:{memory_bytes}\r\nmaxmemory:0\r\n"),
            ),
            (
                "persistence",
                format!(
                    "loading:0\r\naof_enabled:1\r\nthis_shard_live_bytes:{}\r\nthis_shard_used_bytes:{}\r\n",
                    status.live_bytes, status.used_bytes
                ),
            ),
            (
                "stats",
                format!(
                    "total_connections_received:{}\r\nrejected_connections:{}\r\ntotal_net_input_bytes:{}\r\ntotal_net_output_bytes:{}\r\nthis_shard_gets:{}\r\nthis_shard_puts:{}\r\n",
                    count(&counters.accepted),
                    count(&counters.refused),
                    count(&counters.received_bytes),
                    count(&counters.sent_bytes),
                    status.gets,
                    status.puts
                ),
            ),
            (
                "replication",
                "role:master\r\nconnected_slaves:0\r\n".to_owned(),
            ),
        ];
        let mut text = String::new();
        for (name, lines) in sections.iter().filter(|(name, _)| is_asked(name)) {
            let (first, rest) = name.split_at(1);
            // Writing to memory does not fail.
            let _ = write!(text, "# {}{rest}\r\n{lines}\r\n", first.to_uppercase());
        }
        if is_asked("keyspace") {
            self.count_keys(io, Total::Info(text));
        } else {
            self.answer(io, |out| bulk(out, text.as_bytes()));
        }
        Ok(())
    }
}

/// One command as `COMMAND` tells it: name, arity, flags, first and last key, step.
fn describe(out: &mut Vec<u8>, command: &Command) {
    array(out, 6);
    bulk(out, command.name.as_bytes());
    integer(out, command.arity());
    array(out, command.flags.len());
    command.flags.iter().for_each(|flag| simple(out, flag));
    let (first, last, step) = command.keys;
    for place in [first, last, step] {
        integer(out, place);
    }
}
