//! What a Redis client sees, command by command: the answers are those of Redis 7 where Redis has the command.

use std::sync::Arc;

use gramme_core::port::Failure;

use super::fake_port::FakePort;
use super::{RespOptions, RespSession};
use crate::reactor::session::{ConnectionId, Io, Session};
use crate::secret::Secret;

const CONNECTION: ConnectionId = ConnectionId {
    slot: 3,
    generation: 1,
};

struct Client {
    port: FakePort,
    session: RespSession,
    held: Vec<u8>,
    is_ended: bool,
}

impl Client {
    fn new(options: RespOptions) -> Self {
        Self {
            port: FakePort::new(3),
            session: RespSession::new(Arc::new(options), 7, None),
            held: Vec::new(),
            is_ended: false,
        }
    }

    fn call(
        &mut self,
        out: &mut Vec<u8>,
        call: impl FnOnce(&mut RespSession, &mut Io<'_>) -> usize,
    ) -> usize {
        let mut io = Io {
            out,
            port: &mut self.port,
            connection: CONNECTION,
            is_ended: false,
            said: None,
        };
        let used = call(&mut self.session, &mut io);
        self.is_ended |= io.is_ended;
        used
    }

    /// Sends bytes; the shard's answers of each round come in order, or the newest first.
    fn send(&mut self, input: &[u8], is_newest_first: bool) -> String {
        let mut out = Vec::new();
        self.held.extend_from_slice(input);
        loop {
            if !self.session.is_blocked() && !self.is_ended {
                let held = std::mem::take(&mut self.held);
                let used = self.call(&mut out, |session, io| session.received(&held, io));
                self.held = held[used..].to_vec();
            }
            let mut answers = std::mem::take(&mut self.port.answers);
            if answers.is_empty() {
                return String::from_utf8_lossy(&out).into_owned();
            }
            if is_newest_first {
                answers.reverse();
            }
            for (id, outcome, bytes) in answers {
                let (connection, tag) = ConnectionId::of(id);
                assert_eq!(connection, CONNECTION);
                self.call(&mut out, |session, io| {
                    session.reply(tag, &outcome, &bytes, io);
                    0
                });
            }
        }
    }

    /// Inline commands, one a line.
    fn say(&mut self, lines: &str) -> String {
        self.send(format!("{lines}\r\n").as_bytes(), false)
            .replace("\r\n", " ")
            .trim_end()
            .to_owned()
    }
}

/// Each line is said and answered.
fn transcript(client: &mut Client, lines: &[(&str, &str)]) {
    for (line, answer) in lines {
        assert_eq!(client.say(line), *answer, "to {line}");
    }
}

fn client() -> Client {
    Client::new(RespOptions::default())
}

#[test]
fn values_are_set_read_and_deleted_as_in_redis() {
    transcript(
        &mut client(),
        &[
            ("GET k", "$-1"),
            ("SET k v", "+OK"),
            ("get k", "$1 v"),
            ("SET k w NX", "$-1"),
            ("SET k w NX GET", "$1 v"),
            ("SET k w XX", "+OK"),
            ("SET q w XX", "$-1"),
            ("SET k x GET", "$1 w"),
            ("SET q x GET", "$-1"),
            ("STRLEN k", ":1"),
            ("STRLEN none", ":0"),
            ("TYPE k", "+string"),
            ("TYPE none", "+none"),
            ("MSET a 1 b 2", "+OK"),
            ("MGET a none b", "*3 $1 1 $-1 $1 2"),
            ("EXISTS a a none", ":2"),
            ("DEL a a none", ":1"),
            ("UNLINK b", ":1"),
            ("GETDEL k", "$1 x"),
            ("GETDEL k", "$-1"),
            ("DBSIZE", ":1"),
        ],
    );
}

#[test]
fn times_to_live_are_those_of_redis() {
    let mut client = client();
    transcript(
        &mut client,
        &[
            ("TTL k", ":-2"),
            ("SET k v", "+OK"),
            ("TTL k", ":-1"),
            ("EXPIRE k 10", ":1"),
            ("TTL k", ":10"),
            ("PTTL k", ":10000"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("SET k v PX 1600", "+OK"),
            ("TTL k", ":2"),
            ("SET k w KEEPTTL", "+OK"),
            ("PTTL k", ":1600"),
            ("GETEX k EX 5", "$1 w"),
            ("PTTL k", ":5000"),
            ("GETEX k PERSIST", "$1 w"),
            ("TTL k", ":-1"),
            ("EXPIRE none 10", ":0"),
            ("PEXPIRE k 500", ":1"),
        ],
    );
    client.port.now_ms += 500;
    transcript(
        &mut client,
        &[
            ("GET k", "$-1"),
            ("SET k v", "+OK"),
            ("EXPIRE k -1", ":1"),
            ("EXISTS k", ":0"),
            ("SET k v", "+OK"),
            ("SET k v PXAT 5", "+OK"),
            ("EXISTS k", ":0"),
        ],
    );
}

#[test]
fn errors_have_the_texts_of_redis() {
    transcript(
        &mut client(),
        &[
            ("GET", "-ERR wrong number of arguments for 'get' command"),
            (
                "MSET a",
                "-ERR wrong number of arguments for 'mset' command",
            ),
            (
                "MSET a 1 b",
                "-ERR wrong number of arguments for 'mset' command",
            ),
            (
                "NONE a b",
                "-ERR unknown command 'NONE', with args beginning with: 'a' 'b'",
            ),
            ("SET k v NX XX", "-ERR syntax error"),
            ("SET k v EX", "-ERR syntax error"),
            ("SET k v EX 1 PX 1", "-ERR syntax error"),
            (
                "SET k v EX x",
                "-ERR value is not an integer or out of range",
            ),
            ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
            (
                "SET k v EX 9223372036854775807",
                "-ERR invalid expire time in 'set' command",
            ),
            (
                "EXPIRE k 9223372036854775807",
                "-ERR invalid expire time in 'expire' command",
            ),
            ("SELECT 1", "-ERR DB index is out of range"),
            ("SELECT x", "-ERR value is not an integer or out of range"),
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("HELLO 4", "-NOPROTO unsupported protocol version"),
            (
                "CLIENT NONE",
                "-ERR unknown subcommand 'NONE'. Try CLIENT HELP.",
            ),
            (
                "AUTH x",
                "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ),
        ],
    );
}

#[test]
fn a_failed_request_says_its_code_and_whether_it_may_have_happened() {
    let mut client = client();
    for (failure, code) in [
        (Failure::InDoubt, "-QUORUM in doubt: "),
        (Failure::Overloaded { retry_after_ms: 5 }, "-OVERLOADED "),
        (Failure::DeadlineNotApplied, "-DEADLINE "),
        (Failure::DiskFull, "-DISKFULL "),
        (Failure::ReadOnly, "-READONLY "),
        (Failure::Unknown, "-ERR "),
    ] {
        for line in ["SET k v", "MSET k v l w", "DEL k"] {
            client.port.failure = Some(failure);
            let answer = client.say(line);
            assert!(answer.starts_with(code), "{line}: {answer}");
        }
    }
    // A command that failed leaves nothing behind in the next one's sum.
    transcript(&mut client, &[("MSET k v l w", "+OK"), ("DEL k l", ":2")]);
}

#[test]
fn a_scan_sees_every_key_of_every_shard_once() {
    let mut client = client();
    let mut expected: Vec<String> = (0..50).map(|key| format!("key:{key}")).collect();
    expected.iter().for_each(|key| {
        client.say(&format!("SET {key} v"));
    });
    for count in [1, 7, 1000] {
        let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
        loop {
            let answer = client.say(&format!("SCAN {cursor} COUNT {count} MATCH key:*"));
            let words: Vec<&str> = answer.split(' ').collect();
            cursor = words[2].to_owned();
            seen.extend(
                words
                    .iter()
                    .filter(|word| word.starts_with("key:"))
                    .map(|word| (*word).to_owned()),
            );
            if cursor == "0" {
                break;
            }
        }
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "count {count}");
    }
    assert_eq!(
        client.say("SCAN 0 COUNT 1000 MATCH *:49"),
        "*2 $1 0 *1 $6 key:49"
    );
    assert_eq!(client.say("SCAN 0 TYPE list"), "*2 $1 0 *0");
}

#[test]
fn siblings_are_shown_with_a_context_that_ends_them() {
    let mut client = client();
    assert_eq!(client.say("DYN.GET k"), "*2 $-1 *0");
    let put = |context: &[u8], value: &str| {
        let mut bytes =
            format!("*4\r\n$7\r\nDYN.PUT\r\n$1\r\nk\r\n${}\r\n", context.len()).into_bytes();
        bytes.extend_from_slice(context);
        bytes.extend_from_slice(format!("\r\n${}\r\n{value}\r\n", value.len()).as_bytes());
        bytes
    };
    client.send(&put(b"", "a"), false);
    let context = client.context_of("k");
    client.send(&put(&context, "b"), false);
    client.send(&put(&context, "c"), false);
    let answer = client.send(b"DYN.GET k\r\n", false);
    assert!(answer.ends_with("*2\r\n$1\r\nb\r\n$1\r\nc\r\n"), "{answer}");
    assert_eq!(client.say("GET k"), "$1 c");
    let context = client.context_of("k");
    client.send(&put(&context, "d"), false);
    let answer = client.send(b"DYN.GET k\r\n", false);
    assert!(answer.ends_with("*1\r\n$1\r\nd\r\n"), "{answer}");
    assert!(
        client
            .say("DYN.PUT k nonsense v")
            .starts_with("-ERR not a context")
    );
    assert_eq!(
        client.say("DYN.OPT W 0 DEADLINE 5"),
        "-ERR W is a number of replicas from 1 to 255"
    );
    assert_eq!(client.say("DYN.OPT W 1 DURABILITY one DEADLINE 50"), "+OK");
    assert_eq!(
        client.say("DYN.OPT STRICT maybe"),
        "-ERR STRICT is yes or no"
    );
    for (said, is_strict) in [("yes", true), ("no", false)] {
        assert_eq!(client.say(&format!("DYN.OPT STRICT {said}")), "+OK");
        assert_eq!(client.say("SET k v"), "+OK");
        assert_eq!(client.port.quorum.is_strict, is_strict);
    }
    assert_eq!(
        client.say("DYN.OPT ZONES 0"),
        "-ERR ZONES is a number of zones from 1 to 255"
    );
    for zones in [2, 1] {
        assert_eq!(client.say(&format!("DYN.OPT ZONES {zones}")), "+OK");
        assert_eq!(client.say("SET k v"), "+OK");
        assert_eq!(client.port.quorum.zones, zones);
    }
}

impl Client {
    /// The context that `DYN.GET` tells of a key.
    fn context_of(&mut self, key: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let line = format!("DYN.GET {key}\r\n");
        self.call(&mut out, |session, io| {
            session.received(line.as_bytes(), io)
        });
        for (id, outcome, bytes) in std::mem::take(&mut self.port.answers) {
            let (_, tag) = ConnectionId::of(id);
            self.call(&mut out, |session, io| {
                session.reply(tag, &outcome, &bytes, io);
                0
            });
        }
        let rest = out
            .strip_prefix(b"*2\r\n$")
            .expect("an array with a context");
        let end = rest
            .iter()
            .position(|byte| *byte == b'\r')
            .expect("a length");
        let length: usize = String::from_utf8_lossy(&rest[..end])
            .parse()
            .expect("a number");
        rest[end + 2..end + 2 + length].to_vec()
    }
}

#[test]
fn nothing_but_a_password_is_answered_before_it() {
    let mut client = Client::new(RespOptions {
        password: Some(Secret::new(b"secret").expect("a secret")),
        ..RespOptions::default()
    });
    transcript(
        &mut client,
        &[
            ("GET k", "-NOAUTH Authentication required."),
            (
                "AUTH wrong",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            (
                "AUTH secre",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            (
                "AUTH other secret",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            ("AUTH secret", "+OK"),
            ("GET k", "$-1"),
            ("RESET", "+RESET"),
            ("GET k", "-NOAUTH Authentication required."),
        ],
    );
    assert!(client.say("HELLO 3 AUTH default secret").starts_with("%7 "));
    assert_eq!(client.say("GET k"), "_");
}

#[test]
fn a_value_or_key_over_the_limit_is_refused_and_the_connection_goes_on() {
    let mut client = Client::new(RespOptions {
        value_bytes_max: 10,
        ..RespOptions::default()
    });
    let key = "k".repeat(5000);
    transcript(
        &mut client,
        &[
            ("SET k 12345678901", "-TOOLARGE 11 bytes, 10 are allowed"),
            (
                "MSET a 1 k 12345678901 b 2",
                "-TOOLARGE 11 bytes, 10 are allowed",
            ),
            ("GET a", "$1 1"),
            (
                &format!("GET {key}"),
                "-TOOLARGE 5000 bytes, 4096 are allowed",
            ),
            ("CLIENT SETNAME me", "+OK"),
            ("CLIENT GETNAME", "$2 me"),
            ("CLIENT ID", ":7"),
        ],
    );
}

#[path = "pipeline_tests.rs"]
mod pipelines;
