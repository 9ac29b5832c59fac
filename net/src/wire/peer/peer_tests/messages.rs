//! Every message that there is, made of a few numbers and bytes.

use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, PartitionId, SegmentId, ShardIndex, Token};
use gramme_core::port::{
    ByteRange, CallId, Condition, ContextArg, Durability, Expiry, Failure, Held, IoError, IoKind,
    KeyName, Lane, Message, Op, Outcome, Put, Quorum, Receipt, Refusal, Request, RequestId,
    TokenRange,
};
use gramme_core::version::WriteId;
use proptest::prelude::*;

/// What messages are made of.
#[derive(Clone, Debug)]
pub(super) struct Stuff {
    numbers: [u64; 4],
    bits: [bool; 4],
    parts: [Vec<u8>; 4],
}

pub(super) fn stuff() -> impl Strategy<Value = Stuff> {
    let part = || proptest::collection::vec(any::<u8>(), 0..200);
    (
        any::<[u64; 4]>(),
        any::<[bool; 4]>(),
        [part(), part(), part(), part()],
    )
        .prop_map(|(numbers, bits, parts)| Stuff {
            numbers,
            bits,
            parts,
        })
}

const REFUSALS: [Refusal; 7] = [
    Refusal::NotHere,
    Refusal::Overloaded,
    Refusal::DiskFull,
    Refusal::ReadOnly,
    Refusal::Unreadable,
    Refusal::BadObject,
    Refusal::Stopping,
];

impl Stuff {
    fn small(&self, number: usize) -> u32 {
        u32::try_from(self.numbers[number] >> 32).expect("32 bits")
    }

    pub(super) fn key(&self) -> KeyName<&[u8]> {
        let (bucket, key) = (&self.parts[0], &self.parts[1]);
        KeyName {
            bucket,
            key,
            token: hash::token(bucket, key),
        }
    }

    fn list(&self, item_bytes: usize) -> &[u8] {
        let list = &self.parts[2];
        &list[..list.len() / item_bytes * item_bytes]
    }

    fn range(&self) -> TokenRange {
        let (a, b) = (self.numbers[1], self.numbers[2]);
        TokenRange {
            first: Token(a.min(b)),
            last: Token(a.max(b)),
        }
    }

    fn receipt(&self) -> Receipt {
        let [replicas, zones, on_stable_media, stand_ins, ..] = self.numbers[3].to_le_bytes();
        Receipt {
            replicas,
            zones,
            on_stable_media,
            stand_ins,
            disk_ns: self.numbers[2],
        }
    }

    fn refusals<T>(&self, done: T) -> Vec<Result<T, Refusal>> {
        let refused = REFUSALS.into_iter().map(Err);
        std::iter::once(Ok(done)).chain(refused).collect()
    }

    fn ops(&self) -> Vec<Op<'static>> {
        let mut ops = vec![
            Op::Get,
            Op::Exists,
            Op::Fetch {
                wants_object: self.bits[1],
            },
            Op::Merge { object: &[] },
            Op::Scan {
                cursor: self.numbers[1],
                count: self.small(2),
            },
            Op::Cluster { command: &[] },
            Op::Count,
        ];
        let write_id = self.bits[3].then_some(WriteId {
            client: self.numbers[0],
            sequence: self.numbers[3],
        });
        let expiries = [
            Expiry::Default,
            Expiry::Never,
            Expiry::AtMs(self.numbers[2]),
            Expiry::Keep,
        ];
        let contexts = [
            ContextArg::Blind,
            ContextArg::Latest,
            ContextArg::Opaque(&[]),
        ];
        for context in contexts {
            ops.push(Op::Delete {
                context,
                want_previous: self.bits[0],
                want_context: self.bits[1],
                write_id,
            });
            let conditions = [Condition::Always, Condition::IfAbsent, Condition::IfPresent];
            for (condition, expiry) in conditions.into_iter().zip(expiries) {
                ops.push(Op::Put(Put {
                    context,
                    value: &[],
                    expiry,
                    condition,
                    want_previous: self.bits[0],
                    want_context: self.bits[1],
                    write_id,
                }));
            }
        }
        ops.extend(expiries.map(|expiry| Op::SetExpiry {
            expiry,
            want_previous: self.bits[2],
        }));
        ops
    }

    fn outcomes(&self, bytes: usize) -> Vec<Outcome> {
        let end = u32::try_from(bytes).expect("short");
        let object = ByteRange {
            start: end / 3,
            end,
        };
        let some = self.bits[0].then_some(object);
        let other = self.bits[1].then_some(ByteRange {
            start: 0,
            end: end / 2,
        });
        let receipt = self.receipt();
        let number = self.numbers[0];
        let mut outcomes = vec![
            Outcome::Object {
                object,
                key_hash: number,
                receipt,
            },
            Outcome::Absent { receipt },
            Outcome::Exists(self.bits[2]),
            Outcome::Held(Held {
                fingerprint: number,
                object: some,
            }),
            Outcome::Written {
                context: some,
                existed: self.bits[2],
                previous: other,
                receipt,
            },
            Outcome::ConditionNotMet { previous: some },
            Outcome::Keys {
                next_cursor: number,
                keys: object,
            },
            Outcome::Count(number),
            Outcome::Cluster(object),
        ];
        let [got, needed, ..] = number.to_le_bytes();
        let failures = [
            Failure::Overloaded {
                retry_after_ms: self.small(1),
            },
            Failure::DeadlineNotApplied,
            Failure::InDoubt,
            Failure::DiskFull,
            Failure::ReadOnly,
            Failure::Stale { current: object },
            Failure::TooLarge {
                bytes: number,
                bytes_max: self.numbers[1],
            },
            Failure::BadContext,
            Failure::BadObject,
            Failure::NoBucket,
            Failure::Corrupt {
                segment: SegmentId(self.small(1)),
                offset: self.numbers[2],
            },
            Failure::Unknown,
            Failure::ReadFailed(IoError {
                kind: if self.bits[3] {
                    IoKind::Full
                } else {
                    IoKind::Failed
                },
                errno: self.small(3).cast_signed(),
            }),
            Failure::ClockBehind,
            Failure::Stopping,
            Failure::Quorum {
                got,
                needed,
                is_in_doubt: self.bits[2],
            },
            Failure::NoHolder,
            Failure::Zones {
                got,
                needed,
                is_in_doubt: self.bits[2],
            },
        ];
        outcomes.extend(failures.map(Outcome::Failed));
        outcomes
    }

    /// Every message, with every word that it may have.
    pub(super) fn messages(&self) -> Vec<Message<&[u8]>> {
        let call = CallId(self.numbers[0]);
        let (key, queue) = (self.key(), self.small(1));
        let (list, rest) = (self.list(16), self.parts[3].as_slice());
        let mut messages = vec![
            Message::Apply {
                call,
                key,
                object: rest,
                is_durable: self.bits[0],
                hint_for: self.bits[1].then_some(NodeId(self.numbers[1])),
                is_background: self.bits[2],
            },
            Message::Fetch {
                call,
                key,
                wants_object: self.bits[0],
            },
            Message::Compare {
                call,
                range: self.range(),
                sum: self.numbers[3],
                count: self.numbers[0],
            },
            Message::Compared {
                call,
                range: self.range(),
                sum: self.numbers[3],
                count: self.numbers[0],
                list,
            },
            Message::Pull {
                call,
                lane: Token(self.numbers[1]),
                tokens: self.list(8),
            },
            Message::Records {
                call,
                tokens_answered: self.small(1),
                records: rest,
                is_incomplete: self.bits[0],
            },
            Message::Reap {
                call,
                partition: PartitionId(self.small(1)),
                is_final: self.bits[0],
                list,
            },
            Message::Reaped { call, list },
            Message::Gossip { bytes: rest },
        ];
        for result in self.refusals(self.bits[0]) {
            messages.push(Message::Applied {
                call,
                result,
                queue,
            });
        }
        let held = Held {
            fingerprint: self.numbers[3],
            object: self.bits[0].then_some(rest),
        };
        for result in self.refusals(held) {
            messages.push(Message::Fetched {
                call,
                result,
                queue,
            });
        }
        let durabilities = [
            None,
            Some(Durability::Buffered),
            Some(Durability::One),
            Some(Durability::All),
        ];
        for (op, durability) in self.ops().into_iter().zip(durabilities.into_iter().cycle()) {
            let [n, r, w, zones, ..] = self.numbers[2].to_le_bytes();
            let shape = Request {
                id: RequestId(0),
                deadline_ns: self.bits[0].then_some(self.numbers[3]),
                bucket: &[],
                key: &[],
                token: key.token,
                durability,
                quorum: Quorum {
                    n,
                    r,
                    w,
                    zones,
                    is_strict: self.bits[1],
                },
                wants_object: self.bits[2],
                is_forwarded: self.bits[3],
                op,
            };
            messages.push(Message::Request {
                call,
                name: self.numbers[1],
                shape,
                key,
                value: rest,
                context: &self.parts[2],
            });
        }
        for outcome in self.outcomes(rest.len()) {
            messages.push(Message::Outcome {
                call,
                outcome,
                bytes: rest,
            });
        }
        messages
    }

    pub(super) fn lanes(&self) -> [Lane; 3] {
        let [low, high, ..] = self.numbers[1].to_le_bytes();
        [
            Lane::Token(Token(self.numbers[0])),
            Lane::Shard(ShardIndex(u16::from_le_bytes([low, high]))),
            Lane::Control,
        ]
    }
}

pub(super) fn fixed() -> Stuff {
    Stuff {
        numbers: [3, 0x0102_0304_0506_0708, u64::MAX, 9],
        bits: [true, true, false, true],
        parts: [b"b".into(), b"key".into(), vec![7; 32], b"object".into()],
    }
}
