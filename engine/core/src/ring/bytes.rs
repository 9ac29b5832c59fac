//! The ring's own small encoding: little-endian integers, strings and records with their length before them.
//!
//! A record says how long it is, so a reader skips trailing fields that a later version added. A [`Reader`] never
//! panics and never reserves more than the bytes before it could hold: what arrives comes from a peer or a disk.
//!
//! What is handed on grows in records only, and who does not understand all of a record hands it on as it came (members,
//! buckets): else two newer nodes with an older one between them would each hold a part to be the whole, under one stamp.
//! What is new about the ring as a whole goes to the end of a part or of a word, where older nodes do not see it, and into
//! no hash that they compare. Layouts, bitmaps and digests have no room within their format: a change of them is another.

use core::fmt;

/// Bytes that are not what they should be. State: nothing was taken from them. Operator: a peer of another version, or
/// a damaged file; the ring itself is unharmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingBytesError {
    /// They end before what they announce.
    Truncated,
    /// The first bytes name another kind or a format that this version does not know.
    Kind {
        /// What was found there.
        found: u32,
    },
    /// A field has a value that it cannot have.
    Field {
        /// Its name.
        name: &'static str,
    },
    /// More entries or bytes than any cluster has.
    TooMany {
        /// Of what.
        name: &'static str,
    },
    /// The checksum does not match.
    Checksum,
}

impl fmt::Display for RingBytesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("ring bytes end too early"),
            Self::Kind { found } => write!(f, "unknown kind of ring bytes {found:#010x}"),
            Self::Field { name } => write!(f, "impossible value of `{name}` in ring bytes"),
            Self::TooMany { name } => write!(f, "too many of `{name}` in ring bytes"),
            Self::Checksum => f.write_str("ring bytes do not match their checksum"),
        }
    }
}

impl core::error::Error for RingBytesError {}

/// Appends fields to a buffer.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Bytes of one kind begin with its four-byte tag; see [`Self::seal`].
    pub(crate) fn of_kind(kind: u32) -> Self {
        let mut writer = Self::default();
        writer.u32(kind);
        writer
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A count; tables of the ring never reach 2^32 entries, a greater one could not be read back.
    pub(crate) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// A string of at most 65,535 bytes; a longer one is cut at a character.
    pub(crate) fn string(&mut self, value: &str) {
        let kept = value.floor_char_boundary(usize::from(u16::MAX));
        self.u16(u16::try_from(kept).unwrap_or(u16::MAX));
        self.out.extend_from_slice(&value.as_bytes()[..kept]);
    }

    /// Bytes, with their length before them.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.out.extend_from_slice(value);
    }

    /// Bytes as they are, at the end of a record.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// What `fill` writes, with its length before it.
    pub(crate) fn record(&mut self, fill: impl FnOnce(&mut Self)) {
        let length_at = self.out.len();
        self.u32(0);
        fill(self);
        let length = u32::try_from(self.out.len() - length_at - 4).unwrap_or(u32::MAX);
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The bytes without a checksum: a part of something that has one.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// The bytes, with a checksum over all of them at the end.
    pub(crate) fn seal(mut self) -> Vec<u8> {
        let checksum = crc32c::crc32c(&self.out);
        self.u32(checksum);
        self.out
    }
}

/// Takes fields from the front of foreign bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads bytes that lie within something with a checksum.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many are left.
    pub(crate) fn rest(&self) -> usize {
        self.rest.len()
    }

    /// Verifies the checksum at the end and the kind at the front.
    pub(crate) fn open(bytes: &'a [u8], kind: u32) -> Result<Self, RingBytesError> {
        let (body, checksum) = bytes
            .split_last_chunk::<4>()
            .ok_or(RingBytesError::Truncated)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(RingBytesError::Checksum);
        }
        let mut reader = Self { rest: body };
        let found = reader.u32()?;
        if found != kind {
            return Err(RingBytesError::Kind { found });
        }
        Ok(reader)
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], RingBytesError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(RingBytesError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RingBytesError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(RingBytesError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RingBytesError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RingBytesError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RingBytesError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RingBytesError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of entries, at most `count_max`, each of at least `entry_bytes_min`: so that it can be reserved.
    pub(crate) fn count(
        &mut self,
        name: &'static str,
        count_max: usize,
        entry_bytes_min: usize,
    ) -> Result<usize, RingBytesError> {
        let count = self.u32()? as usize;
        if count > count_max {
            return Err(RingBytesError::TooMany { name });
        }
        if count.saturating_mul(entry_bytes_min) > self.rest.len() {
            return Err(RingBytesError::Truncated);
        }
        Ok(count)
    }

    pub(crate) fn string(
        &mut self,
        name: &'static str,
        bytes_max: usize,
    ) -> Result<String, RingBytesError> {
        let length = usize::from(self.u16()?);
        if length > bytes_max {
            return Err(RingBytesError::TooMany { name });
        }
        let text =
            core::str::from_utf8(self.take(length)?).map_err(|_| RingBytesError::Field { name })?;
        Ok(text.to_owned())
    }

    /// All that is left.
    pub(crate) fn all(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// What [`Writer::bytes`] wrote.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RingBytesError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// One record; what its reader leaves of it is a later version's and skipped.
    pub(crate) fn record(&mut self) -> Result<Reader<'a>, RingBytesError> {
        let length = self.u32()? as usize;
        Ok(Reader {
            rest: self.take(length)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_skips_the_fields_that_a_later_version_added() {
        let mut writer = Writer::of_kind(7);
        writer.record(|record| {
            record.u16(3);
            record.string("new in a later version");
        });
        writer.u8(9);
        let bytes = writer.seal();
        let mut reader = Reader::open(&bytes, 7).expect("opens");
        assert_eq!(reader.record().expect("a record").u16(), Ok(3));
        assert_eq!(reader.u8(), Ok(9));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let mut writer = Writer::of_kind(7);
        writer.u64(1 << 40);
        let bytes = writer.seal();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Reader::open(&damaged, 7).is_err(), "bit {bit}");
        }
        assert!(Reader::open(&bytes[..3], 7).is_err());
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_before_anything_is_reserved() {
        let mut writer = Writer::default();
        writer.u32(1_000_000);
        let bytes = writer.finish();
        let mut reader = Reader { rest: &bytes };
        assert_eq!(
            reader.count("members", 2_000_000, 8),
            Err(RingBytesError::Truncated)
        );
    }
}
