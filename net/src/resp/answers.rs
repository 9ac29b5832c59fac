//! From a shard's outcome to the answer of a command.

use std::time::Duration;

use gramme_core::port::{Failure, Outcome};
use gramme_core::version::{ObjectView, SiblingView};

use super::encode::{Version, array, bulk, error, integer, null, simple};
use super::scan::Walk;

/// What becomes of a request's outcome.
pub(super) enum Wanted {
    /// The value, or its absence: of `GET`, and of each key of `MGET`.
    Value,
    /// `OK`; or the absence of a value where the condition was not met.
    Ok,
    /// The value before the write.
    Previous,
    /// 1 where the key was there, else 0.
    Flag,
    /// 1 where the value before had an expiry, else 0.
    HadExpiry,
    /// The value's length.
    Length,
    /// The time left in this unit; -1 without an expiry, -2 without a value.
    TimeLeft(Duration),
    /// `string` or `none`.
    Type,
    /// One of several outcomes that make one answer.
    Part(Part),
    /// Keys.
    Scan(Box<Walk>),
    /// The context and all values of `DYN.GET`.
    Object,
    /// The context of `DYN.PUT` and `DYN.DEL`.
    Context,
}

/// One of several outcomes that make one answer.
pub(super) enum Part {
    /// More follow.
    More,
    /// The last one, after which the answer is written.
    Last(Total),
}

/// What several outcomes make together.
pub(super) enum Total {
    /// Their sum.
    Sum,
    /// `OK`, since none failed.
    Ok,
    /// `INFO` to this point; the sum is the number of keys.
    Info(String),
}

/// How an answer is written, and when.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) version: Version,
    pub(super) now_ms: u64,
}

/// Writes the answer to a request. Parts are not written singly.
pub(super) fn write(
    wanted: &Wanted,
    outcome: &Outcome,
    bytes: &[u8],
    style: Style,
    out: &mut Vec<u8>,
) {
    let object = match outcome {
        Outcome::Failed(failure) => return failed(out, failure),
        Outcome::Object { object, .. } => Some(object.of(bytes)),
        Outcome::Written { previous, .. } | Outcome::ConditionNotMet { previous } => {
            previous.map(|previous| previous.of(bytes))
        }
        Outcome::Absent { .. }
        | Outcome::Exists(_)
        | Outcome::Held(_)
        | Outcome::Cluster(_)
        | Outcome::Keys { .. }
        | Outcome::Count(_) => None,
    };
    match wanted {
        Wanted::Ok if matches!(outcome, Outcome::ConditionNotMet { .. }) => {
            return null(out, style.version);
        }
        Wanted::Ok => return simple(out, "OK"),
        Wanted::Flag => return integer(out, number_of(outcome).unwrap_or(0)),
        Wanted::Type => {
            let is_there = number_of(outcome) == Ok(1);
            return simple(out, if is_there { "string" } else { "none" });
        }
        Wanted::Context => {
            return match outcome {
                Outcome::Written {
                    context: Some(context),
                    ..
                } => bulk(out, context.of(bytes)),
                _ => null(out, style.version),
            };
        }
        Wanted::Object => return dynamo_object(outcome, bytes, style, out),
        Wanted::Value
        | Wanted::Previous
        | Wanted::HadExpiry
        | Wanted::Length
        | Wanted::TimeLeft(_)
        | Wanted::Part(_)
        | Wanted::Scan(_) => {}
    }
    let latest = match object.map(|object| latest_of(object, style.now_ms)) {
        None => None,
        Some(Ok(latest)) => latest,
        Some(Err(())) => {
            return error(
                out,
                "ERR the key's object does not verify; the key is unknown, not absent",
            );
        }
    };
    let value = latest.and_then(|latest| latest.content.value());
    match wanted {
        Wanted::Value | Wanted::Previous => match value {
            Some(value) => bulk(out, value),
            None => null(out, style.version),
        },
        Wanted::HadExpiry => {
            let has_expiry = latest.is_some_and(|latest| latest.expires_at_ms.is_some());
            integer(out, i64::from(has_expiry));
        }
        Wanted::Length => integer(out, value.map_or(0, |value| value.len() as i64)),
        Wanted::TimeLeft(unit) => integer(
            out,
            match latest.map(|latest| latest.expires_at_ms) {
                None => -2,
                Some(None) => -1,
                Some(Some(at_ms)) => {
                    let unit_ms = unit.as_millis() as u64;
                    let left_ms = at_ms.saturating_sub(style.now_ms);
                    i64::try_from((left_ms + unit_ms / 2) / unit_ms).unwrap_or(i64::MAX)
                }
            },
        ),
        Wanted::Ok
        | Wanted::Flag
        | Wanted::Type
        | Wanted::Context
        | Wanted::Object
        | Wanted::Part(_)
        | Wanted::Scan(_) => {}
    }
}

/// Writes what several outcomes make together.
pub(super) fn total(total: &Total, sum: i64, out: &mut Vec<u8>) {
    match total {
        Total::Sum => integer(out, sum),
        Total::Ok => simple(out, "OK"),
        Total::Info(text) => bulk(
            out,
            format!("{text}# Keyspace\r\ndb0:keys={sum},expires=0,avg_ttl=0\r\n").as_bytes(),
        ),
    }
}

/// What an outcome adds to a count.
pub(super) fn number_of(outcome: &Outcome) -> Result<i64, Failure> {
    match outcome {
        Outcome::Failed(failure) => Err(*failure),
        Outcome::Count(count) => Ok(i64::try_from(*count).unwrap_or(i64::MAX)),
        Outcome::Exists(exists) => Ok(i64::from(*exists)),
        Outcome::Written { existed, .. } => Ok(i64::from(*existed)),
        Outcome::Object { .. } => Ok(1),
        Outcome::Absent { .. }
        | Outcome::ConditionNotMet { .. }
        | Outcome::Keys { .. }
        | Outcome::Held(_)
        | Outcome::Cluster(_) => Ok(0),
    }
}

/// Writes a failure, its code first.
pub(super) fn failed(out: &mut Vec<u8>, failure: &Failure) {
    let code = match failure {
        Failure::Overloaded { .. } => "OVERLOADED",
        Failure::DeadlineNotApplied => "DEADLINE",
        Failure::InDoubt => "QUORUM in doubt:",
        Failure::Quorum { .. } | Failure::Zones { .. } | Failure::NoHolder => "QUORUM",
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

/// The value that a Redis client gets of an object: of its values that have not expired, the latest.
fn latest_of(object: &[u8], now_ms: u64) -> Result<Option<SiblingView<'_>>, ()> {
    let view = ObjectView::parse(object).map_err(drop)?;
    if let Some(single) = view.single() {
        return Ok((!single.is_dead(now_ms)).then_some(single));
    }
    Ok(view.live(now_ms).max_by_key(|sibling| sibling.dot.rank()))
}

/// `[context, [value, value…]]`; no context and no values when the key is absent.
fn dynamo_object(outcome: &Outcome, bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    let Outcome::Object {
        object, key_hash, ..
    } = outcome
    else {
        array(out, 2);
        null(out, style.version);
        return array(out, 0);
    };
    let Ok(view) = ObjectView::parse(object.of(bytes)) else {
        return error(
            out,
            "ERR the key's object does not verify; the key is unknown, not absent",
        );
    };
    let mut context = Vec::new();
    view.encode_client_context(*key_hash, &mut context);
    array(out, 2);
    bulk(out, &context);
    array(out, view.live(style.now_ms).count());
    for value in view
        .live(style.now_ms)
        .filter_map(|sibling| sibling.content.value())
    {
        bulk(out, value);
    }
}
