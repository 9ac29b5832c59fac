//! RESP: Redis, Valkey, KeyDB, Dragonfly, gramme.
//!
//! Owns the bytes of RESP2 requests and of any reply. Never allocates on the path of a request.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::outcome::{ErrorKind, Outcome};
use super::wire::{Parsed, Step, Wire};
use crate::workload::{Durability, Operation, Verb};

/// A reply nested deeper than this is refused.
const DEPTH_MAX: u32 = 8;
/// A bulk string or array longer than this is refused.
const LENGTH_MAX: i64 = 512 << 20;

/// The protocol.
#[derive(Debug, Clone, Default)]
pub struct Resp {
    password: Option<String>,
    durable_by_option: bool,
}

impl Resp {
    /// Connections authenticate with `password`, if there is one.
    pub fn new(password: Option<String>) -> Self {
        Resp {
            password,
            durable_by_option: false,
        }
    }
}

fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    prefixed(out, b'*', parts.len());
    for part in parts {
        prefixed(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn prefixed(out: &mut Vec<u8>, mark: u8, number: usize) {
    out.push(mark);
    let mut digits = Decimal::default();
    out.extend_from_slice(digits.of(number as u64));
    out.extend_from_slice(b"\r\n");
}

/// A number in digits without an allocation.
#[derive(Default)]
pub(super) struct Decimal([u8; 20]);

impl Decimal {
    pub(super) fn of(&mut self, mut number: u64) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return &self.0[at..];
            }
        }
    }
}

/// A line up to CRLF: its content and its length with the CRLF.
pub(crate) fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let at = input.iter().position(|byte| *byte == b'\n')?;
    let content = &input[..at];
    Some((content.strip_suffix(b"\r").unwrap_or(content), at + 1))
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The end of one whole value, `Ok(None)` when more bytes are needed, `Err` when it is no RESP.
pub(crate) fn value_end(input: &[u8], depth: u32) -> Result<Option<usize>, ()> {
    let Some(mark) = input.first() else {
        return Ok(None);
    };
    let Some((content, mut at)) = line(input) else {
        // A line that never ends is not a reply.
        return if input.len() > 64 << 10 {
            Err(())
        } else {
            Ok(None)
        };
    };
    match mark {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(Some(at)),
        b'$' | b'=' | b'!' => {
            let length = number(&content[1..])
                .filter(|length| (-1..=LENGTH_MAX).contains(length))
                .ok_or(())?;
            if length < 0 {
                return Ok(Some(at));
            }
            let end = at + length as usize + 2;
            Ok((input.len() >= end).then_some(end))
        }
        b'*' | b'~' | b'>' | b'%' => {
            let length = number(&content[1..])
                .filter(|length| (-1..=LENGTH_MAX).contains(length))
                .ok_or(())?;
            if depth >= DEPTH_MAX {
                return Err(());
            }
            let items = length.max(0) * if *mark == b'%' { 2 } else { 1 };
            for _ in 0..items {
                match value_end(&input[at..], depth + 1)? {
                    Some(bytes) => at += bytes,
                    None => return Ok(None),
                }
            }
            Ok(Some(at))
        }
        _ => Err(()),
    }
}

fn outcome_of(step: Step, key_id: u64, reply: &[u8]) -> Outcome {
    let Some((content, at)) = line(reply) else {
        return Outcome::Failed(ErrorKind::Protocol);
    };
    match (content.first(), step) {
        (Some(b'-'), _) if content.starts_with(b"-OVERLOADED") => {
            Outcome::Failed(ErrorKind::Overloaded)
        }
        (Some(b'-' | b'!'), _) => Outcome::Failed(ErrorKind::Refused),
        (Some(b'_'), Step::Read) => Outcome::Miss,
        (Some(b'$'), Step::Read) if content == b"$-1" => Outcome::Miss,
        (Some(b'$'), Step::Read) => Outcome::of_read(key_id, Some(&reply[at..reply.len() - 2])),
        (_, Step::Read) => Outcome::Foreign,
        (_, Step::Write | Step::Delete | Step::Scan) => Outcome::Done,
    }
}

impl Wire for Resp {
    fn can(&self, _: Verb) -> bool {
        true
    }

    fn greet(&self, out: &mut Vec<u8>) -> usize {
        let mut replies = 0;
        if let Some(password) = &self.password {
            command(out, &[b"AUTH", password.as_bytes()]);
            replies += 1;
        }
        if self.durable_by_option {
            command(out, &[b"DYN.OPT", b"DURABILITY", b"one"]);
            replies += 1;
        }
        replies
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
            Step::Read => command(out, &[b"GET", key]),
            Step::Write if operation.ttl_s > 0 => command(
                out,
                &[
                    b"SET",
                    key,
                    value,
                    b"EX",
                    digits.of(u64::from(operation.ttl_s)),
                ],
            ),
            Step::Write => command(out, &[b"SET", key, value]),
            Step::Delete => command(out, &[b"DEL", key]),
            // The protocol has no scan in key order; this is its own, of as many keys.
            Step::Scan => command(
                out,
                &[
                    b"SCAN",
                    b"0",
                    b"COUNT",
                    digits.of(u64::from(operation.scan_keys)),
                ],
            ),
        }
    }

    fn parse(&self, step: Step, key_id: u64, input: &[u8]) -> Parsed {
        match value_end(input, 0) {
            Ok(None) => Parsed::NeedMore,
            Ok(Some(bytes)) => Parsed::Reply {
                bytes,
                outcome: outcome_of(step, key_id, &input[..bytes]),
            },
            Err(()) => Parsed::Broken,
        }
    }

    fn facts(&self, stream: &mut TcpStream) -> Vec<(String, String)> {
        let mut facts = Vec::new();
        let wanted = [
            "redis_version",
            "valkey_version",
            "gramme_version",
            "redis_mode",
            "server_name",
            "io_threads_active",
        ];
        // A server that does not know this question may not know the others either, and each costs a timeout.
        let Ok(info) = ask(stream, &[b"INFO", b"server"]) else {
            return facts;
        };
        let pairs = info.lines().filter_map(|line| line.split_once(':'));
        facts.extend(
            pairs
                .filter(|(name, _)| wanted.contains(name))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned())),
        );
        for setting in ["appendonly", "appendfsync", "save", "maxmemory"] {
            if let Some(value) = setting_of(stream, setting) {
                facts.push((setting.to_owned(), value));
            }
        }
        facts
    }

    fn promise(&mut self, stream: &mut TcpStream, durability: Durability) -> io::Result<()> {
        if durability == Durability::Default {
            return Ok(());
        }
        if ask(stream, &[b"DYN.OPT", b"DURABILITY", b"one"])
            .is_ok_and(|reply| reply.starts_with("+OK"))
        {
            self.durable_by_option = true;
            return Ok(());
        }
        let is = |stream: &mut TcpStream, name, wanted: &str| {
            setting_of(stream, name).is_some_and(|value| value == wanted)
        };
        if is(stream, "appendonly", "yes") && is(stream, "appendfsync", "always") {
            return Ok(());
        }
        Err(io::Error::other(
            "durable writes were asked for, and this server does not sync each write: start it with `--appendonly yes --appendfsync always`",
        ))
    }
}

/// One setting, from `CONFIG GET`.
fn setting_of(stream: &mut TcpStream, name: &str) -> Option<String> {
    let reply = ask(stream, &[b"CONFIG", b"GET", name.as_bytes()]).ok()?;
    let lines: Vec<&str> = reply.lines().collect();
    let place = lines.iter().position(|line| *line == name)?;
    // The name, then the value's length, then the value.
    lines.get(place + 2).map(|value| (*value).to_owned())
}

/// Sends one command and returns the raw reply as text.
pub fn ask(stream: &mut TcpStream, parts: &[&[u8]]) -> io::Result<String> {
    let mut out = Vec::new();
    command(&mut out, parts);
    stream.write_all(&out)?;
    let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match value_end(&input, 0) {
            Ok(Some(bytes)) => return Ok(String::from_utf8_lossy(&input[..bytes]).into_owned()),
            Ok(None) => {}
            Err(()) => return Err(io::Error::other("the target does not speak RESP")),
        }
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        input.extend_from_slice(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(ttl_s: u32) -> Operation {
        Operation {
            verb: Verb::Write,
            key_id: 1,
            value_bytes: 2,
            scan_keys: 7,
            ttl_s,
            durability: Durability::Default,
        }
    }

    fn encoded(step: Step, ttl_s: u32) -> String {
        let mut out = Vec::new();
        Resp::default().encode(step, &operation(ttl_s), b"k", b"vv", &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn requests_are_what_redis_reads() {
        assert_eq!(encoded(Step::Read, 0), "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        assert_eq!(
            encoded(Step::Write, 0),
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n"
        );
        assert_eq!(
            encoded(Step::Write, 60),
            "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n$2\r\nEX\r\n$2\r\n60\r\n"
        );
        assert_eq!(
            encoded(Step::Scan, 0),
            "*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nCOUNT\r\n$1\r\n7\r\n"
        );
    }

    #[test]
    fn every_prefix_of_a_reply_needs_more_and_the_whole_is_one_reply() {
        let cases: [(&[u8], Step, Outcome); 7] = [
            (b"+OK\r\n", Step::Write, Outcome::Done),
            (b"$-1\r\n", Step::Read, Outcome::Miss),
            (b"$5\r\nhe\nlo\r\n", Step::Read, Outcome::Foreign),
            (b":1\r\n", Step::Delete, Outcome::Done),
            (
                b"-ERR no\r\n",
                Step::Read,
                Outcome::Failed(ErrorKind::Refused),
            ),
            (
                b"-OVERLOADED wait 5\r\n",
                Step::Write,
                Outcome::Failed(ErrorKind::Overloaded),
            ),
            (
                b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
                Step::Scan,
                Outcome::Done,
            ),
        ];
        for (reply, step, outcome) in cases {
            for cut in 0..reply.len() {
                assert_eq!(
                    Resp::default().parse(step, 1, &reply[..cut]),
                    Parsed::NeedMore,
                    "{cut} bytes of {reply:?}"
                );
            }
            let mut with_more = reply.to_vec();
            with_more.extend_from_slice(b"+NEXT\r\n");
            assert_eq!(
                Resp::default().parse(step, 1, &with_more),
                Parsed::Reply {
                    bytes: reply.len(),
                    outcome
                }
            );
        }
    }

    #[test]
    fn garbage_and_absurd_lengths_are_broken_not_awaited() {
        for garbage in [
            &b"HTTP/1.1 400\r\n"[..],
            b"$99999999999999\r\n",
            b"$abc\r\n",
            b"*-7\r\n",
        ] {
            assert_eq!(
                Resp::default().parse(Step::Read, 1, garbage),
                Parsed::Broken,
                "{garbage:?}"
            );
        }
        let nested = b"*1\r\n".repeat(100);
        assert_eq!(
            Resp::default().parse(Step::Read, 1, &nested),
            Parsed::Broken
        );
    }
}
