//! What a caller of the embedded handle gets: values with their context, receipts, and errors.

use core::fmt;

use gramme_core::port::{Failure, Outcome, Receipt, listed};
use gramme_core::version::{ObjectError, ObjectView};

/// What a reader has seen of a key, as opaque bytes; pass it with the next write of that key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Context(Box<[u8]>);

impl Context {
    /// From bytes that [`as_bytes`](Self::as_bytes) gave, here or in another process. Bytes that gramme did not make
    /// are refused by the write that uses them (`BadContext`).
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes, at most 2 KiB.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} bytes)", self.0.len())
    }
}

/// A key's values.
#[derive(Clone, Debug)]
pub struct Found {
    /// The concurrent values, the latest first; one, unless writers did not see each other.
    pub values: Vec<Vec<u8>>,
    /// What the reader has seen.
    pub context: Context,
    /// Who took part.
    pub receipt: Receipt,
}

impl Found {
    /// The latest value.
    pub fn latest(&self) -> &[u8] {
        self.values.first().map_or(&[], Vec::as_slice)
    }

    fn parse(
        object: &[u8],
        key_hash: u64,
        receipt: Receipt,
        wall_ms: u64,
    ) -> Result<Option<Self>, Error> {
        let view = ObjectView::parse(object).map_err(Error::Malformed)?;
        let mut live: Vec<_> = view
            .live(wall_ms)
            .filter_map(|sibling| Some((sibling.dot.rank(), sibling.live_value(wall_ms)?)))
            .collect();
        if live.is_empty() {
            // It expired on the way.
            return Ok(None);
        }
        live.sort_by_key(|(rank, _)| core::cmp::Reverse(*rank));
        let mut context = Vec::new();
        view.encode_client_context(key_hash, &mut context);
        Ok(Some(Self {
            values: live.into_iter().map(|(_, value)| value.to_vec()).collect(),
            context: Context(context.into()),
            receipt,
        }))
    }
}

/// A write that is done.
#[derive(Clone, Debug)]
pub struct Written {
    /// What the writer goes on with: what its own context covered, and its write.
    pub context: Option<Context>,
    /// Who took part, and how many of them had it on stable media.
    pub receipt: Receipt,
}

/// Why a request failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The shard refused it, or could not finish it; the failure says what happened and what to do.
    Failed(Failure),
    /// The write did not see what is there. Not applied. Read it (or take it from here), merge, and write again.
    Stale(Box<Found>),
    /// The engine has stopped, or stopped meanwhile. A write is in doubt unless `is_in_doubt` says otherwise.
    Stopped {
        /// Whether the request may have been applied.
        in_doubt: bool,
    },
    /// The shard answered with an object that does not parse; the key is unknown, not absent. Report it: it is a bug.
    Malformed(ObjectError),
    /// The shard answered something that this request cannot have. Report it: it is a bug.
    Unexpected,
    /// `update` found other writers each of its tries. Not applied. Try again when there is less contention.
    Contended {
        /// How often it tried.
        tries: u32,
    },
}

impl Error {
    /// Whether the request may have been applied, or may yet be: retry a write with its write id, or read the key.
    /// Otherwise certainly nothing happened.
    pub const fn is_in_doubt(&self) -> bool {
        match self {
            Self::Failed(failure) => matches!(failure, Failure::InDoubt),
            Self::Stopped { in_doubt } => *in_doubt,
            Self::Stale(_) | Self::Malformed(_) | Self::Unexpected | Self::Contended { .. } => {
                false
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Stale(_) => write!(
                f,
                "the key has values that this write did not see; read it, merge, and write again"
            ),
            Self::Stopped { in_doubt: true } => write!(
                f,
                "the engine stopped before it answered; the write may have happened; read the key after opening again"
            ),
            Self::Stopped { in_doubt: false } => {
                write!(f, "the engine has stopped; nothing happened; open it again")
            }
            Self::Malformed(error) => write!(
                f,
                "the stored object does not parse: {error}; the key is unknown, not absent; report this"
            ),
            Self::Unexpected => write!(
                f,
                "the shard's answer does not fit the request; report this"
            ),
            Self::Contended { tries } => write!(
                f,
                "other writers came first {tries} times; nothing was written; try again later"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// The answer to a get.
pub(crate) fn found(outcome: &Outcome, bytes: &[u8], wall_ms: u64) -> Result<Option<Found>, Error> {
    match *outcome {
        Outcome::Object {
            object,
            key_hash,
            receipt,
        } => Found::parse(object.of(bytes), key_hash, receipt, wall_ms),
        Outcome::Absent { .. } => Ok(None),
        Outcome::Failed(failure) => Err(failed(failure, bytes, wall_ms)),
        _ => Err(Error::Unexpected),
    }
}

/// The encoded object of an answer to a get, in place.
pub(crate) fn object<'a>(
    outcome: &Outcome,
    bytes: &'a [u8],
    wall_ms: u64,
) -> Result<Option<&'a [u8]>, Error> {
    match *outcome {
        Outcome::Object { object, .. } => Ok(Some(object.of(bytes))),
        Outcome::Absent { .. } => Ok(None),
        Outcome::Failed(failure) => Err(failed(failure, bytes, wall_ms)),
        _ => Err(Error::Unexpected),
    }
}

/// The keys of an answer to a scan, and where to go on.
pub(crate) fn keys(
    outcome: &Outcome,
    bytes: &[u8],
    wall_ms: u64,
) -> Result<(u64, Vec<Vec<u8>>), Error> {
    match *outcome {
        Outcome::Keys { next_cursor, keys } => {
            let list = listed(keys.of(bytes)).map(|key| key.map(<[u8]>::to_vec));
            let list: Option<Vec<Vec<u8>>> = list.collect();
            Ok((next_cursor, list.ok_or(Error::Unexpected)?))
        }
        Outcome::Failed(failure) => Err(failed(failure, bytes, wall_ms)),
        _ => Err(Error::Unexpected),
    }
}

/// The answer to an operator's command.
pub(crate) fn report(outcome: &Outcome, bytes: &[u8], wall_ms: u64) -> Result<Vec<u8>, Error> {
    match *outcome {
        Outcome::Cluster(report) => Ok(report.of(bytes).to_vec()),
        Outcome::Failed(failure) => Err(failed(failure, bytes, wall_ms)),
        _ => Err(Error::Unexpected),
    }
}

/// The answer to a put or a delete.
pub(crate) fn written(outcome: &Outcome, bytes: &[u8], wall_ms: u64) -> Result<Written, Error> {
    match *outcome {
        Outcome::Written {
            context, receipt, ..
        } => Ok(Written {
            context: context.map(|context| Context(context.of(bytes).into())),
            receipt,
        }),
        Outcome::Failed(failure) => Err(failed(failure, bytes, wall_ms)),
        _ => Err(Error::Unexpected),
    }
}

/// The latest value of an answer to a get, in place.
pub(crate) fn latest<'a>(
    outcome: &Outcome,
    bytes: &'a [u8],
    wall_ms: u64,
) -> Result<Option<&'a [u8]>, Error> {
    match *outcome {
        Outcome::Object { object, .. } => {
            let view = ObjectView::parse(object.of(bytes)).map_err(Error::Malformed)?;
            let latest = view
                .live(wall_ms)
                .max_by_key(|sibling| sibling.dot.rank())
                .and_then(|sibling| sibling.live_value(wall_ms));
            Ok(latest)
        }
        Outcome::Absent { .. } => Ok(None),
        Outcome::Failed(failure) => Err(failed(failure, bytes, wall_ms)),
        _ => Err(Error::Unexpected),
    }
}

fn failed(failure: Failure, bytes: &[u8], wall_ms: u64) -> Error {
    match failure {
        Failure::Stale { current } => {
            // The tag is not needed: the context of what is there serves a merge whatever the key's hash.
            match Found::parse(current.of(bytes), 0, Receipt::default(), wall_ms) {
                Ok(Some(found)) => Error::Stale(Box::new(found)),
                Ok(None) | Err(_) => Error::Failed(failure),
            }
        }
        Failure::Stopping => Error::Stopped { in_doubt: false },
        _ => Error::Failed(failure),
    }
}
