//! RESP requests: arrays of bulk strings, and the inline commands that people type.
//!
//! Total on foreign bytes; allocates nothing from a declared length. A command that is not whole says how many bytes it
//! needs at least, so that a long one is not read again for every piece that arrives.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

/// Elements of one command.
const ELEMENTS_MAX: usize = 1 << 20;
/// A command's greatest length, all its words together.
const COMMAND_BYTES_MAX: usize = 64 << 20;
/// An inline command's greatest length.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// The greatest length of a line that holds a length.
const LENGTH_LINE_BYTES_MAX: usize = 32;

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parse {
    /// A command of so many bytes; its words are in the caller's list (none: an empty line).
    Done(usize),
    /// The beginning of one that has at least so many bytes.
    NeedMore(usize),
    /// No command; the connection cannot go on. The text is Redis' own.
    Bad(&'static str),
}

/// Reads one connection's commands.
#[derive(Debug, Default)]
pub struct Parser {
    /// How long the input must be before it is worth another look.
    need_bytes: usize,
    /// An array that is not whole: the elements that are missing, and where the next one begins. A million of them are
    /// not read again with every piece that arrives.
    begun: Option<(usize, usize)>,
    /// The words of an inline command, without their quotes.
    unquoted: Vec<u8>,
    is_inline: bool,
}

impl Parser {
    /// Reads one command from the start of the input; `words` receives the ranges of its words in
    /// [`bytes`](Self::bytes). Where more is needed, the next call brings the same input with more behind it, and the
    /// same words.
    pub fn parse(
        &mut self,
        input: &[u8],
        word_bytes_max: usize,
        words: &mut Vec<Range<usize>>,
    ) -> Parse {
        if input.len() < self.need_bytes {
            return Parse::NeedMore(self.need_bytes);
        }
        let parse = self.parse_more(input, word_bytes_max, words);
        self.need_bytes = match parse {
            Parse::NeedMore(bytes) => bytes,
            Parse::Done(_) | Parse::Bad(_) => 0,
        };
        parse
    }

    /// What the words' ranges refer to, given the input of the last `parse`.
    pub fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.is_inline {
            &self.unquoted
        } else {
            input
        }
    }

    /// Whether it has begun to read a command, whose first words it needs again.
    pub const fn is_midway(&self) -> bool {
        self.begun.is_some()
    }

    fn parse_more(
        &mut self,
        input: &[u8],
        word_bytes_max: usize,
        words: &mut Vec<Range<usize>>,
    ) -> Parse {
        let (mut missing, mut at) = match self.begun.take() {
            Some(begun) => begun,
            None => {
                words.clear();
                self.is_inline = false;
                match input.first() {
                    None => return Parse::NeedMore(1),
                    Some(b'*') => {}
                    Some(_) => {
                        self.is_inline = true;
                        return inline(input, &mut self.unquoted, words);
                    }
                }
                match length(input, 1) {
                    Length::Is(count, at) if count <= 0 => return Parse::Done(at),
                    Length::Is(count, at) => match usize::try_from(count) {
                        Ok(count) if count <= ELEMENTS_MAX => (count, at),
                        _ => return Parse::Bad("Protocol error: invalid multibulk length"),
                    },
                    Length::NeedMore => return Parse::NeedMore(input.len() + 1),
                    Length::Bad => {
                        return Parse::Bad("Protocol error: invalid multibulk length");
                    }
                    Length::TooLong => {
                        return Parse::Bad("Protocol error: too big mbulk count string");
                    }
                }
            }
        };
        while missing > 0 {
            match element(input, at, word_bytes_max) {
                Ok((word, next)) => {
                    words.push(word);
                    at = next;
                    missing -= 1;
                }
                Err(parse) => {
                    if matches!(parse, Parse::NeedMore(_)) {
                        self.begun = Some((missing, at));
                    }
                    return parse;
                }
            }
        }
        Parse::Done(at)
    }
}

/// Reads one element of an array: its word, and where the next one begins.
fn element(input: &[u8], at: usize, word_bytes_max: usize) -> Result<(Range<usize>, usize), Parse> {
    match input.get(at) {
        None => return Err(Parse::NeedMore(at + 1)),
        Some(b'$') => {}
        Some(_) => return Err(Parse::Bad("Protocol error: expected '$'")),
    }
    let (length, from) = match length(input, at + 1) {
        Length::Is(length, from) => match usize::try_from(length) {
            Ok(length) if length <= word_bytes_max => (length, from),
            _ => return Err(Parse::Bad("Protocol error: invalid bulk length")),
        },
        Length::NeedMore => return Err(Parse::NeedMore(input.len() + 1)),
        Length::Bad => return Err(Parse::Bad("Protocol error: invalid bulk length")),
        Length::TooLong => return Err(Parse::Bad("Protocol error: too big bulk count string")),
    };
    let end = from + length;
    let next = end + 2;
    if next > COMMAND_BYTES_MAX {
        return Err(Parse::Bad("Protocol error: command of more than 64 MiB"));
    }
    match input.get(end..next) {
        Some(b"\r\n") => Ok((from..end, next)),
        Some(_) => Err(Parse::Bad(
            "Protocol error: a bulk string is longer than it says",
        )),
        None => Err(Parse::NeedMore(next)),
    }
}

/// The line of a length.
enum Length {
    /// It, and where what follows begins.
    Is(i64, usize),
    /// The line is not whole.
    NeedMore,
    /// No number.
    Bad,
    /// No line that holds a length is so long.
    TooLong,
}

fn length(input: &[u8], at: usize) -> Length {
    let rest = input.get(at..).unwrap_or_default();
    let rest = rest.get(..LENGTH_LINE_BYTES_MAX).unwrap_or(rest);
    let mut value = 0_i64;
    let mut is_negative = false;
    let mut digits = 0;
    for (offset, byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' if digits < 18 => {
                value = value * 10 + i64::from(byte - b'0');
                digits += 1;
            }
            b'-' if offset == 0 => is_negative = true,
            b'\r' if digits > 0 => {
                return match rest.get(offset + 1) {
                    Some(b'\n') => {
                        Length::Is(if is_negative { -value } else { value }, at + offset + 2)
                    }
                    Some(_) => Length::Bad,
                    None => Length::NeedMore,
                };
            }
            _ => return Length::Bad,
        }
    }
    if rest.len() < LENGTH_LINE_BYTES_MAX {
        Length::NeedMore
    } else {
        Length::TooLong
    }
}

/// A line's content and the position behind its end.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let content = rest.get(..end)?;
    Some((
        content.strip_suffix(b"\r").unwrap_or(content),
        from + end + 1,
    ))
}

/// A line as a person types it: words with spaces between, quoted as in Redis.
fn inline(input: &[u8], unquoted: &mut Vec<u8>, words: &mut Vec<Range<usize>>) -> Parse {
    unquoted.clear();
    let Some((content, end)) = line(input, 0) else {
        return if input.len() > INLINE_BYTES_MAX {
            Parse::Bad("Protocol error: too big inline request")
        } else {
            Parse::NeedMore(input.len() + 1)
        };
    };
    if content.len() > INLINE_BYTES_MAX {
        return Parse::Bad("Protocol error: too big inline request");
    }
    let mut rest = content.trim_ascii_start();
    while !rest.is_empty() {
        let from = unquoted.len();
        match word(rest, unquoted) {
            Some(after) => rest = after.trim_ascii_start(),
            None => return Parse::Bad("Protocol error: unbalanced quotes in request"),
        }
        words.push(from..unquoted.len());
    }
    Parse::Done(end)
}

/// Appends one word without its quotes; returns what is behind it, nothing where quotes are not balanced.
fn word<'a>(mut rest: &'a [u8], unquoted: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [space, ..] if space.is_ascii_whitespace() => return Some(rest),
            [quote @ (b'"' | b'\''), after @ ..] => {
                rest = if *quote == b'"' {
                    double_quoted(after, unquoted)?
                } else {
                    single_quoted(after, unquoted)?
                };
                // A closing quote is followed by a space or by nothing.
                return rest
                    .first()
                    .is_none_or(u8::is_ascii_whitespace)
                    .then_some(rest);
            }
            [byte, after @ ..] => {
                unquoted.push(*byte);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], unquoted: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [b'\'', after @ ..] => return Some(after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        unquoted.push(byte);
        rest = after;
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], unquoted: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                };
                (byte, after)
            }
            [b'"', after @ ..] => return Some(after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        unquoted.push(byte);
        rest = after;
    }
}

/// The value of a digit that was checked.
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
