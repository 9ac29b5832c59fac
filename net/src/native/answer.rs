//! An outcome of the core as a frame's content.

use gramme_core::port::{Failure, Outcome, Receipt};

use crate::wire::{Answer, Effect, ErrorCode, Reply};

/// What a frame needs beside the outcome.
pub(super) struct Taken {
    pub(super) server_ns: u64,
    pub(super) ring_epoch: u64,
}

/// A failure's words for the frame.
pub(super) struct Refusal<'a> {
    pub(super) code: ErrorCode,
    pub(super) effect: Effect,
    pub(super) retry_after_ms: u32,
    pub(super) message: String,
    pub(super) current: &'a [u8],
}

/// The answer of a get, put or delete, or why there is none. `bytes` is what the outcome's ranges refer to.
pub(super) fn of_outcome<'a>(
    outcome: &Outcome,
    bytes: &'a [u8],
    taken: &Taken,
) -> Result<Answer<'a>, Refusal<'a>> {
    let answer = |reply, receipt| {
        Ok(Answer {
            reply,
            receipt,
            server_ns: taken.server_ns,
            ring_epoch: taken.ring_epoch,
        })
    };
    match *outcome {
        Outcome::Object {
            object,
            key_hash,
            receipt,
        } => {
            let object = object.of(bytes);
            answer(Reply::Object { object, key_hash }, receipt)
        }
        Outcome::Absent { receipt } => answer(Reply::Absent, receipt),
        Outcome::Written {
            context,
            existed,
            previous,
            receipt,
        } => answer(
            Reply::Written {
                context: context.map(|range| range.of(bytes)),
                existed,
                previous: previous.map(|range| range.of(bytes)),
            },
            receipt,
        ),
        Outcome::ConditionNotMet { previous } => answer(
            Reply::ConditionNotMet {
                previous: previous.map(|range| range.of(bytes)),
            },
            Receipt::default(),
        ),
        Outcome::Failed(failure) => Err(of_failure(failure, bytes)),
        Outcome::Exists(_)
        | Outcome::Held(_)
        | Outcome::Cluster(_)
        | Outcome::Keys { .. }
        | Outcome::Count(_) => Err(Refusal {
            code: ErrorCode::BadRequest,
            effect: Effect::NotApplied,
            retry_after_ms: 0,
            message: "the shard answered another question; please report this".into(),
            current: &[],
        }),
    }
}

fn of_failure(failure: Failure, bytes: &[u8]) -> Refusal<'_> {
    let code = match failure {
        Failure::Overloaded { .. } => ErrorCode::Overloaded,
        Failure::DeadlineNotApplied => ErrorCode::Deadline,
        Failure::InDoubt => ErrorCode::InDoubt,
        Failure::DiskFull => ErrorCode::DiskFull,
        Failure::ReadOnly => ErrorCode::ReadOnly,
        Failure::Stale { .. } => ErrorCode::Stale,
        Failure::TooLarge { .. } => ErrorCode::TooLarge,
        Failure::BadContext => ErrorCode::BadContext,
        Failure::BadObject => ErrorCode::BadRequest,
        Failure::NoBucket => ErrorCode::NoBucket,
        Failure::Corrupt { .. } | Failure::Unknown | Failure::ReadFailed(_) => {
            ErrorCode::Unreadable
        }
        Failure::ClockBehind => ErrorCode::ClockBehind,
        Failure::Stopping => ErrorCode::Stopping,
        Failure::Quorum { .. } | Failure::Zones { .. } | Failure::NoHolder => ErrorCode::Quorum,
    };
    Refusal {
        code,
        effect: if failure.is_in_doubt() {
            Effect::InDoubt
        } else {
            Effect::NotApplied
        },
        retry_after_ms: match failure {
            Failure::Overloaded { retry_after_ms } => retry_after_ms,
            _ => 0,
        },
        message: failure.to_string(),
        current: match failure {
            Failure::Stale { current } => current.of(bytes),
            _ => &[],
        },
    }
}
