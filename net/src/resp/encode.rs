//! RESP answers, version 2 and 3.

/// Which version a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Version {
    /// RESP2, until `HELLO 3`.
    #[default]
    Two,
    /// RESP3.
    Three,
}

/// Appends `+text`.
pub(super) fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends `-text`; line breaks in it become spaces.
pub(super) fn error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    out.extend(text.bytes().map(|byte| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            byte
        }
    }));
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an integer.
pub(super) fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    if value < 0 {
        out.push(b'-');
    }
    decimal(out, value.unsigned_abs());
    out.extend_from_slice(b"\r\n");
}

fn head(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    decimal(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends a bulk string.
pub(super) fn bulk(out: &mut Vec<u8>, value: &[u8]) {
    head(out, b'$', value.len());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the absence of a value.
pub(super) fn null(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Two => b"$-1\r\n",
        Version::Three => b"_\r\n",
    });
}

/// Appends the absence of an array.
pub(super) fn null_array(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Two => b"*-1\r\n",
        Version::Three => b"_\r\n",
    });
}

/// Appends the head of an array.
pub(super) fn array(out: &mut Vec<u8>, length: usize) {
    head(out, b'*', length);
}

/// Appends the head of a map of so many pairs: in version 2 an array of twice as many.
pub(super) fn map(out: &mut Vec<u8>, pairs: usize, version: Version) {
    match version {
        Version::Two => head(out, b'*', 2 * pairs),
        Version::Three => head(out, b'%', pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_as_redis_writes_them() {
        let mut out = Vec::new();
        simple(&mut out, "OK");
        error(&mut out, "ERR a\nb");
        integer(&mut out, -12);
        integer(&mut out, i64::MIN);
        bulk(&mut out, b"ab");
        null(&mut out, Version::Two);
        null(&mut out, Version::Three);
        map(&mut out, 1, Version::Two);
        map(&mut out, 1, Version::Three);
        let expected = "+OK\r\n-ERR a b\r\n:-12\r\n:-9223372036854775808\r\n$2\r\nab\r\n$-1\r\n_\r\n*2\r\n%1\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
