//! The outcome of a forwarded request as a flat body, and back.
//!
//! | form | outcome | number, second number | ranges |
//! |---|---|---|---|
//! | 1 | `Object` | key hash | object |
//! | 2 | `Absent` | | |
//! | 3 | `Exists` | 1 or 0 | |
//! | 4 | `Held` | fingerprint | object, where there is one |
//! | 5 | `Written` | | context, previous, where there are such |
//! | 6 | `ConditionNotMet` | | previous, where there is one |
//! | 7 | `Keys` | next cursor | keys |
//! | 8 | `Count` | count | |
//! | 9 | `Cluster` | | report |
//! | 32… | `Failed` | what the failure carries | the object of `Stale` |

use gramme_core::base::ids::SegmentId;
use gramme_core::port::{ByteRange, Failure, Held, IoError, IoKind, Outcome, Receipt};

use super::super::FrameError;
use super::super::encode::flag;
use super::super::tail::BodyKind;
use super::super::version::MUST_UNDERSTAND;
use super::PeerKind;
use super::body::{
    ArchivedOutcomeBody, OUTCOME_EXISTED, OUTCOME_IN_DOUBT, OUTCOME_RANGE, OUTCOME_SECOND_RANGE,
    OutcomeBody,
};

impl OutcomeBody {
    /// The body of an outcome.
    pub(super) fn new(call: u64, outcome: &Outcome) -> Self {
        let empty = Self {
            call,
            ..Self::default()
        };
        match *outcome {
            Outcome::Object {
                object,
                key_hash,
                receipt,
            } => empty
                .form(1)
                .receipt(receipt)
                .numbers(key_hash, 0)
                .range(Some(object)),
            Outcome::Absent { receipt } => empty.form(2).receipt(receipt),
            Outcome::Exists(exists) => empty.form(3).numbers(u64::from(exists), 0),
            Outcome::Held(held) => empty
                .form(4)
                .numbers(held.fingerprint, 0)
                .range(held.object),
            Outcome::Written {
                context,
                existed,
                previous,
                receipt,
            } => empty
                .form(5)
                .receipt(receipt)
                .flags(flag(existed, OUTCOME_EXISTED))
                .range(context)
                .second_range(previous),
            Outcome::ConditionNotMet { previous } => empty.form(6).range(previous),
            Outcome::Keys { next_cursor, keys } => {
                empty.form(7).numbers(next_cursor, 0).range(Some(keys))
            }
            Outcome::Count(count) => empty.form(8).numbers(count, 0),
            Outcome::Cluster(report) => empty.form(9).range(Some(report)),
            Outcome::Failed(failure) => empty.failure(failure),
        }
    }

    fn failure(self, failure: Failure) -> Self {
        match failure {
            Failure::Overloaded { retry_after_ms } => {
                self.form(32).numbers(u64::from(retry_after_ms), 0)
            }
            Failure::DeadlineNotApplied => self.form(33),
            Failure::InDoubt => self.form(34),
            Failure::DiskFull => self.form(35),
            Failure::ReadOnly => self.form(36),
            Failure::Stale { current } => self.form(37).range(Some(current)),
            Failure::TooLarge { bytes, bytes_max } => self.form(38).numbers(bytes, bytes_max),
            Failure::BadContext => self.form(39),
            Failure::BadObject => self.form(40),
            Failure::NoBucket => self.form(41),
            Failure::Corrupt { segment, offset } => {
                self.form(42).numbers(u64::from(segment.0), offset)
            }
            Failure::Unknown => self.form(43),
            Failure::ReadFailed(error) => self.form(44).numbers(
                u64::from(error.kind == IoKind::Full),
                u64::from(error.errno.cast_unsigned()),
            ),
            Failure::ClockBehind => self.form(45),
            Failure::Stopping => self.form(46),
            Failure::Quorum {
                got,
                needed,
                is_in_doubt,
            } => self
                .form(47)
                .flags(flag(is_in_doubt, OUTCOME_IN_DOUBT))
                .numbers(u64::from(got), u64::from(needed)),
            Failure::NoHolder => self.form(48),
            Failure::Zones {
                got,
                needed,
                is_in_doubt,
            } => self
                .form(49)
                .flags(flag(is_in_doubt, OUTCOME_IN_DOUBT))
                .numbers(u64::from(got), u64::from(needed)),
        }
    }

    fn form(self, form: u8) -> Self {
        Self { form, ..self }
    }

    fn flags(self, flags: u8) -> Self {
        Self {
            flags: self.flags | flags,
            ..self
        }
    }

    fn numbers(self, number: u64, second_number: u64) -> Self {
        Self {
            number,
            second_number,
            ..self
        }
    }

    fn receipt(self, receipt: Receipt) -> Self {
        Self {
            replicas: receipt.replicas,
            zones: receipt.zones,
            on_stable_media: receipt.on_stable_media,
            stand_ins: receipt.stand_ins,
            disk_ns: receipt.disk_ns,
            ..self
        }
    }

    fn range(self, range: Option<ByteRange>) -> Self {
        let Some(range) = range else {
            return self;
        };
        Self {
            start: range.start,
            end: range.end,
            ..self.flags(OUTCOME_RANGE)
        }
    }

    fn second_range(self, range: Option<ByteRange>) -> Self {
        let Some(range) = range else {
            return self;
        };
        Self {
            second_start: range.start,
            second_end: range.end,
            ..self.flags(OUTCOME_SECOND_RANGE)
        }
    }
}

impl ArchivedOutcomeBody {
    /// The outcome of a body, whose ranges lie in a tail of so many bytes; or what is wrong with it.
    pub(super) fn outcome(&self, tail_bytes: usize) -> Result<Outcome, FrameError> {
        if self.flags & MUST_UNDERSTAND != 0 {
            return Err(PeerKind::Outcome.newer("has an unknown flag"));
        }
        let receipt = Receipt {
            replicas: self.replicas,
            zones: self.zones,
            on_stable_media: self.on_stable_media,
            stand_ins: self.stand_ins,
            disk_ns: self.disk_ns.to_native(),
        };
        let (number, second_number) = (self.number.to_native(), self.second_number.to_native());
        let checked = |flag, start: u32, end: u32| {
            if self.flags & flag == 0 {
                Ok(None)
            } else if start <= end && end as usize <= tail_bytes {
                Ok(Some(ByteRange { start, end }))
            } else {
                Err(bad("has a range outside of its bytes"))
            }
        };
        let range = checked(OUTCOME_RANGE, self.start.to_native(), self.end.to_native())?;
        let second_range = checked(
            OUTCOME_SECOND_RANGE,
            self.second_start.to_native(),
            self.second_end.to_native(),
        )?;
        let there = || range.ok_or(bad("lacks its bytes"));
        Ok(match self.form {
            1 => Outcome::Object {
                object: there()?,
                key_hash: number,
                receipt,
            },
            2 => Outcome::Absent { receipt },
            3 => Outcome::Exists(number != 0),
            4 => Outcome::Held(Held {
                fingerprint: number,
                object: range,
            }),
            5 => Outcome::Written {
                context: range,
                existed: self.flags & OUTCOME_EXISTED != 0,
                previous: second_range,
                receipt,
            },
            6 => Outcome::ConditionNotMet { previous: range },
            7 => Outcome::Keys {
                next_cursor: number,
                keys: there()?,
            },
            8 => Outcome::Count(number),
            9 => Outcome::Cluster(there()?),
            form => {
                let is_in_doubt = self.flags & OUTCOME_IN_DOUBT != 0;
                Outcome::Failed(failure(form, (number, second_number), is_in_doubt, range)?)
            }
        })
    }
}

fn failure(
    form: u8,
    (number, second_number): (u64, u64),
    is_in_doubt: bool,
    range: Option<ByteRange>,
) -> Result<Failure, FrameError> {
    fn small<T: TryFrom<u64>>(number: u64) -> Result<T, FrameError> {
        T::try_from(number).map_err(|_| bad("has a number that is too great"))
    }
    Ok(match form {
        32 => Failure::Overloaded {
            retry_after_ms: small(number)?,
        },
        33 => Failure::DeadlineNotApplied,
        34 => Failure::InDoubt,
        35 => Failure::DiskFull,
        36 => Failure::ReadOnly,
        37 => Failure::Stale {
            current: range.ok_or(bad("lacks its bytes"))?,
        },
        38 => Failure::TooLarge {
            bytes: number,
            bytes_max: second_number,
        },
        39 => Failure::BadContext,
        40 => Failure::BadObject,
        41 => Failure::NoBucket,
        42 => Failure::Corrupt {
            segment: SegmentId(small(number)?),
            offset: second_number,
        },
        43 => Failure::Unknown,
        44 => Failure::ReadFailed(IoError {
            kind: if number == 1 {
                IoKind::Full
            } else {
                IoKind::Failed
            },
            errno: small::<u32>(second_number)?.cast_signed(),
        }),
        45 => Failure::ClockBehind,
        46 => Failure::Stopping,
        47 => Failure::Quorum {
            got: small(number)?,
            needed: small(second_number)?,
            is_in_doubt,
        },
        48 => Failure::NoHolder,
        49 => Failure::Zones {
            got: small(number)?,
            needed: small(second_number)?,
            is_in_doubt,
        },
        _ => return Err(PeerKind::Outcome.newer("has an unknown form")),
    })
}

fn bad(what: &'static str) -> FrameError {
    PeerKind::Outcome.bad(what)
}
