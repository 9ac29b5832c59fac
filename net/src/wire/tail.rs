//! A frame's archive through the checked access, and what follows it, part by part.

use rkyv::Portable;
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;

use super::FrameError;

/// A kind of frame, which its errors name.
pub(super) trait BodyKind: Copy {
    /// The error of a body of this kind that is wrong so.
    fn bad(self, what: &'static str) -> FrameError;
}

/// The checked access.
pub(super) fn archive<A, K: BodyKind>(kind: K, body: &[u8]) -> Result<&A, FrameError>
where
    A: Portable + for<'a> CheckBytes<HighValidator<'a, Error>>,
{
    rkyv::access::<A, Error>(body).map_err(|_| kind.bad("is not an archive"))
}

/// What follows the archive.
pub(super) struct Tail<'a, K> {
    kind: K,
    bytes: &'a [u8],
}

impl<'a, K: BodyKind> Tail<'a, K> {
    pub(super) const fn new(kind: K, bytes: &'a [u8]) -> Self {
        Self { kind, bytes }
    }

    /// The error of a body that is wrong so.
    pub(super) fn bad(&self, what: &'static str) -> FrameError {
        self.kind.bad(what)
    }

    /// The next part.
    pub(super) fn take(&mut self, bytes: u32) -> Result<&'a [u8], FrameError> {
        let (part, rest) = self
            .bytes
            .split_at_checked(bytes as usize)
            .ok_or(self.bad("is cut off"))?;
        self.bytes = rest;
        Ok(part)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// How much is left.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }
}
