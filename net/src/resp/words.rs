//! A command's words: counts, numbers, times, patterns, with Redis' own error texts.

use std::ops::Range;

/// An error's text, without its dash.
pub(super) type Refusal = String;

/// Redis' complaint about options.
pub(super) fn syntax() -> Refusal {
    "ERR syntax error".to_owned()
}

/// A command's name and the words behind it.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Words<'a> {
    /// The first range is the name's.
    pub(super) const fn new(bytes: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { bytes, ranges }
    }

    pub(super) fn name(&self) -> &'a [u8] {
        self.word(0)
    }

    /// How many are behind the name.
    pub(super) const fn len(&self) -> usize {
        self.ranges.len().saturating_sub(1)
    }

    /// One of those behind the name; nothing where there is none.
    pub(super) fn get(&self, at: usize) -> &'a [u8] {
        self.word(at + 1)
    }

    /// One of them in upper case, where it is short enough to be an option.
    pub(super) fn upper(&self, at: usize) -> Vec<u8> {
        let word = self.get(at);
        if word.len() > 32 {
            Vec::new()
        } else {
            word.to_ascii_uppercase()
        }
    }

    /// Redis' complaint about their number.
    pub(super) fn wrong_number(&self) -> Refusal {
        let name = String::from_utf8_lossy(self.name()).to_lowercase();
        format!("ERR wrong number of arguments for '{name}' command")
    }

    /// Redis' complaint about the first of them.
    pub(super) fn unknown_subcommand(&self, command: &str) -> Refusal {
        let word = self.get(0);
        let word = String::from_utf8_lossy(word.get(..128).unwrap_or(word));
        format!("ERR unknown subcommand '{word}'. Try {command} HELP.")
    }

    fn word(&self, at: usize) -> &'a [u8] {
        self.ranges
            .get(at)
            .and_then(|range| self.bytes.get(range.clone()))
            .unwrap_or_default()
    }
}

/// A signed number, as Redis takes it.
pub(super) fn integer_of(word: &[u8]) -> Result<i64, Refusal> {
    let number = std::str::from_utf8(word)
        .ok()
        .filter(|text| !text.starts_with('+'))
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| "ERR value is not an integer or out of range".to_owned())
}

/// A number that is not negative.
pub(super) fn unsigned_of(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word)
        .ok()
        .filter(|text| !text.starts_with('+'))?
        .parse()
        .ok()
}

/// The instant that `EX`, `PX`, `EXAT` or `PXAT` and its number name, in milliseconds since the Unix epoch.
pub(super) fn instant_of(
    option: &[u8],
    word: &[u8],
    now_ms: u64,
    command: &str,
) -> Result<u64, Refusal> {
    let invalid = || format!("ERR invalid expire time in '{command}' command");
    let amount = integer_of(word)?;
    let amount = u64::try_from(amount)
        .ok()
        .filter(|amount| *amount > 0)
        .ok_or_else(invalid)?;
    let ms = if option.starts_with(b"E") {
        amount.checked_mul(1000)
    } else {
        Some(amount)
    };
    let at = if option.ends_with(b"AT") {
        ms
    } else {
        ms.and_then(|ms| ms.checked_add(now_ms))
    };
    at.filter(|at| i64::try_from(*at).is_ok())
        .ok_or_else(invalid)
}

/// Redis' glob: `*`, `?`, `[abc]`, `[^a-z]`, `\x`.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much it has taken: going back there suffices.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        match one(pattern, p, text[t]) {
            Some(next) => {
                p = next;
                t += 1;
            }
            None => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (p, t) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Where the pattern goes on behind what matches one byte; none where it does not match.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        b'[' => {
            let mut next = at + 1;
            let is_inverted = pattern.get(next) == Some(&b'^');
            next += usize::from(is_inverted);
            let mut is_in = false;
            loop {
                match pattern.get(next) {
                    None | Some(b']') => break,
                    Some(b'\\') if next + 1 < pattern.len() => {
                        is_in |= pattern[next + 1] == byte;
                        next += 2;
                    }
                    Some(first)
                        if pattern.get(next + 1) == Some(&b'-') && next + 2 < pattern.len() =>
                    {
                        let (low, high) = (
                            (*first).min(pattern[next + 2]),
                            (*first).max(pattern[next + 2]),
                        );
                        is_in |= (low..=high).contains(&byte);
                        next += 3;
                    }
                    Some(single) => {
                        is_in |= *single == byte;
                        next += 1;
                    }
                }
            }
            (is_in != is_inverted).then_some((next + 1).min(pattern.len()))
        }
        literal => (literal == byte).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*", "xxaxxbxx", true),
            ("user:*:name", "user:1:name", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn times_are_instants_and_nonsense_is_refused() {
        assert_eq!(instant_of(b"EX", b"10", 5, "set"), Ok(10_005));
        assert_eq!(instant_of(b"PXAT", b"10", 5, "set"), Ok(10));
        for bad in [&b"0"[..], b"-1", b"9223372036854775807", b"x", b""] {
            assert!(
                instant_of(b"EX", bad, 5, "set").is_err(),
                "{}",
                bad.escape_ascii()
            );
        }
    }
}
