//! What to make of a shard's outcome: the answer of each command.

use gramme_core::port::{Failure, Outcome};
use gramme_core::version::{ObjectView, SiblingView};

use crate::resp::encode::{Version, array, bulk, error, integer, map, null, simple};

/// How a command's outcome becomes its answer.
pub(super) enum Wanted {
    /// The value, or its absence.
    Value,
    /// `OK`, or the absence of a value where the condition was not met.
    Ok,
    /// The value before the write.
    Previous,
    /// 1 where something was there, else 0.
    Flag,
    /// 1 where the value before had an expiry, else 0.
    HadExpiry,
    /// The value's length.
    Length,
    /// The time left, in seconds or milliseconds; -1 without an expiry, -2 without a value.
    TimeLeft {
        /// Milliseconds.
        is_ms: bool,
        /// The time of the request.
        now_ms: u64,
    },
    /// `string` or `none`.
    Type,
    /// The sum over several outcomes.
    Sum(Gathered<i64>),
    /// Several values.
    Values(Gathered<Vec<Option<Vec<u8>>>>),
    /// `OK` when all are done.
    AllOk(Gathered<()>),
    /// Keys.
    Scan(Box<ScanWalk>),
    /// `DYN.GET`.
    Object,
    /// The context of `DYN.PUT` and `DYN.DEL`.
    Context,
}

/// Several outcomes that make one answer.
pub(super) struct Gathered<T> {
    pub(super) remaining: usize,
    pub(super) found: T,
    pub(super) failed: Option<Vec<u8>>,
}

/// A `SCAN` that may go on from shard to shard.
pub(super) struct ScanWalk {
    pub(super) shard: u16,
    pub(super) count: u32,
    pub(super) pattern: Option<Vec<u8>>,
    pub(super) keys: Vec<Vec<u8>>,
}

/// The time of an answer and how it is written.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) version: Version,
    pub(super) now_ms: u64,
}

/// The value that a Redis client gets of an object: of its values that are not expired, the latest.
pub(super) fn latest_of(object: &[u8], now_ms: u64) -> Option<SiblingView<'_>> {
    let view = ObjectView::parse(object).ok()?;
    if let Some(single) = view.single() {
        return (!single.is_dead(now_ms)).then_some(single);
    }
    view.live(now_ms).max_by_key(|sibling| sibling.dot.rank())
}

fn value(out: &mut Vec<u8>, object: Option<&[u8]>, style: Style) {
    match object
        .and_then(|object| latest_of(object, style.now_ms))
        .and_then(|latest| latest.content.value())
    {
        Some(value) => bulk(out, value),
        None => null(out, style.version),
    }
}

/// The error of a failure, with its code first (design, section 9).
pub(super) fn failed(out: &mut Vec<u8>, failure: &Failure) {
    let code = match failure {
        Failure::Overloaded { .. } => "OVERLOADED",
        Failure::DeadlineNotApplied => "DEADLINE",
        Failure::InDoubt => "QUORUM in doubt:",
        Failure::DiskFull => "DISKFULL",
        Failure::ReadOnly => "READONLY",
        Failure::Stale { .. } => "STALE",
        Failure::TooLarge { .. } => "TOOLARGE",
        Failure::BadContext
        | Failure::BadObject
        | Failure::NoBucket
        | Failure::Corrupt { .. }
        | Failure::Unknown
        | Failure::ReadFailed(_)
        | Failure::ClockBehind
        | Failure::Stopping => "ERR",
    };
    error(out, &format!("{code} {failure}"));
}

/// Takes one outcome of a command; the answer is whole when this returns true.
pub(super) fn take(
    wanted: &mut Wanted,
    sub: usize,
    outcome: &Outcome,
    bytes: &[u8],
    style: Style,
    out: &mut Vec<u8>,
) -> bool {
    match wanted {
        Wanted::Sum(gathered) => {
            match number_of(outcome) {
                Ok(number) => gathered.found += number,
                Err(failure) => note_failure(&mut gathered.failed, &failure),
            }
            gathered.remaining -= 1;
            if gathered.remaining == 0 {
                match &gathered.failed {
                    Some(failed) => out.extend_from_slice(failed),
                    None => integer(out, gathered.found),
                }
            }
            gathered.remaining == 0
        }
        Wanted::Values(gathered) => {
            match outcome {
                Outcome::Object { object, .. } => {
                    let latest = latest_of(object.of(bytes), style.now_ms)
                        .and_then(|latest| latest.content.value());
                    if let Some(place) = gathered.found.get_mut(sub) {
                        *place = latest.map(<[u8]>::to_vec);
                    }
                }
                Outcome::Failed(failure) => note_failure(&mut gathered.failed, failure),
                _ => {}
            }
            gathered.remaining -= 1;
            if gathered.remaining == 0 {
                match &gathered.failed {
                    Some(failed) => out.extend_from_slice(failed),
                    None => {
                        array(out, gathered.found.len());
                        for value in &gathered.found {
                            match value {
                                Some(value) => bulk(out, value),
                                None => null(out, style.version),
                            }
                        }
                    }
                }
            }
            gathered.remaining == 0
        }
        Wanted::AllOk(gathered) => {
            if let Outcome::Failed(failure) = outcome {
                note_failure(&mut gathered.failed, failure);
            }
            gathered.remaining -= 1;
            if gathered.remaining == 0 {
                match &gathered.failed {
                    Some(failed) => out.extend_from_slice(failed),
                    None => simple(out, "OK"),
                }
            }
            gathered.remaining == 0
        }
        single => {
            if let Outcome::Failed(failure) = outcome {
                failed(out, failure);
            } else {
                answer(single, outcome, bytes, style, out);
            }
            true
        }
    }
}

fn note_failure(noted: &mut Option<Vec<u8>>, failure: &Failure) {
    noted.get_or_insert_with(|| {
        let mut text = Vec::new();
        failed(&mut text, failure);
        text
    });
}

fn number_of(outcome: &Outcome) -> Result<i64, Failure> {
    match outcome {
        Outcome::Failed(failure) => Err(*failure),
        Outcome::Count(count) => Ok(i64::try_from(*count).unwrap_or(i64::MAX)),
        Outcome::Exists(exists) => Ok(i64::from(*exists)),
        Outcome::Written { existed, .. } => Ok(i64::from(*existed)),
        Outcome::Object { .. } => Ok(1),
        Outcome::Absent { .. } | Outcome::ConditionNotMet { .. } | Outcome::Keys { .. } => Ok(0),
    }
}

fn answer(wanted: &Wanted, outcome: &Outcome, bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    let object = match outcome {
        Outcome::Object { object, .. } => Some(object.of(bytes)),
        Outcome::Written {
            previous: Some(previous),
            ..
        }
        | Outcome::ConditionNotMet {
            previous: Some(previous),
        } => Some(previous.of(bytes)),
        _ => None,
    };
    let latest = || object.and_then(|object| latest_of(object, style.now_ms));
    match wanted {
        Wanted::Value | Wanted::Previous => value(out, object, style),
        Wanted::Ok if matches!(outcome, Outcome::ConditionNotMet { .. }) => {
            null(out, style.version)
        }
        Wanted::Ok => simple(out, "OK"),
        Wanted::Flag => integer(out, number_of(outcome).unwrap_or(0)),
        Wanted::HadExpiry => integer(
            out,
            i64::from(latest().is_some_and(|latest| latest.expires_at_ms.is_some())),
        ),
        Wanted::Length => {
            let length = latest()
                .and_then(|latest| latest.content.value())
                .map_or(0, <[u8]>::len);
            integer(out, i64::try_from(length).unwrap_or(i64::MAX));
        }
        Wanted::TimeLeft { is_ms, now_ms } => {
            let left = match latest().map(|latest| latest.expires_at_ms) {
                None => -2,
                Some(None) => -1,
                Some(Some(at)) => {
                    let left_ms = i64::try_from(at.saturating_sub(*now_ms)).unwrap_or(i64::MAX);
                    if *is_ms {
                        left_ms
                    } else {
                        (left_ms + 500) / 1000
                    }
                }
            };
            integer(out, left);
        }
        Wanted::Type => simple(out, if latest().is_some() { "string" } else { "none" }),
        Wanted::Object => dynamo_object(outcome, bytes, style, out),
        Wanted::Context => match outcome {
            Outcome::Written {
                context: Some(context),
                ..
            } => bulk(out, context.of(bytes)),
            _ => null(out, style.version),
        },
        Wanted::Sum(_) | Wanted::Values(_) | Wanted::AllOk(_) | Wanted::Scan(_) => {
            error(out, "ERR internal: an answer of several parts came as one");
        }
    }
}

/// `[context, [value, value…]]`; no context and no values when the key is absent. A value that was written twice under
/// one write id is shown once.
fn dynamo_object(outcome: &Outcome, bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    array(out, 2);
    let view = match outcome {
        Outcome::Object {
            object, key_hash, ..
        } => ObjectView::parse(object.of(bytes))
            .ok()
            .map(|view| (view, *key_hash)),
        _ => None,
    };
    let Some((view, key_hash)) = view else {
        null(out, style.version);
        return array(out, 0);
    };
    let mut context = Vec::new();
    view.encode_client_context(key_hash, &mut context);
    bulk(out, &context);
    let values: Vec<&[u8]> = view
        .distinct_by_write_id()
        .filter_map(|sibling| sibling.live_value(style.now_ms))
        .collect();
    array(out, values.len());
    for value in values {
        bulk(out, value);
    }
}

/// Writes the answer of a `SCAN`.
pub(super) fn scanned(out: &mut Vec<u8>, next_cursor: u64, keys: &[Vec<u8>]) {
    array(out, 2);
    bulk(out, next_cursor.to_string().as_bytes());
    array(out, keys.len());
    for key in keys {
        bulk(out, key);
    }
}

/// A map for `HELLO`.
pub(super) fn hello(out: &mut Vec<u8>, version: Version) {
    map(out, 7, version);
    for (name, value) in [("server", "gramme"), ("version", env!("CARGO_PKG_VERSION"))] {
        bulk(out, name.as_bytes());
        bulk(out, value.as_bytes());
    }
    bulk(out, b"proto");
    integer(out, if version == Version::Three { 3 } else { 2 });
    bulk(out, b"id");
    integer(out, 1);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        bulk(out, name.as_bytes());
        bulk(out, value.as_bytes());
    }
    bulk(out, b"modules");
    array(out, 0);
}
