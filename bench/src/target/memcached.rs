//! memcached's text protocol.
//!
//! Owns its bytes. Never scans: the protocol cannot.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::outcome::{ErrorKind, Outcome};
use super::resp::{Decimal, line};
use super::wire::{Parsed, Step, Wire};
use crate::workload::{Durability, Operation, Verb};

/// Beyond thirty days memcached takes an expiry for a date.
const TTL_S_MAX: u32 = 30 * 24 * 3600;
const LENGTH_MAX: usize = 512 << 20;

/// The protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memcached;

impl Wire for Memcached {
    fn can(&self, verb: Verb) -> bool {
        verb != Verb::Scan
    }

    fn greet(&self, _: &mut Vec<u8>) -> usize {
        0
    }

    fn encode(
        &self,
        step: Step,
        operation: &Operation,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut digits = Decimal::default();
        match step {
            // A scan is refused before a run; reading one key is the nearest that the protocol has.
            Step::Read | Step::Scan => {
                out.extend_from_slice(b"get ");
                out.extend_from_slice(key);
            }
            Step::Write => {
                out.extend_from_slice(b"set ");
                out.extend_from_slice(key);
                out.extend_from_slice(b" 0 ");
                out.extend_from_slice(digits.of(u64::from(operation.ttl_s.min(TTL_S_MAX))));
                out.push(b' ');
                out.extend_from_slice(digits.of(value.len() as u64));
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(value);
            }
            Step::Delete => {
                out.extend_from_slice(b"delete ");
                out.extend_from_slice(key);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn parse(&self, _: Step, key_id: u64, input: &[u8]) -> Parsed {
        let Some((content, at)) = line(input) else {
            return if input.len() > 64 << 10 {
                Parsed::Broken
            } else {
                Parsed::NeedMore
            };
        };
        if let Some(rest) = content.strip_prefix(b"VALUE ") {
            return parse_value(rest, at, key_id, input);
        }
        let outcome = match content {
            b"END" => Outcome::Miss,
            b"STORED" | b"DELETED" | b"NOT_FOUND" | b"OK" => Outcome::Done,
            b"NOT_STORED" | b"EXISTS" => Outcome::Failed(ErrorKind::Refused),
            _ if content.starts_with(b"SERVER_ERROR")
                || content.starts_with(b"CLIENT_ERROR")
                || content == b"ERROR" =>
            {
                Outcome::Failed(ErrorKind::Refused)
            }
            _ => return Parsed::Broken,
        };
        Parsed::Reply { bytes: at, outcome }
    }

    fn facts(&self, stream: &mut TcpStream) -> Vec<(String, String)> {
        let mut reply = [0; 256];
        let asked = stream
            .write_all(b"version\r\n")
            .and_then(|()| stream.read(&mut reply));
        let version = asked.ok().and_then(|read| {
            line(&reply[..read]).map(|(content, _)| String::from_utf8_lossy(content).into_owned())
        });
        version
            .map(|version| {
                (
                    "version".to_owned(),
                    version.trim_start_matches("VERSION ").to_owned(),
                )
            })
            .into_iter()
            .collect()
    }

    fn promise(&mut self, _: &mut TcpStream, durability: Durability) -> io::Result<()> {
        match durability {
            Durability::Default => Ok(()),
            Durability::Durable => Err(io::Error::other(
                "durable writes were asked for, and memcached keeps nothing on disk",
            )),
        }
    }
}

/// `VALUE key flags bytes\r\n data \r\n END\r\n`.
fn parse_value(rest: &[u8], at: usize, key_id: u64, input: &[u8]) -> Parsed {
    const TAIL: &[u8] = b"\r\nEND\r\n";
    let length = rest
        .split(|byte| *byte == b' ')
        .nth(2)
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
    let Some(length) = length.filter(|length| *length <= LENGTH_MAX) else {
        return Parsed::Broken;
    };
    let Some(tail) = input.get(at + length..at + length + TAIL.len()) else {
        return Parsed::NeedMore;
    };
    if tail != TAIL {
        return Parsed::Broken;
    }
    Parsed::Reply {
        bytes: at + length + TAIL.len(),
        outcome: Outcome::of_read(key_id, input.get(at..at + length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_memcached_reads() {
        let operation = Operation {
            verb: Verb::Write,
            key_id: 1,
            value_bytes: 2,
            scan_keys: 0,
            ttl_s: 60,
            durability: Durability::Default,
        };
        let mut out = Vec::new();
        for step in [Step::Read, Step::Write, Step::Delete] {
            Memcached.encode(step, &operation, b"k", b"vv", &mut out);
        }
        assert_eq!(out, b"get k\r\nset k 0 60 2\r\nvv\r\ndelete k\r\n");
    }

    #[test]
    fn every_prefix_of_a_reply_needs_more_and_the_whole_is_one_reply() {
        let cases: [(&[u8], Outcome); 5] = [
            (b"VALUE k 0 5\r\nhe\nlo\r\nEND\r\n", Outcome::Foreign),
            (b"END\r\n", Outcome::Miss),
            (b"STORED\r\n", Outcome::Done),
            (b"NOT_FOUND\r\n", Outcome::Done),
            (
                b"SERVER_ERROR out of memory storing object\r\n",
                Outcome::Failed(ErrorKind::Refused),
            ),
        ];
        for (reply, outcome) in cases {
            for cut in 0..reply.len() {
                assert_eq!(
                    Memcached.parse(Step::Read, 1, &reply[..cut]),
                    Parsed::NeedMore,
                    "{cut} bytes of {reply:?}"
                );
            }
            assert_eq!(
                Memcached.parse(Step::Read, 1, reply),
                Parsed::Reply {
                    bytes: reply.len(),
                    outcome
                }
            );
        }
        for garbage in [
            &b"+OK\r\n"[..],
            b"VALUE k 0 x\r\n",
            b"VALUE k 0 1\r\nabcdEND\r\n\r\n",
        ] {
            assert_eq!(
                Memcached.parse(Step::Read, 1, garbage),
                Parsed::Broken,
                "{garbage:?}"
            );
        }
    }
}
