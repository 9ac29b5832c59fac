//! The 24 bytes before every frame.
//!
//! ```text
//! offset  bytes  little-endian
//!      0      4  length of the whole frame, header included
//!      4      1  kind
//!      5      1  protocol version that the frame is read by
//!      6      1  flags: CHECKSUM; 0xc0 must be understood, others that are unknown are ignored
//!      7      1  check of the other fields of the header, the checksum left out; 0 without CHECKSUM
//!      8      8  request id, chosen by whoever asks, repeated in the answer
//!     16      4  crc32c of the frame with this field as zero; 0 without CHECKSUM
//!     20      4  length of the archived body; what follows it is the tail (keys, values, objects, raw)
//!     24         body, tail
//! ```
//! Owns the layout. Invariants: a header that was read has a version that is spoken here, and lengths that fit each other
//! and the limit.
//!
//! Why a check of its own: the checksum is known to hold only when the whole frame is there. A length that changed on the
//! way would first make the reader take what follows for the rest of this frame, for as long as it takes to come. The
//! check is one byte, all that there is room for: it finds every change of one bit, and of others all but one in 256.
//!
//! Why the tail is outside the archive: objects and values are copied once into the send buffer and read in place from
//! the receive buffer, whatever the archive's own rules for slices are; and an archive of plain integers has nothing
//! that a hostile peer could point elsewhere.

use gramme_core::base::limits::{
    BUCKET_BYTES_MAX, CONTEXT_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};

use super::FrameError;
use super::version::{MUST_UNDERSTAND, Versions};

/// The header's length.
pub const HEADER_BYTES: usize = 24;

/// The flag of a frame that carries a checksum.
pub const FLAG_CHECKSUM: u8 = 0x01;

/// Frames are refused beyond this length: the largest object with some siblings, and everything around it. A key with
/// more siblings than fit is answered with an error.
pub const FRAME_BYTES_MAX: usize = 4 * VALUE_BYTES_MAX;

const _: () = assert!(
    FRAME_BYTES_MAX
        > HEADER_BYTES
            + 4096
            + BUCKET_BYTES_MAX
            + KEY_BYTES_MAX
            + CONTEXT_BYTES_MAX
            + VALUE_BYTES_MAX,
    "the largest put fits into a frame"
);

/// Where the version lies.
const VERSION_OFFSET: usize = 5;

/// Where the flags lie.
const FLAGS_OFFSET: usize = 6;

/// Where the header's check lies.
const CHECK_OFFSET: usize = 7;

/// Where the checksum lies.
const CHECKSUM_OFFSET: usize = 16;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first frame of a client.
    Hello = 1,
    /// The routing table.
    Ring = 2,
    /// Reads a key.
    Get = 3,
    /// Writes a value.
    Put = 4,
    /// Writes a tombstone.
    Delete = 5,
    /// The answer to a get, put or delete.
    Answer = 6,
    /// The answer to what failed, or the end of this connection.
    Error = 7,
    /// Asks whether the other side is there.
    Ping = 8,
    /// The answer to a ping.
    Pong = 9,
    /// The first frame of another node, and the answer to it; what follows are the frames of `peer`.
    Peer = 10,
    /// An operator's command.
    Operate = 11,
    /// Its answer.
    Report = 12,
}

impl Kind {
    /// The kind of a byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Ring,
            3 => Self::Get,
            4 => Self::Put,
            5 => Self::Delete,
            6 => Self::Answer,
            7 => Self::Error,
            8 => Self::Ping,
            9 => Self::Pong,
            10 => Self::Peer,
            11 => Self::Operate,
            12 => Self::Report,
            _ => return None,
        })
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The whole frame's length.
    pub frame_bytes: u32,
    /// What it is.
    pub kind: Kind,
    /// Flags that are set.
    pub flags: u8,
    /// Which request it belongs to.
    pub request_id: u64,
    /// The checksum, 0 without the flag.
    pub checksum: u32,
    /// The archived body's length.
    pub body_bytes: u32,
}

impl Header {
    pub(super) fn fields(&self) -> Fields {
        Fields {
            frame_bytes: self.frame_bytes,
            kind: self.kind as u8,
            flags: self.flags,
            id: self.request_id,
            checksum: self.checksum,
            body_bytes: self.body_bytes,
        }
    }

    /// Reads a header from anywhere.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong; the connection cannot go on, since where the next frame begins is unknown.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let fields = Fields::from_bytes(bytes, FRAME_BYTES_MAX)?;
        let kind = Kind::from_byte(fields.kind).ok_or(FrameError::Kind { found: fields.kind })?;
        let header = Self {
            frame_bytes: fields.frame_bytes,
            kind,
            flags: fields.flags,
            request_id: fields.id,
            checksum: fields.checksum,
            body_bytes: fields.body_bytes,
        };
        if header.body_bytes as usize > header.frame_bytes as usize - HEADER_BYTES {
            return Err(FrameError::Body {
                kind,
                what: "is longer than its frame",
            });
        }
        Ok(header)
    }
}

/// The fields of a header, whatever its kind means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) frame_bytes: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) id: u64,
    pub(super) checksum: u32,
    pub(super) body_bytes: u32,
}

impl Fields {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.frame_bytes.to_le_bytes());
        bytes[4] = self.kind;
        bytes[VERSION_OFFSET] = Versions::OWN.min;
        bytes[FLAGS_OFFSET] = self.flags;
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes
    }

    /// Checks what needs no knowledge of kinds: the version, that the header came as it was sent, and that the length is a
    /// possible one.
    pub(super) fn from_bytes(
        bytes: &[u8; HEADER_BYTES],
        frame_bytes_max: usize,
    ) -> Result<Self, FrameError> {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let version = bytes[VERSION_OFFSET];
        if !Versions::OWN.contains(version) {
            return Err(FrameError::Version { found: version });
        }
        let expected = if bytes[FLAGS_OFFSET] & FLAG_CHECKSUM == 0 {
            0
        } else {
            check_of(bytes)
        };
        if bytes[CHECK_OFFSET] != expected {
            return Err(FrameError::HeaderCheck {
                expected,
                found: bytes[CHECK_OFFSET],
            });
        }
        let mut id = [0; 8];
        id.copy_from_slice(&bytes[8..16]);
        let fields = Self {
            frame_bytes: u32_at(0),
            kind: bytes[4],
            flags: bytes[FLAGS_OFFSET],
            id: u64::from_le_bytes(id),
            checksum: u32_at(16),
            body_bytes: u32_at(20),
        };
        let found = fields.frame_bytes as usize;
        if !(HEADER_BYTES..=frame_bytes_max).contains(&found) {
            return Err(FrameError::Length { found });
        }
        Ok(fields)
    }

    /// Whether the frame's bytes are those that were sent, as far as a checksum tells.
    pub(super) fn check_sum(&self, frame: &[u8]) -> Result<(), FrameError> {
        let expected = if self.flags & FLAG_CHECKSUM == 0 {
            0
        } else {
            let before = crc32c::crc32c(&frame[..CHECKSUM_OFFSET]);
            let field = crc32c::crc32c_append(before, &[0; 4]);
            crc32c::crc32c_append(field, &frame[CHECKSUM_OFFSET + 4..])
        };
        if expected == self.checksum {
            return Ok(());
        }
        Err(FrameError::Checksum {
            expected,
            found: self.checksum,
        })
    }

    /// A flag that is not known here and must be.
    pub(super) const fn unknown_flag(&self) -> Option<FrameError> {
        if self.flags & MUST_UNDERSTAND == 0 {
            None
        } else {
            Some(FrameError::Flags { found: self.flags })
        }
    }
}

/// The check of a header's fields, its checksum and the check itself left out.
fn check_of(header: &[u8; HEADER_BYTES]) -> u8 {
    let sum = crc32c::crc32c(&header[..CHECK_OFFSET]);
    let sum = crc32c::crc32c_append(sum, &header[CHECK_OFFSET + 1..CHECKSUM_OFFSET]);
    let sum = crc32c::crc32c_append(sum, &header[CHECKSUM_OFFSET + 4..]);
    sum.to_le_bytes()
        .into_iter()
        .fold(0, |check, byte| check ^ byte)
}

/// Writes the header of a frame that begins at `start` and ends with `out`, its checksum included.
pub(super) fn finish(out: &mut [u8], start: usize, fields: Fields) {
    let frame = &mut out[start..];
    frame[..HEADER_BYTES].copy_from_slice(&fields.to_bytes());
    seal(frame);
}

/// Makes a whole frame's check and checksum those of its bytes, where it says that it has them; for tests that change
/// frames, too.
pub fn seal(frame: &mut [u8]) {
    let Some(header) = frame.first_chunk_mut::<HEADER_BYTES>() else {
        return;
    };
    let is_checked = header[FLAGS_OFFSET] & FLAG_CHECKSUM != 0;
    header[CHECK_OFFSET] = if is_checked { check_of(header) } else { 0 };
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 4].copy_from_slice(&[0; 4]);
    if is_checked {
        let sum = crc32c::crc32c(frame);
        frame[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 4].copy_from_slice(&sum.to_le_bytes());
    }
}
