//! Frames between nodes: every message is read as it was written; what was damaged on its way never is; nothing panics.

mod messages;

use gramme_core::base::ids::{ShardIndex, Token};
use gramme_core::port::{CallId, KeyName, Lane, Message};
use proptest::prelude::*;

use super::super::seal;
use super::*;
use messages::{fixed, stuff};

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
