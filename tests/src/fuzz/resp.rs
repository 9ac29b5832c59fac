//! Redis commands in any pieces, and the replies to them as a strict client reads them.

use gramme::reactor::session::{ConnectionId, Io, Protocol, Session};
use gramme::resp::RespProtocol;
use gramme::resp::parse::{Parse, Parser};

use super::host::Host;
use super::{option_of, pieces};

/// The longest word that the parser is asked to take.
const WORD_BYTES_MAX: usize = 1 << 20;

/// What one command was read as: its words, or the error.
type Commands = Vec<Result<Vec<Vec<u8>>, &'static str>>;

fn commands<'a>(input: impl Iterator<Item = &'a [u8]>) -> Commands {
    let (mut parser, mut words, mut unread) = (Parser::default(), Vec::new(), Vec::new());
    let mut found = Vec::new();
    for piece in input {
        unread.extend_from_slice(piece);
        loop {
            match parser.parse(&unread, WORD_BYTES_MAX, &mut words) {
                Parse::Done(bytes) => {
                    assert!(
                        bytes > 0 && bytes <= unread.len(),
                        "a command of {bytes} of {} bytes",
                        unread.len()
                    );
                    let read = parser.bytes(&unread);
                    found.push(Ok(words
                        .iter()
                        .map(|word| read[word.clone()].to_vec())
                        .collect()));
                    unread.drain(..bytes);
                }
                Parse::NeedMore(bytes) => {
                    assert!(bytes > unread.len(), "what is there is enough");
                    break;
                }
                Parse::Bad(why) => {
                    found.push(Err(why));
                    return found;
                }
            }
        }
    }
    found
}

/// A command is read the same in whatever pieces it comes.
pub(super) fn parse(input: &[u8]) {
    let (option, input) = option_of(input);
    let whole = commands(std::iter::once(input));
    let pieced = commands(pieces(input, option));
    // The pieces may show an error earlier than the whole would be looked at; what came before it is the same.
    assert_eq!(whole, pieced);
}

/// A session against a shard: nothing panics, and what it says is RESP.
pub(super) fn session(input: &[u8]) {
    let (option, input) = option_of(input);
    let mut host = Host::new();
    let mut session = RespProtocol::default().open(None);
    let out = converse(&mut *session, &mut host, pieces(input, option));
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let read = reply(rest, 0);
        let bytes =
            read.unwrap_or_else(|what| panic!("{what} in {:?}", String::from_utf8_lossy(rest)));
        rest = &rest[bytes..];
    }
}

/// Hands a session its input, piece by piece, and the answers to its requests; returns what it said.
pub(super) fn converse<'a>(
    session: &mut dyn Session,
    host: &mut Host,
    input: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let connection = ConnectionId {
        slot: 0,
        generation: 0,
    };
    let (mut out, mut unread) = (Vec::new(), Vec::new());
    for piece in input {
        unread.extend_from_slice(piece);
        loop {
            let mut io = Io {
                out: &mut out,
                port: host,
                connection,
                is_ended: false,
                said: None,
            };
            let used = if session.is_blocked() {
                0
            } else {
                session.received(&unread, &mut io)
            };
            let is_ended = io.is_ended || io.said.is_some();
            unread.drain(..used);
            let had_answers = answers(session, host, (&mut out, connection));
            if is_ended {
                return out;
            }
            if !had_answers && used == 0 {
                break;
            }
        }
    }
    out
}

fn answers(
    session: &mut dyn Session,
    host: &mut Host,
    (out, connection): (&mut Vec<u8>, ConnectionId),
) -> bool {
    let mut had_some = false;
    for _ in 0..3 {
        let answers = std::mem::take(&mut host.answers);
        had_some |= !answers.is_empty();
        for (id, outcome, bytes) in answers {
            let mut io = Io {
                out,
                port: host,
                connection,
                is_ended: false,
                said: None,
            };
            session.reply(ConnectionId::of(id).1, &outcome, &bytes, &mut io);
        }
        if session.is_idle() {
            break;
        }
        host.turn();
    }
    had_some
}

/// Reads one reply strictly; returns its length.
fn reply(bytes: &[u8], depth: usize) -> Result<usize, &'static str> {
    if depth > 8 {
        return Err("deeper than any reply");
    }
    let (kind, _) = bytes.split_first().ok_or("cut off")?;
    let end = bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or("a line without an end")?;
    let line = &bytes[1..end];
    if line.contains(&b'\n') || line.contains(&b'\r') {
        return Err("a line in a line");
    }
    let at = end + 2;
    let number = || {
        std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
    };
    let many =
        |times: usize| (0..times).try_fold(at, |at, _| Ok(at + reply(&bytes[at..], depth + 1)?));
    match kind {
        b'+' | b'-' | b',' | b'(' => Ok(at),
        b'_' if line.is_empty() => Ok(at),
        b'#' if matches!(line, b"t" | b"f") => Ok(at),
        b':' => number().map(|_| at).ok_or("no number"),
        b'$' | b'=' | b'!' => match number().ok_or("no length")? {
            -1 if *kind == b'$' => Ok(at),
            length => {
                let end = at + usize::try_from(length).map_err(|_| "a negative length")?;
                match bytes.get(end..end + 2) {
                    Some(b"\r\n") => Ok(end + 2),
                    _ => Err("a bulk of another length"),
                }
            }
        },
        b'*' | b'~' | b'>' | b'%' => match number().ok_or("no count")? {
            -1 if *kind == b'*' => Ok(at),
            count => {
                let count = usize::try_from(count).map_err(|_| "a negative count")?;
                many(if *kind == b'%' { 2 * count } else { count })
            }
        },
        _ => Err("no kind of reply"),
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Conversations: the first byte says in which pieces they come.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let lines: [(u8, &[&str]); 12] = [
        (0, &["PING", "PING hello", "ECHO x", "TIME", "QUIT", "PING"]),
        (
            1,
            &[
                "SET a 1",
                "GET a",
                "INCR a",
                "GETSET a 2",
                "GETDEL a",
                "EXISTS a a b",
            ],
        ),
        (
            7,
            &[
                "SET a 1 EX 10 NX",
                "TTL a",
                "PTTL a",
                "EXPIRE a 5",
                "PERSIST a",
                "SET a 2 XX GET KEEPTTL",
            ],
        ),
        (
            0,
            &[
                "MSET a 1 b 2 c 3",
                "MGET a b c d",
                "DEL a b",
                "UNLINK c",
                "DBSIZE",
                "KEYS *",
            ],
        ),
        (
            0,
            &[
                "HELLO 3",
                "SET k v",
                "GET k",
                "GET none",
                "SCAN 0 MATCH k* COUNT 10",
                "HELLO 2 SETNAME x",
                "RESET",
            ],
        ),
        (
            3,
            &[
                "DYN.PUT cart apples",
                "DYN.GET cart",
                "DYN.PUT cart pears",
                "DYN.GET cart",
                "DYN.DEL cart",
            ],
        ),
        (
            0,
            &[
                "DYN.BUCKET carts",
                "DYN.OPT W 1 R 1 DURABILITY one",
                "SET x 1",
                "DYN.OPT",
                "DYN.BUCKET",
            ],
        ),
        (
            0,
            &[
                "INFO",
                "INFO server",
                "COMMAND",
                "COMMAND COUNT",
                "COMMAND DOCS get",
                "CLIENT ID",
                "CLIENT SETNAME me",
                "CLIENT GETNAME",
                "CLIENT LIST",
            ],
        ),
        (
            0,
            &[
                "CONFIG GET *",
                "SELECT 0",
                "SELECT 1",
                "AUTH secret",
                "TYPE a",
                "STRLEN a",
                "APPEND a b",
                "OBJECT ENCODING a",
            ],
        ),
        (
            0,
            &[
                "EVAL x 0",
                "SUBSCRIBE a",
                "MULTI",
                "SET",
                "GET a b",
                "FLUSHALL",
                "WAIT 1 0",
            ],
        ),
        (
            2,
            &[
                "SET \"quoted \\x41\\n\" 'single quoted'",
                "GET \"quoted \\x41\\n\"",
            ],
        ),
        (
            0,
            &[
                "SETEX a 10 v",
                "PSETEX a 10 v",
                "SETNX a v",
                "GETEX a PX 5",
                "EXPIREAT a 1900000000",
                "PEXPIRETIME a",
            ],
        ),
    ];
    let mut seeds = Vec::new();
    for (option, lines) in lines {
        let mut inline = vec![option];
        let mut arrays = vec![option];
        for line in lines {
            inline.extend_from_slice(line.as_bytes());
            inline.extend_from_slice(b"\r\n");
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            arrays.extend(command(&words));
        }
        seeds.push(inline);
        seeds.push(arrays);
    }
    let mut binary = vec![0];
    binary.extend(command(&[b"SET", b"\x00\xff\r\n", b"\xf0\x28\x8c\x28"]));
    binary.extend(command(&[b"GET", b"\x00\xff\r\n"]));
    binary.extend(command(&[]));
    seeds.push(binary);
    seeds
}
