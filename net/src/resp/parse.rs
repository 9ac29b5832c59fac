//! RESP requests: arrays of bulk strings, and the inline commands that people type.
//!
//! Total on foreign bytes; allocates nothing from a declared length. A command that is not whole says how many bytes it
//! needs at least, so that a long one is not read again for every piece that arrives.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

/// Elements of one command.
const ELEMENTS_MAX: usize = 1 << 20;
/// The least bytes of an element: `$0\r\n\r\n`.
const ELEMENT_BYTES_MIN: usize = 6;
/// An inline command's greatest length.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parse {
    /// A command of so many bytes; its arguments are in the caller's list (none: an empty line).
    Done(usize),
    /// The beginning of one that has at least so many bytes.
    NeedMore(usize),
    /// No command; the connection cannot go on. The text is Redis' own.
    Bad(&'static str),
}

/// A line's content and the position behind its end.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    // Lengths are short: a plain loop beats a search.
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let content = rest.get(..end)?;
    Some((
        content.strip_suffix(b"\r").unwrap_or(content),
        from + end + 1,
    ))
}

/// A decimal number, as Redis takes it for a length.
fn number(digits: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match digits.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        value = value * 10 + i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    Some(if is_negative { -value } else { value })
}

/// Reads one command; `arguments` receives the ranges of its arguments in `bytes`.
pub fn parse(bytes: &[u8], bulk_bytes_max: usize, arguments: &mut Vec<Range<usize>>) -> Parse {
    arguments.clear();
    match bytes.first() {
        None => Parse::NeedMore(1),
        Some(b'*') => array(bytes, bulk_bytes_max, arguments),
        Some(_) => inline(bytes, arguments),
    }
}

fn array(bytes: &[u8], bulk_bytes_max: usize, arguments: &mut Vec<Range<usize>>) -> Parse {
    let Some((count, mut at)) = line(bytes, 1) else {
        return if bytes.len() > 32 {
            Parse::Bad("Protocol error: too big mbulk count string")
        } else {
            Parse::NeedMore(bytes.len() + 1)
        };
    };
    let count = match number(count) {
        Some(count) if count <= 0 => return Parse::Done(at),
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        None => return Parse::Bad("Protocol error: invalid multibulk length"),
    };
    if count > ELEMENTS_MAX {
        return Parse::Bad("Protocol error: invalid multibulk length");
    }
    for index in 0..count {
        let rest_min = (count - index).saturating_mul(ELEMENT_BYTES_MIN);
        match bytes.get(at) {
            None => return Parse::NeedMore(at + rest_min),
            Some(b'$') => {}
            Some(_) => return Parse::Bad("Protocol error: expected '$'"),
        }
        let Some((length, from)) = line(bytes, at + 1) else {
            return if bytes.len() - at > 32 {
                Parse::Bad("Protocol error: too big bulk count string")
            } else {
                Parse::NeedMore((at + rest_min).max(bytes.len() + 1))
            };
        };
        let length = match number(length).map(usize::try_from) {
            Some(Ok(length)) if length <= bulk_bytes_max => length,
            _ => return Parse::Bad("Protocol error: invalid bulk length"),
        };
        let end = from + length;
        let next = end + 2;
        if bytes.len() < next {
            return Parse::NeedMore(next + rest_min - ELEMENT_BYTES_MIN);
        }
        if bytes.get(end..next) != Some(b"\r\n") {
            return Parse::Bad("Protocol error: a bulk string does not end with CRLF");
        }
        arguments.push(from..end);
        at = next;
    }
    Parse::Done(at)
}

fn inline(bytes: &[u8], arguments: &mut Vec<Range<usize>>) -> Parse {
    let Some((content, end)) = line(bytes, 0) else {
        return if bytes.len() > INLINE_BYTES_MAX {
            Parse::Bad("Protocol error: too big inline request")
        } else {
            Parse::NeedMore(bytes.len() + 1)
        };
    };
    let mut from = None;
    for (at, byte) in content.iter().enumerate() {
        match (byte.is_ascii_whitespace(), from) {
            (true, Some(start)) => {
                arguments.push(start..at);
                from = None;
            }
            (false, None) => from = Some(at),
            _ => {}
        }
    }
    if let Some(start) = from {
        arguments.push(start..content.len());
    }
    Parse::Done(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn commands(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, bool) {
        let (mut at, mut found, mut arguments) = (0, Vec::new(), Vec::new());
        loop {
            match parse(&bytes[at..], 1 << 20, &mut arguments) {
                Parse::Done(taken) => {
                    found.push(
                        arguments
                            .iter()
                            .map(|range| bytes[at..][range.clone()].to_vec())
                            .collect(),
                    );
                    at += taken;
                }
                Parse::NeedMore(_) => return (found, true),
                Parse::Bad(_) => return (found, false),
            }
        }
    }

    #[test]
    fn what_redis_clients_send_is_understood() {
        let (found, is_good) =
            commands(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*0\r\n  SET a  b \n\r\n");
        assert!(is_good);
        let words: Vec<Vec<&[u8]>> = found
            .iter()
            .map(|c| c.iter().map(Vec::as_slice).collect())
            .collect();
        assert_eq!(
            words,
            [
                vec![&b"GET"[..], b"k"],
                vec![b"PING"],
                vec![],
                vec![b"SET", b"a", b"b"],
                vec![]
            ]
        );
    }

    #[test]
    fn huge_lengths_are_refused_before_anything_is_kept() {
        for bad in [
            &b"*2000000\r\n"[..],
            b"*1\r\n$2000000000\r\n",
            b"*1\r\n$-5\r\n",
            b"*x\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$1\r\nabc",
        ] {
            assert!(!commands(bad).1, "{}", bad.escape_ascii());
        }
        let mut arguments = Vec::new();
        assert_eq!(
            parse(b"*1000000\r\n", 1 << 20, &mut arguments),
            Parse::NeedMore(10 + 6_000_000)
        );
        assert!(arguments.capacity() < 100);
    }

    proptest! {
        #[test]
        fn any_cut_of_the_bytes_gives_the_same_commands(
            words in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 1..5),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            for command in &words {
                bytes.extend(format!("*{}\r\n", command.len()).into_bytes());
                for word in command {
                    bytes.extend(format!("${}\r\n", word.len()).into_bytes());
                    bytes.extend(word);
                    bytes.extend(b"\r\n");
                }
            }
            let cut = cut.index(bytes.len());
            let (before, is_good) = commands(&bytes[..cut]);
            prop_assert!(is_good);
            prop_assert_eq!(&before[..], &words[..before.len()]);
            let mut arguments = Vec::new();
            let start = bytes[..cut].len();
            if let Parse::NeedMore(need) = parse(&bytes[..cut], 1 << 20, &mut arguments) {
                prop_assert!(need > start && need <= bytes.len(), "{} of {}", need, bytes.len());
            }
            prop_assert_eq!(commands(&bytes).0, words);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            commands(&bytes);
        }
    }
}
