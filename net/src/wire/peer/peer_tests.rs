//! Frames between nodes: every message is read as it was written; what was damaged on its way never is; nothing panics.

use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, PartitionId, SegmentId, ShardIndex, Token};
use gramme_core::port::{
    ByteRange, CallId, Condition, ContextArg, Durability, Expiry, Failure, Held, IoError, IoKind,
    KeyName, Lane, Message, Op, Outcome, Put, Quorum, Receipt, Refusal, Request, RequestId,
    TokenRange,
};
use gramme_core::version::WriteId;
use proptest::prelude::*;

use super::super::seal;
use super::*;

/// What messages are made of.
#[derive(Clone, Debug)]
struct Stuff {
    numbers: [u64; 4],
    bits: [bool; 4],
    parts: [Vec<u8>; 4],
}

fn stuff() -> impl Strategy<Value = Stuff> {
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

    fn key(&self) -> KeyName<&[u8]> {
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
    fn messages(&self) -> Vec<Message<&[u8]>> {
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

    fn lanes(&self) -> [Lane; 3] {
        let [low, high, ..] = self.numbers[1].to_le_bytes();
        [
            Lane::Token(Token(self.numbers[0])),
            Lane::Shard(ShardIndex(u16::from_le_bytes([low, high]))),
            Lane::Control,
        ]
    }
}

fn fixed() -> Stuff {
    Stuff {
        numbers: [3, 0x0102_0304_0506_0708, u64::MAX, 9],
        bits: [true, true, false, true],
        parts: [b"b".into(), b"key".into(), vec![7; 32], b"object".into()],
    }
}

fn encoded(checksum: bool, frame: &PeerFrame<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    assert!(encode_peer(&mut out, checksum, frame));
    out.split_off(b"before".len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_message_is_read_as_it_was_written(stuff in stuff(), sent_ms in any::<u64>()) {
        let lanes = stuff.lanes();
        for (message, lane) in stuff.messages().into_iter().zip(lanes.into_iter().cycle()) {
            for checksum in [false, true] {
                let sent = PeerFrame { lane, sent_ms, message };
                let mut bytes = encoded(checksum, &sent);
                let length = bytes.len();
                bytes.extend_from_slice(b"the next frame");
                let PeerParse::Done { frame, frame_bytes } = parse_peer(&bytes) else {
                    panic!("{sent:?} was not read: {:?}", parse_peer(&bytes));
                };
                prop_assert_eq!(frame_bytes, length);
                prop_assert_eq!(format!("{frame:?}"), format!("{sent:?}"));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        kind in 30u8..47,
        body_bytes in 0u32..160,
    ) {
        let _ = format!("{:?}", parse_peer(&bytes));
        // A true header before them.
        let message = Message::Gossip { bytes: bytes.as_slice() };
        let lane = Lane::Control;
        let mut frame = encoded(false, &PeerFrame { lane, sent_ms: 1, message });
        frame[4] = kind;
        frame[20..24].copy_from_slice(&body_bytes.to_le_bytes());
        let _ = format!("{:?}", parse_peer(&frame));
    }
}

#[test]
fn a_frame_that_is_not_there_whole_asks_for_the_rest_and_one_flipped_bit_is_never_taken_for_it() {
    let stuff = fixed();
    for message in stuff.messages() {
        let sent = PeerFrame {
            lane: Lane::Shard(ShardIndex(1)),
            sent_ms: 5,
            message,
        };
        let bytes = encoded(true, &sent);
        for cut in 0..bytes.len() {
            let parsed = parse_peer(&bytes[..cut]);
            assert!(matches!(parsed, PeerParse::NeedMore(more) if more > cut));
        }
        let plain = encoded(false, &sent);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let parsed @ (PeerParse::Done { .. } | PeerParse::Unknown { .. }) =
                parse_peer(&damaged)
            {
                panic!("bit {bit} of {message:?} gave {parsed:?}");
            }
            // Without a checksum: other values or an error.
            let mut damaged = plain.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = format!("{:?}", parse_peer(&damaged));
        }
    }
}

#[test]
fn an_unknown_kind_is_passed_over_and_a_wrong_token_is_not() {
    let stuff = fixed();
    let mut bytes = encoded(
        false,
        &PeerFrame {
            lane: Lane::Control,
            sent_ms: 5,
            message: Message::Gossip { bytes: b"news" },
        },
    );
    bytes[4] = 200;
    let length = bytes.len();
    assert!(matches!(
        parse_peer(&bytes),
        PeerParse::Unknown { frame_bytes, .. } if frame_bytes == length
    ));
    let key = KeyName {
        token: Token(1),
        ..stuff.key()
    };
    let message = Message::Fetch {
        call: CallId(1),
        key,
        wants_object: false,
    };
    let bytes = encoded(
        true,
        &PeerFrame {
            lane: Lane::Token(key.token),
            sent_ms: 5,
            message,
        },
    );
    assert!(matches!(parse_peer(&bytes), PeerParse::Bad(_)));
}

/// The frame with more in its body, and flags set in its header.
fn grown(frame: &[u8], more: &[u8], flags: u8) -> Vec<u8> {
    let mut body_bytes = [0; 4];
    body_bytes.copy_from_slice(&frame[20..24]);
    let body_bytes = u32::from_le_bytes(body_bytes);
    let mut grown = frame.to_vec();
    let body_end = START_BYTES + body_bytes as usize;
    grown.splice(body_end..body_end, more.iter().copied());
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    let frame_bytes = length(grown.len());
    grown[..4].copy_from_slice(&frame_bytes);
    grown[6] |= flags;
    grown[20..24].copy_from_slice(&length(body_bytes as usize + more.len()));
    seal(&mut grown);
    grown
}

fn changed(frame: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut changed = frame.to_vec();
    changed[at] = value;
    seal(&mut changed);
    changed
}

#[test]
fn what_a_newer_node_adds_is_read_over_and_what_must_be_understood_is_passed_over() {
    let stuff = fixed();
    for (message, lane) in stuff
        .messages()
        .into_iter()
        .zip(stuff.lanes().into_iter().cycle())
    {
        let sent = PeerFrame {
            lane,
            sent_ms: 5,
            message,
        };
        for checksum in [false, true] {
            let bytes = encoded(checksum, &sent);
            let newer = grown(&bytes, b"12345678", 0x28);
            let PeerParse::Done { frame, frame_bytes } = parse_peer(&newer) else {
                panic!("{sent:?} was not read: {:?}", parse_peer(&newer));
            };
            assert_eq!(frame_bytes, newer.len());
            assert_eq!(format!("{frame:?}"), format!("{sent:?}"));
            let incompatible = grown(&bytes, b"", 0x40);
            let PeerParse::Unknown { frame_bytes, why } = parse_peer(&incompatible) else {
                panic!("{sent:?} was read: {:?}", parse_peer(&incompatible));
            };
            assert_eq!(frame_bytes, incompatible.len());
            assert!(why.to_string().contains("newer"), "{why}");
        }
    }
}

#[test]
fn a_word_that_only_a_newer_node_knows_does_not_end_the_connection() {
    let stuff = fixed();
    let sent = |message| {
        let lane = Lane::Control;
        encoded(
            true,
            &PeerFrame {
                lane,
                sent_ms: 5,
                message,
            },
        )
    };
    let find = |which: &dyn Fn(&Message<&[u8]>) -> bool| {
        sent(
            stuff
                .messages()
                .into_iter()
                .find(which)
                .expect("one of each"),
        )
    };
    let apply = find(&|message| matches!(message, Message::Apply { .. }));
    let applied = find(&|message| matches!(message, Message::Applied { .. }));
    let request = find(&|message| matches!(message, Message::Request { .. }));
    let outcome = find(&|message| matches!(message, Message::Outcome { .. }));
    let at = |offset: usize| START_BYTES + offset;
    for (frame, at, value) in [
        (&apply, at(30), 0x87),
        (&applied, at(12), 99),
        (&request, at(35), 0x80),
        (&request, at(40), 99),
        (&request, at(41), 99),
        (&request, at(42), 99),
        (&outcome, at(8), 99),
        (&outcome, at(9), 0x81),
    ] {
        let newer = changed(frame, at, value);
        let parsed = parse_peer(&newer);
        assert!(
            matches!(parsed, PeerParse::Unknown { .. }),
            "byte {at} gave {parsed:?}"
        );
    }
    // Optional flags are ignored, and nothing else changes.
    for (frame, at) in [(&apply, at(30)), (&request, at(35)), (&outcome, at(9))] {
        let newer = changed(frame, at, frame[at] | 0x10);
        let (PeerParse::Done { frame: read, .. }, PeerParse::Done { frame: sent, .. }) =
            (parse_peer(&newer), parse_peer(frame))
        else {
            panic!("byte {at} gave {:?}", parse_peer(&newer));
        };
        assert_eq!(format!("{read:?}"), format!("{sent:?}"));
    }
    // What is shorter than its kind ever was is no frame.
    let reaped = sent(Message::Reaped {
        call: CallId(1),
        list: &[],
    });
    assert!(matches!(
        parse_peer(&changed(&reaped, 20, 7)),
        PeerParse::Bad(_)
    ));
}

#[test]
fn a_message_over_the_limit_is_not_written_and_one_at_a_clients_limit_is() {
    let object = vec![0; PEER_FRAME_BYTES_MAX];
    let frame = |bytes| PeerFrame {
        lane: Lane::Control,
        sent_ms: 5,
        message: Message::Gossip { bytes },
    };
    let mut out = b"before".to_vec();
    assert!(!encode_peer(&mut out, false, &frame(&object)));
    assert_eq!(out, b"before");
    assert!(encode_peer(
        &mut out,
        false,
        &frame(&object[..FRAME_BYTES_MAX])
    ));
}

#[test]
fn gossip_lies_in_these_very_bytes() {
    let bytes = encoded(
        false,
        &PeerFrame {
            lane: Lane::Control,
            sent_ms: 0x0102,
            message: Message::Gossip { bytes: b"hi" },
        },
    );
    let golden = [
        &[
            35, 0, 0, 0, 44, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        ][..],
        &[2, 1, 0, 0, 0, 0, 0, 0, 0],
        b"hi",
    ]
    .concat();
    assert_eq!(bytes, golden);
}
