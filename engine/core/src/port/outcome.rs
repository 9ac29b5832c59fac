//! The answer to a request.

use core::fmt;

use crate::base::ids::SegmentId;
use crate::port::{ByteRange, Held, IoError};

/// Who took part in an answer, and where the time went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// Replicas that took part.
    pub replicas: u8,
    /// In how many zones.
    pub zones: u8,
    /// How many of them had it on stable media when this was answered.
    pub on_stable_media: u8,
    /// How many of them were stand-ins.
    pub stand_ins: u8,
    /// Nanoseconds between the request's arrival at the core and its answer that were spent on the disk.
    pub disk_ns: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The key's encoded object (`version::ObjectView::parse`), which has at least one value that is not expired.
    Object {
        /// Its bytes.
        object: ByteRange,
        /// The hash that a context's fingerprint is made with: the token.
        key_hash: u64,
        /// Who answered.
        receipt: Receipt,
    },
    /// The key has no value.
    Absent {
        /// Who answered.
        receipt: Receipt,
    },
    /// Whether the key has a value.
    Exists(bool),
    /// What the shard itself holds of the key.
    Held(Held<ByteRange>),
    /// The write is done, as durable as asked.
    Written {
        /// The context that the writer goes on with; only where asked for.
        context: Option<ByteRange>,
        /// Whether there was a value before; only told where the previous object was asked for, else true.
        existed: bool,
        /// The object as it was, where asked for and where it had a value.
        previous: Option<ByteRange>,
        /// Who took part.
        receipt: Receipt,
    },
    /// The condition was not met; nothing was written.
    ConditionNotMet {
        /// The object that is there, where asked for and where it has a value.
        previous: Option<ByteRange>,
    },
    /// Some keys: each a `u32` length (little-endian) and the key, of the request's bucket only. For `Op::Records`: each a
    /// length and a record. [`listed`] takes it apart.
    Keys {
        /// Where to go on; 0 at the end.
        next_cursor: u64,
        /// The list.
        keys: ByteRange,
    },
    /// How many keys have a value.
    Count(u64),
    /// The answer to an operator's command, JSON.
    Cluster(ByteRange),
    /// It failed.
    Failed(Failure),
}

impl Outcome {
    /// The same outcome with its ranges moved.
    #[must_use]
    pub fn map(self, mut moved: impl FnMut(ByteRange) -> ByteRange) -> Self {
        match self {
            Self::Object {
                object,
                key_hash,
                receipt,
            } => Self::Object {
                object: moved(object),
                key_hash,
                receipt,
            },
            Self::Held(held) => Self::Held(Held {
                object: held.object.map(moved),
                ..held
            }),
            Self::Written {
                context,
                existed,
                previous,
                receipt,
            } => Self::Written {
                context: context.map(&mut moved),
                existed,
                previous: previous.map(&mut moved),
                receipt,
            },
            Self::ConditionNotMet { previous } => Self::ConditionNotMet {
                previous: previous.map(moved),
            },
            Self::Keys { next_cursor, keys } => Self::Keys {
                next_cursor,
                keys: moved(keys),
            },
            Self::Cluster(report) => Self::Cluster(moved(report)),
            Self::Failed(Failure::Stale { current }) => Self::Failed(Failure::Stale {
                current: moved(current),
            }),
            Self::Absent { .. } | Self::Exists(_) | Self::Count(_) | Self::Failed(_) => self,
        }
    }
}

/// Appends a record as `Op::Records` lists it: its length, then the bucket and the key, each behind its own length, then
/// the object.
pub(crate) fn write_record(out: &mut Vec<u8>, bucket: &[u8], key: &[u8], object: &[u8]) {
    let bytes = 1 + bucket.len() + 4 + key.len() + object.len();
    out.extend_from_slice(&(bytes as u32).to_le_bytes());
    out.push(bucket.len() as u8);
    out.extend_from_slice(bucket);
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(object);
}

/// The parts of the list of [`Outcome::Keys`], one by one; `None`, and the end, at one that is cut short.
pub fn listed(mut list: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    core::iter::from_fn(move || {
        let (bytes, rest) = list.split_first_chunk()?;
        let split = rest.split_at_checked(u32::from_le_bytes(*bytes) as usize);
        list = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(part, _)| part))
    })
}

/// The bucket, the key and the object of one record of `Op::Records`, without the record's length; `None` when the bytes
/// are none.
pub fn read_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (bucket_bytes, rest) = bytes.split_first()?;
    let (bucket, rest) = rest.split_at_checked(usize::from(*bucket_bytes))?;
    let (key_bytes, rest) = rest.split_first_chunk()?;
    let (key, object) = rest.split_at_checked(u32::from_le_bytes(*key_bytes) as usize)?;
    Some((bucket, key, object))
}

/// Why a request failed, and whether anything happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Queues are full. Not applied. Try again after the wait.
    Overloaded {
        /// A hint.
        retry_after_ms: u32,
    },
    /// The deadline passed before it was begun. Not applied.
    DeadlineNotApplied,
    /// The deadline passed, or the disk failed, after a write was begun. In doubt: it may have happened, or may yet.
    InDoubt,
    /// No space for writes; reads and deletes go on. Not applied. Delete keys, or give the node space.
    DiskFull,
    /// The shard's disk failed repeatedly; it serves reads only. Not applied. Replace the disk.
    ReadOnly,
    /// The write did not see everything that is there (`conflict = reject`, or `blind_put = reject`). Not applied.
    Stale {
        /// The object that is there.
        current: ByteRange,
    },
    /// Key or value over the limit. Not applied.
    TooLarge {
        /// How long it is.
        bytes: u64,
        /// What is allowed.
        bytes_max: u64,
    },
    /// The context's bytes are not ones that gramme made. Not applied.
    BadContext,
    /// The object's bytes are malformed, or from a clock too far ahead. Not applied.
    BadObject,
    /// No such bucket. Not applied.
    NoBucket,
    /// The record of this key does not verify. The key is unknown, not absent.
    Corrupt {
        /// Its segment.
        segment: SegmentId,
        /// Its byte in the segment.
        offset: u64,
    },
    /// Part of the shard's log is lost, and this key may have been in it. The key is unknown, not absent.
    Unknown,
    /// The disk could not read the key's record. The key is unknown, not absent.
    ReadFailed(IoError),
    /// This node's clock is behind a time in the context by more than is allowed. Not applied.
    ClockBehind,
    /// The node is stopping. Not applied.
    Stopping,
    /// Fewer replicas answered than were asked for. A write that was begun is in doubt: it is not rolled back, and may
    /// yet reach the others.
    Quorum {
        /// How many answered.
        got: u8,
        /// How many were asked for.
        needed: u8,
        /// Whether it is a write that was begun; else nothing happened.
        is_in_doubt: bool,
    },
    /// No node that holds the key's partition can be reached. Not applied.
    NoHolder,
    /// The replicas that answered, or that can be reached, are in fewer zones than were asked for. A write that was begun is
    /// in doubt, as with [`Failure::Quorum`].
    Zones {
        /// In how many they are.
        got: u8,
        /// How many were asked for.
        needed: u8,
        /// Whether it is a write that was begun; else nothing happened.
        is_in_doubt: bool,
    },
}

impl Failure {
    /// Whether the request may have happened, or may yet; else it certainly did not.
    pub const fn is_in_doubt(self) -> bool {
        matches!(
            self,
            Self::InDoubt
                | Self::Quorum {
                    is_in_doubt: true,
                    ..
                }
                | Self::Zones {
                    is_in_doubt: true,
                    ..
                }
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded { retry_after_ms } => write!(
                f,
                "too many requests wait; try again in {retry_after_ms} ms"
            ),
            Self::DeadlineNotApplied => write!(
                f,
                "the deadline passed before the request was begun; nothing happened"
            ),
            Self::InDoubt => write!(
                f,
                "the write may or may not have happened; read the key, or retry it with its write id"
            ),
            Self::DiskFull => write!(
                f,
                "no space for writes; delete keys or give the node space; reads and deletes go on"
            ),
            Self::ReadOnly => write!(
                f,
                "the disk of this shard failed; it serves reads only; replace the disk"
            ),
            Self::Stale { .. } => write!(
                f,
                "the key has values that this write did not see; read it and try again"
            ),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "{bytes} bytes, {bytes_max} are allowed")
            }
            Self::BadContext => write!(
                f,
                "not a context that gramme made; pass what a read or a write returned"
            ),
            Self::BadObject => write!(
                f,
                "the object does not verify, or its clock is too far ahead; fetch it again"
            ),
            Self::NoBucket => write!(f, "no such bucket; see `gramme cluster buckets`"),
            Self::Corrupt { segment, offset } => {
                write!(
                    f,
                    "the key's record in {segment} at byte {offset} does not verify; the key is unknown, not absent"
                )
            }
            Self::Unknown => write!(
                f,
                "part of the log is lost and this key may have been in it; it is unknown, not absent"
            ),
            Self::ReadFailed(error) => write!(
                f,
                "the key's record could not be read: {error}; it is unknown, not absent"
            ),
            Self::ClockBehind => write!(
                f,
                "the context is from a clock too far ahead of this node's; check time synchronisation"
            ),
            Self::Stopping => write!(f, "the node is stopping; use another"),
            Self::Quorum {
                got,
                needed,
                is_in_doubt,
            } => {
                let end = end_of(*is_in_doubt);
                write!(
                    f,
                    "{got} of {needed} replicas answered; {end}; see `gramme cluster status`"
                )
            }
            Self::Zones {
                got,
                needed,
                is_in_doubt,
            } => {
                let (end, what) = (
                    end_of(*is_in_doubt),
                    if *is_in_doubt {
                        "answered"
                    } else {
                        "can be reached"
                    },
                );
                write!(
                    f,
                    "replicas in {needed} zones were asked for, and {got} {what}; {end}; see `gramme cluster status`"
                )
            }
            Self::NoHolder => write!(
                f,
                "no node that holds this key's partition can be reached; nothing happened; see `gramme cluster status`"
            ),
        }
    }
}

/// What became of a request whose quorum was missed.
const fn end_of(is_in_doubt: bool) -> &'static str {
    if is_in_doubt {
        "the write may or may not have happened; read the key, or retry it with its write id"
    } else {
        "nothing happened"
    }
}
