//! Frames: what is written is read again; what was damaged on its way never is; nothing panics.

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::port::{Condition, ContextArg, Durability, Expiry, Receipt};
use gramme_core::version::WriteId;
use proptest::prelude::*;

use super::*;

fn encoded(id: u64, checksum: bool, message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, id, checksum, message);
    out
}

fn target<'a>(bucket: &'a [u8], key: &'a [u8]) -> Get<'a> {
    Get {
        bucket,
        key,
        deadline_us: 1_500,
        quorum: Quorum { n: 3, r: 2, w: 2 },
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8], context: ContextArg<'a>) -> Message<'a> {
    Message::Put(Put {
        write: Write {
            target: target(b"default", key),
            context,
            durability: Some(Durability::One),
            write_id: Some(WriteId {
                client: 7,
                sequence: 9,
            }),
            want_context: true,
            want_previous: false,
        },
        value,
        expiry: Expiry::AtMs(1_700_000_000_000),
        condition: Condition::IfAbsent,
    })
}

fn samples() -> Vec<Message<'static>> {
    let write = Write {
        target: target(b"b", b"key"),
        context: ContextArg::Latest,
        durability: None,
        write_id: None,
        want_context: false,
        want_previous: true,
    };
    let answer = |reply| {
        Message::Answer(Answer {
            reply,
            receipt: Receipt {
                replicas: 3,
                zones: 2,
                on_stable_media: 1,
                stand_ins: 1,
                disk_ns: 77,
            },
            server_ns: 5,
            ring_epoch: 4,
        })
    };
    vec![
        Message::Hello(Hello {
            version_max: 1,
            client: u64::MAX,
        }),
        Message::Ring(Ring {
            epoch: 3,
            routes: vec![vec![1, 0], vec![0], vec![]],
            partitions: 1024,
            answered_by: 1,
            nodes: vec![
                RingNode::default(),
                RingNode {
                    node: 9,
                    host: "::1".into(),
                    port: 7400,
                    shard_ports: vec![7401, 7402],
                },
            ],
        }),
        Message::Get(target(b"default", b"k")),
        put(b"k", b"value", ContextArg::Opaque(b"ctx")),
        put(b"", b"", ContextArg::Blind),
        Message::Delete(Delete { write }),
        answer(Reply::Object {
            object: b"object",
            key_hash: 12,
        }),
        answer(Reply::Absent),
        answer(Reply::Written {
            context: Some(b"ctx"),
            existed: true,
            previous: Some(b"old"),
        }),
        answer(Reply::Written {
            context: None,
            existed: false,
            previous: None,
        }),
        answer(Reply::ConditionNotMet {
            previous: Some(b""),
        }),
        Message::Error(Problem {
            code: ErrorCode::Stale,
            effect: Effect::NotApplied,
            retry_after_ms: 4,
            message: "why",
            current: b"object",
        }),
        Message::Ping,
        Message::Pong,
        Message::Operate(b"{}"),
        Message::Report(b""),
        Message::Peer(PeerHello {
            version_max: 1,
            cluster: 77,
            from: NodeId(5),
            from_shard: ShardIndex(2),
            to: NodeId(6),
            lane: PeerLane::Control,
        }),
    ]
}

#[test]
fn every_kind_of_frame_is_read_as_it_was_written() {
    for message in samples() {
        for checksum in [false, true] {
            let mut bytes = encoded(42, checksum, &message);
            let frame_bytes = bytes.len();
            bytes.extend_from_slice(b"the next frame");
            let Parse::Done(frame) = parse(&bytes) else {
                panic!("{message:?} was not read: {:?}", parse(&bytes));
            };
            assert_eq!(frame.header.frame_bytes as usize, frame_bytes);
            assert_eq!(frame.header.request_id, 42);
            assert_eq!(format!("{:?}", frame.message), format!("{message:?}"));
        }
    }
}

#[test]
fn a_frame_that_is_not_there_whole_asks_for_the_rest() {
    for message in samples() {
        let bytes = encoded(1, true, &message);
        for cut in 0..bytes.len() {
            let expected = if cut < HEADER_BYTES {
                HEADER_BYTES
            } else {
                bytes.len()
            };
            assert!(
                matches!(parse(&bytes[..cut]), Parse::NeedMore(needed) if needed == expected),
                "{message:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn one_flipped_bit_is_never_taken_for_the_frame() {
    for message in samples() {
        let bytes = encoded(1, true, &message);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A longer announced length only waits for bytes that the checksum then covers.
            if let Parse::Done(frame) = parse(&damaged) {
                // Only dropping the checksum flag itself could let a frame through, and its field is not zero then.
                panic!("bit {bit} of {message:?} gave {frame:?}");
            }
        }
    }
}

#[test]
fn without_a_checksum_damaged_frames_give_an_error_or_other_values_but_no_panic() {
    for message in samples() {
        let bytes = encoded(1, false, &message);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = format!("{:?}", parse(&damaged));
        }
    }
}

#[test]
fn the_header_has_these_very_bytes() {
    let bytes = encoded(0x0102_0304_0506_0708, false, &Message::Ping);
    let golden = [
        24, 0, 0, 0, 8, 1, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes, golden);
    let bytes = encoded(1, true, &Message::Ping);
    let sum = crc32c::crc32c(&[
        24, 0, 0, 0, 8, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    assert_eq!(bytes[16..20], sum.to_le_bytes());
}

#[test]
fn a_get_lies_in_these_very_bytes() {
    let bytes = encoded(1, false, &Message::Get(target(b"b", b"key")));
    let golden = [
        &[
            45, 0, 0, 0, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0,
        ][..],
        &[0xdc, 5, 0, 0, 0, 0, 0, 0, 3, 2, 2, 1, 0, 3, 0, 0, 0],
        b"bkey",
    ]
    .concat();
    assert_eq!(bytes, golden);
}

#[test]
fn lengths_over_the_limit_and_unknown_kinds_end_the_connection_at_once() {
    let mut bytes = encoded(1, false, &Message::Ping);
    bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        parse(&bytes),
        Parse::Bad(FrameError::Length { .. })
    ));
    let mut bytes = encoded(1, false, &Message::Ping);
    bytes[4] = 99;
    assert!(matches!(
        parse(&bytes),
        Parse::Bad(FrameError::Kind { found: 99 })
    ));
    assert!(matches!(
        parse(b"GET / HTTP/1.1\r\nHost: example\r\n"),
        Parse::Bad(_)
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_body_of_a_known_kind_is_read_without_a_panic(
        kind in 1u8..11,
        body_bytes in 0usize..120,
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = encoded(1, false, &Message::Ping);
        bytes[4] = kind;
        let frame_bytes = u32::try_from(HEADER_BYTES + rest.len()).expect("short");
        bytes[..4].copy_from_slice(&frame_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&u32::try_from(body_bytes).expect("short").to_le_bytes());
        bytes.extend_from_slice(&rest);
        let _ = format!("{:?}", parse(&bytes));
    }

    #[test]
    fn any_put_is_read_as_it_was_written(
        key in proptest::collection::vec(any::<u8>(), 0..300),
        value in proptest::collection::vec(any::<u8>(), 0..3000),
        context in proptest::collection::vec(any::<u8>(), 0..300),
        checksum in any::<bool>(),
    ) {
        let message = put(&key, &value, ContextArg::Opaque(&context));
        let bytes = encoded(5, checksum, &message);
        let Parse::Done(frame) = parse(&bytes) else { panic!("not read") };
        prop_assert_eq!(format!("{:?}", frame.message), format!("{message:?}"));
    }
}
