//! Until when a certificate counts, so that somebody hears of it before it does not: rustls checks that, and tells nobody.
//!
//! ```text
//! Certificate { TBS { [version] serial algorithm issuer validity { notBefore notAfter } … } … }      in DER
//! ```
//! Never decides anything: what cannot be read here is left unsaid.

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The second, since 1970, at which a certificate ends.
pub(super) fn ends_s(certificate: &[u8]) -> Option<u64> {
    let mut certificate = Der(certificate).enter(SEQUENCE)?;
    let mut tbs = certificate.enter(SEQUENCE)?;
    if tbs.0.first() == Some(&VERSION) {
        tbs.enter(VERSION)?;
    }
    tbs.enter(INTEGER)?;
    tbs.enter(SEQUENCE)?;
    tbs.enter(SEQUENCE)?;
    let mut validity = tbs.enter(SEQUENCE)?;
    validity.next()?;
    let (tag, time) = validity.next()?;
    seconds(tag, time)
}

/// Elements that follow each other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                let fold = |length, byte: &u8| (length << 8) | usize::from(*byte);
                (bytes.iter().fold(0, fold), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// What is in the next element, which has this tag.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| Self(content))
    }
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, as certificates have them.
fn seconds(tag: u8, time: &[u8]) -> Option<u64> {
    let digits = time.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| {
        let fold = |number, digit: &u8| number * 10 + u64::from(digit - b'0');
        digits.iter().fold(0, fold)
    };
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year = number(year);
            // RFC 5280: from 1950 to 2049.
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year), rest)
        }
        _ => return None,
    };
    let mut pairs = rest.chunks_exact(2).map(number);
    let mut pair = || pairs.next();
    let (month, day, hours, minutes, seconds) = (pair()?, pair()?, pair()?, pair()?, pair()?);
    let is_date =
        (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date {
        return None;
    }
    // Years that begin in March: the day that some have more is then their last.
    let year = year - u64::from(month < 3);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    const DAYS_TO_1970: u64 = 719_468;
    let days = days.checked_sub(DAYS_TO_1970)?;
    Some(days * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, time, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229235959Z", Some(951_868_799)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "691231235959Z", None),
            (UTC_TIME, "20500101000000Z", None),
            (GENERALIZED_TIME, "20501301000000Z", None),
            (GENERALIZED_TIME, "2050010100000xZ", None),
            (UTC_TIME, "7001010000Z", None),
        ] {
            assert_eq!(seconds(tag, time.as_bytes()), expected, "{time}");
        }
    }

    #[test]
    fn a_certificate_says_when_it_ends_and_pieces_of_one_say_nothing() {
        let key = KeyPair::generate().expect("a key");
        for (year, ends) in [(2031, 1_924_992_000), (2061, 2_871_763_200)] {
            let mut params = CertificateParams::new(vec!["x".into()]).expect("a name");
            params.not_after = date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&key).expect("signed");
            let der = certificate.der();
            assert_eq!(ends_s(der), Some(ends));
            for end in 0..der.len() {
                assert_eq!(ends_s(&der[..end]), None);
            }
            for at in 0..der.len() {
                let mut changed = der.to_vec();
                changed[at] ^= 0x80;
                // Whatever it says, it says something or nothing.
                let _ = ends_s(&changed);
            }
        }
    }
}
