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

    /// The error of a body that says what this version does not know.
    fn newer(self, what: &'static str) -> FrameError;
}

/// A flat body, which grows at its end.
pub(super) trait Body:
    Portable + Copy + for<'a> CheckBytes<HighValidator<'a, Error>>
{
    /// How long it was in the first release that had it: what is shorter was never sent.
    const BYTES_MIN: usize;
}

/// No body that grows is longer than this.
pub(super) const BODY_BYTES_MAX: usize = 256;

/// A body: what is longer than is known here is read as far as it is known, what is shorter has zeroes for the rest.
pub(super) fn body<A: Body, K: BodyKind>(kind: K, bytes: &[u8]) -> Result<A, FrameError> {
    let known = size_of::<A>();
    if let Some(bytes) = bytes.get(..known) {
        return archive::<A, K>(kind, bytes).copied();
    }
    if bytes.len() < A::BYTES_MIN {
        return Err(kind.bad("is shorter than it ever was"));
    }
    let mut whole = [0; BODY_BYTES_MAX];
    whole[..bytes.len()].copy_from_slice(bytes);
    archive::<A, K>(kind, &whole[..known]).copied()
}

/// Says how long bodies were when they were first sent.
macro_rules! bodies {
    ($($body:ident: $bytes_min:literal),* $(,)?) => {
        $(
            impl $crate::wire::tail::Body for $body {
                const BYTES_MIN: usize = {
                    assert!(size_of::<Self>() >= $bytes_min, "a body never shrinks");
                    assert!(size_of::<Self>() <= $crate::wire::tail::BODY_BYTES_MAX);
                    $bytes_min
                };
            }
        )*
    };
}
pub(super) use bodies;

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

    /// The error of a body that says what this version does not know.
    pub(super) fn newer(&self, what: &'static str) -> FrameError {
        self.kind.newer(what)
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
