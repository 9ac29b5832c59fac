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
        quorum: Quorum {
            n: 3,
            r: 2,
            w: 2,
            zones: 3,
        },
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
            is_strict: true,
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
        is_strict: false,
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
            versions: Versions { min: 1, max: 9 },
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
            versions: Versions { min: 1, max: 9 },
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
    let check = crc32c::crc32c(&[24, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let check = check.to_le_bytes().into_iter().fold(0, |a, b| a ^ b);
    let sum = crc32c::crc32c(&[
        24, 0, 0, 0, 8, 1, 1, check, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    assert_eq!(bytes[7], check);
    assert_eq!(bytes[16..20], sum.to_le_bytes());
}

#[test]
fn a_changed_header_is_found_before_the_rest_of_the_frame_is_there() {
    for message in samples() {
        let bytes = encoded(u64::MAX / 3, true, &message);
        let header = &bytes[..HEADER_BYTES];
        // All of its bits but those of the checksum, which is compared when the frame is there.
        for bit in (0..HEADER_BYTES * 8).filter(|bit| !(16..20).contains(&(bit / 8))) {
            let mut damaged = header.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse(&damaged);
            assert!(matches!(parsed, Parse::Bad(_)), "bit {bit} gave {parsed:?}");
        }
        // A length that lost its end, or got another.
        let mut missed = 0;
        for length in 1..=u32::from(u16::MAX) {
            let mut damaged = header.to_vec();
            damaged[..4].copy_from_slice(&(length << 7).to_le_bytes());
            missed += u32::from(!matches!(parse(&damaged), Parse::Bad(_)));
        }
        assert!(missed < 65_536 / 200, "{missed} of 65,535 lengths pass");
    }
}

/// The frame as a newer release would send it: so many bytes more in its body, and after its tail where that ends.
fn grown(frame: &[u8], more: &[u8], after: &[u8]) -> Vec<u8> {
    let at =
        |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let body_end = HEADER_BYTES + at(20) as usize;
    let mut grown = frame[..body_end].to_vec();
    grown.extend_from_slice(more);
    grown.extend_from_slice(&frame[body_end..]);
    grown.extend_from_slice(after);
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    let frame_bytes = length(grown.len());
    grown[..4].copy_from_slice(&frame_bytes);
    grown[20..24].copy_from_slice(&length(body_end - HEADER_BYTES + more.len()));
    seal(&mut grown);
    grown
}

fn cut(frame: &[u8], fewer: usize) -> Vec<u8> {
    let mut cut = frame[..frame.len() - fewer].to_vec();
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    let frame_bytes = length(cut.len());
    cut[..4].copy_from_slice(&frame_bytes);
    cut[20..24].copy_from_slice(&length(frame.len() - HEADER_BYTES - fewer));
    seal(&mut cut);
    cut
}

#[test]
fn what_a_newer_release_adds_to_a_frame_is_read_over() {
    for message in samples() {
        let bytes = encoded(42, true, &message);
        // The ring's archive never grows; what is new about it follows.
        let (more, after): (&[u8], &[u8]) = match message {
            Message::Ring(_) => (&[], b"newer"),
            Message::Hello(_) | Message::Peer(_) | Message::Get(_) | Message::Delete(_) => {
                (b"12345678", b"newer")
            }
            // Their last part is as long as the rest.
            _ => (b"12345678", &[]),
        };
        let grown = grown(&bytes, more, after);
        let Parse::Done(frame) = parse(&grown) else {
            panic!("{message:?} was not read: {:?}", parse(&grown));
        };
        assert_eq!(format!("{:?}", frame.message), format!("{message:?}"));
        // An optional flag of the header, too.
        let mut flagged = grown.clone();
        flagged[6] |= 0x20;
        seal(&mut flagged);
        assert!(matches!(parse(&flagged), Parse::Done(_)));
    }
}

#[test]
fn what_an_older_release_did_not_say_is_zero_and_what_is_shorter_than_any_release_is_refused() {
    let hello = |versions| {
        Message::Hello(Hello {
            versions,
            client: 5,
        })
    };
    let bytes = encoded(1, true, &hello(Versions { min: 3, max: 4 }));
    let shorter = cut(&bytes, 1);
    let Parse::Done(frame) = parse(&shorter) else {
        panic!("a hello without a minimum is one");
    };
    let expected = hello(Versions { min: 0, max: 4 });
    assert_eq!(format!("{:?}", frame.message), format!("{expected:?}"));
    assert!(matches!(parse(&cut(&bytes, 2)), Parse::Bad(_)));
    let bytes = encoded(1, true, &Message::Get(target(b"", b"")));
    let shorter = cut(&bytes, 1);
    let Parse::Done(frame) = parse(&shorter) else {
        panic!("a get that names no zones is one");
    };
    let Message::Get(get) = frame.message else {
        panic!("{frame:?}");
    };
    let said = target(b"", b"").quorum;
    assert_eq!(get.quorum, Quorum { zones: 0, ..said });
    assert!(matches!(parse(&cut(&bytes, 2)), Parse::Bad(_)));
}

#[test]
fn what_must_be_understood_and_is_not_is_left_alone_and_the_next_frame_is_read() {
    let put = put(b"k", b"value", ContextArg::Blind);
    let bytes = encoded(42, true, &put);
    // Header: a flag. Body: a durability, a form of context, an expiry, a condition.
    for (at, value) in [(6, 0x41), (42, 9), (43, 9), (44, 9), (45, 9)] {
        let mut newer = bytes.clone();
        newer[at] = value;
        seal(&mut newer);
        newer.extend_from_slice(&encoded(43, true, &Message::Ping));
        let Parse::Unknown(NotUnderstood { header, why }) = parse(&newer) else {
            panic!("byte {at} gave {:?}", parse(&newer));
        };
        assert_eq!(header.request_id, 42);
        assert!(why.to_string().contains("newer"), "{why}");
        let next = parse(&newer[header.frame_bytes as usize..]);
        assert!(matches!(next, Parse::Done(_)));
    }
    // Whoever does not know zones must not read over them; who asks for none asks nothing new.
    for (zones, flag) in [(0, 0), (1, 0), (2, 0x80)] {
        let mut write = Write {
            target: target(b"default", b"k"),
            context: ContextArg::Latest,
            durability: None,
            write_id: None,
            is_strict: false,
            want_context: false,
            want_previous: false,
        };
        write.target.quorum.zones = zones;
        let bytes = encoded(1, true, &Message::Delete(Delete { write }));
        assert_eq!(bytes[41] & 0x80, flag, "{zones} zones");
    }
    // A flag of a body; those of a write's are all known.
    let answer = Message::Answer(Answer {
        reply: Reply::Absent,
        receipt: Receipt::default(),
        server_ns: 0,
        ring_epoch: 0,
    });
    let mut newer = encoded(1, true, &answer);
    newer[HEADER_BYTES + 1] |= 0x80;
    seal(&mut newer);
    assert!(matches!(parse(&newer), Parse::Unknown(_)));
    // An optional one is ignored.
    let mut newer = bytes.clone();
    newer[41] |= 0x20;
    seal(&mut newer);
    let Parse::Done(frame) = parse(&newer) else {
        panic!("an optional flag was not ignored: {:?}", parse(&newer));
    };
    assert_eq!(format!("{:?}", frame.message), format!("{put:?}"));
    // An error is told, whatever its code.
    let problem = Message::Error(Problem {
        code: ErrorCode::Other,
        effect: Effect::InDoubt,
        retry_after_ms: 0,
        message: "why",
        current: &[],
    });
    let mut newer = encoded(1, true, &problem);
    newer[HEADER_BYTES] = 200;
    newer[HEADER_BYTES + 2] = 7;
    seal(&mut newer);
    let Parse::Done(frame) = parse(&newer) else {
        panic!("an error was not read");
    };
    assert_eq!(format!("{:?}", frame.message), format!("{problem:?}"));
}

#[test]
fn a_get_lies_in_these_very_bytes() {
    let bytes = encoded(1, false, &Message::Get(target(b"b", b"key")));
    let golden = [
        &[
            46, 0, 0, 0, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 18, 0, 0, 0,
        ][..],
        &[0xdc, 5, 0, 0, 0, 0, 0, 0, 3, 2, 2, 1, 0, 3, 0, 0, 0, 3],
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
